"""The port through which the ledger shares budgets of requests among workers."""

from collections.abc import Mapping, Sequence
from typing import Protocol


class Budgets(Protocol):
    """The budgets of requests of one worker, as far as workers share them."""

    def names(self) -> Sequence[str]:
        """Return the names of the budgets, without spaces."""

    def learn_shares(self, shares: Mapping[str, tuple[int, int]]) -> None:
        """Take how many live workers use each budget, and this one's number among them."""

    def learn_holds(self, holds: Mapping[str, float]) -> None:
        """Take for how many milliseconds an exchange wants no request of a budget."""
