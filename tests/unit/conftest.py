"""What all unit tests share."""

import gc
import threading
from collections.abc import Iterator

import pytest
from fakeredis import TcpFakeServer

from tests.unit.fake_redis import FakeRedis


def pytest_collection_finish() -> None:
    """Leave what was imported out of every later collection: it is there to stay."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def _fake_redis() -> Iterator[FakeRedis]:
    server = TcpFakeServer(("127.0.0.1", 0))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    fake = FakeRedis(int(server.server_address[1]))
    yield fake
    fake.client.close()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def fake_redis(_fake_redis: FakeRedis) -> FakeRedis:
    """An empty fake server."""
    _fake_redis.client.flushall()
    return _fake_redis
