"""An operator's decisions: on an order in doubt, and on a position of the book."""

from decimal import Decimal
from typing import Final

import msgspec

from worker.domain.money import ZERO
from worker.domain.order import CANCELLED, FILLED, Fill, OrderReport, OrderRequest
from worker.domain.position import Position

#: Digits that an amount a person states may have on each side of the point.
MAX_DIGITS: Final = 18


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

    def __post_init__(self) -> None:
        """Refuse amounts that no trade can have: the verdict may come from anybody.

        Raises:
            ValueError: an amount is below 0, no number, or has too many digits; or something traded
                at no price.
        """
        _check_amounts(self.filled, self.price, self.fee)
        if self.filled and not self.price:
            raise ValueError("what traded has a price")

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


class Correction(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An operator's statement of what the account really holds, which a worker puts in the book.

    ``quantity`` base units (0 for nothing) are held; what differs from the book traded at
    ``price`` (quote units). ``actor`` and ``reason`` are kept for the record.
    """

    exchange: str
    symbol: str
    quantity: Decimal
    price: Decimal
    actor: str
    reason: str

    def __post_init__(self) -> None:
        """Refuse amounts that no position and no price can be: the request may come from anybody.

        Raises:
            ValueError: the quantity is below 0, the price is not above 0, or one has too many
                digits.
        """
        _check_amounts(self.quantity, self.price)
        if not self.price:
            raise ValueError("a price is more than 0")


class CorrectionRequest(Correction, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A correction as a worker is asked for it, of the position that its author saw.

    That was the position ``position_id``, and ``seen_quantity`` base units of it were held. Nobody
    waits for the answer after ``valid_until_ms`` (Redis time, Unix milliseconds).
    """

    position_id: str
    seen_quantity: Decimal
    valid_until_ms: int

    def __post_init__(self) -> None:
        """Refuse what :class:`Correction` refuses, and a seen quantity that is no amount.

        Raises:
            ValueError: one of them is not what it should be.
        """
        Correction.__post_init__(self)
        _check_amounts(self.seen_quantity)


class CorrectionAnswer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A worker's answer to a correction: the position before and after, or why there is none."""

    refusal: str = ""
    before: Position | None = None
    after: Position | None = None


def _check_amounts(*numbers: Decimal) -> None:
    """Check that each is finite, 0 or more, and not longer than amounts are.

    Raises:
        ValueError: one is not.
    """
    for number in numbers:
        if not number.is_finite() or number < 0 or number.adjusted() >= MAX_DIGITS:
            raise ValueError(f"{number} is not an amount of 0 or more")
        if int(number.as_tuple().exponent) < -MAX_DIGITS:
            raise ValueError(f"{number} has more than {MAX_DIGITS} decimal places")
