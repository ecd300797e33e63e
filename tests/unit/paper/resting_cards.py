"""What must hold of orders that rest at a simulated exchange, wherever these are kept."""

from collections.abc import Awaitable, Callable, Mapping
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from worker.config.keys import ExchangeConfig, PaperConfig
from worker.domain.market import MarketKind
from worker.domain.order import OrderReport, OrderRequest, OrderState, Role, Side
from worker.domain.signal import OrderType, TimeInForce
from worker.exchanges.errors import InvalidOrderError, OrderNotFoundError
from worker.paper.exchange import PaperExchange
from worker.paper.resting import RestingOrders
from worker.paper.walk import PriceWalk
from worker.runtime.clock import Clock

D = Decimal
BTC = "BTC/USDT"
FREE: Mapping[str, Any] = {"fee_pct": D(0), "spread_bps": D(0), "slippage_bps": D(0)}


class Instances:
    """Instances of one simulated exchange, each as another worker has it.

    Args:
        join: makes what a new worker has of the orders that rest.
        settle: lets everything that workers have seen be known to all.
    """

    def __init__(
        self, clock: Clock, join: Callable[[], RestingOrders], settle: Callable[[], Awaitable[None]]
    ) -> None:
        self.clock = clock
        self._join = join
        self.settle = settle

    def another(self, **paper: Any) -> PaperExchange:
        config = ExchangeConfig(
            market_types=(MarketKind.SPOT,), paper=PaperConfig(**({**FREE, **paper}))
        )
        return PaperExchange("paper", config, self.clock, resting=self._join())


def buy(client_id: str = "c1", price: str | None = "90", **fields: Any) -> OrderRequest:
    values: dict[str, Any] = {
        "client_order_id": client_id,
        "exchange": "paper",
        "symbol": BTC,
        "role": Role.ENTRY,
        "side": Side.BUY,
        "order_type": OrderType.LIMIT if price else OrderType.MARKET,
        "quantity": D(1),
        "price": D(price) if price else None,
    }
    return OrderRequest(**(values | fields))


def stop_limit(**fields: Any) -> OrderRequest:
    values: dict[str, Any] = {
        "side": Side.SELL,
        "order_type": OrderType.STOP_LIMIT,
        "stop_price": D(95),
        "price": D(94),
    }
    return buy(**(values | fields))


async def place(on: PaperExchange, request: OrderRequest, price: str = "100") -> OrderReport:
    on.assume_price(request.symbol, D(price))
    return await on.place_order(request, on.open_window())


class RestingCards:
    """The cards; a fixture ``instances`` says where the orders are kept."""

    async def test_any_instance_tells_the_same_of_an_order_that_rests(
        self, instances: Instances
    ) -> None:
        """State, time of acceptance, fill and its time, whoever saw the price."""
        first, second, third = (instances.another() for _ in range(3))
        placed = await place(first, buy())
        assert placed.state is OrderState.ACTIVE
        assert await second.get_order(buy(), placed.exchange_order_id) == placed
        await instances.settle()
        third.assume_price(BTC, D(90))
        await instances.settle()
        third.assume_price(BTC, D(120))
        reports = [
            await one.get_order(buy(), placed.exchange_order_id) for one in (second, first, third)
        ]
        assert {report.state for report in reports} == {OrderState.FILLED}
        assert reports[0] == reports[1] == reports[2]
        assert reports[0].average_price == D(90)
        assert reports[0].created_ms == placed.created_ms
        trades = await instances.another().get_trades(
            buy(), msgspec.structs.replace(placed, fills=())
        )
        assert trades == reports[0].fills

    async def test_a_price_from_before_the_order_is_not_its(self, instances: Instances) -> None:
        """A low that has passed fills nothing."""
        first, second = instances.another(), instances.another()
        await place(second, buy("other", "50"))
        await instances.settle()
        second.assume_price(BTC, D(80))
        await instances.settle()
        second.assume_price(BTC, D(70))  # not sent yet
        await instances.clock.sleep(0.01)
        placed = await place(first, buy())
        await instances.settle()
        assert placed.state is OrderState.ACTIVE
        assert (await second.get_order(buy())).state is OrderState.ACTIVE

    async def test_all_instances_begin_anew(self, instances: Instances) -> None:
        """After every process was restarted the order rests as before, by its row alone."""
        placed = await place(instances.another(), buy())
        fresh = instances.another()
        assert await fresh.get_order(buy(), placed.exchange_order_id) == placed
        await instances.settle()
        fresh.assume_price(BTC, D(85))
        await instances.settle()
        report = await instances.another().get_order(buy(), placed.exchange_order_id)
        assert (report.state, report.average_price) == (OrderState.FILLED, D(90))

    async def test_another_instance_cancels(self, instances: Instances) -> None:
        """It is cancelled for all; no later price and no later look brings it back."""
        first, second = instances.another(), instances.another()
        placed = await place(first, buy())
        await second.cancel_order(buy(), placed.exchange_order_id)
        first.assume_price(BTC, D(80))
        for on in (first, second, instances.another()):
            report = await on.get_order(buy(), placed.exchange_order_id)
            assert (report.state, report.filled_quantity) == (OrderState.CANCELLED, D(0))
            with pytest.raises(OrderNotFoundError):
                await on.cancel_order(buy(), placed.exchange_order_id)
        assert await place(instances.another(), buy()) == report

    async def test_what_has_filled_cannot_be_cancelled(self, instances: Instances) -> None:
        """On no instance; it stays filled."""
        first, second = instances.another(), instances.another()
        placed = await place(first, buy())
        first.assume_price(BTC, D(90))
        await instances.settle()
        with pytest.raises(OrderNotFoundError):
            await second.cancel_order(buy(), placed.exchange_order_id)
        assert (await second.get_order(buy())).state is OrderState.FILLED

    @pytest.mark.parametrize("price", ["100", "90"])
    async def test_an_order_sent_again_elsewhere_is_the_first_one(
        self, instances: Instances, price: str
    ) -> None:
        """Same id, same time, whatever the second request and the price then say."""
        placed = await place(instances.another(), buy())
        again = await place(instances.another(), buy(quantity=D(7)), price)
        assert again.created_ms == placed.created_ms
        assert again.exchange_order_id == placed.exchange_order_id
        if price == "100":
            assert again == placed
        report = await instances.another().get_order(buy())
        assert report.filled_quantity in {D(0), D(1)}

    async def test_an_id_that_only_accepted_orders_have_makes_it_rest(
        self, instances: Instances
    ) -> None:
        """What the memory has lost rests again as a maker; what nobody accepted is not there."""
        on = instances.another()
        on.assume_price(BTC, D(80))
        with pytest.raises(OrderNotFoundError):
            await on.get_order(buy())
        with pytest.raises(OrderNotFoundError):
            await on.cancel_order(buy())
        report = await on.get_order(buy(), "Pc1")
        assert (report.state, report.exchange_order_id) == (OrderState.ACTIVE, "Pc1")
        on.assume_price(BTC, D(85))
        await instances.settle()
        assert (await instances.another().get_order(buy())).average_price == D(90)
        with pytest.raises(OrderNotFoundError):
            await on.get_order(buy("c2", None), "Pc2")
        with pytest.raises(OrderNotFoundError):
            await on.get_order(buy("c3", time_in_force=TimeInForce.IOC), "Pc3")
        await on.cancel_order(buy("c4"), "Pc4")
        assert (await on.get_order(buy("c4"), "Pc4")).state is OrderState.CANCELLED

    async def test_a_partial_fill_is_the_same_on_any_instance(self, instances: Instances) -> None:
        """By seed; the rest stays open until it is cancelled, and the fill stays."""
        first, second = (instances.another(partial_fill_rate=1.0) for _ in range(2))
        resting = await place(first, buy())
        at_once = await place(first, buy("c2", "100"))
        market = await place(first, buy("c3", None))
        assert at_once.state is market.state is OrderState.PARTIALLY_FILLED
        first.assume_price(BTC, D(90))
        await instances.settle()
        for request, placed in ((buy(), resting), (buy("c2", "100"), at_once)):
            one, other = [
                await on.get_order(request, placed.exchange_order_id) for on in (first, second)
            ]
            assert one == other
            assert one.state is OrderState.PARTIALLY_FILLED
            assert 0 < one.filled_quantity < 1
            assert await second.get_trades(request, placed) == one.fills
        assert await second.get_order(buy("c3", None)) == market
        opened = await second.get_open_orders(BTC)
        assert sorted(report.client_order_id for report in opened) == ["c1", "c2", "c3"]
        await second.cancel_order(buy("c2", "100"), at_once.exchange_order_id)
        over = await first.get_order(buy("c2", "100"), at_once.exchange_order_id)
        assert (over.state, over.fills) == (OrderState.CANCELLED, at_once.fills)

    async def test_a_stop_trades_at_the_price_that_triggered_it(self, instances: Instances) -> None:
        """Not at the ones after it, whoever saw them."""
        first, second = instances.another(), instances.another()
        request = buy(price=None, order_type=OrderType.STOP, stop_price=D(105))
        placed = await place(first, request)
        assert placed.state is OrderState.ACTIVE
        await instances.settle()
        for price in (104, 107, 130, 90):
            second.assume_price(BTC, D(price))
        await instances.settle()
        for on in (first, second):
            report = await on.get_order(request, placed.exchange_order_id)
            assert (report.state, report.average_price) == (OrderState.FILLED, D(107))

    async def test_a_stop_limit_is_triggered_here_and_filled_there(
        self, instances: Instances
    ) -> None:
        """The trigger makes it a limit for all instances."""
        first, second = instances.another(), instances.another()
        placed = await place(first, stop_limit())
        first.assume_price(BTC, D(93))
        await instances.settle()
        report = await second.get_order(stop_limit(), placed.exchange_order_id)
        assert report.state is OrderState.ACTIVE
        second.assume_price(BTC, D(99))
        await instances.settle()
        report = await first.get_order(stop_limit(), placed.exchange_order_id)
        assert (report.state, report.average_price) == (OrderState.FILLED, D(94))

    async def test_an_immediate_stop_limit_ends_at_its_trigger(self, instances: Instances) -> None:
        """If its limit is not met by then; later prices do not matter."""
        request = stop_limit(time_in_force=TimeInForce.IOC)
        first, second = instances.another(), instances.another()
        placed = await place(first, request)
        first.assume_price(BTC, D(93))
        first.assume_price(BTC, D(99))
        await instances.settle()
        report = await second.get_order(request, placed.exchange_order_id)
        assert (report.state, report.filled_quantity) == (OrderState.CANCELLED, D(0))

    async def test_any_instance_lists_what_is_open(self, instances: Instances) -> None:
        """Of one symbol or of all; not what has ended, and not another exchange's."""
        first, second = instances.another(), instances.another()
        await place(first, buy("a"))
        await place(second, buy("b", symbol="ETH/USDT"))
        await place(second, buy("c", symbol="ETH/USDT"))
        await second.cancel_order(buy("c", symbol="ETH/USDT"))
        third = instances.another()
        listed = await third.get_open_orders()
        assert sorted(report.client_order_id for report in listed) == ["a", "b"]
        (only,) = await third.get_open_orders("ETH/USDT")
        assert only == await first.get_order(buy("b", symbol="ETH/USDT"))
        assert await third.get_open_orders("SOL/USDT") == []
        first.assume_price(BTC, D(90))
        await instances.settle()
        assert [one.client_order_id for one in await third.get_open_orders()] == ["b"]

    async def test_no_more_rest_in_a_market_than_fit(self, instances: Instances) -> None:
        """The thousand-and-first is refused, and one that ends makes room."""
        on = instances.another()
        on.assume_price(BTC, D(100))
        for number in range(1_000):
            await on.place_order(buy(f"c{number}"), on.open_window())
        with pytest.raises(InvalidOrderError) as caught:
            await place(on, buy("more"))
        assert (caught.value.code, caught.value.transient) == ("TOO_MANY_ORDERS", True)
        await on.cancel_order(buy("c7"))
        assert (await place(on, buy("more"))).state is OrderState.ACTIVE

    async def test_a_walk_fills_an_order_by_its_path(self, instances: Instances) -> None:
        """At the second when the path reaches it, whoever looks, and when."""
        paper = {"prices": "walk", "walk_swing_pct": D(50)}
        first, second = instances.another(**paper), instances.another(**paper)
        walk = PriceWalk(0, middle=D(100), middles={}, swing_pct=D(50))
        start = instances.clock.now_ms() + 1_000
        for number in range(1_000):  # a market whose price falls within the next seconds
            symbol = f"COIN{number}/USDT"
            now, soon = (walk.price(symbol, start + ms) for ms in (-1_000, 1_000))
            if soon < min(now, walk.price(symbol, start)):
                break
        request = buy(symbol=symbol, price=f"{soon:f}")
        placed = await first.place_order(request, first.open_window())
        assert placed.state is OrderState.ACTIVE
        while instances.clock.now_ms() < start + 2_000:
            await instances.clock.sleep(0.1)
        assert await second.get_open_orders() == []
        reports = [await on.get_order(request, placed.exchange_order_id) for on in (first, second)]
        assert reports[0] == reports[1]
        (fill,) = reports[0].fills
        assert (fill.at_ms, fill.price) == ((start + 1_000) // 1_000 * 1_000, soon)
