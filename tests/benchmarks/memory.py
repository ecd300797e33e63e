"""What a worker takes in memory: ready, after work, and for every order in flight.

``python -m tests.benchmarks.memory``. Resident memory of the process. Orders are in flight at the
simulated exchange, which answers only after 20 s; what one takes is the difference between few and
many.
"""

import sys
import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Final

from tests.benchmarks import signals
from tests.benchmarks.processes import Child, Stage, stage
from tests.benchmarks.report import Report, Table, options
from tests.benchmarks.throughput import drain
from tests.benchmarks.venue import Venue

NAME: Final = "memory"
MARKETS, QUICK_MARKETS = 2_000, 200
WORK, QUICK_WORK = 20_000, 1_000
FEW, MANY, QUICK_MANY = 100, 4_000, 600
#: The exchange's answers (the balance that the first orders wait for is one) take longer than the
#: measuring, and leases longer than the answers.
_ANSWER_MS, _LEASE_S = 20_000, 300
#: Allocators and queues come to rest.
_SETTLE_S: Final = 1.0


def _paper(where: Stage, work: int) -> dict[str, float]:
    child = where.worker()
    time.sleep(_SETTLE_S)
    found = {"ready, simulated exchange": child.rss_kb / 1024}
    drain(where, [child], signals.backlog(work, "w"))
    time.sleep(_SETTLE_S)
    found[f"after {work:,} signals"] = child.rss_kb / 1024
    return found


def _ccxt(where: Stage, markets: int) -> dict[str, float]:
    venue = Venue(where, symbols=markets)
    child = where.worker(**venue.settings())
    time.sleep(_SETTLE_S)
    return {f"ready, ccxt, {markets:,} markets": child.rss_kb / 1024}


def _in_flight(where: Stage, many: int) -> dict[str, float]:
    child = where.worker(
        worker__concurrency=4_096,
        worker__lease_seconds=_LEASE_S,
        worker__drain_seconds=0,
        exchanges__paper__paper__latency_ms=_ANSWER_MS,
    )
    few_kb = _send(where, child, signals.openings(FEW, "few", first=0))
    many_kb = _send(where, child, signals.openings(many, "many", first=FEW))
    child.kill()
    return {f"per order, {many:,} in flight": (many_kb - few_kb) / many}


def _send(where: Stage, child: Child, payloads: Sequence[bytes]) -> int:
    """Memory, KiB, once all of these are at the exchange; earlier ones may have ended by then."""
    where.wire.pour(signals.commands(payloads))
    where.until(lambda: where.wire.call("HLEN", "{main}:book") >= len(payloads), child=child)
    time.sleep(_SETTLE_S)
    return child.rss_kb


def main(argv: Sequence[str] | None = None) -> None:
    """Run the benchmark."""
    chosen = options(NAME, __doc__, argv)
    report = Report(NAME, chosen)
    quick = chosen.quick
    series: list[Callable[[Stage], dict[str, float]]] = [
        lambda where: _paper(where, QUICK_WORK if quick else WORK),
        lambda where: _ccxt(where, QUICK_MARKETS if quick else MARKETS),
        lambda where: _in_flight(where, QUICK_MANY if quick else MANY),
    ]
    for number in range(chosen.runs):
        for run in series:
            with stage(chosen.server) as where, report.meter.around():
                where.make_group()
                report.server = where.server_name()
                for name, value in run(where).items():
                    report.add(name, "KB" if name.startswith("per order") else "MB", value)
        report.progress(f"run {number + 1}/{chosen.runs}")
    rows = [
        [f"{name}, {found.unit}", *(f"{value:.1f}" for value in _summary(found.values))]
        for name, found in report.samples.items()
    ]
    report.tables.append(
        Table(
            name=NAME,
            title="Memory of one worker, resident",
            columns=["", "median", "min", "max"],
            rows=rows,
        )
    )
    report.finish()


def _summary(values: Sequence[float]) -> tuple[float, float, float]:
    return median(values), min(values), max(values)


if __name__ == "__main__":
    main(sys.argv[1:])
