"""The scripts an operator's decisions run, as typed calls."""

from collections.abc import Sequence
from decimal import Decimal
from enum import StrEnum
from typing import Final

import msgspec

from worker.domain.event_text import EventText
from worker.domain.money import millionths, millionths_signed
from worker.domain.position import Position
from worker.domain.position_key import PositionKey
from worker.domain.trading_asks import Ask, Control
from worker.domain.verdict import Verdict
from worker.ledger.inspection import StoredPosition, stored_position
from worker.ledger.layouts import MendedReply, read_row
from worker.ledger.scripts import Scripts
from worker.ledger.words import Mending

#: How long a replay is remembered, so that asking again after a lost reply adds nothing.
REPLAY_MEMORY_MS: Final = 3_600_000
#: The same for the mending of a stream.
MENDING_MEMORY_MS: Final = 3_600_000
_encode: Final = msgspec.json.Encoder().encode


def encode_asks(asks: Sequence[Ask]) -> bytes:
    """Return requests for trading states as the hash ``control`` has them."""
    return _encode(list(asks))


class Decided(StrEnum):
    """The answers to a decision that are not the state of a record."""

    NOTED = "decided"
    UNKNOWN = ""
    LOST = "LOST"


class Corrected(StrEnum):
    """The answers to a correction."""

    DONE = "corrected"
    BUSY = "busy"
    CHANGED = "changed"
    WITHDRAWN = "withdrawn"
    LATE = "late"


class Replayed(StrEnum):
    """The answers to a replay."""

    DONE = "replayed"
    USED = "used"
    EMPTY = "empty"
    CUT = "cut"
    ABSENT = "absent"


class Mended(msgspec.Struct, frozen=True):
    """A step of mending a stream: entries copied so far, and how many of them got a new id."""

    status: Mending
    entries: int
    renamed: int


class OperatorCalls:
    """Decisions, corrections and replays, each one script.

    Every method raises :class:`~worker.ledger.errors.LedgerError` when Redis cannot be asked; after
    a lost reply a call may be repeated with the same arguments.

    Args:
        scripts: runs them.
        output_length: about how many entries an output stream keeps.
    """

    def __init__(self, scripts: Scripts, *, output_length: int) -> None:
        self._scripts = scripts
        self._output_length = output_length

    async def decide(self, signal_id: str, verdict: Verdict, audit: EventText) -> Decided | str:
        """Store the decision on an unresolved order, with the event about it.

        Returns:
            ``NOTED``; ``UNKNOWN`` for a signal without a record; ``LOST`` where its record was
            lost with a primary; any other text is the state of a record that is not unresolved.
        """
        reply = await self._scripts.run("decide", signal_id, _encode(verdict), *audit[1:])
        state = str(reply.decode())
        return next((answer for answer in Decided if answer == state), state)

    async def correct(
        self,
        before: StoredPosition,
        after: Position,
        realized: Decimal,
        *,
        quote: str,
        event: EventText,
        audit: EventText,
        request: str = "",
        answer: bytes = b"",
        valid_until_ms: int = 0,
    ) -> Corrected:
        """Replace a position in the book, or remove it where ``after`` holds nothing.

        Args:
            before: as it was read; the book must still hold exactly that.
            after: as it is to be.
            realized: profit of the correction, quote units.
            quote: the currency exposure and profit count in.
            event: about the position.
            audit: about the correction, for the stream ``system``.
            request: the id of the request that this answers; empty if nobody requested it.
            answer: to the request, JSON.
            valid_until_ms: until when the request may be carried out, Redis time.

        Returns:
            ``DONE``; ``BUSY`` while a signal is changing the position; ``CHANGED`` if the book
            holds something else now; ``WITHDRAWN`` if the request is gone; ``LATE`` if nobody waits
            for it any more.
        """
        reply = await self._scripts.run(
            "correct",
            before.key,
            before.raw,
            _encode(after) if after.quantity else b"",
            quote,
            millionths(after.cost) - millionths(before.position.cost),
            millionths_signed(realized),
            *event[1:],
            *audit[1:],
            before.position.signal_id,
            self._output_length,
            request,
            answer,
            valid_until_ms,
        )
        return Corrected(reply.decode())

    async def change_control(
        self, before: bytes, asks: Sequence[Ask], control: Control, event: EventText
    ) -> bool:
        """Store who asks for which trading state, and the state in force, with ``event``.

        Args:
            before: the requests as they were read (:class:`StoredControl`).
            asks: the requests as they are to be.
            control: the state that follows from them.
            event: about the change.

        Returns:
            False if somebody else has changed them since; nothing was written then.
        """
        reply = await self._scripts.run(
            "control",
            before,
            encode_asks(asks),
            control.trading_state.value,
            control.reason,
            control.actor,
            control.changed_at,
            *event[1:],
        )
        return bool(reply)

    async def requested_corrections(self) -> dict[str, bytes]:
        """Return some of the corrections that operators ask for, JSON by request id."""
        flat = await self._scripts.run("requested_corrections")
        return {
            request.decode(errors="replace"): raw
            for request, raw in zip(flat[::2], flat[1::2], strict=True)
        }

    async def refuse_correction(self, request: str, answer: bytes) -> None:
        """Answer a request that is not carried out."""
        await self._scripts.run("refuse_correction", request, answer)

    async def held(self, key: PositionKey) -> StoredPosition | None:
        """Return one position of the book; None if the account holds none under ``key``."""
        flat = await self._scripts.run("read_book")
        rows = dict(zip(flat[::2], flat[1::2], strict=True))
        return stored_position(key, rows.get(key.encode()))

    async def replay(self, letter_id: str, unused_signal_id: str) -> tuple[Replayed, str]:
        """Move a dead letter's own fields back to the signals stream.

        Args:
            letter_id: its id on the stream ``dead``.
            unused_signal_id: a signal id that must have no record; empty for no such condition.

        Returns:
            ``DONE`` with the new entry's id, the same when asked again within the hour; ``USED``
            with the state of the signal's record; ``EMPTY`` if the letter has no field of its own;
            ``CUT`` if it has only the beginning of its entry; ``ABSENT`` if there is no such
            letter.
        """
        status, detail = await self._scripts.run(
            "replay", letter_id, unused_signal_id, REPLAY_MEMORY_MS
        )
        return Replayed(status.decode()), str(detail.decode())

    async def mend_stream(self, name: str, portion: int, call: str) -> Mended:
        """Take a step in mending a stream whose last id is ahead of Redis's clock.

        Args:
            name: the stream's short name.
            portion: how many entries to copy at most.
            call: the same in every step of one mending, and in no other.

        Returns:
            ``SOUND`` if there was nothing to do, ``COPYING`` if another step is needed.
        """
        status, entries, renamed = read_row(
            MendedReply,
            await self._scripts.run("mend_stream", name, portion, call, MENDING_MEMORY_MS),
        )
        return Mended(Mending(status.decode()), int(entries), int(renamed))

    async def announce(self, event: EventText) -> None:
        """Write one event to the system stream."""
        await self._scripts.run("announce", *event[1:], self._output_length)
