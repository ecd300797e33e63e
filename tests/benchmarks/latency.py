"""How long one signal takes: alone, and while the worker is 10, 50 and 90% busy.

``python -m tests.benchmarks.latency``. Times run from just before ``XADD`` is sent to the order's
arrival (at the simulated exchange inside the worker, or at the simulator process) and to the
terminal event's arrival at a blocked ``XREAD``; a load is sent by the clock, whatever becomes of
it. The yardsticks, in the same rounds: the bare message-at-a-time loop, and ccxt's bare
``create_order``, or for orders over a WebSocket its ``create_order_ws``.
"""

import sys
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any, Final

import msgspec

from tests.benchmarks import instrumented, signals, venue
from tests.benchmarks.instrumented import ANSWERED, REACHED, TIMES
from tests.benchmarks.probes import Probe, at_rate, one_at_a_time
from tests.benchmarks.processes import Child, Stage, stage
from tests.benchmarks.report import Report, Table, options, percentile
from tests.benchmarks.throughput import drain
from tests.benchmarks.venue import EXCHANGE, Venue

NAME: Final = "latency"
SHARES: Final = (0.1, 0.5, 0.9)
SIMULATOR_SYMBOLS: Final = 100
BARE = "bare loop"
TO_ORDER, TO_EVENT = "XADD to order", "XADD to event"
#: Orders through ccxt made in one go, alternating with as many bare ones.
_BLOCK: Final = 20


class Transport(msgspec.Struct, frozen=True):
    """What orders are created over: the setting, its rows' first word, and ccxt's own call."""

    setting: str
    title: str
    bare: str


REST: Final = Transport("rest", "ccxt", "bare ccxt create_order")
WEBSOCKET: Final = Transport("websocket", "ccxt over WebSocket", "bare ccxt create_order_ws")


class Size(msgspec.Struct, frozen=True):
    """How much one run measures."""

    alone: int
    load_s: float
    capacity: int
    alone_ccxt: int
    capacity_ccxt: int


FULL: Final = Size(1_000, 3.0, 5_000, 300, 1_000)
QUICK: Final = Size(50, 0.5, 500, 20, 100)


class Latencies:
    """Every sample in milliseconds by figure, and each run's median of it."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self.all: dict[str, list[float]] = {}

    def add(self, name: str, values: Sequence[float]) -> None:
        """One run's samples of one figure."""
        self.all.setdefault(name, []).extend(values)
        self._report.add(f"{name}: p50", "ms", percentile(values, 0.5))
        self._report.add(f"{name}: p99", "ms", percentile(values, 0.99))

    def row(self, name: str, yardstick: str) -> list[str]:
        """A table's row: percentiles over all runs, the range of the runs' own medians."""
        values, medians = self.all[name], self._report.values(f"{name}: p50")
        shown = [f"{percentile(values, share):.2f}" for share in (0.5, 0.99, 0.999)]
        against = median(values) / median(self.all[yardstick])
        spread = f"{min(medians):.2f} to {max(medians):.2f}"
        return [name, *shown, spread, f"{against:.2f}", f"{len(values):,}"]


@contextmanager
def noting(path: Path, child: Child) -> Iterator[dict[str, dict[str, int]]]:
    """The notes of ``child``, complete once the block has ended and ``child`` with it."""
    notes: dict[str, dict[str, int]] = {}
    yield notes
    child.stop()
    notes |= instrumented.read(path)


def bare(where: Stage, size: Size, found: Latencies) -> None:
    """The bare message-at-a-time loop."""
    where.bare("single")
    one_at_a_time(where.server.port, signals.pairs(size.alone // 10, "w"))
    probes = one_at_a_time(where.server.port, signals.pairs(size.alone, "b"))
    found.add(BARE, [probe.to_event_ms for probe in probes])


Make = Callable[[int, str], list[signals.Signal]]
Measured = dict[str, list[Probe]]


def _levels(
    where: Stage, child: Child, make: Make, size: Size, capacity: int, report: Report
) -> Measured:
    """One worker alone, then at each share of what it can do."""
    port = where.server.port
    drain(where, [child], [signal.data for signal in make(capacity, "w")])
    measured = {"alone": one_at_a_time(port, make(size.alone, "a"))}
    rate = drain(where, [child], [signal.data for signal in make(capacity, "c")]).rate
    for share in SHARES:
        chosen = make(max(int(rate * share * size.load_s) // 2 * 2, 20), f"l{share:.0%}".strip("%"))
        load = at_rate(port, chosen, rate * share)
        measured[f"at {share:.0%}"] = load.probes
        report.add(f"harness late at {share:.0%}", "ms", load.late_ms)
    report.add("capacity", "signals/s", rate)
    return measured


def _add(found: Latencies, title: str, measured: Measured, reached: dict[str, int]) -> None:
    for level, probes in measured.items():
        to_order = [probe.to_exchange_ms(reached) for probe in probes]
        found.add(f"{title} {level}: {TO_ORDER}", to_order)
        found.add(f"{title} {level}: {TO_EVENT}", [probe.to_event_ms for probe in probes])


def paper(where: Stage, size: Size, found: Latencies, report: Report) -> None:
    """A worker on the simulated exchange inside it."""
    path = where.directory / "worker.notes"
    child = where.worker(module="tests.benchmarks.instrumented", extra={TIMES: str(path)})
    with noting(path, child) as notes:
        measured = _levels(
            where,
            child,
            lambda n, prefix: list(signals.pairs(n, prefix)),
            size,
            size.capacity,
            report,
        )
    _add(found, "paper", measured, notes[REACHED])


def through_ccxt(
    where: Stage, size: Size, found: Latencies, report: Report, over: Transport
) -> None:
    """A worker that trades through ccxt at the simulator process, and ccxt alone beside it.

    Under load over REST only: what a busy worker does with its signals is the same.
    """
    worker_path, venue_path = where.directory / "worker.notes", where.directory / "venue.notes"
    market = Venue(where, symbols=SIMULATOR_SYMBOLS, notes=venue_path)
    alone = where.start(
        ["-m", "tests.benchmarks.bare_ccxt", market.url, str(where.server.port), over.setting]
    )
    where.until_ready(alone)
    child = where.worker(
        module="tests.benchmarks.instrumented",
        extra={TIMES: str(worker_path)},
        **market.settings(over.setting),
    )
    make: Make = partial(_on_simulator, signals.IN_PLAY)
    with noting(venue_path, market.child) as at_venue, noting(worker_path, child) as at_worker:
        size = msgspec.structs.replace(size, alone=_BLOCK)
        measured: Measured = {}
        if over is REST:
            measured = _levels(where, child, make, size, size.capacity_ccxt, report)
        else:
            drain(where, [child], [signal.data for signal in make(size.capacity_ccxt, "w")])
        measured["alone"], direct = _in_turn(where, size)
    _add(found, over.title, measured, at_venue[REACHED])
    _add_ccxt(found, over, measured["alone"], direct, at_worker, at_venue[REACHED])


def _on_simulator(symbols: int, count: int, prefix: str) -> list[signals.Signal]:
    return list(
        signals.pairs(
            count, prefix, symbols=symbols, name_of=venue.symbol, exchange=EXCHANGE, price=""
        )
    )


Times = list[tuple[str, int, int]]


def _in_turn(where: Stage, size: Size) -> tuple[list[Probe], Times]:
    """Signals one at a time, and bare orders one at a time, in alternating blocks."""
    source = iter(_on_simulator(1, size.alone_ccxt, "o"))
    probes: list[Probe] = []
    direct: Times = []
    while block := list(islice(source, _BLOCK)):
        probes += one_at_a_time(where.server.port, block)
        where.wire.call("LPUSH", "bare:go", len(block))
        direct += msgspec.msgpack.decode(where.wire.call("BRPOP", "bare:done", 60)[1], type=Times)
    return probes, direct


def _add_ccxt(
    found: Latencies,
    over: Transport,
    probes: list[Probe],
    direct: Times,
    at_worker: dict[str, dict[str, int]],
    at_venue: dict[str, int],
) -> None:
    """What ccxt takes alone, the adapter's own call, and what the worker adds to ccxt."""
    found.add(over.bare, [(end - start) / 1e6 for _, start, end in direct])
    found.add(
        f"{over.bare}: call to order", [(at_venue[name] - start) / 1e6 for name, start, _ in direct]
    )
    reached, answered = at_worker[REACHED], at_worker[ANSWERED]
    names = [probe.signal.client_id for probe in probes]
    found.add(f"{over.title} alone: place_order", [(answered[n] - reached[n]) / 1e6 for n in names])


def main(argv: Sequence[str] | None = None) -> None:
    """Run the benchmark."""
    chosen = options(NAME, __doc__, argv)
    size = QUICK if chosen.quick else FULL
    report = Report(NAME, chosen)
    found = Latencies(report)
    parts: dict[str, Callable[..., Any]] = {
        "bare": lambda where: bare(where, size, found),
        "paper": lambda where: paper(where, size, found, report),
        "ccxt": lambda where: through_ccxt(where, size, found, report, REST),
        "ccxt over WebSocket": lambda where: through_ccxt(where, size, found, report, WEBSOCKET),
    }
    for number in range(chosen.runs):
        for name, part in parts.items():
            with stage(chosen.server) as where, report.meter.around():
                where.make_group()
                report.server = where.server_name()
                part(where)
            report.progress(f"run {number + 1}/{chosen.runs}, {name}")
    report.tables += _tables(found, report, chosen)
    report.finish()


def _tables(found: Latencies, report: Report, chosen: Namespace) -> list[Table]:
    columns = ["milliseconds", "p50", "p99", "p99.9", "p50 of the runs", "of bare p50", "signals"]
    levels = ["alone", *[f"at {share:.0%}" for share in SHARES]]
    late = max(max(report.values(f"harness late at {share:.0%}")) for share in SHARES)
    simulated = [f"paper {level}: {what}" for level in levels for what in (TO_ORDER, TO_EVENT)]
    real = [f"ccxt {level}: {what}" for level in levels for what in (TO_ORDER, TO_EVENT)]
    rows = [found.row(name, REST.bare) for name in (*_own(REST), *real)]
    rows += [found.row(name, WEBSOCKET.bare) for name in _own(WEBSOCKET)]
    rows += [
        found.row(f"{WEBSOCKET.title} alone: {what}", WEBSOCKET.bare)
        for what in (TO_ORDER, TO_EVENT)
    ]
    capacity = report.values("capacity")
    return [
        Table(
            name=NAME,
            title="Latency on the simulated exchange",
            columns=columns,
            rows=[found.row(name, BARE) for name in (BARE, *simulated)],
            note=f"Capacity, measured in each run: {median(capacity[::2]):,.0f} signals/s. The "
            f"harness itself was never more than {late:.1f} ms late.",
        ),
        Table(
            name="latency_ccxt",
            title="Latency through ccxt, against the exchange simulator",
            columns=[*columns[:5], "of its bare call's p50", columns[6]],
            rows=rows,
            note=f"Capacity with this simulator: {median(capacity[1::2]):,.0f} signals/s. "
            f"{_added(report, REST)} {_added(report, WEBSOCKET)} {_against(report)}",
        ),
    ]


def _own(over: Transport) -> list[str]:
    """The rows about one call: ccxt's own, and the adapter's around it."""
    return [over.bare, f"{over.bare}: call to order", f"{over.title} alone: place_order"]


def _added(report: Report, over: Transport) -> str:
    """What the worker adds to ccxt, as differences of each run's medians."""

    def added(ours: str, theirs: str) -> str:
        both = zip(report.values(f"{ours}: p50"), report.values(f"{theirs}: p50"), strict=True)
        values = [mine - other for mine, other in both]
        report.details[f"added: {ours}"] = values
        return f"{median(values):.2f} ms ({min(values):.2f} to {max(values):.2f})"

    return (
        f"Added to ccxt's own {over.bare.split()[-1]}, p50: up to the order at the exchange "
        f"{added(f'{over.title} alone: {TO_ORDER}', f'{over.bare}: call to order')}, "
        f"up to the terminal event {added(f'{over.title} alone: {TO_EVENT}', over.bare)}, "
        f"by the adapter {added(f'{over.title} alone: place_order', over.bare)}."
    )


def _against(report: Report) -> str:
    """The WebSocket against REST, as ratios of each run's medians."""

    def share(figure: str, other: str) -> str:
        both = zip(report.values(f"{figure}: p50"), report.values(f"{other}: p50"), strict=True)
        values = [over_socket / over_rest for over_socket, over_rest in both]
        report.details[f"of REST: {figure}"] = values
        return f"{median(values):.2f} ({min(values):.2f} to {max(values):.2f})"

    alone = f"{WEBSOCKET.title} alone", f"{REST.title} alone"
    return (
        f"WebSocket over REST, p50 in the same runs: bare call {share(WEBSOCKET.bare, REST.bare)}, "
        f"place_order {share(*(f'{title}: place_order' for title in alone))}, "
        f"{TO_ORDER} {share(*(f'{title}: {TO_ORDER}' for title in alone))}, "
        f"{TO_EVENT} {share(*(f'{title}: {TO_EVENT}' for title in alone))}."
    )


if __name__ == "__main__":
    main(sys.argv[1:])
