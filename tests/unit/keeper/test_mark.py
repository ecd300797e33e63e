"""The sheet: wallets and marks, how often it comes, what it says of a silent exchange."""

import asyncio
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import cast

import pytest

from tests.unit.parts import SYMBOL, D, ManualClock, ScriptedExchange, position, ticker, trouble
from worker.domain.market import Balance, MarketKind, Ticker
from worker.domain.sheet import Sheet
from worker.exchanges.errors import Outcome
from worker.keeper.duties import mark
from worker.keeper.duties.mark import IDLE_EVERY_MS, OPEN_EVERY_MS, MarkAccount
from worker.ledger.errors import LedgerUnavailableError
from worker.ledger.ports import Ledger
from worker.ledger.replies import Book
from worker.market.data import MarketData


class Venue(ScriptedExchange):
    """Quotes 100, holds 5 BTC and no XRP; ``silent`` keeps it from answering."""

    silent = False

    async def get_tickers(self, symbols: Iterable[str]) -> dict[str, Ticker]:
        return {one: ticker(symbol=one) for one in symbols}

    async def get_balance(self, kind: MarketKind = MarketKind.SPOT) -> Mapping[str, Balance]:
        if self.silent:
            await asyncio.Event().wait()
        answer = await self._answer("get_balance", self.wallet)
        return cast("Mapping[str, Balance]", answer)


class NotedLedger:
    """Has a book, notes the sheets; ``fails`` is how."""

    def __init__(self) -> None:
        self.positions = {f"paper:{SYMBOL}": position()}
        self.sheets: list[Sheet] = []
        self.fails: Exception | None = None

    async def book(self) -> Book:
        if self.fails is not None:
            raise self.fails
        return Book(positions=self.positions, busy=frozenset())

    async def publish(self, sheet: Sheet, lifetime_ms: int) -> bool:
        assert lifetime_ms > IDLE_EVERY_MS
        self.sheets.append(sheet)
        return True


class Desk:
    """A duty over one exchange."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.venue = Venue(self.clock)
        self.venue.wallet = [
            {"BTC": Balance(free=D(4), total=D(5)), "XRP": Balance(free=D(0), total=D(0))}
        ]
        self.ledger = NotedLedger()
        market = MarketData(
            {"paper": self.venue},
            clock=self.clock,
            max_price_age_ms=5_000,
            max_balance_age_ms=3_000,
            on_error=lambda _name, _error: None,
        )
        self.duty = MarkAccount(
            cast("Ledger", self.ledger),
            market,
            {"paper": self.venue},
            lambda: None,
            {"risk.max_concurrent_positions": Decimal(3)},
            self.clock,
        )
        self.duty.begin_term()


async def test_a_sheet_has_wallets_marks_and_limits() -> None:
    """What is held is listed, what is not is left out; the mark is between bid and ask."""
    desk = Desk()
    await desk.duty.run()
    (sheet,) = desk.ledger.sheets
    assert [(row.currency, row.free, row.total) for row in sheet.wallets] == [("BTC", D(4), D(5))]
    quoted = ticker(symbol=SYMBOL)
    assert [(row.symbol, row.price) for row in sheet.marks] == [
        (SYMBOL, (quoted.bid + quoted.ask) / 2)
    ]
    assert sheet.limits == {"risk.max_concurrent_positions": 3}
    assert (sheet.compared_ms, sheet.unknown) == (None, {})


async def test_nothing_open_is_published_rarely() -> None:
    """Every minute while the book is empty, every 5 s from the first position on."""
    desk = Desk()
    held, desk.ledger.positions = desk.ledger.positions, {}
    for _ in range(IDLE_EVERY_MS // OPEN_EVERY_MS):
        await desk.duty.run()
        desk.clock.ms += OPEN_EVERY_MS
    assert len(desk.ledger.sheets) == 1
    await desk.duty.run()
    assert len(desk.ledger.sheets) == 2
    desk.clock.ms += OPEN_EVERY_MS
    desk.ledger.positions = held
    await desk.duty.run()
    assert len(desk.ledger.sheets) == 3
    assert desk.duty.is_due(OPEN_EVERY_MS)
    assert not desk.duty.is_due(OPEN_EVERY_MS - 1)


async def test_wallets_that_cannot_be_read_are_said_to_be_unknown() -> None:
    """A failing exchange's wallets are not shown as empty."""
    desk = Desk()
    desk.venue.wallet = [trouble(Outcome.UNKNOWN)]
    await desk.duty.run()
    (sheet,) = desk.ledger.sheets
    assert sheet.wallets == ()
    assert sheet.unknown == {"paper": "no balance of spot"}


async def test_an_exchange_that_does_not_answer_holds_nothing_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The sheet goes out without it and says why."""
    monkeypatch.setattr(mark, "WAIT_S", 0.01)
    desk = Desk()
    desk.venue.silent = True
    await desk.duty.run()
    (sheet,) = desk.ledger.sheets
    assert sheet.unknown == {"paper": "did not answer within 0.01 s"}


async def test_a_ledger_that_fails_ends_no_term() -> None:
    """In the background nobody would catch the error."""
    desk = Desk()
    desk.ledger.fails = LedgerUnavailableError("away", kind="connection")
    await desk.duty.run()
    assert desk.ledger.sheets == []
