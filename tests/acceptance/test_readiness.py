"""Ready only once the books were compared, as ``/readyz`` of real processes tells it."""

import signal
import time
from typing import Any

import pytest

from tests.acceptance import signals
from tests.acceptance.fleet import Fleet, WorkerProcess, wait_until
from tests.acceptance.test_start_and_stop import CREATE

pytestmark = pytest.mark.alone

POSITIONS = {"method": "GET", "path": "/positionRisk$"}


def reconciliation(worker: WorkerProcess) -> tuple[int, dict[str, Any]]:
    """The status of ``/readyz``, and its check of that name."""
    status, body = worker.readiness()
    return status, body.get("checks", {}).get("reconciliation", {})


def until_told(worker: WorkerProcess, detail: str) -> None:
    wait_until(
        lambda: detail in reconciliation(worker)[1].get("detail", ""),
        f"{worker!r} never said {detail!r}",
    )


def test_nobody_is_ready_before_the_books_are_compared(fleet: Fleet) -> None:
    """The keeper says which exchange does not answer and why, the others repeat it; signals run.

    Once the exchange answers, it takes seconds; who comes later is ready at once.
    """
    fleet.exchange.add_fault(**POSITIONS, preset="503_unknown")
    first = fleet.start()
    first.until_logged("comparison_failed")
    second = fleet.start()
    until_told(first, "binance: ")
    until_told(second, "the keeper says: binance: ")
    for worker in (first, second):
        status, body = worker.readiness()
        assert status == 503
        checks = {name: check["ok"] for name, check in body["checks"].items()}
        assert checks.pop("reconciliation") is False
        assert set(checks.values()) == {True}, body
    fleet.submit(signals.opening("a", signals.linear(0)))
    assert fleet.until_ended(["a"])["a"]["type"] == "OrderFilled"

    fleet.exchange.clear_faults()
    cleared = time.monotonic()
    for worker in (first, second):
        worker.until_ready()
        assert reconciliation(worker) == (200, {"ok": True, "detail": "the books were compared"})
    assert time.monotonic() - cleared < 10
    assert len(fleet.events("system", "ReconciliationCompleted")) == 1

    fleet.exchange.add_fault(**POSITIONS, preset="503_unknown")
    third = fleet.start().until_ready()
    assert third.logged("keeper_elected") == []


def test_the_keepers_successor_is_elected_while_it_drains(fleet: Fleet) -> None:
    """Its term of 15 s is not waited for; the rest of it is not the keeper's to do any more."""
    keeper = fleet.start({"exchanges.binance": {"timeout_ms": 5_000}}).until_ready()
    fleet.exchange.add_fault(**CREATE, delay_after_ms=4_000)
    fleet.submit(signals.opening("a", signals.linear(0)))
    wait_until(fleet.exchange.orders, "it was not sent")
    other = fleet.start().until_ready()
    keeper.tell(signal.SIGTERM)
    keeper.until_logged("keeper_resigned", timeout_s=2)
    other.until_logged("keeper_elected", timeout_s=3)
    assert keeper.running
    assert keeper.readiness()[1]["checks"]["draining"]["ok"] is False
    assert keeper.wait() == 0
    assert set(fleet.ends()) == {"a"}
