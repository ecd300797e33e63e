"""Execution records by signal, each until its signal cannot come again."""

from worker.ledger.stored import Record


class Records:
    """The records by signal: the plan from admission on, the outcome after the end."""

    def __init__(self) -> None:
        self._records: dict[str, Record] = {}
        #: Of signals that have ended: until when the record is kept, milliseconds.
        self._kept_until: dict[str, int] = {}

    def stored(self, signal: str, now_ms: int) -> Record | None:
        """Return what is stored under a signal's id."""
        if self._kept_until.get(signal, now_ms + 1) <= now_ms:
            del self._records[signal], self._kept_until[signal]
        return self._records.get(signal)

    def find(self, signal: str, now_ms: int) -> Record | None:
        """Return a signal's record; None also where only its parking was stored, no admission."""
        record = self.stored(signal, now_ms)
        return record if record is not None and record.entry else None

    def begin(self, record: Record) -> None:
        """Store the record of a signal that has not ended."""
        self._records[record.signal] = record
        self._kept_until.pop(record.signal, None)

    def end(self, record: Record, *, keep_ms: int, now_ms: int) -> None:
        """Store the record of a signal that has ended, for as long as it might come again."""
        self._records[record.signal] = record
        self._kept_until[record.signal] = now_ms + keep_ms
