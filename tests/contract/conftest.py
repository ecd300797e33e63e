"""Both kinds of ledger, for every test of the contract."""

from collections.abc import AsyncIterator

import pytest

from tests.contract.benches import Bench, MemoryBench, redis_bench
from worker.runtime.embedded_server import EmbeddedServer


@pytest.fixture(params=["redis", "memory"])
async def bench(request: pytest.FixtureRequest, one_server: EmbeddedServer) -> AsyncIterator[Bench]:
    """An empty account of each kind."""
    if request.param == "memory":
        yield MemoryBench()
        return
    async with redis_bench(one_server.url) as made:
        yield made
