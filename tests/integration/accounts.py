"""A worker in this process, and its account as seen from outside."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from redis.asyncio import Redis

from tests.integration.fleets import GROUP, SIGNALS, until
from worker.assembly.worker import Worker
from worker.config.keys import (
    Config,
    ExchangeConfig,
    HttpConfig,
    PaperConfig,
    RedisConfig,
    RiskConfig,
    Secret,
    WorkerConfig,
)
from worker.domain.market import MarketKind

D = Decimal
TERMINAL = {"OrderFilled", "OrderCancelled", "OrderFailed", "SignalCompleted"}


def from_now(**parts: float) -> str:
    """The time so many hours, days or seconds from now, as signals carry it."""
    return (datetime.now(UTC) + timedelta(**parts)).isoformat()


class Account:
    """The account from outside: a producer, and a reader of every stream."""

    def __init__(self, url: str) -> None:
        self.redis: Any = Redis.from_url(url, protocol=2, socket_timeout=30)

    async def close(self) -> None:
        await self.redis.aclose()

    async def send(self, signal_id: str, *, key: str | None = None, **fields: Any) -> str:
        """A long market entry of BTC/USDT at 100 unless said otherwise; None leaves a field out."""
        whole: dict[str, Any] = {
            "signal_id": signal_id,
            "created_at": datetime.now(UTC).isoformat(),
            "exchange": "paper",
            "symbol": "BTC/USDT",
            "action": "open",
            "direction": "long",
            "strength": 0.8,
            "confluence_score": 7,
            "entry_price": "100",
        }
        document = {k: v for k, v in (whole | fields).items() if v is not None}
        return await self.send_raw(json.dumps(document).encode(), key=key)

    async def send_raw(self, data: bytes, *, key: str | None = None) -> str:
        entry = {"data": data} if key is None else {"data": data, "key": key}
        return str((await self.redis.xadd(SIGNALS, entry)).decode())

    async def events(self, stream: str) -> list[dict[str, Any]]:
        """Everything on an output stream, each event checked against its stream fields."""
        found = []
        for _, fields in await self.redis.xrange(f"{{main}}:{stream}"):
            event = json.loads(fields[b"data"])
            assert fields[b"type"].decode() == event["type"]
            assert fields[b"id"].decode() == event["event_id"]
            assert fields[b"subject"].decode() == event["signal_id"]
            found.append(event)
        return found

    async def of(self, signal_id: str) -> list[dict[str, Any]]:
        """The events of one signal, orders first."""
        everything = await self.events("orders") + await self.events("positions")
        return [event for event in everything if event["signal_id"] == signal_id]

    async def end(self, signal_id: str) -> dict[str, Any]:
        """Wait for a signal's terminal event; there must be exactly one."""

        async def ended() -> list[dict[str, Any]]:
            return [one for one in await self.of(signal_id) if one["type"] in TERMINAL]

        await until(ended, what=f"{signal_id} has ended", timeout_s=20)
        (only,) = await ended()
        return only

    async def dead(self, count: int = 1) -> list[dict[bytes, bytes]]:
        """Wait for so many dead letters."""

        async def letters() -> bool:
            return int(await self.redis.xlen("{main}:dead")) >= count

        await until(letters, what=f"there are {count} dead letters")
        found = [fields for _, fields in await self.redis.xrange("{main}:dead")]
        assert len(found) == count
        return found

    async def pending(self) -> int:
        return int((await self.redis.xpending(SIGNALS, GROUP))["pending"])

    async def quiet(self) -> None:
        """Wait until everything sent has been acknowledged."""

        async def done() -> bool:
            (group,) = await self.redis.xinfo_groups(SIGNALS)
            return bool(group["lag"] == 0 and group["pending"] == 0)

        await until(done, what="everything is acknowledged")


def configuration(url: str, **sections: Any) -> Config:
    paper = sections.pop("paper", {"fee_pct": D(0), "spread_bps": D(0), "slippage_bps": D(0)})
    whole: dict[str, Any] = {
        "redis": RedisConfig(url=Secret(url)),
        "http": HttpConfig(host=""),
        "worker": WorkerConfig(seed=1, drain_seconds=5, lease_seconds=3),
        "risk": RiskConfig(max_concurrent_positions=100),
        "exchanges": {
            "paper": ExchangeConfig(
                market_types=(MarketKind.SPOT, MarketKind.LINEAR), paper=PaperConfig(**paper)
            )
        },
    }
    return Config(**(whole | sections))


@asynccontextmanager
async def working(config: Config) -> AsyncIterator[Worker]:
    """A worker at work; stopped at the end, and it must end well."""
    worker = Worker(config)
    running = asyncio.create_task(worker.run())
    try:
        yield worker
    finally:
        worker.engine.stop()
        assert await asyncio.wait_for(running, 20) == 0
