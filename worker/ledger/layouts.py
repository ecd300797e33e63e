"""Field orders that cross between Python and Lua, each written once.

Scripts and worker exchange lists: a name with every value would cost both sides more than the
value. Python encodes and reads by these layouts, and :mod:`worker.ledger.script_source` writes them
into the scripts, where ``ADMIT.TOKEN`` is a column's number (from 1) and ``ADMIT.SIZE`` their
count. Both sides refuse a list of another width.
"""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple, TypeVar

from worker.ledger.limit_rows import LimitRow
from worker.ledger.resting_layouts import RESTING_LAYOUTS
from worker.ledger.stored import AdmittedPart, EndedPart, Entry, OrderRow, Record
from worker.ledger.stored_format import Conversion, StoredFormatReply
from worker.ledger.turn_layouts import Rests, TurnRow
from worker.runtime.errors import InvariantError

# -- what is sent: lists of items ---------------------------------------------------------------

#: One order to be admitted: fields of ``AdmitItem`` as they are ...
ADMIT_PLAIN: Final = (
    "entry",
    "token",
    "signal",
    "digest",
    "exchange",
    "position_key",
    "action",
    "notional",
    "only_look",
    "opener",
)
#: ... then how many values stand before the first of its LIMIT_ROWs, and before the last one.
ADMIT: Final = (*ADMIT_PLAIN, "first_limit", "last_limit")
#: One outcome to be committed: fields of ``CommitItem`` as they are ...
COMMIT_PLAIN: Final = (
    "entry",
    "token",
    "signal",
    "digest",
    "reservation",
    "position_key",
    "quote",
    "exposure",
    "reserved",
    "realized",
    "traceparent",
    "duplicate",
    "take_next",
    "expires_ms",
)
#: ... then those that need a value for "none" (false), and how many EVENT follow.
COMMIT: Final = (*COMMIT_PLAIN, "position", "dead", "rests", "events")
#: One event of an outcome; its JSON travels apart.
EVENT: Final = ("stream", "type", "id")


class Held(NamedTuple):
    """An entry and the token under which a worker holds it."""

    entry: str
    token: int


class Released(NamedTuple):
    """An entry to give back, after ``hold_ms``; ``died`` counts its delivery as one that died."""

    entry: str
    token: int
    hold_ms: int
    died: bool


class Authorize(NamedTuple):
    """An order to look at once more before it is sent."""

    entry: str
    token: int
    exchange: str


# -- what is stored -----------------------------------------------------------------------------


class DeadLetterTail(NamedTuple):
    """The pairs at the end of a dead letter, after the dead entry's own fields."""

    reason: str
    error: str
    entry_id: str
    deliveries: str
    worker: str
    at: str

    def pairs(self) -> list[str]:
        """Return names and values in turn, as a stream entry has them."""
        return [part for pair in zip(self._fields, self, strict=True) for part in pair]


# -- what is answered ---------------------------------------------------------------------------


class Epoch(NamedTuple):
    """The primary that answered, and since when (0 for never) it may lack earlier writes."""

    since_ms: int
    settled_in_ms: int
    primary: bytes


class DeliveryRow(NamedTuple):
    """An entry granted; a first delivery has its fields only (``first_delivery_row.lua``).

    ``is_surplus`` (1 or 0) marks one that its message group has no room for.
    """

    token: int
    deliveries: int
    signal: bytes
    record: bytes | None
    overdue_ms: int
    verdict: bytes | None
    is_surplus: int
    fields: list[bytes]


class ClaimReply(NamedTuple):
    """A claim's reply: ``deliveries`` are ids and deliveries in turn, ``turns`` ids and turns.

    ``holds`` are budgets and milliseconds in turn.
    ``oversize`` are ids and errors of the entries that were buried because they are too large.
    """

    deliveries: list[Any]
    turns: list[Any]
    epoch: list[Any]
    tail: bytes
    more: int
    vanished: int
    oversize: list[bytes]
    holds: list[Any]


class GrantedReply(NamedTuple):
    """``adopt`` and ``resync``: ids and deliveries in turn; ``more`` (1 or 0) did not fit.

    ``turns`` are ids and turns.
    """

    deliveries: list[Any]
    turns: list[Any]
    epoch: list[Any]
    more: int


class AdmissionsReply(NamedTuple):
    """``admit``: an answer for each order, given at ``now_ms``."""

    now_ms: int
    answers: list[Any]


class AdmissionRow(NamedTuple):
    """An order that was admitted; ``argument`` is the position, empty if there is none."""

    status: bytes
    argument: bytes
    pause_ms: int
    admitted_at: int


class RefusalRow(NamedTuple):
    """An order that was refused; ``detail`` is the signal that stands in its way, or empty."""

    status: bytes
    code: bytes
    detail: bytes


class CommittedReply(NamedTuple):
    """``commit``: a status for each item; the items (from 1) that handed an entry on, and these."""

    statuses: list[bytes]
    epoch: list[Any] | None
    handing: list[int]
    handed: list[Any]
    holds: list[Any]


class HeartbeatReply(NamedTuple):
    """The entries no longer held, the account's trading state, and what is shared.

    ``shares`` has for each budget how many workers use it and this one's number among them;
    ``holds`` budgets and milliseconds in turn.
    """

    lost: list[bytes]
    trading_state: bytes
    shares: list[int]
    holds: list[Any]


class AuthorizationsReply(NamedTuple):
    """``authorize``: an AuthorizationRow for each order."""

    trading_state: bytes
    orders: list[Any]


class AuthorizationRow(NamedTuple):
    """An order to be sent again: its entry is held (1 or 0), its exchange paused for so long."""

    held: int
    pause_ms: int


class AccountReply(NamedTuple):
    """The account in numbers; amounts are currency and millionths in turn, ``lag`` -1 unknown.

    ``ahead`` is streams and by how many milliseconds their last id is ahead of the clock, in turn.
    """

    now_ms: int
    exposure: list[bytes]
    realized: list[bytes]
    open_positions: int
    unresolved: int
    dead_letters: int
    lag: int
    pending: int
    oldest_pending_ms: int
    leases: int
    ahead: list[bytes]
    fullest_group: bytes
    fullest_waiting: int


class ElectionReply(NamedTuple):
    """An election: this worker is the keeper (1 or 0), and the keeper's readiness note."""

    elected: int
    note: bytes


class SeatReply(NamedTuple):
    """A seat at an API key: its number, -1 if there is none, and who holds it or else the first."""

    number: int
    holder: bytes


class SweptReply(NamedTuple):
    """The counts of one sweep, and where to go on; ``oversize`` as in :class:`ClaimReply`.

    ``stranded`` are positions with a live order that nobody would have looked at again.
    """

    orphans: int
    trimmed: int
    consumers_removed: int
    stranded: int
    oversize: list[bytes]
    next: bytes


class LettersTrimmedReply(NamedTuple):
    """Dead letters removed by one call, the bytes of their fields, and whether there are more."""

    letters: int
    bytes: int
    more: int


class MendedReply(NamedTuple):
    """A step in mending a stream: entries copied so far, and how many of them got a new id."""

    status: bytes
    entries: int
    renamed: int


class ReplayReply(NamedTuple):
    """The answer to a replay: a word, and the new id or the record's state."""

    status: bytes
    detail: bytes


class StreamCounts(NamedTuple):
    """The entries a stream was ever given and those it has, counted, and its last id."""

    added: int
    length: int
    last: bytes


class WatchedReply(NamedTuple):
    """One look of the keeper; ``events`` are entry id, type, id and data in turn."""

    control: list[bytes]
    marks: list[bytes]
    system: list[Any]
    dead: list[Any]
    events: list[bytes]


Row = TypeVar("Row", bound=tuple[Any, ...])


def read_row(kind: type[Row], reply: Any) -> Row:
    """Return a reply's list as ``kind``, one of the named tuples above.

    Raises:
        InvariantError: it is no list of that width.
    """
    columns: tuple[str, ...] = kind._fields  # type: ignore[attr-defined]
    if not isinstance(reply, list) or len(reply) != len(columns):
        raise InvariantError(
            f"a reply of the ledger must have the {len(columns)} values of {kind.__name__} "
            f"({', '.join(columns)}), not {reply!r}"
        )
    return tuple.__new__(kind, reply)  # kind(*reply) would call a function in Python for that


#: The columns of every layout by the name it has in the scripts. In a script's memory an entry
#: begins with the text it is stored as.
LAYOUTS: Final[Mapping[str, tuple[str, ...]]] = {
    "ADMIT": ADMIT,
    "LIMIT_ROW": LimitRow._fields,
    "COMMIT": COMMIT,
    "EVENT": EVENT,
    "HELD": Held._fields,
    "STREAM_COUNTS": StreamCounts._fields,
    "WATCHED": WatchedReply._fields,
    "RELEASED": Released._fields,
    "RESTS": Rests._fields,
    "ORDER": OrderRow.__struct_fields__,
    "TURN": TurnRow._fields,
    "AUTHORIZE": Authorize._fields,
    "ENTRY": ("text", *Entry.__struct_fields__),
    "RECORD": Record.__struct_fields__,
    "DEAD_LETTER": DeadLetterTail._fields,
    "EPOCH": Epoch._fields,
    "DELIVERY": DeliveryRow._fields,
    "CLAIM": ClaimReply._fields,
    "GRANTED": GrantedReply._fields,
    "ADMISSIONS": AdmissionsReply._fields,
    "ADMISSION": AdmissionRow._fields,
    "REFUSAL": RefusalRow._fields,
    "COMMITTED": CommittedReply._fields,
    "HEARTBEAT": HeartbeatReply._fields,
    "AUTHORIZATIONS": AuthorizationsReply._fields,
    "AUTHORIZATION": AuthorizationRow._fields,
    "ACCOUNT": AccountReply._fields,
    "ELECTION": ElectionReply._fields,
    "SEAT": SeatReply._fields,
    "SWEPT": SweptReply._fields,
    "LETTERS_TRIMMED": LettersTrimmedReply._fields,
    "MENDED": MendedReply._fields,
    "REPLAY": ReplayReply._fields,
    "CONVERSION": Conversion._fields,
    "STORED_FORMAT": StoredFormatReply._fields,
    **RESTING_LAYOUTS,
}


def require(is_so: bool, rule: str) -> None:
    """Check a rule about layouts when the program starts.

    Raises:
        InvariantError: it is broken.
    """
    if not is_so:
        raise InvariantError(f"layouts: {rule}")


# The scripts rely on these: they write the beginning or the end of a text without the rest of it.
require(Entry.__struct_fields__[0] == "group", "an entry must begin with its group")
require(
    Entry.__struct_fields__[-2:] == ("following", "signal"),
    "an entry must end with what is behind it and with its signal",
)
_BEGUN = len(AdmittedPart.__struct_fields__)
require(
    Record.__struct_fields__[_BEGUN : _BEGUN + 3]
    == ("admitted_at", "unresolved_since", "position"),
    "behind what the worker encodes for an admission, a record must have what `admit` appends",
)
require(
    Record.__struct_fields__ == (*EndedPart.__struct_fields__, "ended_at"),
    "behind what the worker encodes for a commit, a record must have what `commit` appends",
)
require(
    AdmissionRow._fields[0] == RefusalRow._fields[0] == "status",
    "an answer to an admission must begin with its status",
)
