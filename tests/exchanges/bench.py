"""One exchange's simulator, one worker on a real server, and the account seen from outside."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

import msgspec
import pytest
from redis.asyncio import Redis

from tests.exchange_simulator.server import Server
from tests.exchange_simulator.simulator import Simulator
from tests.exchanges.venues import Venue
from tests.integration.fleets import until
from worker.assembly.worker import Worker
from worker.config.keys import (
    Config,
    ExecutionConfig,
    HttpConfig,
    ReconciliationConfig,
    RedisConfig,
    RiskConfig,
    Secret,
    UpdatesConfig,
    ValidationConfig,
    WorkerConfig,
)
from worker.domain.position import Position
from worker.domain.position_json import read_position
from worker.exchanges.budget.limits import Decaying, Limit
from worker.exchanges.ccxt.adapter import CCXTAdapter
from worker.exchanges.discovery import adapter_class
from worker.ledger.stored import read_book_row
from worker.runtime.embedded_server import EmbeddedServer

#: How long anything may take that a card waits for; nothing comes near it unless it is broken.
PATIENCE_S: Final = 30.0
_STREAMS: Final = ("orders", "positions", "system", "dead")

Event = dict[str, Any]


class Bench:
    """The shared part of all cards of one exchange.

    Args:
        venue: the exchange.
        server: its simulator, served.
        redis_url: the worker's server.
        worker: trades on it.
    """

    def __init__(self, venue: Venue, server: Server, redis_url: str, worker: Worker) -> None:
        self.venue = venue
        self.worker = worker
        self.server = server
        self.redis: Any = Redis.from_url(redis_url, protocol=2, socket_timeout=60)
        self.events: list[Event] = []
        self._grown = asyncio.Condition()

    @property
    def simulator(self) -> Simulator:
        """The exchange."""
        return self.server.simulator

    async def send(self, signal: dict[str, Any]) -> str:
        """Put a signal on the stream; returns its id."""
        whole = {"created_at": datetime.now(UTC).isoformat()} | signal
        await self.redis.xadd("{main}:signals", {"data": json.dumps(whole)})
        return str(whole["signal_id"])

    def of(self, signal_id: str, *kinds: str) -> list[Event]:
        """Return the events of a signal so far, of some types."""
        return [
            event
            for event in self.events
            if event["signal_id"] == signal_id and (not kinds or event["type"] in kinds)
        ]

    def ends(self, signal_id: str) -> list[Event]:
        """Return the events so far that say a signal is over."""
        return [event for event in self.of(signal_id) if event.get("terminal") is True]

    async def until(
        self, condition: Callable[[], Any], what: str, patience_s: float = PATIENCE_S
    ) -> Any:
        """Wait until ``condition`` holds after some event, and return what it returned."""
        try:
            async with asyncio.timeout(patience_s), self._grown:
                await self._grown.wait_for(condition)
        except TimeoutError:
            raise AssertionError(f"in {patience_s:g} s it was not so that {what}") from None
        return condition()

    async def end(self, signal_id: str, patience_s: float = PATIENCE_S) -> Event:
        """Wait for a signal's terminal event; there must be exactly one."""
        ends = await self.until(lambda: self.ends(signal_id), f"{signal_id} has ended", patience_s)
        assert len(ends) == 1, ends
        only: Event = ends[0]
        return only

    async def position(self, symbol: str) -> Position | None:
        """Return the book's position in a symbol."""
        raw = await self.redis.hget("{main}:book", f"{self.venue.name}:{symbol}")
        if raw is None:
            return None
        row = read_book_row(raw)
        return read_position(row.position) if row.position else None

    async def until_ready(self) -> None:
        """Wait until the worker claims signals."""

        async def ready() -> bool:
            return self.worker.health.ready

        await until(ready, what=f"the worker is ready: {self.not_ready()}", timeout_s=PATIENCE_S)

    def not_ready(self) -> str:
        """Return why the worker is not ready, as ``/readyz`` says it; empty once it is."""
        checks = self.worker.health.report()["checks"]
        return "; ".join(one["detail"] for one in checks.values() if not one["ok"])

    async def read(self) -> None:
        """Follow the output streams for ever."""
        places = {f"{{main}}:{name}": "0" for name in _STREAMS}
        while True:
            reply = await self.redis.xread(places, count=1000, block=20_000)
            for stream, rows in reply or ():
                for entry_id, fields in rows:
                    places[stream.decode()] = entry_id.decode()
                    if b"type" in fields:
                        self.events.append(json.loads(fields[b"data"]))
            async with self._grown:
                self._grown.notify_all()


def configuration(venue: Venue, url: str, redis_url: str) -> Config:
    """Return a worker's configuration: quick, and without limits of its own in a card's way."""
    return Config(
        mode="live",
        redis=RedisConfig(url=Secret(redis_url)),
        http=HttpConfig(host=""),
        worker=WorkerConfig(seed=1, drain_seconds=10, lease_seconds=12),
        validation=ValidationConfig(max_signal_age_seconds=120),
        risk=RiskConfig(max_concurrent_positions=1_000, max_position_size_pct=Decimal(10_000)),
        execution=ExecutionConfig(
            skew_margin_ms=200, max_lookup_seconds=10, base_delay=0.1, max_rest_seconds=1.0
        ),
        updates=UpdatesConfig(poll_seconds=0.1),
        reconciliation=ReconciliationConfig(max_wait_time=1.0, poll_interval=0.1),
        exchanges={venue.name: venue.config(url)},
    )


@contextlib.contextmanager
def lifted_limits(venue: Venue) -> Iterator[None]:
    """Let adapters built inside ask a thousand times as much as the exchange allows.

    Cards play far more at a time than an account may; the budget has tests of its own.
    """
    adapter = adapter_class(venue.name)
    assert isinstance(adapter, type)
    assert issubclass(adapter, CCXTAdapter)

    class Lifted(adapter._limits):  # type: ignore[name-defined,misc]
        """The exchange's table with its limits out of the way."""

        def limits(self, rate_limit_ms: float) -> dict[str, Limit]:
            """Return the limits a thousandfold."""
            return {name: _lifted(one) for name, one in super().limits(rate_limit_ms).items()}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(adapter, "_limits", Lifted)
        yield


def _lifted(limit: Limit) -> Limit:
    changes = {"maximum": limit.maximum * 1_000}
    if isinstance(limit, Decaying):
        changes["per_second"] = limit.per_second * 1_000
    return msgspec.structs.replace(limit, **changes)


@asynccontextmanager
async def at_work(venue: Venue, list_markets: Callable[[Simulator], None]) -> AsyncIterator[Bench]:
    """A worker trading on a simulated exchange until the block ends; it must end well."""
    simulator = venue.simulator()
    list_markets(simulator)
    server = Server(simulator)
    await server.start()
    with EmbeddedServer() as store:
        with lifted_limits(venue):
            worker = Worker(configuration(venue, server.url, store.url))
        bench = Bench(venue, server, store.url, worker)
        running = asyncio.create_task(worker.run())
        reading = asyncio.create_task(bench.read())
        try:
            yield bench
        finally:
            worker.engine.stop()
            code = await asyncio.wait_for(running, 20)
            reading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await reading
            await bench.redis.aclose()
            await server.stop()
        assert code == 0
