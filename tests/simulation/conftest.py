"""One real server for all simulations of a test session."""

from collections.abc import Iterator

import pytest

from tests.simulation.redis_account import SimulationServer


@pytest.fixture(scope="session")
def server() -> Iterator[SimulationServer]:
    """The server whose scripts are the real ones; every run starts by emptying it."""
    running = SimulationServer()
    yield running
    running.close()
