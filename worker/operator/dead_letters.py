"""Dead letters: read them, put one back on the signals stream, remove one."""

from collections.abc import AsyncIterator
from typing import assert_never

import msgspec

from worker.domain.refusal import DeadReason
from worker.ledger.access import DEAD_STREAM, LARGE_PAGE, Access, StreamEntry, entries_of
from worker.ledger.layouts import DeadLetterTail
from worker.ledger.operator_calls import OperatorCalls, Replayed
from worker.ledger.words import CUT_FIELD
from worker.runtime.errors import WorkerError


class DeadLetterError(WorkerError):
    """A dead letter cannot be read, replayed or removed; the message says why."""


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """One dead letter; ``fields`` are the entry's own, byte for byte, the rest a worker added.

    ``size`` is the bytes of these fields; ``cut_from_bytes`` that of the whole entry, where the
    letter has only its beginning.
    """

    id: str
    reason: str
    error: str
    entry_id: str
    deliveries: int
    worker: str
    at: str
    signal_id: str | None
    size: int
    cut_from_bytes: int | None
    fields: dict[str, bytes]

    @property
    def data(self) -> str:
        """Return the payload as text, empty where the entry had none."""
        return self.fields.get("data", b"").decode(errors="replace")


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """The dead letters that a command is about: those of a reason, and written before a time.

    ``before_ms`` is Redis time, Unix milliseconds; None for any.
    """

    reason: str | None = None
    before_ms: int | None = None

    def fits(self, letter: DeadLetter) -> bool:
        """Return whether a letter is of the reason."""
        return self.reason is None or letter.reason == self.reason


class LetterCount(msgspec.Struct):
    """So many dead letters, and the bytes of their entries' fields."""

    letters: int = 0
    size: int = 0


class _Identity(msgspec.Struct):
    """The part of a payload that identifies it."""

    signal_id: str


def signal_id_of(data: bytes) -> str | None:
    """Return the signal id in a payload; None where there is none that can be read."""
    try:
        return msgspec.json.decode(data, type=_Identity).signal_id
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def dead_letter(entry: StreamEntry) -> DeadLetter:
    """Separate an entry of the dead letter stream into its own fields and those a worker added."""
    own = {
        name: value for name, value in entry.fields.items() if name not in DeadLetterTail._fields
    }
    deliveries = entry.text("deliveries")
    cut_from = None
    if own and next(reversed(own)) == CUT_FIELD and own[CUT_FIELD].isdigit():
        cut_from = int(own.pop(CUT_FIELD))
    return DeadLetter(
        id=entry.id,
        reason=entry.text("reason"),
        error=entry.text("error"),
        entry_id=entry.text("entry_id"),
        deliveries=int(deliveries) if deliveries.isdigit() else 0,
        worker=entry.text("worker"),
        at=entry.text("at"),
        signal_id=signal_id_of(own.get("data", b"")),
        size=sum(len(name.encode()) + len(value) for name, value in own.items()),
        cut_from_bytes=cut_from,
        fields=own,
    )


class DeadLetters:
    """The account's dead letter stream.

    Args:
        access: the account.
        calls: replays.
    """

    def __init__(self, access: Access, calls: OperatorCalls) -> None:
        self._access = access
        self._calls = calls

    async def latest(self, count: int, *, before: str = "+") -> list[DeadLetter]:
        """Read up to ``count`` dead letters, newest first, from the id ``before`` (inclusive) down.

        Raises:
            LedgerError: Redis cannot be asked.
        """
        letters: list[DeadLetter] = []
        async for page in self._pages("XREVRANGE", before, "-"):
            letters += page[: count - len(letters)]
            if len(letters) >= count:
                break
        return letters

    async def newest_first(self, choice: Choice) -> AsyncIterator[DeadLetter]:
        """Yield the letters of a choice, newest first; read in small portions, whatever their size.

        Raises:
            LedgerError: Redis cannot be asked.
        """
        async for page in self._pages("XREVRANGE", _last(choice), "-"):
            for letter in filter(choice.fits, page):
                yield letter

    async def oldest_first(self, choice: Choice) -> AsyncIterator[DeadLetter]:
        """Yield the letters of a choice that are there now, oldest first; read in small portions.

        Raises:
            LedgerError: Redis cannot be asked.
        """
        newest = await self.latest(1, before=_last(choice))
        if not newest:
            return
        async for page in self._pages("XRANGE", "-", newest[0].id):
            for letter in filter(choice.fits, page):
                yield letter

    async def count(self, choice: Choice) -> dict[str, LetterCount]:
        """Count the letters of a choice by reason.

        Raises:
            LedgerError: Redis cannot be asked.
        """
        counts: dict[str, LetterCount] = {}
        async for letter in self.newest_first(choice):
            count = counts.setdefault(letter.reason, LetterCount())
            count.letters += 1
            count.size += letter.size
        return counts

    async def length(self) -> int:
        """Return how many dead letters there are.

        Raises:
            LedgerError: Redis cannot be asked.
        """
        return int(await self._access.ask_one("XLEN", self._access.key(DEAD_STREAM)))

    async def _pages(self, command: str, start: str, end: str) -> AsyncIterator[list[DeadLetter]]:
        """Yield letters page by page, each small enough for one reply."""
        key = self._access.key(DEAD_STREAM)
        while True:
            rows = await self._access.ask_one(command, key, start, end, "COUNT", LARGE_PAGE)
            entries = entries_of(DEAD_STREAM, rows)
            if entries:
                yield [dead_letter(entry) for entry in entries]
                start = "(" + entries[-1].id
            if len(rows or ()) < LARGE_PAGE:
                return

    async def get(self, letter_id: str) -> DeadLetter:
        """Read one dead letter.

        Raises:
            DeadLetterError: there is none of that id.
            LedgerError: Redis cannot be asked.
        """
        rows = await self._access.ask_one(
            "XRANGE", self._access.key(DEAD_STREAM), letter_id, letter_id
        )
        for entry in entries_of(DEAD_STREAM, rows):
            return dead_letter(entry)
        raise DeadLetterError(f"there is no dead letter {letter_id}")

    async def replay(self, letter_id: str) -> str:
        """Put a dead letter's own fields back on the signals stream, byte for byte, and remove it.

        Safe to repeat after a lost reply: within an hour the answer is the same.

        Returns:
            The new entry's id.

        Raises:
            DeadLetterError: there is no such letter, it has no fields of its own or not all of
                them, or its signal id has been used.
            LedgerError: Redis cannot be asked.
        """
        try:
            letter = await self.get(letter_id)
        except DeadLetterError:
            letter = None
        signal_id = ""
        # A malformed entry never became an order, so the signal id it claims may have a record.
        if letter is not None and letter.reason != DeadReason.MALFORMED:
            signal_id = letter.signal_id or ""
        replayed, detail = await self._calls.replay(letter_id, signal_id)
        match replayed:
            case Replayed.DONE:
                return detail
            case Replayed.USED:
                raise DeadLetterError(
                    f"signal_id {signal_id} has been used (its record says {detail}), so the dead "
                    "letter would only be dropped as a repetition; submit it under a new signal_id"
                )
            case Replayed.EMPTY:
                raise DeadLetterError(
                    f"dead letter {letter_id} has none of its entry's fields: the entry was "
                    "trimmed from the stream before it was read"
                )
            case Replayed.CUT:
                raise DeadLetterError(
                    f"dead letter {letter_id} has only the beginning of its entry, which was too "
                    "large: submit the signal anew"
                )
            case Replayed.ABSENT:
                raise DeadLetterError(f"there is no dead letter {letter_id}")
        assert_never(replayed)

    async def discard(self, letter_id: str) -> None:
        """Remove a dead letter for good.

        Raises:
            DeadLetterError: there is none of that id.
            LedgerError: Redis cannot be asked.
        """
        removed = await self._access.ask_one("XDEL", self._access.key(DEAD_STREAM), letter_id)
        if not removed:
            raise DeadLetterError(f"there is no dead letter {letter_id}")


def _last(choice: Choice) -> str:
    """Return the highest id that a letter of the choice may have."""
    return "+" if choice.before_ms is None else str(max(choice.before_ms - 1, 0))
