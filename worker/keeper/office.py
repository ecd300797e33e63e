"""The keeper's office: standing for election, running the duties of a term, and resigning.

Every worker runs this; a lease in Redis makes one of them the account's keeper. No signal needs a
keeper for its execution, so a term without one only delays the duties. A worker becomes ready only
after a keeper has compared the books (``worker.keeper.readiness``).
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from worker.keeper.duty import Duty
from worker.keeper.readiness import Readiness
from worker.ledger.errors import LedgerError
from worker.ledger.ports import Ledger
from worker.ledger.replies import Election
from worker.observe.metrics import Metrics
from worker.runtime.cancellation import cancel_all
from worker.runtime.clock import Clock
from worker.runtime.logger import get_logger

log = get_logger()

TERM_MS: Final = 15_000
TURN_EVERY_S: Final = 1.0


class DrainState(Protocol):
    """A worker that may be asked to stop: the engine."""

    @property
    def draining(self) -> bool:
        """Return whether the worker was asked to stop."""

    async def stopping(self) -> None:
        """Wait until the worker is asked to stop."""


class Keeper:
    """A worker's candidacy for the account's one keeper; every worker has one.

    Args:
        ledger: holds the election.
        duties: run in this order in every turn in which they are due.
        readiness: sends the note with each election and reads the reply's.
        drain: ends the candidacy.
        metrics: shows whether this worker is the keeper.
        clock: times terms, turns and intervals.
        stands: whether this worker is a candidate now; one that is not leaves the office to others.
    """

    def __init__(
        self,
        *,
        ledger: Ledger,
        duties: Sequence[Duty],
        readiness: Readiness,
        drain: DrainState,
        metrics: Metrics,
        clock: Clock,
        stands: Callable[[], bool] = lambda: True,
    ) -> None:
        self._ledger = ledger
        self._duties = duties
        self._readiness = readiness
        self._drain = drain
        self._metrics = metrics
        self._clock = clock
        self._stands = stands
        self._elected_mono_ms = float("-inf")
        self._is_in_term = False
        #: When each duty was last started, by name.
        self._started_mono_ms: dict[str, float] = {}
        #: Runs of duties in the background, by name.
        self._running: dict[str, asyncio.Task[None]] = {}
        self.is_keeper = False

    async def run(self) -> None:
        """Stand for election and do the keeper's duties until the worker drains; then resign."""
        stopping = asyncio.create_task(self._drain.stopping())
        try:
            while not self._drain.draining:
                try:
                    await self._turn()
                except LedgerError as error:
                    self._set_keeper(elected=False)
                    log.warning("keeper_interrupted", error=str(error))
                await self._pause(stopping)
        finally:
            await cancel_all([stopping, *self._running.values()])
        await self._resign()

    async def _turn(self) -> None:
        election = await self._stand()
        self._readiness.record(election)
        if not election.elected or self._drain.draining:
            return
        for duty in self._duties:
            await self._do(duty)

    async def _pause(self, stopping: "asyncio.Task[None]") -> None:
        """Wait a second, or until the worker is to stop or a run in the background has ended."""
        tick = asyncio.create_task(self._clock.sleep(TURN_EVERY_S))
        try:
            await asyncio.wait(
                {tick, stopping, *self._running.values()}, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            tick.cancel()
        for name, run in list(self._running.items()):
            if run.done():
                del self._running[name]
                run.result()

    # -- the office ----------------------------------------------------------------------------

    async def _stand(self) -> Election:
        """Become or remain the keeper; a term that ran out unnoticed is over."""
        asked_mono_ms = self._clock.monotonic_ms()
        if asked_mono_ms - self._elected_mono_ms >= TERM_MS:
            self._set_term(begun=False)
        term_ms = TERM_MS if self._stands() else 0
        election = await self._ledger.elect(term_ms, self._readiness.note())
        if election.elected:
            self._elected_mono_ms = asked_mono_ms
        self._set_term(begun=election.elected)
        self._set_keeper(elected=election.elected)
        return election

    async def _resign(self) -> None:
        """Give the office up: the next candidate is elected without waiting for the term's end."""
        self._set_keeper(elected=False)
        try:
            await self._ledger.resign()
        except LedgerError as error:
            log.warning("resignation_failed", error=str(error))

    def _set_term(self, *, begun: bool) -> None:
        if begun is self._is_in_term:
            return
        self._is_in_term = begun
        for duty in self._duties:
            if begun:
                duty.begin_term()
            else:
                duty.end_term()

    def _set_keeper(self, *, elected: bool) -> None:
        if elected is not self.is_keeper:
            log.info("keeper_elected" if elected else "keeper_resigned")
        self.is_keeper = elected
        self._metrics.keeper(elected=elected)

    # -- duties --------------------------------------------------------------------------------

    async def _do(self, duty: Duty) -> None:
        """Run a duty, or start its run in the background, if it is due."""
        now_mono_ms = self._clock.monotonic_ms()
        elapsed_ms = now_mono_ms - self._started_mono_ms.get(duty.name, float("-inf"))
        if duty.name in self._running or not duty.is_due(elapsed_ms):
            return
        self._started_mono_ms[duty.name] = now_mono_ms
        if duty.in_background:
            self._running[duty.name] = asyncio.create_task(duty.run())
        else:
            await duty.run()
