"""Metrics: what happened is counted once, under bounded labels, and the account's facts once."""

import math
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from worker.observe.metric_table import (
    ENDS,
    MAX_OPEN_VALUES,
    METRICS,
    PREFIX,
    STEPS,
    MetricKind,
    metrics_table,
)
from worker.observe.metrics import LAG_SAMPLES, Metrics

D = Decimal


def metrics() -> Metrics:
    return Metrics(version="1.2.3", mode="paper")


def value(of: Metrics, name: str, **labels: str) -> float | None:
    found = of.registry.get_sample_value(PREFIX + name, labels)
    return None if found is None else float(found)


NUMBERS: Mapping[str, Any] = {
    "exposure": {"USDT": D("1000.5")},
    "realized": {"USDT": D(-12)},
    "open_positions": 3,
    "unresolved": 1,
    "dead_letters": 2,
    "lag": 7,
    "pending": 10,
    "oldest_pending_ms": 2_500,
    "leases": 4,
    "ahead_ms": {"signals": 3_000, "orders": 0, "positions": 0, "system": 0, "dead": 0},
    "waiting_part": 0.0,
    "fullest_group": "",
    "fullest_part": 0.0,
}
SETTLED: Mapping[str, Any] = {
    "exchange": "okx",
    "acceptance_s": 0.04,
    "fills": 2,
    "is_partial": False,
    "slippage_bps": D("2.5"),
    "fees": {"USDT": D("0.3")},
}


def test_a_signals_end_is_counted_with_its_delay() -> None:
    """By its outcome, and nothing of an order."""
    of = metrics()
    of.signal_ended("filled", 0.03)
    assert value(of, "signals_ended_total", outcome="filled") == 1
    assert value(of, "signal_to_end_seconds_sum") == 0.03
    assert value(of, "fills_total", exchange="okx") is None


def test_only_the_fullest_group_is_shown() -> None:
    """One series at a time, however many groups there have been."""
    of = metrics()
    of.keeper(elected=True)
    for number in range(200):
        fullest = {"fullest_group": f"k{number}", "fullest_part": number / 100}
        of.account(**{**NUMBERS, **fullest})
    fullest = {"fullest_group": "k199", "fullest_part": 0.25}
    of.account(**{**NUMBERS, "waiting_part": 0.5, **fullest})
    shown = of.render().decode()
    assert shown.count("execution_worker_fullest_group{") == 1
    assert value(of, "fullest_group", group="k199") == 0.25
    assert value(of, "waiting_part") == 0.5


def test_an_entry_that_was_buried_is_counted() -> None:
    """As claimed and dead."""
    of = metrics()
    of.buried(2)
    assert (
        value(of, "signals_claimed_total") == value(of, "signals_ended_total", outcome="dead") == 2
    )


def test_a_step_that_a_batch_shares_counts_for_each_signal() -> None:
    """As many observations as signals, and their whole time."""
    of = metrics()
    of.stage("risk", 0.25, 3)
    assert value(of, "stage_seconds_count", stage="risk") == 3
    assert value(of, "stage_seconds_sum", stage="risk") == 0.75
    assert value(of, "stage_seconds_bucket", stage="risk", le="+Inf") == 3


def test_a_settled_order_is_counted_with_its_trades_fees_and_delay() -> None:
    """Its trades, its fees by currency, its slippage, and how long its acceptance took."""
    of = metrics()
    of.order_settled(**SETTLED)
    assert value(of, "fills_total", exchange="okx") == 2
    assert value(of, "partial_fills_total", exchange="okx") is None
    assert value(of, "commission_total", exchange="okx", currency="USDT") == pytest.approx(0.3)
    assert value(of, "slippage_bps_count", exchange="okx") == 1
    assert value(of, "slippage_bps_bucket", exchange="okx", le="2.0") == 0
    assert value(of, "slippage_bps_bucket", exchange="okx", le="5.0") == 1
    assert value(of, "signal_to_order_seconds_sum") == pytest.approx(0.04)


def test_a_partly_filled_order_and_a_rebate_are_counted_apart() -> None:
    """A counter never falls, so what the exchange pays has its own."""
    of = metrics()
    of.order_settled(**{**SETTLED, "is_partial": True, "fees": {"USDT": D("-0.5")}})
    assert value(of, "partial_fills_total", exchange="okx") == 1
    assert value(of, "rebates_total", exchange="okx", currency="USDT") == 0.5
    assert value(of, "commission_total", exchange="okx", currency="USDT") is None


def test_an_order_without_fills_counts_only_its_acceptance() -> None:
    """Also where the exchange does not state when that was, or its clock is behind."""
    of = metrics()
    for acceptance_s in (0.04, -0.02, None):
        of.order_settled(**{**SETTLED, "acceptance_s": acceptance_s, "fills": 0})
    assert value(of, "signal_to_order_seconds_count") == 2
    assert value(of, "signal_to_order_seconds_sum") == pytest.approx(0.04)
    assert value(of, "fills_total", exchange="okx") is None
    assert value(of, "slippage_bps_count", exchange="okx") is None


def test_a_failed_order_is_counted_by_stage_and_code() -> None:
    """And has no delay."""
    of = metrics()
    of.order_failed("risk", "MAX_POSITIONS")
    assert value(of, "order_failures_total", stage="risk", code="MAX_POSITIONS") == 1
    assert value(of, "signal_to_order_seconds_count") == 0


COUNTS: list[tuple[str, tuple[Any, ...], str, dict[str, str], float]] = [
    ("takeover", (), "takeovers_total", {}, 1),
    ("fenced", (), "fenced_total", {}, 1),
    ("vanished", (4,), "vanished_total", {}, 4),
    ("parked", (), "parked_total", {}, 1),
    ("delivery_failed", (), "delivery_failures_total", {}, 1),
    ("claimed", (5,), "signals_claimed_total", {}, 5),
    ("claimed", (5,), "batch_size_sum", {"step": "claim"}, 5),
    ("claimed", (0,), "batch_size_count", {"step": "claim"}, 0),
    ("round_trip", ("commit", 3, 0.5), "batch_size_sum", {"step": "commit"}, 3),
    ("round_trip", ("commit", 3, 0.5), "stage_seconds_sum", {"stage": "commit"}, 0.5),
    ("stage", ("risk", 0.25), "stage_seconds_sum", {"stage": "risk"}, 0.25),
    ("submission", ("okx", "accepted"), "submissions_total",
     {"exchange": "okx", "outcome": "accepted"}, 1),
    ("retry", ("okx", "throttled"), "retries_total", {"exchange": "okx", "cause": "throttled"}, 1),
    ("lookup", ("okx", "absent"), "lookups_total", {"exchange": "okx", "result": "absent"}, 1),
    ("exchange_error", ("okx", "unknown", "RateLimitError"), "exchange_errors_total",
     {"exchange": "okx", "outcome": "unknown", "kind": "rate_limit"}, 1),
    ("exchange_error", ("okx", "unknown"), "exchange_errors_total",
     {"exchange": "okx", "outcome": "unknown", "kind": "other"}, 1),
    ("ledger_error", ("oom",), "ledger_errors_total", {"kind": "oom"}, 1),
    ("ledger_error", ("anything",), "ledger_errors_total", {"kind": "other"}, 1),
    ("ledger_reconnect", (), "ledger_reconnects_total", {}, 1),
    ("clock_offset", ("okx", -0.2), "clock_offset_seconds", {"exchange": "okx"}, -0.2),
    ("leases", (6,), "leases", {}, 6),
    ("draining", (), "draining", {}, 1),
    ("in_flight_from", (lambda: 12,), "in_flight", {}, 12),
]  # fmt: skip


@pytest.mark.parametrize(("method", "arguments", "name", "labels", "expected"), COUNTS)
def test_each_method_feeds_its_metric(
    method: str, arguments: tuple[Any, ...], name: str, labels: dict[str, str], expected: float
) -> None:
    """Under exactly these labels."""
    of = metrics()
    getattr(of, method)(*arguments)
    assert value(of, name, **labels) == expected


def test_redis_is_up_from_the_first_answer_to_the_next_error() -> None:
    """A claim and a heartbeat are answers."""
    of = metrics()
    assert value(of, "ledger_up") == 0
    of.claimed(0)
    assert value(of, "ledger_up") == 1
    of.ledger_error("timeout")
    assert value(of, "ledger_up") == 0
    of.leases(0)
    assert value(of, "ledger_up") == 1


def test_exactly_one_trading_state_is_on() -> None:
    """One-hot: an alert can ask for the state it means."""
    of = metrics()
    for state in ("ACTIVE", "HALTED"):
        of.trading_state(state)
        shown = {s: value(of, "trading_state", state=s) for s in ("ACTIVE", "REDUCING", "HALTED")}
        assert shown == {s: float(s == state) for s in shown}


def test_the_longest_lag_of_the_last_half_minute_is_shown() -> None:
    """So that a scrape every 15 seconds cannot miss it."""
    of = metrics()
    of.loop_lag(0.7)
    for _ in range(LAG_SAMPLES - 1):
        of.loop_lag(0.001)
        assert value(of, "event_loop_lag_seconds") == 0.7
    of.loop_lag(0.001)
    assert value(of, "event_loop_lag_seconds") == 0.001


def test_only_the_keeper_speaks_for_the_account() -> None:
    """Otherwise N workers would show N times the account."""
    of = metrics()
    names = [metric.name for metric in METRICS if metric.of_account]
    assert not [name for name in names if (PREFIX + name).encode() in of.render()]
    of.keeper(elected=True)
    of.drift(2)
    of.account(**NUMBERS)
    assert value(of, "keeper") == 1
    shown = {
        "unresolved": 1, "open_positions": 3, "dead_letters": 2, "stream_lag": 7, "pending": 10,
        "waiting": 6, "oldest_pending_seconds": 2.5, "drift": 2,
    }  # fmt: skip
    assert {name: value(of, name) for name in shown} == shown
    assert value(of, "exposure_quote", quote="USDT") == 1000.5
    assert value(of, "stream_ahead_seconds", stream="signals") == 3
    assert value(of, "realized_pnl_quote", quote="USDT") == -12
    assert all((PREFIX + name).encode() in of.render() for name in names)
    of.keeper(elected=False)
    assert value(of, "keeper") == 0
    assert value(of, "unresolved") is None
    of.keeper(elected=True)
    assert value(of, "unresolved") is None  # not before the account has been read again


def test_an_unknown_lag_is_not_zero() -> None:
    """Redis cannot tell it after an entry was deleted; 0 would switch scaling off."""
    of = metrics()
    of.account(**{**NUMBERS, "lag": None})
    shown = value(of, "stream_lag")
    assert shown is not None
    assert math.isnan(shown)


def test_labels_are_bounded_whatever_is_given() -> None:
    """Unknown words of a known set, and the 65th of an open one, become ``other``."""
    of = metrics()
    of.submission("okx", "surprise")
    assert value(of, "submissions_total", exchange="okx", outcome="other") == 1
    for number in range(1, 10 * MAX_OPEN_VALUES):
        of.submission(f"x{number}", "accepted")
    children = [line for line in of.render().splitlines() if b"submissions_total{" in line]
    assert len(children) == 1 + MAX_OPEN_VALUES
    over = value(of, "submissions_total", exchange="other", outcome="accepted")
    assert over == 9 * MAX_OPEN_VALUES


def test_children_with_known_labels_exist_from_the_start() -> None:
    """An alert on an increase needs the 0 before it."""
    of = metrics()
    assert {value(of, "signals_ended_total", outcome=end) for end in ENDS} == {0}
    assert {value(of, "stage_seconds_count", stage=step) for step in STEPS} == {0}
    assert value(of, "signals_claimed_total") == 0
    assert value(of, "info", version="1.2.3", mode="paper", account="main") == 1


def test_the_output_is_what_prometheus_reads() -> None:
    """Every metric of the table parses with its type and its text; the process's are there too."""
    of = metrics()
    of.account(**NUMBERS)
    families = {f.name: f for f in text_string_to_metric_families(of.render().decode())}
    for metric in METRICS:
        family = families[PREFIX + metric.name.removesuffix("_total")]
        assert (family.type, family.documentation) == (metric.kind.value, metric.meaning)
    assert {"process_resident_memory_bytes", "python_gc_collections"} <= set(families)
    assert not [name for name in families if name.endswith("_created")]


def test_the_table_follows_the_naming_rules() -> None:
    """Counters end in _total and nothing else does; buckets rise; no label is an id."""
    names = [metric.name for metric in METRICS]
    assert len(names) == len(set(names))
    for metric in METRICS:
        assert metric.name.endswith("_total") is (metric.kind is MetricKind.COUNTER)
        assert bool(metric.buckets) is (metric.kind is MetricKind.HISTOGRAM)
        assert list(metric.buckets) == sorted(set(metric.buckets))
        assert not {label for label in metric.labels if label.endswith("id") or label == "symbol"}
        assert metric.meaning.endswith(".")


def test_two_instances_share_nothing() -> None:
    """Each has a registry of its own."""
    first, second = metrics(), metrics()
    first.takeover()
    assert (value(first, "takeovers_total"), value(second, "takeovers_total")) == (1, 0)


def test_the_documented_table_has_one_row_a_metric() -> None:
    """Name with prefix, type, labels with their values, meaning."""
    rows = metrics_table().splitlines()[2:]
    assert [row.split("`")[1] for row in rows] == [PREFIX + metric.name for metric in METRICS]
    assert (
        "| `execution_worker_lookups_total` | counter | `exchange`, `result` (found, absent, "
        "unknown) | Look-ups of an order in doubt, by answer. |"
    ) in rows
