"""Keeps the stream of signals short and clear of consumers that are gone."""

from typing import ClassVar, Final

from worker.keeper.duty import Duty
from worker.ledger.ports import Ledger
from worker.observe.metrics import Metrics
from worker.runtime.logger import get_logger

log = get_logger()

#: How many calls one run makes; the next one goes on from there.
MAX_CALLS: Final = 32


class Sweep(Duty):
    """Sweep the account: trim the stream, register orphaned entries, remove dead consumers.

    Args:
        ledger: does the sweep.
        signal_retention_ms: how long acknowledged signals stay on their stream.
        metrics: counts what was buried.
    """

    name: ClassVar[str] = "sweep"
    interval_ms: ClassVar[int] = 60_000

    def __init__(self, ledger: Ledger, signal_retention_ms: int, metrics: Metrics) -> None:
        self._ledger = ledger
        self._signal_retention_ms = signal_retention_ms
        self._metrics = metrics
        #: Where the next call looks for orphaned entries.
        self._start = b"-"

    async def run(self) -> None:
        """Sweep until every pending entry was looked at; logged if anything was done.

        Raises:
            LedgerError: Redis failed.
        """
        for _ in range(MAX_CALLS):
            orphans, trimmed, removed, stranded, oversize, following = await self._ledger.sweep(
                self._signal_retention_ms, self._start
            )
            if orphans or trimmed or removed:
                log.info("swept", orphans=orphans, trimmed=trimmed, consumers_removed=removed)
            if stranded:
                self._metrics.stranded(stranded)
                log.error("live_orders_stranded", positions=stranded)
            for entry_id, error in oversize:
                self._metrics.buried(1)
                log.warning("orphan_buried", entry_id=entry_id, error=error)
            self._start = following or b"-"
            if not following:
                return
