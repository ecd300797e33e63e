"""Counting: plain methods for the engine, Prometheus behind them."""

from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from typing import Any, Final, Protocol, TypeVar, cast

import prometheus_client as prometheus
from prometheus_client.registry import Collector

from worker.domain.market import SymbolInfo
from worker.domain.money import ZERO
from worker.domain.order import FILLED, Fill, OrderReport
from worker.domain.refusal import Refusal
from worker.observe.metric_table import (
    MAX_OPEN_VALUES,
    METRICS,
    OTHER,
    PREFIX,
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

_Child = TypeVar("_Child", prometheus.Counter, prometheus.Gauge, prometheus.Histogram)


class _Named(Protocol):
    @property
    def name(self) -> str: ...


class _SentOrder(Protocol):
    @property
    def created_ms(self) -> float: ...
    @property
    def adapter(self) -> _Named: ...
    @property
    def info(self) -> SymbolInfo: ...


class _SettledOrder(Protocol):
    @property
    def order(self) -> _SentOrder: ...
    @property
    def report(self) -> OrderReport: ...
    @property
    def fills(self) -> tuple[Fill, ...]: ...
    @property
    def fees(self) -> Mapping[str, Decimal]: ...


class SignalEnd(Protocol):
    """What a signal's end tells about itself: its order, or why there was none."""

    @property
    def settlement(self) -> _SettledOrder | None:
        """The order that is over."""

    @property
    def refusal(self) -> Refusal | None:
        """Why there was no order."""

    @property
    def slippage_bps(self) -> Decimal | None:
        """How much worse than the reference the fills were, in basis points."""


class AccountNumbers(Protocol):
    """The account in numbers; amounts by quote currency, ages in milliseconds."""

    @property
    def exposure(self) -> Mapping[str, Decimal]:
        """Value of open and reserved positions."""

    @property
    def realized(self) -> Mapping[str, Decimal]:
        """Profit so far."""

    @property
    def open_positions(self) -> int:
        """How many there are."""

    @property
    def unresolved(self) -> int:
        """Orders in doubt."""

    @property
    def dead_letters(self) -> int:
        """Entries on that stream."""

    @property
    def lag(self) -> int | None:
        """Signals not yet claimed; None where Redis cannot tell."""

    @property
    def pending(self) -> int:
        """Signals claimed and not ended."""

    @property
    def oldest_pending_ms(self) -> int:
        """Age of the oldest of those."""

    @property
    def leases(self) -> int:
        """How many of those are being worked on."""


class _Counter(prometheus.Counter):
    """The library's without its lock and its checks: only the event loop's thread counts."""

    def inc(self, amount: float = 1, exemplar: dict[str, str] | None = None) -> None:
        self._value._value += amount  # noqa: SLF001 (what the lock would protect)


class _Histogram(prometheus.Histogram):
    """As the counter, and the bucket found by bisection: a signal is observed eight times."""

    def observe(self, amount: float, exemplar: dict[str, str] | None = None) -> None:
        self._sum._value += amount  # noqa: SLF001 (as above)
        self._buckets[bisect_left(self._upper_bounds, amount)]._value += 1  # noqa: SLF001


class _Family(dict[tuple[str, ...], _Child]):
    """One metric's children by label values, made once, bounded in number.

    Looking a child up in a dict is much cheaper than the library's own ``labels()``.
    """

    def __init__(self, metric: Metric, parent: _Child) -> None:
        self._labels = tuple(metric.labels.values())
        self._parent: Any = parent  # the library's own hints lose the type on the way to a child
        self._open: tuple[set[str], ...] = tuple(set() for _ in self._labels)
        if self._labels and all(self._labels):
            self._make_all(())

    def __call__(self, *values: str) -> _Child:
        return self[values]

    def __missing__(self, values: tuple[str, ...]) -> _Child:
        bounded = tuple(map(self._bounded, values, self._labels, self._open))
        child = self.get(bounded)
        if child is None:
            child = cast("_Child", self._parent.labels(*bounded) if bounded else self._parent)
            self[bounded] = child
        return child

    def _make_all(self, chosen: tuple[str, ...]) -> None:
        if len(chosen) == len(self._labels):
            self[chosen]  # makes it
            return
        for value in self._labels[len(chosen)]:
            self._make_all((*chosen, value))

    @staticmethod
    def _bounded(value: str, allowed: tuple[str, ...], seen: set[str]) -> str:
        if allowed:
            return value if value in allowed else OTHER
        if value not in seen and len(seen) >= MAX_OPEN_VALUES:
            return OTHER
        seen.add(value)
        return value


class _ForKeeper(Collector):
    """The account's gauges, shown by its keeper only: otherwise sums would count them N times."""

    def __init__(self, registry: prometheus.CollectorRegistry) -> None:
        self._registry = registry
        self.shown = False

    def describe(self) -> list[Any]:
        """Nothing to register by name: the names are those of the inner registry."""
        return []

    def collect(self) -> Iterator[prometheus.Metric]:
        """The inner registry's metrics, or none."""
        if self.shown:
            yield from self._registry.collect()


class Metrics:
    """Everything this process counts, in a registry of its own.

    Methods take plain values, cost about a microsecond, never raise for an unexpected label, and
    are called from one thread, the event loop's; ``render`` may be called from any.

    Args:
        version: of this program.
        mode: ``paper`` or ``live``.
    """

    def __init__(self, *, version: str, mode: str) -> None:
        prometheus.disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for every one, that nobody asks for
        self.registry = prometheus.CollectorRegistry()
        account = prometheus.CollectorRegistry()
        self._for_keeper = _ForKeeper(account)
        self.registry.register(self._for_keeper)
        prometheus.ProcessCollector(registry=self.registry)
        prometheus.GCCollector(registry=self.registry)
        self._counters: dict[str, _Family[prometheus.Counter]] = {}
        self._gauges: dict[str, _Family[prometheus.Gauge]] = {}
        self._histograms: dict[str, _Family[prometheus.Histogram]] = {}
        for metric in METRICS:
            self._register(metric, account if metric.of_account else self.registry)
        self._lags: deque[float] = deque(maxlen=LAG_SAMPLES)
        self._bind()
        self._gauges["info"](version, mode).set(1)

    def _register(self, metric: Metric, registry: prometheus.CollectorRegistry) -> None:
        about = (PREFIX + metric.name, metric.meaning, tuple(metric.labels))
        match metric.kind:
            case MetricKind.COUNTER:
                counter = _Counter(*about, registry=registry)
                self._counters[metric.name] = _Family(metric, counter)
            case MetricKind.GAUGE:
                gauge = prometheus.Gauge(*about, registry=registry)
                self._gauges[metric.name] = _Family(metric, gauge)
            case MetricKind.HISTOGRAM:
                histogram = _Histogram(*about, registry=registry, buckets=metric.buckets)
                self._histograms[metric.name] = _Family(metric, histogram)

    def _bind(self) -> None:
        """Look the hot ones up once."""
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
        """Everything in the text exposition format 0.0.4 (``CONTENT_TYPE``)."""
        return prometheus.generate_latest(self.registry)

    # --- signals ---

    def claimed(self, count: int) -> None:
        """Count entries taken in hand, 0 included: the call shows that Redis works."""
        self._ledger_up.set(1)
        if count:
            self._claimed.inc(count)
            self._batches["claim",].observe(count)

    def ended(self, outcome: str, end: SignalEnd, elapsed_s: float) -> None:
        """Count one signal's end, with its order's fills, fees, slippage and delays.

        Args:
            outcome: one of ``ENDS``; a duplicate counts as nothing else.
            end: what happened.
            elapsed_s: from claim to commit.
        """
        self._ends[outcome,].inc()
        self._to_end.observe(elapsed_s)
        if outcome == "duplicate":
            return
        if end.refusal is not None:
            self._failures[end.refusal.stage.value, end.refusal.code.value].inc()
        if end.settlement is not None:
            self._settled(end.settlement, end.slippage_bps)

    def _settled(self, settled: _SettledOrder, slippage_bps: Decimal | None) -> None:
        exchange = settled.order.adapter.name
        created_ms = settled.report.created_ms
        if created_ms:
            delay_s = (created_ms - settled.order.created_ms) / 1_000
            self._to_order.observe(delay_s if delay_s > 0 else 0.0)  # clocks differ
        if not settled.fills:
            return
        self._fills[exchange,].inc(len(settled.fills))
        if settled.report.state is not FILLED:
            self._counters["partial_fills_total"](exchange).inc()
        if slippage_bps is not None:
            self._slippage[exchange,].observe(float(slippage_bps))
        for currency, fee in settled.fees.items():
            if fee >= ZERO:
                self._commission[exchange, currency].inc(float(fee))
            else:
                self._counters["rebates_total"](exchange, currency).inc(float(-fee))

    def takeover(self) -> None:
        """Count an entry that was delivered before."""
        self._counters["takeovers_total"]().inc()

    def fenced(self) -> None:
        """Count an entry lost to another worker."""
        self._counters["fenced_total"]().inc()

    def vanished(self, count: int) -> None:
        """Count pending entries whose content is gone."""
        self._counters["vanished_total"]().inc(count)

    def parked(self) -> None:
        """Count an order set aside as unresolved."""
        self._counters["parked_total"]().inc()

    def delivery_failed(self) -> None:
        """Count a delivery that ended in an unexpected exception."""
        self._counters["delivery_failures_total"]().inc()

    def watch(self, name: str) -> Callable[[float], None]:
        """What is told of every signal how long one of ``STEPS`` took it, in seconds."""
        return self._stage_of[name].observe

    def stage(self, name: str, seconds: float) -> None:
        """Note how long one of ``STEPS`` took."""
        self._stage_of[name].observe(seconds)

    def batch(self, step: str, size: int) -> None:
        """Note how many signals one round trip carried: ``claim``, ``admit`` or ``commit``."""
        self._batches[step,].observe(size)

    # --- exchanges ---

    def submission(self, exchange: str, outcome: str) -> None:
        """Count one create request: accepted, refused, not_sent, throttled or unknown."""
        self._submissions[exchange, outcome].inc()

    def retry(self, exchange: str, cause: str) -> None:
        """Count one repetition and the outcome that caused it."""
        self._counters["retries_total"](exchange, cause).inc()

    def lookup(self, exchange: str, result: str) -> None:
        """Count one look-up: found, absent or unknown."""
        self._counters["lookups_total"](exchange, result).inc()

    def exchange_error(self, exchange: str, outcome: str, kind: str = "") -> None:
        """Count a failed call; ``kind`` is the name of the error's class."""
        known = _ERROR_KINDS.get(kind, OTHER)
        self._counters["exchange_errors_total"](exchange, outcome, known).inc()

    def clock_offset(self, exchange: str, seconds: float) -> None:
        """Show the exchange's clock minus ours."""
        self._gauges["clock_offset_seconds"](exchange).set(seconds)

    # --- this process ---

    def in_flight_from(self, read: Callable[[], int]) -> None:
        """Show ``read()`` at every scrape; it is called on the HTTP server's thread."""
        self._gauges["in_flight"]().set_function(read)

    def leases(self, count: int) -> None:
        """Show what the heartbeat renewed; the call shows that Redis works."""
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
        """Count a connection made in place of one that was lost."""
        self._counters["ledger_reconnects_total"]().inc()

    def loop_lag(self, seconds: float) -> None:
        """Note one delay of the event loop; the longest of the last half minute is shown."""
        self._lags.append(seconds)
        self._gauges["event_loop_lag_seconds"]().set(max(self._lags))

    # --- the account, shown by its keeper ---

    def keeper(self, *, elected: bool) -> None:
        """Show whether this worker is the keeper; only then does it speak of the account."""
        self._gauges["keeper"]().set(1 if elected else 0)
        if not elected:
            self._for_keeper.shown = False

    def account(self, numbers: AccountNumbers) -> None:
        """Show the account, from now until ``keeper(elected=False)``."""
        gauges = self._gauges
        gauges["unresolved"]().set(numbers.unresolved)
        gauges["open_positions"]().set(numbers.open_positions)
        gauges["dead_letters"]().set(numbers.dead_letters)
        gauges["stream_lag"]().set(float("nan") if numbers.lag is None else numbers.lag)
        gauges["pending"]().set(numbers.pending)
        gauges["waiting"]().set(max(numbers.pending - numbers.leases, 0))
        gauges["oldest_pending_seconds"]().set(numbers.oldest_pending_ms / 1_000)
        for name, amounts in (
            ("exposure_quote", numbers.exposure),
            ("realized_pnl_quote", numbers.realized),
        ):
            for currency, amount in amounts.items():
                gauges[name](currency).set(float(amount))
        self._for_keeper.shown = True

    def drift(self, count: int) -> None:
        """Show how many confirmed differences there are between book and exchanges."""
        self._gauges["drift"]().set(count)
