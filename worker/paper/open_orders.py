"""One instance's view of the orders that are open at a simulated exchange."""

from collections.abc import Callable
from decimal import Decimal

from worker.domain.market import SymbolInfo
from worker.domain.order import CANCELLED, TERMINAL, OrderReport, OrderRequest
from worker.exchanges.errors import ExchangeError
from worker.ledger.resting_layouts import RestingRow
from worker.paper.matching import PaperMatching, PaperOrder
from worker.paper.orders import FinishedOrders
from worker.paper.quotes import Quotes
from worker.paper.refusals import invalid
from worker.paper.resting import (
    RestingOrders,
    may_rest,
    report_of,
    request_of,
    row_of,
)


class OpenOrders:
    """The orders that rest, judged by the rules of one simulated exchange.

    Args:
        name: of the exchange.
        resting: the orders that rest, of all instances.
        matching: the rules.
        quotes: where prices come from; None while signals state them.
        info_of: returns the rules of a market.
        finished: remembers what this instance has seen the end of.
    """

    def __init__(
        self,
        name: str,
        *,
        resting: RestingOrders,
        matching: PaperMatching,
        quotes: Quotes | None,
        info_of: Callable[[str], SymbolInfo | None],
        finished: FinishedOrders,
    ) -> None:
        self._name = name
        self._resting = resting
        self._matching = matching
        self._quotes = quotes
        self._info_of = info_of
        self._finished = finished

    async def rest(
        self, order: PaperOrder, report: OrderReport | None, reference: Decimal | None
    ) -> OrderReport:
        """Let an accepted order rest, unless it is over; the first by its id counts.

        Args:
            order: after it has met the market.
            report: what became of it then; None if it waits.
            reference: the market's price then, None if none was known.

        Raises:
            InvalidOrderError: too many rest already; REFUSED, transient.
            ExchangeError: the orders that rest do not answer.
        """
        request = order.request
        market = (self._name, request.symbol, request.client_order_id)
        if report is not None and report.state in TERMINAL:
            found = await self._resting.look(*market)
            return report if found.row is None else self._report_of(found.row)
        stays = self._matching.leaves_rest(order)
        row = row_of(order, report, reference, stays=stays)
        found = await self._resting.rest(*market, row)
        if found.row is None:
            raise invalid("TOO_MANY_ORDERS", "too many orders rest already", transient=True)
        return self._report_of(found.row)

    async def look(
        self, request: OrderRequest, client_order_id: str, *, was_accepted: bool
    ) -> OrderReport | None:
        """Return an order as it is now; None if nobody knows it.

        Args:
            request: the order.
            client_order_id: its id.
            was_accepted: if nobody knows the order, let it rest from now on.

        Raises:
            ExchangeError: the orders that rest do not answer, or its market has no rules now.
        """
        known = self._finished.get(client_order_id)
        if known is not None:
            return known
        found = await self._resting.look(self._name, request.symbol, client_order_id)
        if found.row is not None:
            return await self._up_to_date(found.row, found.now_ms)
        info = self._info_of(request.symbol)
        if not was_accepted or info is None or not may_rest(request):
            return None
        return await self.rest(PaperOrder(request, info, found.now_ms), None, None)

    async def cancel(
        self, request: OrderRequest, client_order_id: str, *, was_accepted: bool
    ) -> bool:
        """Cancel an order that is open, see :meth:`look`; returns False if it is not.

        Raises:
            ExchangeError: the orders that rest do not answer, or its market has no rules now.
        """
        report = await self.look(request, client_order_id, was_accepted=was_accepted)
        if report is None or report.state in TERMINAL:
            return False
        found = await self._resting.cancel(self._name, request.symbol, client_order_id)
        if found.row is None:
            return False
        report = self._seen(found.row)
        return found.is_changed and report.state is CANCELLED

    async def all(self, symbol: str) -> list[OrderReport]:
        """Return the orders that are open now, of one symbol or of all.

        Raises:
            ExchangeError: the orders that rest do not answer, or a market has no rules now.
        """
        rows, now_ms = await self._resting.open(self._name, symbol)
        if self._quotes is not None:
            waiting = dict.fromkeys(request_of(row).symbol for row in rows if row.conditions)
            if waiting and await self._quotes.show(waiting):
                rows, now_ms = await self._resting.open(self._name, symbol)
            else:
                reports = [await self._up_to_date(row, now_ms) for row in rows]
                return [report for report in reports if report.state not in TERMINAL]
        reports = [self._report_of(row) for row in rows]
        return [report for report in reports if report.state not in TERMINAL]

    async def _up_to_date(self, row: RestingRow, now_ms: int) -> OrderReport:
        """Return what has become of an order until now."""
        if row.conditions and not row.cancelled and self._quotes is not None:
            request = request_of(row)
            prices = await self._quotes.since(request.symbol, row, now_ms)
            if prices:
                market = (self._name, request.symbol, request.client_order_id)
                row = (await self._resting.look(*market, prices)).row or row
        return self._seen(row)

    def _seen(self, row: RestingRow) -> OrderReport:
        """Return what has become of an order, and remember it if that is its end."""
        report = self._report_of(row)
        if report.state in TERMINAL:
            self._finished.add(report)
        return report

    def _report_of(self, row: RestingRow) -> OrderReport:
        symbol = request_of(row).symbol
        info = self._info_of(symbol)
        if info is None:
            raise ExchangeError(f"{self._name} has no rules for {symbol} now", transient=True)
        return report_of(row, info, self._matching)
