"""What may go wrong between a request's turn and its answer, and what workers hear of others."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import pytest

from tests.unit.parts import ManualClock, order_request
from worker.assembly.budget_sharing import SharedBudgets
from worker.config.exchange_keys import ExchangeConfig
from worker.exchanges.binance.frames import read_reply
from worker.exchanges.binance.order_socket import Frame
from worker.exchanges.budget.batching import Batcher
from worker.exchanges.budget.classes import RequestClass, asking
from worker.exchanges.budget.limits import Rolling, Scope, Share
from worker.exchanges.budget.requests import RequestGate
from worker.exchanges.ccxt.call import Call
from worker.exchanges.ccxt.timekeeping import ExchangeTime
from worker.exchanges.errors import ExchangeError, Outcome, RateLimitError
from worker.exchanges.kraken.adapter import KrakenCCXTAdapter
from worker.exchanges.kraken.limits import KrakenLimits
from worker.exchanges.okx.adapter import OkxCCXTAdapter

ENTRY, CLOSING = RequestClass.ENTRY, RequestClass.CLOSING
DOUBT, POLL = RequestClass.DOUBT, RequestClass.POLL
ONE = (("r", 1.0),)


def gate(clock: ManualClock, maximum: float = 1.0) -> RequestGate:
    """A gate with one limit, in a second."""
    return RequestGate("x", {"r": Rolling(maximum=maximum, seconds=1)}, clock)


def test_an_order_that_asks_again_too_late_takes_its_turn_anew() -> None:
    """Its place in line is over by then; that is no failure of the delivery."""
    clock = ManualClock()
    full = gate(clock)
    assert full.take_turn("a", ENTRY, ONE, 60_000) == 0.0
    wait_ms = full.take_turn("b", ENTRY, ONE, 60_000)
    assert wait_ms > 0
    clock.ms += wait_ms + 2_500
    assert full.take_turn("b", ENTRY, ONE, 60_000) == 0.0


async def test_an_order_that_took_its_turn_and_is_not_sent_holds_nobody_up() -> None:
    """After a hold it would be the probe: a second later somebody else is."""
    clock = ManualClock()
    held = gate(clock, 100)
    held.refused(2.0)
    clock.ms += 2_001
    assert held.take_turn("a", ENTRY, ONE, 60_000) == 0.0
    clock.ms += 1_001
    await asyncio.wait_for(held.enter(CLOSING, ONE), 1)


async def test_a_cancelled_probe_is_followed_by_another() -> None:
    """The request had its turn and was cancelled before any answer."""
    clock = ManualClock()
    adapter = OkxCCXTAdapter("okx", ExchangeConfig(), clock)
    adapter._ccxt = object()
    adapter.request_gate.refused(2.0)
    clock.ms += 2_001

    async def probe() -> None:
        with adapter._boundary("get_order"):
            await adapter._enter("private", "GET", "trade/order", {}, 1.0)
            await asyncio.Event().wait()

    task = asyncio.ensure_future(probe())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert adapter.request_gate.holds.wait_ms() > 0
    task.cancel()
    await asyncio.wait([task])
    assert adapter.request_gate.holds.wait_ms() == 0


async def test_a_burst_of_refusals_is_one_refusal() -> None:
    """Requests that were under way together hold for as long as one of them."""
    clock = ManualClock()
    adapter = OkxCCXTAdapter("okx", ExchangeConfig(), clock)
    adapter._ccxt = object()

    async def refused() -> None:
        with adapter._boundary("get_order") as call:
            call.requests, call.status = 1, 429
            await asyncio.sleep(0)
            raise RateLimitError("okx: 50011", outcome=Outcome.THROTTLED, code="50011")

    await asyncio.gather(*(refused() for _ in range(12)), return_exceptions=True)
    first_ms = adapter.request_gate.holds.held_ms()
    assert 0 < first_ms <= 2_000
    clock.ms += first_ms + 1
    await asyncio.gather(refused(), return_exceptions=True)
    assert adapter.request_gate.holds.held_ms() == 2 * first_ms


async def test_a_retry_after_of_a_day_on_a_failure_is_probed_within_minutes() -> None:
    """A failure of something before the exchange must not keep closes away for a day."""
    adapter = OkxCCXTAdapter("okx", ExchangeConfig(), ManualClock())
    adapter._ccxt = object()
    with suppress(ExchangeError), adapter._boundary("get_order") as call:
        call.requests, call.status, call.retry_after_s = 1, 503, 86_400.0
        raise ExchangeError("okx: 503", outcome=Outcome.UNKNOWN, code="http_503")
    assert 0 < adapter.request_gate.holds.held_ms() <= 300_000


def test_an_accepted_order_over_the_socket_is_an_answer() -> None:
    """It ends a hold as a reply over HTTP does."""
    call = Call("create_order", creating=True)
    read_reply(Frame(id="1", status=200, result={"orderId": 1}), call, 0)
    assert call.status == 200


async def test_waiting_for_a_turn_is_no_travel_of_the_clock_sample() -> None:
    """Else a worker short of budget would find its clock uncertain and send nothing."""
    clock = ManualClock()
    time = ExchangeTime(clock, 0.0)

    async def ask() -> float:
        clock.ms += 20_000  # in line
        time.sent_ms = clock.monotonic_ms()
        clock.ms += 10
        return float(clock.now_ms())

    await time.measure(ask)
    assert time.window(60_000).timestamp_ms == pytest.approx(clock.now_ms(), abs=50)
    assert time._uncertainty_ms <= 10


def test_parts_do_not_grow_at_the_first_word_of_a_ledger_that_forgot() -> None:
    """After an empty Redis the first worker back is alone in it for a moment."""
    workers = []
    for _ in range(8):
        adapter: Any = SimpleNamespace(request_gate=gate(ManualClock(), 600))
        shared = SharedBudgets()
        shared.attach([adapter], None, None)  # type: ignore[arg-type]
        workers.append((adapter.request_gate, shared))
    name = workers[0][0].names[Scope.ADDRESS]

    def parts() -> float:
        counters = [one._bucket._counters["r"] for one, _ in workers]
        return float(sum(counter._share.whole_part(600) for counter in counters))

    for _ in range(2):
        for rank, (_, shared) in enumerate(workers):
            shared.learn_shares({name: (8, rank)})
    assert parts() == 600
    for rank, (_, shared) in enumerate(workers):
        shared.learn_shares({name: (rank + 1, rank)})
    assert parts() <= 600


async def test_a_look_up_on_kraken_pays_both_lists_in_one_turn() -> None:
    """With a small part of the budget the second list would never have its turn."""
    clock = ManualClock()
    adapter = KrakenCCXTAdapter("kraken", ExchangeConfig(), clock)
    charged: list[float] = []

    async def enter(_class: RequestClass, charges: Any, **_: Any) -> None:
        charged.append(sum(cost for _, cost in charges))

    async def lists(_asked: Any) -> Any:
        await adapter._enter("private", "POST", "OpenOrders", {}, 1.0)
        return {"result": {"open": {}, "closed": {}, "count": 0}}

    adapter.request_gate.enter = enter  # type: ignore[assignment, method-assign]
    adapter._ccxt = SimpleNamespace(privatePostOpenOrders=lists, privatePostClosedOrders=lists)
    with suppress(ExchangeError), adapter._boundary("get_order"):
        await adapter._look_up(order_request(), "")
    assert charged == [2.0]


async def test_each_that_waits_for_a_shared_request_waits_its_own_time() -> None:
    """A poll before a cancel must not wait as long as one that has a minute."""
    turn = asyncio.Event()

    async def ask(take: Callable[[], list[str]]) -> dict[str, str]:
        await turn.wait()
        return {key: key for key in take()}

    async def poll(key: str, within_s: float) -> str | None:
        with asking(POLL, within_s):
            return await batcher.get(key)

    batcher: Batcher[str, str] = Batcher(ask, 50)
    patient = asyncio.ensure_future(poll("patient", 30))
    with pytest.raises(RateLimitError):
        await asyncio.wait_for(poll("hasty", 0.01), 5)
    hasty = asyncio.ensure_future(poll("hasty", 0.01))
    turn.set()
    assert await patient == "patient"
    assert await hasty == "hasty"


@pytest.mark.parametrize("tier", KrakenLimits.tiers)
async def test_sixteen_workers_on_one_kraken_key_can_pay_both_lists(tier: str) -> None:
    """Asked for again and again, as a look-up in doubt is, it has its turn."""
    clock = ManualClock()
    shared = RequestGate("kraken", KrakenLimits(tier).limits(100), clock)
    shared.share(Scope.KEY, Share(16, 0))
    for _ in range(10):
        try:
            await shared.enter(DOUBT, (("calls", 2.0),))
        except RateLimitError:
            clock.ms += 2_000
        else:
            return
    pytest.fail("it never had its turn")
