"""Everything that is read, or done, from outside a worker: one object for the commands."""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Final, Self

import msgspec

from worker.config.keys import Config
from worker.domain.event import Header, TradingStateChanged, encode, share
from worker.domain.identity import account_key, event_id
from worker.domain.trading_state import TradingState
from worker.ledger import streams
from worker.ledger.access import OUTPUT_STREAMS, Access, StreamEntry
from worker.ledger.calls import Ledger
from worker.ledger.connection import Connections
from worker.ledger.errors import map_exceptions
from worker.ledger.replies import Book, read_book
from worker.ledger.scripts import RedisScripts
from worker.operator.dead_letters import DeadLetters
from worker.operator.decisions import Decisions
from worker.operator.history import History, read_history
from worker.operator.status import Status, read_status
from worker.runtime.clock import Clock, SystemClock, rfc3339, utc

#: How long a command keeps trying a script while Redis cannot serve.
PATIENCE_S: Final = 3.0


class ServerFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What kind of Redis this is."""

    address: str
    product: str
    role: str
    eviction: str
    append_only: bool


class AccountReader:
    """One account as seen from outside a worker; use as ``async with``.

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
        self.dead = DeadLetters(self.access, scripts)
        self.decisions = Decisions(
            self.access,
            scripts,
            clock=self._clock,
            output_length=config.redis.output_max_length,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close every connection."""
        await self._connections.close()

    async def status(self) -> Status:
        """How the account is doing now."""
        lease_ms = int(self._config.worker.lease_seconds * 1000)
        return await read_status(self.access, silent_after_ms=lease_ms)

    async def order(self, signal_id: str) -> History:
        """One signal's story: record, events, dead letters."""
        return await read_history(self.access, signal_id)

    async def positions(self) -> Book:
        """The open positions by ``<exchange>:<symbol>``, and which are being changed."""
        (rows,) = await self.access.ask(("HGETALL", self.access.key("book")))
        with map_exceptions():
            if isinstance(rows, Exception):
                raise rows
        return read_book(rows)

    def tail(self, names: Sequence[str] = OUTPUT_STREAMS, from_id: str = "$") -> streams.Tail:
        """A place in some streams to read on from."""
        return streams.Tail(self.access, names, from_id)

    def follow(
        self, names: Sequence[str] = OUTPUT_STREAMS, from_id: str = "$"
    ) -> AsyncIterator[StreamEntry]:
        """Every entry of some streams after ``from_id``, for ever."""
        return streams.follow(self.access, names, from_id)

    async def submit(self, entries: Sequence[Mapping[str, bytes]]) -> list[str]:
        """Put entries on the signals stream; returns their ids.

        Raises:
            SubmissionError: it failed on the way; says how far it came.
        """
        return await streams.submit(self.access, entries)

    async def trading_state(self) -> TradingState:
        """What the account may do now."""
        (raw,) = await self.access.ask(
            ("HGET", self.access.key("control"), "trading_state"), atomic=False
        )
        with map_exceptions():
            if isinstance(raw, Exception):
                raise raw
        return TradingState.read(raw) if raw is not None else TradingState.ACTIVE

    async def set_trading_state(
        self, state: TradingState, *, reason: str, actor: str
    ) -> TradingState:
        """Change what the account may do, and say so on the system stream.

        Returns:
            What it was before.
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
        """What kind of Redis this is."""
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
