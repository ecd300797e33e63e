"""Dead letters: read them, put one back on the signals stream, remove one."""

from typing import assert_never

import msgspec

from worker.domain.refusal import DeadReason
from worker.ledger.access import DEAD_STREAM, Access, StreamEntry, entries_of
from worker.ledger.layouts import DeadLetterTail
from worker.ledger.operator_calls import OperatorCalls, Replayed
from worker.runtime.errors import WorkerError


class DeadLetterError(WorkerError):
    """A dead letter cannot be read, replayed or removed; the message says why."""


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """One dead letter; ``fields`` are the entry's own, byte for byte, the rest a worker added."""

    id: str
    reason: str
    error: str
    entry_id: str
    deliveries: int
    worker: str
    at: str
    signal_id: str | None
    fields: dict[str, bytes]

    @property
    def data(self) -> str:
        """Return the payload as text, empty where the entry had none."""
        return self.fields.get("data", b"").decode(errors="replace")


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
    return DeadLetter(
        id=entry.id,
        reason=entry.text("reason"),
        error=entry.text("error"),
        entry_id=entry.text("entry_id"),
        deliveries=int(deliveries) if deliveries.isdigit() else 0,
        worker=entry.text("worker"),
        at=entry.text("at"),
        signal_id=signal_id_of(own.get("data", b"")),
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
        rows = await self._access.ask_one(
            "XREVRANGE", self._access.key(DEAD_STREAM), before, "-", "COUNT", count
        )
        return [dead_letter(entry) for entry in entries_of(DEAD_STREAM, rows)]

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
            DeadLetterError: there is no such letter, it has no fields of its own, or its signal id
                has been used.
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
