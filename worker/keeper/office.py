"""The account's one keeper: unresolved orders, housekeeping, and comparing the books.

Every worker runs this; a lease in Redis makes one of them the keeper. Nothing here is needed for a
signal to be executed, so losing the keeper for a term costs nothing but time. A worker is ready
only once a keeper has compared the books.
"""

import asyncio
from collections.abc import Collection, Iterable, Mapping
from typing import Final, Protocol

from worker.exchanges.ports import ExchangeAdapter
from worker.keeper.duties.compare import Comparison
from worker.ledger.calls import Ledger
from worker.ledger.errors import LedgerError
from worker.ledger.replies import Delivery, Election
from worker.observe.health import Health
from worker.observe.metrics import Metrics
from worker.runtime.cancellation import cancel_all
from worker.runtime.clock import Clock
from worker.runtime.logger import get_logger

log = get_logger()

TERM_MS: Final = 15_000
TURN_EVERY_S: Final = 1.0
SWEEP_EVERY_MS: Final = 60_000
#: Unresolved orders looked up at the same time.
MAX_ADOPTED: Final = 8
#: The check of ``/readyz`` this decides.
CHECK: Final = "reconciliation"
#: What a keeper lets the others know once it has compared the books in its term of office.
DONE: Final = "done"
#: More of why it has not is cut off.
MAX_SAID: Final = 300


class Hands(Protocol):
    """What works on deliveries, and is told when to stop: the engine."""

    @property
    def draining(self) -> bool:
        """Whether stopping was asked for."""

    def take(self, deliveries: Iterable[Delivery]) -> None:
        """Start work on granted entries."""

    async def stopping(self) -> None:
        """Wait until stopping was asked for."""


class Keeper:
    """Elected by a lease.

    Args:
        ledger: the account.
        exchanges: names of all the worker has.
        adapters: those that have started, by name; more may come.
        hands: the engine.
        metrics: for the account's gauges, which only the keeper shows.
        health: told once the books have been compared.
        clock: time.
        account: named in events.
        signal_retention_ms: how long acknowledged signals stay on their stream.
    """

    def __init__(
        self,
        *,
        ledger: Ledger,
        exchanges: Collection[str],
        adapters: Mapping[str, ExchangeAdapter],
        hands: Hands,
        metrics: Metrics,
        health: Health,
        clock: Clock,
        account: str,
        signal_retention_ms: int,
    ) -> None:
        self._ledger = ledger
        self._exchanges = exchanges
        self._adapters = adapters
        self._hands = hands
        self._metrics = metrics
        self._health = health
        self._clock = clock
        self._account = account
        self._signal_retention_ms = signal_retention_ms
        self._swept_mono_ms = float("-inf")
        self._elected_mono_ms = float("-inf")
        #: Of this term of office; None without one.
        self._comparison: Comparison | None = None
        self._comparing: asyncio.Task[None] | None = None
        self._is_reconciled = False
        self.is_keeper = False

    async def run(self) -> None:
        """Stand for election and do the keeper's duties until the worker drains; then resign."""
        stopping = asyncio.create_task(self._hands.stopping())
        try:
            while not self._hands.draining:
                try:
                    await self._turn()
                except LedgerError as error:
                    self._set_keeper(elected=False)
                    log.warning("keeper_interrupted", error=str(error))
                await self._pause(stopping)
        finally:
            await cancel_all([task for task in (stopping, self._comparing) if task is not None])
        await self._resign()

    async def _pause(self, stopping: "asyncio.Task[None]") -> None:
        """Until the next turn: a second, or until stopping was asked for or books are compared."""
        tick = asyncio.create_task(self._clock.sleep(TURN_EVERY_S))
        until = {tick, stopping} if self._comparing is None else {tick, stopping, self._comparing}
        try:
            await asyncio.wait(until, return_when=asyncio.FIRST_COMPLETED)
        finally:
            tick.cancel()
        if self._comparing is not None and self._comparing.done():
            comparing, self._comparing = self._comparing, None
            comparing.result()

    async def _turn(self) -> None:
        self._note(await self._stand())
        if self._comparison is None or self._hands.draining:
            return
        if self._comparing is None and self._comparison.is_due():
            # Beside the other duties: an exchange that is slow to answer must not hold them up.
            self._comparing = asyncio.create_task(self._compare(self._comparison))
        self._hands.take(await self._ledger.adopt(MAX_ADOPTED))
        self._metrics.account(await self._ledger.account())
        now = self._clock.monotonic_ms()
        if now - self._swept_mono_ms >= SWEEP_EVERY_MS:
            self._swept_mono_ms = now
            await self._sweep()

    # -- the office ----------------------------------------------------------------------------

    async def _stand(self) -> Election:
        """Become or remain the keeper; a term that ran out meanwhile was the end of an office."""
        asked = self._clock.monotonic_ms()
        if asked - self._elected_mono_ms >= TERM_MS:
            self._comparison = None
        election = await self._ledger.elect(TERM_MS, self._said())
        if not election.elected:
            self._comparison = None
        else:
            self._elected_mono_ms = asked
            if self._comparison is None:
                self._comparison = self._new_comparison()
        self._set_keeper(elected=election.elected)
        return election

    async def _resign(self) -> None:
        """Give the office up: whoever asks next is elected, and no term is waited for."""
        self._set_keeper(elected=False)
        try:
            await self._ledger.resign()
        except LedgerError as error:
            log.warning("resignation_failed", error=str(error))

    def _set_keeper(self, *, elected: bool) -> None:
        if elected is not self.is_keeper:
            log.info("keeper_elected" if elected else "keeper_resigned")
        self.is_keeper = elected
        self._metrics.keeper(elected=elected)

    # -- duties --------------------------------------------------------------------------------

    async def _sweep(self) -> None:
        orphans, trimmed, removed = await self._ledger.sweep(self._signal_retention_ms)
        if orphans or trimmed or removed:
            log.info("swept", orphans=orphans, trimmed=trimmed, consumers_removed=removed)

    def _new_comparison(self) -> Comparison:
        return Comparison(
            ledger=self._ledger,
            exchanges=self._exchanges,
            adapters=self._adapters,
            metrics=self._metrics,
            clock=self._clock,
            account=self._account,
        )

    async def _compare(self, comparison: Comparison) -> None:
        """What comes of it is said, and noted, by the turn that follows at once."""
        try:
            await comparison.compare()
        except LedgerError as error:
            log.warning("comparison_interrupted", error=str(error))

    # -- readiness -----------------------------------------------------------------------------

    def _said(self) -> str:
        """How far the comparison of this term of office has come, for the other workers."""
        if self._comparison is None:
            return ""
        return DONE if self._comparison.done else self._comparison.missing[:MAX_SAID]

    def _note(self, election: Election) -> None:
        """Say on ``/readyz`` whether a keeper has compared the books; once it has, for good."""
        if self._is_reconciled:
            return
        if election.said == DONE:
            self._is_reconciled = True
            self._health.set(CHECK, ok=True, detail="the books were compared")
        elif election.elected:
            self._health.set(CHECK, ok=False, detail=election.said or "comparing the books")
        else:
            said = f"says: {election.said}" if election.said else "has not compared the books yet"
            self._health.set(CHECK, ok=False, detail=f"the keeper {said}")
