"""Applies an order's fills to the position of its position key; plain functions."""

from datetime import datetime
from decimal import Decimal

import msgspec

from worker.domain.event import (
    CloseReason,
    Severity,
    SystemError,  # noqa: A004 (its public name)
)
from worker.domain.event_text import EventText, encode
from worker.domain.identity import event_id
from worker.domain.market import SymbolInfo
from worker.domain.money import ZERO, millionths, rounded_text, text
from worker.domain.order import TERMINAL, Fill, average_price, shown_average
from worker.domain.position import (
    Position,
    enlarge_position,
    is_untradable,
    open_position,
    reduce_position,
    write_off,
)
from worker.domain.position_events import changed, close_reason, closed, opened
from worker.domain.refusal import Code
from worker.domain.signal import OPEN
from worker.domain.split_fills import split_fills
from worker.pipeline.flow import GONE, AdmittedOrder, Failed, Settlement
from worker.pipeline.sizing import Sizing
from worker.runtime.errors import InvariantError

_encode = msgspec.json.Encoder().encode


class PositionChange(msgspec.Struct, frozen=True, gc=False):
    """The change of a position: ``realized`` in quote units, and the events about it.

    ``stored`` is what the book is to hold: JSON, "" for no position, None for no change.
    ``exposure`` is the change of the account's exposure in millionths of the quote currency,
    reservations left out. ``note`` is a sentence on what traded and is in no position.
    """

    stored: str | None
    exposure: int
    realized: Decimal
    events: list[EventText]
    note: str = ""


def change_position(end: Settlement, sizing: Sizing, header: str, now: datetime) -> PositionChange:
    """Return what the fills of a finished order do to the position it was admitted for."""
    order, before = end.order, end.order.position
    if before is not None and order.write_off is GONE:
        return _ended_elsewhere(end, before, header, now)
    if not end.fills:
        return PositionChange(None, 0, ZERO, [])
    if before is None:
        told = end.told.position if end.told is not None else None
        opened_at = told.opened_at if told is not None else now
        after, realized = _opened(order, end.fills, sizing, opened_at), ZERO
        price = shown_average(end.fills)
        if told is not None:  # an announced position stays one, however small it is
            events, note = (
                [_grown(end, after, header)] if after.quantity != told.quantity else [],
                "",
            )
        elif note := _too_small(after, price, order.info):
            return PositionChange(None, 0, ZERO, [], note)
        else:
            events = [_opening(after, price, header)]
    elif order.signal.action is OPEN:
        after, realized, events, note = _joined(end, before, sizing, header, now)
    else:
        after, realized = reduce_position(before, end.fills, order.info, order.missing)
        events, note = [_reduced(end, after, realized, header, now)], ""
    stored = _encode(after).decode() if after.quantity else ""
    return PositionChange(stored, _exposure(after) - _exposure(before), realized, events, note)


def change_after_failure(end: Failed, header: str, now: datetime) -> PositionChange:
    """Return what becomes of the position of a close that could not trade: mostly nothing."""
    order = end.order
    if order is not None and order.position is not None:
        if order.write_off is GONE:
            change = _written_off(order, order.position, CloseReason.EXTERNAL, header, now)
            return msgspec.structs.replace(change, note=_gone(order, order.position))
        if order.write_off is not None and end.refusal.code is Code.BELOW_MINIMUM:
            return _written_off(order, order.position, close_reason(end.signal), header, now)
    return PositionChange(None, 0, ZERO, [])


def alarms(
    order: AdmittedOrder, change: PositionChange, header: str, *, is_whole: bool
) -> list[EventText]:
    """Build `SystemError` for what the terminal event has no field for, or says to too few.

    Args:
        order: that has ended.
        change: what it did to its position; a note is in the event of an order that was cut short.
        header: the members that all events of the signal have.
        is_whole: all that was ordered has traded.
    """
    is_gone = order.write_off is GONE
    if not change.note or not (is_gone or is_whole):
        return []
    error = SystemError(
        component="settlement",
        code="POSITION_DRIFT" if is_gone else "ENTRY_TOO_SMALL",
        reason=f"{order.signal.symbol}: {change.note}",
        severity=Severity.CRITICAL if is_gone else Severity.WARNING,
    )
    return [encode(error, event_id(order.request.client_order_id, "note"), header)]


def _written_off(
    order: AdmittedOrder, position: Position, reason: CloseReason, header: str, now: datetime
) -> PositionChange:
    """Close a position of which the order could trade nothing, and nothing can be traded now."""
    after, realized = write_off(position)
    event = closed(after, now, reason)
    told = encode(event, event_id(order.request.client_order_id, "closed"), header)
    return PositionChange("", -_exposure(position), realized, [told])


def _ended_elsewhere(
    end: Settlement, before: Position, header: str, now: datetime
) -> PositionChange:
    """Close a position of which the exchange holds nothing any more, whatever is left of it here.

    At what price the rest was closed is not known: only what traded here makes a profit or a loss.
    """
    order, reason = end.order, CloseReason.EXTERNAL
    if not end.fills:
        change = _written_off(order, before, reason, header, now)
    else:
        after, realized = reduce_position(before, end.fills, order.info, before.quantity)
        told = encode(
            closed(after, now, reason), event_id(order.request.client_order_id, "closed"), header
        )
        change = PositionChange("", -_exposure(before), realized, [told])
    return msgspec.structs.replace(change, note=_gone(order, before))


def _gone(order: AdmittedOrder, position: Position) -> str:
    return (
        f"{order.signal.exchange} holds nothing any more of the {rounded_text(position.quantity)} "
        f"{order.info.base} in the book: the position is closed here too; what ended it there is "
        "not known"
    )


def _too_small(position: Position, price: Decimal, info: SymbolInfo) -> str:
    """Return why an entry's fills are no position, in a sentence; empty if they are one.

    The rule is that of what a close leaves: what the market would not take back is not held.
    """
    if not is_untradable(position.quantity, price, info):
        return ""
    return (
        f"the {rounded_text(position.quantity)} {info.base} that traded, worth "
        f"{rounded_text(position.cost)} {info.quote}, are less than the market takes back, so no "
        "position was opened; what was received is yours to convert"
    )


def _joined(
    end: Settlement, held: Position, sizing: Sizing, header: str, now: datetime
) -> tuple[Position, Decimal, list[EventText], str]:
    """Add an entry found after another one had taken its place: the exchange nets the two.

    That takes a fail-over that lost its record (``RiskManagementHandler.propose_look_up``).
    """
    order = end.order
    if order.signal.direction is held.direction:
        position = enlarge_position(held, end.fills, order.info)
        return position, ZERO, [_changed(end, position, ZERO, header, "enlarged by signal")], ""
    closing, opening = split_fills(end.fills, held.quantity)
    position, realized = reduce_position(held, closing, order.info)
    events = [_reduced(end, position, realized, header, now)]
    if not opening:
        return position, realized, events, ""
    price = shown_average(opening)
    new = _opened(order, opening, sizing, now)
    if note := _too_small(new, price, order.info):
        return position, realized, events, note
    return new, realized, [*events, _opening(new, price, header)], ""


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


def _opening(position: Position, price: Decimal, header: str) -> EventText:
    """Write `PositionOpened`; ``price`` is the position's entry price."""
    return encode(opened(position, price), event_id(position.position_id, "opened"), header)


def _changed(
    end: Settlement, position: Position, realized: Decimal, header: str, reason: str
) -> EventText:
    """Write `PositionChanged`."""
    event = changed(position, realized, reason)
    return encode(event, event_id(end.order.request.client_order_id, "changed"), header)


def _grown(end: Settlement, position: Position, header: str) -> EventText:
    """Write `PositionChanged` of a position that its resting entry has enlarged."""
    # The trades of an order that is over may make another quantity than the estimate did.
    seen = "end" if end.report.state in TERMINAL else text(end.filled)
    told = event_id(end.order.request.client_order_id, f"changed-{seen}")
    return encode(changed(position, ZERO, "enlarged by its entry"), told, header)


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
