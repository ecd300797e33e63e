"""Prices and balances from memory: who asks the exchange, how often, and who never waits for it."""

import asyncio
from collections.abc import Iterable, Mapping

import msgspec
import pytest

from tests.unit.parts import (
    PERPETUAL,
    SPOT,
    SYMBOL,
    D,
    ManualClock,
    ScriptedExchange,
    market_view,
    ticker,
    trouble,
)
from worker.domain.market import Balance, MarketKind, Ticker
from worker.exchanges.errors import ExchangeError, Outcome
from worker.market.data import MarketData, MarketView
from worker.market.prices import LEFT_OUT_MS
from worker.market.refresh import ACTIVE_FOR_S, COSTLY_MS, FAILED_FOR_MS, OUTAGE_MS

OTHER = PERPETUAL.symbol
MAX_PRICE_AGE_MS, MAX_BALANCE_AGE_MS = 5_000.0, 30_000.0


class SlowExchange(ScriptedExchange):
    """Answers when told to; ``down`` and ``poor`` are how prices and balances fail."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock)
        self.down: ExchangeError | None = None
        self.took_ms = 0.0  # how long an answer takes
        self.answers = asyncio.Event()
        self.answers.set()
        self.bank = asyncio.Event()
        self.bank.set()
        self.priceless: set[str] = set()
        #: What a question for such a symbol alone fails with.
        self.refusals: dict[str, ExchangeError] = {}
        self.asked: list[tuple[str, ...]] = []
        self.poor: ExchangeError | None = None
        self.balances = 0

    async def _travel(self, gate: asyncio.Event, problem: ExchangeError | None) -> None:
        await gate.wait()
        self.time.ms += self.took_ms
        if problem is not None:
            raise problem

    async def get_tickers(self, symbols: Iterable[str]) -> dict[str, Ticker]:
        wanted = tuple(symbols)
        self.asked.append(wanted)
        alone = self.refusals.get(wanted[0]) if len(wanted) == 1 else None
        await self._travel(self.answers, alone or self.down)
        return {one: ticker(symbol=one) for one in wanted if one not in self.priceless}

    async def get_balance(self, kind: MarketKind = MarketKind.SPOT) -> Mapping[str, Balance]:
        self.balances += 1
        await self._travel(self.bank, self.poor)
        return {"USDT": Balance(free=D(7), total=D(9))}


class Room:
    """Market data of one exchange, and what went wrong with it."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.exchange = SlowExchange(self.clock)
        self.errors: list[str] = []
        self.market = MarketData(
            {"paper": self.exchange},
            clock=self.clock,
            max_price_age_ms=MAX_PRICE_AGE_MS,
            max_balance_age_ms=MAX_BALANCE_AGE_MS,
            on_error=lambda name, error: self.errors.append(f"{name}: {error}"),
        )

    async def view(self, symbol: str = SYMBOL, *, ask: bool = True) -> MarketView:
        return await market_view(self.market, "paper", symbol, ask=ask)

    async def refresh(self) -> tuple[str, ...]:
        """What the background's next question is about; nothing if it asks none."""
        before = len(self.exchange.asked)
        following = asyncio.ensure_future(self.market.follow_prices("paper", 1.0))
        await asyncio.sleep(0)
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        return self.exchange.asked[before] if len(self.exchange.asked) > before else ()

    async def crowd(self, number: int, *symbols: str) -> list[MarketView]:
        """As many views at once, kept waiting for prices first, then for balances."""
        gates = (self.exchange.answers, self.exchange.bank)
        for gate in gates:
            gate.clear()
        views = [
            asyncio.ensure_future(self.view(symbol)) for symbol in symbols for _ in range(number)
        ]
        for gate in gates:
            for _ in range(2 * len(views)):
                await asyncio.sleep(0)
            gate.set()
        return await asyncio.gather(*views)


async def test_what_is_in_memory_is_not_asked_for_again() -> None:
    """Until it is too old: prices after their age, balances after theirs."""
    room = Room()
    first = await room.view()
    assert (first.info, first.ticker) == (SPOT, ticker())
    assert first.balance == Balance(free=D(7), total=D(9))
    room.clock.ms += MAX_PRICE_AGE_MS
    assert await room.view() == first
    assert (len(room.exchange.asked), room.exchange.balances) == (1, 1)
    room.clock.ms += 1
    await room.view()
    assert (len(room.exchange.asked), room.exchange.balances) == (2, 1)
    room.clock.ms += MAX_BALANCE_AGE_MS
    await room.view()
    assert (len(room.exchange.asked), room.exchange.balances) == (3, 2)


async def test_a_view_from_memory_never_gives_the_loop_away() -> None:
    """The hot path is one coroutine that runs to its end at once."""
    room = Room()
    await room.view()
    coroutine = room.view()
    with pytest.raises(StopIteration) as raised:
        coroutine.send(None)
    assert raised.value.value.ticker == ticker()


async def test_one_question_serves_all_who_wait() -> None:
    """Fifty signals of one symbol: one call for the price, one for the balance."""
    room = Room()
    views = await room.crowd(50, SYMBOL)
    assert {view.ticker for view in views} == {ticker()}
    assert (len(room.exchange.asked), room.exchange.balances) == (1, 1)


async def test_symbols_that_wait_for_a_question_under_way_go_into_the_next_one_together() -> None:
    """Two calls, however many symbols came while the first was under way."""
    room = Room()
    room.exchange.markets |= {f"C{n}/USDT": SPOT for n in range(20)}
    views = await room.crowd(1, *room.exchange.markets)
    assert all(view.ticker is not None for view in views)
    assert [len(asked) for asked in room.exchange.asked] == [1, 22]


async def test_an_outage_is_waited_for_once_and_not_in_turn() -> None:
    """All who wait learn of the one failure, and of a balance nobody asks without a price."""
    room = Room()
    room.exchange.down, room.exchange.took_ms = trouble(Outcome.UNKNOWN), 10_000.0
    views = await room.crowd(50, SYMBOL, OTHER)
    assert {(view.ticker, view.balance) for view in views} == {(None, None)}
    assert (len(room.exchange.asked), room.exchange.balances) == (1, 0)
    assert room.errors == ["paper: it was unknown"]


async def test_an_outage_of_balances_is_waited_for_once_too() -> None:
    """Prices go on."""
    room = Room()
    room.exchange.poor = trouble(Outcome.UNKNOWN)
    views = await room.crowd(50, SYMBOL)
    assert {(view.ticker, view.balance) for view in views} == {(ticker(), None)}
    assert (len(room.exchange.asked), room.exchange.balances) == (1, 1)


@pytest.mark.parametrize(
    ("outcome", "took_ms"), [(Outcome.UNKNOWN, COSTLY_MS), (Outcome.THROTTLED, 0.0)]
)
async def test_a_costly_failure_is_remembered_for_a_moment(
    outcome: Outcome, took_ms: float
) -> None:
    """One that took long, or an exchange that wants fewer questions; then it is tried again."""
    room = Room()
    room.exchange.took_ms = took_ms
    room.exchange.down = trouble(outcome)
    assert (await room.view()).ticker is None
    room.exchange.down = None
    room.clock.ms += FAILED_FOR_MS - 1
    assert (await room.view()).ticker is None
    assert len(room.exchange.asked) == 1
    room.clock.ms += 1
    room.exchange.poor = trouble(outcome)
    found = await room.view()
    assert (found.ticker, found.balance) == (ticker(), None)
    room.exchange.poor = None
    room.clock.ms += FAILED_FOR_MS - 1
    assert (await room.view()).balance is None
    assert room.exchange.balances == 1
    room.clock.ms += 1
    assert (await room.view()).balance is not None


async def test_a_failure_that_is_told_at_once_turns_nobody_away() -> None:
    """Whoever comes next may ask again: it costs no time, and the reason may be gone."""
    room = Room()
    room.exchange.down = room.exchange.poor = trouble(Outcome.NOT_SENT)
    assert (await room.view()).ticker is None
    room.exchange.down = None
    assert (await room.view()).balance is None
    room.exchange.poor = None
    found = await room.view()
    assert (found.ticker, found.balance is None) == (ticker(), False)


async def test_nobody_waits_while_another_tries_again_after_an_outage() -> None:
    """A signal that waits for a dead exchange holds a place others could be worked on in."""
    room = Room()
    room.exchange.down, room.exchange.took_ms = trouble(Outcome.UNKNOWN), COSTLY_MS
    await room.view()
    room.clock.ms += FAILED_FOR_MS
    room.exchange.down = None
    room.exchange.answers.clear()
    probing = asyncio.ensure_future(room.view())
    await asyncio.sleep(0)
    async with asyncio.timeout(1):
        assert (await room.view()).ticker is None
    room.exchange.answers.set()
    assert (await probing).ticker is not None
    assert (await room.view()).ticker is not None


async def test_an_old_failure_does_not_keep_many_callers_from_asking() -> None:
    """After a quiet time longer than an outage, many callers get their prices and balances."""
    room = Room()
    room.exchange.down, room.exchange.took_ms = trouble(Outcome.UNKNOWN), COSTLY_MS
    await room.view()
    room.exchange.down = None
    room.clock.ms += OUTAGE_MS
    views = await room.crowd(10, SYMBOL, OTHER)
    assert all(view.ticker is not None and view.balance is not None for view in views)
    assert OUTAGE_MS < ACTIVE_FOR_S * 1000


async def test_a_symbol_without_a_price_is_not_asked_for_by_all_in_turn() -> None:
    """The others' prices are not held up by it either."""
    room = Room()
    room.exchange.priceless = {OTHER}
    views = await room.crowd(20, SYMBOL, OTHER)
    assert [view.ticker for view in views] == [ticker()] * 20 + [None] * 20
    assert (await room.view(OTHER)).ticker is None
    assert len(room.exchange.asked) == 2
    room.exchange.priceless = set()
    room.clock.ms += FAILED_FOR_MS
    assert (await room.view(OTHER)).ticker is not None


async def test_the_background_does_without_a_symbol_that_has_no_price_for_a_while() -> None:
    """Its own signals ask for it, and for nothing else; with a price it is one of the others."""
    room = Room()
    room.exchange.priceless = {OTHER}
    await room.view()
    await room.view(OTHER)
    assert room.exchange.asked == [(SYMBOL,), (OTHER, SYMBOL)]
    for _ in range(10):
        assert await room.refresh() == (SYMBOL,)
    assert (await room.view(OTHER)).ticker is None
    assert room.exchange.asked[-1] == (OTHER,)
    for _ in range(3):
        room.clock.ms += LEFT_OUT_MS / 3
        await room.view(ask=False)
        await room.view(OTHER, ask=False)
    assert await room.refresh() == (SYMBOL, OTHER)
    assert await room.refresh() == (SYMBOL,)
    room.exchange.priceless = set()
    room.clock.ms += FAILED_FOR_MS
    assert (await room.view(OTHER)).ticker is not None
    assert room.exchange.asked[-1] == (OTHER,)
    assert set(await room.refresh()) == {SYMBOL, OTHER}


async def test_one_answer_without_its_price_leaves_a_symbol_in_the_background() -> None:
    """A call for one kind of market may fail beside the other's; a second time it is left out."""
    room = Room()
    await room.view(OTHER)
    await room.view()
    room.exchange.priceless = {OTHER}
    assert await room.refresh() == (OTHER, SYMBOL)
    assert await room.refresh() == (OTHER, SYMBOL)
    assert await room.refresh() == (SYMBOL,)


async def test_the_background_does_not_ask_for_a_closed_market() -> None:
    """As long as it is one; a signal for it asks for it alone."""
    room = Room()
    room.exchange.markets[OTHER] = msgspec.structs.replace(PERPETUAL, active=False)
    await room.view()
    assert (await room.view(OTHER)).ticker is not None
    assert room.exchange.asked == [(SYMBOL,), (OTHER,)]
    assert await room.refresh() == (SYMBOL,)
    room.exchange.markets[OTHER] = PERPETUAL
    assert await room.refresh() == (SYMBOL, OTHER)


@pytest.mark.parametrize(
    "refusal",
    [
        ExchangeError("no such symbol", outcome=Outcome.REFUSED, code="-1121"),
        ExchangeError("no quote", outcome=Outcome.UNKNOWN, code="incomplete_reply"),
    ],
    ids=["refused", "not quoted"],
)
async def test_a_symbol_refused_alone_turns_nobody_else_away(refusal: ExchangeError) -> None:
    """However long that took: it says nothing of the exchange, and is not asked for again."""
    room = Room()
    room.exchange.took_ms = COSTLY_MS
    room.exchange.refusals = {OTHER: refusal}
    views = await room.crowd(5, OTHER, SYMBOL)
    assert [view.ticker for view in views] == [None] * 5 + [ticker()] * 5
    assert room.exchange.asked == [(OTHER,), (SYMBOL,)]
    assert room.errors == [f"paper: {refusal}"]


async def test_an_answer_that_comes_too_late_is_not_asked_for_by_all_in_turn() -> None:
    """A price older than allowed on its arrival is none."""
    room = Room()
    room.exchange.took_ms = MAX_PRICE_AGE_MS + 1
    views = await room.crowd(20, SYMBOL)
    assert {view.ticker for view in views} == {None}
    assert len(room.exchange.asked) == 1


async def test_a_close_asks_for_nothing_and_waits_for_nothing() -> None:
    """It takes what memory has; the background brings its symbol's price."""
    room = Room()
    room.exchange.answers.clear()
    async with asyncio.timeout(1):
        found = await room.view(ask=False)
    assert (found.info, found.ticker, found.balance) == (SPOT, None, None)
    assert (room.exchange.asked, room.exchange.balances) == ([], 0)
    room.exchange.answers.set()
    following = asyncio.ensure_future(room.market.follow_prices("paper", 1.0))
    for _ in range(3):
        await asyncio.sleep(0)
    following.cancel()
    assert (await room.view(ask=False)).ticker == ticker()


async def test_a_crowd_whose_first_gives_up_is_served_all_the_same() -> None:
    """Whoever asks may be cancelled; the next one asks instead."""
    room = Room()
    room.exchange.answers.clear()
    first, second = (asyncio.ensure_future(room.view()) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0)
    room.exchange.answers.set()
    assert (await second).ticker is not None


async def test_symbols_nobody_asked_for_lately_are_forgotten() -> None:
    """And are no longer asked for with the others."""
    room = Room()
    await room.view(OTHER)
    room.clock.ms += ACTIVE_FOR_S * 1000 + 1
    await room.view()
    assert room.exchange.asked == [(OTHER,), (SYMBOL,)]


async def test_what_is_not_there_is_said_so() -> None:
    """Neither an exchange nor a symbol nobody knows is asked for."""
    room = Room()
    nowhere = await market_view(room.market, "nowhere", SYMBOL)
    assert nowhere == MarketView("nowhere", SYMBOL, None, None, None)
    found = await room.view("NO/SUCH")
    assert found == MarketView("paper", "NO/SUCH", None, None, None)
    assert room.exchange.asked == []


async def test_an_exchange_that_has_not_started_is_asked_nothing() -> None:
    """It says so, and the background waits with the signals."""
    room = Room()
    room.market = MarketData(
        {"paper": room.exchange},
        clock=room.clock,
        max_price_age_ms=MAX_PRICE_AGE_MS,
        max_balance_age_ms=MAX_BALANCE_AGE_MS,
        on_error=lambda _name, error: pytest.fail(str(error)),
        starting={"paper"},
    )
    following = [
        asyncio.ensure_future(room.market.follow_prices("paper", 1.0)),
        asyncio.ensure_future(room.market.follow_balance("paper", 1.0)),
    ]
    found = await room.view()
    assert found == MarketView("paper", SYMBOL, None, None, None, started=False)
    await asyncio.sleep(0)
    assert (room.exchange.asked, room.exchange.balances) == ([], 0)
    room.market.begin("paper")
    for _ in range(3):
        await asyncio.sleep(0)
    assert room.exchange.balances == 0  # nobody needs one yet
    assert (await room.view()).started
    assert room.exchange.balances == 1
    for task in following:
        task.cancel()
