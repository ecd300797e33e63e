"""Publishes the account's gauges, which only its keeper shows."""

from typing import ClassVar

from worker.keeper.duty import Duty
from worker.ledger.limits import AHEAD_MS
from worker.ledger.ports import Ledger
from worker.observe.metrics import Metrics
from worker.runtime.logger import get_logger

log = get_logger()


class PublishAccount(Duty):
    """Read the account in numbers and show them.

    Args:
        ledger: counts them.
        metrics: shows them.
    """

    name: ClassVar[str] = "publish"
    interval_ms: ClassVar[int] = 0

    def __init__(self, ledger: Ledger, metrics: Metrics) -> None:
        self._ledger = ledger
        self._metrics = metrics
        #: The streams that the log says are ahead of Redis's clock.
        self._said: frozenset[str] = frozenset()

    async def run(self) -> None:
        """Show the account's numbers of this moment.

        Raises:
            LedgerError: Redis failed.
        """
        account = await self._ledger.account()
        self._metrics.account(
            exposure=account.exposure,
            realized=account.realized,
            open_positions=account.open_positions,
            unresolved=account.unresolved,
            dead_letters=account.dead_letters,
            lag=account.lag,
            pending=account.pending,
            oldest_pending_ms=account.oldest_pending_ms,
            leases=account.leases,
            ahead_ms=account.ahead_ms,
            waiting_part=account.waiting_part,
            fullest_group=account.fullest_group,
            fullest_part=account.fullest_part,
        )
        ahead = {name: ms for name, ms in account.ahead_ms.items() if ms > AHEAD_MS}
        if ahead.keys() != self._said:
            self._said = frozenset(ahead)
            if ahead:
                log.error("streams_ahead", **{name: ms // 1000 for name, ms in ahead.items()})
