"""Cards about placing, resting, filling, triggering and cancelling."""

from decimal import Decimal

from tests.exchange_simulator.simulator import Simulator
from tests.exchanges.bench import at_work
from tests.exchanges.card import Table
from tests.integration.fleets import until

D = Decimal


async def market_buy(table: Table) -> None:
    """A market buy is in base units, sent once under our id, and told whole."""
    event = await table.trade(quantity="1.5")
    order = table.order()
    assert event["type"] == "OrderFilled", event
    assert order.quantity == order.executed == D("1.5")
    assert D(event["filled_quantity"]) == D("1.5")
    assert D(event["average_price"]) == table.market.ask
    assert order.client_id == table.client_id(event["signal_id"]) == event["client_order_id"]
    assert event["exchange_order_id"] == table.oid(order)
    assert table.asked("create") == 1


async def market_sell(table: Table) -> None:
    """A close sells what is held, at the market, and empties the book."""
    await table.trade(quantity="2")
    event = await table.close()
    assert event["type"] == "OrderFilled", event
    _, order = table.orders()
    assert (order.side, order.price) == ("SELL", D(0))
    assert D(event["average_price"]) == table.market.bid
    assert await table.booked() == 0


async def limit_rests_then_fills(table: Table) -> None:
    """A resting limit order is told as filled once it is."""
    signal_id = await table.limit("99.5", quantity="1")
    order = await table.until_resting()
    assert (order.price, order.tif) == (D("99.5"), "GTC")
    table.price("99.4")
    event = await table.bench.end(signal_id)
    assert (event["type"], D(event["average_price"])) == ("OrderFilled", D("99.5")), event
    assert table.asked("create") == 1


async def limit_not_filled_in_time(table: Table) -> None:
    """After ``execution.max_rest_seconds`` it is cancelled."""
    event = await table.bench.end(await table.limit("98"))
    assert (event["type"], D(event["filled_quantity"])) == ("OrderCancelled", D(0)), event
    assert event["code"] == "EXPIRED", event
    assert table.order().status == "CANCELED"


async def immediate_or_cancel(table: Table) -> None:
    """What there is trades, the rest is over by itself."""
    table.fault("create", partial_fill="0.4", count=1)
    signal_id = await table.limit("101", time_in_force="IOC", quantity="1")
    event = await table.bench.end(signal_id)
    assert (event["type"], D(event["filled_quantity"])) == ("OrderCancelled", D("0.4")), event
    assert table.order().executed == D("0.4")
    assert table.asked("cancel") == 0


async def fill_or_kill_killed(table: Table) -> None:
    """All or nothing: nothing."""
    table.fault("create", partial_fill="0.4", count=1)
    signal_id = await table.limit("101", time_in_force="FOK", quantity="1")
    event = await table.bench.end(signal_id)
    assert (event["type"], D(event["filled_quantity"])) == ("OrderCancelled", D(0)), event
    assert (table.order().tif, table.order().executed) == ("FOK", D(0))


async def fill_or_kill_filled(table: Table) -> None:
    """All or nothing: all."""
    signal_id = await table.limit("101", time_in_force="FOK", quantity="1")
    event = await table.bench.end(signal_id)
    assert (event["type"], D(event["filled_quantity"])) == ("OrderFilled", D(1)), event


async def makers_only(table: Table) -> None:
    """A market that takes makers only refuses the order, or ends it unfilled."""
    words = table.scripted("post_only")
    if words is None:
        table.fault("create", partial_fill="0")
    else:
        table.fault("create", **words)
    event = await table.trade(quantity="1")
    assert event["type"] in {"OrderFailed", "OrderCancelled"}, event
    if words is None:
        assert (event["type"], D(event["filled_quantity"])) == ("OrderCancelled", D(0)), event
    else:
        assert (event["type"], event["code"]) == ("OrderFailed", "ORDER_REJECTED"), event
    assert await table.booked() == 0


async def post_only(table: Table) -> None:
    """A post-only entry that meets the market ends without a trade; else it rests as a maker."""
    crossing = await table.bench.end(await table.limit("101", post_only=True))
    assert crossing["type"] in {"OrderFailed", "OrderCancelled"}, crossing
    assert await table.booked() == 0
    signal_id = await table.limit("99.5", post_only=True, quantity="1")
    await table.bench.server.until(lambda _: any(order.is_open for order in table.orders()))
    order = table.orders()[-1]
    assert "LIMIT_MAKER" in order.type or order.tif == "GTX", (order.type, order.tif)
    table.price("99.4")
    event = await table.bench.end(signal_id)
    assert (event["type"], D(event["average_price"])) == ("OrderFilled", D("99.5")), event


async def stop_triggers(table: Table) -> None:
    """A stop entry waits for its trigger, then is a market order."""
    signal_id = await table.send(order_type="stop", stop_price="100.5", quantity="1")
    order = await table.until_resting()
    assert (order.stop_price, order.executed) == (D("100.5"), D(0))
    table.price("100.6")
    event = await table.bench.end(signal_id)
    assert (event["type"], D(event["filled_quantity"])) == ("OrderFilled", D(1)), event
    assert D(event["average_price"]) == table.market.ask


async def stop_limit_triggers(table: Table) -> None:
    """A stop-limit entry waits for its trigger, then is a limit order."""
    signal_id = await table.send(
        order_type="stop_limit", stop_price="100.5", entry_price="100.9", quantity="1"
    )
    order = await table.until_resting()
    assert (order.stop_price, order.price) == (D("100.5"), D("100.9"))
    table.price("100.6")
    event = await table.bench.end(signal_id)
    assert (event["type"], D(event["filled_quantity"])) == ("OrderFilled", D(1)), event


async def stop_not_triggered(table: Table) -> None:
    """A stop-limit that is not triggered in time is cancelled."""
    event = await table.trade(
        order_type="stop_limit", stop_price="102", entry_price="102.5", quantity="1"
    )
    assert (event["type"], D(event["filled_quantity"])) == ("OrderCancelled", D(0)), event
    assert event["code"] == "EXPIRED", event
    assert not table.order().is_open


async def partial_fills(table: Table) -> None:
    """A limit order that fills in three parts is one order with all its trades."""
    signal_id = await table.limit("99.5", quantity="1")
    order = await table.until_resting()
    for part in ("0.2", "0.3", "0.5"):
        table.simulator.fill(order.client_id, part)
    event = await table.bench.end(signal_id)
    assert (event["type"], D(event["filled_quantity"])) == ("OrderFilled", D(1)), event
    assert len(order.trades) == 3


async def partial_then_cancelled(table: Table) -> None:
    """What had traded when the order was cancelled is a position."""
    signal_id = await table.limit("99.5", quantity="1")
    order = await table.until_resting()
    table.simulator.fill(order.client_id, "0.3")
    event = await table.bench.end(signal_id)
    assert (event["type"], D(event["filled_quantity"])) == ("OrderCancelled", D("0.3")), event
    assert event["code"] == "EXPIRED", event
    assert order.status == "CANCELED"
    assert await table.booked() > 0


async def partial_then_ended(table: Table) -> None:
    """What had traded when the exchange ended the order is a position."""
    signal_id = await table.limit("99.5", quantity="1")
    order = await table.until_resting()
    table.simulator.fill(order.client_id, "0.3")
    table.simulator.engine.expire(order, "EXPIRED", table.simulator.now_ms())
    event = await table.bench.end(signal_id)
    assert (event["type"], D(event["filled_quantity"])) == ("OrderCancelled", D("0.3")), event


async def rejected_after_acknowledgement(table: Table) -> None:
    """An order that was acknowledged and then refused by the matching engine has failed."""
    signal_id = await table.limit("99.5", quantity="1")
    order = await table.until_resting()
    table.simulator.engine.expire(order, "REJECTED", table.simulator.now_ms())
    event = await table.bench.end(signal_id)
    assert (event["type"], event.get("code")) == ("OrderFailed", "ORDER_REJECTED"), event


async def cancel_race(table: Table) -> None:
    """An order that fills while the request to cancel travels is told as filled."""
    table.fault("cancel", delay_ms=300)
    signal_id = await table.limit("99.5", quantity="1")
    order = await table.until_resting()
    await table.until_taken_in("cancel")
    table.simulator.fill(order.client_id)
    event = await table.bench.end(signal_id)
    assert (event["type"], D(event["filled_quantity"])) == ("OrderFilled", D(1)), event


async def cancel_reply_lost(table: Table) -> None:
    """A request to cancel whose reply is lost has cancelled all the same."""
    table.fault("cancel", action="drop_after", count=1)
    event = await table.bench.end(await table.limit("98"))
    assert event["type"] == "OrderCancelled", event
    assert table.order().status == "CANCELED"


async def position_mode(table: Table) -> None:
    """A worker that starts on an account in hedge mode is not ready, and says why."""

    def prepare(simulator: Simulator) -> None:
        simulator.add_market("HEDGE", "futures")
        simulator.add_market("HEDGE", "spot")
        simulator.engine.hedge_mode = True

    async with at_work(table.bench.venue, prepare) as bench:

        async def named() -> bool:
            return "position mode" in bench.not_ready()

        await until(named, what="/readyz names the position mode", timeout_s=5)


async def key_rights(table: Table) -> None:
    """A key that may withdraw, or works from anywhere, trades, and a person reads it."""
    name = table.bench.venue.name

    def prepare(simulator: Simulator) -> None:
        simulator.add_market("RIGHTS", "futures")
        simulator.add_market("RIGHTS", "spot")
        simulator.engine.key_withdraws = True
        simulator.engine.key_is_bound = False

    async with at_work(table.bench.venue, prepare) as bench:
        await bench.until_ready()
        told = bench.worker.health.report()["checks"][f"account:{name}"]["detail"]
    assert "the API key may withdraw" in told, told
    where = "addresses: not known" if name == "coinbase" else "the API key works from anywhere"
    assert where in told, told


async def close_cut_short(table: Table) -> None:
    """A close of which part was gone is not told as filled; nothing stays in the book."""
    await table.trade(quantity="1")
    table.by_hand("SELL", "0.6")
    event = await table.close()
    assert event["type"] == "OrderCancelled", event
    assert D(event["filled_quantity"]) == D("0.4")
    assert table.held() == await table.booked() == 0
