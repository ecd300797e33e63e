"""The items of an admission and of a commit, and their encoding for the scripts."""

from collections.abc import Iterable, Sequence
from typing import Final, Literal

import msgspec
from msgspec.structs import astuple

from worker.domain.event_text import EventText
from worker.ledger.layouts import (
    ADMIT,
    ADMIT_PLAIN,
    COMMIT,
    COMMIT_PLAIN,
    EVENT,
    DeadLetterTail,
    require,
)
from worker.ledger.limit_rows import NO_LIMITS, LimitRow, Limits
from worker.ledger.stored import (
    STATE_ADMITTED,
    AdmittedPart,
    EndedPart,
    Reservation,
    encode_record,
    packed,
)
from worker.ledger.turn_layouts import Rests

ROW_SIZE: Final = len(LimitRow._fields)
#: Values in one argument: a script can take only so many apart at once.
VALUES_A_PART: Final = 2_048


class AdmitItem(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One order to admit; ``notional`` in millionths of the quote currency.

    Its fields are those of ADMIT in that order, then its limits, and the plan, which only the
    record has.

    ``only_look`` is for an order that may exist already and will not be sent: it has no limits.
    ``limits`` are those of an opening in the order in which they are checked: the first that it
    breaks refuses it; if it breaks none, it counts in all of them.
    ``opener`` is the strategy that must have opened the position to be changed, "" for one without
    a name; False where any may have.
    """

    entry: str
    token: int
    signal: str
    digest: str
    exchange: str
    position_key: str
    action: str
    notional: int
    only_look: bool = False
    opener: str | Literal[False] = False
    limits: Limits = NO_LIMITS
    plan: str

    def encode(self, worker: str) -> tuple[tuple[object, ...], list[bytes]]:
        """Return the columns of ADMIT but for the limits, and the beginning of the record."""
        record = AdmittedPart(
            entry=self.entry,
            digest=self.digest,
            signal=self.signal,
            state=STATE_ADMITTED,
            worker=worker,
            plan=self.plan,
        )
        return astuple(self)[: len(ADMIT_PLAIN)], [encode_record(record)]


class RecordEnd(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The part of an ended signal's record that only the record has.

    ``outcome`` is JSON; ``admitted_at`` and ``unresolved_since`` are Unix milliseconds, 0 for
    never.
    """

    state: str = ""
    outcome: str = ""
    admitted_at: int = 0
    unresolved_since: int = 0


#: Of an entry that ends without writing a record.
NO_RECORD: Final = RecordEnd()


class CommitItem(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One entry's end; amounts in millionths of the quote currency.

    Its fields are those of COMMIT in that order, then the end of the record.

    ``reservation`` says what the signal was doing to a position that admission had reserved;
    ``exposure`` is the change against what was reserved or held before, ``reserved`` the part of it
    that the admission added.

    ``expires_ms`` is until when (Unix milliseconds) the signal itself may be traded, 0 if it does
    not say: its record is kept until then at least.

    ``events`` are (stream, type, id, JSON), each written with ``traceparent`` if that is set.
    ``position`` is the position as it is now (JSON), "" where nothing is left of it, None where
    the book stays as it is. ``dead`` makes a dead letter of the entry: its own fields, byte for
    byte, and this tail after them. ``duplicate`` acknowledges an entry without writing an outcome.
    ``rests`` is the order that goes on without the entry: position and reservation stay its own.
    """

    entry: str
    token: int
    signal: str = ""
    digest: str = ""
    reservation: Reservation = Reservation.NONE
    position_key: str = ""
    quote: str = ""
    exposure: int = 0
    reserved: int = 0
    realized: int = 0
    traceparent: str = ""
    duplicate: bool = False
    take_next: bool = True
    expires_ms: int = 0
    position: str | None = None
    dead: DeadLetterTail | None = None
    rests: Rests | None = None
    events: tuple[EventText, ...] = ()
    record: RecordEnd = NO_RECORD

    def encode(self, worker: str) -> tuple[tuple[object, ...], list[bytes | str]]:
        """Return the columns of COMMIT, then of EVENT for each event; the record and the JSONs.

        The JSON travels as it is: whatever a script takes apart exists twice in the server.
        """
        heads: list[str] = []
        data: list[str] = []
        for event in self.events:
            heads += event[:-1]
            data.append(event[-1])
        end = self.record
        record = EndedPart(
            entry=self.entry,
            digest=self.digest,
            signal=self.signal,
            state=end.state,
            worker=worker,
            admitted_at=end.admitted_at,
            unresolved_since=end.unresolved_since,
            token=self.token,
            outcome=end.outcome,
        )
        columns = (
            *astuple(self)[: len(COMMIT_PLAIN)],
            False if self.position is None else self.position,
            False if self.dead is None else self.dead.pairs(),
            False if self.rests is None else self.rests,
            len(data),
            *heads,
        )
        return columns, [encode_record(record), *data]


require(
    AdmitItem.__struct_fields__ == (*ADMIT_PLAIN, "limits", "plan")
    and ADMIT[len(ADMIT_PLAIN) :] == ("first_limit", "last_limit"),
    "the fields of AdmitItem must be those of ADMIT, in that order, limits and the plan",
)
require(
    CommitItem.__struct_fields__ == (*COMMIT, "record"),
    "the fields of CommitItem must be those of COMMIT, in that order, and the record's end",
)
require(
    COMMIT[len(COMMIT_PLAIN) :] == ("position", "dead", "rests", "events")
    and EVENT == ("stream", "type", "id"),
    "CommitItem.encode writes the last columns of COMMIT, and EVENT, in another order",
)


def admission_arguments(items: Iterable[AdmitItem], worker: str) -> list[bytes | str | int]:
    """Return what ``admit`` reads: rows of limits and columns, both packed, then the records."""
    tables: list[bytes] = []
    latest, span = NO_LIMITS, (0, -ROW_SIZE)
    #: By the identity of limits: how many values stand before their first row and before the last.
    spans = {id(latest): span}
    size = 0
    values: list[object] = []
    texts: list[bytes] = []
    for item in items:
        if item.limits is not latest:
            latest, known = item.limits, spans.get(id(item.limits))
            if known is None:
                end = size + ROW_SIZE * len(latest.rows)
                known = spans[id(latest)] = (size, end - ROW_SIZE)
                tables.append(latest.packed)
                size = end
            span = known
        columns, more = item.encode(worker)
        values += columns
        values += span
        texts += more
    return [len(tables), *tables, *_parts(values), *texts]


def outcome_arguments(items: Iterable[CommitItem], worker: str) -> list[bytes | str | int]:
    """Return what ``commit`` reads: columns, packed, then the texts."""
    values: list[object] = []
    texts: list[bytes | str] = []
    for item in items:
        columns, more = item.encode(worker)
        values += columns
        texts += more
    return [*_parts(values), *texts]


def _parts(values: Sequence[object]) -> list[bytes | int]:
    """Return how many arguments values take, and these."""
    if len(values) <= VALUES_A_PART:  # nearly always
        return [1, packed(values)]
    starts = range(0, len(values), VALUES_A_PART)
    parts = [packed(values[start : start + VALUES_A_PART]) for start in starts]
    return [len(parts), *parts]
