"""Fees and what they do to a position: sums by currency, value in quote, base units taken off."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Final

from worker.domain.market import SPOT, SymbolInfo
from worker.domain.money import ZERO, floor_to, ratio, tidy
from worker.domain.order import BUY, Fill, Side
from worker.domain.signal import LONG, Direction

NO_FEES: Final[Mapping[str, Decimal]] = {}

#: Fees as (currency, amount), the first one the fill's own ``fee``.
FeeList = list[tuple[str, Decimal]]


def total_fees(
    fills: tuple[Fill, ...], before: Mapping[str, Decimal] = NO_FEES
) -> dict[str, Decimal]:
    """Sum fees by currency, zero ones left out, on top of those paid ``before``."""
    fees = {**before}
    for fill in fills:
        if fill.fee:
            fees[fill.fee_currency] = fees.get(fill.fee_currency, ZERO) + fill.fee
        for currency, fee in fill.more_fees:
            if fee:
                fees[currency] = fees.get(currency, ZERO) + fee
    return fees


def fee_in_quote(fill: Fill, info: SymbolInfo) -> Decimal:
    """Sum the fees of one fill in quote units.

    Fees in the quote currency count as they are, fees in the base currency at the fill's own price;
    any other currency counts as zero, for the fill holds no price of it.
    """
    total = _in_quote(fill.fee_currency, fill.fee, fill.price, info)
    for currency, fee in fill.more_fees:
        total += _in_quote(currency, fee, fill.price, info)
    return total


def fees_in_quote(fills: tuple[Fill, ...], info: SymbolInfo) -> Decimal:
    """Sum the fees of several fills in quote units, each as :func:`fee_in_quote` does."""
    if len(fills) == 1:  # nearly always
        return fee_in_quote(fills[0], info)
    return sum((fee_in_quote(fill, info) for fill in fills), ZERO)


def _in_quote(currency: str, fee: Decimal, price: Decimal, info: SymbolInfo) -> Decimal:
    if currency == info.quote:
        return fee
    return fee * price if currency == info.base else ZERO


def coins_taken(
    fills: tuple[Fill, ...], direction: Direction, info: SymbolInfo
) -> tuple[Decimal, Decimal]:
    """Return how many base units the fills' fees took out of the coins that a position holds.

    On spot a fee in the base currency comes out of the coins that were bought, or out of those
    that are left after a sale; a rebate adds to them. A short position holds no coins, and
    derivatives are no coins at all: no fee changes their quantity, whatever it is paid in.

    Args:
        fills: of one order.
        direction: of the position.
        info: the market's rules.

    Returns:
        The base units, and what they were worth at the prices of their fills, quote units.
    """
    coins = value = ZERO
    if info.kind is not SPOT or direction is not LONG:
        return coins, value
    base = info.base
    for fill in fills:
        if fill.fee_currency == base:
            coins += fill.fee
            value += fill.fee * fill.price
        for currency, fee in fill.more_fees:
            if currency == base:
                coins += fee
                value += fee * fill.price
    return coins, value


def sellable_after_fee(quantity: Decimal, info: SymbolInfo) -> Decimal:
    """Return how many base units of a spot purchase can be sold again, on the market's grid.

    Assumes that the market's taker fee comes out of what was bought.
    """
    return floor_to(quantity * (1 - info.taker_fee), info.quantity_step)


def estimated_fee(
    quantity: Decimal, price: Decimal, side: Side, info: SymbolInfo
) -> tuple[Decimal, str]:
    """Estimate the taker fee of a trade whose exchange did not report one.

    A spot purchase pays it out of what was bought, so that no more is sold later than was received;
    everything else pays it in the quote currency.

    Args:
        quantity: base units traded.
        price: their mean price, quote units.
        side: of the order.
        info: the market's rules, ``taker_fee`` a fraction.

    Returns:
        The fee, and its currency.
    """
    fee = quantity * info.taker_fee
    if info.kind is SPOT and side is BUY:
        return tidy(fee), info.base
    return tidy(fee * price), info.quote


def split_fees(fill: Fill, part: Decimal) -> tuple[FeeList, FeeList]:
    """Split the fill's fees between its first ``part`` base units and what is left of it.

    Returns:
        The part's share of each fee, and the rest; together they are exactly the fill's fees.
    """
    taken: FeeList = []
    left: FeeList = []
    for currency, fee in fill.fees:
        share = ratio(fee * part, fill.quantity)
        taken.append((currency, share))
        left.append((currency, fee - share))
    return taken, left


def leading_currency(fees: Mapping[str, Decimal], quote: str) -> str:
    """Return the currency whose fee an event states as ``fee`` and ``fee_currency``.

    The quote currency if a fee was paid in it, or if none was paid at all; else the first one paid.
    """
    return quote if quote in fees or not fees else next(iter(fees))
