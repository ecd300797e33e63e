"""Applies an order's fills to the position of its position key; plain functions."""

from datetime import datetime
from decimal import Decimal

import msgspec

from worker.domain.event_text import EventText, encode
from worker.domain.identity import event_id
from worker.domain.limits import millionths
from worker.domain.money import ZERO
from worker.domain.order import Fill, average_price
from worker.domain.position import (
    Position,
    enlarge_position,
    open_position,
    reduce_position,
    split_fills,
)
from worker.domain.position_events import changed, close_reason, closed, opened
from worker.domain.signal import OPEN
from worker.pipeline.flow import AdmittedOrder, Settlement
from worker.pipeline.sizing import Sizing
from worker.runtime.errors import InvariantError

_encode = msgspec.json.Encoder().encode


class PositionChange(msgspec.Struct, frozen=True):
    """The change of a position: ``realized`` in quote units, and the events about it.

    ``stored`` is what the book is to hold: JSON, "" for no position, None for no change.
    ``exposure`` is the change of the account's exposure in millionths of the quote currency,
    reservations left out.
    """

    stored: str | None
    exposure: int
    realized: Decimal
    events: list[EventText]


def change_position(end: Settlement, sizing: Sizing, header: str, now: datetime) -> PositionChange:
    """Return what the fills of a finished order do to the position it was admitted for."""
    before = end.order.position
    if not end.fills:
        return PositionChange(None, 0, ZERO, [])
    if before is None:
        after, realized = _opened(end.order, end.fills, sizing, now), ZERO
        events = [_opening(after, header)]
    elif end.order.signal.action is OPEN:
        after, realized, events = _joined(end, before, sizing, header, now)
    else:
        after, realized = reduce_position(before, end.fills, end.order.info)
        events = [_reduced(end, after, realized, header, now)]
    stored = _encode(after).decode() if after.quantity else ""
    return PositionChange(stored, _exposure(after) - _exposure(before), realized, events)


def _joined(
    end: Settlement, held: Position, sizing: Sizing, header: str, now: datetime
) -> tuple[Position, Decimal, list[EventText]]:
    """Add an entry found after another one had taken its place: the exchange nets the two.

    That takes a fail-over that lost its record (``RiskManagementHandler.propose_look_up``).
    """
    order = end.order
    if order.signal.direction is held.direction:
        position = enlarge_position(held, end.fills, order.info)
        return position, ZERO, [_changed(end, position, ZERO, header, "enlarged by signal")]
    closing, opening = split_fills(end.fills, held.quantity)
    position, realized = reduce_position(held, closing, order.info)
    events = [_reduced(end, position, realized, header, now)]
    if opening:
        position = _opened(order, opening, sizing, now)
        events.append(_opening(position, header))
    return position, realized, events


def _opened(
    order: AdmittedOrder, fills: tuple[Fill, ...], sizing: Sizing, now: datetime
) -> Position:
    signal = order.signal
    if signal.direction is None:
        raise InvariantError(f"{signal.signal_id}: an entry without a direction was admitted")
    price = average_price(fills) or ZERO
    return open_position(
        position_id=order.request.client_order_id,
        exchange=signal.exchange,
        direction=signal.direction,
        fills=fills,
        info=order.info,
        opened_at=now,
        signal_id=signal.signal_id,
        strategy_id=signal.strategy_id,
        stop_loss=sizing.stop_loss(signal, price, order.info),
        take_profit=signal.take_profit,
    )


def _opening(position: Position, header: str) -> EventText:
    """Write `PositionOpened`."""
    return encode(opened(position), event_id(position.position_id, "opened"), header)


def _changed(
    end: Settlement, position: Position, realized: Decimal, header: str, reason: str
) -> EventText:
    """Write `PositionChanged`."""
    event = changed(position, realized, reason)
    return encode(event, event_id(end.order.request.client_order_id, "changed"), header)


def _reduced(
    end: Settlement, position: Position, realized: Decimal, header: str, now: datetime
) -> EventText:
    """Write `PositionChanged` of a reduced position, `PositionClosed` of one that has ended."""
    if position.quantity:
        return _changed(end, position, realized, header, "reduced by signal")
    event = closed(position, now, close_reason(end.order.signal))
    return encode(event, event_id(end.order.request.client_order_id, "closed"), header)


def _exposure(position: Position | None) -> int:
    """Return what a position counts for in the account's exposure."""
    return millionths(position.cost) if position is not None and position.quantity else 0
