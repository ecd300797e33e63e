"""Counts a signal's end from its parts."""

from worker.domain.order import FILLED
from worker.domain.refusal import DeadReason
from worker.observe.metrics import Metrics
from worker.pipeline.settlement import Ending
from worker.runtime.logger import LogSignal, PlainFields


def count_buried(metrics: Metrics, log_signal: LogSignal, entry_id: str, error: str) -> None:
    """Count and log an entry that a claim has made a dead letter, for it is too large."""
    metrics.buried(1)
    line: PlainFields = {
        "signal_id": "",
        "deliveries": 1,
        "duration_ms": 0.0,
        "entry_id": entry_id,
        "outcome": "dead",
        "reason": DeadReason.MALFORMED,
        "error": error,
    }
    log_signal("signal_ended", line)


def count_end(metrics: Metrics, outcome: str, end: Ending, elapsed_s: float) -> None:
    """Count one signal's end, with its order's fills, fees, slippage and delays.

    Args:
        metrics: counts.
        outcome: one of ``worker.observe.metric_table.ENDS``. A duplicate counts as nothing else:
            its order was counted when it ended.
        end: what happened.
        elapsed_s: from claim to commit.
    """
    metrics.signal_ended(outcome, elapsed_s)
    if outcome == "duplicate":
        return
    if end.refusal is not None:
        metrics.order_failed(end.refusal.stage.value, end.refusal.code.value)
    settled = end.settlement
    if settled is None:
        return
    accepted_ms = settled.report.created_ms
    metrics.order_settled(
        exchange=settled.order.signal.exchange,
        acceptance_s=(accepted_ms - settled.order.lifetime.created_ms) / 1_000
        if accepted_ms
        else None,
        fills=len(settled.fills),
        is_partial=settled.report.state is not FILLED,
        slippage_bps=end.slippage_bps,
        fees=settled.fees,
    )
