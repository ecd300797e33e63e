"""Fees: where each is booked, and that none is lost when a fill is split."""

from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.parts import PERPETUAL, SPOT, fill
from worker.domain.fees import (
    coins_taken,
    estimated_fee,
    fees_in_quote,
    leading_currency,
    sellable_after_fee,
    split_fees,
)
from worker.domain.market import SymbolInfo
from worker.domain.money import ZERO
from worker.domain.order import Side
from worker.domain.signal import Direction

D = Decimal
INFO = msgspec.structs.replace(SPOT, taker_fee=D("0.001"))
LINEAR = msgspec.structs.replace(PERPETUAL, taker_fee=D("0.001"))


def test_only_a_purchase_pays_a_base_fee_out_of_what_it_bought() -> None:
    """A short position's fee in the base currency is not taken off its quantity."""
    trades = (fill("2", "100", fee="0.01", currency=SPOT.base),)
    assert coins_taken(trades, Direction.LONG, SPOT) == (D("0.01"), D(1))
    assert coins_taken(trades, Direction.SHORT, SPOT) == (ZERO, ZERO)
    assert coins_taken(trades, Direction.LONG, PERPETUAL) == (ZERO, ZERO)


@pytest.mark.parametrize(
    ("info", "side", "expected"),
    [
        (INFO, Side.BUY, (D("0.002"), INFO.base)),
        (INFO, Side.SELL, (D("0.2"), INFO.quote)),
        (LINEAR, Side.BUY, (D("0.2"), LINEAR.quote)),
        (LINEAR, Side.SELL, (D("0.2"), LINEAR.quote)),
    ],
)
def test_an_estimated_fee_is_what_the_market_would_take(
    info: SymbolInfo, side: Side, expected: tuple[Decimal, str]
) -> None:
    """Of a spot purchase in the base currency, of everything else in quote."""
    assert estimated_fee(D(2), D(100), side, info) == expected


def test_what_a_purchase_leaves_is_rounded_down_to_the_grid() -> None:
    """Never more than can be sold."""
    info = msgspec.structs.replace(INFO, quantity_step=D("0.01"))
    assert sellable_after_fee(D("1.00"), info) == D("0.99")


def test_fees_in_other_currencies_count_as_zero_in_quote() -> None:
    """A fill holds no price of a third currency."""
    trades = (
        fill("1", "100", fee="0.1", currency=SPOT.quote),
        fill("1", "100", fee="0.002", currency=SPOT.base),
        fill("1", "100", fee="5", currency="BNB"),
    )
    assert fees_in_quote(trades, SPOT) == D("0.3")


@given(
    fee=st.decimals(D(0), D(5), places=6),
    part=st.decimals(D("0.01"), D("0.99"), places=2),
)
def test_a_split_loses_no_fee(fee: Decimal, part: Decimal) -> None:
    """The two shares of a fee are exactly the fee."""
    taken, left = split_fees(fill("1", "100", fee=str(fee)), part)
    assert [one + other for (_, one), (_, other) in zip(taken, left, strict=True)] == [fee]


def test_an_event_states_the_quote_fee_first() -> None:
    """The quote currency if anything was paid in it or nothing at all, else the first one paid."""
    assert leading_currency({}, "USDT") == "USDT"
    assert leading_currency({"BNB": D(1), "USDT": D(1)}, "USDT") == "USDT"
    assert leading_currency({"BNB": D(1), "BTC": D(1)}, "USDT") == "BNB"
