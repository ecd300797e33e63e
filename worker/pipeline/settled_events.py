"""Builds the events of an order that is over: placed, each part that traded, and its end."""

from decimal import Decimal
from functools import lru_cache
from typing import Final

from worker.domain import order_events
from worker.domain.event import ExchangeTime, OrderPlaced
from worker.domain.event_text import EventText, announce, encode, share
from worker.domain.identity import event_id
from worker.domain.order import FILLED, Fill
from worker.pipeline.flow import GONE, NeverSent, Settlement, Told
from worker.runtime.clock import utc

#: Times whose text is kept: signals of one batch trade within the same few milliseconds.
_TIMES_KEPT: Final = 64


def events_of(
    end: Settlement,
    header: str,
    filled: str,
    average: str | None,
    slippage_bps: Decimal | None,
    latency_ms: int,
    note: str,
    *,
    slippage_exceeded: bool,
    is_whole: bool,
) -> list[EventText]:
    """Build `OrderPlaced`, an `OrderPartiallyFilled` for each part, and the order's end.

    Args:
        end: the order and what traded.
        header: the members that all events of the signal have.
        filled: the settlement's, as text.
        average: the settlement's average price, as text.
        slippage_bps: against the reference price; None without one.
        latency_ms: from the entry's arrival on the stream to now.
        note: a further sentence on an order that was cut short, empty for none.
        slippage_exceeded: that is more than a fill may slip.
        is_whole: all that was ordered has traded, see :func:`traded_whole`.
    """
    order, report, fills = end.order, end.report, end.fills
    client_id = order.request.client_order_id
    facts = f"{header},{share(order_events.facts(order.request, report, end.attempts))}"
    if end.pieces:
        events = [
            part for piece in end.pieces for part in _events_of_piece(piece, client_id, header)
        ]
    elif end.told is not None:
        events = [] if is_whole else further_part(end, end.told, facts)
    else:
        events = [placed_event(client_id, facts, report.created_ms)]
        if not is_whole or len(fills) > 1:
            events += _partials(client_id, fills[:-1] if is_whole else fills, facts)
    if not is_whole:
        events.append(_cancelled(end, facts, filled, average, note))
        return events
    event = order_events.filled(
        filled,
        average,
        end.fees,
        order.info.quote,
        slippage_bps=slippage_bps,
        slippage_exceeded=slippage_exceeded,
        latency_ms=latency_ms,
    )
    timed = f"{facts},{exchange_time(fills[-1].at_ms if fills else 0)}"
    events.append(encode(event, event_id(client_id, "filled"), timed))
    return events


def further_part(end: Settlement, told: Told, facts: str) -> list[EventText]:
    """Write the `OrderPartiallyFilled` of what a resting order has traded since the last one.

    Args:
        end: what is known of the order.
        told: the part of it that events have told.
        facts: what the order's events share.
    """
    part = order_events.further(end.filled, end.average_price, (told.filled, told.average_price))
    if part is None:
        return []
    identity = event_id(end.order.request.client_order_id, f"partial-{part.filled_quantity}")
    return [encode(part, identity, f"{facts},{exchange_time(0)}")]


def placed_event(client_id: str, facts: str, accepted_ms: int) -> EventText:
    """Write `OrderPlaced`.

    Args:
        client_id: of the order.
        facts: what the order's events share.
        accepted_ms: by the exchange's time, Unix milliseconds; 0 if it does not say.
    """
    return announce(OrderPlaced, event_id(client_id, "placed"), facts, exchange_time(accepted_ms))


def traded_whole(end: Settlement) -> bool:
    """Return whether all that was ordered has traded.

    An exchange also calls a reduce-only order filled that it cut to what a position had left.
    """
    request = end.order.request
    is_cut = request.reduce_only and end.filled < request.quantity
    return end.report.state is FILLED and not is_cut


@lru_cache(maxsize=_TIMES_KEPT)
def exchange_time(at_ms: int) -> str:
    """Return the exchange's time of an event, Unix milliseconds, as JSON members; null for 0."""
    return share(ExchangeTime(exchange_time=utc(at_ms) if at_ms else None))


def _partials(client_id: str, fills: tuple[Fill, ...], facts: str) -> list[EventText]:
    """Write an `OrderPartiallyFilled` for each of ``fills``, in the order in which they traded."""
    parts = order_events.partly_filled(fills)
    return [
        encode(
            part,
            event_id(client_id, "partial", number),
            f"{facts},{exchange_time(fill.at_ms)}",
        )
        for number, (part, fill) in enumerate(zip(parts, fills, strict=True), start=1)
    ]


def _cancelled(
    end: Settlement, facts: str, filled: str, average: str | None, note: str
) -> EventText:
    """Write `OrderCancelled`; no report says when that was."""
    order, report, request = end.order, end.report, end.order.request
    code = order_events.cancel_code(
        report, request, end.cancelled_for, is_ours=isinstance(order.sent_before, NeverSent)
    )
    reason = order_events.why_ended(
        report, request, end.filled, note, code, is_cut=order.write_off is GONE
    )
    event = order_events.cancelled(filled, average, end.fees, order.info.quote, code, reason)
    identity = event_id(request.client_order_id, "cancelled")
    return encode(event, identity, f"{facts},{exchange_time(0)}")


def _events_of_piece(piece: Settlement, parent: str, header: str) -> list[EventText]:
    """Build the events of one of several orders that closed a position: none of them is its end.

    ``parent`` is the id of the first of them, by which the whole close goes.
    """
    request, report = piece.order.request, piece.report
    client_id = request.client_order_id
    part_of = parent if client_id != parent else None
    shared = share(order_events.facts(request, report, piece.attempts, part_of))
    facts = f"{header},{shared}"
    placed = placed_event(client_id, facts, report.created_ms)
    return [placed, *_partials(client_id, piece.fills, facts)]
