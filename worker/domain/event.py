"""What the worker says happened: one struct an event, decimals as plain text."""

from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Final

import msgspec

from worker.domain.money import text
from worker.domain.order import Role, Side
from worker.domain.refusal import Code, Stage
from worker.domain.signal import NO_METADATA, Direction, OrderType

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


class Severity(StrEnum):
    """How urgent a system error is."""

    WARNING = "warning"
    CRITICAL = "critical"


class Event(msgspec.Struct, kw_only=True, frozen=True, tag_field="type", tag=lambda name: name):
    """What every event says."""

    event_id: str
    occurred_at: datetime
    account: str
    exchange: str
    symbol: str
    signal_id: str
    strategy_id: str | None
    worker: str
    metadata: msgspec.Raw = NO_METADATA


class OrderEvent(Event, kw_only=True, frozen=True, tag=lambda name: name):
    """What every event about an order that was sent says."""

    client_order_id: str
    exchange_order_id: str
    role: Role
    side: Side
    order_type: OrderType
    quantity: DecimalText
    price: DecimalText | None
    attempts: int


class OrderPlaced(OrderEvent, kw_only=True, frozen=True, tag=lambda name: name):
    """The exchange has the order."""


class OrderPartiallyFilled(OrderEvent, kw_only=True, frozen=True, tag=lambda name: name):
    """Part of the order has traded."""

    last_quantity: DecimalText
    last_price: DecimalText
    filled_quantity: DecimalText
    average_price: DecimalText


class OrderFilled(OrderEvent, kw_only=True, frozen=True, tag=lambda name: name):
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


class OrderCancelled(OrderEvent, kw_only=True, frozen=True, tag=lambda name: name):
    """The order ended before it had traded whole; what had traded stays traded."""

    filled_quantity: DecimalText
    average_price: DecimalText | None
    fee: DecimalText
    fee_currency: str
    fees: dict[str, DecimalText]
    reason: str


class OrderFailed(Event, kw_only=True, frozen=True, tag=lambda name: name):
    """No order came of the signal."""

    stage: Stage
    code: Code
    reason: str
    retriable: bool
    attempts: int
    client_order_id: str | None = None
    exchange_order_id: str | None = None


class PositionOpened(Event, kw_only=True, frozen=True, tag=lambda name: name):
    """An entry's fills opened a position."""

    position_id: str
    direction: Direction
    quantity: DecimalText
    entry_price: DecimalText
    stop_loss: DecimalText | None
    take_profit: DecimalText | None
    fee: DecimalText


class PositionChanged(Event, kw_only=True, frozen=True, tag=lambda name: name):
    """A position was closed in part."""

    position_id: str
    direction: Direction
    quantity: DecimalText
    entry_price: DecimalText
    realized_pnl: DecimalText
    reason: str


class PositionClosed(Event, kw_only=True, frozen=True, tag=lambda name: name):
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


class SystemError(Event, kw_only=True, frozen=True, tag=lambda name: name):  # noqa: A001 (public name)
    """Something a person has to look at."""

    component: str
    code: str
    reason: str
    severity: Severity


class TradingStateChanged(Event, kw_only=True, frozen=True, tag=lambda name: name):
    """The account's trading state was changed."""

    trading_state: str
    previous: str
    reason: str
    actor: str


class ReconciliationCompleted(Event, kw_only=True, frozen=True, tag=lambda name: name):
    """Books and exchange were compared; ``drift`` lists what differs, a sentence each."""

    checked_positions: int
    drift: tuple[str, ...]


STREAM_OF: Final[dict[type[Event], str]] = {
    OrderPlaced: "orders",
    OrderPartiallyFilled: "orders",
    OrderFilled: "orders",
    OrderCancelled: "orders",
    OrderFailed: "orders",
    PositionOpened: "positions",
    PositionChanged: "positions",
    PositionClosed: "positions",
    SystemError: "system",
    TradingStateChanged: "system",
    ReconciliationCompleted: "system",
}
#: One of these ends every decoded signal, exactly once.
TERMINAL_EVENTS: Final = (OrderFilled, OrderCancelled, OrderFailed)

_encoder = msgspec.json.Encoder()


def encode(event: Event) -> tuple[str, str, str, str]:
    """An event as the ledger takes it: stream, type, id, JSON."""
    kind = type(event)
    return STREAM_OF[kind], kind.__name__, event.event_id, _encoder.encode(event).decode()


def maybe_text(value: Decimal | None) -> str | None:
    """A decimal's text, None for None."""
    return None if value is None else text(value)
