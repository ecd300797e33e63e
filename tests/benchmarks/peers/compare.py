"""Throughput of one worker process and latency of one message: peers, bare loops, this worker.

``python -m tests.benchmarks.peers.compare`` (``make bench-peers`` installs the peers first). One
server a run, the same for all. Peers decode a signal and write one event; this worker runs its
four stages, admits the order, trades and writes three events.
"""

import subprocess
import sys
import time
from collections.abc import Sequence
from statistics import median
from typing import Final

import msgspec

from tests.benchmarks import signals
from tests.benchmarks.peers.message import EVENTS
from tests.benchmarks.probes import one_at_a_time
from tests.benchmarks.processes import ROOT, BenchmarkError, Child, Stage, stage
from tests.benchmarks.report import Report, Table, parsed, parser_for, percentile, ratio
from tests.benchmarks.throughput import BARE_BATCHED, BARE_SINGLE, ONE, SERIES, measure

NAME: Final = "peers"
NAMES: Final = (
    "dramatiq",
    "faststream",
    "faststream-batch",
    "taskiq",
    "docket",
    "arq",
    "saq",
    "streaq",
    "celery",
)
BACKLOG, QUICK_BACKLOG = 10_000, 2_000
ALONE, QUICK_ALONE = 300, 20
_WARM_UP: Final = 200
_LIMIT_S: Final = 180.0
_LOOK_EVERY_S: Final = 0.004
_SETTLE_S: Final = 0.2


class About(msgspec.Struct):
    """What a peer's own environment says of it."""

    version: str
    settings: str


def environment(name: str) -> str:
    """The interpreter a peer is installed for."""
    directory = ROOT / (".venv-peers-arq" if name == "arq" else ".venv-peers")
    python = directory / "bin" / "python"
    if not python.exists():
        raise BenchmarkError(f"{directory} is missing: make bench-peers makes it")
    return str(python)


def about(name: str) -> About:
    """Version and settings of a peer."""
    code = (
        "import sys, json; from importlib.metadata import version\n"
        "from tests.benchmarks.peers.apps import PEERS\n"
        "peer = PEERS[sys.argv[1]]\n"
        "print(json.dumps({'version': version(peer.package), 'settings': peer.settings}))"
    )
    done = subprocess.run(
        [environment(name), "-c", code, name], cwd=ROOT, check=True, capture_output=True
    )
    return msgspec.json.decode(done.stdout, type=About)


class _Peer:
    """One peer's worker and producer beside a server."""

    def __init__(self, where: Stage, name: str) -> None:
        self.where = where
        python = environment(name)
        command = ["-m", "tests.benchmarks.peers"]
        self.worker: Child = where.start([*command, "work", name, where.server.url], python=python)
        self._producer = where.start([*command, "produce", name, where.server.url], python=python)
        where.until_ready(self._producer)

    def ask(self, what: str, count: int) -> list[int]:
        """Have the producer do something; returns its answer."""
        self.where.wire.call("LPUSH", "peers:go", f"{what} {count}")
        reply = self.where.wire.call("BRPOP", "peers:done", _LIMIT_S)
        if reply is None:
            raise BenchmarkError(f"{what} {count}: no answer. {self.worker.log.read_text()[-800:]}")
        return msgspec.msgpack.decode(reply[1], type=list[int])

    def written(self) -> int:
        """Events so far."""
        return int(self.where.wire.call("XLEN", EVENTS))

    def warm_up(self) -> None:
        """Send until something comes back (a group may only get what comes after it), then more."""
        deadline = time.monotonic() + _LIMIT_S
        while not self.written():
            self.worker.check()
            if time.monotonic() > deadline:
                raise BenchmarkError(f"handles nothing: {self.worker.log.read_text()[-800:]}")
            self.ask("load", 1)
            time.sleep(_SETTLE_S)
        before = self.written()
        self.ask("load", _WARM_UP)
        self.where.until(lambda: self.written() >= before + _WARM_UP, child=self.worker)
        time.sleep(_SETTLE_S)

    def rate(self, count: int) -> float:
        """Messages a second from the first event of a preloaded backlog to the last."""
        before = self.written()
        self.worker.pause()
        self.ask("load", count)
        self.worker.resume()
        started, first = time.perf_counter(), 0
        while first == 0:
            first, started = self.written() - before, time.perf_counter()
        ended, done = started, first
        while done < count:
            if ended - started > _LIMIT_S:
                raise BenchmarkError(f"only {done} of {count} messages were handled")
            time.sleep(_LOOK_EVERY_S)
            done, ended = self.written() - before, time.perf_counter()
        return (count - first) / (ended - started)


def _peer(where: Stage, name: str, count: int, alone: int) -> tuple[float, list[float]]:
    peer = _Peer(where, name)
    peer.warm_up()
    rate = peer.rate(count)
    return rate, [ns / 1e6 for ns in peer.ask("one", alone)]


def _own(where: Stage, name: str, count: int, alone: int) -> tuple[float, list[float]]:
    start, events = SERIES[name]
    where.make_group()
    run = measure(where, start(where), warm_up=_WARM_UP, count=count, events=events)
    probes = one_at_a_time(where.server.port, signals.pairs(alone, "a"))
    return run.rate, [probe.to_event_ms for probe in probes]


def main(argv: Sequence[str] | None = None) -> None:
    """Run the comparison."""
    parser = parser_for(NAME, __doc__)
    parser.add_argument("--peer", choices=NAMES, action="append", help="only this one")
    chosen = parsed(parser, argv)
    count, alone = (QUICK_BACKLOG, QUICK_ALONE) if chosen.quick else (BACKLOG, ALONE)
    peers = chosen.peer or NAMES
    report = Report(NAME, chosen)
    versions = {name: about(name) for name in peers}
    latencies: dict[str, list[float]] = {}
    for number in range(chosen.runs):
        for name in (BARE_BATCHED, BARE_SINGLE, ONE, *peers):
            with stage(chosen.server) as where, report.meter.around():
                report.server = where.server_name()
                run = _peer if name in versions else _own
                rate, times = run(where, name, count, alone)
            report.progress(f"run {number + 1}/{chosen.runs}, {name}: {rate:,.0f}/s")
            report.add(name, "messages/s", rate)
            latencies.setdefault(name, []).extend(times)
            report.add(f"{name}: p50", "ms", percentile(times, 0.5))
            report.add(f"{name}: p99", "ms", percentile(times, 0.99))
    report.tables.append(_table(report, versions, latencies, count))
    report.finish()


def _table(
    report: Report, versions: dict[str, About], latencies: dict[str, list[float]], count: int
) -> Table:
    rows = []
    for name, times in latencies.items():
        found = report.samples[name]
        known = versions.get(name)
        rows.append(
            [
                f"{name} {known.version}" if known else name,
                f"{median(found.values):,.0f}",
                f"{min(found.values):,.0f}",
                f"{max(found.values):,.0f}",
                f"{ratio(found.values, report.values(BARE_BATCHED)):.2f}",
                f"{ratio(report.values(ONE), found.values):.1f}",
                f"{percentile(times, 0.5):.2f}",
                f"{percentile(times, 0.99):.2f}",
            ]
        )
    rows.sort(key=lambda row: -float(row[1].replace(",", "")))
    chosen = "; ".join(f"{name}: {known.settings}" for name, known in versions.items())
    return Table(
        name=NAME,
        title=f"Peers: {count:,} preloaded messages, one worker process each",
        columns=["", "median/s", "min/s", "max/s", "of bare batched", "this worker to it",
                 "p50 ms", "p99 ms"],
        rows=rows,
        note="Latency is one message at a time, from before it is sent (a peer's own enqueue call "
        f"included) to its event's arrival. Settings: {chosen}.",
    )  # fmt: skip


if __name__ == "__main__":
    main(sys.argv[1:])
