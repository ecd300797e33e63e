"""What a script's reply says: the values, and how each is read."""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from enum import StrEnum
from typing import Any, Final

import msgspec

from worker.domain.position import Position
from worker.domain.refusal import Code
from worker.domain.trading_state import TradingState
from worker.domain.verdict import Verdict
from worker.ledger.stored import Record, decode_record, read_place


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """One entry granted to this worker.

    ``lease_mono_ms`` is the local monotonic time at which the lease may have run out; it is taken
    before the call, so the server's own expiry is never earlier. ``overdue_ms`` is for how long an
    earlier lease on it had run out. ``data_loss_ms`` is when (Redis time, Unix milliseconds, 0 for
    never) a primary took over that may lack earlier writes: an order of an older signal may exist
    of which no record speaks, and one may still arrive until ``settled_mono_ms``. ``verdict`` is
    what a person says became of its order.
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


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """What one claim brought; ``more`` that there is some, ``tail`` after what to wait if not."""

    deliveries: list[Delivery]
    tail: bytes
    more: bool
    vanished: int


class Admitted(msgspec.Struct, frozen=True):
    """Limits reserved, record written (at Redis's ``at_ms``): to be sent after ``pause_ms``."""

    position: bytes
    pause_ms: float
    at_ms: int = 0


class Duplicate(msgspec.Struct, frozen=True):
    """The signal id is taken, by the same content or (``conflict``) by another."""

    conflict: bool


class Fenced(msgspec.Struct, frozen=True):
    """Another worker holds the entry now; this one has to forget it."""


Admission = Admitted | Duplicate | Fenced | Code


class CommitStatus(StrEnum):
    """What became of a commit."""

    COMMITTED = "committed"
    DUPLICATE = "duplicate"
    CONFLICT = "conflict"
    FENCED = "fenced"


class Committed(msgspec.Struct, frozen=True):
    """A commit's answer, with the group's next entry if it was handed to this worker."""

    status: CommitStatus
    following: Delivery | None


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """The account in numbers; amounts by quote currency, ages in milliseconds.

    ``lag`` is None where the server cannot tell it (an undelivered entry was deleted).
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


class Book(msgspec.Struct, frozen=True, kw_only=True):
    """The open positions by key, and the keys that a signal is changing at this moment."""

    positions: dict[str, Position]
    busy: frozenset[str]


class Election(msgspec.Struct, frozen=True, kw_only=True):
    """Whether this worker is the account's keeper, and what the keeper has said in its term."""

    elected: bool
    said: str


class Authorization(msgspec.Struct, frozen=True):
    """The last look before an order is sent."""

    held: bool
    trading_state: TradingState
    pause_ms: float


#: Token, deliveries, signal, record, overdue ms and verdict of an entry in its first delivery.
_FIRST: Final = (1, 1, b"", None, 0, None)
_decode_position: Final = msgspec.json.Decoder(Position).decode
_decode_verdict: Final = msgspec.json.Decoder(Verdict).decode


def read_delivery(
    delivery: Any,
) -> tuple[int, int, bytes, bytes | None, int, bytes | None, dict[bytes, bytes]]:
    """Token, deliveries, signal, record, overdue ms, verdict and fields, of one in a reply."""
    if type(delivery) is bytes:
        return (*_FIRST, {b"data": delivery})
    about, fields = _FIRST, delivery
    if type(delivery[0]) is int:
        *about, fields = delivery
    return (*about, dict(zip(fields[::2], fields[1::2], strict=True)))


def read_book(rows: Mapping[bytes, bytes]) -> Book:
    """The hash ``book`` as it is stored."""
    places = {key.decode(): read_place(raw) for key, raw in rows.items()}
    return Book(
        positions={
            key: _decode_position(place.position) for key, place in places.items() if place.position
        },
        busy=frozenset(key for key, place in places.items() if place.busy),
    )


def read_record(signal_id: str, raw: bytes | None) -> Record:
    """The record of a signal that was admitted; an empty one where it has been lost."""
    return decode_record(raw) if raw else Record(entry="", signal=signal_id, state="")


def read_verdict(raw: bytes) -> Verdict:
    """What a person decided of an unresolved order."""
    return _decode_verdict(raw)


def read_admission(row: Any, at_ms: int) -> Admission:
    """One order's answer, given at ``at_ms``: a status, with what there is to say of it."""
    if row == b"admitted":
        return Admitted(b"", 0.0, at_ms)
    if row[:1] == b"{":  # the position, with nothing more to say
        return Admitted(row, 0.0, at_ms)
    status, *rest = row if isinstance(row, list) else [row]
    if status == b"admitted":
        return Admitted(rest[0], float(rest[1]), rest[2])
    if status == b"refused":
        return Code[rest[0].decode()]
    if status == b"fenced":
        return Fenced()
    return Duplicate(conflict=status == b"conflict")


def read_account(reply: Sequence[Any]) -> Account:
    """The account in numbers, as ``account.lua`` counts it."""
    _, exposure, realized, count, unresolved, dead, lag, pending, oldest, leases = reply
    return Account(
        exposure=_amounts(exposure),
        realized=_amounts(realized),
        open_positions=int(count),
        unresolved=int(unresolved),
        dead_letters=int(dead),
        lag=int(lag) if int(lag) >= 0 else None,
        pending=int(pending),
        oldest_pending_ms=int(oldest),
        leases=int(leases),
    )


def _amounts(rows: Sequence[bytes]) -> dict[str, Decimal]:
    """Amounts by currency from a flat list of currency and millionths."""
    pairs = zip(rows[::2], rows[1::2], strict=True)
    return {currency.decode(): Decimal(int(amount)) / 1_000_000 for currency, amount in pairs}


#: A commit's answer as the script spells it.
STATUS_OF: Final[Mapping[bytes, CommitStatus]] = {
    status.value.encode(): status for status in CommitStatus
}
