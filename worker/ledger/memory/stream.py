"""A stream: entries under growing ids, read from any of them on."""

from bisect import bisect_left, bisect_right
from collections.abc import Mapping

import msgspec

from worker.ledger.access import split_id

#: An id as two numbers: milliseconds, and which entry of that millisecond.
Order = tuple[int, int]


class StreamRow(msgspec.Struct, frozen=True):
    """One entry of a stream."""

    order: Order
    fields: Mapping[bytes, bytes]

    @property
    def entry_id(self) -> str:
        """Return the entry's id."""
        return text_of_order(self.order)


class Stream:
    """Entries in the order in which they were appended.

    Attributes:
        last: the last id that was given; ids grow whatever the clock does.
        added: how many entries it was ever given.
    """

    def __init__(self) -> None:
        self._rows: list[StreamRow] = []
        self.last: Order = (0, 0)
        self.added = 0

    def __len__(self) -> int:
        return len(self._rows)

    def append(self, fields: Mapping[bytes, bytes], now_ms: int) -> str:
        """Append an entry under an id of ``now_ms``, or of later if the last one is."""
        before_ms, number = self.last
        self.last = (now_ms, 0) if now_ms > before_ms else (before_ms, number + 1)
        self.added += 1
        self._rows.append(StreamRow(self.last, dict(fields)))
        return text_of_order(self.last)

    def rows(self) -> list[StreamRow]:
        """Return all entries, oldest first."""
        return list(self._rows)

    def get(self, entry_id: str) -> Mapping[bytes, bytes] | None:
        """Return the fields of an entry; None if it is not there any more."""
        order = split_id(entry_id)
        at = bisect_left(self._rows, order, key=_order)
        is_there = at < len(self._rows) and self._rows[at].order == order
        return self._rows[at].fields if is_there else None

    def after(self, order: Order, count: int | None = None) -> list[StreamRow]:
        """Return the entries after an id, ``count`` at most."""
        start = bisect_right(self._rows, order, key=_order)
        return self._rows[start : None if count is None else start + count]

    def count_after(self, order: Order) -> int:
        """Return how many entries come after an id."""
        return len(self._rows) - bisect_right(self._rows, order, key=_order)

    def remove(self, entry_id: str) -> None:
        """Remove one entry, if it is there."""
        order = split_id(entry_id)
        self._rows = [row for row in self._rows if row.order != order]

    def keep_newest(self, length: int) -> None:
        """Remove the oldest entries beyond ``length``."""
        if len(self._rows) > length:
            del self._rows[: len(self._rows) - length]

    def keep_from(self, order: Order) -> int:
        """Remove the entries before an id; return how many."""
        count = bisect_left(self._rows, order, key=_order)
        del self._rows[:count]
        return count

    def ahead_ms(self, now_ms: int) -> int:
        """Return by how many milliseconds the last id is ahead of ``now_ms``; 0 if it is not."""
        return max(self.last[0] - now_ms, 0)


def text_of_order(order: Order) -> str:
    """Return two numbers as an id."""
    return f"{order[0]}-{order[1]}"


def _order(row: StreamRow) -> Order:
    return row.order
