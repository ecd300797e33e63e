"""Orders that rest in the memory of one process, and what becomes of them."""

from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.paper.resting_cards import BTC, Instances, RestingCards, buy, place
from tests.unit.paper.test_exchange import ManualClock
from worker.domain.order import OrderState, Side
from worker.ledger.resting_layouts import RestingRow
from worker.paper.local_orders import LocalOrders
from worker.paper.resting import meet

D = Decimal


class TickingClock(ManualClock):
    """A clock on which every look takes a millisecond."""

    def now_ms(self) -> int:
        self.ms += 1
        return int(self.ms)


def in_memory() -> Instances:
    clock = TickingClock()
    shared = LocalOrders(clock)

    async def settle() -> None:
        clock.ms += 1_000

    return Instances(clock, lambda: shared, settle)


@pytest.fixture
def instances() -> Instances:
    return in_memory()


class TestInMemory(RestingCards):
    """Everything that must hold, of orders in memory."""


@pytest.mark.parametrize(("at_ms", "left"), [(999, 2), (1_000, 1), (1_001, 1)])
def test_a_price_counts_from_the_order_and_from_its_last_touch_on(at_ms: int, left: int) -> None:
    """An older one that arrives late is none of its prices."""
    conditions = ((False, "95"), (False, "90"))
    fresh = RestingRow(request="", buys=True, since=1_000, conditions=conditions)
    assert len(meet(fresh, at_ms, D(94)).conditions) == left
    touched = RestingRow(
        request="", buys=True, since=5, conditions=conditions, touches=((1_000, "100"),)
    )
    assert len(meet(touched, at_ms, D(94)).conditions) == left


whole = st.integers(80, 120)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(Side), whole, st.lists(st.tuples(whole, st.integers(0, 2)), max_size=12))
async def test_an_order_fills_when_the_low_or_high_since_reaches_it(
    side: Side, limit: int, seen: list[tuple[int, int]]
) -> None:
    """Whichever instances see the prices, exactly then, and at its own price."""
    instances = in_memory()
    workers = [instances.another() for _ in range(3)]
    request = buy(side=side, price=str(limit), reduce_only=True)
    placed = await place(workers[0], request, "70" if side is Side.SELL else "130")
    assert placed.state is OrderState.ACTIVE
    reached = False
    for price, worker in seen:
        workers[worker].assume_price(BTC, D(price))
        reached = reached or (price <= limit if side is Side.BUY else price >= limit)
        for on in workers:
            report = await on.get_order(request, placed.exchange_order_id)
            assert (report.state is OrderState.FILLED) is reached
            assert report.average_price in {None, D(limit)}
