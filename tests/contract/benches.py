"""One account that a test works on: in Redis on a real server, or in memory."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Protocol

from tests.integration.fleets import SIGNALS, Fleet, fleet_on
from worker.assembly.backing import RedisBacking
from worker.domain.trading_state import TradingState
from worker.ledger.access import Access
from worker.ledger.memory.account import MemoryAccount
from worker.ledger.memory.ledger import MemoryLedger
from worker.ledger.memory.operator import MemoryOperator
from worker.ledger.memory.resting import MemoryResting
from worker.ledger.memory.steps import DirectSteps
from worker.ledger.operator_calls import OperatorCalls
from worker.ledger.ports import CorrectionCalls, Ledger, RestingCalls, TradingCalls
from worker.ledger.stored import BookRow, Record, read_book_row
from worker.ledger.turns import PREFIX
from worker.runtime.clock import SystemClock

PLAIN = {"data": json.dumps({"exchange": "x", "symbol": "A/B"})}
#: A time in the past, by which everything has run out.
LONG_AGO_MS = 1


class Bench(Protocol):
    """An account: its workers' ledgers, a producer, and a look at what is kept."""

    def ledger(self, worker: str, **options: Any) -> Ledger:
        """A worker's ledger; the same one for the same name unless options are given."""

    def corrections(self) -> CorrectionCalls:
        """What carries out the corrections that people ask for."""

    def trading(self) -> TradingCalls:
        """What reads and changes the trading state."""

    async def add(self, fields: Mapping[str, str | bytes]) -> str:
        """Put one entry on the signals stream; returns its id."""

    def resting(self) -> RestingCalls:
        """The orders that rest at simulated exchanges."""

    async def expire(self, entry_id: str) -> None:
        """Let the lease of an entry, or of a turn, have run out."""

    async def forget_due(self, key: str) -> None:
        """Lose a position from the agenda, as only a fault could."""

    async def record(self, signal_id: str) -> Record | None:
        """A signal's record."""

    async def rows(self) -> dict[str, BookRow]:
        """The book."""

    async def stream(self, name: str) -> list[dict[bytes, bytes]]:
        """The fields of every entry of a stream."""

    async def ask_for_correction(self, request: str, raw: bytes) -> None:
        """Ask the keeper for a correction."""

    async def set_state(self, state: TradingState) -> None:
        """Set the trading state."""


class RedisBench:
    """An account on a real server."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    def ledger(self, worker: str, **options: Any) -> Ledger:
        return self._fleet.join(worker, **options) if options else self._fleet[worker]

    def _backing(self) -> RedisBacking:
        ledger = self._fleet["people"]
        access = Access(self._fleet.connections[-1], "main")
        return RedisBacking(access, ledger._scripts, ledger, output_length=1_000)

    def corrections(self) -> OperatorCalls:
        return self._backing().corrections

    def trading(self) -> TradingCalls:
        return self._backing().trading

    async def add(self, fields: Mapping[str, str | bytes]) -> str:
        return str((await self._fleet.redis.xadd(SIGNALS, dict(fields))).decode())

    def resting(self) -> RestingCalls:
        return self._backing().resting

    async def expire(self, entry_id: str) -> None:
        leases = "turns" if entry_id.startswith(PREFIX) else "leases"
        await self._fleet.redis.zadd(self._fleet.key(leases), {entry_id: LONG_AGO_MS}, xx=True)

    async def forget_due(self, key: str) -> None:
        await self._fleet.redis.zrem(self._fleet.key("agenda"), key)

    async def record(self, signal_id: str) -> Record | None:
        return await self._fleet.record(signal_id)

    async def rows(self) -> dict[str, BookRow]:
        raw = await self._fleet.redis.hgetall(self._fleet.key("book"))
        return {key.decode(): read_book_row(value) for key, value in raw.items()}

    async def stream(self, name: str) -> list[dict[bytes, bytes]]:
        return await self._fleet.stream(name)

    async def ask_for_correction(self, request: str, raw: bytes) -> None:
        await self._fleet.redis.hset(self._fleet.key("corrections"), request, raw)

    async def set_state(self, state: TradingState) -> None:
        await self._fleet.redis.hset(self._fleet.key("control"), "trading_state", state.value)


class MemoryBench:
    """An account in this process."""

    def __init__(self) -> None:
        self.account = MemoryAccount()
        self._ledgers: dict[str, Ledger] = {}
        self._operator = MemoryOperator(self.account, DirectSteps(self.account, SystemClock()))

    def ledger(self, worker: str, **options: Any) -> Ledger:
        if worker not in self._ledgers or options:
            made = MemoryLedger(self.account, clock=SystemClock(), worker=worker, **options)
            self._ledgers[worker] = made
        return self._ledgers[worker]

    def corrections(self) -> CorrectionCalls:
        return self._operator

    def trading(self) -> TradingCalls:
        return self._operator

    async def add(self, fields: Mapping[str, str | bytes]) -> str:
        await asyncio.sleep(0)
        encoded = {
            name: value.encode() if isinstance(value, str) else value
            for name, value in fields.items()
        }
        return self.account.add(encoded)

    def resting(self) -> RestingCalls:
        return MemoryResting(self.account, DirectSteps(self.account, SystemClock()))

    async def expire(self, entry_id: str) -> None:
        if (turn := self.account.agenda.turns.get(entry_id)) is not None:
            turn.until_ms = LONG_AGO_MS
        if entry_id in self.account.queue.leases:
            self.account.queue.leases[entry_id] = LONG_AGO_MS

    async def forget_due(self, key: str) -> None:
        del self.account.agenda.due[key]

    async def record(self, signal_id: str) -> Record | None:
        return self.account.records.stored(signal_id, self.account.now_ms())

    async def rows(self) -> dict[str, BookRow]:
        return dict(self.account.book.rows)

    async def stream(self, name: str) -> list[dict[bytes, bytes]]:
        return [dict(row.fields) for row in self.account.stream(name).rows()]

    async def ask_for_correction(self, request: str, raw: bytes) -> None:
        self.account.corrections.asked[request] = raw

    async def set_state(self, state: TradingState) -> None:
        self.account.set_trading_state(state, reason="", actor="")


@asynccontextmanager
async def redis_bench(url: str) -> AsyncIterator[RedisBench]:
    """A bench on a real server."""
    async with fleet_on(url) as fleet:
        yield RedisBench(fleet)


async def send(bench: Bench, *groups: str, **fields: str | bytes) -> list[str]:
    """Put an entry of each group on the signals stream; returns their ids."""
    return [await bench.add(PLAIN | {"key": group} | fields) for group in groups]
