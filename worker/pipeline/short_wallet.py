"""Sales of spot positions whose wallet holds a little less than the book."""

from decimal import Decimal

import msgspec

from worker.domain.market import SPOT
from worker.domain.money import ZERO, floor_to, rounded_text, text
from worker.domain.order import FILLED, SELL, OrderReport
from worker.domain.position import WALLET_TOLERANCE, Position
from worker.exchanges.budget.classes import RequestClass, asking
from worker.exchanges.errors import ExchangeError, InsufficientBalanceError
from worker.exchanges.ports import ExchangeAdapter
from worker.pipeline.flow import AdmittedOrder
from worker.runtime.logger import get_logger

log = get_logger()


def sells_coins(order: AdmittedOrder) -> bool:
    """Return whether the order sells what a spot position holds."""
    request = order.request
    return request.reduce_only and request.side is SELL and order.info.kind is SPOT


async def cut_to_wallet(
    adapter: ExchangeAdapter, order: AdmittedOrder, error: ExchangeError
) -> AdmittedOrder | ExchangeError:
    """Cut a sale that was refused for want of coins to what the wallet has.

    Args:
        adapter: the exchange.
        order: a close of a spot position, refused for its balance.
        error: the refusal.

    Returns:
        The order for what is free, where at most ``WALLET_TOLERANCE`` of it is not there; its
        ``missing`` is what the position then loses without a trade. Else the error the signal ends
        with, which says what the wallet and the book have.
    """
    info, position, wanted = order.info, order.position, order.request.quantity
    if position is None or order.missing:
        return error
    try:
        with asking(RequestClass.CLOSING):
            wallet = (await adapter.get_balance(info.kind)).get(info.base)
    except ExchangeError as problem:
        log.warning("wallet_lookup_failed", exchange=adapter.name, error=str(problem))
        return error
    free, total = (wallet.free, wallet.total) if wallet is not None else (ZERO, ZERO)
    quantity = floor_to(min(free, wanted), info.quantity_step)
    if quantity == wanted:
        return error  # the coins are there: something else is wrong
    if quantity <= 0 or free < wanted * (1 - WALLET_TOLERANCE):
        return InsufficientBalanceError(
            f"{error}; the wallet has {text(free)} {info.base} free of {text(total)}, the book has "
            f"{rounded_text(position.quantity)}: cancel what holds the coins, or tell the book "
            "what is really held with execution-worker correct",
            outcome=error.outcome,
            code=error.code,
        )
    missing = _within(position.quantity - total, position)
    log.warning(
        "close_cut_to_wallet",
        client_order_id=order.request.client_order_id,
        exchange=adapter.name,
        ordered=text(wanted),
        sent=text(quantity),
        missing=text(missing),
    )
    request = msgspec.structs.replace(order.request, quantity=quantity)
    return msgspec.structs.replace(order, request=request, missing=missing)


def as_it_was_cut(order: AdmittedOrder, report: OrderReport) -> AdmittedOrder:
    """Return a sale as an earlier delivery cut it, where the exchange's report shows that it did.

    Nothing else makes an exchange call a sale of coins filled that is smaller than ordered.
    """
    position, filled = order.position, report.filled_quantity
    if position is None or report.state is not FILLED or not sells_coins(order):
        return order
    wanted = order.request.quantity
    if filled >= wanted or filled < wanted * (1 - WALLET_TOLERANCE) - order.info.quantity_step:
        return order
    request = msgspec.structs.replace(order.request, quantity=filled)
    missing = _within(position.quantity - filled, position)
    return msgspec.structs.replace(order, request=request, missing=missing)


def _within(missing: Decimal, position: Position) -> Decimal:
    """Return what is missing of a position, 0 where it is more than the tolerance."""
    return missing if ZERO < missing <= position.quantity * WALLET_TOLERANCE else ZERO
