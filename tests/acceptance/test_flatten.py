"""``flatten`` on a live exchange: nothing is open afterwards, and nothing can open."""

from tests.acceptance import signals
from tests.acceptance.fleet import Fleet, wait_until

CREATE = {"method": "POST", "path": "/order$"}


def test_an_entry_that_rests_is_cancelled_and_the_open_position_closed(fleet: Fleet) -> None:
    """Although the entry had a minute to fill: what it could open later is opened by nobody."""
    fleet.start({"reconciliation": {"max_wait_time": 60}}).until_ready()
    market, other = signals.linear(0), signals.linear(1)
    price = fleet.exchange.call("GET", "prices")["futures"]["C001USDT"]["bid"]
    limit = f"{float(price) * 0.98:.2f}"
    fleet.submit(signals.opening("a", market))
    fleet.until_ended(["a"])
    fleet.submit(signals.opening("b", other, order_type="limit", entry_price=limit))
    wait_until(lambda: len(fleet.exchange.orders()) == 2, "the entry does not rest")
    assert "no position is open" in fleet.command("flatten", "--reason", "storm")
    ends = fleet.until_ended(["a", "b"])
    assert (ends["b"]["type"], ends["b"]["filled_quantity"]) == ("OrderCancelled", "0")
    states = sorted(order["status"] for order in fleet.exchange.orders())
    assert states == ["CANCELED", "FILLED", "FILLED"]
    (closed,) = fleet.events("positions", "PositionClosed")
    assert (closed["signal_id"].split("-")[0], closed["close_reason"]) == ("flatten", "flatten")


def test_a_close_the_exchange_refuses_for_a_while_is_tried_until_it_goes(fleet: Fleet) -> None:
    """More often than five times, ever more slowly; without a pause that would be over at once."""
    fleet.start_ready(1)
    fleet.submit(signals.opening("a", signals.linear(0)))
    fleet.until_ended(["a"])
    fleet.exchange.add_fault(**CREATE, action="reject", code=-4192, msg="cooling down", count=6)
    assert "no position is open" in fleet.command("flatten", "--reason", "storm")
    failures = fleet.events("orders", "OrderFailed")
    assert [event["code"] for event in failures] == ["ORDER_REJECTED"] * 6
    assert len(fleet.events("positions", "PositionClosed")) == 1
