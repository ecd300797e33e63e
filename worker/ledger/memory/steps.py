"""Runs the steps of a memory account for one worker."""

import asyncio
from collections.abc import Callable
from typing import Protocol, TypeVar

from worker.ledger.access import split_id
from worker.ledger.errors import LedgerUnavailableError
from worker.ledger.memory.account import MemoryAccount
from worker.ledger.memory.stream import text_of_order
from worker.ledger.scripts import Doorbell
from worker.runtime.cancellation import cancel_all
from worker.runtime.clock import Clock

T = TypeVar("T")


class Steps(Protocol):
    """Runs steps: at once, or as a simulation lets them get lost.

    A step is called with no arguments and never waits. It has a name: that of the script it does
    the work of.
    """

    #: How many answers were lost, so that a step may have run without this side knowing.
    lost_replies: int

    async def run(self, name: str, step: Callable[[], T]) -> T:
        """Run one step; repeated where its answer was lost."""

    async def run_after(
        self, doorbell: Doorbell, name: str, step: Callable[[], T]
    ) -> tuple[T, bytes]:
        """Wait for the doorbell, then run one step; return its answer and the bell's last id."""

    def hang_up(self) -> None:
        """End the wait for the doorbell, if there is one."""


class DirectSteps:
    """Steps that run at once and always answer.

    Args:
        account: where they run.
        clock: measures the wait for the doorbell.
    """

    def __init__(self, account: MemoryAccount, clock: Clock) -> None:
        self._account = account
        self._clock = clock
        self.lost_replies = 0
        self._hung_up: asyncio.Event | None = None

    async def run(self, _name: str, step: Callable[[], T]) -> T:
        """Run one step."""
        return step()

    async def run_after(
        self, doorbell: Doorbell, _name: str, step: Callable[[], T]
    ) -> tuple[T, bytes]:
        """Wait for the doorbell, then run one step.

        Raises:
            LedgerUnavailableError: this side has hung up; the step did not run.
        """
        self._hung_up = asyncio.Event()
        try:
            await self._wait(doorbell, self._hung_up)
            if self._hung_up.is_set():
                raise LedgerUnavailableError("the wait was ended", kind="connection")
        finally:
            self._hung_up = None
        bell = text_of_order(self._account.bell.last).encode()
        return step(), bell

    def hang_up(self) -> None:
        """End the wait."""
        if self._hung_up is not None:
            self._hung_up.set()
            self._account.bell.wake()

    async def _wait(self, doorbell: Doorbell, hung_up: asyncio.Event) -> None:
        """Wait until there is news, the time is up, or this side hangs up."""
        news = self._account.bell.listen()
        time = asyncio.ensure_future(self._clock.sleep(doorbell.timeout_ms / 1000))
        try:
            while not (self._rings(doorbell) or hung_up.is_set() or time.done()):
                news.clear()
                woken = asyncio.ensure_future(news.wait())
                try:
                    await asyncio.wait({woken, time}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    woken.cancel()
        finally:
            self._account.bell.forget(news)
            await cancel_all([time])

    def _rings(self, doorbell: Doorbell) -> bool:
        """Return whether there is a signal after the tail, or the bell has rung."""
        account = self._account
        return account.queue.signals.last > split_id(
            doorbell.tail.decode()
        ) or account.bell.last > split_id(doorbell.bell.decode())
