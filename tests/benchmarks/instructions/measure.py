"""One run of a worker and a server under callgrind, batch by batch."""

import shlex
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import StatisticsError, mean, median, mode
from typing import Final, NamedTuple

import msgspec

from tests.benchmarks import signals
from tests.benchmarks.instructions import callgrind, reference
from tests.benchmarks.instructions.relay import Relay
from tests.benchmarks.machine import cpu_s
from tests.benchmarks.processes import BenchmarkError, Child, Stage, stage, worker_environment
from worker.runtime.embedded_server import find_server

#: Signals of a batch, as the worker takes them under load.
BATCH: Final = 32
#: Batches of one repetition, half of them opening positions and half closing them; and those
#: before the first, which load scripts and warm caches.
BATCHES, WARM_UP = 6, 4
#: The same of batches of one.
LONE, LONE_WARM_UP = 16, 4
#: Order events a signal leaves: placed and filled.
_EVENTS: Final = 2
#: A process that uses no more processor time in this long, so many times in a row, rests.
_REST_S: Final = 0.03
_REST_CPU_S: Final = 0.000_5
_REST_ROUNDS: Final = 3
#: How long a worker may take to start, and a batch to end, both under callgrind.
_LIMIT_S: Final = 180.0
#: What the server does for itself, once a second instead of ten times.
_SERVER_OPTIONS: Final = ("--hz", "1", "--dynamic-hz", "no")

#: Instructions a signal, by process (``worker``, ``server``), one value a repetition.
Counts = dict[str, list[float]]


class Batch(NamedTuple):
    """What one batch took: instructions of each process, and the worker's commands."""

    worker: int
    server: int
    commands: int


class Run(msgspec.Struct, kw_only=True):
    """Everything that one run measured.

    Attributes:
        server: the server's name and version.
        references: instructions of the reference jobs, ``worker`` (Python) and ``server``.
        batched: in batches of :data:`BATCH`.
        lone: in batches of one.
        commands: how many the worker sent for a batch of :data:`BATCH`, and for a lone signal.
        left_out: batches with another number of commands, which are not counted.
    """

    server: str
    references: dict[str, float]
    batched: Counts
    lone: Counts
    commands: tuple[float, float]
    left_out: int


class _Pair:
    """A worker and a server under callgrind, with the relay between them."""

    def __init__(self, where: Stage, relay: Relay, child: Child, directory: Path) -> None:
        self._where = where
        self._relay = relay
        self._child = child
        self._pids = (child.pid, where.server_pid)
        self.left_out = 0
        self.worker = callgrind.Counter(child.pid, directory / "worker.out")
        self.server = callgrind.Counter(where.server_pid, directory / "server.out")

    def settle(self) -> None:
        """Wait until the worker waits for signals and both processes rest.

        Raises:
            BenchmarkError: the worker ended, or that took too long.
        """
        deadline = time.monotonic() + _LIMIT_S
        quiet = 0
        while True:
            before = [cpu_s(pid) for pid in self._pids]
            has_passed = self._relay.pump(_REST_S)
            after = [cpu_s(pid) for pid in self._pids]
            used_s = max(b - a for a, b in zip(before, after, strict=True))
            # On a busy machine a process may use no time because it does not get any.
            is_asleep = all(_sleeps(pid) for pid in self._pids)
            is_quiet = is_asleep and not has_passed and used_s < _REST_CPU_S
            quiet = quiet + 1 if is_quiet and self._relay.waits else 0
            if quiet == _REST_ROUNDS:
                return
            self._child.check()
            if time.monotonic() > deadline:
                log = self._child.log.read_text(errors="replace")[-1_500:]
                raise BenchmarkError(f"nothing came to an end in {_LIMIT_S:g} s: {log}")

    def batch(self, payloads: Sequence[bytes]) -> Batch:
        """Have one batch worked off; return what it took."""
        self._where.wire.pour(signals.commands(payloads))
        self._mark()
        before = self._relay.forwarded
        self._relay.release()
        self.settle()
        commands = self._relay.forwarded - before
        return Batch(*self._mark(), commands)

    def _mark(self) -> tuple[int, int]:
        """Return both counts since the last call."""
        self.worker.ask()
        self.server.ask()
        return self.worker.read(), self.server.read()

    def measure(
        self, name: str, size: int, *, warm_up: int, batches: int, runs: int
    ) -> tuple[Counts, float]:
        """Measure batches of one size.

        Args:
            name: what the signals' ids begin with.
            size: of a batch.
            warm_up: batches that are not counted; an even number.
            batches: of each repetition; an even number.
            runs: how many repetitions.

        Returns:
            Instructions a signal, and the commands a batch, on average.

        Raises:
            BenchmarkError: not every signal's order was filled, or no two batches were alike.
        """
        total = warm_up + runs * batches
        payloads = signals.backlog(total * size, name, symbols=size)
        before = self._where.written()
        found = [self.batch(payloads[n * size : (n + 1) * size]) for n in range(total)][warm_up:]
        group, written = self._where.group(), self._where.written() - before
        if group.pending or group.lag or written != _EVENTS * len(payloads):
            raise BenchmarkError(f"{len(payloads)} signals left {written} order events: {group}")
        # Every other batch begins with more room, and so takes a claim less.
        usual = tuple(mode(batch.commands for batch in found[half::2]) for half in (0, 1))
        self.left_out += sum(batch.commands != usual[n % 2] for n, batch in enumerate(found))
        counts: Counts = {"worker": [], "server": []}
        for first in range(0, len(found), batches):
            repetition = found[first : first + batches]
            for process, values in counts.items():
                values.append(_typical(repetition, process, usual) / size)
        return counts, mean(usual)


def _typical(batches: Sequence[Batch], process: str, usual: Sequence[int]) -> float:
    """Return the instructions of an opening and of a closing batch, the mean of their medians.

    Now and then the server enlarges a table, or does what it does once a second, and the worker
    collects garbage; with so few batches, a mean would depend on how often that happens.

    Raises:
        BenchmarkError: no batch took as many commands as usual.
    """
    try:
        medians: list[float] = [
            median(
                getattr(batch, process)
                for batch in batches[half::2]
                if batch.commands == usual[half]
            )
            for half in (0, 1)
        ]
    except StatisticsError:
        raise BenchmarkError("batches of one size take different numbers of commands") from None
    return mean(medians)


def _sleeps(pid: int) -> bool:
    """Return whether every thread waits for something, and not for a processor (proc(5), stat)."""
    stats = [(task / "stat").read_text() for task in Path(f"/proc/{pid}/task").iterdir()]
    # The name, in parentheses, may have blanks.
    return all(stat.rpartition(")")[2].split()[0] == "S" for stat in stats)


@contextmanager
def _pair(binary: str, directory: Path) -> Iterator[tuple[Stage, _Pair]]:
    """Start a server and a worker under callgrind."""
    started = directory / "server.sh"
    command = shlex.join([*callgrind.command(directory / "server.out"), binary])
    started.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
    started.chmod(0o700)
    with stage(str(started), _SERVER_OPTIONS) as where, Relay(where.server.port) as relay:
        environment = worker_environment(relay.url, 0) | {
            "WORKER_HTTP__HOST": "",
            "PYTHONHASHSEED": "0",
        }
        valgrind, *arguments = callgrind.command(directory / "worker.out")
        module = [sys.executable, "-m", "tests.benchmarks.instructions.still_worker", "run"]
        child = where.start([*arguments, *module], environment, python=valgrind)
        try:
            yield where, _Pair(where, relay, child, directory)
        finally:
            child.kill()  # with its timers put off it would not stop by itself


def run(binary: str | None, directory: Path, *, runs: int, progress: Callable[[str], None]) -> Run:
    """Measure everything.

    Args:
        binary: the server; by default the bundled one.
        directory: for callgrind's files.
        runs: repetitions of each figure.
        progress: told what is done next.

    Raises:
        BenchmarkError: what was to be measured did not happen.
    """
    progress("the reference job in Python")
    references = {"worker": reference.python(directory)}
    progress("starting a worker and a server under callgrind")
    with _pair(binary or find_server(prefer_bundled=True), directory) as (where, pair):
        pair.settle()
        references["server"] = reference.server(where.wire, pair.server)
        progress(f"batches of {BATCH}")
        batched, commands = pair.measure("b", BATCH, warm_up=WARM_UP, batches=BATCHES, runs=runs)
        progress("lone signals")
        lone, lone_commands = pair.measure("l", 1, warm_up=LONE_WARM_UP, batches=LONE, runs=runs)
        return Run(
            server=where.server_name(),
            references=references,
            batched=batched,
            lone=lone,
            commands=(commands, lone_commands),
            left_out=pair.left_out,
        )
