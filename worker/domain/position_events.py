"""Builders of the events about a position."""

from datetime import datetime
from decimal import Decimal
from typing import Final

from worker.domain.event import (
    BY_SIGNAL,
    CloseReason,
    PositionChanged,
    PositionClosed,
    PositionOpened,
)
from worker.domain.money import ZERO, maybe_text, rounded_text, shown, text
from worker.domain.position import Position
from worker.domain.signal import Signal

#: Signal ids with this prefix come from ``execution-worker flatten``.
FLATTEN_PREFIX: Final = "flatten-"


def opened(position: Position, entry_price: Decimal) -> PositionOpened:
    """Build `PositionOpened`; ``entry_price`` is the position's, which whoever opened it knows."""
    return PositionOpened(
        position_id=position.position_id,
        direction=position.direction,
        quantity=text(position.quantity),
        entry_price=text(entry_price),
        stop_loss=maybe_text(position.stop_loss),
        take_profit=maybe_text(position.take_profit),
        fee=rounded_text(position.fee),
    )


def changed(position: Position, realized: Decimal, reason: str) -> PositionChanged:
    """Build `PositionChanged`; ``realized`` is the profit of this change, quote units."""
    return PositionChanged(
        position_id=position.position_id,
        direction=position.direction,
        quantity=text(position.quantity),
        entry_price=text(position.entry_price),
        realized_pnl=rounded_text(realized),
        reason=reason,
    )


def closed(position: Position, at: datetime, reason: CloseReason) -> PositionClosed:
    """Build `PositionClosed`; its quantity is all that was ever opened, its profit the total."""
    realized = position.realized
    return PositionClosed(
        position_id=position.position_id,
        direction=position.direction,
        entry_price=text(position.entry_price),
        quantity=text(position.opened_quantity),
        exit_price=text(position.exit_price or ZERO),
        realized_pnl=text(shown(realized)),
        realized_pnl_pct=text(position.percent_of_cost(realized)),
        fee=rounded_text(position.fee),
        fees={currency: rounded_text(fee) for currency, fee in position.fees.items()},
        opened_at=position.opened_at,
        closed_at=at,
        close_reason=reason,
    )


def close_reason(signal: Signal) -> CloseReason:
    """Return the reason of a close that ``signal`` asked for."""
    is_flatten = signal.signal_id.startswith(FLATTEN_PREFIX)
    return CloseReason.FLATTEN if is_flatten else BY_SIGNAL
