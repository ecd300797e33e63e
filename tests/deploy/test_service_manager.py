"""A real worker under a service manager's eye: ready, beating, stopping, in that order."""

import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.processes import WorkerProcess, until
from worker.runtime.embedded_server import EmbeddedServer, free_port

WATCHDOG_S = 1.0


class Manager:
    """The listening end of NOTIFY_SOCKET, with when each message came."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.socket.setblocking(False)
        self.messages: list[str] = []

    def environ(self) -> dict[str, str]:
        return {
            "NOTIFY_SOCKET": str(self.path),
            "WATCHDOG_USEC": str(int(WATCHDOG_S * 1_000_000)),
        }

    def heard(self, message: str) -> bool:
        """Whether it was ever said, now that everything was read."""
        while True:
            try:
                self.messages.append(self.socket.recv(4_096).decode())
            except BlockingIOError:
                return message in self.messages


@pytest.fixture
def manager(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Manager]:
    """A manager whose socket's path is short enough for the kernel."""
    listening = Manager(tmp_path_factory.mktemp("n") / "s")
    yield listening
    listening.socket.close()


def test_a_worker_tells_its_life(manager: Manager, tmp_path: Path) -> None:
    """READY once it can work, WATCHDOG within every half of its time, STOPPING when told to end."""
    with EmbeddedServer() as server:
        worker = WorkerProcess(server.url, tmp_path / "log", environ=manager.environ())
        try:
            until(lambda: manager.heard("READY=1"), "READY")
            assert worker.get("/readyz")[0] == 200
            manager.messages.clear()
            began = time.monotonic()
            until(lambda: manager.messages.count("WATCHDOG=1") >= 6 or manager.heard(""), "beats")
            assert (time.monotonic() - began) / 6 <= WATCHDOG_S / 2 * 1.5
            assert worker.stop() == 0
            assert manager.heard("STOPPING=1")
            assert manager.messages.index("STOPPING=1") > manager.messages.index("WATCHDOG=1")
        finally:
            worker.kill()


def test_a_stuck_worker_falls_silent(manager: Manager, tmp_path: Path) -> None:
    """A frozen worker sends no beat, so the manager would kill it; thawed, it beats again."""
    with EmbeddedServer() as server:
        worker = WorkerProcess(server.url, tmp_path / "log", environ=manager.environ())
        try:
            until(lambda: manager.heard("WATCHDOG=1"), "a first beat")
            os.kill(worker.process.pid, signal.SIGSTOP)
            manager.heard("")
            manager.messages.clear()
            time.sleep(2 * WATCHDOG_S)
            assert not manager.heard("WATCHDOG=1")
            os.kill(worker.process.pid, signal.SIGCONT)
            until(lambda: manager.heard("WATCHDOG=1"), "beats again")
            assert worker.stop() == 0
        finally:
            worker.kill()


def test_a_start_that_waits_asks_for_time(manager: Manager, tmp_path: Path) -> None:
    """Without Redis a worker is not ready, asks for more time, and ends well when told to."""
    url = f"redis://127.0.0.1:{free_port()}/0"
    worker = WorkerProcess(url, tmp_path / "log", environ=manager.environ())
    try:
        until(lambda: manager.heard("EXTEND_TIMEOUT_USEC=30000000"), "more time")
        assert not manager.heard("READY=1")
        assert worker.stop() == 0
    finally:
        worker.kill()
