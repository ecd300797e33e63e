"""What Binance refuses before the matching engine sees an order: filters, precision, ids."""

import re
from decimal import Decimal

from tests.exchange_simulator import errors
from tests.exchange_simulator.errors import ApiError
from tests.exchange_simulator.markets import Market, plain_digits
from tests.exchange_simulator.orders import Order

_CLIENT_ID = re.compile(r"^[A-Za-z0-9._:/-]{1,36}$")


def check_client_id(client_id: str, name: str, *, futures: bool) -> None:
    """Refuse an id outside ``[A-Za-z0-9._:/-]{1,36}``: -4015 on futures, -1100 on spot."""
    if _CLIENT_ID.match(client_id):
        return
    if futures:
        raise ApiError(-4015, "Client order id is not valid.")
    raise ApiError(
        -1100,
        f"Illegal characters found in parameter '{name}'; "
        "legal range is '^[a-zA-Z0-9-_.:/]{1,36}$'.",
    )


def check_spot(order: Order) -> None:
    """Apply a spot symbol's filters to ``order`` (quantity already derived)."""
    market = order.market
    for name, value in (
        ("quantity", order.quantity),
        ("price", order.price),
        ("stopPrice", order.stop_price),
    ):
        if plain_digits(value) > max(8, plain_digits(market.tick)):
            raise ApiError(-1111, f"Parameter '{name}' has too much precision.")
    least = max(market.step, market.min_quantity)
    if order.quantity < least or order.quantity > market.max_quantity:
        raise errors.filter_failure("LOT_SIZE")
    if order.quantity % market.step:
        raise errors.filter_failure("LOT_SIZE")
    if _is_over_market_lot(order):
        raise errors.filter_failure("MARKET_LOT_SIZE")
    for price in (order.price, order.stop_price):
        if price < 0 or price % market.tick:
            raise errors.filter_failure("PRICE_FILTER")
    if order.price and not _near(order.price, market):
        raise errors.filter_failure("PERCENT_PRICE_BY_SIDE")
    if _notional(order) < market.min_notional:
        raise errors.filter_failure("NOTIONAL")


def check_futures(order: Order) -> None:
    """Apply a contract's filters to ``order``."""
    market = order.market
    if not order.close_position:
        if order.quantity <= 0 or order.quantity < market.min_quantity:
            raise ApiError(-4003, "Quantity less than or equal to zero.")
        if order.quantity % market.step:
            raise ApiError(-1111, "Precision is over the maximum defined for this asset.")
        if order.quantity > market.max_quantity or _is_over_market_lot(order):
            raise ApiError(-4005, "Quantity greater than max quantity.")
    for price in (order.price, order.stop_price):
        if price < 0:
            raise ApiError(-4001, "Price less than 0.")
        if plain_digits(price) > plain_digits(market.tick):
            raise ApiError(-1111, "Precision is over the maximum defined for this asset.")
        if price % market.tick:
            raise ApiError(-4014, "Price not increased by tick size.")
    if order.price and not order.stop_price and not _near(order.price, market):
        high = order.price > market.last
        limit = market.last * (market.up if high else market.down)
        word = "higher" if high else "lower"
        raise ApiError(-4016 if high else -4024, f"Limit price can't be {word} than {limit}.")
    if order.reduce_only or order.close_position:
        return
    if _notional(order) < market.min_notional:
        raise ApiError(
            -4164,
            f"Order's notional must be no smaller than {market.min_notional} "
            "(unless you choose reduce only).",
        )


def _is_over_market_lot(order: Order) -> bool:
    largest = order.market.max_market_quantity
    return bool(largest) and not order.price and order.quantity > largest


def _near(price: Decimal, market: Market) -> bool:
    return market.last * market.down <= price <= market.last * market.up


def _notional(order: Order) -> Decimal:
    return order.quantity * (order.price or order.stop_price or order.market.last)
