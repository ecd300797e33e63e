"""The account's sums: exposure, profit in all and of a day, admissions of the last minute.

Amounts are millionths of a quote currency.
"""

from collections import defaultdict
from typing import Final

from worker.ledger.inspection import DAY_MS
from worker.ledger.limits import WINDOW_MS

#: Days whose profit is kept: this one and those before.
DAYS_KEPT: Final = 3


class Sums:
    """The sums that the limits of the whole account are compared with."""

    def __init__(self) -> None:
        self.exposure: defaultdict[str, int] = defaultdict(int)
        self.realized: defaultdict[str, int] = defaultdict(int)
        self._days: dict[int, defaultdict[str, int]] = {}
        #: By counter: when each entry's order was admitted.
        self._admitted: dict[str, dict[str, int]] = {}

    def change_exposure(self, quote: str, change: int) -> None:
        """Change the exposure in a quote currency."""
        if change:
            self.exposure[quote] += change

    def book_profit(self, quote: str, profit: int, now_ms: int) -> None:
        """Add a realised profit (a loss if negative) to today's and to the total."""
        if profit:
            today = now_ms // DAY_MS
            self._days.setdefault(today, defaultdict(int))[quote] += profit
            self._days.pop(today - DAYS_KEPT, None)
            self.realized[quote] += profit

    def profit_today(self, quote: str, now_ms: int) -> int:
        """Return what was realised today in a quote currency."""
        today = self._days.get(now_ms // DAY_MS)
        return today[quote] if today else 0

    def count_admission(self, counter: str, entry_id: str, now_ms: int) -> None:
        """Note that an entry's order is admitted now."""
        times = self._admitted.get(counter, {}) | {entry_id: now_ms}
        since_ms = now_ms - WINDOW_MS
        self._admitted[counter] = {one: at for one, at in times.items() if at > since_ms}

    def admitted_lately(self, counter: str, now_ms: int) -> int:
        """Return how many orders were admitted within the last minute."""
        return sum(at > now_ms - WINDOW_MS for at in self._admitted.get(counter, {}).values())
