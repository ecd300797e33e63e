"""Several workers' ledgers on one real server, and a plain client to look over their shoulder."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
from redis.asyncio import Redis

from worker.config.keys import RedisConfig, Secret
from worker.domain.refusal import Code
from worker.ledger.calls import RedisLedger
from worker.ledger.connection import Connections
from worker.ledger.items import AdmitItem, CommitItem, RecordEnd
from worker.ledger.limit_rows import BOOK, RATE, Kind, LimitRow, Limits, limits_of
from worker.ledger.ports import Ledger
from worker.ledger.replies import Admission, Admitted, CommitStatus, Committed, Delivery
from worker.ledger.scripts import RedisScripts
from worker.ledger.stored import Record, decode_entry, decode_record, read_book_row
from worker.runtime.clock import SystemClock
from worker.runtime.embedded_server import EmbeddedServer, free_port

SIGNALS = "{main}:signals"
GROUP = "execution"
EVENT = ("orders", "OrderFilled", "e-1", "{}")


class Fleet:
    """Ledgers of any number of workers, made when first asked for by name."""

    def __init__(self, url: str, redis: Any, **options: Any) -> None:
        self.url = url
        self.redis = redis
        self.options = options
        self.connections: list[Connections] = []
        self._ledgers: dict[str, RedisLedger] = {}

    def __getitem__(self, worker: str) -> RedisLedger:
        if worker not in self._ledgers:
            self._ledgers[worker] = self.join(worker)
        return self._ledgers[worker]

    def join(self, worker: str, *, patience_s: float = 2.0, **options: Any) -> RedisLedger:
        """A ledger of its own connections; the same name twice is the same worker twice."""
        options = self.options | options
        replicas = options.pop("replicas", 0)
        replicas_timeout_ms = options.pop("replicas_timeout_ms", 1_000)
        timeout_s = options.pop("timeout_s", 2.0)
        config = options.pop("config", None) or RedisConfig(url=Secret(self.url))
        connections = Connections(config, key=SIGNALS, name=worker, timeout_s=timeout_s)
        self.connections.append(connections)
        scripts = RedisScripts(
            connections,
            signals=SIGNALS,
            replicas=replicas,
            replicas_timeout_ms=replicas_timeout_ms,
            patience_s=patience_s,
        )
        return RedisLedger(scripts, clock=SystemClock(), worker=worker, **options)

    async def close(self) -> None:
        for connections in self.connections:
            await connections.close()

    # --- the producer's side ---

    async def send(self, key: str | None = None, **fields: Any) -> str:
        """Put one entry on the signals stream; returns its id."""
        entry = {"data": json.dumps({"exchange": "x", "symbol": "A/B"})} | fields
        if key is not None:
            entry["key"] = key
        return str((await self.redis.xadd(SIGNALS, entry)).decode())

    async def send_all(self, keys: Iterable[str]) -> list[str]:
        return [await self.send(key) for key in keys]

    # --- looking ---

    def key(self, name: str) -> str:
        return f"{{main}}:{name}"

    async def entry(self, entry_id: str) -> dict[str, Any]:
        """An entry's fields; empty once it has ended."""
        raw = await self.redis.hget(self.key("entries"), entry_id)
        return {} if raw is None else msgspec.structs.asdict(decode_entry(raw))

    async def group(self, entry_id: str) -> str:
        """An entry's message group, without the colon before it."""
        raw = (await self.entry(entry_id))["group"]
        return msgspec.msgpack.decode(raw, type=str).removeprefix(":")

    async def record(self, signal_id: str) -> Record | None:
        """A signal's execution record."""
        raw = await self.redis.get(self.key(f"record:{signal_id}"))
        return None if raw is None else decode_record(raw)

    async def leases(self) -> dict[str, int]:
        rows = await self.redis.zrange(self.key("leases"), 0, -1, withscores=True)
        return {entry_id.decode(): int(score) for entry_id, score in rows}

    async def pending(self) -> dict[str, str]:
        """Entry id to consumer, of everything the group has not acknowledged."""
        rows = await self.redis.xpending_range(SIGNALS, GROUP, "-", "+", 20_000)
        return {row["message_id"].decode(): row["consumer"].decode() for row in rows}

    async def stream(self, name: str) -> list[dict[bytes, bytes]]:
        return [fields for _, fields in await self.redis.xrange(self.key(name))]

    async def hash(self, name: str) -> dict[str, str]:
        raw = await self.redis.hgetall(self.key(name))
        return {key.decode(): value.decode() for key, value in raw.items()}

    async def reserved(self, how: str) -> dict[str, str]:
        """Position key to the signal that is ``opening`` or ``closing`` it."""
        raw = await self.redis.hgetall(self.key("book"))
        rows = {key.decode(): read_book_row(value) for key, value in raw.items()}
        return {key: row.signal for key, row in rows.items() if row.reservation == how}

    async def now_ms(self) -> int:
        seconds, micros = await self.redis.time()
        return int(seconds) * 1000 + int(micros) // 1000

    # --- time, without waiting for it ---

    async def expire(self, entry_id: str, *, ago_ms: int = 1) -> None:
        """Let a lease have run out ``ago_ms`` ago."""
        await self.redis.zadd(self.key("leases"), {entry_id: await self.now_ms() - ago_ms}, xx=True)


@asynccontextmanager
async def fleet_on(url: str, **options: Any) -> AsyncIterator[Fleet]:
    """A fleet whose group exists; closed at the end."""
    redis: Any = Redis.from_url(url, protocol=2)  # its hints cannot tell bytes from text
    fleet = Fleet(url, redis, **options)
    try:
        await fleet["observer"].ensure_group()
        yield fleet
    finally:
        await fleet.close()
        await redis.aclose()


def limit_rows(
    quote: str = "USDT", *, positions: int = 0, exposure: int = 0, loss: int = 0, rate: int = 0
) -> Limits:
    """The account's limits as a worker states them; 0 is off, but exposure always counts."""
    rows = (
        LimitRow(BOOK, Kind.COUNT, 1, positions, Code.MAX_POSITIONS),
        LimitRow(quote, Kind.SUM, False, exposure or False, Code.MAX_EXPOSURE),
        LimitRow(quote, Kind.LOSS, 0, loss, Code.DAILY_LOSS_LIMIT),
        LimitRow(RATE, Kind.WINDOW, 1, rate, Code.ORDER_RATE_LIMIT),
    )
    return limits_of(*(row for row in rows if row.kind is Kind.SUM or row.most))


def admission(delivery: Delivery, signal: str = "s-1", **fields: Any) -> AdmitItem:
    """An admission of ``delivery``: an entry worth 100, all limits off but three positions."""
    whole: dict[str, Any] = {
        "entry": delivery.entry_id,
        "token": delivery.token,
        "signal": signal,
        "digest": f"digest of {signal}",
        "exchange": "x",
        "position_key": f"x:{signal}",
        "action": "open",
        "plan": '{"intent": 1}',
        "notional": 100,
    }
    names = ("quote", "max_positions", "max_exposure", "max_loss", "max_rate")
    limits = {name.removeprefix("max_"): fields.pop(name) for name in names if name in fields}
    whole |= fields
    if whole["action"] == "open" and not whole.get("only_look"):
        whole.setdefault("limits", limit_rows(**({"positions": 3} | limits)))
    return AdmitItem(**whole)


def outcome(delivery: Delivery, signal: str = "s-1", **fields: Any) -> CommitItem:
    """An end of ``delivery`` that wrote one event and reserved nothing."""
    record: dict[str, Any] = {"state": "FAILED", "outcome": "{}"}
    record |= {name: fields.pop(name) for name in RecordEnd.__struct_fields__ if name in fields}
    whole: dict[str, Any] = {
        "entry": delivery.entry_id,
        "token": delivery.token,
        "signal": signal,
        "digest": f"digest of {signal}",
        "record": RecordEnd(**record),
        "events": (("orders", "OrderFailed", f"{signal}-failed", "{}"),),
    }
    return CommitItem(**(whole | fields))


def filled(delivery: Delivery, signal: str = "s-1", **fields: Any) -> CommitItem:
    """An entry that was admitted as :func:`admission` says and has become a position."""
    whole: dict[str, Any] = {
        "state": "FILLED",
        "events": (("orders", "OrderFilled", f"{signal}-filled", "{}"),),
        "reservation": "opening",
        "position_key": f"x:{signal}",
        "position": '{"held": 1}',
        "quote": "USDT",
    }
    return outcome(delivery, signal, **(whole | fields))


async def take(ledger: Ledger, room: int = 10) -> list[Delivery]:
    """What one claim brings."""
    return (await ledger.claim(room)).deliveries


async def take_one(ledger: Ledger) -> Delivery:
    """The one entry there is."""
    (delivery,) = await take(ledger)
    return delivery


async def admit_one(ledger: Ledger, item: AdmitItem) -> Admission:
    """Ask for one admission in a call of its own."""
    (answer,) = await ledger.admit([item])
    return answer


async def commit_one(ledger: Ledger, item: CommitItem) -> Committed:
    """Commit one end in a call of its own."""
    (answer,) = await ledger.commit([item])
    return answer


async def admit(ledger: Ledger, delivery: Delivery, signal: str = "s-1", **fields: Any) -> Admitted:
    """Admit an order that must be admitted."""
    answer = await admit_one(ledger, admission(delivery, signal, **fields))
    assert isinstance(answer, Admitted), answer
    return answer


async def commit(ledger: Ledger, item: CommitItem) -> Committed:
    """Commit what must be committed."""
    answer = await commit_one(ledger, item)
    assert answer.status is CommitStatus.COMMITTED, answer
    return answer


async def until(
    check: Callable[[], Awaitable[object]], *, what: str, timeout_s: float = 10.0
) -> None:
    """Ask a server, which can only be asked, until it says so; ``what`` for the failure."""
    try:
        async with asyncio.timeout(timeout_s):
            while not await check():  # noqa: ASYNC110 (another process has no event to await)
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(f"in {timeout_s:g} s it was not so that {what}") from None


class ClusterNode(EmbeddedServer):
    """A server in cluster mode; its bus has its own port, for the usual one may be too high."""

    def __init__(self, directory: Path, *, binary: str | None = None) -> None:
        directory.mkdir()
        self.bus_port = free_port()
        super().__init__(
            binary=binary,
            directory=directory,
            arguments=(
                "--cluster-enabled", "yes",
                "--cluster-port", str(self.bus_port),
                "--cluster-node-timeout", "1000",
                "--cluster-require-full-coverage", "no",
                "--cluster-replica-validity-factor", "0",
                "--repl-diskless-sync-delay", "0",
                "--enable-debug-command", "local",
            ),
        )  # fmt: skip

    async def call(self, *command: object) -> Any:
        """One command on a connection of its own."""
        client: Any = Redis.from_url(self.url, protocol=2)
        try:
            return await client.execute_command(*command)
        finally:
            await client.aclose()

    async def meet(self, other: "ClusterNode") -> None:
        """Introduce another node."""
        await self.call("CLUSTER", "MEET", "127.0.0.1", other.port, other.bus_port)
