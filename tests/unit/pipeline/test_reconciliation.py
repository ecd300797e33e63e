"""Reconciliation: following an order to its end, and knowing exactly what traded."""

from typing import Any

import msgspec
import pytest

from tests.unit.parts import (
    PERPETUAL,
    SPOT,
    D,
    ManualClock,
    ScriptedExchange,
    admitted_order,
    custody,
    fill,
    not_found,
    order_request,
    position,
    report,
    trouble,
)
from worker.config.keys import ReconciliationConfig
from worker.domain.market import ExchangePosition, SymbolInfo
from worker.domain.order import Fact, Fill, OrderRequest, OrderState, Side
from worker.domain.position import Position
from worker.domain.refusal import CancelCode, Code, Stage
from worker.domain.signal import Direction
from worker.domain.trading_state import TradingState
from worker.domain.verdict import Verdict
from worker.exchanges.errors import ExchangeError, Outcome
from worker.pipeline.flow import (
    Failed,
    Lost,
    Settlement,
    Submission,
    Unresolved,
    WriteOff,
)
from worker.pipeline.orders import OrderManager
from worker.pipeline.reconciliation import ReconciliationHandler
from worker.pipeline.worker_state import WorkerState

ONE, HALF, REST = fill("2", "100"), fill("1", "99", trade_id="a"), fill("1", "101", trade_id="b")
ACTIVE = report(OrderState.ACTIVE)
PART = report(OrderState.PARTIALLY_FILLED, HALF)


class Desk:
    """The stage with a scripted exchange; ten seconds of patience, half a second a poll."""

    def __init__(self, **config: Any) -> None:
        self.clock = ManualClock()
        self.orders = OrderManager()
        self.exchange = ScriptedExchange(self.clock)
        self.custody = custody(10**9)
        self.state = WorkerState()
        self.handler = ReconciliationHandler(
            ReconciliationConfig(**config),
            exchanges={"paper": self.exchange},
            orders=self.orders,
            state=self.state,
            clock=self.clock,
        )

    def forbid_opening(self, state: TradingState = TradingState.REDUCING) -> None:
        """The account may open positions no more."""
        self.state.trading_state = state

    async def settle(
        self,
        first: Any,
        *,
        attempts: int = 1,
        side: Side = Side.BUY,
        info: SymbolInfo = SPOT,
        held: Position | None = None,
        verdict: Verdict | None = None,
        reduce_only: bool = False,
    ) -> Any:
        """Hand over an order whose create response said ``first``; a close of ``held`` if given."""
        request = order_request(side=side, reduce_only=reduce_only)
        self.custody.order = self.orders.begin(request, "s-1")
        self.orders.note(self.custody.order, Fact.SENT)
        said = first(request)
        self.orders.report(self.custody.order, said)
        order = admitted_order(request, info=info, position=held, verdict=verdict)
        submission = Submission(order=order, report=said, attempts=attempts)
        return await self.handler.handle(submission, self.custody)

    async def settled(self, first: Any) -> Settlement:
        ended = await self.settle(first)
        assert isinstance(ended, Settlement), ended
        return ended

    async def closed(self, first: Any, **fields: Any) -> Settlement:
        """How a close ended, once it is known whether it was cut."""
        ended = await self.settle(first, **fields)
        assert isinstance(ended, Settlement), ended
        return await self.handler.check_cut(ended)

    @property
    def calls(self) -> list[str]:
        return [name for name, _ in self.exchange.calls]


async def test_a_filled_create_response_needs_no_further_call() -> None:
    """One round trip in all."""
    desk = Desk()
    ended = await desk.settled(report(OrderState.FILLED, ONE))
    assert ended.fills == (ONE,)
    assert ended.filled == 2
    assert ended.average_price == 100
    assert ended.cancelled_for is None
    assert desk.calls == []


async def test_a_bare_acknowledgement_is_asked_about_at_once() -> None:
    """SUBMITTED means only that there is an id; the first look needs no pause."""
    desk = Desk()
    desk.exchange.looking = [report(OrderState.FILLED, ONE)]
    await desk.settled(report(OrderState.SUBMITTED))
    assert desk.exchange.calls == [("look", 0.0)]


async def test_an_open_order_is_polled_until_it_fills() -> None:
    """An open order is asked about at the configured interval until it fills."""
    desk = Desk(poll_interval=0.25)
    desk.exchange.looking = [ACTIVE, PART, report(OrderState.FILLED, HALF, REST)]
    ended = await desk.settled(ACTIVE)
    assert ended.fills == (HALF, REST)
    assert ended.average_price == 100
    assert desk.exchange.times("look") == [250.0, 500.0, 750.0]


@pytest.mark.parametrize(
    ("state", "code"),
    [(TradingState.HALTED, CancelCode.HALTED), (TradingState.REDUCING, CancelCode.REDUCING)],
)
async def test_an_entry_is_cancelled_once_the_account_may_open_nothing(
    state: TradingState, code: CancelCode
) -> None:
    """Within one poll, long before its time is up; what had traded by then stays traded."""
    desk = Desk()

    def stop(request: OrderRequest) -> Any:
        desk.forbid_opening(state)
        return PART(request)

    desk.exchange.looking = [ACTIVE, stop, report(OrderState.CANCELLED, HALF)]
    ended = await desk.settled(ACTIVE)
    assert (ended.report.state, ended.fills) == (OrderState.CANCELLED, (HALF,))
    assert ended.cancelled_for is code
    assert desk.exchange.times("cancel") == [1_000.0]


async def test_a_cancel_that_is_under_way_is_not_asked_for_at_every_poll() -> None:
    """However long the account may open nothing: the exchange has taken the request."""
    desk = Desk()
    desk.forbid_opening()
    desk.exchange.looking = [ACTIVE] * 5 + [report(OrderState.CANCELLED, filled_quantity=D(0))]
    await desk.settled(ACTIVE)
    assert desk.exchange.times("cancel") == [0.0]
    assert desk.exchange.times("look")[-1] >= 2_000.0


DECIDED = Verdict(actor="ann@desk", reason="statement", filled=D(2), price=D(99))


@pytest.mark.parametrize(("filled", "settles"), [("2", True), ("1", False)])
async def test_trades_an_exchange_has_forgotten_can_be_told_by_a_person(
    filled: str, settles: bool
) -> None:
    """Where they come to what the exchange says has traded; nothing else is believed."""
    desk = Desk()
    desk.exchange.trades = [trouble(Outcome.UNKNOWN)]
    verdict = msgspec.structs.replace(DECIDED, filled=D(filled))
    ended = await desk.settle(TOLD, verdict=verdict)
    assert isinstance(ended, Settlement) is settles
    if settles:
        assert [(one.quantity, one.price) for one in ended.fills] == [(D(2), D(99))]


async def test_a_close_goes_on_while_the_account_may_open_nothing() -> None:
    """A halt to openings does not cancel a closing order."""
    desk = Desk()
    desk.forbid_opening()
    desk.exchange.looking = [ACTIVE, report(OrderState.FILLED, ONE)]
    ended = await desk.settle(ACTIVE, side=Side.SELL, held=position())
    assert isinstance(ended, Settlement)
    assert "cancel" not in desk.calls


async def test_a_failing_poll_changes_nothing() -> None:
    """The last report stands; the next poll may succeed."""
    desk = Desk()
    desk.exchange.looking = [
        trouble(Outcome.UNKNOWN),
        not_found(),
        report(OrderState.FILLED, ONE),
    ]
    assert (await desk.settled(ACTIVE)).filled == 2


async def test_what_is_left_after_the_waiting_time_is_cancelled() -> None:
    """Partly filled, then cancelled: what had traded stays traded."""
    desk = Desk(max_wait_time=2.0)

    def after_cancel(request: OrderRequest) -> Any:
        cancelled = "cancel" in desk.calls
        return (report(OrderState.CANCELLED, HALF) if cancelled else PART)(request)

    desk.exchange.looking = [after_cancel]
    ended = await desk.settled(PART)
    assert ended.report.state is OrderState.CANCELLED
    assert ended.fills == (HALF,)
    assert ended.cancelled_for is CancelCode.NOT_FILLED_IN_TIME
    assert desk.exchange.times("cancel") == [2_000.0]


async def test_an_order_that_fills_while_it_is_cancelled_is_filled() -> None:
    """The exchange does not know it as open any more: the next poll tells why."""
    desk = Desk(max_wait_time=1.0)
    desk.exchange.cancelling = [not_found()]

    def look(request: OrderRequest) -> Any:
        done = "cancel" in desk.calls
        return (report(OrderState.FILLED, HALF, REST) if done else PART)(request)

    desk.exchange.looking = [look]
    ended = await desk.settled(PART)
    assert ended.report.state is OrderState.FILLED
    assert ended.filled == 2
    assert desk.calls.count("cancel") == 1


async def test_what_traded_is_not_taken_back_and_the_order_ends_unresolved_with_that_said() -> None:
    """A report of less than before is not believed, however often it comes."""
    desk = Desk(max_wait_time=2.0)
    desk.exchange.looking = [report(OrderState.CANCELLED)]
    ended = await desk.settle(PART)
    assert isinstance(ended, Unresolved)
    assert "filled is 0, and was 1 before" in ended.reason


async def test_one_reading_that_is_not_believed_costs_nothing() -> None:
    """The next one tells how the order ended."""
    desk = Desk()
    desk.exchange.looking = [ACTIVE, report(OrderState.FILLED, ONE)]
    ended = await desk.settled(PART)
    assert ended.filled == 2


async def test_why_no_reading_was_believed_is_said_in_the_end() -> None:
    """Field and value, as the adapter has them."""
    problem = ExchangeError("x get_order: incomplete_reply: filled is NaN", code="incomplete_reply")
    desk = Desk(max_wait_time=2.0)
    desk.exchange.looking = [problem]
    ended = await desk.settle(ACTIVE)
    assert isinstance(ended, Unresolved)
    assert "filled is NaN" in ended.reason


async def test_trades_that_are_not_the_orders_are_not_booked() -> None:
    """Their sum, or their mean price, is not the report's: both are in the reason."""
    for trades, said in (
        ((HALF,), "the trades are 1 in all, filled is 2"),
        ((fill("2", "150"),), "average is 100, and the trades' mean price is 150"),
    ):
        desk = Desk(trades_wait_seconds=2.0)
        desk.exchange.trades = [trades]
        first = report(OrderState.FILLED, ONE)

        def without_trades(request: OrderRequest, first: Any = first) -> Any:
            return msgspec.structs.replace(first(request), fills=())

        ended = await desk.settle(without_trades)
        assert isinstance(ended, Unresolved)
        assert said in ended.reason


@pytest.mark.parametrize(
    ("problem", "poll_interval", "cancels"),
    [
        (None, 0.5, [2_000.0]),
        (not_found(), 0.5, [2_000.0]),
        (trouble(Outcome.UNKNOWN), 0.5, [2_000.0, 2_500.0, 3_500.0]),
        (trouble(Outcome.THROTTLED, retry_after_s=1.6), 0.2, [2_000.0, 3_600.0]),
    ],
)
async def test_an_order_that_neither_fills_nor_goes_is_unresolved(
    problem: ExchangeError | None, poll_interval: float, cancels: list[float]
) -> None:
    """A cancel that was taken is not repeated, one that failed is; then as long again, no guess."""
    desk = Desk(max_wait_time=2.0, poll_interval=poll_interval)
    desk.exchange.cancelling = [problem]
    desk.exchange.looking = [ACTIVE]
    ended = await desk.settle(ACTIVE)
    assert isinstance(ended, Unresolved)
    assert "neither fills nor cancels" in ended.reason
    assert desk.clock.ms == pytest.approx(4_000.0)
    assert desk.exchange.times("cancel") == pytest.approx(cancels)


async def test_a_cancel_that_fails_is_tried_until_the_order_ends() -> None:
    """The network was away for a moment: the order is cancelled all the same."""
    desk = Desk(max_wait_time=60.0)
    desk.exchange.cancelling = [trouble(Outcome.NOT_SENT)] * 5 + [None]

    def look(request: OrderRequest) -> Any:
        done = desk.calls.count("cancel") == 6
        return (report(OrderState.CANCELLED, HALF) if done else PART)(request)

    desk.exchange.looking = [look]
    ended = await desk.settled(PART)
    assert ended.report.state is OrderState.CANCELLED
    pauses = (0.5, 1.0, 2.0, 2.0, 2.0)
    due = [60_000.0 + 1_000 * sum(pauses[:n]) for n in range(6)]
    assert desk.exchange.times("cancel") == due


async def test_a_cancel_is_asked_for_once_even_where_a_poll_took_all_the_time() -> None:
    """Slow answers must not leave the order working without a word."""
    desk = Desk(max_wait_time=1.0)

    def look(request: OrderRequest) -> Any:
        desk.clock.ms += 5_000
        done = "cancel" in desk.calls
        return (report(OrderState.CANCELLED, HALF) if done else PART)(request)

    desk.exchange.looking = [look]
    assert (await desk.settled(PART)).fills == (HALF,)
    assert desk.calls.count("cancel") == 1


async def test_a_lost_lease_ends_the_polling() -> None:
    """The successor follows the order; no cancel is sent."""
    desk = Desk()

    def lose(request: OrderRequest) -> Any:
        desk.custody.lose()
        return ACTIVE(request)

    desk.exchange.looking = [lose]
    assert isinstance(await desk.settle(ACTIVE), Lost)
    assert desk.calls == ["look"]
    assert desk.orders.statistics() == {"active": 0}


@pytest.mark.parametrize("reason", ["", "price out of bounds"])
async def test_an_order_the_matching_engine_rejects_has_failed(reason: str) -> None:
    """Acknowledged, then refused without a trade: the reason is passed on."""
    desk = Desk()
    ended = await desk.settle(report(OrderState.REJECTED, reason=reason), attempts=2)
    assert isinstance(ended, Failed)
    assert ended.refusal.code is Code.ORDER_REJECTED
    assert ended.refusal.stage is Stage.RECONCILIATION
    assert (reason or "no reason given") in ended.refusal.reason
    assert (ended.refusal.attempts, ended.refusal.exchange_order_id) == (2, "X1")
    assert ended.order is not None


async def test_a_rejection_after_a_trade_is_a_settlement() -> None:
    """What traded has to be booked, whatever the state is called."""
    ended = await Desk().settled(report(OrderState.REJECTED, HALF))
    assert ended.fills == (HALF,)


@pytest.mark.parametrize("state", [OrderState.CANCELLED, OrderState.EXPIRED])
async def test_an_order_that_ends_without_a_trade_has_no_fills(state: OrderState) -> None:
    """Nothing is asked for where nothing traded."""
    desk = Desk()
    ended = await desk.settled(report(state))
    assert ended.fills == ()
    assert ended.filled == 0
    assert ended.average_price is None
    assert desk.calls == []


# --- trades that need a call of their own ---

TOLD = report(OrderState.FILLED, filled_quantity=D(2), average_price=D(100), fills=())


async def test_trades_are_asked_for_until_they_add_up() -> None:
    """Late and partial answers, and errors, are asked again."""
    desk = Desk()
    desk.exchange.trades = [(), (HALF,), (HALF, REST)]
    assert (await desk.settled(TOLD)).fills == (HALF, REST)
    assert desk.exchange.times("trades") == [0.0, 500.0, 1_000.0]


async def test_errors_count_as_answers_that_do_not_add_up() -> None:
    """A failed question for trades is asked again, as an incomplete answer is."""
    desk = Desk()
    desk.exchange.trades = [trouble(Outcome.UNKNOWN), (ONE,)]
    assert (await desk.settled(TOLD)).fills == (ONE,)


@pytest.mark.parametrize(
    "trades", [(), (HALF,), (HALF, REST, ONE)], ids=["none", "too few", "too many"]
)
async def test_trades_that_never_add_up_leave_the_order_unresolved(
    trades: tuple[Fill, ...],
) -> None:
    """The books are not written on a guess."""
    desk = Desk()
    desk.exchange.trades = [trades]
    ended = await desk.settle(TOLD)
    assert isinstance(ended, Unresolved)
    assert "trades" in ended.reason
    assert desk.exchange.times("trades")[-1] == 20_000.0
    assert 10 < len(desk.calls) < 16
    assert desk.orders.statistics()["active"] == 0


@pytest.mark.parametrize("late_s", [0.4, 3, 11, 19])
async def test_trades_that_are_listed_late_are_waited_for(late_s: float) -> None:
    """The end is what it would have been, up to ``trades_wait_seconds`` later."""
    desk = Desk()
    desk.exchange.trades = [lambda _: (ONE,) if desk.clock.ms >= late_s * 1000 else ()]
    assert (await desk.settled(TOLD)).fills == (ONE,)
    assert desk.clock.ms <= (late_s + 2) * 1000


async def test_how_long_late_trades_are_waited_for_is_configured() -> None:
    """0 asks once; nothing is asked for after the time is up, or once the entry is lost."""
    for wait_s, calls in (0.0, 1), (0.7, 3):
        desk = Desk(trades_wait_seconds=wait_s)
        desk.exchange.trades = [()]
        assert isinstance(await desk.settle(TOLD), Unresolved)
        assert len(desk.calls) == calls
        assert desk.clock.ms == wait_s * 1000


async def test_fills_in_the_report_that_fall_short_are_completed() -> None:
    """A report may carry only some of its fills."""
    desk = Desk()
    desk.exchange.trades = [(HALF, REST)]
    first = report(OrderState.FILLED, HALF, filled_quantity=D(2))
    assert (await desk.settled(first)).fills == (HALF, REST)


@pytest.mark.parametrize(
    ("info", "side", "fee", "currency"),
    [
        (SPOT, Side.BUY, "0.002", "BTC"),
        (SPOT, Side.SELL, "0.2", "USDT"),
        (PERPETUAL, Side.BUY, "0.2", "USDT"),
        (PERPETUAL, Side.SELL, "0.2", "USDT"),
    ],
)
async def test_the_exchanges_word_can_be_taken_without_its_trades(
    info: SymbolInfo, side: Side, fee: str, currency: str
) -> None:
    """``verify_fill = false``: one fill stands for all, its fee is what the market usually takes.

    A spot purchase's comes out of what was bought: what is sold later must have been received.
    """
    desk = Desk(verify_fill=False)
    market = msgspec.structs.replace(info, taker_fee=D("0.001"))
    ended = await desk.settle(TOLD, side=side, info=market)
    (only,) = ended.fills
    assert only == fill("2", "100", fee, currency, trade_id="X1", at_ms=0)
    assert desk.calls == []


async def test_a_word_without_a_price_is_not_enough() -> None:
    """Even unverified, a fill needs a price."""
    desk = Desk(verify_fill=False)
    blank = report(OrderState.FILLED, filled_quantity=D(2), average_price=None, fills=())
    assert isinstance(await desk.settle(blank), Unresolved)


# --- closes that the exchange cut to what was left ---

CLOSE_FIELDS: dict[str, Any] = {"side": Side.SELL, "info": PERPETUAL}


@pytest.mark.parametrize(
    ("state", "held_there", "write_off"),
    [
        (OrderState.FILLED, [], WriteOff.GONE),
        (OrderState.CANCELLED, [], WriteOff.GONE),
        (OrderState.EXPIRED, [], WriteOff.GONE),
        (OrderState.FILLED, ["1"], None),
        (OrderState.CANCELLED, ["1"], None),
    ],
)
async def test_a_close_that_was_cut_short_asks_whether_anything_is_held(
    state: OrderState, held_there: list[str], write_off: WriteOff | None
) -> None:
    """An order may end early for other reasons too: what the exchange holds decides."""
    desk = Desk()
    there = [
        ExchangePosition(
            symbol=PERPETUAL.symbol, direction=Direction.LONG, quantity=D(one), entry_price=D(100)
        )
        for one in held_there
    ]
    desk.exchange.holding = [there]
    whole = position(symbol=PERPETUAL.symbol, quantity=D(2))
    ended = await desk.closed(report(state, HALF), held=whole, reduce_only=True, **CLOSE_FIELDS)
    assert ended.order.write_off is write_off


async def test_a_whole_close_asks_for_no_positions() -> None:
    """Nothing is fetched that nobody needs."""
    desk = Desk()
    whole = position(symbol=PERPETUAL.symbol, quantity=D(2))
    ended = await desk.closed(
        report(OrderState.FILLED, ONE), held=whole, reduce_only=True, **CLOSE_FIELDS
    )
    assert ended.order.write_off is None
    assert desk.calls == []


async def test_an_exchange_that_does_not_tell_its_positions_proves_nothing() -> None:
    """The book stays; the comparison of the books goes on asking."""
    desk = Desk()
    desk.exchange.holding = [trouble(Outcome.UNKNOWN)]
    whole = position(symbol=PERPETUAL.symbol, quantity=D(2))
    ended = await desk.closed(
        report(OrderState.FILLED, HALF), held=whole, reduce_only=True, **CLOSE_FIELDS
    )
    assert ended.order.write_off is None
    assert desk.calls == ["positions"] * 3
