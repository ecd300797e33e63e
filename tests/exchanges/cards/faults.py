"""Cards about replies that are lost, late, spoilt, or say "not now"."""

from decimal import Decimal
from typing import Any

from tests.exchange_simulator.kraken import Kraken
from tests.exchanges.card import Play, Table
from tests.exchanges.venues import VENUES

D = Decimal


async def _filled_once(table: Table) -> None:
    event = await table.trade(quantity="1")
    assert (event["type"], D(event["filled_quantity"])) == ("OrderFilled", D(1)), event
    assert len(table.orders()) == 1, table.orders()
    assert event["exchange_order_id"] == table.oid(table.order())


def spoilt(**rule: Any) -> Play:
    """Return a card on which the first create request ends like that: one order, told filled."""

    async def play(table: Table) -> None:
        hit = table.fault("create", count=1, **rule)
        await _filled_once(table)
        assert table.simulator.faults.armed[hit].hits == 1

    return play


async def late_request(table: Table) -> None:
    """A request that arrives after its deadline is refused, so the repetition is the only order."""
    window_ms = VENUES[table.bench.venue.name].deadline_ms
    hit = table.fault("create", count=1, delay_ms=window_ms + 300)
    await _filled_once(table)
    assert table.asked("create") == 2
    assert table.simulator.faults.armed[hit].hits == 1
    assert await table.until_refused("create"), "the late request was never refused"


async def late_and_told_so(table: Table) -> None:
    """An exchange that says "too late" has not taken the order: it is sent again."""
    hit = table.fault("create", count=1, **(table.scripted("late") or {}))
    await _filled_once(table)
    assert table.simulator.faults.armed[hit].hits == 1


async def late_visible(table: Table) -> None:
    """An order whose reply was lost is looked for until look-ups can show it; never doubled."""
    table.fault("create", action="drop_after", late_visibility_ms=1_200, count=1)
    await _filled_once(table)
    assert table.asked("create") == 1
    assert table.asked("look_up") >= 2


async def lookups_fail(table: Table) -> None:
    """An exchange that does not answer look-ups for a while is asked again."""
    table.fault("create", action="drop_after", count=1)
    table.fault("look_up", action="http_status", status=502, body="<html></html>", count=3)
    await _filled_once(table)
    assert table.asked("create") == 1


async def polls_fail(table: Table) -> None:
    """A resting order whose polls fail for a while is told when it has filled."""
    signal_id = await table.limit("99.5", quantity="1")
    order = await table.until_resting()
    hit = table.fault("look_up", action="http_status", status=503, body="<html></html>", count=2)
    table.simulator.fill(order.client_id)
    event = await table.bench.end(signal_id)
    assert (event["type"], D(event["filled_quantity"])) == ("OrderFilled", D(1)), event
    assert table.simulator.faults.armed[hit].hits == 2


async def duplicate_client_id(table: Table) -> None:
    """An answer "duplicate" means that the first is there: it is found, not sent again."""
    table.fault("create", count=1, when="after", **(table.scripted("duplicate") or {}))
    await _filled_once(table)
    assert table.asked("create") == 1


async def throttled_without_time(table: Table) -> None:
    """A throttle that names no time: the order waits and gets its event."""
    hit = table.fault("create", count=2, **(table.scripted("throttled") or {}))
    await _filled_once(table)
    assert table.simulator.faults.armed[hit].hits == 2


async def throttled_with_time(table: Table) -> None:
    """A throttle that names a time: nothing is sent before it is over."""
    words = table.scripted("throttled_until", wait_s=2)
    assert words is not None
    table.fault("create", count=1, **words)
    await _filled_once(table)
    first, second = table.times("create")
    assert second - first >= 1_700


async def trades_listed_late(table: Table) -> None:
    """Trades that are listed after the order is over are waited for."""
    hit = table.fault("trades", count=2, action="http_status", status=200, body=table.no_rows())
    signal_id = await table.limit("99.5", quantity="1")
    await table.until_resting()
    table.price("99.4")
    event = await table.bench.end(signal_id)
    assert (event["type"], D(event["filled_quantity"])) == ("OrderFilled", D(1)), event
    assert D(event["fee"]) > 0 or event["fees"], event
    assert table.simulator.faults.armed[hit].hits == 2


#: The exchanges' names of what has traded of an order, and of a trade's price.
_FILLED = ("executedQty", "cumExecQty", "accFillSz", "vol_exec", "filled_size")
_PRICE = ("price", "execPrice", "fillPx")


async def garbage_asked_again(table: Table) -> None:
    """A look-up that says less than nothing traded, and trades at no price: asked again."""
    hits = [
        table.fault("look_up", action="alter", count=2, fields=dict.fromkeys(_FILLED, "-1")),
        table.fault("trades", action="alter", count=2, fields=dict.fromkeys(_PRICE, "0")),
    ]
    signal_id = await table.limit("99.5", quantity="1")
    await table.until_resting()
    table.price("99.4")
    event = await table.bench.end(signal_id)
    assert (event["type"], D(event["filled_quantity"])) == ("OrderFilled", D(1)), event
    assert D(event["average_price"]) > 99, event
    assert all(table.simulator.faults.armed[hit].hits == 2 for hit in hits)


async def many_trades(table: Table) -> None:
    """An order with more trades than a page holds is told with all of them."""
    event = await table.trade(quantity="120")
    order = table.order()
    assert len(order.trades) == 120
    assert (event["type"], D(event["filled_quantity"])) == ("OrderFilled", D(120)), event
    paid: dict[str, Decimal] = {}
    for trade in order.trades:
        paid[trade.commission_asset] = paid.get(trade.commission_asset, D(0)) + trade.commission
    assert {currency: D(fee) for currency, fee in event["fees"].items()} == paid


async def nonces_rise(table: Table) -> None:
    """Requests arrive in the order of their nonces, however many are under way."""
    ids = [await table.send(symbol=symbol, quantity="1") for symbol in table.more()]
    for signal_id in ids:
        event = await table.bench.end(signal_id)
        assert event["type"] == "OrderFilled", event
    assert isinstance(table.simulator, Kraken)
    assert table.simulator.nonces_out_of_order == 0
