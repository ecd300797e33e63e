"""The interface of a duty: its name, its interval, and one run of it."""

from abc import ABC, abstractmethod
from typing import ClassVar


class Duty(ABC):
    """Work that only the elected keeper of an account does.

    Attributes:
        name: unique among the keeper's duties.
        interval_ms: least time between the starts of two runs; 0 for a run every turn.
        in_background: run as a task of its own, one at a time; the office, the other duties and
            leaving do not wait for it. For a duty that waits for an exchange.
    """

    name: ClassVar[str]
    interval_ms: ClassVar[int]
    in_background: ClassVar[bool] = False

    def begin_term(self) -> None:  # noqa: B027 (most duties remember nothing)
        """Prepare for a new term of office; nothing of an earlier one may count in it."""

    def end_term(self) -> None:  # noqa: B027 (as above)
        """Forget the term of office that is over."""

    def is_due(self, elapsed_ms: float) -> bool:
        """Return whether to run now, ``elapsed_ms`` after the start of the last run."""
        return elapsed_ms >= self.interval_ms

    @abstractmethod
    async def run(self) -> None:
        """Do the duty once.

        Raises:
            LedgerError: Redis failed; the turn ends, and the worker stands for election again. A
                duty in the background has to catch it.
        """
