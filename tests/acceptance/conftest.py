"""A server, a simulated exchange and a fleet for each test that wants them."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.fleet import Fleet
from tests.acceptance.site import Site, process
from tests.exchange_simulator.client import ControlClient, simulator_process
from worker.runtime.embedded_server import EmbeddedServer


@pytest.fixture(scope="session")
def _exchange_process() -> Iterator[ControlClient]:
    with simulator_process("--symbols", "60", "--quote-balance", "10000000") as control:
        yield control


@pytest.fixture
def exchange(_exchange_process: ControlClient) -> ControlClient:
    """The simulated exchange, without orders and faults."""
    _exchange_process.reset()
    return _exchange_process


@pytest.fixture
def fleet(tmp_path: Path, one_server: EmbeddedServer, exchange: ControlClient) -> Iterator[Fleet]:
    """Workers to be started on an empty server and the simulated exchange."""
    with Fleet(
        tmp_path, redis_url=one_server.url, server_port=one_server.port, exchange=exchange
    ) as fleet:
        yield fleet


@pytest.fixture
def site(one_server: EmbeddedServer) -> Site:
    """An empty server and the commands on it."""
    return Site(one_server)


@pytest.fixture
def worker(site: Site) -> Iterator["subprocess.Popen[str]"]:
    """One worker on the site."""
    with process("run", environ=site.environ) as running:
        yield running
