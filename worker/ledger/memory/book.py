"""The book: what the account holds under each position key, and which signal is changing it."""

from worker.ledger.stored import BookRow, Reservation

_NOTHING = BookRow(b"")


class BookRows:
    """Rows by position key; a row that holds nothing and is not reserved is no row."""

    def __init__(self) -> None:
        self.rows: dict[str, BookRow] = {}

    def __len__(self) -> int:
        return len(self.rows)

    def row(self, key: str) -> BookRow:
        """Return what is held under a position key, and who has reserved it."""
        return self.rows.get(key, _NOTHING)

    def line(self, key: str) -> bytes:
        """Return a row as Redis has it, empty for none: the text that a turn compares."""
        row = self.row(key)
        if not row.reservation:
            return row.position
        return f"{row.reservation} {row.signal} {row.position.decode()}".rstrip().encode()

    def rest(self, key: str, signal: str, position: bytes) -> None:
        """Leave a position to the entry that rests for it, with what that has made so far."""
        self._put(key, BookRow(position, Reservation.RESTING, signal))

    def reserve(self, key: str, signal: str) -> None:
        """Reserve a position for a signal: to open it, or to close what there is."""
        position = self.row(key).position
        kind = Reservation.CLOSING if position else Reservation.OPENING
        self._put(key, BookRow(position, kind, signal))

    def settle(self, key: str, position: bytes | None, *, is_ours: bool) -> None:
        """Write a position as it is now (None: unchanged) and give its reservation back.

        A reservation that is not ours (``is_ours``) stays.
        """
        row = self.row(key)
        held = row.position if position is None else position
        if is_ours:
            self._put(key, BookRow(held))
        else:
            self._put(key, BookRow(held, row.reservation, row.signal))

    def _put(self, key: str, row: BookRow) -> None:
        if row.position or row.reservation:
            self.rows[key] = row
        else:
            self.rows.pop(key, None)
