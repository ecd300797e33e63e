"""Cards about quantities, prices, fees and minimums."""

from decimal import Decimal

from tests.exchanges.card import Table

D = Decimal
RATE = D("0.001")


async def fee_in_quote(table: Table) -> None:
    """The fee of a sale is in the quote currency, and so is said."""
    await table.trade(quantity="2")
    event = await table.close()
    (trade,) = table.orders()[-1].trades
    assert trade.commission_asset == table.market.quote
    assert trade.commission == trade.quantity * trade.price * RATE
    assert event["fee_currency"] == table.market.quote
    assert D(event["fee"]) == trade.commission
    assert {k: D(v) for k, v in event["fees"].items()} == {table.market.quote: trade.commission}


async def fee_in_base(table: Table) -> None:
    """A purchase's fee in the base currency makes the position smaller by it."""
    event = await table.trade(quantity="2")
    assert {k: D(v) for k, v in event["fees"].items()} == {table.market.base: D("0.002")}
    assert await table.booked() == D("1.998")
    event = await table.close()
    assert (event["type"], D(event["filled_quantity"])) == ("OrderFilled", D("1.998")), event
    assert await table.booked() == 0


async def fee_in_third_coin(table: Table) -> None:
    """A fee in a third coin changes no quantity and is told in that coin."""
    event = await table.trade(quantity="6")
    expected = table.market.ask * 6 * RATE / 600
    assert set(event["fees"]) == {"BNB"}, event
    assert abs(D(event["fees"]["BNB"]) - expected) < D("1e-8")
    assert await table.booked() == 6
    event = await table.close()
    assert (event["type"], D(event["filled_quantity"])) == ("OrderFilled", D(6)), event


async def contracts(table: Table) -> None:
    """Quantities are base units on our side, whatever a contract is."""
    event = await table.trade(quantity="1.5")
    assert D(event["filled_quantity"]) == table.order().executed == D("1.5")
    assert await table.booked() == D("1.5")
    event = await table.close()
    assert D(event["filled_quantity"]) == D("1.5")


async def close_reduces_only(table: Table) -> None:
    """A close can never open the other side."""
    await table.trade(quantity="1")
    await table.close()
    assert [order.reduce_only for order in table.orders()] == [False, True]


async def short_and_back(table: Table) -> None:
    """A short is sold first, then bought back."""
    event = await table.trade(direction="short", quantity="1")
    assert event["type"] == "OrderFilled", event
    assert table.held() == await table.booked() == -1
    event = await table.close()
    assert [order.side for order in table.orders()] == ["SELL", "BUY"]
    assert table.held() == await table.booked() == 0


async def insufficient_balance(table: Table) -> None:
    """Funds that do not suffice are told as that, once."""
    event = await table.trade(quantity="5")
    assert (event["type"], event["code"]) == ("OrderFailed", "INSUFFICIENT_BALANCE"), event
    assert table.asked("create") == 1
    assert table.orders() == []


async def below_least_quantity(table: Table) -> None:
    """Under the least quantity nothing is sent."""
    event = await table.trade(quantity="0.4")
    assert (event["type"], event["code"]) == ("OrderFailed", "QUANTITY_OUT_OF_RANGE"), event
    assert table.asked("create") == 0


async def below_least_value(table: Table) -> None:
    """Under the least value nothing is sent."""
    event = await table.trade(quantity="0.04")
    assert (event["type"], event["code"]) == ("OrderFailed", "BELOW_MINIMUM"), event
    assert table.asked("create") == 0


async def off_grid(table: Table) -> None:
    """A buy's limit is rounded down, a quantity too: never more, never worse."""
    signal_id = await table.limit("99.019", quantity="1.0009")
    order = await table.until_resting()
    assert (order.price, order.quantity) == (D("99.01"), D(1))
    await table.bench.end(signal_id)


async def off_grid_sale(table: Table) -> None:
    """A sale's limit is rounded up."""
    signal_id = await table.limit("100.981", quantity="1.0009", direction="short")
    order = await table.until_resting()
    assert (order.side, order.price, order.quantity) == ("SELL", D("100.99"), D(1))
    await table.bench.end(signal_id)


async def fine_prices(table: Table) -> None:
    """Every digit of a fine grid goes out, and comes back."""
    signal_id = await table.limit("0.00000000012345", quantity="100000000000")
    order = await table.until_resting()
    assert order.price == D("0.00000000012345")
    table.price("0.000000000123")
    event = await table.bench.end(signal_id)
    assert (event["type"], D(event["average_price"])) == ("OrderFilled", order.price), event


async def unknown_symbol(table: Table) -> None:
    """A market the exchange does not list is refused by name, unsent."""
    event = await table.trade(symbol=table.symbol.replace(table.market.base, "NOWHERE"))
    assert (event["type"], event["code"]) == ("OrderFailed", "UNKNOWN_SYMBOL"), event


async def market_closed(table: Table) -> None:
    """A market that does not trade now is not traded."""
    event = await table.trade()
    assert (event["type"], event["code"]) == ("OrderFailed", "MARKET_CLOSED"), event
    assert table.asked("create") == 0


async def dust(table: Table) -> None:
    """What is left of a close because it is less than a step is no position."""
    await table.trade(quantity="1")
    event = await table.close()
    assert event["type"] == "OrderFilled", event
    assert await table.booked() == 0
    assert table.held() < table.market.step


async def worthless_entry(table: Table) -> None:
    """An entry that traded less than can ever be sold is no position."""
    table.fault("create", partial_fill="0.001", count=1)
    signal_id = await table.limit("101", time_in_force="IOC", quantity="1")
    event = await table.bench.end(signal_id)
    assert (event["type"], D(event["filled_quantity"])) == ("OrderCancelled", D("0.001")), event
    assert await table.booked() == 0


async def wallet_slightly_short(table: Table) -> None:
    """A wallet that lost a grain of what the book has is still closed: what is there is sold."""
    await table.trade(quantity="2")
    balance = table.simulator.balance(table.market.base)
    balance.free -= D("0.001")
    event = await table.close()
    assert D(event.get("filled_quantity", 0)) >= D("1.9"), event
    assert await table.booked() == 0


async def close_below_minimum(table: Table) -> None:
    """A part that is worth less than the market's minimum is not sold; the whole still can be."""
    await table.trade(quantity="1")
    event = await table.close(quantity="0.02")
    assert (event["type"], event["code"]) == ("OrderFailed", "BELOW_MINIMUM"), event
    assert table.asked("create") == 1
    event = await table.close()
    assert event["type"] == "OrderFilled", event
    assert await table.booked() == 0


async def close_in_pieces(table: Table) -> None:
    """A position larger than one market order may be is closed by several."""
    signal_id = await table.limit("101", time_in_force="IOC", quantity="3")
    event = await table.bench.end(signal_id)
    assert event["type"] == "OrderFilled", event
    event = await table.close()
    assert event["type"] == "OrderFilled", event
    assert all(order.quantity <= 1 for order in table.orders()[1:])
    assert await table.booked() == 0
