"""The last guard before the wire: quantities and prices on the market's grid, or no order."""

from collections.abc import Callable
from decimal import Decimal

import msgspec

from worker.domain.market import SymbolInfo
from worker.domain.money import ceil_to, floor_to, ratio, text, tidy
from worker.domain.order import OrderRequest, Side
from worker.exchanges.ccxt.outcomes import LocalRefusalError


class WireOrder(msgspec.Struct, frozen=True):
    """An order as ccxt takes it: decimal strings, ``amount`` in contracts where there are any.

    ``price`` is None unless the order's kind has one: with a price some exchanges take a market
    order's amount for quote units.
    """

    kind: str
    amount: str
    price: str | None
    stop_price: str | None


def wire_order(request: OrderRequest, info: SymbolInfo) -> WireOrder:
    """Put ``request`` on the grid of ``info``: never more quantity, never a worse price.

    The caller has rounded already, so this changes nothing unless the market's rules moved.

    Raises:
        LocalRefusalError: if a price is missing, or nothing is left of the quantity or a price.
    """
    kind = request.order_type
    towards_safety = floor_to if request.side is Side.BUY else ceil_to
    quantity = floor_to(request.quantity, info.quantity_step)
    if quantity <= 0:
        raise LocalRefusalError(
            f"quantity {request.quantity} is less than one step of {info.quantity_step}"
        )
    return WireOrder(
        kind="limit" if kind.needs_price else "market",
        amount=text(ratio(quantity, info.contract_size)),
        price=_price(request.price, info, towards_safety, "price") if kind.needs_price else None,
        stop_price=_price(request.stop_price, info, towards_safety, "stop price")
        if kind.needs_stop_price
        else None,
    )


def _price(
    price: Decimal | None,
    info: SymbolInfo,
    towards_safety: Callable[[Decimal, Decimal], Decimal],
    name: str,
) -> str:
    if price is None:
        raise LocalRefusalError(f"this kind of order needs a {name}")
    rounded = towards_safety(price, info.price_tick)
    if rounded <= 0:
        raise LocalRefusalError(f"{name} {price} is less than one tick of {info.price_tick}")
    return text(tidy(rounded))
