"""Signals a second: a preloaded backlog, four stages, simulated exchange, against bare loops.

``python -m tests.benchmarks.throughput``. Every counted run has a server and processes of its own:
started, warmed up, frozen while the backlog is loaded, thawed. Time runs from the first claim to
the last acknowledgement, as the consumer group tells it.
"""

import sys
import time
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from tests.benchmarks import signals
from tests.benchmarks.processes import BenchmarkError, Child, Stage, stage
from tests.benchmarks.report import Report, Table, options, ratio

NAME: Final = "throughput"
BACKLOG, QUICK_BACKLOG = 20_000, 2_000
WARM_UP, QUICK_WARM_UP = 2_000, 500
#: How long one run may take.
_LIMIT_S: Final = 300.0
_LOOK_EVERY_S: Final = 0.004
BARE_BATCHED, BARE_SINGLE = "bare loop, batches of 100", "bare loop, one at a time"
ONE, TWO = "1 worker", "2 workers"


class Run(msgspec.Struct, frozen=True):
    """One counted run: seconds, and processor seconds of the processes and the server."""

    count: int
    wall_s: float
    cpu_s: float
    server_cpu_s: float
    rss_kb: int

    @property
    def rate(self) -> float:
        """Signals a second."""
        return self.count / self.wall_s


def drain(
    where: Stage, children: Sequence[Child], payloads: Sequence[bytes], *, kept: int = 0
) -> Run:
    """Load a backlog while ``children`` are frozen, then time how they work it off.

    Args:
        where: the server.
        children: what works it off.
        payloads: the backlog.
        kept: how many entries others hold for ever.

    Raises:
        BenchmarkError: it took too long.
    """
    for child in children:
        child.pause()
    where.wire.pour(signals.commands(payloads))
    before = where.group().read
    cpu_s, server_cpu_s = sum(child.cpu_s for child in children), where.server_cpu_s
    for child in children:
        child.resume()
    started = ended = time.perf_counter()
    while where.group().read == before:
        started = time.perf_counter()
        if started - ended > _LIMIT_S:
            raise BenchmarkError(f"nothing was claimed: {children[0].log.read_text()[-1_500:]}")
    while True:
        now = where.group()
        ended = time.perf_counter()
        if not now.lag and now.pending <= kept:
            break
        if ended - started > _LIMIT_S:
            raise BenchmarkError(f"not done after {_LIMIT_S:g} s: {now}")
        time.sleep(_LOOK_EVERY_S)
    return Run(
        len(payloads),
        ended - started,
        sum(child.cpu_s for child in children) - cpu_s,
        where.server_cpu_s - server_cpu_s,
        max(child.rss_kb for child in children),
    )


def measure(
    where: Stage, children: Sequence[Child], *, warm_up: int, count: int, events: int
) -> Run:
    """Warm up, then one counted run.

    Args:
        where: the server.
        children: what works the backlog off.
        warm_up: signals first worked off without counting.
        count: signals of the counted run.
        events: order events each signal must leave: placed and filled, or the bare loop's one.

    Raises:
        BenchmarkError: some signal did not end as it should have.
    """
    drain(where, children, signals.backlog(warm_up, "w"))
    before = where.written()
    run = drain(where, children, signals.backlog(count, "b"))
    written = where.written() - before
    if written != events * count:
        raise BenchmarkError(f"{count} signals left {written} order events, not {events} each")
    return run


def _bare(mode: str) -> Callable[[Stage], list[Child]]:
    return lambda where: [where.bare(mode)]


#: What is compared: how to start it, and the order events one signal leaves.
SERIES: Final[dict[str, tuple[Callable[[Stage], list[Child]], int]]] = {
    BARE_BATCHED: (_bare("batched"), 1),
    "bare loop, one script a message": (_bare("scripted"), 1),
    "bare loop without redis-py": (_bare("wire"), 1),
    BARE_SINGLE: (_bare("single"), 1),
    ONE: (lambda where: [where.worker()], 2),
    TWO: (lambda where: [where.worker(), where.worker()], 2),
}


def main(argv: Sequence[str] | None = None) -> None:
    """Run the benchmark."""
    chosen = options(NAME, __doc__, argv)
    count = QUICK_BACKLOG if chosen.quick else BACKLOG
    warm_up = QUICK_WARM_UP if chosen.quick else WARM_UP
    report = Report(NAME, chosen)
    for number in range(chosen.runs):
        for name, (start, events) in SERIES.items():
            with stage(chosen.server) as where, report.meter.around():
                where.make_group()
                report.server = where.server_name()
                run = measure(where, start(where), warm_up=warm_up, count=count, events=events)
            report.progress(f"run {number + 1}/{chosen.runs}, {name}: {run.rate:,.0f}/s")
            report.add(name, "signals/s", run.rate)
            report.add(f"{name}: cpu", "µs/signal", run.cpu_s / count * 1e6)
            report.add(f"{name}: server cpu", "µs/signal", run.server_cpu_s / count * 1e6)
            report.add(f"{name}: memory", "MB", run.rss_kb / 1024)
    report.tables.append(_table(report, count))
    report.finish()


def _table(report: Report, count: int) -> Table:
    rows = []
    for name in SERIES:
        found = report.samples[name]
        rows.append(
            [
                name,
                f"{found.median:,.0f}",
                f"{min(found.values):,.0f}",
                f"{max(found.values):,.0f}",
                f"{ratio(found.values, report.values(BARE_BATCHED)):.2f}",
                f"{ratio(found.values, report.values(ONE)):.2f}",
                f"{report.samples[f'{name}: cpu'].median:.0f}",
                f"{report.samples[f'{name}: server cpu'].median:.0f}",
                f"{report.samples[f'{name}: memory'].median:.0f}",
            ]
        )
    return Table(
        name=NAME,
        title=f"Throughput: {count:,} preloaded signals, signals a second",
        columns=["", "median", "min", "max", "of bare batched", "of 1 worker",
                 "CPU µs/signal", "server µs/signal", "MB"],
        rows=rows,
        note="Ratios are medians of the rounds' own ratios. CPU is what all processes of the row "
        "used together, the server apart; MB is the largest process.",
    )  # fmt: skip


if __name__ == "__main__":
    main(sys.argv[1:])
