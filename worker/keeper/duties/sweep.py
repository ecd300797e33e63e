"""Keeps the stream of signals short and clear of consumers that are gone."""

from typing import ClassVar

from worker.keeper.duty import Duty
from worker.ledger.calls import Ledger
from worker.observe.metrics import Metrics
from worker.runtime.logger import get_logger

log = get_logger()


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

    async def run(self) -> None:
        """Sweep, again while that finds entries that are too large; logged if anything was done.

        Raises:
            LedgerError: Redis failed.
        """
        is_done = False
        while not is_done:
            orphans, trimmed, removed, oversize = await self._ledger.sweep(
                self._signal_retention_ms
            )
            if orphans or trimmed or removed:
                log.info("swept", orphans=orphans, trimmed=trimmed, consumers_removed=removed)
            for entry_id, error in oversize:
                self._metrics.buried(1)
                log.warning("orphan_buried", entry_id=entry_id, error=error)
            is_done = not oversize
