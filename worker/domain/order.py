"""An order's shape, its states, and the one table of legal transitions."""

from decimal import Decimal
from enum import StrEnum
from typing import Final

import msgspec

from worker.domain.money import ZERO, ratio, shown, shown_ratio
from worker.domain.signal import LONG, Direction, OrderType, TimeInForce


class Side(StrEnum):
    """Which way an order trades."""

    BUY = "buy"
    SELL = "sell"

    @property
    def opposite(self) -> "Side":
        """The side that closes what this one opens."""
        return SELL if self is BUY else BUY


def opening_side(direction: Direction) -> Side:
    """Return the side that opens a position in ``direction``."""
    return BUY if direction is LONG else SELL


class Role(StrEnum):
    """Which leg of a signal an order is; also the leg's part of the client order id."""

    ENTRY = "entry"
    EXIT = "exit"
    STOP_LOSS = "stop_loss"
    TAKE_PROFIT = "take_profit"


class OrderState(StrEnum):
    """The state of an order, from planned to ended.

    ``TRIGGERED``: its trigger has been reached, and what trades is the order that this one became
    or sent (its child); one id of ours stands for both.
    """

    PENDING = "PENDING"
    SUBMITTED = "SUBMITTED"
    ACTIVE = "ACTIVE"
    TRIGGERED = "TRIGGERED"
    PARTIALLY_FILLED = "PARTIALLY_FILLED"
    FILLED = "FILLED"
    CANCELLED = "CANCELLED"
    REJECTED = "REJECTED"
    EXPIRED = "EXPIRED"
    FAILED = "FAILED"
    UNRESOLVED = "UNRESOLVED"


class Fact(StrEnum):
    """A fact learnt about an order, which may change its state."""

    SENT = "sent"
    ACCEPTED = "accepted"
    TRIGGERED = "triggered"
    PART_FILLED = "part_filled"
    FILLED = "filled"
    CANCELLED = "cancelled"
    REJECTED = "rejected"
    EXPIRED = "expired"
    FAILED = "failed"
    LOST = "lost"


#: The order is over; only a late fill can still change a cancelled or an expired one.
TERMINAL: Final = frozenset(
    {
        OrderState.FILLED,
        OrderState.CANCELLED,
        OrderState.REJECTED,
        OrderState.EXPIRED,
        OrderState.FAILED,
    }
)

#: Short names of members, for speed as in :mod:`worker.domain.signal`.
BUY, SELL = Side.BUY, Side.SELL
ENTRY, EXIT, TAKE_PROFIT = Role.ENTRY, Role.EXIT, Role.TAKE_PROFIT
FILLED, CANCELLED = OrderState.FILLED, OrderState.CANCELLED
PENDING, PARTIALLY_FILLED = OrderState.PENDING, OrderState.PARTIALLY_FILLED

SENT = Fact.SENT

_S = OrderState
#: Each row says why it is legal; what has no row is refused by :func:`advance`.
TRANSITIONS: Final[dict[tuple[OrderState, Fact], OrderState]] = {
    (_S.PENDING, Fact.SENT): _S.SUBMITTED,  # the request has left, or may have
    (_S.PENDING, Fact.FAILED): _S.FAILED,  # refused by our own rules, never sent
    (_S.SUBMITTED, Fact.SENT): _S.SUBMITTED,  # sent again after proof that it had not arrived
    (_S.SUBMITTED, Fact.ACCEPTED): _S.ACTIVE,  # the exchange has it
    (_S.SUBMITTED, Fact.TRIGGERED): _S.TRIGGERED,  # the trigger was reached before the first look
    (_S.SUBMITTED, Fact.PART_FILLED): _S.PARTIALLY_FILLED,  # the create response had fills
    (_S.SUBMITTED, Fact.FILLED): _S.FILLED,  # the same, and they were all of it
    (_S.SUBMITTED, Fact.CANCELLED): _S.CANCELLED,  # IOC or FOK with nothing to trade against
    (_S.SUBMITTED, Fact.REJECTED): _S.REJECTED,  # the exchange refused it
    (_S.SUBMITTED, Fact.EXPIRED): _S.EXPIRED,  # what some exchanges call an unfilled IOC or FOK
    (_S.SUBMITTED, Fact.FAILED): _S.FAILED,  # proven not to have reached the exchange
    (_S.SUBMITTED, Fact.LOST): _S.UNRESOLVED,  # nobody can tell whether the exchange has it
    (_S.ACTIVE, Fact.ACCEPTED): _S.ACTIVE,  # it still rests
    (_S.ACTIVE, Fact.TRIGGERED): _S.TRIGGERED,  # the market has reached its trigger
    (_S.ACTIVE, Fact.PART_FILLED): _S.PARTIALLY_FILLED,  # it trades
    (_S.ACTIVE, Fact.FILLED): _S.FILLED,  # the same, and that was all of it
    (_S.ACTIVE, Fact.CANCELLED): _S.CANCELLED,  # by us, the exchange or a person
    (_S.ACTIVE, Fact.REJECTED): _S.REJECTED,  # acknowledged, then refused by the matching engine
    (_S.ACTIVE, Fact.EXPIRED): _S.EXPIRED,  # its time was up at the exchange
    (_S.TRIGGERED, Fact.ACCEPTED): _S.TRIGGERED,  # its child rests, or the report is a stale one
    (_S.TRIGGERED, Fact.TRIGGERED): _S.TRIGGERED,  # its child has not traded yet
    (_S.TRIGGERED, Fact.PART_FILLED): _S.PARTIALLY_FILLED,  # its child trades
    (_S.TRIGGERED, Fact.FILLED): _S.FILLED,  # its child has traded whole
    (_S.TRIGGERED, Fact.CANCELLED): _S.CANCELLED,  # its child was cancelled
    (_S.TRIGGERED, Fact.REJECTED): _S.REJECTED,  # its child was refused, for want of funds say
    (_S.TRIGGERED, Fact.EXPIRED): _S.EXPIRED,  # its child found nothing to trade against
    (_S.PARTIALLY_FILLED, Fact.ACCEPTED): _S.PARTIALLY_FILLED,  # a stale report
    (_S.PARTIALLY_FILLED, Fact.TRIGGERED): _S.PARTIALLY_FILLED,  # its child's fill came first
    (_S.PARTIALLY_FILLED, Fact.PART_FILLED): _S.PARTIALLY_FILLED,  # a further part, or no news
    (_S.PARTIALLY_FILLED, Fact.FILLED): _S.FILLED,  # the last part
    (_S.PARTIALLY_FILLED, Fact.CANCELLED): _S.CANCELLED,  # what has traded stays traded
    (_S.PARTIALLY_FILLED, Fact.EXPIRED): _S.EXPIRED,  # the same
    (_S.FILLED, Fact.TRIGGERED): _S.FILLED,  # its child's fill came before the trigger's report
    (_S.CANCELLED, Fact.PART_FILLED): _S.CANCELLED,  # a fill that was under way
    (_S.CANCELLED, Fact.FILLED): _S.FILLED,  # filled while the cancel was under way
    (_S.EXPIRED, Fact.PART_FILLED): _S.EXPIRED,  # as for a cancelled one
    (_S.EXPIRED, Fact.FILLED): _S.FILLED,  # as for a cancelled one
    (_S.UNRESOLVED, Fact.ACCEPTED): _S.ACTIVE,  # found at last
    (_S.UNRESOLVED, Fact.TRIGGERED): _S.TRIGGERED,  # found, and its trigger was reached meanwhile
    (_S.UNRESOLVED, Fact.PART_FILLED): _S.PARTIALLY_FILLED,  # found, and it had traded in part
    (_S.UNRESOLVED, Fact.FILLED): _S.FILLED,  # found, and it had traded whole
    (_S.UNRESOLVED, Fact.CANCELLED): _S.CANCELLED,  # found, and it was over
    (_S.UNRESOLVED, Fact.REJECTED): _S.REJECTED,  # found, and it had been refused
    (_S.UNRESOLVED, Fact.EXPIRED): _S.EXPIRED,  # found, and its time had been up
    (_S.UNRESOLVED, Fact.SENT): _S.SUBMITTED,  # proven absent, sent again
    (_S.UNRESOLVED, Fact.FAILED): _S.FAILED,  # proven absent, too late to send
    (_S.UNRESOLVED, Fact.LOST): _S.UNRESOLVED,  # asked again, and still nobody can tell
}


class IllegalTransitionError(ValueError):
    """The table of transitions has no row for this fact in this state."""


def advance(state: OrderState, fact: Fact) -> OrderState:
    """Return the state after ``fact``; a repeated terminal fact changes nothing.

    Raises:
        IllegalTransitionError: if the table has no row for it.
    """
    try:
        return TRANSITIONS[state, fact]
    except KeyError:
        if state in TERMINAL and state.value == fact.value.upper():
            return state
        raise IllegalTransitionError(f"{fact.value!r} cannot follow {state}") from None


class OrderRequest(
    msgspec.Struct,
    kw_only=True,
    frozen=True,
    forbid_unknown_fields=True,
    omit_defaults=True,
    gc=False,
):
    """An order exactly as it is sent: final, rounded, the same on any worker that reads the record.

    ``quantity`` in base units; ``price`` and ``stop_price`` in quote units. A ``post_only`` order
    is refused, or ended, where it would trade at once. A field at its default is not stored: an
    older worker reads what it would have written.
    """

    client_order_id: str
    exchange: str
    symbol: str
    role: Role
    side: Side
    order_type: OrderType
    quantity: Decimal
    price: Decimal | None = None
    stop_price: Decimal | None = None
    time_in_force: TimeInForce | None = None
    reduce_only: bool = False
    post_only: bool = False


class Fill(msgspec.Struct, kw_only=True, frozen=True, gc=False):
    """One trade of an order; ``fee`` may be negative (a rebate).

    ``more_fees`` are fees paid in further currencies, as (currency, amount).
    """

    trade_id: str
    quantity: Decimal
    price: Decimal
    fee: Decimal = ZERO
    fee_currency: str = ""
    at_ms: int = 0
    more_fees: tuple[tuple[str, Decimal], ...] = ()

    @property
    def fees(self) -> tuple[tuple[str, Decimal], ...]:
        """Every fee of the trade as (currency, amount), ``fee`` first."""
        return ((self.fee_currency, self.fee), *self.more_fees)


class OrderReport(msgspec.Struct, kw_only=True, frozen=True, gc=False):
    """An order as its exchange reports it.

    ``created_ms`` is the exchange's own time of acceptance, Unix milliseconds; 0 if it states none.
    ``fills`` may be empty although ``filled_quantity`` is not: some exchanges report trades by
    another request only.
    """

    client_order_id: str
    exchange_order_id: str
    symbol: str
    state: OrderState
    filled_quantity: Decimal = ZERO
    average_price: Decimal | None = None
    fills: tuple[Fill, ...] = ()
    created_ms: int = 0
    reason: str = ""


def total_quantity(fills: tuple[Fill, ...]) -> Decimal:
    """Sum the fills' quantities, base units."""
    if len(fills) == 1:  # nearly always
        return fills[0].quantity
    return sum((fill.quantity for fill in fills), ZERO)


def total_value(fills: tuple[Fill, ...]) -> Decimal:
    """Sum the fills' values (quantity times price), quote units."""
    if len(fills) == 1:
        return fills[0].quantity * fills[0].price
    return sum((fill.quantity * fill.price for fill in fills), ZERO)


def average_price(fills: tuple[Fill, ...]) -> Decimal | None:
    """Return the quantity-weighted mean price, quote units; None without fills."""
    if len(fills) == 1:
        return fills[0].price
    quantity = total_quantity(fills)
    return ratio(total_value(fills), quantity) if quantity else None


def shown_average(fills: tuple[Fill, ...]) -> Decimal:
    """Return the mean price of at least one fill, quote units, rounded as it is shown."""
    if len(fills) == 1:
        return shown(fills[0].price)
    return shown_ratio(total_value(fills), total_quantity(fills))


def fact_of(state: OrderState) -> Fact:
    """Return the fact learnt from an exchange's report that the order is in ``state``."""
    return _FACT_OF[state]


_FACT_OF: Final = {
    OrderState.SUBMITTED: Fact.ACCEPTED,
    OrderState.ACTIVE: Fact.ACCEPTED,
    OrderState.TRIGGERED: Fact.TRIGGERED,
    OrderState.PARTIALLY_FILLED: Fact.PART_FILLED,
    OrderState.FILLED: Fact.FILLED,
    OrderState.CANCELLED: Fact.CANCELLED,
    OrderState.REJECTED: Fact.REJECTED,
    OrderState.EXPIRED: Fact.EXPIRED,
}
