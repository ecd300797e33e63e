"""The orders in hand: found by both ids, remembered for a while, counted for ever."""

from typing import cast

import msgspec
import pytest

from tests.unit.parts import fill, order_request, report
from worker.domain.order import (
    Fact,
    IllegalTransitionError,
    OrderReport,
    OrderRequest,
    OrderState,
)
from worker.pipeline.orders import HISTORY_LENGTH, ManagedOrder, OrderManager
from worker.runtime.clock import Clock


def request(client_id: str = "c1") -> OrderRequest:
    return order_request(client_order_id=client_id)


def told(order: ManagedOrder, state: OrderState, filled: str = "0", x: str = "X1") -> OrderReport:
    fills = (fill(filled, "100"),) if filled != "0" else ()
    return msgspec.structs.replace(report(state, *fills)(order.request), exchange_order_id=x)


def finish(orders: OrderManager, number: int) -> ManagedOrder:
    order = orders.begin(request(f"c{number}"), f"s{number}")
    orders.note(order, Fact.SENT)
    orders.report(order, told(order, OrderState.FILLED, "2", f"X{number}"))
    return order


class Ticking:
    """A clock that has gone on by one whenever it is looked at."""

    ms = 4

    def now_ms(self) -> int:
        self.ms += 1
        return self.ms


def test_every_state_is_stamped_when_it_is_come_into() -> None:
    """A state has the time at which it was first reached; a repeated report changes none."""
    orders = OrderManager(clock=cast("Clock", Ticking()))
    order = orders.begin(request(), "s1")
    orders.note(order, Fact.SENT)
    for _ in range(2):
        orders.report(order, told(order, OrderState.ACTIVE))
    orders.report(order, told(order, OrderState.FILLED, "2"))
    assert order.changed_ms == {"PENDING": 5, "SUBMITTED": 6, "ACTIVE": 7, "FILLED": 8}


def test_an_order_is_found_by_either_id_while_it_lives_and_after() -> None:
    """Client id from the beginning, exchange id once the exchange has said it."""
    orders = OrderManager()
    order = orders.begin(request(), "s1")
    assert orders.find("c1") is order
    assert orders.find("X1") is None
    orders.note(order, Fact.SENT)
    orders.report(order, told(order, OrderState.ACTIVE))
    assert orders.find("X1") is orders.find("c1") is order
    orders.report(order, told(order, OrderState.FILLED, "2"))
    assert orders.find("X1") is orders.find("c1") is order
    assert list(orders.active()) == []
    assert list(orders.history()) == [order]


def test_the_history_forgets_the_oldest_by_both_ids() -> None:
    """A thousand by default; statistics remember all."""
    orders = OrderManager(history_length=3)
    for number in range(5):
        finish(orders, number)
    assert [order.request.client_order_id for order in orders.history()] == ["c2", "c3", "c4"]
    assert orders.find("c1") is orders.find("X1") is None
    assert orders.find("X2") is not None
    assert orders.statistics() == {"active": 0, "filled": 5}
    assert orders._client_id_of.keys() == {"X2", "X3", "X4"}
    assert HISTORY_LENGTH == 1_000


def test_a_repeated_delivery_starts_the_order_afresh() -> None:
    """Nothing of the earlier attempt counts, and the order is not counted twice."""
    orders = OrderManager()
    orders.note(orders.begin(request(), "s1"), Fact.SENT)
    again = orders.begin(request(), "s1")
    assert orders.find("c1") is again
    assert again.state is OrderState.PENDING
    assert orders.statistics() == {"active": 1}


def test_a_forgotten_order_leaves_no_trace() -> None:
    """An order that another worker has taken is found under neither id."""
    orders = OrderManager()
    order = orders.begin(request(), "s1")
    orders.note(order, Fact.SENT)
    orders.report(order, told(order, OrderState.ACTIVE))
    orders.forget(order)
    assert orders.find("c1") is orders.find("X1") is None
    assert orders.statistics() == {"active": 0}


def test_what_has_filled_never_shrinks() -> None:
    """A stale report changes neither the quantity nor its price."""
    orders = OrderManager()
    order = orders.begin(request(), "s1")
    orders.note(order, Fact.SENT)
    orders.report(order, told(order, OrderState.PARTIALLY_FILLED, "1"))
    orders.report(order, told(order, OrderState.ACTIVE))
    assert order.filled_quantity == 1
    assert order.average_price == 100
    assert order.state is OrderState.PARTIALLY_FILLED


def test_a_late_fill_moves_a_cancelled_order_once() -> None:
    """It is in the history under its last state and was counted when it first ended."""
    orders = OrderManager()
    order = orders.begin(request(), "s1")
    orders.note(order, Fact.SENT)
    orders.report(order, told(order, OrderState.CANCELLED))
    orders.report(order, told(order, OrderState.FILLED, "2"))
    assert [one.state for one in orders.history()] == [OrderState.FILLED]
    assert orders.statistics() == {"active": 0, "cancelled": 1}


def test_an_impossible_fact_changes_nothing() -> None:
    """A fact that the table does not allow raises and leaves the order's state."""
    orders = OrderManager()
    order = orders.begin(request(), "s1")
    with pytest.raises(IllegalTransitionError):
        orders.note(order, Fact.FILLED)
    assert order.state is OrderState.PENDING
    assert list(orders.active()) == [order]


def test_it_reads_like_a_status_line() -> None:
    """The order manager prints as one line with its statistics."""
    orders = OrderManager()
    finish(orders, 1)
    orders.begin(request(), "s")
    assert repr(orders) == "<OrderManager {'active': 1, 'filled': 1}>"
