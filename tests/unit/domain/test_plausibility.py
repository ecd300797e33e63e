"""What an exchange may say at all: just inside passes, just outside is refused with its value."""

from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.domain.market import MarketKind, SymbolInfo, Ticker
from worker.domain.order import Fill, OrderReport, OrderRequest, OrderState, Role, Side
from worker.domain.plausibility import (
    EARLIEST_MS,
    LATEST_MS,
    MAX_TICKER_AGE_MS,
    ImplausibleError,
    check_fills,
    check_market,
    check_mean,
    check_names,
    check_progress,
    check_report,
    check_ticker,
    moment_ms,
    name_of,
    number,
)
from worker.domain.signal import OrderType

D = Decimal
NOW_MS = 1_700_000_000_000
INFO = SymbolInfo(
    symbol="BTC/USDT",
    base="BTC",
    quote="USDT",
    settle="USDT",
    kind=MarketKind.SPOT,
    price_tick=D("0.01"),
    quantity_step=D("0.001"),
    max_quantity=D(100),
)
REQUEST = OrderRequest(
    client_order_id="c",
    exchange="x",
    symbol="BTC/USDT",
    role=Role.ENTRY,
    side=Side.BUY,
    order_type=OrderType.LIMIT,
    quantity=D(2),
    price=D(100),
)
SALE = msgspec.structs.replace(REQUEST, side=Side.SELL)
AT_MARKET = msgspec.structs.replace(REQUEST, order_type=OrderType.MARKET, price=None)


def a_fill(**changes: Any) -> Fill:
    """A trade of one coin at 100, unless changed."""
    fields: dict[str, Any] = {"trade_id": "t", "quantity": D(1), "price": D(100)}
    return Fill(**fields | changes)


def a_report(**changes: Any) -> OrderReport:
    """A filled order of two coins, unless changed."""
    fields: dict[str, Any] = {
        "client_order_id": "c",
        "exchange_order_id": "7",
        "symbol": "BTC/USDT",
        "state": OrderState.FILLED,
        "filled_quantity": D(2),
        "average_price": D(100),
    }
    return OrderReport(**fields | changes)


@pytest.mark.parametrize("value", [None, "", "0", 0, "1e-30", "9e30", "-3", 1.5, "0." + "1" * 60])
def test_numbers_of_any_market_are_read(value: Any) -> None:
    """From the smallest step to the largest supply of a coin."""
    assert number(value) == D(str(value or 0))


@pytest.mark.parametrize(
    "value",
    [
        "NaN",
        "-Infinity",
        "1e31",
        "1e-31",
        "1e999999999",
        "1" * 81,
        "1_0",
        "\u0661",
        "x",
        True,
        [1],
        {},
    ],
)
def test_what_is_no_number_is_refused_by_its_name(value: Any) -> None:
    """Neither computed with nor shown at length."""
    with pytest.raises(ImplausibleError, match="executedQty is ") as raised:
        number(value, "executedQty")
    assert len(str(raised.value)) < 200


@given(st.text() | st.integers() | st.floats() | st.none())
def test_a_reading_is_a_number_or_a_refusal(value: Any) -> None:
    """Whatever comes: a finite number that can be squared exactly, or ImplausibleError."""
    try:
        found = number(value)
    except ImplausibleError:
        return
    assert (found * found).is_finite()


def test_times_are_of_this_century() -> None:
    """1970 and 9999 are none; nothing and a negative number mean that none is told."""
    assert [moment_ms(one) for one in (None, "", 0, -1, EARLIEST_MS, LATEST_MS)] == [
        *(0, 0, 0, 0),
        *(EARLIEST_MS, LATEST_MS),
    ]
    for value in (1, 86_400_000, EARLIEST_MS - 1, LATEST_MS + 1, "9" * 20, "2024-01-01"):
        with pytest.raises(ImplausibleError, match="timestamp is "):
            moment_ms(value, "timestamp")


def test_ids_are_short_and_printable() -> None:
    """They go into logs, events and keys."""
    assert (name_of(None, "id"), name_of(7, "id"), name_of("币", "id")) == ("", "7", "币")
    unfit: list[Any] = ["x" * 129, "a\x1b[31m", "\u202eabc", "a\nb", True, 1.5, [], {}, 10**5_000]
    for value in unfit:
        with pytest.raises(ImplausibleError, match="id "):
            name_of(value, "id")


@pytest.mark.parametrize(
    ("request_", "changes", "said"),
    [
        (REQUEST, {"filled_quantity": D("2.001")}, ""),
        (REQUEST, {"filled_quantity": D("2.0011")}, "filled is 2.0011, and 2 was ordered"),
        (REQUEST, {"filled_quantity": D(-1)}, "filled is -1"),
        (REQUEST, {"average_price": D(110)}, ""),
        (REQUEST, {"average_price": D("110.1")}, "average is 110.1, and the buy limit is 100"),
        (REQUEST, {"average_price": D(1)}, ""),
        (SALE, {"average_price": D(90)}, ""),
        (SALE, {"average_price": D("89.9")}, "average is 89.9, and the sell limit is 100"),
        (SALE, {"average_price": D(9_000)}, ""),
        (AT_MARKET, {"average_price": D(9_000)}, ""),
        (AT_MARKET, {"average_price": D(-1)}, "average is -1"),
        (REQUEST, {"state": OrderState.REJECTED}, "rejected, and filled is 2"),
        (REQUEST, {"fills": (a_fill(quantity=D(3)),)}, "the trades are 3 in all"),
        (REQUEST, {"fills": (a_fill(price=D(0)),)}, "trade t: price is 0"),
    ],
)
def test_a_report_is_held_against_the_order(
    request_: OrderRequest, changes: dict[str, Any], said: str
) -> None:
    """Quantities within the order, prices near its limit; a market order has none."""
    if not said:
        check_report(a_report(**changes), request_, INFO)
        return
    with pytest.raises(ImplausibleError, match=said):
        check_report(a_report(**changes), request_, INFO)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"fee": D("0.2"), "fee_currency": "BTC"}, ""),
        ({"fee": D("0.21"), "fee_currency": "BTC"}, "fee is 0.21 BTC, and the trade is 1 at 100"),
        ({"fee": D(-20), "fee_currency": "USDT"}, ""),
        ({"fee": D(-21), "fee_currency": "USDT"}, "fee is 21 USDT"),
        ({"fee": D(1_000_000), "fee_currency": "SHIB"}, ""),
        ({"fee": D(10) ** 16, "fee_currency": "SHIB"}, "fee is 1"),
        ({"more_fees": (("USDT", D(99)),)}, "fee is 99 USDT"),
        ({"quantity": D(0)}, "amount is 0"),
        ({"quantity": D(-1)}, "amount is -1"),
        ({"price": D(0)}, "price is 0"),
        ({"price": D(111)}, "price is 111, and the buy limit is 100"),
    ],
)
def test_a_trade_costs_money_and_less_than_it_is_worth_in_fees(
    changes: dict[str, Any], said: str
) -> None:
    """In its own currencies; of another coin only the size is known."""
    if not said:
        check_fills((a_fill(**changes),), REQUEST, INFO)
        return
    with pytest.raises(ImplausibleError, match=said):
        check_fills((a_fill(**changes),), REQUEST, INFO)


def test_what_traded_is_not_taken_back() -> None:
    """The same again is fine."""
    check_progress(a_report(), a_report())
    with pytest.raises(ImplausibleError, match="filled is 1, and was 2 before"):
        check_progress(a_report(filled_quantity=D(1)), a_report())


def test_trades_have_the_mean_price_that_was_stated() -> None:
    """Within a tenth; where none is stated nothing is compared."""
    check_mean((a_fill(price=D("109")),), a_report())
    check_mean((a_fill(price=D("200")),), a_report(average_price=None))
    with pytest.raises(ImplausibleError, match="average is 100, and the trades' mean price is 120"):
        check_mean((a_fill(price=D(120)),), a_report())


def test_a_reply_is_about_our_market_and_side() -> None:
    """As far as it says so; a name of no market says nothing."""
    known = {"BTC/USDT", "BTC/USDT:USDT", "ETH/USDT"}
    for symbol in ("BTC/USDT", "BTC/USDT:USDT", "XXBTZ", None, 7):
        check_names({"symbol": symbol, "side": "buy"}, REQUEST, known)
    for order in ({"symbol": "ETH/USDT"}, {"side": "sell"}, {"side": "BUY"}):
        with pytest.raises(ImplausibleError):
            check_names(order, REQUEST, known)


def test_prices_are_positive_not_crossed_and_of_today() -> None:
    """A book may cross for a moment, not by a fifth."""

    def prices(bid: str, ask: str, last: str = "100") -> Ticker:
        return Ticker(symbol="BTC/USDT", bid=D(bid), ask=D(ask), last=D(last), at_ms=NOW_MS)

    check_ticker(prices("101", "99"), 0, NOW_MS)
    check_ticker(prices("99", "101"), NOW_MS - MAX_TICKER_AGE_MS, NOW_MS)
    for ticker, told_ms in (
        (prices("-1", "1"), 0),
        (prices("1", "0"), 0),
        (prices("1", "2", "-5"), 0),
        (prices("120", "100"), 0),
        (prices("99", "101"), NOW_MS - MAX_TICKER_AGE_MS - 1),
        (prices("99", "101"), NOW_MS + MAX_TICKER_AGE_MS + 1),
    ):
        with pytest.raises(ImplausibleError, match="BTC/USDT"):
            check_ticker(ticker, told_ms, NOW_MS)


@pytest.mark.parametrize(
    "changes",
    [
        {"price_tick": D(0)},
        {"price_tick": D("-0.01")},
        {"price_tick": D("1e-19")},
        {"price_tick": D("1e13")},
        {"quantity_step": D("1e-30")},
        {"contract_size": D(0)},
        {"contract_size": D("1e30")},
        {"min_quantity": D(101)},
        {"min_notional": D(-1)},
        {"max_market_notional": D(-1)},
        {"taker_fee": D("0.3")},
        {"maker_fee": D(-1)},
        {"base": "x" * 200},
        {"quote": "US\u202eDT"},
    ],
)
def test_a_market_without_a_usable_grid_is_refused(changes: dict[str, Any]) -> None:
    """No tick, no size, a minimum above the maximum, fees that no exchange takes."""
    check_market(INFO)
    with pytest.raises(ImplausibleError):
        check_market(msgspec.structs.replace(INFO, **changes))
