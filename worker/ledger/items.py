"""What is asked of an admission and a commit, and how it travels to their scripts."""

from collections.abc import Sequence
from typing import Final

import msgspec

from worker.ledger.stored import ADMITTED_RECORD, ENDED_RECORD, encode

#: Stream, type and id of so many events in one argument: a script can take only so many values
#: apart at once. Their JSON travels as it is: whatever is taken apart exists twice in the server.
HEADS_A_PART: Final = 3 * 256


class AdmitItem(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One order's admission; amounts in millionths of the quote currency, 0 for no limit.

    ``only_look`` is for an order that may exist already and will not be sent: no limit stops it.
    """

    entry: str
    token: int
    signal: str
    digest: str
    exchange: str
    position: str
    action: str
    quote: str
    intent: str
    notional: int
    max_positions: int
    max_exposure: int
    max_loss: int
    max_rate: int
    only_look: bool = False

    def encode(self, worker: str) -> tuple[bytes, bytes]:
        """As ``admit.lua`` reads it: the fields by their place, and the beginning of the record."""
        fields = (
            self.entry,
            self.token,
            self.signal,
            self.digest,
            self.exchange,
            self.position,
            self.action,
            self.quote,
            self.notional,
            self.max_positions,
            self.max_exposure,
            self.max_loss,
            self.max_rate,
            self.only_look,
        )
        record = (self.entry, self.digest, self.signal, "ADMITTED", worker, self.intent)
        return encode(fields)[1:], ADMITTED_RECORD + encode(record)[1:]


class CommitItem(msgspec.Struct, frozen=True, kw_only=True):
    """One entry's outcome; amounts in millionths of the quote currency.

    ``admitted_at`` and ``unresolved_since`` go into the record.
    ``reservation`` is ``opening`` or ``closing`` where admission reserved the position, else empty;
    ``exposure`` is the change against what was reserved or held before, ``reserved`` what of that
    the admission added.

    ``events`` are (stream, type, id, JSON), each with ``traceparent`` beside it where there is one.
    ``position`` None leaves the book alone, "" removes
    the position. ``dead`` is a flat list of fields and values: with it the entry's own fields go to
    the dead letter stream, byte for byte, these after them.
    """

    entry: str
    token: int
    signal: str = ""
    digest: str = ""
    state: str = ""
    outcome: str = ""
    admitted_at: int = 0
    unresolved_since: int = 0
    events: tuple[tuple[str, str, str, str], ...] = ()
    reservation: str = ""
    position_key: str = ""
    position: str | None = None
    quote: str = ""
    exposure: int = 0
    reserved: int = 0
    realized: int = 0
    dead: tuple[str, ...] | None = None
    traceparent: str = ""
    duplicate: bool = False
    take_next: bool = True

    def encode(self, worker: str) -> list[bytes | str]:
        """As ``commit.lua`` reads it: fields by their place, record, heads and JSON of events."""
        events = self.events
        heads = [part for event in events for part in event[:3]]
        first = heads[:HEADS_A_PART]
        starts = range(HEADS_A_PART, len(heads), HEADS_A_PART)
        further = [_sequence(heads[n : n + HEADS_A_PART]) for n in starts]
        fields = (
            self.entry,
            self.token,
            self.signal,
            self.digest,
            self.reservation,
            self.position_key,
            self.position if self.position is not None else False,
            self.quote,
            self.exposure,
            self.reserved,
            self.realized,
            self.dead if self.dead is not None else False,
            self.traceparent,
            self.duplicate,
            self.take_next,
            len(events),
            len(further),
            *first,
        )
        record = (
            self.entry,
            self.digest,
            self.signal,
            self.state,
            worker,
            "",
            self.admitted_at,
            self.unresolved_since,
            "",
            self.token,
            self.outcome,
        )
        data = [event[3] for event in events]
        return [_sequence(fields), ENDED_RECORD + encode(record)[1:], *further, *data]


def _sequence(values: Sequence[object]) -> bytes:
    """Values one behind the other: what an array of them is without its first bytes."""
    count = len(values)
    return encode(values)[1 if count < 16 else 3 :]
