"""What is said of a position when it is opened, changed or closed."""

from datetime import datetime
from decimal import Decimal
from typing import Final

from worker.domain.event import (
    BY_FLATTEN,
    BY_SIGNAL,
    CloseReason,
    PositionChanged,
    PositionClosed,
    PositionOpened,
    maybe_text,
)
from worker.domain.money import ZERO, text
from worker.domain.position import Position
from worker.domain.signal import Signal

#: A close carrying this id prefix comes from ``execution-worker flatten``.
FLATTEN_PREFIX: Final = "flatten-"


def opened(position: Position) -> PositionOpened:
    """It is new."""
    return PositionOpened(
        position_id=position.position_id,
        direction=position.direction,
        quantity=text(position.quantity),
        entry_price=text(position.entry_price),
        stop_loss=maybe_text(position.stop_loss),
        take_profit=maybe_text(position.take_profit),
        fee=text(position.fee),
    )


def changed(position: Position, realized: Decimal, reason: str) -> PositionChanged:
    """It has become larger or smaller, which realised so much in quote units."""
    return PositionChanged(
        position_id=position.position_id,
        direction=position.direction,
        quantity=text(position.quantity),
        entry_price=text(position.entry_price),
        realized_pnl=text(realized),
        reason=reason,
    )


def closed(position: Position, at: datetime, reason: CloseReason) -> PositionClosed:
    """Nothing of it is left."""
    return PositionClosed(
        position_id=position.position_id,
        direction=position.direction,
        entry_price=text(position.entry_price),
        quantity=text(position.opened_quantity),
        exit_price=text(position.exit_price or ZERO),
        realized_pnl=text(position.realized_pnl),
        realized_pnl_pct=text(position.realized_pnl_pct),
        fee=text(position.fee),
        fees={currency: text(fee) for currency, fee in position.fees.items()},
        opened_at=position.opened_at,
        closed_at=at,
        close_reason=reason,
    )


def close_reason(signal: Signal) -> CloseReason:
    """Who asked for the close that ended it."""
    is_flatten = signal.signal_id.startswith(FLATTEN_PREFIX)
    return BY_FLATTEN if is_flatten else BY_SIGNAL
