"""Several workers on one machine, started without a thought for ports."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

from worker.runtime.embedded_server import EmbeddedServer


def _start(server: EmbeddedServer, port: int, log: Path) -> subprocess.Popen[bytes]:
    environ = os.environ | {
        "WORKER_REDIS__URL": server.url,
        "WORKER_HTTP__PORT": str(port),
    }
    with log.open("wb") as stderr:
        return subprocess.Popen([sys.executable, "-m", "worker", "run"], env=environ, stderr=stderr)


def _port_of(worker: subprocess.Popen[bytes], log: Path) -> int:
    """The port a worker says it listens on."""
    while worker.poll() is None:
        for line in log.read_text().splitlines():
            event = json.loads(line)
            if event["event"] == "http_listening":
                return int(event["port"])
    raise AssertionError(f"the worker ended: {log.read_text()}")


def test_a_second_worker_takes_a_free_port(one_server: EmbeddedServer, tmp_path: Path) -> None:
    """A taken metrics port is said and survived: the second worker serves elsewhere and works."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    logs = [tmp_path / "first.log", tmp_path / "second.log"]
    first = _start(one_server, port, logs[0])
    assert _port_of(first, logs[0]) == port
    second = _start(one_server, port, logs[1])
    assert _port_of(second, logs[1]) not in {0, port}
    assert "http_port_taken" in logs[1].read_text()
    for worker in (first, second):
        worker.send_signal(signal.SIGTERM)
    assert [worker.wait(20) for worker in (first, second)] == [0, 0]
