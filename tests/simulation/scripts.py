"""The ledger's scripts as one worker calls them: its real retries, over a network that fails."""

import asyncio
from collections.abc import Callable
from typing import Any, Final, TypeVar, cast

from tests.simulation.faults import Call
from tests.simulation.loop import Process, VirtualLoop
from tests.simulation.network import Broken, Network
from tests.simulation.redis_account import SIGNALS
from tests.simulation.steps import SimulatedAccount
from worker.ledger.connection import Connections
from worker.ledger.errors import LedgerUnavailableError
from worker.ledger.scripts import Doorbell, RedisScripts
from worker.ledger.wire import Argument
from worker.runtime.clock import Clock, Random

T = TypeVar("T")

TYPICAL_S: Final = 0.001


class SimulatedScripts(RedisScripts):
    """The real class with its connections replaced by the simulated network.

    Args:
        account: the server's side.
        network: the way there.
        loop: time.
        process: the worker's.
        patience_s: as the real one's; so are the next two.
        detailed: whether calls are described to the faults, for scenarios that choose by content.
    """

    def __init__(
        self,
        *,
        account: SimulatedAccount,
        network: Network,
        loop: VirtualLoop,
        process: Process,
        patience_s: float,
        clock: Clock,
        random: Random,
        bell: "Bell",
        detailed: bool,
    ) -> None:
        super().__init__(
            cast("Connections", None),
            signals=SIGNALS,
            patience_s=patience_s,
            clock=clock,
            random=random,
        )
        self._account = account
        self._network = network
        self._loop = loop
        self._process = process
        self._waiters = bell
        self._detailed = detailed
        self._waiter: tuple[Waiter, asyncio.Future[tuple[Any, bytes]]] | None = None

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
    ) -> tuple[Any, bytes]:
        # The script runs on the server, whatever becomes of the process while it waits there.
        answer: asyncio.Future[tuple[Any, bytes]] = self._loop.create_future()
        waiter = Waiter(
            doorbell.tail, doorbell.bell, lambda bell: self._ring(name, arguments, bell, answer)
        )
        self._waiter = waiter, answer
        subject = _describe(arguments) if self._detailed else ""
        try:
            await self._over_network(
                name, lambda: self._waiters.listen(waiter, doorbell.timeout_ms), subject
            )
            return await answer
        finally:
            self._waiter = None

    def _ring(
        self,
        name: str,
        arguments: tuple[Argument, ...],
        bell: bytes,
        answer: "asyncio.Future[tuple[Any, bytes]]",
    ) -> None:
        if not self._process.is_alive:
            return  # its connection is closed
        try:
            reply = self._account.run(name, arguments)
        except Exception as error:
            self._loop.outside(TYPICAL_S, _fail, answer, error)
        else:
            self._loop.outside(TYPICAL_S, _answer, answer, (reply, bell))

    def hang_up(self) -> None:
        """Close the waiting connection: the server hears of it a moment later."""
        if self._waiter is not None:
            waiter, answer = self._waiter
            self._loop.outside(TYPICAL_S, waiter.drop)
            _fail(answer, LedgerUnavailableError("hung up", kind="connection"))

    async def ensure_group(self) -> None:
        """Create the group where it is missing."""
        await self._over_network("ensure_group", self._account.ensure_group)


class Waiter:
    """A blocked connection: after what it waits, and what happens where the bell rings, once."""

    def __init__(self, tail: bytes, bell: bytes, ring: Callable[[bytes], None]) -> None:
        self.tail = tail
        self.bell = bell
        self.waits = True
        self._ring = ring

    def ring(self, bell: bytes) -> None:
        """There is news, or the time is up."""
        if self.waits:
            self.waits = False
            self._ring(bell)

    def drop(self) -> None:
        """The connection is closed."""
        self.waits = False


class Bell:
    """Blocking reads: who waits for the signals stream or the bell.

    Args:
        account: asked where they stand when somebody begins to wait.
        loop: time.
    """

    def __init__(self, account: SimulatedAccount, loop: VirtualLoop) -> None:
        self._account = account
        self._loop = loop
        self._waiting: list[Waiter] = []
        self._last: tuple[bytes, bytes] | None = None

    def listen(self, waiter: Waiter, timeout_ms: int) -> None:
        """Ring with the bell's last id once there is something, or the time is up."""
        self._waiting.append(waiter)
        self._loop.outside(timeout_ms / 1000, waiter.ring, waiter.bell)
        self.look(*(self._last or self._account.tails()))

    def look(self, tail: bytes, bell: bytes) -> None:
        """The streams stand there now: answer whoever waited for that."""
        self._last = tail, bell
        self._waiting = [waiter for waiter in self._waiting if waiter.waits]
        for waiter in self._waiting:
            if _number(tail) > _number(waiter.tail) or _number(bell) > _number(waiter.bell):
                # As Redis does: when the command that rings has ended.
                self._loop.outside(0.0, waiter.ring, bell)

    def forget(self) -> None:
        """The streams were replaced."""
        self._last = None


def _fail(answer: "asyncio.Future[Any]", error: Exception) -> None:
    if not answer.done():
        answer.set_exception(error)
        answer.exception()  # a process that has died meanwhile does not fetch it


def _answer(answer: "asyncio.Future[T]", reply: T) -> None:
    if not answer.done():
        answer.set_result(reply)


def _number(stream_id: bytes) -> tuple[int, int]:
    ms, _, sequence = stream_id.partition(b"-")
    return int(ms), int(sequence or 0)


def _describe(arguments: tuple[Argument, ...]) -> str:
    return " ".join(
        part.decode(errors="replace") if isinstance(part, bytes) else str(part)
        for part in arguments
    )
