"""Limits of the whole account as rows: the worker builds them, one loop in a script checks them."""

from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Final, Literal, NamedTuple

from worker.domain.refusal import Code

#: The counter that has the times of admissions.
RATE: Final = "rate"
#: The counter of positions, held or reserved.
BOOK: Final = "book"


class Kind(StrEnum):
    """What a row counts, and when an order breaks it.

    - ``sum``: a field of ``totals``. Admissions add to it and ends take from it; with the order it
      must not be more than ``most``.
    - ``count``: the fields of a hash, of which the order itself becomes one; with it they must not
      be more than ``most``.
    - ``loss``: a field of today's ``day:<n>``, which only ends change; a loss must stay below
      ``most``.
    - ``window``: a sorted set of the times of admissions; with the order those of the last minute
      (``LIMIT.WINDOW_MS``) must not be more than ``most``.
    """

    SUM = "sum"
    COUNT = "count"
    LOSS = "loss"
    WINDOW = "window"


class LimitRow(NamedTuple):
    """One limit as it stands for an order; amounts in millionths.

    ``counter`` is what is compared, in the words of its kind. ``add`` is what the order adds, False
    for its notional value; ``most`` is False where nothing is refused, only counted. An order that
    breaks the row is refused with ``code``.
    """

    counter: str
    kind: Kind
    add: int | Literal[False]
    most: int | Literal[False]
    code: Code


class RowTable:
    """The rows of one call, those that orders share once."""

    def __init__(self) -> None:
        self.values: list[object] = []
        self._last: Sequence[LimitRow] = ()
        self._span = (0, -1)  # of no rows: a loop from the first to the last ends at once

    def span(self, rows: Sequence[LimitRow]) -> tuple[int, int]:
        """Return how many values stand before the first of ``rows`` and before the last one.

        Rows that are those of the order before (the same object) are not added again.
        """
        if rows is not self._last:
            before = len(self.values)
            self.values += flat(rows)
            self._last = rows
            self._span = before, len(self.values) - len(LimitRow._fields)
        return self._span


def flat(rows: Iterable[LimitRow]) -> list[object]:
    """Return the values of rows, one behind the other."""
    return [value for row in rows for value in row]
