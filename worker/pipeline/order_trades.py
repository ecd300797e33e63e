"""An order's trades: those of its report, those a person decided on, or an estimate."""

from worker.domain.fees import estimated_fee
from worker.domain.money import ZERO, text
from worker.domain.order import Fill, OrderReport, total_quantity
from worker.domain.plausibility import ImplausibleError, check_mean
from worker.pipeline.flow import AdmittedOrder


def reported_fills(report: OrderReport) -> tuple[Fill, ...] | None:
    """Return the order's trades where the report has all of them, at the price it states."""
    filled, fills = report.filled_quantity, report.fills
    if not filled:
        return ()
    if len(fills) == 1 and fills[0].quantity == filled and fills[0].price == report.average_price:
        return fills  # one trade that is what the report says needs no arithmetic
    return None if mismatch(fills, report) else fills


def mismatch(fills: tuple[Fill, ...], report: OrderReport) -> str:
    """Return how trades differ from what the order's report says; empty if they do not."""
    traded = total_quantity(fills)
    if traded != report.filled_quantity:
        return f"the trades are {text(traded)} in all, filled is {text(report.filled_quantity)}"
    try:
        check_mean(fills, report)
    except ImplausibleError as error:
        return str(error)
    return ""


def decided_fills(order: AdmittedOrder, report: OrderReport) -> tuple[Fill, ...] | None:
    """Return the trades a person decided on, if they add up to the exchange's filled quantity."""
    verdict = order.verdict
    if verdict is None or verdict.filled != report.filled_quantity:
        return None
    return verdict.report(order.request).fills


def estimate(order: AdmittedOrder, report: OrderReport) -> Fill:
    """Build one fill for the whole order, where ``reconciliation.verify_fill`` is off."""
    quantity, price = report.filled_quantity, report.average_price or ZERO
    fee, currency = estimated_fee(quantity, price, order.request.side, order.info)
    return Fill(
        trade_id=report.exchange_order_id or report.client_order_id,
        quantity=quantity,
        price=price,
        fee=fee,
        fee_currency=currency,
    )
