"""The keeper and its sheet, the seats at API keys, the workers that live."""

from collections.abc import Mapping
from typing import Final

import msgspec

from worker.ledger.replies import Election, Seat

#: A worker not heard of in this long is gone.
GONE_AFTER_MS: Final = 60_000


class _Term(msgspec.Struct, frozen=True):
    keeper: str
    note: str
    until_ms: int


class Beat(msgspec.Struct, frozen=True):
    """A worker's last heartbeat: when, and its status, JSON."""

    at_ms: int
    status: bytes


class Office:
    """The fleet of one account."""

    def __init__(self) -> None:
        self._term: _Term | None = None
        #: By API key and seat: until when it is held, and by whom.
        self._seats: dict[str, dict[int, tuple[int, str]]] = {}
        self.workers: dict[str, Beat] = {}
        #: What the keeper published last, JSON, when and until when.
        self._sheet: tuple[bytes, int, int] | None = None

    def keeper(self, now_ms: int) -> str:
        """Return the keeper's name; empty if nobody is."""
        if self._term is not None and self._term.until_ms <= now_ms:
            self._term = None
        return self._term.keeper if self._term else ""

    def elect(self, worker: str, term_ms: int, note: str, now_ms: int) -> Election:
        """Make ``worker`` the keeper for a term unless another is; a term of 0 resigns."""
        keeper = self.keeper(now_ms)
        if self._term is not None and keeper != worker:
            return Election(elected=False, readiness_note=self._term.note)
        if term_ms == 0:
            self._term = None
            return Election(elected=False, readiness_note="")
        self._term = _Term(worker, note, now_ms + term_ms)
        return Election(elected=True, readiness_note=note)

    def seat(self, holder: str, key: str, seats: int, term_ms: int, now_ms: int) -> Seat:
        """Give ``holder`` a seat at an API key, or keep it; a term of 0 gives it up."""
        taken = self._seats.setdefault(key, {})
        held = {n: who for n, (until, who) in taken.items() if until > now_ms or who == holder}
        first = held.get(0, "")
        first = "" if first == holder else first
        mine = next((n for n in range(seats) if held.get(n) == holder), None)
        if term_ms == 0:
            if mine is not None:
                del taken[mine]
            return Seat(-1, first)
        free = next((n for n in range(seats) if n not in held), None)
        number = free if mine is None else mine
        if number is None:
            return Seat(-1, first)
        taken[number] = (now_ms + term_ms, holder)
        return Seat(number, holder)

    def publish(self, worker: str, sheet: bytes, lifetime_ms: int, now_ms: int) -> bool:
        """Publish the keeper's sheet; False if ``worker`` is not the keeper."""
        if self.keeper(now_ms) != worker:
            return False
        self._sheet = (sheet, now_ms, now_ms + lifetime_ms)
        return True

    def sheet(self, now_ms: int) -> tuple[bytes, int] | None:
        """Return the sheet, and when it was published; None once it has expired."""
        if self._sheet is None or self._sheet[2] <= now_ms:
            return None
        return self._sheet[:2]

    def leave(self, worker: str, now_ms: int) -> None:
        """Sign a worker off."""
        self.workers.pop(worker, None)
        if self.keeper(now_ms) == worker:
            self._term = None

    def forget_gone(self, now_ms: int, owners: Mapping[str, int]) -> int:
        """Forget workers that are gone; return how many of them own no entry (``owners``)."""
        gone = [name for name, beat in self.workers.items() if now_ms - beat.at_ms >= GONE_AFTER_MS]
        for name in gone:
            del self.workers[name]
        return sum(not owners.get(name) for name in gone)
