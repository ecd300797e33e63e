"""The events of the output streams: one struct a type, decimals as plain text."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Final

import msgspec

from worker.domain.order import Role, Side
from worker.domain.refusal import CancelCode, Code, Stage
from worker.domain.signal import NO_METADATA, Action, Direction, OrderType

#: A decimal number as text, never with an exponent.
DecimalText = Annotated[str, msgspec.Meta(pattern=r"^-?[0-9]+(\.[0-9]+)?$")]


class CloseReason(StrEnum):
    """Why a position ended."""

    SIGNAL = "signal"
    STOP_LOSS = "stop_loss"
    TAKE_PROFIT = "take_profit"
    LIQUIDATION = "liquidation"
    EXTERNAL = "external"
    FLATTEN = "flatten"


#: Short name of a member, for speed as in :mod:`worker.domain.signal`.
BY_SIGNAL = CloseReason.SIGNAL


class Severity(StrEnum):
    """How urgent a system error is."""

    WARNING = "warning"
    CRITICAL = "critical"


class Header(msgspec.Struct, kw_only=True, frozen=True, gc=False):
    """The fields every event has beside its type and id."""

    occurred_at: datetime
    account: str
    exchange: str
    symbol: str
    signal_id: str
    strategy_id: str | None
    worker: str
    metadata: msgspec.Raw = NO_METADATA


class Event(msgspec.Struct, kw_only=True, frozen=True, gc=False):
    """The fields one type of event adds to its ``parts``.

    ``parts`` are structs shared with other events; in the JSON their fields come first. Each type
    in ``STREAM_OF`` has at least one field of its own, which :mod:`worker.domain.event_text`
    checks.
    """

    parts: ClassVar[tuple[type[msgspec.Struct], ...]] = (Header,)


class OrderFacts(Event, kw_only=True, frozen=True, gc=False):
    """An order that the exchange has; ``parent`` is set where it is part of another order."""

    client_order_id: str
    exchange_order_id: str
    role: Role
    side: Side
    order_type: OrderType
    quantity: DecimalText
    price: DecimalText | None
    attempts: int
    parent: str | None = None


class ExchangeTime(Event, kw_only=True, frozen=True, gc=False):
    """When it happened, as the exchange says; None where it does not say."""

    exchange_time: datetime | None = None


class OrderPlaced(Event, kw_only=True, frozen=True, gc=False):
    """The exchange has the order."""

    parts: ClassVar[tuple[type[msgspec.Struct], ...]] = (Header, OrderFacts)

    exchange_time: datetime | None = None


class OrderEvent(Event, kw_only=True, frozen=True, gc=False):
    """The end, or a fill, of a placed order; has all fields of :class:`OrderPlaced`."""

    parts: ClassVar[tuple[type[msgspec.Struct], ...]] = (Header, OrderFacts, ExchangeTime)


class OrderPartiallyFilled(OrderEvent, kw_only=True, frozen=True, gc=False):
    """Part of the order has traded."""

    last_quantity: DecimalText
    last_price: DecimalText
    filled_quantity: DecimalText
    average_price: DecimalText


class OrderFilled(OrderEvent, kw_only=True, frozen=True, gc=False):
    """The order has traded whole.

    ``slippage_bps`` is positive where the fill was worse than the reference price, null where there
    was none; ``latency_ms`` runs from the entry's arrival on the stream to the known fill.
    """

    filled_quantity: DecimalText
    average_price: DecimalText
    fee: DecimalText
    fee_currency: str
    fees: dict[str, DecimalText]
    slippage_bps: DecimalText | None
    slippage_exceeded: bool
    latency_ms: int
    terminal: bool = True


class OrderCancelled(OrderEvent, kw_only=True, frozen=True, gc=False):
    """The order ended before it had traded whole; what had traded stays traded."""

    filled_quantity: DecimalText
    average_price: DecimalText | None
    fee: DecimalText
    fee_currency: str
    fees: dict[str, DecimalText]
    code: CancelCode
    reason: str
    terminal: bool = True


class OrderFailed(Event, kw_only=True, frozen=True, gc=False):
    """No order came of the signal."""

    stage: Stage
    code: Code
    reason: str
    retriable: bool
    attempts: int
    client_order_id: str | None = None
    exchange_order_id: str | None = None
    role: Role | None = None
    parent: str | None = None
    terminal: bool = True


class SignalCompleted(Event, kw_only=True, frozen=True, gc=False):
    """The signal ended well without an order of its own.

    ``target`` is the signal that it was about, null where it named none.
    """

    action: Action
    result: str
    target: str | None = None
    terminal: bool = True


class PositionOpened(Event, kw_only=True, frozen=True, gc=False):
    """An entry's fills opened a position; its fee is null until its trades are known."""

    position_id: str
    direction: Direction
    quantity: DecimalText
    entry_price: DecimalText
    stop_loss: DecimalText | None
    take_profit: DecimalText | None
    fee: DecimalText | None


class PositionChanged(Event, kw_only=True, frozen=True, gc=False):
    """A position has become smaller or larger."""

    position_id: str
    direction: Direction
    quantity: DecimalText
    entry_price: DecimalText
    realized_pnl: DecimalText
    reason: str


class PositionClosed(Event, kw_only=True, frozen=True, gc=False):
    """A position is gone; profit is net of the fees that could be converted to quote."""

    position_id: str
    direction: Direction
    quantity: DecimalText
    entry_price: DecimalText
    exit_price: DecimalText
    realized_pnl: DecimalText
    realized_pnl_pct: DecimalText
    fee: DecimalText
    fees: dict[str, DecimalText]
    opened_at: datetime
    closed_at: datetime
    close_reason: CloseReason


class SystemError(Event, kw_only=True, frozen=True, gc=False):  # noqa: A001 (public name)
    """Something a person has to look at."""

    component: str
    code: str
    reason: str
    severity: Severity


class TradingStateChanged(Event, kw_only=True, frozen=True, gc=False):
    """The account's trading state was changed; ``after`` and ``before`` say the first two again."""

    trading_state: str
    previous: str
    reason: str
    actor: str
    before: str
    after: str


class OperatorAction(Event, kw_only=True, frozen=True, gc=False):
    """A person did something that changed no trading state, or tried to.

    ``action`` is the command, ``subject`` what it was about. ``result`` is ``done``, ``refused`` or
    ``unknown`` (Redis did not answer, or the command was interrupted); ``error`` says why where it
    is not done. ``before`` and ``after`` are empty where the action has no state to tell.
    """

    action: str
    subject: str
    actor: str
    reason: str
    before: str
    after: str
    result: str = "done"
    error: str = ""


class ReconciliationCompleted(Event, kw_only=True, frozen=True, gc=False):
    """Books and exchange were compared; ``drift`` lists what differs, a sentence each."""

    checked_positions: int
    drift: tuple[str, ...]


STREAM_OF: Final[dict[type[Event], str]] = {
    OrderPlaced: "orders",
    OrderPartiallyFilled: "orders",
    OrderFilled: "orders",
    OrderCancelled: "orders",
    OrderFailed: "orders",
    SignalCompleted: "orders",
    PositionOpened: "positions",
    PositionChanged: "positions",
    PositionClosed: "positions",
    SystemError: "system",
    TradingStateChanged: "system",
    OperatorAction: "system",
    ReconciliationCompleted: "system",
}
#: One of these ends every decoded signal, exactly once, and says ``terminal: true``; a duplicate or
#: a conflict gets none.
TERMINAL_EVENTS: Final = (OrderFilled, OrderCancelled, OrderFailed, SignalCompleted)
_TERMINAL_NAMES: Final = frozenset(kind.__name__ for kind in TERMINAL_EVENTS)


def terminal_event(kind: str, data: bytes) -> dict[str, Any] | None:
    """Decode an event on ``orders`` if it is the end of its signal; None if it is not.

    Args:
        kind: the name of its type.
        data: its JSON; without ``terminal`` it is from before every end said so.
    """
    if kind not in _TERMINAL_NAMES:
        return None
    event: dict[str, Any] = msgspec.json.decode(data)
    return event if event.get("terminal", True) is True else None


def payload_struct(kind: type[Event]) -> type[msgspec.Struct]:
    """Build the struct of an event's whole JSON: its type, its id, its parts and its own fields."""
    fields: list[tuple[str, Any, Any]] = [("event_id", str, msgspec.field())]
    for part in (*kind.parts, kind):
        for field in msgspec.structs.fields(part):
            default = msgspec.field() if field.default is msgspec.NODEFAULT else field.default
            fields.append((field.name, field.type, default))
    return msgspec.defstruct(
        kind.__name__,
        fields,
        namespace={"__doc__": kind.__doc__},
        kw_only=True,
        frozen=True,
        tag_field="type",
        tag=kind.__name__,
    )
