"""What a signal becomes on its way: each stage takes one of these and returns the next.

``Arrival -> Intent -> AdmittedOrder -> Submission -> Settlement``; any stage may end the chain
early with one of the values in :data:`Ended`.
"""

from decimal import Decimal

import msgspec

from worker.domain.market import SymbolInfo
from worker.domain.order import Fill, OrderReport, OrderRequest, Role
from worker.domain.position import Position
from worker.domain.refusal import DeadReason, Refusal
from worker.domain.signal import Action, Signal
from worker.domain.verdict import Verdict
from worker.exchanges.ports import ExchangeAdapter
from worker.ledger.lease import Lease
from worker.market.data import MarketView
from worker.pipeline.orders import ManagedOrder


class Arrival(msgspec.Struct, frozen=True, kw_only=True):
    """A decoded signal, held under a lease, with the market as it is known now.

    ``suspect_until_mono_ms`` is not 0 where Redis lost writes since the signal was made: an order
    of it may exist, or arrive until then, of which no record speaks. ``is_old`` is set where the
    signal has waited so long that this may have happened without anybody being left who knows.
    """

    signal: Signal
    #: The signal as JSON, whole, and what tells it from another one under its id.
    written: bytes
    digest: str
    lease: Lease
    view: MarketView
    #: When it was made and when it may no longer be sent, Unix milliseconds.
    created_ms: float
    expires_ms: float
    suspect_until_mono_ms: float = 0.0
    is_old: bool = False


class Intent(msgspec.Struct, frozen=True, kw_only=True):
    """A valid signal and the market it is to trade on."""

    arrival: Arrival
    adapter: ExchangeAdapter
    info: SymbolInfo
    reference: Decimal | None


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be done for a signal.

    ``request`` is absent for an exit, which follows from the position it closes.
    """

    request: OrderRequest | None
    reference: Decimal | None
    #: What admission reserved for it, in millionths of the quote currency.
    reserved: int
    #: The exchange's time just before admission: an order of ours cannot be older.
    not_before_ms: int
    #: Set where the order is only looked for: how the signal fails if there is none.
    refusal: Refusal | None = None


class StoredIntent(Plan, frozen=True, kw_only=True):
    """The plan as the record keeps it, enough for any worker to go on from."""

    signal: Signal


class AdmittedOrder(msgspec.Struct, frozen=True, kw_only=True):
    """An order whose limits are reserved and whose record is durable: it may be sent.

    ``look_up_first`` is set where an earlier delivery may have sent it; "not found" then counts
    only from ``absent_after_mono_ms`` on.
    """

    signal: Signal
    digest: str
    lease: Lease
    adapter: ExchangeAdapter
    info: SymbolInfo
    request: OrderRequest
    reference: Decimal | None
    position: Position | None
    reserved: int
    managed: ManagedOrder
    not_before_ms: int
    #: When its signal was made and when it may no longer be sent, Unix milliseconds.
    created_ms: float
    expires_ms: float
    #: By Redis's clock and by ours.
    admitted_at: int
    admitted_mono_ms: float
    pause_ms: float = 0.0
    #: Redis's time at which its outcome was first found to be unknown; 0 for never.
    unresolved_since: int = 0
    look_up_first: bool = False
    #: Set where the order is only looked for: how the signal fails if there is none.
    give_up: Refusal | None = None
    absent_after_mono_ms: float = 0.0
    #: What a person says became of it, for when the exchange does not say it.
    verdict: Verdict | None = None


class Submission(msgspec.Struct, frozen=True, kw_only=True):
    """An order the exchange has, as it said so."""

    order: AdmittedOrder
    report: OrderReport
    attempts: int


class Settlement(msgspec.Struct, frozen=True, kw_only=True):
    """An order that is over, with everything that traded.

    ``filled`` is in base units, ``average_price`` in quote units, ``fees`` by currency; all three
    follow from ``fills``.
    """

    order: AdmittedOrder
    report: OrderReport
    fills: tuple[Fill, ...]
    filled: Decimal
    average_price: Decimal | None
    fees: dict[str, Decimal]
    attempts: int


class Failed(msgspec.Struct, frozen=True, kw_only=True):
    """No order, for a reason the producer is told. ``order`` where limits were reserved for it."""

    refusal: Refusal
    signal: Signal
    digest: str
    order: AdmittedOrder | None = None


class Repeated(msgspec.Struct, frozen=True, kw_only=True):
    """The signal's id has been used: by itself, or (``conflict``) by another signal."""

    signal: Signal
    conflict: bool


class Malformed(msgspec.Struct, frozen=True, kw_only=True):
    """The entry is no signal, or not one to believe; ``error`` is a sentence."""

    reason: DeadReason
    error: str


class Lost(msgspec.Struct, frozen=True, kw_only=True):
    """The entry is no longer this worker's; there is nothing left to do for it."""


class Postponed(msgspec.Struct, frozen=True, kw_only=True):
    """Nothing was sent and nothing decided; the entry goes back for another try."""

    reason: str


class Unresolved(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the exchange has the order, or what became of it, cannot be told now."""

    order: AdmittedOrder
    reason: str


ENDS = frozenset((Failed, Repeated, Malformed, Lost, Postponed, Unresolved))
Ended = Failed | Repeated | Malformed | Lost | Postponed | Unresolved


def position_key(signal: Signal) -> str:
    """What the account can hold one position of."""
    return f"{signal.exchange}:{signal.symbol}"


def reservation_of(order: AdmittedOrder) -> str:
    """What admission reserved for an order, a new position or a change of one: the ledger's name.

    An entry that was found after another had taken its place changes that one's position.
    """
    return "opening" if order.position is None else "closing"


def leg_of(signal: Signal) -> Role:
    """The leg a signal's own order is."""
    return Role.ENTRY if signal.action is Action.OPEN else Role.EXIT
