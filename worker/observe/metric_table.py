"""Every metric the worker exports: its name, kind, labels, buckets and meaning, in one table."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

import msgspec

from worker.domain.refusal import Stage

PREFIX: Final = "execution_worker_"
#: The value of a label in place of one that is not in the table, or of one too many.
OTHER: Final = "other"
#: Distinct values of a label whose values the table does not list (exchanges, currencies).
MAX_OPEN_VALUES: Final = 64


class MetricKind(StrEnum):
    """The kinds of the exposition format."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Metric(msgspec.Struct, frozen=True, kw_only=True):
    """One metric family.

    ``labels`` maps each label to the values it may have; an empty tuple is a small set known only
    at run time. ``of_account`` marks a fact about the whole account, which only its keeper shows.
    """

    name: str
    kind: MetricKind
    meaning: str
    labels: Mapping[str, tuple[str, ...]] = {}
    buckets: tuple[float, ...] = ()
    of_account: bool = False


def _counter(name: str, meaning: str, **labels: tuple[str, ...]) -> Metric:
    return Metric(name=name, kind=MetricKind.COUNTER, meaning=meaning, labels=labels)


def _gauge(name: str, meaning: str, **labels: tuple[str, ...]) -> Metric:
    return Metric(name=name, kind=MetricKind.GAUGE, meaning=meaning, labels=labels)


def _account(name: str, meaning: str, **labels: tuple[str, ...]) -> Metric:
    return Metric(name=name, kind=MetricKind.GAUGE, meaning=meaning, labels=labels, of_account=True)


def _histogram(
    name: str, meaning: str, buckets: tuple[float, ...], **labels: tuple[str, ...]
) -> Metric:
    return Metric(
        name=name, kind=MetricKind.HISTOGRAM, meaning=meaning, labels=labels, buckets=buckets
    )


_OPEN: Final = ()
ENDS: Final = (
    "filled", "cancelled", "completed", "failed", "duplicate", "dead", "conflict",
)  # fmt: skip
OUTCOMES: Final = ("accepted", "refused", "not_sent", "throttled", "unknown")
LOOKUPS: Final = ("found", "absent", "unknown")
STEPS: Final = ("claim", "validation", "risk", "admit", "execution", "reconciliation", "commit")
STATES: Final = ("ACTIVE", "REDUCING", "HALTED")
STREAMS: Final = ("signals", "orders", "positions", "system", "dead")
MODES: Final = ("paper", "live")
ERROR_KINDS: Final = (
    "rate_limit", "insufficient_balance", "invalid_order", "credentials", "clock_skew",
    "order_not_found",
)  # fmt: skip
#: The classes of requests, the most urgent first.
REQUEST_CLASSES: Final = ("closing", "doubt", "entry", "poll", "market", "rest")
LEDGER_ERRORS: Final = (
    "connection", "timeout", "loading", "busy", "oom", "disk", "replicas", "readonly", "moved",
    "clients", "group", "refused",
)  # fmt: skip

_FAST: Final = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
    10.0, 30.0,
)  # fmt: skip
_SLOW: Final = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
)  # fmt: skip
_BPS: Final = (
    -50.0, -20.0, -10.0, -5.0, -2.0, -1.0, 0.0, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0,
)  # fmt: skip
_SIZES: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0)

METRICS: Final = (
    _counter("signals_claimed_total", "Stream entries this worker took in hand."),
    _counter("signals_ended_total", "Signals whose end was written, by how they ended.",
             outcome=ENDS),
    _counter("order_failures_total", "OrderFailed events, by stage and code.",
             stage=tuple(Stage), code=_OPEN),
    _counter("submissions_total", "Create requests, by what is known of their outcome.",
             exchange=_OPEN, outcome=OUTCOMES),
    _counter("retries_total", "Create requests repeated, by what became of the one before.",
             exchange=_OPEN, cause=OUTCOMES),
    _counter("lookups_total", "Look-ups of an order in doubt, by answer.",
             exchange=_OPEN, result=LOOKUPS),
    _counter("takeovers_total", "Entries whose earlier delivery died with its worker, or failed."),
    _counter("fenced_total", "Entries lost to another worker because the lease ran out."),
    _counter("vanished_total", "Pending entries whose content was trimmed away before they ran."),
    _counter("parked_total", "Orders set aside as unresolved."),
    _counter("orders_rested_total", "Entries left to rest at their exchange."),
    _counter("turns_granted_total", "Turns this worker took to look after a resting order."),
    _counter("turn_failures_total", "Turns ended by an unexpected exception."),
    _counter("stranded_total", "Positions with a live order that nobody would have looked at."),
    _counter("delivery_failures_total", "Deliveries ended by an unexpected exception."),
    _counter("trimmed_dead_letters_total",
             "Dead letters this worker, as the keeper, removed for want of room."),
    _counter("fills_total", "Trades.", exchange=_OPEN),
    _counter("partial_fills_total", "Orders that ended with only a part filled.", exchange=_OPEN),
    _counter("commission_total", "Fees paid, in their own currency.",
             exchange=_OPEN, currency=_OPEN),
    _counter("rebates_total", "Fees received, in their own currency.",
             exchange=_OPEN, currency=_OPEN),
    _counter("exchange_errors_total", "Failed calls to an exchange, by what is known and why.",
             exchange=_OPEN, outcome=OUTCOMES[1:], kind=ERROR_KINDS),
    _counter("request_budget_used_total",
             "Requests sent, each as a part of the tightest limit's maximum.",
             exchange=_OPEN, **{"class": REQUEST_CLASSES}),
    _histogram("request_wait_seconds", "How long requests waited for their turn in the budget.",
               _SLOW, exchange=_OPEN, **{"class": REQUEST_CLASSES}),
    _counter("ledger_errors_total", "Failed calls to Redis.", kind=LEDGER_ERRORS),
    _counter("ledger_reconnects_total", "Connections to Redis made anew after one was lost."),
    _histogram("stage_seconds", "Time one step took.", _FAST, stage=STEPS),
    _histogram("signal_to_order_seconds",
               "From the signal's created_at to the exchange's acceptance of its order.", _SLOW),
    _histogram("signal_to_end_seconds", "From a worker's claim to the committed end.", _SLOW),
    _histogram("slippage_bps", "Fill price against the reference, above 0 when worse.", _BPS,
               exchange=_OPEN),
    _histogram("batch_size", "Signals in one round trip to Redis.", _SIZES,
               step=("claim", "admit", "commit")),
    _gauge("in_flight", "Entries this worker has in hand now."),
    _gauge("leases", "Leases this worker renewed at its last heartbeat."),
    _gauge("draining", "1 while the worker is stopping."),
    _gauge("keeper", "1 if this worker is the account's keeper."),
    _gauge("trading_state", "1 for the state the account is in, as this worker knows it.",
           state=STATES),
    _gauge("ledger_up", "1 if the last call to Redis worked."),
    _gauge("event_loop_lag_seconds", "Longest delay of the event loop in the last 30 seconds."),
    _gauge("clock_offset_seconds", "The exchange's clock minus this machine's.", exchange=_OPEN),
    _gauge("info", "Always 1; says which version runs in which mode, and for which account.",
           version=_OPEN, mode=MODES, account=_OPEN),
    _account("unresolved", "Orders whose outcome is not known."),
    _account("open_positions", "Open positions."),
    _account("dead_letters", "Entries on the dead-letter stream."),
    _account("stream_ahead_seconds",
             "How far a stream's last id is ahead of Redis's clock; 0 unless somebody chose it.",
             stream=STREAMS),
    _account("stream_lag", "Signals not yet claimed by any worker; NaN where Redis cannot tell."),
    _account("pending", "Signals claimed and not yet ended, over all workers."),
    _account("waiting", "Claimed signals that wait for another of their message group."),
    _account("waiting_part", "Waiting signals, as a part of worker.max_waiting."),
    _account("fullest_group",
             "Signals that wait in the message group where most do, as a part of "
             "worker.max_group_waiting; one series at a time.", group=_OPEN),
    _account("oldest_pending_seconds", "Age of the oldest claimed signal that has not ended."),
    _account("drift", "Differences between the book and the exchanges, seen twice in a row."),
    _account("exposure_quote", "Value of open and reserved positions.", quote=_OPEN),
    _account("realized_pnl_quote", "Profit realised since the account's start.", quote=_OPEN),
)  # fmt: skip


def metrics_table() -> str:
    """Return every metric as a Markdown table, the worker's own first, then the account's."""
    rows = ["| metric | type | labels | meaning |", "|---|---|---|---|"]
    for metric in METRICS:
        labels = ", ".join(f"`{name}`{_values(metric.labels[name])}" for name in metric.labels)
        who = " (keeper only)" if metric.of_account else ""
        rows.append(
            f"| `{PREFIX}{metric.name}` | {metric.kind} | {labels} | {metric.meaning}{who} |"
        )
    return "\n".join(rows) + "\n"


def _values(values: tuple[str, ...]) -> str:
    return f" ({', '.join(values)})" if values else ""
