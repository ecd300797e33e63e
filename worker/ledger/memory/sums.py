"""The account's sums: exposure, profit in all and of a day, openings of a minute.

Amounts are millionths of a quote currency.
"""

from collections import defaultdict
from typing import Final

from worker.ledger.inspection import DAY_MS, MINUTE_MS

#: Days whose profit is kept, and minutes whose openings are counted: this one and those before.
DAYS_KEPT: Final = 3
MINUTES_KEPT: Final = 2


class Sums:
    """The sums that the limits of the whole account are compared with."""

    def __init__(self) -> None:
        self.exposure: defaultdict[str, int] = defaultdict(int)
        self.realized: defaultdict[str, int] = defaultdict(int)
        self._days: dict[int, defaultdict[str, int]] = {}
        self._minutes: dict[int, int] = {}

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

    def count_opening(self, now_ms: int) -> int:
        """Count an opening that came to the check of the rate; return the minute's openings."""
        minute = now_ms // MINUTE_MS
        self._minutes[minute] = self._minutes.get(minute, 0) + 1
        self._minutes.pop(minute - MINUTES_KEPT, None)
        return self._minutes[minute]
