"""The orders that this process follows: states, look-up by both ids, history, statistics."""

from collections import OrderedDict
from collections.abc import Iterator
from decimal import Decimal
from typing import Final

import msgspec

from worker.domain.money import ZERO
from worker.domain.order import (
    PENDING,
    TERMINAL,
    TRANSITIONS,
    Fact,
    OrderReport,
    OrderRequest,
    OrderState,
    advance,
    fact_of,
)
from worker.runtime.clock import Clock, SystemClock

HISTORY_LENGTH: Final = 1_000


class ManagedOrder(msgspec.Struct, kw_only=True, gc=False):
    """One order as this worker knows it.

    ``changed_ms`` has the time at which it came into each of its states, Unix milliseconds.
    """

    request: OrderRequest
    signal_id: str
    state: OrderState = PENDING
    exchange_order_id: str = ""
    filled_quantity: Decimal = ZERO
    average_price: Decimal | None = None
    attempts: int = 0
    error: str = ""
    changed_ms: dict[OrderState, int] = {}


class OrderManager:
    """Active orders, and the last 1000 that ended.

    Args:
        history_length: how many that have ended are remembered.
        clock: stamps every change of a state; the machine's if absent.
    """

    def __init__(self, history_length: int = HISTORY_LENGTH, *, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._active: dict[str, ManagedOrder] = {}
        #: In the order in which they ended.
        self._history: OrderedDict[str, ManagedOrder] = OrderedDict()
        self._client_id_of: dict[str, str] = {}
        self._history_length = history_length
        self._ended: dict[OrderState, int] = {}

    def begin(self, request: OrderRequest, signal_id: str) -> ManagedOrder:
        """Start following an order; beginning it again (a new delivery) starts afresh."""
        order = ManagedOrder(
            request=request,
            signal_id=signal_id,
            changed_ms={PENDING: self._clock.now_ms()},
        )
        self._active[request.client_order_id] = order
        return order

    def note(self, order: ManagedOrder, fact: Fact) -> OrderState:
        """Apply a fact to an order's state.

        Raises:
            IllegalTransitionError: the table has no such row.
        """
        before = order.state
        state = TRANSITIONS.get((before, fact)) or advance(before, fact)
        if state is not before:
            order.state = state
            order.changed_ms[state] = self._clock.now_ms()
        if state in TERMINAL:
            self._retire(order)
        return state

    def report(self, order: ManagedOrder, report: OrderReport) -> OrderState:
        """Apply an exchange's report; the filled quantity never shrinks."""
        if report.exchange_order_id and not order.exchange_order_id:
            order.exchange_order_id = report.exchange_order_id
            self._client_id_of[report.exchange_order_id] = order.request.client_order_id
        if report.filled_quantity >= order.filled_quantity:
            order.filled_quantity = report.filled_quantity
            order.average_price = report.average_price
        return self.note(order, fact_of(report.state))

    def forget(self, order: ManagedOrder) -> None:
        """Stop following an order that is no longer this worker's."""
        if self._active.get(order.request.client_order_id) is order:
            del self._active[order.request.client_order_id]
        self._client_id_of.pop(order.exchange_order_id, None)

    def _retire(self, order: ManagedOrder) -> None:
        client_id = order.request.client_order_id
        if self._active.pop(client_id, None) is not None:
            self._ended[order.state] = self._ended.get(order.state, 0) + 1
        self._history[client_id] = order
        self._history.move_to_end(client_id)
        while len(self._history) > self._history_length:
            _, oldest = self._history.popitem(last=False)
            self._client_id_of.pop(oldest.exchange_order_id, None)

    def find(self, order_id: str) -> ManagedOrder | None:
        """Find an order by its client id or its exchange id, active or in the history."""
        client_id = self._client_id_of.get(order_id, order_id)
        return self._active.get(client_id) or self._history.get(client_id)

    def active(self) -> Iterator[ManagedOrder]:
        """Return every order that has not ended."""
        return iter(tuple(self._active.values()))

    def history(self) -> Iterator[ManagedOrder]:
        """Return ended orders, oldest first."""
        return iter(tuple(self._history.values()))

    def statistics(self) -> dict[str, int]:
        """Return how many orders are active, and how many ended in each state since the start."""
        counts = {"active": len(self._active)}
        counts |= {state.value.lower(): count for state, count in sorted(self._ended.items())}
        return counts

    def __repr__(self) -> str:
        return f"<OrderManager {self.statistics()}>"
