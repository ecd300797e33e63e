"""The ledger's scripts as one worker calls them: its real retries, over a network that fails."""

import asyncio
from collections.abc import Callable
from typing import Any, Final, TypeVar, cast

from tests.simulation.faults import Call
from tests.simulation.loop import Process, VirtualLoop
from tests.simulation.network import Broken, Network
from tests.simulation.redis_account import SIGNALS, RedisAccount
from worker.ledger.connection import Connections
from worker.ledger.errors import LedgerUnavailableError
from worker.ledger.scripts import Argument, Doorbell, RedisScripts

T = TypeVar("T")

TYPICAL_S: Final = 0.001


class SimulatedScripts(RedisScripts):
    """The real class with its connections replaced by the simulated network.

    Args:
        account: the server's side.
        network: the way there.
        loop: time.
        process: the worker's.
        patience_s: as the real one's.
        detailed: whether calls are described to the faults, for scenarios that choose by content.
    """

    def __init__(
        self,
        *,
        account: RedisAccount,
        network: Network,
        loop: VirtualLoop,
        process: Process,
        patience_s: float,
        bell: "Bell",
        detailed: bool,
    ) -> None:
        super().__init__(cast("Connections", None), signals=SIGNALS, patience_s=patience_s)
        self._account = account
        self._network = network
        self._loop = loop
        self._process = process
        self._waiters = bell
        self._detailed = detailed

    async def _over_network(self, name: str, execute: Callable[[], T], subject: str = "") -> T:
        call = Call(place="redis", name=name, worker=self._process.name, subject=subject)
        try:
            return await self._network.call(self._process, call, execute, typical_s=TYPICAL_S)
        except Broken as broken:
            raise LedgerUnavailableError(str(broken), kind="connection") from None

    async def _once(self, name: str, arguments: tuple[Argument, ...]) -> Any:
        subject = _describe(arguments) if self._detailed else ""
        return await self._over_network(name, lambda: self._account.run(name, arguments), subject)

    async def _after(
        self, doorbell: Doorbell, name: str, arguments: tuple[Argument, ...]
    ) -> tuple[Any, bytes, float]:
        # Two trips, so that whatever can happen to one script can happen to this one.
        rung: asyncio.Future[bytes] = self._loop.create_future()
        await self._over_network("wait", lambda: self._waiters.listen(rung, *doorbell))
        bell = await rung
        return await self._once(name, arguments), bell, 0.0

    async def ensure_group(self) -> None:
        """Create the group where it is missing."""
        await self._over_network("ensure_group", self._account.ensure_group)


class Bell:
    """Blocking reads: who waits for the signals stream or the bell.

    Args:
        account: asked where they stand when somebody begins to wait.
        loop: time.
    """

    def __init__(self, account: RedisAccount, loop: VirtualLoop) -> None:
        self._account = account
        self._loop = loop
        self._waiting: list[tuple[asyncio.Future[bytes], bytes, bytes]] = []
        self._last: tuple[bytes, bytes] | None = None

    def listen(
        self, rung: "asyncio.Future[bytes]", tail: bytes, bell: bytes, timeout_ms: int
    ) -> None:
        """Answer ``rung`` with the bell's last id once there is something, or the time is up."""
        self._waiting.append((rung, tail, bell))
        self._loop.outside(timeout_ms / 1000, self._give_up, rung, bell)
        self.look(*(self._last or self._account.tails()))

    def look(self, tail: bytes, bell: bytes) -> None:
        """The streams stand there now: answer whoever waited for that."""
        self._last = tail, bell
        kept = []
        for rung, from_tail, from_bell in self._waiting:
            if rung.done():
                continue
            if _number(tail) > _number(from_tail) or _number(bell) > _number(from_bell):
                rung.set_result(bell)
            else:
                kept.append((rung, from_tail, from_bell))
        self._waiting = kept

    def forget(self) -> None:
        """The streams were replaced."""
        self._last = None

    @staticmethod
    def _give_up(rung: "asyncio.Future[bytes]", bell: bytes) -> None:
        if not rung.done():
            rung.set_result(bell)


def _number(stream_id: bytes) -> tuple[int, int]:
    ms, _, sequence = stream_id.partition(b"-")
    return int(ms), int(sequence or 0)


def _describe(arguments: tuple[Argument, ...]) -> str:
    return " ".join(
        part.decode(errors="replace") if isinstance(part, bytes) else str(part)
        for part in arguments
    )
