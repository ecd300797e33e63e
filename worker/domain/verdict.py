"""An operator's decision on an order whose outcome its exchange does not report."""

from decimal import Decimal

import msgspec

from worker.domain.money import ZERO
from worker.domain.order import CANCELLED, FILLED, Fill, OrderReport, OrderRequest


class Verdict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An operator's statement of what became of an order.

    ``filled`` base units traded at ``price`` (quote units) for ``fee`` in ``fee_currency``; 0 where
    the exchange has no such order. ``actor`` and ``reason`` are kept for the record.
    """

    actor: str
    reason: str
    filled: Decimal = ZERO
    price: Decimal = ZERO
    fee: Decimal = ZERO
    fee_currency: str = ""

    def report(self, request: OrderRequest) -> OrderReport:
        """Build the report the exchange would have given; the rest of the order is cancelled."""
        trade = Fill(
            trade_id=f"V{request.client_order_id}",
            quantity=self.filled,
            price=self.price,
            fee=self.fee,
            fee_currency=self.fee_currency,
        )
        return OrderReport(
            client_order_id=request.client_order_id,
            exchange_order_id="",
            symbol=request.symbol,
            state=FILLED if self.filled == request.quantity else CANCELLED,
            filled_quantity=self.filled,
            average_price=self.price,
            fills=(trade,),
            reason=f"decided by {self.actor}: {self.reason}",
        )
