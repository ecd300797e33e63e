"""Whether a signal costs the same in a small world and in a large one.

``python -m tests.benchmarks.growth [--axis NAME]``. Along each axis (backlog, symbols, open
positions, consumers, execution records) one worker works off slices of the same size; beside each
slice the bare batched loop works off one of its own, so that a slow moment of the machine shows in
both. Memory of worker and server is read at the end of each point.
"""

import sys
import time
from collections.abc import Callable, Generator, Sequence
from statistics import median
from typing import Any, Final

import msgspec

from tests.benchmarks import signals
from tests.benchmarks.processes import BenchmarkError, Child, Stage, stage
from tests.benchmarks.report import Report, Table, parsed, parser_for, ratio
from tests.benchmarks.throughput import Run, drain
from tests.benchmarks.wire import pack

NAME: Final = "growth"
SLICE, QUICK_SLICE = 10_000, 1_000
POINTS: Final[dict[str, tuple[int, ...]]] = {
    "backlog": (1_000, 10_000, 100_000, 1_000_000),
    "symbols": (10, 100, 1_000, 10_000, 100_000),
    "positions": (0, 100, 1_000, 10_000),
    "consumers": (1, 4, 16, 64),
    "records": (0, 10_000, 100_000, 1_000_000),
}
QUICK_POINTS: Final[dict[str, tuple[int, ...]]] = {
    "backlog": (1_000, 5_000),
    "symbols": (10, 500),
    "positions": (0, 200),
    "consumers": (1, 8),
    "records": (0, 5_000),
}
#: Symbols of positions that stay open are numbered from here.
_FAR: Final = 1_000_000
#: Frozen between slices, a worker must not lose what it holds.
_LONG_LEASE_S: Final = 300
_LIMIT_S: Final = 600.0


class Point:
    """One worker in a world of one size.

    Args:
        where: its server.
        slice_size: signals of one counted run.
        value: the size of the world along the axis.
    """

    def __init__(self, where: Stage, slice_size: int, value: int) -> None:
        self.where = where
        self.slice_size = slice_size
        self.value = value
        self.worker: Child | None = None
        self._numbers = iter(range(1_000_000))

    def start(self, **settings: Any) -> Child:
        """The worker, warmed up."""
        self.worker = self.where.worker(**settings)
        return self.worker

    def slice(self, *, symbols: int = signals.IN_PLAY, kept: int = 0, count: int = 0) -> Run:
        """Work off one slice that is loaded for it."""
        assert self.worker is not None
        number, count = next(self._numbers), count or self.slice_size
        payloads = signals.backlog(count, f"s{number}", symbols=symbols, start=number * count // 2)
        return drain(self.where, [self.worker], payloads, kept=kept)


Slices = Generator[Run, None, None]
Axis = Callable[[Point], Slices]


def _backlog(point: Point) -> Slices:
    """``value`` signals wait, slices are taken off them; few are filled up again."""
    where, count = point.where, min(point.slice_size, point.value // 2)
    loaded = point.value
    where.wire.pour(signals.commands(signal.data for signal in signals.pairs(loaded, "b")))
    child = point.start(worker__lease_seconds=_LONG_LEASE_S)
    child.pause()
    while True:
        if loaded - _done(where) < 2 * count:  # a small backlog is filled up again
            more = max(point.value // 2 * 2, 2 * count)
            payloads = signals.backlog(more, f"m{_done(where)}")
            where.wire.pour(signals.commands(payloads))
            loaded += more
        yield _take(where, child, count)


def _done(where: Stage) -> int:
    group = where.group()
    return group.read - group.pending


def _take(where: Stage, child: Child, count: int) -> Run:
    """Let a frozen worker finish ``count`` more signals of what waits, then freeze it again."""
    before, cpu_s, server_cpu_s = _done(where), child.cpu_s, where.server_cpu_s
    started = now = time.perf_counter()
    child.resume()
    done = 0
    while done < count:
        if now - started > _LIMIT_S:
            raise BenchmarkError(f"only {done} of {count} signals in {_LIMIT_S:g} s")
        time.sleep(0.002)
        done, now = _done(where) - before, time.perf_counter()
    child.pause()
    return Run(
        done, now - started, child.cpu_s - cpu_s, where.server_cpu_s - server_cpu_s, child.rss_kb
    )


def _symbols(point: Point) -> Slices:
    """``value`` symbols, gone round, each of which has been traded before."""
    point.start()
    point.slice(symbols=point.value, count=max(2 * point.value, point.slice_size))
    while True:
        yield point.slice(symbols=point.value)


def _positions(point: Point) -> Slices:
    """``value`` positions are open in other symbols all the time."""
    child = point.start()
    if point.value:
        drain(point.where, [child], signals.openings(point.value, "p", first=_FAR))
    while True:
        yield point.slice()


def _consumers(point: Point) -> Slices:
    """``value`` members in the group; all but one hold a lease, a heartbeat and a doorbell."""
    others = point.value - 1
    if others:
        payloads = signals.openings(others, "p", first=_FAR)
        point.where.wire.pour(signals.commands(payloads))
        fleet = point.where.start(
            ["-m", "tests.benchmarks.consumers", str(others), point.where.server.url]
        )
        point.where.until_ready(fleet)
    point.start()
    while True:
        yield point.slice(kept=others)


def _records(point: Point) -> Slices:
    """``value`` records of finished orders are kept: copies of a true one."""
    point.start()
    point.slice()
    wire = point.where.wire
    true = wire.call("GET", "{main}:record:s0-0000000")
    wire.pour(
        pack("SET", f"{{main}}:record:old-{n:07}", true, "PX", 604_800_000)
        for n in range(point.value)
    )
    while True:
        yield point.slice()


AXES: Final[dict[str, tuple[str, Axis]]] = {
    "backlog": ("signals waiting", _backlog),
    "symbols": ("symbols", _symbols),
    "positions": ("open positions", _positions),
    "consumers": ("consumers in the group", _consumers),
    "records": ("execution records", _records),
}


class Found(msgspec.Struct):
    """One point's slices, the bare loop's beside them, and the memory at the end."""

    value: int
    runs: list[Run]
    bare: list[Run]
    server_mb: float


def main(argv: Sequence[str] | None = None) -> None:
    """Run the benchmark."""
    parser = parser_for(NAME, __doc__)
    parser.add_argument("--axis", choices=AXES, action="append", help="only this one")
    chosen = parsed(parser, argv)
    size = QUICK_SLICE if chosen.quick else SLICE
    report = Report(NAME, chosen)
    for axis in chosen.axis or AXES:
        found = []
        for value in (QUICK_POINTS if chosen.quick else POINTS)[axis]:
            found.append(_measure(report, axis, value, size, chosen.runs, chosen.server))
            rate = median(run.rate for run in found[-1].runs)
            report.progress(f"{axis} {value:,}: {rate:,.0f}/s")
        report.tables.append(_table(report, axis, found))
    report.finish()


def _measure(
    report: Report, axis: str, value: int, size: int, runs: int, server: str | None
) -> Found:
    with stage(server) as yardstick, stage(server) as where:
        for one in (yardstick, where):
            one.make_group()
        report.server = where.server_name()
        bare = yardstick.bare("batched")
        drain(yardstick, [bare], signals.backlog(size, "w"))
        slices = AXES[axis][1](Point(where, size, value))
        next(slices)  # warm-up
        found = Found(value, [], [], 0.0)
        for _ in range(runs):
            with report.meter.around():
                found.bare.append(drain(yardstick, [bare], signals.backlog(size, "b")))
                found.runs.append(next(slices))
        found.server_mb = where.server_memory_kb / 1024
        slices.close()
    return found


def _against_bare(point: Found) -> float:
    """How many times as long as the bare loop, each slice beside its own."""
    walls, bare = ([run.wall_s / run.count for run in runs] for runs in (point.runs, point.bare))
    return ratio(walls, bare)


def _table(report: Report, axis: str, found: list[Found]) -> Table:
    rows = []
    base = median(run.wall_s / run.count for run in found[0].runs)
    base_ratio = _against_bare(found[0])
    base_cpu = median((run.cpu_s + run.server_cpu_s) / run.count for run in found[0].runs)
    for point in found:
        walls = [run.wall_s / run.count * 1e6 for run in point.runs]
        cpus = [run.cpu_s / run.count * 1e6 for run in point.runs]
        servers = [run.server_cpu_s / run.count * 1e6 for run in point.runs]
        name = f"{axis} {point.value}"
        for what, values in (("wall", walls), ("cpu", cpus), ("server cpu", servers)):
            for one in values:
                report.add(f"{name}: {what}", "µs/signal", one)
        memory = max(run.rss_kb for run in point.runs) / 1024
        report.add(f"{name}: memory", "MB", memory)
        report.add(f"{name}: server memory", "MB", point.server_mb)
        rows.append(
            [
                f"{point.value:,}",
                *(f"{one:.0f}" for one in (median(walls), min(walls), max(walls))),
                f"{median(walls) / base / 1e6 - 1:+.0%}",
                f"{median(cpus):.0f}",
                f"{median(servers):.0f}",
                f"{(median(cpus) + median(servers)) / base_cpu / 1e6 - 1:+.0%}",
                f"{_against_bare(point):.1f}",
                f"{_against_bare(point) / base_ratio - 1:+.0%}",
                f"{memory:.0f}",
                f"{point.server_mb:.0f}",
            ]
        )
    return Table(
        name=f"growth_{axis}",
        title=f"Growth: {AXES[axis][0]}, microseconds a signal",
        columns=[AXES[axis][0], "median", "min", "max", "change", "worker CPU", "server CPU",
                 "CPU change", "of bare batched", "its change", "worker MB", "server MB"],
        rows=rows,
        note=" ".join((AXES[axis][1].__doc__ or "").split()).replace("``value``", "So many"),
    )  # fmt: skip


if __name__ == "__main__":
    main(sys.argv[1:])
