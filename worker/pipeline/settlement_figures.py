"""Figures of a settled order: whole or not, slippage, latency; and the events of its pieces."""

from decimal import Decimal

from worker.domain import order_events
from worker.domain.event import OrderPlaced
from worker.domain.event_text import EventText, announce, share
from worker.domain.identity import event_id
from worker.domain.money import BPS, ratio
from worker.domain.order import BUY, FILLED
from worker.pipeline.flow import AdmittedOrder, Settlement


def is_whole(end: Settlement) -> bool:
    """Return whether all that was ordered has traded.

    An exchange also calls a reduce-only order filled that it cut to what a position had left.
    """
    request = end.order.request
    is_cut = request.reduce_only and end.filled < request.quantity
    return end.report.state is FILLED and not is_cut


def events_of_piece(piece: Settlement, header: str) -> list[EventText]:
    """Build the events of one of several orders that closed a position: none of them is its end."""
    request = piece.order.request
    client_id = request.client_order_id
    facts = f"{header},{share(order_events.placed(request, piece.report, piece.attempts))}"
    placed = announce(OrderPlaced, event_id(client_id, "placed"), facts)
    return [placed, *order_events.partials(client_id, piece.fills, facts)]


def slippage_bps(order: AdmittedOrder, average: Decimal | None) -> Decimal | None:
    """Return how much worse than the reference the fill was, in basis points."""
    if average is None or not order.plan.reference:
        return None
    worse = (
        average - order.plan.reference
        if order.request.side is BUY
        else order.plan.reference - average
    )
    return ratio(worse * BPS, order.plan.reference)


def latency_ms(entry_id: str, now_ms: int) -> int:
    """Return how long the entry has been on the stream: its id begins with when it was added."""
    arrived_ms, _, _ = entry_id.partition("-")
    latency_ms = now_ms - int(arrived_ms)
    return latency_ms if latency_ms > 0 else 0  # clocks differ
