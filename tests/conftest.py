"""Servers that every kind of test may use: real ones, started once, emptied between tests."""

import shutil
import signal
import socket
from collections.abc import Iterator

import pytest

from worker.domain.money import use_exact_arithmetic
from worker.runtime.embedded_server import EmbeddedServer, find_server

use_exact_arithmetic()  # as every command does

# Under nohup it would be ignored, here and in the processes that tests start and end with it.
signal.signal(signal.SIGHUP, signal.SIG_DFL)

#: The bundled Valkey, and the installed redis-server where there is one.
_BINARIES = {"valkey": find_server(prefer_bundled=True)}
if shutil.which("redis-server"):
    _BINARIES["redis"] = "redis-server"


@pytest.fixture(scope="session", params=sorted(_BINARIES))
def _running_server(request: pytest.FixtureRequest) -> Iterator[EmbeddedServer]:
    with EmbeddedServer(binary=_BINARIES[request.param]) as server:
        yield server


@pytest.fixture
def server(_running_server: EmbeddedServer) -> EmbeddedServer:
    """An empty Redis-compatible server, once for each kind that is installed."""
    return _emptied(_running_server)


@pytest.fixture(scope="session")
def _bundled_server() -> Iterator[EmbeddedServer]:
    with EmbeddedServer(binary=_BINARIES["valkey"]) as server:
        yield server


@pytest.fixture
def one_server(_bundled_server: EmbeddedServer) -> EmbeddedServer:
    """An empty server of one kind, for what does not depend on the kind."""
    return _emptied(_bundled_server)


def _emptied(server: EmbeddedServer) -> EmbeddedServer:
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
        connection.sendall(b"FLUSHALL\r\n")
        assert connection.recv(64).startswith(b"+OK")
    return server
