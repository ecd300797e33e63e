"""The processes a benchmark is about: the server, workers, bare loops; started, watched, ended."""

import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec

from tests.benchmarks import machine
from tests.benchmarks.signals import GROUP, ORDERS, SIGNALS
from tests.benchmarks.wire import Wire, pairs
from worker.runtime.embedded_server import DIE_WITH_PARENT, EmbeddedServer, find_server, free_port

ROOT: Final = Path(__file__).resolve().parents[2]
_STOP_S: Final = 30.0
_READY_S: Final = 60.0


class BenchmarkError(Exception):
    """What was to be measured did not happen; the message says what did."""


class Child:
    """One process that never outlives this one; its output goes to a file.

    Args:
        arguments: the command line after the interpreter.
        environment: added to ours, from which any ``WORKER_`` variable is taken out.
        log: where its output goes.
        python: which interpreter.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        *,
        log: Path,
        environment: Mapping[str, str] | None = None,
        python: str = sys.executable,
    ) -> None:
        ours = {name: value for name, value in os.environ.items() if "WORKER_" not in name}
        self.log = log
        self._paused = False
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [python, *arguments],
                cwd=ROOT,
                env=ours | dict(environment or {}),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=DIE_WITH_PARENT,  # noqa: PLW1509
            )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def cpu_s(self) -> float:
        """Processor seconds used so far."""
        return machine.cpu_s(self.pid)

    @property
    def rss_kb(self) -> int:
        """Resident memory, KiB."""
        return machine.rss_kb(self.pid)

    def check(self) -> None:
        """Complain if it has ended.

        Raises:
            BenchmarkError: with the end of its output.
        """
        code = self._process.poll()
        if code is not None:
            raise BenchmarkError(f"{self._process.args!r} ended with {code}: {self._tail()}")

    def _tail(self) -> str:
        return self.log.read_text(errors="replace")[-1_500:]

    def pause(self) -> None:
        """Freeze it (SIGSTOP)."""
        os.kill(self.pid, signal.SIGSTOP)
        self._paused = True

    def resume(self) -> None:
        """Thaw it (SIGCONT)."""
        os.kill(self.pid, signal.SIGCONT)
        self._paused = False

    def stop(self) -> None:
        """Ask it to end (SIGTERM) and wait; kill it if it does not."""
        if self._process.poll() is None:
            if self._paused:
                self.resume()
            self._process.terminate()
            try:
                self._process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._process.wait()

    def kill(self) -> None:
        """End it at once (SIGKILL)."""
        self._process.kill()
        self._process.wait()


class Group(msgspec.Struct, frozen=True):
    """The consumer group in numbers."""

    read: int
    pending: int
    lag: int


class Stage:
    """A server of its own, and the processes beside it.

    Args:
        stack: ends everything.
        binary: which server; by default the bundled Valkey.
        arguments: the server's further command line options.
    """

    def __init__(
        self, stack: ExitStack, binary: str | None = None, arguments: tuple[str, ...] = ()
    ) -> None:
        self._stack = stack
        self._directory = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="benchmark-"))
        )
        self.server = stack.enter_context(
            EmbeddedServer(
                binary=binary or find_server(prefer_bundled=True),
                arguments=("--appendonly", "no", *arguments),
            )
        )
        self.wire = stack.enter_context(Wire(self.server.port))
        self.children: list[Child] = []

    @property
    def directory(self) -> Path:
        """For files of this run."""
        return self._directory

    @property
    def server_pid(self) -> int:
        """The server's process id."""
        assert self.server.process is not None
        return self.server.process.pid

    @property
    def server_cpu_s(self) -> float:
        """Processor seconds the server has used."""
        return machine.cpu_s(self.server_pid)

    @property
    def server_memory_kb(self) -> int:
        """What the server says its data takes, KiB."""
        return int(self.wire.info("memory")["used_memory"]) // 1024

    def server_name(self) -> str:
        """Name and version of the server."""
        about = self.wire.info("server")
        name = about.get("server_name", "redis").capitalize()
        return f"{name} {about.get('valkey_version') or about['redis_version']}"

    def make_group(self) -> None:
        """The input stream and its group."""
        self.wire.call("XGROUP", "CREATE", SIGNALS, GROUP, "0", "MKSTREAM")

    def start(
        self,
        arguments: Sequence[str],
        environment: Mapping[str, str] | None = None,
        *,
        python: str = sys.executable,
    ) -> Child:
        """Start one more process of ours."""
        log = self._directory / f"{len(self.children)}.log"
        child = Child(arguments, environment=environment, log=log, python=python)
        self._stack.callback(child.stop)
        self.children.append(child)
        return child

    def worker(
        self,
        *,
        module: str = "worker",
        extra: Mapping[str, str] | None = None,
        **settings: Any,
    ) -> Child:
        """A worker on the simulated exchange, ready to work.

        Args:
            module: what to run, followed by ``run``.
            extra: environment that is no setting.
            settings: ``section__key`` as in the environment, over the benchmark's own.
        """
        port = free_port()
        environment = worker_environment(self.server.url, port, **settings)
        child = self.start(["-m", module, "run"], environment | dict(extra or {}))
        wait_ready(child, port)
        return child

    def bare(self, mode: str) -> Child:
        """A bare loop; see :mod:`tests.benchmarks.bare`."""
        child = self.start(["-m", "tests.benchmarks.bare", mode, self.server.url])
        self.until_ready(child)
        return child

    def until_ready(self, child: Child) -> None:
        """Wait until a process that has no HTTP has set ``bare:ready``."""
        self.until(lambda: self.wire.call("GETDEL", "bare:ready") is not None, child=child)

    def group(self) -> Group:
        """The consumer group now."""
        row = pairs(self.wire.call("XINFO", "GROUPS", SIGNALS)[0])
        return Group(row["entries-read"] or 0, row["pending"], row["lag"] or 0)

    def written(self) -> int:
        """Order events written so far, trimmed ones too."""
        if not self.wire.call("EXISTS", ORDERS):
            return 0
        return int(self.wire.fields("XINFO", "STREAM", ORDERS)["entries-added"])

    def until(self, condition: Any, *, child: Child, limit_s: float = _READY_S) -> None:
        """Look every few milliseconds until something holds.

        Raises:
            BenchmarkError: ``child`` ended, or it took longer than ``limit_s``.
        """
        deadline = time.monotonic() + limit_s
        while not condition():
            child.check()
            if time.monotonic() > deadline:
                raise BenchmarkError(f"nothing happened for {limit_s:g} s: {child.log.read_text()}")
            time.sleep(0.005)


def worker_environment(url: str, port: int, **settings: Any) -> dict[str, str]:
    """Environment of a worker on the simulated exchange whose every benchmark signal fills.

    Sizes are small against the balance, so that any number of positions fits.
    """
    chosen: dict[str, Any] = {
        "redis__url": url,
        "http__port": port,
        "log__format": "json",
        "exchanges__paper__adapter": "paper",
        "exchanges__paper__paper__balance": 1_000_000_000,
        "risk__default_position_size_pct": "0.0001",
        "risk__max_concurrent_positions": 1_000_000,
        "validation__max_signal_age_seconds": 86_400,
    }
    chosen |= settings
    return {f"WORKER_{name.upper()}": str(value) for name, value in chosen.items() if value != ""}


def wait_ready(child: Child, port: int) -> float:
    """Ask ``/readyz`` every millisecond until it says 200; returns the monotonic time then.

    Raises:
        BenchmarkError: the process ended, or it took more than a minute.
    """
    deadline = time.monotonic() + _READY_S
    while time.monotonic() < deadline:
        child.check()
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=1) as reply:
                if reply.status == 200:
                    return time.monotonic()
        except (urllib.error.URLError, OSError):
            time.sleep(0.001)
    raise BenchmarkError(f"not ready in {_READY_S:g} s: {child.log.read_text()[-1_500:]}")


@contextmanager
def stage(binary: str | None = None, arguments: tuple[str, ...] = ()) -> Iterator[Stage]:
    """A server, and whatever is started beside it, until the block ends."""
    with ExitStack() as stack:
        yield Stage(stack, binary, arguments)
