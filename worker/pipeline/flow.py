"""The values a signal becomes on its way through the stages; none of them carries a service.

``Arrival -> ValidSignal -> Proposal -> AdmittedOrder -> Submission -> Settlement``; any stage may
end the signal's way early with one of the values in :data:`EarlyEnd`. The garbage collector does
not look at them (``gc=False``): a frozen value cannot become part of a cycle.
"""

from decimal import Decimal
from enum import StrEnum

import msgspec

from worker.domain.market import SymbolInfo
from worker.domain.money import ZERO
from worker.domain.order import ENTRY, EXIT, Fill, OrderReport, OrderRequest, Role
from worker.domain.position import Position
from worker.domain.refusal import CancelCode, DeadReason, Refusal
from worker.domain.signal import FOK, IOC, MARKET, OPEN, Signal
from worker.domain.verdict import Verdict
from worker.ledger.items import AdmitItem
from worker.ledger.stored import Reservation
from worker.market.data import MarketView


class Lifetime(msgspec.Struct, frozen=True, gc=False):
    """When a signal was made, and when it may no longer be sent; Unix milliseconds."""

    created_ms: float
    expires_ms: float


class Arrival(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A decoded signal with its market as it is known now.

    ``written`` is the signal as JSON, whole; ``digest`` tells it from another one under its id.

    ``seen_ms`` is when its market was looked at, Unix milliseconds: it is judged as of then.

    ``suspect_until_mono_ms`` is set where Redis lost writes since the signal was made: an order
    of it may exist, or arrive until then, of which no record speaks. ``is_old`` is set where the
    signal has waited so long that this may have happened without anybody being left who knows.
    """

    signal: Signal
    written: bytes
    digest: str
    view: MarketView
    lifetime: Lifetime
    seen_ms: int
    suspect_until_mono_ms: float | None = None
    is_old: bool = False


class ValidSignal(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A signal that passed validation; ``reference`` is the price it is sized and judged by."""

    arrival: Arrival
    info: SymbolInfo
    reference: Decimal | None


class Plan(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The plan for a signal: its order, and what admission reserved for it.

    ``request`` is absent for an exit, which follows from the position it closes. ``reserved`` is
    in millionths of the quote currency. ``not_before_ms`` is the exchange's time just before
    admission: an order of ours cannot be older. ``refusal`` is set where the order is only looked
    for: how the signal fails if there is none.
    """

    request: OrderRequest | None
    reference: Decimal | None
    reserved: int
    not_before_ms: int
    refusal: Refusal | None = None


class StoredPlan(Plan, frozen=True, kw_only=True, gc=False):
    """The plan as the record keeps it, enough for any worker to go on from."""

    signal: Signal


class Proposal(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An order to be admitted: ``item`` is the question to the ledger."""

    valid: ValidSignal
    plan: Plan
    item: AdmitItem


class NeverSent(msgspec.Struct, frozen=True, gc=False):
    """No delivery can have sent the order before this one."""


class MaybeSent(msgspec.Struct, frozen=True, gc=False):
    """An earlier delivery may have sent the order: it is looked up first.

    "Not found" proves that it was not sent only as the answer to a question asked after
    ``absent_after_mono_ms`` (local monotonic); None where no request can still be under way, so
    that any answer is proof.
    """

    absent_after_mono_ms: float | None


SentBefore = NeverSent | MaybeSent


class Permission(msgspec.Struct, frozen=True, gc=False):
    """The ledger's word that an order may be sent, as old as the question.

    Sending has to wait ``pause_ms`` first where the exchange asked the fleet for a pause.
    """

    asked_mono_ms: float
    pause_ms: float = 0.0


class WriteOff(StrEnum):
    """Why what an order leaves of its position counts as closed without a trade."""

    UNTRADABLE = "untradable"  # the market takes no order as small as what is held
    GONE = "gone"  # the exchange holds nothing of it any more


#: Short names of members, for speed as in :mod:`worker.domain.signal`.
GONE = WriteOff.GONE
_IMMEDIATE = frozenset({IOC, FOK})
_OPENING, _CLOSING = Reservation.OPENING, Reservation.CLOSING


class AdmittedOrder(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An order whose limits are reserved and whose record is durable.

    ``admitted_at`` and ``unresolved_since`` (0 for never) are Redis's Unix milliseconds.
    ``permission`` is None where the ledger has to be asked before anything is sent. ``give_up``
    is set where the order is only looked for: how the signal fails if there is none. ``verdict``
    is what a person says became of it, for when the exchange does not say it. ``missing`` is how
    much of the position (base units) the exchange does not hold; ``write_off`` is set where nothing
    is left to trade once the order is over. ``piece`` is its number among the orders of one close.
    """

    signal: Signal
    digest: str
    lifetime: Lifetime
    info: SymbolInfo
    request: OrderRequest
    position: Position | None
    plan: Plan
    admitted_at: int
    sent_before: SentBefore
    permission: Permission | None = None
    unresolved_since: int = 0
    give_up: Refusal | None = None
    verdict: Verdict | None = None
    missing: Decimal = ZERO
    write_off: WriteOff | None = None
    piece: int = 1


class Submission(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An order that the exchange has, with its first report."""

    order: AdmittedOrder
    report: OrderReport
    attempts: int


class Resting(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An entry that the exchange keeps open: its signal is acknowledged, turns follow the order."""

    order: AdmittedOrder
    report: OrderReport
    attempts: int


class Told(msgspec.Struct, frozen=True, gc=False):
    """The part of a resting order's life that events have told already.

    ``entry_id`` is the stream entry it came by, ``filled`` base units, ``average_price`` quote
    units, ``position`` what its fills have made so far, None while that is nothing.
    """

    entry_id: str
    filled: Decimal
    average_price: Decimal | None
    position: Position | None


class Settlement(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An order that is over, with everything that traded.

    ``filled`` is in base units, ``average_price`` in quote units, ``fees`` by currency; all three
    follow from ``fills``. ``pieces`` are the ends of its orders where one order could not close it
    all; the request is then the first one's for the quantity of all. ``told`` is set for an order
    that rested. ``cancelled_for`` is why its cancellation was asked for, None where it was not.
    """

    order: AdmittedOrder
    report: OrderReport
    fills: tuple[Fill, ...]
    filled: Decimal
    average_price: Decimal | None
    fees: dict[str, Decimal]
    attempts: int
    pieces: tuple["Settlement", ...] = ()
    told: Told | None = None
    cancelled_for: CancelCode | None = None


class Failed(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """No order, for a reason that its event states. ``order`` where limits were reserved for it."""

    refusal: Refusal
    signal: Signal
    digest: str
    order: AdmittedOrder | None = None


class Repeated(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The signal's id has been used: by itself, or (``conflict``) by another signal."""

    signal: Signal
    conflict: bool


class Completed(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A signal that ends well without an order of its own; ``result`` is a sentence."""

    signal: Signal
    digest: str
    result: str
    target: str


class Malformed(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The entry is no signal, or not one to believe; ``error`` is a sentence."""

    reason: DeadReason
    error: str


class Lost(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The entry is no longer this worker's; there is nothing left to do for it."""


class Postponed(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A delivery without an ending: no order of it is known to be there; the entry goes back."""

    reason: str


class Unresolved(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The exchange does not tell now whether it has the order, or what became of it."""

    order: AdmittedOrder
    reason: str


EarlyEnd = Failed | Repeated | Completed | Malformed | Lost | Postponed | Unresolved


def may_rest(order: AdmittedOrder) -> bool:
    """Return whether an order that has not traded whole stays at the exchange: entries only.

    A fill-or-kill and an immediate-or-cancel order end by themselves.
    """
    request = order.request
    return (
        request.role is ENTRY
        and request.order_type is not MARKET
        and request.time_in_force not in _IMMEDIATE
        and order.position is None
        and order.give_up is None
        and order.verdict is None
    )


def reservation_of(order: AdmittedOrder) -> Reservation:
    """Return what admission reserved, a new position or a change of one: the ledger's name.

    An entry that was found after another had taken its position key changes that position.
    """
    return _OPENING if order.position is None else _CLOSING


def leg_of(signal: Signal) -> Role:
    """Return the leg that a signal's own order is."""
    return ENTRY if signal.action is OPEN else EXIT
