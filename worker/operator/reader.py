"""One account as operators reach it: everything commands read and do, behind one object."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Final, Self

import msgspec

from worker.config.keys import Config
from worker.domain.identity import account_key
from worker.ledger import streams
from worker.ledger.access import OUTPUT_STREAMS, Access, StreamEntry
from worker.ledger.connection import Connections
from worker.ledger.conversion import format_problem
from worker.ledger.inspection import (
    Snapshot,
    read_positions,
    read_seat_holder,
    read_snapshot,
)
from worker.ledger.operator_calls import OperatorCalls
from worker.ledger.published import read_ahead
from worker.ledger.replies import Book
from worker.ledger.scripts import RedisScripts
from worker.ledger.trading_calls import RedisTrading
from worker.operator.dead_letters import DeadLetters
from worker.operator.decisions import Decisions
from worker.operator.finding import Found, find_signals
from worker.operator.history import History, read_history
from worker.operator.journal import Journal
from worker.operator.last_refusals import with_last_refusals
from worker.operator.limits import Limit
from worker.operator.mending import StreamMending
from worker.operator.pnl import Balances, Pnl, balances_of, pnl_of
from worker.operator.recent import OrderRow, SignalRow, live_orders, recent_orders, recent_signals
from worker.operator.status import Status, read_mode, read_status, status_of
from worker.operator.trading import Trading
from worker.runtime.clock import Clock, SystemClock

#: How long a script is repeated while Redis cannot serve, seconds.
PATIENCE_S: Final = 3.0


class ServerFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A Redis server: its product and version, role, and the settings that matter here."""

    address: str
    product: str
    role: str
    eviction: str
    append_only: bool


class AccountReader:
    """One account, read and acted on from outside a worker; use as ``async with``.

    Every method raises :class:`~worker.ledger.errors.LedgerError` when Redis cannot be asked.

    Args:
        config: the ``redis`` section, ``account`` and ``worker.lease_seconds`` are read.
        name: shown in ``CLIENT LIST``.
        clock: this machine's time.

    Raises:
        ConfigError: the address cannot be read, or is ``embedded``.
    """

    def __init__(self, config: Config, *, name: str = "cli", clock: Clock | None = None) -> None:
        self._config = config
        self._clock = clock or SystemClock()
        signals = account_key(config.account, "signals")
        self._connections = Connections(
            config.redis, key=signals, name=f"execution-worker-{name}", timeout_s=5.0
        )
        self.access = Access(self._connections, config.account)
        scripts = RedisScripts(self._connections, signals=signals, patience_s=PATIENCE_S)
        calls = OperatorCalls(scripts, output_length=config.redis.output_max_length)
        self.dead = DeadLetters(self.access, calls)
        self.decisions = Decisions(self.access, calls, clock=self._clock)
        self.mending = StreamMending(calls, clock=self._clock, account=config.account)
        self.journal = Journal(self.access, clock=self._clock)
        self.trading = Trading(
            RedisTrading(self.access, calls),
            clock=self._clock,
            silent_after_ms=int(config.worker.lease_seconds * 1000),
        )

    async def key_holder(self, key_digest: str) -> str:
        """Return the worker that holds the only seat at an API key; empty if nobody does."""
        return await read_seat_holder(self.access, key_digest)

    async def format_problem(self) -> str:
        """Return why a worker of this version could not start on the account; empty if it could."""
        return await format_problem(self.access, int(self._config.worker.lease_seconds * 1000))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close every connection."""
        await self._connections.close()

    async def status(self) -> Status:
        """Read the account's status."""
        return await read_status(self.access, self._config)

    async def mode(self) -> str:
        """Read whether the account is ``paper``, ``live`` or ``mixed``."""
        return await read_mode(self.access, self._config)

    def status_of(self, snapshot: Snapshot) -> Status:
        """Return the status that a snapshot shows."""
        return status_of(self.access.account, snapshot, self._config)

    async def order(self, signal_id: str) -> History:
        """Read one signal's history: record, events, dead letters."""
        return await read_history(self.access, signal_id)

    async def find(self, identity: str) -> Found:
        """Find the signals that an id of any kind belongs to."""
        return await find_signals(self.access, identity)

    async def positions(self) -> Book:
        """Read the open positions by position key, and the keys a signal is changing now."""
        return await read_positions(self.access)

    async def snapshot(self) -> Snapshot:
        """Read the account as the ledger has it."""
        return await read_snapshot(self.access)

    async def limits(self) -> tuple[Status, tuple[Limit, ...]]:
        """Read the account's status, and its limits with the last order that each refused."""
        status = await self.status()
        return status, await with_last_refusals(self.access, status.limits)

    async def pnl(self) -> Pnl:
        """Read the account's profit, realised and not."""
        return pnl_of(await self.snapshot(), await self.positions())

    async def balances(self) -> Balances:
        """Read what the wallets hold, as the keeper last saw them."""
        return balances_of(await self.snapshot())

    async def signals(self, count: int, *, wanted: Callable[[SignalRow], bool]) -> list[SignalRow]:
        """Read the newest ``count`` signals that are ``wanted``."""
        return await recent_signals(self.access, count, wanted=wanted)

    async def orders(
        self, count: int, *, live: bool, wanted: Callable[[OrderRow], bool]
    ) -> list[OrderRow]:
        """Read the newest orders that are ``wanted``; with ``live`` those that may be open now."""
        if live:
            return (await live_orders(self.access, wanted=wanted))[:count]
        return await recent_orders(self.access, count, wanted=wanted)

    def tail(self, names: Sequence[str] = OUTPUT_STREAMS, from_id: str = "$") -> streams.Tail:
        """Return a reader of some streams that starts after ``from_id``."""
        return streams.Tail(self.access, names, from_id)

    def follow(
        self, names: Sequence[str] = OUTPUT_STREAMS, from_id: str = "$"
    ) -> AsyncIterator[StreamEntry]:
        """Yield every entry of some streams after ``from_id``, for ever."""
        return streams.follow(self.access, names, from_id)

    async def submit(self, entries: Sequence[Mapping[str, bytes]]) -> list[str]:
        """Put entries on the signals stream; returns their ids.

        Raises:
            SubmissionError: some or all could not be put; has the ids of those that were.
        """
        return await streams.submit(self.access, entries)

    async def streams_ahead(self) -> dict[str, int]:
        """Read by how many milliseconds the last id of each stream is ahead of Redis's clock."""
        return await read_ahead(self.access)

    async def server(self) -> ServerFacts:
        """Read the server's product, role and settings."""
        async with self.access.client() as client:
            info = await client.info()
        product = info.get("server_name") or "redis"
        version = info.get(f"{product}_version") or info["redis_version"]
        return ServerFacts(
            address=self._connections.address,
            product=f"{product} {version}",
            role=str(info.get("role", "")),
            eviction=str(info.get("maxmemory_policy", "")),
            append_only=bool(info.get("aof_enabled", 0)),
        )
