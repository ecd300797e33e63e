"""Dead letters: looking at them, giving one another chance, throwing one away."""

from typing import Final

import msgspec

from worker.domain.refusal import DeadReason
from worker.ledger.access import DEAD_STREAM, Access, StreamEntry, entries_of
from worker.ledger.scripts import Scripts
from worker.runtime.errors import WorkerError

#: What the worker adds to the entry's own fields, in this order, after them.
ADDED: Final = ("reason", "error", "entry_id", "deliveries", "worker", "at")
#: How long a replay is remembered, so that asking again after a lost reply adds nothing.
REPLAY_MEMORY_MS: Final = 3_600_000


class DeadLetterError(WorkerError):
    """What was asked cannot be done with this dead letter; the message says why."""


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """One dead letter; ``fields`` are the entry's own, byte for byte."""

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
        """The payload as text, empty where the entry had none."""
        return self.fields.get("data", b"").decode(errors="replace")


class _Identity(msgspec.Struct):
    """As much of a payload as names it."""

    signal_id: str


def signal_id_of(data: bytes) -> str | None:
    """The signal id a payload carries; None where it cannot be told."""
    try:
        return msgspec.json.decode(data, type=_Identity).signal_id
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def dead_letter(entry: StreamEntry) -> DeadLetter:
    """One entry of the dead letter stream, taken apart."""
    own = {name: value for name, value in entry.fields.items() if name not in ADDED}
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
        scripts: how scripts are run.
    """

    def __init__(self, access: Access, scripts: Scripts) -> None:
        self._access = access
        self._scripts = scripts

    async def latest(self, count: int, *, before: str = "+") -> list[DeadLetter]:
        """Up to ``count`` of them, the newest first, from the id ``before`` (inclusive) down.

        Raises:
            LedgerError: Redis cannot be asked.
        """
        async with self._access.client() as client:
            rows = await client.execute_command(
                "XREVRANGE", self._access.key(DEAD_STREAM), before, "-", "COUNT", count
            )
        return [dead_letter(entry) for entry in entries_of(DEAD_STREAM, rows)]

    async def get(self, letter_id: str) -> DeadLetter:
        """One of them.

        Raises:
            DeadLetterError: there is none of that id.
            LedgerError: Redis cannot be asked.
        """
        async with self._access.client() as client:
            rows = await client.execute_command(
                "XRANGE", self._access.key(DEAD_STREAM), letter_id, letter_id
            )
        for entry in entries_of(DEAD_STREAM, rows):
            return dead_letter(entry)
        raise DeadLetterError(f"there is no dead letter {letter_id}")

    async def replay(self, letter_id: str) -> str:
        """Put its own fields back on the signals stream, byte for byte, and remove it.

        Safe to ask again when a reply was lost: within an hour the answer is the same.

        Returns:
            The new entry's id.

        Raises:
            DeadLetterError: it is not there, its content is gone, or its signal id has been used.
            LedgerError: Redis cannot be asked.
        """
        try:
            letter = await self.get(letter_id)
        except DeadLetterError:
            letter = None
        signal_id = ""
        # Dead for its form: no order can have come of it, so its signal id does not matter.
        if letter is not None and letter.reason != DeadReason.MALFORMED:
            signal_id = letter.signal_id or ""
        word, detail = await self._scripts.run("replay", letter_id, signal_id, REPLAY_MEMORY_MS)
        if word == b"replayed":
            return str(detail.decode())
        if word == b"used":
            raise DeadLetterError(
                f"signal_id {signal_id} has been used (its record says {detail.decode()}), so the "
                "dead letter would only be dropped as a repetition; submit it under a new signal_id"
            )
        if word == b"empty":
            raise DeadLetterError(
                f"dead letter {letter_id} has none of its entry's fields: the entry was trimmed "
                "from the stream before it was read"
            )
        raise DeadLetterError(f"there is no dead letter {letter_id}")

    async def discard(self, letter_id: str) -> None:
        """Remove it for good.

        Raises:
            DeadLetterError: there is none of that id.
            LedgerError: Redis cannot be asked.
        """
        async with self._access.client() as client:
            removed = await client.execute_command("XDEL", self._access.key(DEAD_STREAM), letter_id)
        if not removed:
            raise DeadLetterError(f"there is no dead letter {letter_id}")
