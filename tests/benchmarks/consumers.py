"""Further members of the consumer group, as a fleet has them, that take no work from the measured.

``python -m tests.benchmarks.consumers COUNT URL``: each holds one entry whose lease it renews,
keeps a doorbell (a blocked ``XREAD`` at the stream's end) and asks for nothing whenever it rings,
through the worker's own ledger. So the group's size, leases, heartbeats and wake-ups are those of a
fleet.
"""

import asyncio
import sys
from typing import Final

import uvloop

from tests.benchmarks.signals import SIGNALS
from tests.benchmarks.wire import Wire
from worker.config.keys import RedisConfig, Secret
from worker.ledger.calls import RedisLedger
from worker.ledger.connection import Connections
from worker.ledger.scripts import RedisScripts
from worker.runtime.clock import SystemClock

_LEASE_MS: Final = 15_000
_WAIT_MS: Final = 500


class _Member:
    """One consumer."""

    def __init__(self, number: int, url: str) -> None:
        name = f"fleet-{number}"
        connections = Connections(
            RedisConfig(url=Secret(url)), key=SIGNALS, name=name, timeout_s=5.0
        )
        scripts = RedisScripts(connections, signals=SIGNALS)
        self._connections = connections
        self._ledger = RedisLedger(scripts, clock=SystemClock(), worker=name, lease_ms=_LEASE_MS)
        self._held: list[tuple[str, int]] = []

    async def join(self) -> None:
        """Take one entry, for good."""
        claim = await self._ledger.claim(1)
        self._held = [(delivery.entry_id, delivery.token) for delivery in claim.deliveries]
        await self._beat()

    async def run(self) -> None:
        """Renew, and wake up with everybody else."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._beat_for_ever())
            group.create_task(self._listen())

    async def _beat(self) -> None:
        await self._ledger.heartbeat(self._held, b"{}")

    async def _beat_for_ever(self) -> None:
        while True:
            await asyncio.sleep(_LEASE_MS / 3_000)
            await self._beat()

    async def _listen(self) -> None:
        commands = await self._connections.commands()
        while True:
            # A claim that takes nothing is told of no end to wait at.
            stream = await commands.xinfo_stream(SIGNALS)
            end = stream["last-generated-id"]
            await self._ledger.claim(0, after=end, wait_ms=_WAIT_MS)


async def _main(count: int, url: str) -> None:
    members = [_Member(number, url) for number in range(count)]
    for member in members:
        await member.join()
    with Wire(int(url.rpartition(":")[2].partition("/")[0])) as wire:
        wire.call("SET", "bare:ready", 1)
    async with asyncio.TaskGroup() as group:
        for member in members:
            group.create_task(member.run())


if __name__ == "__main__":
    uvloop.run(_main(int(sys.argv[1]), sys.argv[2]))
