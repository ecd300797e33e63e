"""Counters, gauges and histograms: what the library renders of them."""

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from prometheus_client import Histogram as LibraryHistogram

from worker.observe.metric_families import Counter, Family, FamilyCollector, Gauge, Histogram
from worker.observe.metric_table import METRICS, PREFIX, Metric, MetricKind

#: As in the table: rising from above 0, and from below.
BOUNDS = [metric.buckets for metric in METRICS if metric.name in {"stage_seconds", "slippage_bps"}]


@given(st.sampled_from(BOUNDS), st.lists(st.floats(-1e6, 1e6)))
def test_a_histogram_has_the_samples_of_the_library(
    bounds: tuple[float, ...], amounts: list[float]
) -> None:
    """Cumulated buckets, count, and a sum only where no bucket lies below 0."""
    registry = CollectorRegistry()
    theirs = LibraryHistogram("x", "x", registry=registry, buckets=bounds)
    ours = Histogram(bounds)
    for amount in [*amounts, *bounds]:
        theirs.observe(amount)
        ours.observe(amount)
    (family,) = theirs.collect()
    expected = [
        (sample.name.removeprefix("x"), sample.labels, sample.value)
        for sample in family.samples
        if not sample.name.endswith("_created")
    ]
    assert list(ours.samples()) == expected


def test_a_gauge_shows_what_was_set_or_is_read() -> None:
    """Once it is read from a function, at every scrape."""
    gauge = Gauge()
    gauge.set(2)
    assert list(gauge.samples()) == [("", {}, 2)]
    values = iter((3, 4))
    gauge.read_from(lambda: next(values))
    assert [list(gauge.samples()) for _ in range(2)] == [[("", {}, 3)], [("", {}, 4)]]


def test_a_child_made_during_a_scrape_does_not_spoil_it() -> None:
    """The scrape is on another thread; it shows the children that it began with."""
    metric = Metric(name="n_total", kind=MetricKind.COUNTER, meaning="N.", labels={"of": ()})
    family: Family[Counter] = Family(metric, Counter)

    class Meddling(Counter):
        def samples(self) -> object:  # type: ignore[override]
            family("another").inc()
            return super().samples()

    family["one",] = Meddling()
    assert [sample.labels for sample in family.collect().samples] == [{"of": "one"}]
    assert len(family) == 2


def test_a_hidden_collector_shows_nothing() -> None:
    """Until it is shown again."""
    metric = Metric(name="n", kind=MetricKind.GAUGE, meaning="N.")
    collector = FamilyCollector(shown=False)
    collector.add(Family(metric, Gauge))
    assert list(collector.collect()) == []
    collector.shown = True
    assert [shown.name for shown in collector.collect()] == [PREFIX + "n"]


def test_counts_may_be_large_and_not_whole() -> None:
    """Fees are fractions of a currency."""
    counter = Counter()
    for amount in ("0.1", "0.2", "1e9"):
        counter.inc(float(Decimal(amount)))
    ((_, _, value),) = counter.samples()
    assert value == 0.1 + 0.2 + 1e9
