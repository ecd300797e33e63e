"""Values that the typed calls return, read from the scripts' replies."""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from enum import StrEnum
from typing import Any, Final, NamedTuple

import msgspec

from worker.domain.position import Position
from worker.domain.position_json import read_position
from worker.domain.refusal import Code
from worker.domain.trading_state import TradingState
from worker.domain.verdict import Verdict
from worker.ledger.layouts import (
    AccountReply,
    AdmissionRow,
    DeliveryRow,
    RefusalRow,
    read_row,
)
from worker.ledger.stored import BookRow, Record, read_book_row, read_record
from worker.ledger.turns import Turn
from worker.ledger.words import Status
from worker.runtime.errors import InvariantError
from worker.runtime.logger import get_logger

log = get_logger()

#: Characters that are shown of a message group's name.
MAX_GROUP_SHOWN: Final = 64


class Delivery(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One entry granted to this worker.

    ``lease_mono_ms`` is the local monotonic time at which the lease may have run out; it is taken
    before the call, so the server's own expiry is never earlier. ``overdue_ms`` is for how long an
    earlier lease on it had run out. ``data_loss_ms`` is when (Redis time, Unix milliseconds, 0 for
    never) a primary took over that may lack earlier writes: an order of an older signal may exist
    of which no record speaks, and one may still arrive until ``settled_mono_ms``. ``deliveries``
    counts the entry's deliveries, this one included. ``verdict`` is what a person says became of
    its order. ``is_surplus`` says that its message group had no room for it: unless it was admitted
    before, it ends with that.
    """

    entry_id: str
    fields: dict[bytes, bytes]
    token: int
    deliveries: int
    record: Record | None
    lease_mono_ms: float
    received_mono_ms: float
    overdue_ms: int = 0
    data_loss_ms: int = 0
    settled_mono_ms: float = 0.0
    verdict: Verdict | None = None
    is_surplus: bool = False


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """The deliveries and turns of one claim.

    ``more`` says that there is more to claim; if not, ``tail`` is the id after which to wait.
    ``vanished`` is how many entries were gone from the stream before they were read, ``oversize``
    the id and the error of each that was buried because it is too large.
    """

    deliveries: list[Delivery]
    tail: bytes
    more: bool
    vanished: int
    oversize: list[tuple[str, str]] = []
    turns: list[Turn] = []


class Swept(NamedTuple):
    """The counts of one sweep, as in :class:`~worker.ledger.layouts.SweptReply`.

    ``next`` is where the next one is to go on looking for orphans; empty if all was looked at.
    """

    orphans: int
    trimmed: int
    consumers_removed: int
    stranded: int
    oversize: list[tuple[str, str]]
    next: bytes = b""


class Admitted(msgspec.Struct, frozen=True, gc=False):
    """Limits reserved, record written (at Redis's ``at_ms``); to be sent after ``pause_ms``."""

    position: bytes
    pause_ms: float
    at_ms: int = 0


class Duplicate(msgspec.Struct, frozen=True):
    """The signal id is taken, by the same content or (``conflict``) by another."""

    conflict: bool


class Fenced(msgspec.Struct, frozen=True):
    """Another worker holds the entry now; this one must drop it."""


class Blocked(msgspec.Struct, frozen=True):
    """An opening may not be sent: the entry of signal ``holder`` rests for the position."""

    holder: str


class Waits(msgspec.Struct, frozen=True):
    """A close comes again once the entry that rests for its position is cancelled."""


class EndedFirst(msgspec.Struct, frozen=True):
    """A close has cancelled the entry of signal ``target``; nothing of that had traded."""

    target: str


Admission = Admitted | Duplicate | Fenced | Code | Blocked | Waits | EndedFirst


class CommitStatus(StrEnum):
    """The status of a committed item."""

    COMMITTED = Status.COMMITTED
    DUPLICATE = Status.DUPLICATE
    CONFLICT = Status.CONFLICT
    FENCED = Status.FENCED


#: Short names of members, for speed as in :mod:`worker.domain.signal`.
DUPLICATE, CONFLICT = CommitStatus.DUPLICATE, CommitStatus.CONFLICT
FENCED = CommitStatus.FENCED


class Committed(msgspec.Struct, frozen=True, gc=False):
    """A commit's answer, with the group's next entry if it was handed to this worker."""

    status: CommitStatus
    following: Delivery | None


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """The account in numbers; amounts by quote currency, ages in milliseconds.

    ``lag`` is None where the server cannot tell it (an undelivered entry was deleted). ``ahead_ms``
    says of each stream by how much its last id is ahead of the server's clock. ``waiting_part`` is
    how much of what may wait in all groups does, ``fullest_part`` the same of ``fullest_group``,
    where most wait; that is empty where none do.
    """

    exposure: dict[str, Decimal]
    realized: dict[str, Decimal]
    open_positions: int
    unresolved: int
    dead_letters: int
    lag: int | None
    pending: int
    oldest_pending_ms: int
    leases: int
    ahead_ms: dict[str, int] = {}
    waiting_part: float = 0.0
    fullest_group: str = ""
    fullest_part: float = 0.0


class Book(msgspec.Struct, frozen=True, kw_only=True):
    """The open positions by position key, and the keys that a signal has reserved now."""

    positions: dict[str, Position]
    busy: frozenset[str]


class Election(msgspec.Struct, frozen=True, kw_only=True):
    """An election's result, with the readiness note of the account's keeper."""

    elected: bool
    readiness_note: str


class Seat(NamedTuple):
    """A seat at an API key: its number, -1 if there is none, and who holds it or else the first."""

    number: int
    holder: str


class Heartbeat(NamedTuple):
    """The entries no longer held, the trading state, and the local end of the renewed leases."""

    lost: set[str]
    trading_state: TradingState
    lease_mono_ms: float


class Authorization(msgspec.Struct, frozen=True):
    """The answer to the last look before an order is sent again."""

    held: bool
    trading_state: TradingState
    pause_ms: float


_decode_verdict: Final = msgspec.json.Decoder(Verdict).decode


def read_deliveries(
    rows: Sequence[Any],
    *,
    lease_mono_ms: float,
    received_mono_ms: float,
    data_loss_ms: int,
    settled_mono_ms: float,
) -> list[Delivery]:
    """Read ids and deliveries in turn, as ``lua/lib/delivery_row.lua`` makes them.

    A first delivery is no more than its fields, or the text of ``data`` where that is all.

    Args:
        rows: the ids and deliveries.
        lease_mono_ms: when these leases may have run out, local monotonic.
        received_mono_ms: when the reply came.
        data_loss_ms: since when the primary may lack writes, Redis time; 0 for never.
        settled_mono_ms: until when an order of a lost write may still arrive, local monotonic.

    Raises:
        InvariantError: a delivery has another width than the layout.
    """
    deliveries: list[Delivery] = []
    for entry_id, row in zip(rows[::2], rows[1::2], strict=True):
        token = delivery_count = 1
        record: Record | None = None
        verdict: Verdict | None = None
        overdue_ms = 0
        is_surplus = False
        if type(row) is bytes:
            fields = {b"data": row}
        elif type(row[0]) is int:
            again = read_row(DeliveryRow, row)
            token, delivery_count = again.token, again.deliveries
            overdue_ms, is_surplus = again.overdue_ms, bool(again.is_surplus)
            if again.signal:
                record = read_record(again.signal.decode(), again.record)
            if again.verdict is not None:
                verdict = read_verdict(again.verdict)
            fields = _pairs(again.fields)
        else:
            fields = _pairs(row)
        deliveries.append(
            Delivery(
                entry_id=entry_id.decode(),
                fields=fields,
                token=token,
                deliveries=delivery_count,
                record=record,
                lease_mono_ms=lease_mono_ms,
                received_mono_ms=received_mono_ms,
                overdue_ms=overdue_ms,
                data_loss_ms=data_loss_ms,
                settled_mono_ms=settled_mono_ms,
                verdict=verdict,
                is_surplus=is_surplus,
            )
        )
    return deliveries


def read_verdict(raw: bytes) -> Verdict | None:
    """Read what a person says of an order; None, with a warning, for what nobody can have meant."""
    try:
        return _decode_verdict(raw)
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        log.warning("verdict_ignored", error=str(error))
        return None


def read_oversize(flat: Sequence[bytes]) -> list[tuple[str, str]]:
    """Read ids and errors in turn."""
    texts = [part.decode() for part in flat]
    return list(zip(texts[::2], texts[1::2], strict=True))


def printable_group(raw: bytes) -> str:
    """Return the name of a message group, which may be any bytes, as a short printable text."""
    text = raw[: 4 * MAX_GROUP_SHOWN].decode(errors="replace")
    return "".join(sign if sign.isprintable() else "?" for sign in text)[:MAX_GROUP_SHOWN]


def _pairs(fields: Sequence[bytes]) -> dict[bytes, bytes]:
    return dict(zip(fields[::2], fields[1::2], strict=True))


def read_book(rows: Mapping[bytes, bytes]) -> Book:
    """Read the hash ``book``."""
    return book_of({key.decode(errors="replace"): read_book_row(raw) for key, raw in rows.items()})


def book_of(book: Mapping[str, BookRow]) -> Book:
    """Return what rows of the book say."""
    return Book(
        positions={key: read_position(row.position) for key, row in book.items() if row.position},
        busy=frozenset(key for key, row in book.items() if row.reservation),
    )


_REFUSED: Final = Status.REFUSED.encode()
_ENDED: Final = Status.ENDED.encode()
_OTHERS: Final[Mapping[bytes, Admission]] = {
    Status.FENCED.encode(): Fenced(),
    Status.DUPLICATE.encode(): Duplicate(conflict=False),
    Status.CONFLICT.encode(): Duplicate(conflict=True),
    Status.WAITS.encode(): Waits(),
}


def read_admission(row: Any, at_ms: int) -> Admission:
    """Read the answer for one order, given at ``at_ms``.

    Raises:
        InvariantError: it has another width than the layout, or it is none of the known words.
    """
    if row == b"admitted":
        return Admitted(b"", 0.0, at_ms)
    if row[:1] == b"{":  # the position, with nothing more to say
        return Admitted(row, 0.0, at_ms)
    if isinstance(row, list):
        if row[0] == _REFUSED:
            refused = read_row(RefusalRow, row)
            if refused.detail:
                return Blocked(refused.detail.decode())
            return Code[refused.code.decode()]
        if row[0] == _ENDED:
            return EndedFirst(read_row(RefusalRow, row).detail.decode())
        admitted = read_row(AdmissionRow, row)
        return Admitted(admitted.argument, float(admitted.pause_ms), admitted.admitted_at)
    if row not in _OTHERS:
        raise InvariantError(f"an order cannot be answered with {row!r}")
    return _OTHERS[row]


def read_account(row: Any, *, max_waiting: int, max_group_waiting: int) -> Account:
    """Read the account in numbers, and how much of what may wait does.

    Raises:
        InvariantError: it has another width than the layout.
    """
    reply = read_row(AccountReply, row)
    return Account(
        exposure=_amounts(reply.exposure),
        realized=_amounts(reply.realized),
        open_positions=int(reply.open_positions),
        unresolved=int(reply.unresolved),
        dead_letters=int(reply.dead_letters),
        lag=int(reply.lag) if int(reply.lag) >= 0 else None,
        pending=int(reply.pending),
        oldest_pending_ms=int(reply.oldest_pending_ms),
        leases=int(reply.leases),
        ahead_ms={
            name.decode(): int(ms)
            for name, ms in zip(reply.ahead[::2], reply.ahead[1::2], strict=True)
        },
        waiting_part=max(int(reply.pending) - int(reply.leases), 0) / max_waiting,
        fullest_group=printable_group(reply.fullest_group),
        fullest_part=int(reply.fullest_waiting) / max_group_waiting,
    )


def _amounts(rows: Sequence[bytes]) -> dict[str, Decimal]:
    """Return amounts by currency, from currencies and millionths in turn."""
    pairs = zip(rows[::2], rows[1::2], strict=True)
    return {currency.decode(): Decimal(int(amount)) / 1_000_000 for currency, amount in pairs}


#: The status of a committed item by its word in a reply.
STATUS_OF: Final[Mapping[bytes, CommitStatus]] = {
    status.value.encode(): status for status in CommitStatus
}
