"""Adopts unresolved orders: the keeper's own engine looks them up again."""

from collections.abc import Iterable
from typing import ClassVar, Final, Protocol

from worker.keeper.duty import Duty
from worker.ledger.ports import Ledger
from worker.ledger.replies import Delivery

#: Unresolved orders looked up at the same time.
MAX_ADOPTED: Final = 8


class DeliverySink(Protocol):
    """Takes deliveries to work on: the engine."""

    def take(self, deliveries: Iterable[Delivery]) -> None:
        """Start work on granted entries."""


class AdoptUnresolved(Duty):
    """Take over unresolved orders that are due to be looked up again.

    Args:
        ledger: grants their entries.
        sink: works on them.
    """

    name: ClassVar[str] = "adopt"
    interval_ms: ClassVar[int] = 0

    def __init__(self, ledger: Ledger, sink: DeliverySink) -> None:
        self._ledger = ledger
        self._sink = sink

    async def run(self) -> None:
        """Hand up to ``MAX_ADOPTED`` entries to the sink.

        Raises:
            LedgerError: Redis failed.
        """
        self._sink.take(await self._ledger.adopt(MAX_ADOPTED))
