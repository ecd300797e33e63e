"""What a person says became of an order that its exchange does not tell of."""

from decimal import Decimal

import msgspec

from worker.domain.money import ZERO
from worker.domain.order import CANCELLED, FILLED, Fill, OrderReport, OrderRequest


class Verdict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``filled`` base units traded at ``price`` (quote units); 0 for an order that is not there.

    ``fee`` is what they cost in ``fee_currency``. ``actor`` and ``reason`` are for whoever looks
    next.
    """

    actor: str
    reason: str
    filled: Decimal = ZERO
    price: Decimal = ZERO
    fee: Decimal = ZERO
    fee_currency: str = ""

    def report(self, request: OrderRequest) -> OrderReport:
        """As the exchange would have reported the order; what did not trade is cancelled."""
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
