"""Orders that one instance of a simulated exchange knows to be over: the latest."""

from collections import OrderedDict
from typing import Final

from worker.domain.order import OrderReport

#: Finished orders an instance remembers.
MAX_FINISHED_ORDERS: Final = 10_000


class FinishedOrders:
    """The last report of orders that are over, by client order id."""

    def __init__(self) -> None:
        self._reports: OrderedDict[str, OrderReport] = OrderedDict()

    def __len__(self) -> int:
        return len(self._reports)

    def get(self, client_id: str) -> OrderReport | None:
        """Return the order's last report, if it is known to be over."""
        return self._reports.get(client_id)

    def add(self, report: OrderReport) -> None:
        """Remember the report of an order that is over."""
        self._reports[report.client_order_id] = report
        if len(self._reports) > MAX_FINISHED_ORDERS:
            self._reports.popitem(last=False)
