"""Keeps the stream of signals short and clear of consumers that are gone."""

from typing import ClassVar

from worker.keeper.duty import Duty
from worker.ledger.calls import Ledger
from worker.runtime.logger import get_logger

log = get_logger()


class Sweep(Duty):
    """Sweep the account: trim the stream, register orphaned entries, remove dead consumers.

    Args:
        ledger: does the sweep.
        signal_retention_ms: how long acknowledged signals stay on their stream.
    """

    name: ClassVar[str] = "sweep"
    interval_ms: ClassVar[int] = 60_000

    def __init__(self, ledger: Ledger, signal_retention_ms: int) -> None:
        self._ledger = ledger
        self._signal_retention_ms = signal_retention_ms

    async def run(self) -> None:
        """Sweep once; logged if there was anything to do.

        Raises:
            LedgerError: Redis failed.
        """
        orphans, trimmed, removed = await self._ledger.sweep(self._signal_retention_ms)
        if orphans or trimmed or removed:
            log.info("swept", orphans=orphans, trimmed=trimmed, consumers_removed=removed)
