"""One account as operators reach it: everything commands read and do, behind one object."""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Final, Self

import msgspec

from worker.config.keys import Config
from worker.domain.event import Header, TradingStateChanged
from worker.domain.event_text import encode, share
from worker.domain.identity import account_key, event_id
from worker.domain.trading_state import TradingState
from worker.ledger import streams
from worker.ledger.access import OUTPUT_STREAMS, Access, StreamEntry
from worker.ledger.calls import Ledger
from worker.ledger.connection import Connections
from worker.ledger.inspection import read_positions, read_trading_state
from worker.ledger.operator_calls import OperatorCalls
from worker.ledger.replies import Book
from worker.ledger.scripts import RedisScripts
from worker.operator.dead_letters import DeadLetters
from worker.operator.decisions import Decisions
from worker.operator.history import History, read_history
from worker.operator.status import Status, read_status
from worker.runtime.clock import Clock, SystemClock, rfc3339, utc

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
        self._ledger = Ledger(
            scripts,
            clock=self._clock,
            worker="",
            output_length=config.redis.output_max_length,
        )
        calls = OperatorCalls(scripts, output_length=config.redis.output_max_length)
        self.dead = DeadLetters(self.access, calls)
        self.decisions = Decisions(self.access, calls, clock=self._clock)

    async def key_holder(self, exchange: str, key_digest: str, seats: int) -> str:
        """Return who holds a seat at an API key if all ``seats`` are taken; empty otherwise."""
        seat = await self._ledger.take_seat(exchange, key_digest, seats, 0)
        return seat.holder if seats == 1 else ""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close every connection."""
        await self._connections.close()

    async def status(self) -> Status:
        """Read the account's status."""
        lease_ms = int(self._config.worker.lease_seconds * 1000)
        return await read_status(self.access, silent_after_ms=lease_ms)

    async def order(self, signal_id: str) -> History:
        """Read one signal's history: record, events, dead letters."""
        return await read_history(self.access, signal_id)

    async def positions(self) -> Book:
        """Read the open positions by position key, and the keys a signal is changing now."""
        return await read_positions(self.access)

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

    async def trading_state(self) -> TradingState:
        """Read the account's trading state."""
        return await read_trading_state(self.access)

    async def set_trading_state(
        self, state: TradingState, *, reason: str, actor: str
    ) -> TradingState:
        """Set the account's trading state, with an event on the stream ``system``.

        Returns:
            The state before.
        """
        previous = await self.trading_state()
        now_ms = self._clock.now_ms()
        account = self._config.account
        header = Header(
            occurred_at=utc(now_ms),
            account=account,
            exchange="",
            symbol="",
            signal_id="",
            strategy_id=None,
            worker="",
        )
        event = TradingStateChanged(
            trading_state=state.value, previous=previous.value, reason=reason, actor=actor
        )
        identity = event_id(f"{account}-{now_ms}", state.value.lower())
        _, _, _, data = encode(event, identity, share(header))
        return await self._ledger.set_trading_state(
            state, reason=reason, actor=actor, at=rfc3339(now_ms), event=(identity, data.encode())
        )

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
