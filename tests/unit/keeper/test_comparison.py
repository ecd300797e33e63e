"""What counts as a difference between the book and one exchange, and what does not."""

from collections.abc import Mapping
from decimal import Decimal

import pytest

from tests.unit.parts import PERPETUAL, SYMBOL, D, ManualClock, ScriptedExchange, position
from worker.domain.market import Balance, ExchangePosition, MarketKind
from worker.domain.signal import Direction
from worker.keeper.differences import find_differences

GONE = "LUNA/USDT"


class Venue(ScriptedExchange):
    """Holds some BTC, and whatever positions it is told."""

    def __init__(self, held: Decimal) -> None:
        super().__init__(ManualClock())
        self.held = held
        self.there: list[ExchangePosition] = []

    async def get_balance(self, kind: MarketKind = MarketKind.SPOT) -> Mapping[str, Balance]:
        return {"BTC": Balance(free=self.held, total=self.held)}

    async def get_positions(self) -> list[ExchangePosition]:
        return self.there


async def test_a_market_that_is_gone_hides_no_other_difference() -> None:
    """It is one sentence among those about the coins, the positions, and what is not booked."""
    venue = Venue(D("0.5"))
    venue.there = [
        ExchangePosition(
            symbol="ETH/USDT:USDT", direction=Direction.SHORT, quantity=D(3), entry_price=D(9)
        )
    ]
    book = {symbol: position(symbol=symbol) for symbol in (GONE, SYMBOL, PERPETUAL.symbol)}
    assert sorted(await find_differences(venue, book, frozenset())) == [
        "BTC/USDT:USDT: the book's long 1 is not there",
        "BTC: the book needs 1, the exchange holds 0.5",
        "ETH/USDT:USDT: short 3 is not in the book",
        "LUNA/USDT: the book has a position in a market the exchange does not list",
    ]


@pytest.mark.parametrize(
    ("held", "is_drift"),
    [("7.5", False), ("5", False), ("4.99", False), ("4.9899", True), ("4", True), ("0", True)],
)
async def test_a_little_less_than_the_book_says_is_dust_and_fees(held: str, is_drift: bool) -> None:
    """Two thousandths are let pass; what is exactly there, or more, is no difference at all."""
    found = await find_differences(Venue(D(held)), {SYMBOL: position(quantity=D(5))}, frozenset())
    assert found == ([f"BTC: the book needs 5, the exchange holds {held}"] if is_drift else [])
