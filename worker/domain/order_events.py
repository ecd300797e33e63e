"""What is said of an order when it is placed, trades, ends or fails."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Final

from worker.domain.event import (
    OrderCancelled,
    OrderFailed,
    OrderFilled,
    OrderPartiallyFilled,
    OrderPlaced,
    maybe_text,
)
from worker.domain.money import ZERO, ratio, text
from worker.domain.order import (
    CANCELLED,
    Fill,
    OrderReport,
    OrderRequest,
    OrderState,
)
from worker.domain.refusal import Refusal

#: Why an order ended, where its exchange does not say.
_UNSAID: Final = {
    CANCELLED: "not filled in the time allowed",
    OrderState.EXPIRED: "the exchange ended it: nothing to trade against, or its time was up",
    OrderState.REJECTED: "the exchange rejected what was left of it",
}


def placed(request: OrderRequest, report: OrderReport, attempts: int) -> OrderPlaced:
    """The exchange has it."""
    return OrderPlaced(
        client_order_id=request.client_order_id,
        exchange_order_id=report.exchange_order_id,
        role=request.role,
        side=request.side,
        order_type=request.order_type,
        quantity=text(request.quantity),
        price=maybe_text(request.price),
        attempts=attempts,
    )


def partly_filled(fills: tuple[Fill, ...]) -> list[OrderPartiallyFilled]:
    """Each of ``fills``, with what had traded by then."""
    quantity = value = ZERO
    told = []
    for fill in fills:
        quantity += fill.quantity
        value += fill.quantity * fill.price
        told.append(
            OrderPartiallyFilled(
                last_quantity=text(fill.quantity),
                last_price=text(fill.price),
                filled_quantity=text(quantity),
                average_price=text(ratio(value, quantity)),
            )
        )
    return told


def filled(
    quantity: str,
    average: str | None,
    fees: Mapping[str, Decimal],
    quote: str,
    *,
    slippage_bps: Decimal | None,
    slippage_exceeded: bool,
    latency_ms: int,
) -> OrderFilled:
    """All of it has traded: how much, at which price, with which fees by currency."""
    currency, told = _fees(fees, quote)
    return OrderFilled(
        filled_quantity=quantity,
        average_price=average or "0",
        fee=told.get(currency, "0"),
        fee_currency=currency,
        fees=told,
        slippage_bps=maybe_text(slippage_bps),
        slippage_exceeded=slippage_exceeded,
        latency_ms=latency_ms,
    )


def cancelled(
    quantity: str,
    average: str | None,
    fees: Mapping[str, Decimal],
    quote: str,
    report: OrderReport,
) -> OrderCancelled:
    """It ended before all of it had traded."""
    currency, told = _fees(fees, quote)
    return OrderCancelled(
        filled_quantity=quantity,
        average_price=average,
        fee=told.get(currency, "0"),
        fee_currency=currency,
        fees=told,
        reason=report.reason or _UNSAID.get(report.state, str(report.state)),
    )


def failed(refusal: Refusal, client_order_id: str) -> OrderFailed:
    """There is none; its id is told where it has been tried."""
    return OrderFailed(
        stage=refusal.stage,
        code=refusal.code,
        reason=refusal.reason,
        retriable=refusal.code.retriable,
        attempts=refusal.attempts,
        client_order_id=client_order_id if refusal.attempts else None,
        exchange_order_id=refusal.exchange_order_id,
    )


def _fees(fees: Mapping[str, Decimal], quote: str) -> tuple[str, dict[str, str]]:
    """The currency whose fee is told first, and every fee."""
    currency = quote if quote in fees or not fees else next(iter(fees))
    return currency, {name: text(amount) for name, amount in fees.items()}
