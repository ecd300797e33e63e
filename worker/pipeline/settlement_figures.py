"""Figures of a settled order: slippage and latency."""

from decimal import Decimal

from worker.domain.money import BPS, ratio
from worker.domain.order import BUY
from worker.pipeline.flow import AdmittedOrder


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
