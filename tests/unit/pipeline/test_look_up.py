"""Look-ups of orders that may have been sent: when "not found" is proof."""

from types import SimpleNamespace
from typing import Any

import pytest

from tests.unit.parts import ManualClock, admitted_order, custody, order_request
from worker.config.keys import ExecutionConfig
from worker.exchanges.errors import OrderNotFoundError, Outcome
from worker.pipeline.look_up import LookUp


class _Meter:
    def lookup(self, exchange: str, result: str) -> None:
        """Count nothing."""


def exchange(clock: ManualClock, wait_ms: float) -> Any:
    """An exchange without the order; the first question waits so long for its turn."""
    waits = [wait_ms]

    async def get_order(_request: Any) -> None:
        clock.ms += waits.pop() if waits else 0.0
        raise OrderNotFoundError("not there", outcome=Outcome.REFUSED, code="-2013")

    return SimpleNamespace(name="x", get_order=get_order)


@pytest.mark.parametrize("wait_ms", [5.0, 60_000.0])
async def test_an_answer_to_a_question_that_waited_is_asked_for_again_at_once(
    wait_ms: float,
) -> None:
    """Asked before the proof's time and answered after it: no pause, and no page for a person."""
    clock = ManualClock()
    start = clock.monotonic_ms()
    order = admitted_order(order_request())
    look_up = LookUp(ExecutionConfig(), clock=clock, meter=_Meter())
    found = await look_up.find(exchange(clock, wait_ms), order, custody(), start + 2.0)
    assert found is None
    assert clock.monotonic_ms() - start <= wait_ms + 2
