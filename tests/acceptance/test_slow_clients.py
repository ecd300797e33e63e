"""A real worker's probes are answered whatever other clients of its HTTP server do."""

import resource
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import pytest

from tests.acceptance.fleet import ROOT, WorkerProcess, environment, toml, wait_until
from tests.acceptance.slow_clients import KINDS
from worker.observe.http_connections import MAX_CONNECTIONS

#: A kubelet's default, shorter than what deploy/kubernetes gives.
PROBE_TIMEOUT_S = 1.0
PROBE_EVERY_S = 0.2
ATTACK_S = 1.0
#: More than the worker holds for everything else, less than a flood would take.
FILES = 512
#: Kinds of clients that ask for the metrics themselves.
SCRAPING = {"unread", "pipelined", "asked_half_close", "all"}
_GET = b"GET %s HTTP/1.1\r\nHost: worker\r\nUser-Agent: kube-probe/1.31\r\n\r\n"


class Victim:
    """A worker with a bound on its file descriptors, and what it holds."""

    def __init__(self, worker: WorkerProcess) -> None:
        self.worker = worker
        self.port: int = worker.logged("http_listening")[0]["port"]
        resource.prlimit(worker.pid, resource.RLIMIT_NOFILE, (FILES, FILES))

    def files(self) -> int:
        """Count its open file descriptors."""
        return sum(1 for _ in Path(f"/proc/{self.worker.pid}/fd").iterdir())

    def lasting_files(self) -> int:
        """Count those that stay open: at the start some last for a moment only."""
        counts = [self.files()]
        end = time.monotonic() + 0.5
        while time.monotonic() < end:
            time.sleep(0.02)  # whatever is open for a moment is closed meanwhile
            counts.append(self.files())
        return min(counts)

    def threads(self) -> int:
        """Count its threads."""
        return sum(1 for _ in Path(f"/proc/{self.worker.pid}/task").iterdir())

    def resident_mib(self) -> float:
        """Return its memory."""
        pages = int(Path(f"/proc/{self.worker.pid}/statm").read_text().split()[1])
        return pages * resource.getpagesize() / 2**20

    def ask(self, path: bytes, timeout_s: float = PROBE_TIMEOUT_S) -> bytes:
        """Ask as a probe does, on a new connection; returns all of the answer."""
        with socket.create_connection(("127.0.0.1", self.port), timeout_s) as connection:
            connection.settimeout(timeout_s)
            connection.sendall(_GET % path)
            answer = b""
            while piece := connection.recv(65_536):
                answer += piece
            return answer

    def scrape(self) -> bytes:
        """Ask for the metrics; nothing if the worker hangs up."""
        try:
            return self.ask(b"/metrics")
        except ConnectionError:
            return b""


class Probes(threading.Thread):
    """Ask ``/livez`` every 0.2 s, and note what came."""

    def __init__(self, victim: Victim) -> None:
        super().__init__(daemon=True)
        self._victim = victim
        self._stop_now = threading.Event()
        self.answers: list[bytes] = []
        self.latencies_s: list[float] = []

    def run(self) -> None:
        while not self._stop_now.wait(PROBE_EVERY_S):
            started = time.monotonic()
            try:
                self.answers.append(self._victim.ask(b"/livez")[8:15])
            except OSError as error:
                self.answers.append(repr(error).encode())
            self.latencies_s.append(time.monotonic() - started)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop_now.set()
        self.join()


@contextmanager
def attacked(victim: Victim, kind: str, count: int) -> Iterator["subprocess.Popen[str]"]:
    """``count`` clients of a kind, for as long as the block runs."""
    arguments = [sys.executable, "-m", "tests.acceptance.slow_clients"]
    with subprocess.Popen(
        [*arguments, str(victim.port), kind, str(count)],
        env=environment(), cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as attack:  # fmt: skip
        assert attack.stdout is not None
        assert attack.stdout.readline() == "attacking\n"
        yield attack


@pytest.fixture(scope="module")
def victim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Victim]:
    """One worker for all attacks: what one of them leaves behind shows in the next."""
    directory = tmp_path_factory.mktemp("victim")
    config = directory / "worker.toml"
    config.write_text(
        toml(
            {
                "": {"mode": "paper"},
                "http": {"port": 0},
                "redis": {"url": "embedded"},
                "exchanges.paper": {"adapter": "paper"},
            }
        )
    )
    worker = WorkerProcess(config, directory / "worker.log")
    try:
        yield Victim(worker.until_ready())
    finally:
        worker.close()


@pytest.mark.parametrize("count", [16, 200])
@pytest.mark.parametrize("kind", KINDS)
def test_probes_are_answered_whatever_others_do(victim: Victim, kind: str, count: int) -> None:
    """Each within a second, by a worker that holds no more than it may; then all is let go."""
    assault(victim, kind, count)


def test_probes_are_answered_among_two_thousand(victim: Victim) -> None:
    """Of all kinds, more than the worker may have files."""
    assault(victim, "all", 2_000)


def assault(victim: Victim, kind: str, count: int) -> None:
    """Attack, probe, and compare what the worker holds before, meanwhile and afterwards."""
    files, memory_mib = victim.lasting_files(), victim.resident_mib()
    most_files = 0
    with attacked(victim, kind, count), Probes(victim) as probes:
        end = time.monotonic() + ATTACK_S
        while time.monotonic() < end:
            most_files = max(most_files, victim.files())
            time.sleep(0.01)  # the attack goes on meanwhile
        # Among clients that scrape too, one scrape may be hung up on for another; the next is not.
        tries = 5 if kind in SCRAPING else 1
        assert any(b"execution_worker_info" in victim.scrape() for _ in range(tries))
    assert set(probes.answers) == {b" 200 OK"}, probes.answers
    assert max(probes.latencies_s) < PROBE_TIMEOUT_S
    assert most_files <= files + MAX_CONNECTIONS + 32
    if kind in {"silent", "trickle", "all"}:
        assert most_files >= files + min(count, MAX_CONNECTIONS)
    assert victim.resident_mib() < memory_mib + 32
    assert victim.threads() < 16
    wait_until(lambda: victim.files() <= files + 2, "the connections are let go")
    assert victim.worker.running
    assert not victim.worker.logged("library_log")
