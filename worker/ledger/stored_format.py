"""The version of what the ledger stores, and the rows that cross in bringing it up to date."""

from typing import Final, NamedTuple

#: The format that this version reads and writes; accounts of the first do not name theirs.
#: 1: a position holds means. 2: a position holds sums, and
#: ``rate`` the times of admissions.
FORMAT: Final = 2
FIRST_FORMAT: Final = 1


class Conversion(NamedTuple):
    """A row of the book to be converted: as it is, and as it is to be."""

    position_key: bytes
    before: bytes
    after: bytes


class StoredFormatReply(NamedTuple):
    """The format that was stored, and workers of an older one that may be alive.

    ``older`` is their names and for how many milliseconds each has been silent, in turn.
    """

    version: int
    older: list[bytes | int]
