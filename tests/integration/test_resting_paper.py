"""Orders that rest at a simulated exchange, kept in the ledger on a real server."""

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import pytest

from tests.integration.fleets import SIGNALS, Fleet, fleet_on
from tests.unit.paper.resting_cards import BTC, Instances, RestingCards, buy, place, stop_limit
from worker.config.keys import RedisConfig, Secret
from worker.domain.order import OrderState
from worker.domain.signal import TimeInForce
from worker.exchanges.errors import ExchangeError, Outcome
from worker.ledger.connection import Connections
from worker.ledger.resting import (
    Asked,
    RedisResting,
    SeenPrice,
    ask_resting,
    list_resting,
    send_prices,
)
from worker.ledger.resting_layouts import RestingRow
from worker.ledger.scripts import RedisScripts
from worker.ledger.wire import Argument
from worker.paper import fleet_orders
from worker.paper.fleet_orders import MAX_UNSENT, FleetOrders
from worker.paper.resting import RestingOrders
from worker.runtime.clock import SystemClock
from worker.runtime.embedded_server import EmbeddedServer

D = Decimal


class Counted(RedisScripts):
    """Scripts that count their calls."""

    calls = 0

    async def run(self, name: str, *arguments: Argument) -> Any:
        self.calls += 1
        return await super().run(name, *arguments)


class Workers(Instances):
    """Instances that have the ledger in common."""

    def __init__(self, fleet: Fleet) -> None:
        super().__init__(SystemClock(), self.join, self.send)
        self._fleet = fleet
        self.joined: list[FleetOrders] = []
        self.scripts: list[Counted] = []

    def join(self) -> RestingOrders:
        config = RedisConfig(url=Secret(self._fleet.url))
        connections = Connections(config, key=SIGNALS, name="worker", timeout_s=2.0)
        self._fleet.connections.append(connections)
        self.scripts.append(Counted(connections, signals=SIGNALS, patience_s=0.0))
        self.joined.append(FleetOrders(RedisResting(self.scripts[-1]), SystemClock()))
        return self.joined[-1]

    async def send(self) -> None:
        for orders in self.joined:
            await orders.send()


@pytest.fixture
async def fleet(server: EmbeddedServer) -> AsyncIterator[Fleet]:
    async with fleet_on(server.url) as made:
        yield made


@pytest.fixture
def instances(fleet: Fleet) -> Workers:
    return Workers(fleet)


class TestInTheLedger(RestingCards):
    """Everything that must hold, of orders in the ledger."""


async def test_where_no_order_rests_no_price_is_kept(instances: Workers, fleet: Fleet) -> None:
    """Seeing a price costs no call, and leaves nothing behind once the last order has ended."""
    on = instances.another()
    for number in range(100):
        on.assume_price(f"COIN{number}/USDT", D(100))
    assert instances.scripts[0].calls == 0
    await place(on, buy())
    on.assume_price(BTC, D(90))
    await instances.settle()
    on.assume_price(BTC, D(80))
    await instances.settle()
    on.assume_price(BTC, D(70))
    assert instances.joined[0]._unsent == {}
    assert BTC not in instances.joined[0].markets("paper")
    keys = sorted(await fleet.redis.keys("*rest*"))
    assert keys == [b"{main}:rested:c1", b"{main}:resting-joined"]
    assert 0 < await fleet.redis.ttl("{main}:rested:c1") <= 604_800


async def test_an_order_that_is_over_is_no_longer_kept_with_the_open_ones(
    instances: Workers, fleet: Fleet
) -> None:
    """An immediate one as soon as it was triggered, filled or not."""
    on = instances.another()
    await place(on, stop_limit(time_in_force=TimeInForce.IOC))
    assert await fleet.redis.exists("{main}:resting:paper:BTC/USDT")
    on.assume_price(BTC, D(93))
    await instances.settle()
    assert not await fleet.redis.exists("{main}:resting:paper:BTC/USDT")


async def test_prices_of_one_market_are_sent_together(instances: Workers) -> None:
    """However many there are: one call, of a bounded size, and the last one counts."""
    on = instances.another()
    await place(on, buy())
    before = instances.scripts[0].calls
    for price in range(10 * MAX_UNSENT, 91, -1):
        on.assume_price(BTC, D(price))
    on.assume_price(BTC, D(90))
    assert len(instances.joined[0]._unsent["paper", BTC]) == MAX_UNSENT
    await instances.settle()
    assert instances.scripts[0].calls == before + 1
    assert (await on.get_order(buy())).state is OrderState.FILLED


async def test_prices_of_many_markets_are_sent_in_parts(
    instances: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call names a bounded number of markets, and none is left out."""
    monkeypatch.setattr(fleet_orders, "MAX_SENT", 2)
    on = instances.another()
    requests = [buy(f"c{number}", symbol=f"COIN{number}/USDT") for number in range(5)]
    for request in requests:
        await place(on, request)
    before = instances.scripts[0].calls
    for request in requests:
        on.assume_price(request.symbol, D(90))
    await instances.settle()
    assert instances.scripts[0].calls == before + 3
    states = [(await instances.another().get_order(request)).state for request in requests]
    assert states == [OrderState.FILLED] * 5


async def test_a_worker_learns_where_others_orders_rest(instances: Workers, fleet: Fleet) -> None:
    """Once; and again from the beginning when the ledger was lost."""
    first, second = instances.another(), instances.another()
    await place(first, buy())
    assert BTC not in instances.joined[1].markets("paper")
    await instances.joined[1].send()
    assert BTC in instances.joined[1].markets("paper")
    await fleet.redis.flushall()
    second.assume_price(BTC, D(80))
    await instances.settle()
    assert BTC not in instances.joined[1].markets("paper")
    report = await first.get_order(buy(), "Pc1")
    assert report.state is OrderState.ACTIVE, "taken up from its row; what was seen is lost"
    await instances.settle()
    assert BTC in instances.joined[1].markets("paper")


async def test_without_a_ledger_the_outcome_is_unknown(instances: Workers, fleet: Fleet) -> None:
    """The order may rest or not; it is neither accepted nor refused."""
    on = instances.another()
    await place(on, buy("a", None))
    await fleet.redis.config_set("maxmemory", "1")
    try:
        with pytest.raises(ExchangeError) as caught:
            await place(on, buy())
    finally:
        await fleet.redis.config_set("maxmemory", "0")
    assert (caught.value.outcome, caught.value.code) == (Outcome.UNKNOWN, "ledger")
    assert caught.value.transient


@pytest.mark.slow
async def test_a_hundred_thousand_orders_rest(one_server: EmbeddedServer) -> None:
    """Each costs less than a kilobyte of Redis, and a worker has nothing of them but the names."""
    async with fleet_on(one_server.url) as fleet:
        await _rest_a_hundred_thousand(fleet)


async def _rest_a_hundred_thousand(fleet: Fleet) -> None:
    instances = Workers(fleet)
    instances.another()
    scripts, count = instances.scripts[0], 100_000
    row = RestingRow(
        request=f'{{"filler":"{"x" * 250}"}}', buys=True, reference="100",
        conditions=((False, "90"),),
    )  # fmt: skip
    before = (await fleet.redis.info("memory"))["used_memory"]
    for start in range(0, count, 1_000):
        calls = [
            ask_resting(scripts, Asked.REST, ("paper", f"C{n}/USDT"), f"{n:032}", row=row)
            for n in range(start, start + 1_000)
        ]
        await asyncio.gather(*calls)
    used = (await fleet.redis.info("memory"))["used_memory"] - before
    assert used / count < 1_000
    full = await ask_resting(scripts, Asked.REST, ("paper", BTC), "more", row=row)
    assert full.row is None
    rows, _ = await list_resting(scripts, "paper")
    assert len(rows) == count
    last, learnt = 0, 0
    while markets := await send_prices(scripts, last, ()):
        if not markets.joined:
            break
        assert len(markets.joined) <= 1_000
        last, learnt = markets.last, learnt + len(markets.joined)
    assert learnt == count
    seen = [("paper", "C7/USDT", (SeenPrice(0, "89", "89"),))]
    assert (await send_prices(scripts, last, seen)).gone == ("paper C7/USDT",)
