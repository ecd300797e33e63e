"""An operator's rehearsal: workers come and go under load, nothing is lost and nothing repeated."""

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests.deploy.processes import Books, Fleet, Load, settled, until
from tests.deploy.tools import run, said
from worker.runtime.embedded_server import EmbeddedServer

pytestmark = pytest.mark.slow
#: Signals a second; a worker here does many times that, so all waiting comes from the changes.
PER_SECOND = 80


@pytest.fixture
def server() -> Iterator[EmbeddedServer]:
    """A server of its own."""
    with EmbeddedServer() as running:
        yield running


def _finish(client: redis.Redis, load: Load) -> Books:
    until(lambda: settled(client), "every signal has ended")
    books = Books(client)
    assert len(load.sent) > 100, "the rehearsal was over before it began"
    assert books.problems(load.sent) == []
    return books


def test_a_rolling_restart_loses_and_repeats_nothing(
    server: EmbeddedServer, tmp_path: Path
) -> None:
    """Three workers are replaced one by one under load: each signal ends once, each exit is 0."""
    client = redis.Redis(port=server.port, protocol=2)
    with Fleet(server.url, tmp_path, {}) as fleet:
        first = [fleet.add() for _ in range(3)]
        with Load(client, per_second=PER_SECOND) as load:
            until(lambda: len(load.sent) > 50, "load")
            for old in first:
                fleet.add()
                fleet.remove(old)
            sent = len(load.sent)
            until(lambda: len(load.sent) > sent + 50, "load on the new workers")
        books = _finish(client, load)
        assert fleet.exit_codes == [0, 0, 0]
        assert len(fleet.running) == 3
        assert len(books.workers) >= 4, "old and new workers both worked"
        for worker in fleet.running:
            assert worker.stop() == 0


def test_scaling_up_and_down_loses_and_repeats_nothing(
    server: EmbeddedServer, tmp_path: Path
) -> None:
    """From one worker to four and back to one, under load: each signal ends once, in its order."""
    client = redis.Redis(port=server.port, protocol=2)
    with Fleet(server.url, tmp_path, {}) as fleet:
        fleet.add()
        with Load(client, per_second=PER_SECOND) as load:
            until(lambda: len(load.sent) > 50, "load")
            for _ in range(3):
                fleet.add()
            four = len(load.sent)
            until(lambda: len(load.sent) > four + 100, "load on four workers")
            for worker in fleet.running[:3]:
                fleet.remove(worker)
            one = len(load.sent)
            until(lambda: len(load.sent) > one + 50, "load on one worker")
        books = _finish(client, load)
        assert fleet.exit_codes == [0, 0, 0]
        assert len(books.workers) == 4, "every one of them worked"
        (last,) = fleet.running
        assert last.stop() == 0


def test_a_worker_that_is_told_to_stop_finishes_what_it_has(
    server: EmbeddedServer, tmp_path: Path
) -> None:
    """With orders in flight a stopped worker ends them itself: no lease has to run out first."""
    client = redis.Redis(port=server.port, protocol=2)
    slow = {"EXCHANGES__PAPER__PAPER__LATENCY_MS": "1500", "WORKER__LEASE_SECONDS": "60"}
    with Fleet(server.url, tmp_path, slow) as fleet:
        worker = fleet.add()
        with Load(client, per_second=PER_SECOND) as load:
            until(lambda: len(load.sent) > 10, "load")
        until(lambda: client.zcard("{main}:leases") > 5, "orders in flight")
        assert worker.stop() == 0
        assert client.zcard("{main}:leases") == 0, "a lease was left to run out"
        ended = Books(client)
        assert ended.workers, "what was in flight was finished"
        fleet.add()
        until(lambda: settled(client), "the rest has ended")
        assert Books(client).problems(load.sent) == []


def test_a_stream_is_mended_under_load(server: EmbeddedServer, tmp_path: Path) -> None:
    """As the runbook says, with workers and producers at work: every signal ends once."""
    client = redis.Redis(port=server.port, protocol=2)
    command = [sys.executable, "-m", "worker"]
    environ = {**os.environ, "WORKER_REDIS__URL": server.url}
    with Fleet(server.url, tmp_path, {"WORKER__LEASE_SECONDS": "2"}) as fleet:
        fleet.add()
        fleet.add()
        with Load(client, per_second=PER_SECOND) as load:
            until(lambda: len(load.sent) > 50, "load")
            ((_, copy),) = client.xrange("{main}:signals", count=1)  # type: ignore[misc]
            ahead_ms = int(time.time() * 1000) + 10**9
            client.xadd("{main}:signals", copy, id=f"{ahead_ms}-0")  # type: ignore[arg-type]
            until(lambda: len(load.sent) > 150, "load under ids ahead of the clock")
            shown = 'stream_ahead_seconds{stream="signals"} 9'
            until(lambda: any(shown in one.get("/metrics")[1] for one in fleet.running), "a metric")
            checked = run(*command, "check", env=environ)
            assert checked.returncode == 1, said(checked)
            assert "mend-stream" in checked.stdout
            mended = run(*command, "mend-stream", env=environ)
            assert mended.returncode == 0, said(mended)
            assert "signals: mended" in mended.stdout
            sent = len(load.sent)
            until(lambda: len(load.sent) > sent + 50, "load after the mending")
            assert run(*command, "check", env=environ).returncode == 0
        _finish(client, load)
        last = client.xinfo_stream("{main}:signals")["last-generated-id"]
        assert int(last.split(b"-")[0]) <= time.time() * 1000
        for worker in fleet.running:
            assert worker.stop() == 0


def test_the_rehearsal_would_notice(server: EmbeddedServer, tmp_path: Path) -> None:
    """An event taken away or written twice, or a lost signal: the books are found wrong."""
    client = redis.Redis(port=server.port, protocol=2)
    with Fleet(server.url, tmp_path, {}) as fleet:
        fleet.add()
        with Load(client, per_second=PER_SECOND) as load:
            until(lambda: len(load.sent) > 30, "load")
        until(lambda: settled(client), "every signal has ended")
        right = Books(client)
        assert right.problems(load.sent) == []
        assert right.problems([*load.sent, "lost-1"]) != []
        placed = next(e for e in right.orders if e["type"] == "OrderPlaced")
        for broken in (right.orders[:-1], [*right.orders, right.orders[-1]],
                       [*right.orders, {**placed, "event_id": "another"}]):  # fmt: skip
            wrong = Books(client)
            wrong.orders = broken
            assert wrong.problems(load.sent) != []
