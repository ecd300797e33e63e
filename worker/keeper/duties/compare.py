"""Compares the book with the exchanges, and tells whether that was done in this term of office."""

from collections.abc import Callable
from typing import ClassVar

from worker.keeper.comparison import ROUND_EVERY_MS, Comparison
from worker.keeper.duty import Duty
from worker.ledger.errors import LedgerError
from worker.runtime.logger import get_logger

log = get_logger()


class CompareBooks(Duty):
    """Compare the book with every exchange, in rounds.

    Runs in the background: an exchange that is slow to answer must not hold up the other duties.

    Args:
        new_comparison: makes the comparison of a term. A run that an earlier term started writes
            to that term's, so its late answers count for nobody.
    """

    name: ClassVar[str] = "compare"
    interval_ms: ClassVar[int] = ROUND_EVERY_MS
    in_background: ClassVar[bool] = True

    def __init__(self, new_comparison: Callable[[], Comparison]) -> None:
        self._new_comparison = new_comparison
        #: The comparison of this term of office; None without one.
        self.comparison: Comparison | None = None

    def begin_term(self) -> None:
        """Begin anew."""
        self.comparison = self._new_comparison()

    def end_term(self) -> None:
        """Drop the term's comparison."""
        self.comparison = None

    def is_due(self, elapsed_ms: float) -> bool:
        """Return whether a round, an exchange of the present one, or an event is due."""
        return self.comparison is not None and self.comparison.is_due()

    async def run(self) -> None:
        """Ask the exchanges that are due and announce what differs; never raises LedgerError."""
        if self.comparison is None:
            return
        try:
            await self.comparison.compare()
        except LedgerError as error:
            log.warning("comparison_interrupted", error=str(error))
