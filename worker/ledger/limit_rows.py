"""Limits of the whole account as rows: the worker builds them, one loop in a script checks them."""

from enum import StrEnum
from typing import Final, Literal, NamedTuple

import msgspec

from worker.domain.refusal import Code
from worker.ledger.stored import packed

#: The counter that has the times of admissions.
RATE: Final = "rate"
#: The counter of positions, held or reserved.
BOOK: Final = "book"


class Kind(StrEnum):
    """Ways to count, and when an order breaks a row.

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


class Limits(msgspec.Struct, frozen=True, gc=False):
    """The rows of an order, in the order in which they are checked, and these as they are sent.

    Orders may share them: in one call the same object is sent once.
    """

    rows: tuple[LimitRow, ...]
    packed: bytes


def limits_of(*rows: LimitRow) -> Limits:
    """Return rows with their encoding."""
    return Limits(rows, packed([value for row in rows for value in row]))


#: Of an order that nothing limits.
NO_LIMITS: Final = limits_of()
