"""Builders of the events about an order, from the request and what its exchange reports."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Final

from worker.domain.event import (
    OrderCancelled,
    OrderFacts,
    OrderFailed,
    OrderFilled,
    OrderPartiallyFilled,
    SignalCompleted,
)
from worker.domain.fees import leading_currency
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
    Role,
)
from worker.domain.refusal import CancelCode, Code, Refusal
from worker.domain.signal import FOK, IOC, MARKET, Action

#: The ``reason`` of an ended order whose exchange states none.
_DEFAULT_REASON: Final = {
    CancelCode.NOT_FILLED_IN_TIME: "not filled in the time allowed",
    CancelCode.GOOD_TILL: "not filled by its good_till",
    CancelCode.EXPIRED: "it expired at the exchange before it had filled",
    CancelCode.REQUESTED: "cancelled as asked",
    CancelCode.HALTED: "the account was halted before it had filled",
    CancelCode.REDUCING: "the account was set to reduce positions before it had filled",
    CancelCode.CLOSED: "cancelled by a close of its symbol",
    CancelCode.BY_EXCHANGE: "the exchange ended it: nothing to trade against, or its time was up",
    CancelCode.SIBLING_FILLED: "the other order of the pair has filled",
    CancelCode.OTHER: "cancelled; who asked for that is not known",
}
#: The code of a close that ended in part because one of its later orders was refused.
_CODE_OF_REFUSAL: Final = {
    Code.TRADING_HALTED: CancelCode.HALTED,
    Code.TRADING_REDUCING: CancelCode.REDUCING,
    Code.SIGNAL_EXPIRED: CancelCode.EXPIRED,
    Code.ORDER_REJECTED: CancelCode.BY_EXCHANGE,
    Code.INSUFFICIENT_BALANCE: CancelCode.BY_EXCHANGE,
    Code.CREDENTIALS_REFUSED: CancelCode.BY_EXCHANGE,
}
_IMMEDIATE: Final = frozenset({IOC, FOK})


def facts(
    request: OrderRequest, report: OrderReport, attempts: int, parent: str | None = None
) -> OrderFacts:
    """Build what every event of a placed order says of it.

    Args:
        request: the order as it was sent.
        report: the exchange's.
        attempts: how often the order was sent.
        parent: client order id of the order that it is part of; None if it is whole.
    """
    return OrderFacts(
        client_order_id=request.client_order_id,
        exchange_order_id=report.exchange_order_id,
        role=request.role,
        side=request.side,
        order_type=request.order_type,
        quantity=text(request.quantity),
        price=maybe_text(request.price),
        attempts=attempts,
        parent=parent,
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
    code: CancelCode,
    reason: str,
) -> OrderCancelled:
    """Build `OrderCancelled` for an order that ended before all of it had traded.

    Args:
        quantity: traded all the same, base units.
        average: mean price of the fills, quote units; None without fills.
        fees: by currency.
        quote: the market's quote currency.
        code: why, see :func:`cancel_code`.
        reason: why, in a sentence; see :func:`why_ended`.
    """
    currency, amounts = leading_currency(fees, quote), _texts(fees)
    return OrderCancelled(
        filled_quantity=quantity,
        average_price=average,
        fee=amounts.get(currency, "0"),
        fee_currency=currency,
        fees=amounts,
        code=code,
        reason=reason,
    )


def cancel_code(
    report: OrderReport, request: OrderRequest, asked: CancelCode | None, *, is_ours: bool
) -> CancelCode:
    """Return why an order ended before all of it had traded, by the evidence there is.

    Args:
        report: the exchange's last report.
        request: the order as it was sent.
        asked: why this worker asked for its cancellation; None if it did not.
        is_ours: no other delivery, and no person, can have had a hand in it.
    """
    if not report.exchange_order_id:  # a person's word, where the exchange does not tell
        return CancelCode.OTHER
    rests = request.order_type is not MARKET and request.time_in_force not in _IMMEDIATE
    if report.state is OrderState.EXPIRED:
        return CancelCode.EXPIRED if rests and not request.post_only else CancelCode.BY_EXCHANGE
    if report.state is not CANCELLED:
        return CancelCode.BY_EXCHANGE
    if asked is not None:
        return asked
    return CancelCode.BY_EXCHANGE if is_ours or not rests else CancelCode.OTHER


def code_of_refusal(code: Code) -> CancelCode:
    """Return why a close ended in part whose next order was refused."""
    return _CODE_OF_REFUSAL.get(code, CancelCode.OTHER)


def why_ended(
    report: OrderReport,
    request: OrderRequest,
    traded: Decimal,
    note: str,
    code: CancelCode,
    *,
    is_cut: bool,
) -> str:
    """Return why an order ended before all of it had traded, in a sentence.

    Args:
        report: the exchange's last report: its own reason, if it states one.
        request: the order as it was sent.
        traded: base units.
        note: a further sentence, empty for none.
        code: why, see :func:`cancel_code`.
        is_cut: the exchange cut it to what was left of the position, whatever it calls that.
    """
    reason = report.reason or _DEFAULT_REASON[code]
    if not report.reason:
        if is_cut or report.state is OrderState.FILLED:
            reason = f"the exchange cut it short: {text(traded)} of {text(request.quantity)} traded"
        elif report.state is OrderState.REJECTED:
            reason = "the exchange rejected what was left of it"
        elif request.post_only and not traded and code is CancelCode.BY_EXCHANGE:
            reason = "the exchange ended it: it would have traded at once, which post_only forbids"
    return f"{reason}; {note}" if note else reason


def failed(refusal: Refusal, client_order_id: str, role: Role) -> OrderFailed:
    """Build `OrderFailed`; it names the order only if the order was ever sent."""
    return OrderFailed(
        stage=refusal.stage,
        code=refusal.code,
        reason=refusal.reason,
        retriable=refusal.code.retriable,
        attempts=refusal.attempts,
        client_order_id=client_order_id if refusal.attempts else None,
        exchange_order_id=refusal.exchange_order_id,
        role=role,
    )


def completed(action: Action, result: str, target: str | None = None) -> SignalCompleted:
    """Build `SignalCompleted`.

    Args:
        action: of the signal.
        result: what came of it, in a sentence.
        target: the signal it was about, None for none.
    """
    return SignalCompleted(action=action, result=result, target=target)


def _texts(fees: Mapping[str, Decimal]) -> dict[str, str]:
    return {currency: rounded_text(fee) for currency, fee in fees.items()}


def further(
    filled: Decimal,
    average: Decimal | None,
    told: tuple[Decimal, Decimal | None],
) -> OrderPartiallyFilled | None:
    """Build the `OrderPartiallyFilled` of an order that rests, if it has filled further.

    Args:
        filled: traded so far, base units.
        average: mean price of that, quote units.
        told: the same two as events have told them already.
    """
    told_filled, told_average = told
    if filled <= told_filled or average is None:
        return None
    last = filled - told_filled
    return OrderPartiallyFilled(
        last_quantity=text(last),
        last_price=rounded_text(
            ratio(filled * average - told_filled * (told_average or ZERO), last)
        ),
        filled_quantity=text(filled),
        average_price=rounded_text(average),
    )
