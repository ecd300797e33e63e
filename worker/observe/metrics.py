"""A worker's metrics: methods that take plain values, shown by Prometheus's library."""

from collections import deque
from collections.abc import Callable, Mapping
from decimal import Decimal
from functools import partial
from typing import Final, assert_never

import prometheus_client as prometheus

from worker.domain.money import ZERO
from worker.observe.metric_families import Counter, Family, FamilyCollector, Gauge, Histogram
from worker.observe.metric_table import (
    METRICS,
    OTHER,
    STATES,
    STEPS,
    Metric,
    MetricKind,
)

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
#: Samples of the event loop's lag that are kept: half a minute of two a second.
LAG_SAMPLES: Final = 60

_ERROR_KINDS: Final = {
    "RateLimitError": "rate_limit",
    "InsufficientBalanceError": "insufficient_balance",
    "InvalidOrderError": "invalid_order",
    "CredentialsError": "credentials",
    "ClockSkewError": "clock_skew",
    "OrderNotFoundError": "order_not_found",
}


class Metrics:
    """All metrics of this process, in a registry of its own.

    Methods take plain values, cost about a microsecond, never raise for an unexpected label, and
    are called from one thread, the event loop's; ``render`` may be called from any.

    Args:
        version: of this program.
        mode: ``paper`` or ``live``.
        account: the trading account.
    """

    def __init__(self, *, version: str, mode: str, account: str = "main") -> None:
        self.registry = prometheus.CollectorRegistry()
        # Shown by the account's keeper only: a sum over the workers would count it N times.
        self._of_account = FamilyCollector(shown=False)
        of_process = FamilyCollector(shown=True)
        self.registry.register(self._of_account)
        prometheus.ProcessCollector(registry=self.registry)
        prometheus.GCCollector(registry=self.registry)
        self.registry.register(of_process)
        self._counters: dict[str, Family[Counter]] = {}
        self._gauges: dict[str, Family[Gauge]] = {}
        self._histograms: dict[str, Family[Histogram]] = {}
        for metric in METRICS:
            self._add(metric, self._of_account if metric.of_account else of_process)
        self._lags: deque[float] = deque(maxlen=LAG_SAMPLES)
        self._bind()
        self._gauges["info"](version, mode, account).set(1)

    def _add(self, metric: Metric, collector: FamilyCollector) -> None:
        match metric.kind:
            case MetricKind.COUNTER:
                counters = self._counters[metric.name] = Family(metric, Counter)
                collector.add(counters)
            case MetricKind.GAUGE:
                gauges = self._gauges[metric.name] = Family(metric, Gauge)
                collector.add(gauges)
            case MetricKind.HISTOGRAM:
                make = partial(Histogram, metric.buckets)
                histograms = self._histograms[metric.name] = Family(metric, make)
                collector.add(histograms)
            case _ as never:
                assert_never(never)

    def _bind(self) -> None:
        """Look up once what every signal counts."""
        counters, gauges, histograms = self._counters, self._gauges, self._histograms
        self._claimed = counters["signals_claimed_total"]()
        self._ends = counters["signals_ended_total"]
        self._failures = counters["order_failures_total"]
        self._submissions = counters["submissions_total"]
        self._fills = counters["fills_total"]
        self._commission = counters["commission_total"]
        self._ledger_up = gauges["ledger_up"]()
        stages = histograms["stage_seconds"]
        self._stage_of = {name: stages(name) for name in STEPS}
        self._batches = histograms["batch_size"]
        self._to_order = histograms["signal_to_order_seconds"]()
        self._to_end = histograms["signal_to_end_seconds"]()
        self._slippage = histograms["slippage_bps"]

    def render(self) -> bytes:
        """Return everything in the text exposition format 0.0.4 (``CONTENT_TYPE``)."""
        return prometheus.generate_latest(self.registry)

    # --- signals ---

    def claimed(self, count: int) -> None:
        """Count claimed entries; with 0 too, since the call shows that Redis works."""
        self._ledger_up.set(1)
        if count:
            self._claimed.inc(count)
            self._batches["claim",].observe(count)

    def buried(self, count: int) -> None:
        """Count entries that were too large to be taken in hand, as claimed and dead."""
        self._claimed.inc(count)
        self._ends["dead",].inc(count)

    def signal_ended(self, outcome: str, elapsed_s: float) -> None:
        """Count one signal's end.

        Args:
            outcome: one of ``ENDS``.
            elapsed_s: from claim to commit.
        """
        self._ends[outcome,].inc()
        self._to_end.observe(elapsed_s)

    def order_failed(self, stage: str, code: str) -> None:
        """Count a signal that ended without an order, by the stage and code of its refusal."""
        self._failures[stage, code].inc()

    def order_settled(
        self,
        *,
        exchange: str,
        acceptance_s: float | None,
        fills: int,
        is_partial: bool,
        slippage_bps: Decimal | None,
        fees: Mapping[str, Decimal],
    ) -> None:
        """Count an order that is over.

        Args:
            exchange: its name.
            acceptance_s: from the signal's creation to the exchange's acceptance; None if the
                exchange does not state the time. Below 0 counts as 0: clocks differ.
            fills: number of trades; without any the other arguments do not count.
            is_partial: whether the order ended with only a part filled.
            slippage_bps: how much worse than the reference the fills were, in basis points.
            fees: paid, by currency; negative for a rebate.
        """
        if acceptance_s is not None:
            self._to_order.observe(acceptance_s if acceptance_s > 0 else 0.0)
        if not fills:
            return
        self._fills[exchange,].inc(fills)
        if is_partial:
            self._counters["partial_fills_total"](exchange).inc()
        if slippage_bps is not None:
            self._slippage[exchange,].observe(float(slippage_bps))
        for currency, fee in fees.items():
            if fee >= ZERO:
                self._commission[exchange, currency].inc(fee)
            else:
                self._counters["rebates_total"](exchange, currency).inc(-fee)

    def takeover(self) -> None:
        """Count a claimed entry whose earlier delivery died."""
        self._counters["takeovers_total"]().inc()

    def fenced(self) -> None:
        """Count an entry lost to another worker."""
        self._counters["fenced_total"]().inc()

    def letters_trimmed(self, count: int) -> None:
        """Count dead letters that were removed for want of room."""
        self._counters["trimmed_dead_letters_total"]().inc(count)

    def vanished(self, count: int) -> None:
        """Count pending entries whose content is gone."""
        self._counters["vanished_total"]().inc(count)

    def parked(self) -> None:
        """Count an order set aside as unresolved."""
        self._counters["parked_total"]().inc()

    def order_rests(self) -> None:
        """Count an entry left to rest at its exchange."""
        self._counters["orders_rested_total"]().inc()

    def turn_granted(self) -> None:
        """Count a turn that this worker took."""
        self._counters["turns_granted_total"]().inc()

    def turn_failed(self) -> None:
        """Count a turn that ended in an unexpected exception."""
        self._counters["turn_failures_total"]().inc()

    def stranded(self, count: int) -> None:
        """Count positions with a live order that nobody would have looked at."""
        self._counters["stranded_total"]().inc(count)

    def delivery_failed(self) -> None:
        """Count a delivery that ended in an unexpected exception."""
        self._counters["delivery_failures_total"]().inc()

    def watch(self, name: str) -> Callable[[float], None]:
        """Return the histogram observer of one of ``STEPS``, which takes seconds."""
        return self._stage_of[name].observe

    def stage(self, name: str, seconds: float, count: int = 1) -> None:
        """Observe that one of ``STEPS`` took each of ``count`` signals or calls so long."""
        self._stage_of[name].observe_each(seconds, count)

    def round_trip(self, step: str, size: int, seconds: float) -> None:
        """Observe how many signals one ``admit`` or ``commit`` had, and how long it took."""
        self._batches[step,].observe(size)
        self._stage_of[step].observe(seconds)

    # --- exchanges ---

    def submission(self, exchange: str, outcome: str) -> None:
        """Count one create request: accepted, refused, not_sent, throttled or unknown."""
        self._submissions[exchange, outcome].inc()

    def retry(self, exchange: str, cause: str) -> None:
        """Count one repeated create request, by the outcome of the one before."""
        self._counters["retries_total"](exchange, cause).inc()

    def lookup(self, exchange: str, result: str) -> None:
        """Count one look-up: found, absent or unknown."""
        self._counters["lookups_total"](exchange, result).inc()

    def exchange_error(self, exchange: str, outcome: str, kind: str = "") -> None:
        """Count a failed call; ``kind`` is the name of the error's class."""
        known = _ERROR_KINDS.get(kind, OTHER)
        self._counters["exchange_errors_total"](exchange, outcome, known).inc()

    def budget_used(self, exchange: str, request_class: str, part: float) -> None:
        """Add a request's cost, as a part of the tightest limit's maximum."""
        self._counters["request_budget_used_total"](exchange, request_class).inc(part)

    def budget_waited(self, exchange: str, request_class: str, seconds: float) -> None:
        """Note how long a request waited for its turn in the budget."""
        self._histograms["request_wait_seconds"](exchange, request_class).observe(seconds)

    def clock_offset(self, exchange: str, seconds: float) -> None:
        """Show the exchange's clock minus ours."""
        self._gauges["clock_offset_seconds"](exchange).set(seconds)

    # --- this process ---

    def in_flight_from(self, read: Callable[[], int]) -> None:
        """Show ``read()`` at every scrape; the HTTP server's thread calls it."""
        self._gauges["in_flight"]().read_from(read)

    def leases(self, count: int) -> None:
        """Show how many leases the heartbeat renewed; the call shows that Redis works."""
        self._ledger_up.set(1)
        self._gauges["leases"]().set(count)

    def trading_state(self, state: str) -> None:
        """Show the account's state, one of ``STATES``."""
        for each in STATES:
            self._gauges["trading_state"](each).set(1 if each == state else 0)

    def draining(self) -> None:
        """Show that the worker is stopping."""
        self._gauges["draining"]().set(1)

    def ledger_error(self, kind: str) -> None:
        """Count a failed call to Redis, by ``LedgerUnavailableError.kind``."""
        self._ledger_up.set(0)
        self._counters["ledger_errors_total"](kind).inc()

    def ledger_reconnect(self) -> None:
        """Count a connection that replaces a lost one."""
        self._counters["ledger_reconnects_total"]().inc()

    def loop_lag(self, seconds: float) -> None:
        """Show the event loop's longest lag of the last half minute, this one included."""
        self._lags.append(seconds)
        self._gauges["event_loop_lag_seconds"]().set(max(self._lags))

    # --- the account, shown by its keeper ---

    def keeper(self, *, elected: bool) -> None:
        """Show whether this worker is the keeper; the account's gauges are hidden if it is not."""
        self._gauges["keeper"]().set(1 if elected else 0)
        if not elected:
            self._of_account.shown = False

    def account(
        self,
        *,
        exposure: Mapping[str, Decimal],
        realized: Mapping[str, Decimal],
        open_positions: int,
        unresolved: int,
        dead_letters: int,
        lag: int | None,
        pending: int,
        oldest_pending_ms: int,
        leases: int,
        ahead_ms: Mapping[str, int],
        waiting_part: float,
        fullest_group: str,
        fullest_part: float,
    ) -> None:
        """Show the account, from now until ``keeper(elected=False)``.

        Args:
            exposure: value of open and reserved positions, by quote currency.
            realized: profit so far, by quote currency.
            open_positions: number of open positions.
            unresolved: orders whose outcome is not known.
            dead_letters: entries on the dead-letter stream.
            lag: signals not yet claimed; None where Redis cannot say.
            pending: signals claimed and not ended.
            oldest_pending_ms: age of the oldest of those.
            leases: how many of those are being worked on.
            ahead_ms: by how much each stream's last id is ahead of Redis's clock.
            waiting_part: how much of what may wait in all message groups does.
            fullest_group: the message group where most wait, a short text.
            fullest_part: how much of what may wait in that one does.
        """
        gauges = self._gauges
        gauges["unresolved"]().set(unresolved)
        gauges["open_positions"]().set(open_positions)
        gauges["dead_letters"]().set(dead_letters)
        gauges["stream_lag"]().set(float("nan") if lag is None else lag)
        gauges["pending"]().set(pending)
        gauges["waiting"]().set(max(pending - leases, 0))
        gauges["waiting_part"]().set(waiting_part)
        gauges["fullest_group"].only(fullest_group).set(fullest_part)
        gauges["oldest_pending_seconds"]().set(oldest_pending_ms / 1_000)
        for name, amounts in (("exposure_quote", exposure), ("realized_pnl_quote", realized)):
            for currency, amount in amounts.items():
                gauges[name](currency).set(float(amount))
        for stream, ms in ahead_ms.items():
            gauges["stream_ahead_seconds"](stream).set(ms / 1_000)
        self._of_account.shown = True

    def drift(self, count: int) -> None:
        """Show the number of confirmed differences between book and exchanges."""
        self._gauges["drift"]().set(count)
