"""Orders that rest at a simulated exchange, and what becomes of them.

An order that is not over when it is accepted is kept outside of the instance that accepted it
(:class:`RestingOrders`), with the prices that have mattered to it since. What became of it is those
prices put through :class:`~worker.paper.matching.PaperMatching` again, the oldest first: whoever
looks at it gets the same answer.
"""

from collections.abc import Container, Sequence
from decimal import Decimal
from typing import Final, Protocol

import msgspec

from worker.domain.market import SymbolInfo
from worker.domain.order import (
    BUY,
    SELL,
    TERMINAL,
    OrderReport,
    OrderRequest,
    OrderState,
)
from worker.ledger.resting import RestingOrder, SeenPrice
from worker.ledger.resting_layouts import RestingRow
from worker.paper.matching import (
    IMMEDIATE,
    PaperMatching,
    PaperOrder,
    cancelled,
    is_from_below,
)

_decode: Final = msgspec.json.Decoder(OrderRequest).decode
_NO_PRICES: Final[tuple[SeenPrice, ...]] = ()


class RestingOrders(Protocol):
    """The orders that are open at simulated exchanges, and the prices that matter to them.

    Every method that waits raises only :class:`~worker.exchanges.errors.ExchangeError`.
    """

    def markets(self, exchange: str) -> Container[str]:
        """Return the symbols of an exchange where orders rest; it follows what happens."""

    def see(self, exchange: str, symbol: str, for_buys: Decimal, for_sells: Decimal) -> None:
        """Take a price of such a market as seen now."""

    async def look(
        self,
        exchange: str,
        symbol: str,
        client_order_id: str,
        prices: Sequence[SeenPrice] = _NO_PRICES,
    ) -> RestingOrder:
        """Return an order as it is after ``prices``, which nobody has taken as seen."""

    async def rest(
        self, exchange: str, symbol: str, client_order_id: str, row: RestingRow
    ) -> RestingOrder:
        """Let an order rest from now on; one that is known by its id stays as it is.

        Returns:
            The order that is known by that id now, none if too many rest already.
        """

    async def cancel(self, exchange: str, symbol: str, client_order_id: str) -> RestingOrder:
        """Cancel an order that is open; any other stays as it is."""

    async def open(self, exchange: str, symbol: str = "") -> tuple[list[RestingRow], int]:
        """Return the open orders of one symbol or of all, and the time, Unix milliseconds."""


def may_rest(request: OrderRequest) -> bool:
    """Return True if an order of this kind can be accepted without being over at once."""
    if request.stop_price is not None:
        return True
    return request.price is not None and request.time_in_force not in IMMEDIATE


def row_of(
    order: PaperOrder, report: OrderReport | None, reference: Decimal | None, *, stays: bool
) -> RestingRow:
    """Return what is kept of an order that has been accepted.

    Args:
        order: after it has met the market.
        report: what became of it then; None if it waits.
        reference: the market's price then, None if none was known.
        stays: whether its rest stays open when it fills.
    """
    request = order.request
    conditions: list[tuple[bool, str]] = []
    if report is None:
        if request.stop_price is not None and not order.triggered:
            conditions.append((is_from_below(request), f"{request.stop_price:f}"))
        if request.price is not None:
            conditions.append((request.side is SELL, f"{request.price:f}"))
    return RestingRow(
        request=msgspec.json.encode(request).decode(),
        buys=request.side is BUY,
        stays=stays,
        immediate=request.time_in_force in IMMEDIATE,
        reference="" if reference is None else f"{reference:f}",
        conditions=tuple(conditions),
    )


def request_of(row: RestingRow) -> OrderRequest:
    """Return the order as it was first sent."""
    return _decode(row.request)


def report_of(row: RestingRow, info: SymbolInfo, matching: PaperMatching) -> OrderReport:
    """Return what has become of an order, by the prices that have mattered to it."""
    request = request_of(row)
    order = PaperOrder(request, info, row.since)
    reference = Decimal(row.reference) if row.reference else None
    report = matching.trade(order, reference, row.since)
    for at_ms, price in row.touches:
        if report is None:
            report = matching.trade(order, _touching(order, Decimal(price)), at_ms)
    report = report or order.report(OrderState.ACTIVE)
    if row.cancelled and report.state not in TERMINAL:
        return cancelled(report, "")
    return report


def meet(row: RestingRow, at_ms: int, price: Decimal) -> RestingRow:
    """Return an order after a price of its market, as the ledger's scripts change it."""
    if at_ms < (row.touches[-1][0] if row.touches else row.since):
        return row
    left = list(row.conditions)
    while left:
        rises, level = left[0][0], Decimal(left[0][1])
        if price < level if rises else price > level:
            break
        del left[0]
    if len(left) == len(row.conditions):
        return row
    return msgspec.structs.replace(
        row,
        conditions=() if row.immediate else tuple(left),
        touches=(*row.touches, (at_ms, f"{price:f}")),
    )


def is_open(row: RestingRow) -> bool:
    """Return True if a price or a cancellation can still change the order."""
    return not row.cancelled and (row.stays or bool(row.conditions))


def _touching(order: PaperOrder, price: Decimal) -> Decimal:
    """Return ``price``, or the level that it is equal to as a double: the scripts count in them."""
    request = order.request
    waits_for_stop = request.stop_price is not None and not order.triggered
    level = request.stop_price if waits_for_stop else request.price
    return level if level is not None and float(level) == float(price) else price
