"""Counters, gauges and histograms by label values, in plain Python, shown by Prometheus's library.

The library's own children take a lock and check their labels at every call. Only the event loop's
thread counts here, so a child is a number, and the library's collector interface for such cases
(``prometheus_client.registry.Collector``) reads it at every scrape. Measured on Python 3.11 and
prometheus_client 0.26.0, best of 15 runs of 20,000 calls: one ``inc`` takes 45 ns instead of 250,
one ``observe`` 115 ns instead of 510 to 650. A filled signal makes 4 of the first and 5 of the
second: 3 of its 150 to 190 microseconds are saved.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from itertools import product
from typing import Any, Generic, TypeVar

from prometheus_client import Metric as Exposition
from prometheus_client.registry import Collector

from worker.observe.metric_table import MAX_OPEN_VALUES, OTHER, PREFIX, Metric

#: The end of a sample's name, labels besides its metric's, and its value.
Sample = tuple[str, dict[str, str], float]


class Counter:
    """A sum that never falls: of ints and floats, or of Decimals.

    Those are added as they are: to make a float of each takes six times as long.
    """

    __slots__ = ("_value",)

    def __init__(self) -> None:
        self._value: Any = 0

    def inc(self, amount: float | Decimal = 1) -> None:
        """Add ``amount``, which must not be negative."""
        self._value += amount

    def samples(self) -> Iterator[Sample]:
        """Yield the one sample."""
        yield "", {}, float(self._value)


class Gauge:
    """A value that is set, or read at every scrape."""

    __slots__ = ("_read", "_value")

    def __init__(self) -> None:
        self._value = 0.0
        self._read: Callable[[], float] | None = None

    def set(self, value: float) -> None:
        """Show ``value``."""
        self._value = value

    def read_from(self, read: Callable[[], float]) -> None:
        """Show ``read()``, which is called on the thread that serves the scrape."""
        self._read = read

    def samples(self) -> Iterator[Sample]:
        """Yield the one sample."""
        yield "", {}, self._value if self._read is None else self._read()


class Histogram:
    """Observations counted by bucket.

    Args:
        bounds: upper bounds of the buckets, inclusive and rising; one more has no bound.
    """

    __slots__ = ("_bounds", "_counts", "_sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, amount: float) -> None:
        """Count one observation."""
        self._sum += amount
        self._counts[bisect_left(self._bounds, amount)] += 1

    def observe_each(self, amount: float, count: int) -> None:
        """Count ``count`` observations of the same amount."""
        self._sum += amount * count
        self._counts[bisect_left(self._bounds, amount)] += count

    def samples(self) -> Iterator[Sample]:
        """Yield the cumulated buckets, the count, and the sum unless it may fall."""
        count = 0
        for bound, observed in zip((*map(repr, self._bounds), "+Inf"), self._counts, strict=True):
            count += observed
            yield "_bucket", {"le": bound}, count
        yield "_count", {}, count
        if self._bounds[0] >= 0:
            yield "_sum", {}, self._sum


Child = TypeVar("Child", Counter, Gauge, Histogram)


class Family(dict[tuple[str, ...], Child], Generic[Child]):
    """The children of one metric by label values: made once each, bounded in number.

    A label with known values takes no others, any other label ``MAX_OPEN_VALUES``; what is beyond
    counts as ``other``. Children whose labels are all known exist from the start, since an alert on
    an increase needs the 0 before it.

    Args:
        metric: its row of the table.
        make: makes a child.
    """

    def __init__(self, metric: Metric, make: Callable[[], Child]) -> None:
        self._metric = metric
        self._make: Callable[[], Child] = make
        self._allowed = tuple(metric.labels.values())
        self._seen: tuple[set[str], ...] = tuple(set() for _ in self._allowed)
        if all(self._allowed):
            for values in product(*self._allowed):
                self[values] = make()

    def __call__(self, *values: str) -> Child:
        """Return the child with these label values."""
        return self[values]

    def __missing__(self, values: tuple[str, ...]) -> Child:
        bounded = tuple(map(_bounded, values, self._allowed, self._seen))
        child = self.get(bounded)
        if child is None:
            child = self[bounded] = self._make()
        return child

    def only(self, *values: str) -> Child:
        """Return the child with these label values, whatever they are, and forget all others."""
        child = self.get(values) or self._make()
        self[values] = child
        for other in [one for one in self if one != values]:
            del self[other]
        return child

    def collect(self) -> Exposition:
        """Return the metric as the library renders it; may be called from any thread."""
        name = PREFIX + self._metric.name
        kind = self._metric.kind.value
        shown = Exposition(name.removesuffix("_total"), self._metric.meaning, kind)
        for values, child in self.copy().items():  # one step: a new child may be made meanwhile
            labels = dict(zip(self._metric.labels, values, strict=True))
            for suffix, further, value in child.samples():
                shown.add_sample(name + suffix, labels | further, value)
        return shown


AnyFamily = Family[Counter] | Family[Gauge] | Family[Histogram]


class FamilyCollector(Collector):
    """Families that a registry shows, or hides, together.

    Args:
        shown: whether they are shown at first.
    """

    def __init__(self, *, shown: bool) -> None:
        self.shown = shown
        self._families: list[AnyFamily] = []

    def add(self, family: AnyFamily) -> None:
        """Put one more family after the others."""
        self._families.append(family)

    def describe(self) -> list[Exposition]:
        """Return nothing: the table's test keeps names apart, not the registry."""
        return []

    def collect(self) -> Iterator[Exposition]:
        """Yield the families, or none while they are hidden."""
        if self.shown:
            for family in self._families:
                yield family.collect()


def _bounded(value: str, allowed: tuple[str, ...], seen: set[str]) -> str:
    if allowed:
        return value if value in allowed else OTHER
    if value not in seen and len(seen) >= MAX_OPEN_VALUES:
        return OTHER
    seen.add(value)
    return value
