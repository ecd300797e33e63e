"""Builders of the events about an order, from the request and what its exchange reports."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Final

from worker.domain.event import (
    OrderCancelled,
    OrderFailed,
    OrderFilled,
    OrderPartiallyFilled,
    OrderPlaced,
)
from worker.domain.event_text import EventText, encode
from worker.domain.fees import leading_currency
from worker.domain.identity import event_id
from worker.domain.money import (
    ZERO,
    maybe_rounded_text,
    maybe_text,
    ratio,
    rounded_text,
    text,
)
from worker.domain.order import (
    CANCELLED,
    Fill,
    OrderReport,
    OrderRequest,
    OrderState,
)
from worker.domain.refusal import Refusal

#: The ``reason`` of an ended order whose exchange states none.
_DEFAULT_REASON: Final = {
    CANCELLED: "not filled in the time allowed",
    OrderState.EXPIRED: "the exchange ended it: nothing to trade against, or its time was up",
    OrderState.REJECTED: "the exchange rejected what was left of it",
}


def placed(request: OrderRequest, report: OrderReport, attempts: int) -> OrderPlaced:
    """Build `OrderPlaced` from the request and the exchange's report.

    ``attempts`` counts how often the order was sent.
    """
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
    """Build one `OrderPartiallyFilled` a fill, each with the total up to and including it."""
    quantity = value = ZERO
    events = []
    for fill in fills:
        quantity += fill.quantity
        value += fill.quantity * fill.price
        events.append(
            OrderPartiallyFilled(
                last_quantity=text(fill.quantity),
                last_price=text(fill.price),
                filled_quantity=text(quantity),
                average_price=rounded_text(ratio(value, quantity)),
            )
        )
    return events


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
    """Build `OrderFilled`.

    Args:
        quantity: traded, base units.
        average: mean price of the fills, quote units; None is written as 0.
        fees: by currency.
        quote: the market's quote currency.
        slippage_bps: against the reference price, positive for worse; None without a reference.
        slippage_exceeded: whether that is above ``reconciliation.max_price_slippage_pct``.
        latency_ms: from the entry's arrival on the stream to the known fill.
    """
    currency, amounts = leading_currency(fees, quote), _texts(fees)
    return OrderFilled(
        filled_quantity=quantity,
        average_price=average or "0",
        fee=amounts.get(currency, "0"),
        fee_currency=currency,
        fees=amounts,
        slippage_bps=maybe_rounded_text(slippage_bps),
        slippage_exceeded=slippage_exceeded,
        latency_ms=latency_ms,
    )


def cancelled(
    quantity: str,
    average: str | None,
    fees: Mapping[str, Decimal],
    quote: str,
    reason: str,
) -> OrderCancelled:
    """Build `OrderCancelled` for an order that ended before all of it had traded.

    Args:
        quantity: traded all the same, base units.
        average: mean price of the fills, quote units; None without fills.
        fees: by currency.
        quote: the market's quote currency.
        reason: why, in a sentence; see :func:`why_ended`.
    """
    currency, amounts = leading_currency(fees, quote), _texts(fees)
    return OrderCancelled(
        filled_quantity=quantity,
        average_price=average,
        fee=amounts.get(currency, "0"),
        fee_currency=currency,
        fees=amounts,
        reason=reason,
    )


def why_ended(
    report: OrderReport, traded: Decimal, ordered: Decimal, note: str, *, is_cut: bool
) -> str:
    """Return why an order ended before all of it had traded, in a sentence.

    Args:
        report: the exchange's last report: its own reason, else its state in words.
        traded: base units.
        ordered: base units.
        note: a further sentence, empty for none.
        is_cut: the exchange cut it to what was left of the position, whatever it calls that.
    """
    reason = report.reason or _DEFAULT_REASON.get(report.state, str(report.state))
    if not report.reason and (is_cut or report.state is OrderState.FILLED):
        reason = f"the exchange cut it short: {text(traded)} of {text(ordered)} traded"
    return f"{reason}; {note}" if note else reason


def failed(refusal: Refusal, client_order_id: str) -> OrderFailed:
    """Build `OrderFailed`; it names the order only if the order was ever sent."""
    return OrderFailed(
        stage=refusal.stage,
        code=refusal.code,
        reason=refusal.reason,
        retriable=refusal.code.retriable,
        attempts=refusal.attempts,
        client_order_id=client_order_id if refusal.attempts else None,
        exchange_order_id=refusal.exchange_order_id,
    )


def _texts(fees: Mapping[str, Decimal]) -> dict[str, str]:
    return {currency: rounded_text(fee) for currency, fee in fees.items()}


def partials(client_id: str, fills: tuple[Fill, ...], facts: str) -> list[EventText]:
    """Build and encode an `OrderPartiallyFilled` for each of ``fills``.

    Args:
        client_id: of the order.
        fills: in the order in which they traded.
        facts: the parts that the order's events share, encoded.
    """
    return [
        encode(part, event_id(client_id, "partial", number), facts)
        for number, part in enumerate(partly_filled(fills), start=1)
    ]
