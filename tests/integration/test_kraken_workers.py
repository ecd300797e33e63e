"""Two whole workers on one Kraken key, and what ``check`` says of the key."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.integration.accounts import Account, configuration, working
from tests.integration.canned import Asked
from tests.integration.fleets import until
from tests.integration.test_kraken_keys import Strict, strict_server
from tests.integration.venues import API_KEY, SECRET
from worker.assembly.worker import Worker
from worker.cli.check import Finding, findings
from worker.config.keys import Config, ExchangeConfig, Secret, WorkerConfig
from worker.runtime.clock import SystemClock
from worker.runtime.embedded_server import EmbeddedServer


def kraken(redis: str, url: str, **changes: Any) -> Config:
    section: dict[str, Any] = {
        "adapter": "ccxt",
        "api_key": Secret(API_KEY),
        "secret": Secret(SECRET),
        "base_url": url,
    }
    return configuration(
        redis,
        mode="live",
        worker=WorkerConfig(seed=1, drain_seconds=5),
        exchanges={"kraken": ExchangeConfig(**section | changes)},
    )


@pytest.fixture
async def stand_in() -> AsyncIterator[str]:
    async with strict_server() as server:
        yield server.url


def markets_of(worker: Worker) -> str:
    """What readiness says of the worker's markets."""
    return str(worker.health.report()["checks"]["markets"]["detail"])


async def test_the_second_worker_says_who_has_the_key_and_takes_over(
    one_server: EmbeddedServer, stand_in: str
) -> None:
    """It runs on, starts nothing with the key, and needs no restart when the first one leaves."""
    config = kraken(one_server.url, stand_in)
    async with working(config) as first:

        async def has_started() -> bool:
            return "kraken" in first.supervisor.started

        await until(has_started, what="the first worker has started Kraken", timeout_s=20)
        second = Worker(config)
        running = asyncio.create_task(second.run())

        async def has_said_who() -> bool:
            return first.name in markets_of(second)

        await until(has_said_who, what="the second worker says who has the key", timeout_s=20)
        assert "exchanges.kraken.nonce_window" in markets_of(second)
        assert not second.supervisor.started
        assert not running.done()
    try:

        async def has_taken_over() -> bool:
            return "kraken" in second.supervisor.started

        await until(has_taken_over, what="the second worker has taken over", timeout_s=20)
        assert markets_of(second) == "loaded"
    finally:
        second.engine.stop()
        assert await asyncio.wait_for(running, 20) == 0


async def test_workers_share_a_key_that_has_a_window(
    one_server: EmbeddedServer, stand_in: str
) -> None:
    """Both start, each with a seat of its own."""
    config = kraken(one_server.url, stand_in, nonce_window=10_000)
    async with working(config) as first, working(config) as second:

        async def have_started() -> bool:
            return all(worker.supervisor.started for worker in (first, second))

        await until(have_started, what="both have started Kraken", timeout_s=20)
        seats = {worker.adapters["kraken"]._nonces.seat for worker in (first, second)}  # type: ignore[attr-defined]
        assert seats == {0, 1}


async def lines(config: Config) -> list[Finding]:
    """What ``check`` says of exchanges."""
    found = [finding async for finding in findings(config, SystemClock())]
    return [finding for finding in found if finding.subject.startswith("exchange")]


async def test_check_asks_for_one_of_the_two(one_server: EmbeddedServer, stand_in: str) -> None:
    """A key for each worker or a nonce window; while a worker uses the key it is let alone."""
    config = kraken(one_server.url, stand_in)
    found, advice = await lines(config)
    assert found.level == "ok"
    assert advice.level == "warn"
    assert "a key of its own" in advice.detail
    assert "exchanges.kraken.nonce_window" in advice.detail
    (found,) = await lines(kraken(one_server.url, stand_in, nonce_window=10_000))
    assert found.level == "ok"
    async with working(config) as first:

        async def has_started() -> bool:
            return bool(first.supervisor.started)

        await until(has_started, what="the worker has started Kraken", timeout_s=20)
        found, advice = await lines(config)
        assert (found.level, advice.level) == ("warn", "warn")
        assert first.name in found.detail


class Engine:
    """A matching engine that fills every order at once, at 100."""

    def __init__(self, server: Strict, bases: list[str]) -> None:
        self.orders: dict[str, dict[str, Any]] = {}
        pairs: Any = server.replies["GET /0/public/AssetPairs"]
        (pair,) = pairs["result"].values()
        names = {f"{base}USDT": base for base in bases}
        listed = {
            name: pair | {"altname": name, "wsname": f"{base}/USDT", "base": base}
            for name, base in names.items()
        }
        quoted = {name: {side: ["100", "1", "1"] for side in "abc"} for name in names}
        server.replies |= {
            "GET /0/public/AssetPairs": {"error": [], "result": listed},
            "GET /0/public/Ticker": {"error": [], "result": quoted},
            "POST /0/private/AddOrder": self.add,
            "POST /0/private/QueryOrders": self.query,
            "POST /0/private/QueryTrades": self.trades,
            "POST /0/private/OpenOrders": {"error": [], "result": {"open": {}}},
            "POST /0/private/ClosedOrders": {"error": [], "result": {"closed": {}, "count": 0}},
            "POST /0/private/BalanceEx": {
                "error": [],
                "result": {"USDT": {"balance": "1000000", "hold_trade": "0"}},
            },
        }

    def add(self, asked: Asked) -> dict[str, Any]:
        fields, order_id = asked.fields, f"O-{len(self.orders)}"
        self.orders[order_id] = {
            "cl_ord_id": fields["cl_ord_id"],
            "status": "closed",
            "opentm": time.time(),
            "descr": {"pair": fields["pair"], "type": fields["type"], "ordertype": "market"},
            "vol": fields["volume"],
            "vol_exec": fields["volume"],
            "price": "100",
            "trades": [f"T-{order_id}"],
        }
        return {"error": [], "result": {"txid": [order_id]}}

    def query(self, asked: Asked) -> dict[str, Any]:
        ids = asked.fields["txid"].split(",")
        return {"error": [], "result": {order_id: self.orders[order_id] for order_id in ids}}

    def trades(self, asked: Asked) -> dict[str, Any]:
        told = {}
        for trade_id in asked.fields["txid"].split(","):
            order = self.orders[trade_id.removeprefix("T-")]
            told[trade_id] = {
                "ordertxid": trade_id.removeprefix("T-"),
                "pair": order["descr"]["pair"],
                "time": order["opentm"],
                "type": order["descr"]["type"],
                "ordertype": "market",
                "price": "100",
                "cost": "1",
                "fee": "0.1",
                "vol": order["vol"],
            }
        return {"error": [], "result": told}


async def test_signals_that_come_together_are_all_filled_with_their_nonces_in_order(
    one_server: EmbeddedServer,
) -> None:
    """Thirty-two at once, on a way of uneven length: no nonce arrives late, no order is lost."""
    count = 32
    async with strict_server(journey_s=0.03) as server:
        bases = [f"B{number:02}" for number in range(count)]
        engine = Engine(server, bases)
        account = Account(one_server.url)
        async with working(kraken(one_server.url, server.url)) as worker:

            async def has_started() -> bool:
                return bool(worker.supervisor.started)

            await until(has_started, what="the worker has started Kraken", timeout_s=20)
            for base in bases:
                await account.send(
                    f"s-{base}",
                    exchange="kraken",
                    symbol=f"{base}/USDT",
                    quantity="0.5",
                    entry_price=None,
                )
            ended = [(await account.end(f"s-{base}"))["type"] for base in bases]
        await account.close()
        assert ended == ["OrderFilled"] * count
        assert len(engine.orders) == count
        assert server.refused == 0
        calls = [one.path.rpartition("/")[2] for one in server.asked]
        for name, prefix in (("QueryOrders", ""), ("QueryTrades", "T-")):
            asked = [one.fields["txid"] for one in server.asked if one.path.endswith(name)]
            told_of = [one for ids in asked for one in ids.split(",")]
            assert sorted(told_of) == sorted(f"{prefix}{order}" for order in engine.orders)
            assert len(asked) < count / 2  # many with one request
        assert calls.count("Ticker") < count / 2
        assert "ClosedOrders" not in calls
