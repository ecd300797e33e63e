"""Budgets of requests: the arithmetic of limits, the order of turns, holds and shares."""

import asyncio
import random
from bisect import bisect_left, bisect_right
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.request_capacity import CASES, Case
from tests.unit.parts import PERPETUAL, ManualClock, order_request
from worker.domain.order import Role
from worker.exchanges.binance.limits import BinanceLimits
from worker.exchanges.budget.bucket import Bucket
from worker.exchanges.budget.capacity import capacity
from worker.exchanges.budget.classes import RequestClass
from worker.exchanges.budget.limits import (
    Decaying,
    Limit,
    Rolling,
    RollingCounter,
    Scope,
    Share,
    counter,
)
from worker.exchanges.budget.requests import BUDGET_CODE, RequestGate
from worker.exchanges.budget.tables import Endpoint, LimitTable
from worker.exchanges.bybit.limits import BybitLimits
from worker.exchanges.ccxt.pauses import seconds_in_text
from worker.exchanges.coinbase.limits import CoinbaseLimits
from worker.exchanges.errors import RateLimitError
from worker.exchanges.kraken.limits import KrakenLimits
from worker.exchanges.okx.limits import OkxLimits

TABLES: list[LimitTable] = [
    LimitTable(),
    BinanceLimits(),
    CoinbaseLimits(),
    OkxLimits(),
    *(BybitLimits(tier) for tier in BybitLimits.tiers),
    *(KrakenLimits(tier) for tier in KrakenLimits.tiers),
]
ALL_LIMITS = [
    pytest.param(limit, id=f"{type(table).__name__}-{table.tier}-{name}")
    for table in TABLES
    for name, limit in table.limits(50.0).items()
    if not (isinstance(limit, Rolling) and limit.seconds > 60)
]
#: How much later one request arrives than another, milliseconds.
JITTER_MS = 80.0
ENTRY, CLOSING, DOUBT = RequestClass.ENTRY, RequestClass.CLOSING, RequestClass.DOUBT
POLL, MARKET, REST = RequestClass.POLL, RequestClass.MARKET, RequestClass.REST


def full_load(limit: Limit, workers: int, for_ms: float) -> list[float]:
    """When the exchange sees the requests of workers that all send as fast as they may."""
    chance = random.Random(1)
    counters = [counter(limit, Share(workers, rank), 0.0) for rank in range(workers)]
    seen = []
    for one in counters:
        now = 0.0
        while now < for_ms:
            wait_ms = one.wait_ms(1.0, now, reserved=False)
            now += wait_ms
            if not wait_ms:
                one.add(1.0, now)
                seen.append(now + chance.uniform(0, JITTER_MS))
            elif wait_ms < 1:
                now += 1
    return sorted(seen)


@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize("limit", ALL_LIMITS)
def test_full_load_breaks_no_limit_and_uses_four_fifths(limit: Limit, workers: int) -> None:
    """As the exchange counts: in any window, or by a counter that sinks in steps."""
    if isinstance(limit, Rolling):
        for_ms = limit.seconds * 1000 * 20
        allowed = limit.maximum / limit.seconds
    else:
        assert isinstance(limit, Decaying)
        for_ms = max(600_000.0, limit.maximum / limit.per_second * 4000)
        allowed = limit.per_second
    seen = full_load(limit, workers, for_ms)
    if isinstance(limit, Rolling):
        for number, at in enumerate(seen):
            inside = bisect_left(seen, at + limit.seconds * 1000) - number
            assert inside <= limit.maximum
    else:
        level, before = limit.maximum / 8, 0.0  # what was there before, less than is assumed
        for at in seen:
            steps = int(at // 2_000) - int(before // 2_000)
            level = max(0.0, level - 2 * steps * limit.per_second) + 1
            before = at
            assert level <= limit.maximum
    settled = bisect_right(seen, for_ms / 2)
    rate = (len(seen) - settled) / (for_ms / 2 / 1000)
    # One unit of few is kept for the first two classes.
    kept_back = 0.0 if isinstance(limit, Decaying) else limit.reserve / limit.maximum
    assert rate >= (0.8 - (kept_back if limit.maximum < 20 else 0.0)) * allowed


@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize(
    "case", CASES, ids=[f"{one.exchange}-{one.table.tier}-{one.kind}" for one in CASES]
)
def test_what_the_documents_promise_is_what_the_budget_does(case: Case, workers: int) -> None:
    """Market orders one after the other, of all workers together, within a tenth."""
    promised = capacity(case.table, case.kind, case.follow_up, workers).a_minute
    request, info = order_request(symbol="BTC/USDT"), PERPETUAL if case.kind == "linear" else None
    steps = [(ENTRY, case.table.order(request, info))]
    steps += [(POLL, charges) for charges in case.follow_up]
    minutes = 20.0 if promised < 1_000 else 4.0
    done = 0
    for rank in range(workers):
        bucket = Bucket(case.table.limits(100.0), 0.0)
        for scope in (Scope.KEY, Scope.ADDRESS):
            bucket.share(scope, Share(workers, rank))
        now, orders = 0.0, 0
        while now < minutes * 60_000:
            for request_class, charges in steps:
                while wait_ms := bucket.wait_ms(charges, request_class, now):
                    now += max(wait_ms, 0.1)
                bucket.add(charges, now)
            orders += now > minutes * 30_000  # after the burst of the beginning
        done += orders
    assert done / (minutes / 2) == pytest.approx(promised, rel=0.1, abs=1.0)


@given(st.integers(1, 9), st.integers(1, 40))
def test_parts_add_up_to_the_whole(workers: int, whole: int) -> None:
    """Whole units are neither lost nor given out twice."""
    assert sum(Share(workers, rank).whole_part(whole) for rank in range(workers)) == whole
    assert sum(Share(workers, rank).of(whole) for rank in range(workers)) == pytest.approx(whole)


@example([(0.6901907399104369, 3), (0.6901907399104369, 6)])
@given(st.lists(st.tuples(st.floats(0, 30), st.integers(1, 6)), min_size=1, max_size=60))
def test_what_a_counter_lets_in_fits(steps: list[tuple[float, int]]) -> None:
    """Whatever the costs and pauses; and whoever waits as long as was said gets in."""
    for limit in (
        Rolling(maximum=10, seconds=2, reserve=2),
        Decaying(maximum=10, per_second=1.5, reserve=2, scope=Scope.WORKER),
    ):
        one, now, sent = counter(limit, Share(), 0.0), 0.0, []
        for pause_s, cost in steps:
            now += pause_s * 100
            wait_ms = one.wait_ms(cost, now, reserved=False)
            now += wait_ms
            assert one.wait_ms(cost, now, reserved=False) <= 1e-6
            one.add(cost, now)
            sent.append((now, cost))
        for start, _ in sent:
            inside = sum(cost for at, cost in sent if start <= at < start + 2_000)
            assert inside <= (10 if isinstance(limit, Rolling) else 10 + 2 * 1.5) + 1e-6


def test_the_reserve_is_for_the_first_two_classes() -> None:
    """All others find the limit used up a little earlier."""
    bucket = Bucket({"calls": Rolling(maximum=10, seconds=1, reserve=3)}, 0.0)
    bucket.add((("calls", 7.0),), 0.0)
    for request_class in RequestClass:
        waits = bucket.wait_ms((("calls", 1.0),), request_class, 0.0) > 0
        assert waits is (request_class not in {CLOSING, DOUBT})


def test_an_entry_needs_room_for_its_own_stop_and_the_proof() -> None:
    """In every limit, the reserve included: else a position could be left without a stop."""
    table = KrakenLimits("starter")
    request = order_request(symbol="BTC/USDT")
    charges, cover = table.order(request, None), table.cover(request, None)
    bucket = Bucket(table.limits(0.0), 0.0)
    assert bucket.wait_ms(charges, ENTRY, 0.0, cover=cover) == 0
    bucket.add((("calls", 11.0),), 0.0)  # with what is assumed at the start, full
    assert bucket.wait_ms(charges, ENTRY, 0.0) == 0
    assert bucket.wait_ms(charges, ENTRY, 0.0, cover=cover) > 0


def test_what_the_exchange_tells_counts_for_all() -> None:
    """Another process behind the same address has used the minute up."""
    one = RollingCounter(Rolling(maximum=100, seconds=60, reserve=10), Share())
    one.add(5, 0.0)
    one.tell(89, 100.0, 20_000.0)
    assert one.wait_ms(1, 100.0, reserved=False) == 0
    one.add(1, 100.0)
    assert one.wait_ms(1, 100.0, reserved=False) == pytest.approx(19_900)
    assert one.wait_ms(1, 100.0, reserved=True) == 0
    assert one.wait_ms(1, 20_000.0, reserved=False) == 0


def test_binances_headers_tell_weight_and_orders() -> None:
    """By interval, of spot and futures apart."""
    headers = {"X-MBX-USED-WEIGHT-1M": "17", "x-mbx-order-count-10s": "3", "X-Other": "1"}
    told = {one.name: one for one in BinanceLimits().told("/api/v3/order", headers, 59_000.0)}
    assert told["spot_weight_60"].used == 17
    assert told["spot_weight_60"].ends_in_ms == 1_000
    assert told["spot_orders_10"].used == 3
    (linear,) = BinanceLimits().told("/fapi/v1/order", {"X-MBX-USED-WEIGHT-1M": "9"}, 0.0)
    assert linear.name == "linear_weight_60"


def test_every_charge_names_a_limit() -> None:
    """What is charged to nothing limits nothing."""
    for table in TABLES:
        limits = table.limits(50.0)
        request = order_request(symbol="BTC/USDT")
        charges = [*table.order(request, None), *table.cover(request, None)]
        for api in ("public", "private", "fapiPrivate", "v3.private"):
            for path in ("time", "order", "openOrders", "v5/order/create", "trade/order", "x"):
                charges += table.charges(Endpoint(api, "GET", path))
        assert {name.partition(":")[0] for name, _ in charges} <= limits.keys()


# --- turns ---


class Desk:
    """A gate with one limit of four requests a second, on a clock that is moved by hand."""

    def __init__(self, **fields: Any) -> None:
        self.clock = ManualClock()
        limit = Rolling(maximum=4, seconds=1, reserve=1)
        self.gate = RequestGate("x", {"calls": limit}, self.clock, **fields)
        self.charges = (("calls", 1.0),)

    async def ask(self, request_class: RequestClass, within_s: float = 60.0) -> None:
        await self.gate.enter(request_class, self.charges, within_s=within_s)


async def test_the_more_urgent_goes_first() -> None:
    """Whoever came earlier waits behind, whatever it asks for."""
    desk = Desk()
    for _ in range(3):
        await desk.ask(REST)
    order: list[RequestClass] = []

    async def ask(request_class: RequestClass) -> None:
        await desk.ask(request_class)
        order.append(request_class)

    waiting = [asyncio.ensure_future(ask(one)) for one in (REST, MARKET, POLL)]
    await asyncio.gather(*waiting)
    assert order == [POLL, MARKET, REST]


async def test_a_request_without_a_turn_in_time_is_given_up() -> None:
    """Nothing was sent, and it says when to ask again."""
    desk = Desk()
    for _ in range(3):
        await desk.ask(POLL)
    with pytest.raises(RateLimitError) as raised:
        await desk.ask(POLL, within_s=0.5)
    assert raised.value.code == BUDGET_CODE
    assert 0.5 < raised.value.retry_after_s < 2
    await desk.ask(CLOSING, within_s=0.0)  # the reserve


def test_orders_keep_their_places_in_line() -> None:
    """Each is told its own moment, and the first to come is the first to go."""
    desk = Desk(orders_per_second=2.0)
    take = desk.gate.take_turn
    assert [take(key, ENTRY, (), 9_000) for key in "ab"] == [0, 0]
    assert [take(key, ENTRY, (), 9_000) for key in "cde"] == [500, 1_000, 1_500]
    assert take("f", ENTRY, (), 600) > 600  # not kept
    desk.clock.ms += 500
    assert take("e", ENTRY, (), 9_000) == 1_000
    assert take("c", ENTRY, (), 9_000) == 0
    desk.clock.ms += 500
    assert take("d", ENTRY, (), 9_000) == 0


def test_an_order_that_does_not_come_back_holds_nobody_up() -> None:
    """Its place lapses."""
    desk = Desk(orders_per_second=2.0)
    take = desk.gate.take_turn
    assert [take(key, ENTRY, (), 9_000) for key in "abc"] == [0, 0, 500]
    desk.clock.ms += 2_600
    assert take("d", ENTRY, (), 9_000) == 0


# --- holds ---


async def test_a_hold_stops_every_class_and_ends_with_one_probe() -> None:
    """Until the probe is answered nobody else goes."""
    desk = Desk()
    told: list[tuple[str, float]] = []
    desk.gate.on_refusal = lambda name, ms: told.append((name, ms))
    desk.gate.refused(20.0)
    assert told == [("x", 20_000)]
    for request_class in RequestClass:
        with pytest.raises(RateLimitError):
            await desk.ask(request_class, within_s=10.0)
    with pytest.raises(RateLimitError):
        desk.gate.send_order("a", CLOSING, desk.charges)
    desk.gate.answered()  # to a request from before
    assert desk.gate.holds.held_ms() == 20_000
    desk.clock.ms += 20_000
    await desk.ask(POLL, within_s=0.0)
    with pytest.raises(RateLimitError):
        await desk.ask(CLOSING, within_s=0.0)
    desk.gate.answered()
    await desk.ask(CLOSING, within_s=0.0)


async def test_a_probe_that_is_refused_prolongs_the_hold() -> None:
    """And one that fails on its way is followed by another."""
    desk = Desk()
    desk.gate.refused(5.0)
    desk.clock.ms += 5_000
    await desk.ask(POLL, within_s=0.0)
    desk.gate.failed()
    await desk.ask(POLL, within_s=0.0)
    desk.gate.refused(5.0)
    assert desk.gate.holds.held_ms() == 5_000
    assert desk.gate.holds.times == 2


def test_workers_of_one_budget_probe_one_after_the_other() -> None:
    """The first at once, each other a second later."""
    desks = [Desk() for _ in range(3)]
    for rank, desk in enumerate(desks):
        desk.gate.share(Scope.KEY, Share(3, rank))
        desk.gate.hold(1_000)
    assert [desk.gate.holds.held_ms() for desk in desks] == [1_000, 2_000, 3_000]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("Way too much request weight used; IP banned until 1700000020000.", 20.0),
        ("EService: Throttled: 1700000020", 20.0),
        ("EService:Throttled:1700000020", 20.0),
        ("Too many requests, retry after 20 seconds", 20.0),
        ("try again in 500ms", 0.5),
        ("banned until 1600000000000", 0.0),
        ("Too many requests.", 0.0),
        ("Too many new orders; current limit is 100 orders per 10 SECOND.", 0.0),
    ],
)
def test_the_time_to_wait_is_read_from_texts(text: str, seconds: float) -> None:
    """By the exchange's clock; a text without a time says none."""
    assert seconds_in_text(text, 1_700_000_000_000.0) == pytest.approx(seconds)


def test_background_asking_takes_a_twentieth() -> None:
    """One call of a counter that sinks by 0.33 a second: once a minute."""
    gate = RequestGate("k", KrakenLimits("starter").limits(0.0), ManualClock())
    before = gate.spent("get_balance")
    asyncio.run(gate.enter(MARKET, (("calls", 1.0),), operation="get_balance"))
    assert gate.interval_s("get_balance", before) == pytest.approx(1 / (0.05 * 0.33))
    assert gate.interval_s("get_balance", gate.spent("get_balance")) == 0


def test_closing_orders_are_of_the_first_class() -> None:
    """By role or by the flag."""
    from worker.exchanges.budget.classes import class_of  # noqa: PLC0415 (imports ccxt's session)

    assert class_of(order_request()) is ENTRY
    assert class_of(order_request(role=Role.EXIT)) is CLOSING
    assert class_of(order_request(reduce_only=True)) is CLOSING
