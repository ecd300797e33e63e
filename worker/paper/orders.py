"""Orders one instance of a simulated exchange knows: waiting, open, and the latest finished."""

from collections import deque
from typing import Final

from worker.domain.order import PARTIALLY_FILLED, OrderReport, OrderState
from worker.paper.matching import PaperOrder

#: Finished orders an instance remembers; open ones are all remembered.
MAX_FINISHED_ORDERS: Final = 10_000


class PaperOrders:
    """The last report of every known order, by client order id."""

    def __init__(self) -> None:
        self._reports: dict[str, OrderReport] = {}
        self._open: dict[str, OrderReport] = {}
        self._finished: deque[str] = deque()
        #: Open orders a later price may fill or trigger, by symbol.
        self._waiting: dict[str, dict[str, PaperOrder]] = {}

    def __repr__(self) -> str:
        return f"{len(self._open)} open, {len(self._reports)} known"

    @property
    def open_count(self) -> int:
        """The number of open orders."""
        return len(self._open)

    def known(self, client_id: str) -> OrderReport | None:
        """Return the order's last report, if it is known."""
        return self._reports.get(client_id)

    def open(self, client_id: str) -> OrderReport | None:
        """Return the order's last report, if it is open."""
        return self._open.get(client_id)

    def all_open(self, symbol: str | None) -> list[OrderReport]:
        """Return the open orders of one symbol or of all."""
        return [report for report in self._open.values() if symbol in {None, report.symbol}]

    def waiting(self, symbol: str) -> list[PaperOrder]:
        """Return the orders that a later price of ``symbol`` may fill or trigger."""
        waiting = self._waiting.get(symbol)
        return list(waiting.values()) if waiting is not None else []

    def waiting_symbols(self, symbol: str | None) -> list[str]:
        """Return the symbols that orders wait for a price of: all, or at most ``symbol``."""
        return [name for name in self._waiting if symbol in {None, name}]

    def wait(self, order: PaperOrder) -> OrderReport:
        """Keep an order open until a later price fills or triggers it; returns its report."""
        client_id, report = order.request.client_order_id, order.report(OrderState.ACTIVE)
        self._open[client_id] = self._reports[client_id] = report
        self._waiting.setdefault(order.request.symbol, {})[client_id] = order
        return report

    def settle(self, report: OrderReport) -> None:
        """Keep the report of an order that no longer waits: finished, or open for its rest."""
        client_id = report.client_order_id
        self._reports[client_id] = report
        waiting = self._waiting.get(report.symbol)
        if waiting is not None:
            waiting.pop(client_id, None)
            if not waiting:
                del self._waiting[report.symbol]
        if report.state is PARTIALLY_FILLED:
            self._open[client_id] = report
            return
        self._open.pop(client_id, None)
        self._finished.append(client_id)
        if len(self._finished) > MAX_FINISHED_ORDERS:
            del self._reports[self._finished.popleft()]
