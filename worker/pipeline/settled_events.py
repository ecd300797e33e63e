"""Builds the events of an order that is over: placed, each part that traded, and its end."""

from decimal import Decimal

import msgspec

from worker.domain import order_events
from worker.domain.event import OrderPlaced
from worker.domain.event_text import EventText, announce, encode, share
from worker.domain.identity import event_id
from worker.domain.order import FILLED
from worker.pipeline.flow import GONE, NeverSent, Settlement


class OrderEnd(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The part of an order's last event that its settlement does not say.

    ``filled`` and ``average`` are the settlement's as text; ``note`` is a further sentence for an
    order that was cut short, empty for none.
    """

    filled: str
    average: str | None
    slippage_bps: Decimal | None
    slippage_exceeded: bool
    latency_ms: int
    note: str


def events_of(end: Settlement, told: OrderEnd, header: str, *, is_whole: bool) -> list[EventText]:
    """Build `OrderPlaced`, an `OrderPartiallyFilled` for each part, and the order's end.

    Args:
        end: the order and what traded.
        told: what only its last event says.
        header: the members that all events of the signal have.
        is_whole: all that was ordered has traded, see :func:`traded_whole`.
    """
    order, report, fills = end.order, end.report, end.fills
    client_id = order.request.client_order_id
    facts = f"{header},{share(order_events.facts(order.request, report, end.attempts))}"
    events = [event for piece in end.pieces for event in _events_of_piece(piece, client_id, header)]
    if not end.pieces:
        events.append(_placed(client_id, facts, report.created_ms))
        if not is_whole or len(fills) > 1:
            events += order_events.partials(client_id, fills[:-1] if is_whole else fills, facts)
    events.append(_filled(end, told, facts) if is_whole else _cancelled(end, told, facts))
    return events


def traded_whole(end: Settlement) -> bool:
    """Return whether all that was ordered has traded.

    An exchange also calls a reduce-only order filled that it cut to what a position had left.
    """
    request = end.order.request
    is_cut = request.reduce_only and end.filled < request.quantity
    return end.report.state is FILLED and not is_cut


def _filled(end: Settlement, told: OrderEnd, facts: str) -> EventText:
    """Write `OrderFilled`."""
    event = order_events.filled(
        told.filled,
        told.average,
        end.fees,
        end.order.info.quote,
        slippage_bps=told.slippage_bps,
        slippage_exceeded=told.slippage_exceeded,
        latency_ms=told.latency_ms,
    )
    at_ms = end.fills[-1].at_ms if end.fills else 0
    identity = event_id(end.order.request.client_order_id, "filled")
    return encode(event, identity, f"{facts},{order_events.exchange_time(at_ms)}")


def _cancelled(end: Settlement, told: OrderEnd, facts: str) -> EventText:
    """Write `OrderCancelled`; no report says when that was."""
    order, report, request = end.order, end.report, end.order.request
    code = order_events.cancel_code(
        report, request, end.cancelled_for, is_ours=isinstance(order.sent_before, NeverSent)
    )
    reason = order_events.why_ended(
        report, end.filled, request.quantity, told.note, code, is_cut=order.write_off is GONE
    )
    quote = order.info.quote
    event = order_events.cancelled(told.filled, told.average, end.fees, quote, code, reason)
    identity = event_id(request.client_order_id, "cancelled")
    return encode(event, identity, f"{facts},{order_events.exchange_time(0)}")


def _events_of_piece(piece: Settlement, parent: str, header: str) -> list[EventText]:
    """Build the events of one of several orders that closed a position: none of them is its end.

    ``parent`` is the id of the first of them, by which the whole close goes.
    """
    request, report = piece.order.request, piece.report
    client_id = request.client_order_id
    part_of = parent if client_id != parent else None
    shared = share(order_events.facts(request, report, piece.attempts, part_of))
    facts = f"{header},{shared}"
    placed = _placed(client_id, facts, report.created_ms)
    return [placed, *order_events.partials(client_id, piece.fills, facts)]


def _placed(client_id: str, facts: str, accepted_ms: int) -> EventText:
    """Write `OrderPlaced`."""
    timed = f"{facts},{order_events.exchange_time(accepted_ms)}"
    return announce(OrderPlaced, event_id(client_id, "placed"), timed)
