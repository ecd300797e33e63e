"""Sizing: quantity and prices of an order on the market's grid, and the stop of a position."""

from typing import Any

import msgspec
import pytest

from tests.unit.parts import (
    PERPETUAL,
    SPOT,
    D,
    arrival,
    position,
    signal,
)
from worker.config.keys import RiskConfig
from worker.domain.identity import client_order_id
from worker.domain.market import SymbolInfo
from worker.domain.order import OrderRequest, Role, Side
from worker.domain.refusal import Code, Refusal, Stage
from worker.domain.signal import Direction, TimeInForce
from worker.pipeline.flow import ValidSignal
from worker.pipeline.sizing import Sizing

CLOSE: dict[str, Any] = {"action": "close", "direction": None, "strength": None}
SIZING = Sizing(RiskConfig(), account="main")


def sized(
    *, info: SymbolInfo = SPOT, reference: str = "100", free: str | None = "10000", **fields: Any
) -> OrderRequest | Refusal:
    """The order of an entry."""
    case = arrival(signal(**fields), info=info, free=free)
    found = SIZING.entry_request(ValidSignal(arrival=case, info=info, reference=D(reference)))
    return found if isinstance(found, Refusal) else found[0]


def entry(**fields: Any) -> OrderRequest:
    request = sized(**fields)
    assert isinstance(request, OrderRequest), request
    return request


def test_a_market_order_is_sized_by_risk() -> None:
    """2% of 10,000 at 100; the id follows from account, signal and leg."""
    request = entry()
    assert request.quantity == 2
    assert request.client_order_id == client_order_id("main", "s-1", "entry")
    assert (request.role, request.side) == (Role.ENTRY, Side.BUY)
    assert (request.price, request.stop_price, request.time_in_force) == (None, None, None)
    assert not request.reduce_only


@pytest.mark.parametrize(
    ("direction", "kind", "price", "trigger", "expected"),
    [
        ("long", "limit", "99.999", None, ("99.99", None)),
        ("short", "limit", "99.991", None, ("100", None)),
        ("long", "stop", None, "101.019", (None, "101.01")),
        ("short", "stop_limit", "98.001", "99.001", ("98.01", "99.01")),
    ],
)
def test_prices_are_rounded_to_the_side_that_cannot_cost_more(
    direction: str,
    kind: str,
    price: str | None,
    trigger: str | None,
    expected: tuple[str | None, str | None],
) -> None:
    """A buyer's price down, a seller's up, both onto the tick."""
    request = entry(
        info=PERPETUAL, direction=direction, order_type=kind, entry_price=price, stop_price=trigger
    )
    found = (request.price, request.stop_price)
    assert found == tuple(None if one is None else D(one) for one in expected)


@pytest.mark.parametrize(
    ("fields", "quantity", "worth"),
    [
        ({"entry_price": "100"}, "2", "104"),  # a market order trades at what the market asks
        ({"entry_price": "100", "size_pct": "5"}, "4.8076", "104"),  # 5% of 10,000, at 104
        ({"order_type": "limit", "entry_price": "100"}, "2", "100"),  # a limit never costs more
        ({"order_type": "stop", "stop_price": "105"}, "1.9047", "105"),
        ({"order_type": "stop", "stop_price": "6"}, "4.8076", "104"),  # never below the market
    ],
)
def test_the_cap_counts_what_an_order_may_come_to(
    fields: dict[str, Any], quantity: str, worth: str
) -> None:
    """With the market at 104, whatever price the producer goes by."""
    case = arrival(signal(**fields), price="104")
    found = SIZING.entry_request(ValidSignal(arrival=case, info=SPOT, reference=D(100)))
    assert not isinstance(found, Refusal)
    assert (found[0].quantity, found[1]) == (D(quantity), D(worth))


def test_a_short_limit_is_worth_what_the_market_pays() -> None:
    """A seller's limit is the least it gets, not the most its position comes to."""
    one = signal(direction="short", order_type="limit", entry_price="100", symbol=PERPETUAL.symbol)
    case = arrival(one, info=PERPETUAL, price="104")
    found = SIZING.entry_request(ValidSignal(arrival=case, info=PERPETUAL, reference=D(100)))
    assert not isinstance(found, Refusal)
    assert found[1] == 104


def test_a_stop_is_measured_from_the_market_too() -> None:
    """Where a market order will really trade: 1.9% from the producer's price is 5.7% from 104."""
    one = signal(entry_price="100", stop_loss="98.1")
    for price, code in (("100", None), ("104", Code.STOP_LOSS_TOO_FAR)):
        case = arrival(one, price=price)
        found = SIZING.entry_request(ValidSignal(arrival=case, info=SPOT, reference=D(100)))
        assert (found.code if isinstance(found, Refusal) else None) is code


def test_a_limit_order_is_sized_by_its_own_price() -> None:
    """Not by the market's: 200 at 80 are 2.5."""
    request = entry(order_type="limit", entry_price="80")
    assert request.quantity == D("2.5")
    assert request.time_in_force is TimeInForce.GTC


@pytest.mark.parametrize(
    ("kind", "asked", "sent"),
    [
        ("market", "IOC", None),
        ("market", None, None),
        ("limit", None, "GTC"),
        ("limit", "FOK", "FOK"),
        ("limit", "GTD", "GTC"),
        ("stop", "GTC", None),
        ("stop", "GTD", None),
    ],
)
def test_time_in_force_goes_where_it_means_something(
    kind: str, asked: str | None, sent: str | None
) -> None:
    """Limits have one; market and stop-market orders have none; a worker ends GTD orders."""
    request = entry(
        order_type=kind,
        time_in_force=asked,
        entry_price="100" if kind == "limit" else None,
        stop_price="100" if kind == "stop" else None,
        good_till="2030-01-01T00:00:00Z" if asked == "GTD" else None,
    )
    assert request.time_in_force == sent


@pytest.mark.parametrize("post_only", [True, False])
def test_post_only_is_carried_to_the_order(post_only: bool) -> None:
    """It is stored only where it is used, for an older worker to read the rest."""
    request = entry(order_type="limit", entry_price="100", post_only=post_only)
    assert request.post_only is post_only
    assert (b"post_only" in msgspec.json.encode(request)) is post_only


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"stop_loss": "97.99"}, Code.STOP_LOSS_TOO_FAR),
        ({"stop_loss": "98", "take_profit": "102.9"}, Code.RISK_REWARD_TOO_LOW),
        ({"quantity": "5.1"}, Code.POSITION_TOO_LARGE),
        ({"quantity": "0.01"}, Code.BELOW_MINIMUM),
        ({"free": None}, Code.BALANCE_UNKNOWN),
        ({"free": "0"}, Code.BELOW_MINIMUM),
    ],
)
def test_an_entry_that_breaks_a_rule_has_no_order(fields: dict[str, Any], code: Code) -> None:
    """The first breach says which rule, with a sentence."""
    refusal = sized(**fields)
    assert isinstance(refusal, Refusal)
    assert (refusal.stage, refusal.code) == (Stage.RISK, code)
    assert refusal.reason


@pytest.mark.parametrize(
    ("asked", "held", "sent"),
    [(None, "1.5", "1.5"), ("0.5", "1.5", "0.5"), ("9", "1.5", "1.5"), (None, "1.50009", "1.5")],
)
def test_a_close_sells_what_is_held_at_most(asked: str | None, held: str, sent: str) -> None:
    """The whole position or the quantity asked for, down to the step, reduce-only."""
    request = SIZING.exit_request(signal(quantity=asked, **CLOSE), position(quantity=D(held)), SPOT)
    assert request.quantity == D(sent)
    assert (request.role, request.side) == (Role.EXIT, Side.SELL)
    assert request.reduce_only
    assert request.client_order_id == client_order_id("main", "s-1", "exit")


def test_a_short_is_bought_back() -> None:
    """The side follows from the position, whatever the signal leaves out."""
    short = position(direction=Direction.SHORT, symbol=PERPETUAL.symbol)
    assert SIZING.exit_request(signal(**CLOSE), short, PERPETUAL).side is Side.BUY


@pytest.mark.parametrize(
    ("fields", "stop"),
    [
        ({}, "98"),
        ({"stop_loss": "99.5"}, "99.5"),
        ({"direction": "short"}, "102"),
    ],
)
def test_every_position_gets_a_stop(fields: dict[str, Any], stop: str) -> None:
    """The signal's own, else the default distance from the real entry price."""
    assert SIZING.stop_loss(signal(**fields), D(100), PERPETUAL) == D(stop)


@pytest.mark.parametrize(
    ("held", "expected"), [("2.5", "1"), ("1.04", "0.52"), ("1.06", "1"), ("1", "1")]
)
def test_a_close_in_pieces_leaves_no_piece_that_cannot_be_sold(held: str, expected: str) -> None:
    """Where the rest would be worth less than the market's minimum, two halves are sold."""
    info = msgspec.structs.replace(SPOT, max_market_quantity=D(1), min_notional=D(5))
    request = Sizing(RiskConfig(), account="main").exit_request(
        signal(action="close"), position(quantity=D(held)), info
    )
    assert request.quantity == D(expected)
