"""Markets, prices, balances and positions of an exchange, in exchange-neutral form."""

from decimal import Decimal
from enum import StrEnum

import msgspec

from worker.domain.money import ZERO, floor_to
from worker.domain.signal import Direction


class MarketKind(StrEnum):
    """The kind of a market: spot, or perpetual contracts settled in the quote currency."""

    SPOT = "spot"
    LINEAR = "linear"


#: Short names of members, for speed as in :mod:`worker.domain.signal`.
SPOT, LINEAR = MarketKind.SPOT, MarketKind.LINEAR


class SymbolInfo(msgspec.Struct, kw_only=True, frozen=True):
    """One market's rules; quantities in base units, prices and notionals in quote units.

    A zero step, minimum or maximum means the exchange states no such rule. ``contract_size`` is in
    base units; adapters convert contracts, so nothing above them counts in contracts. Market orders
    have maxima of their own on some exchanges, in base units (``max_market_quantity``) or in quote
    units (``max_market_notional``), beside ``max_quantity``, which holds for every order. Fees are
    fractions of the value traded. ``restriction`` says in words why the exchange does not trade the
    market now (``active`` is False) or takes only orders with a limit price (``limit_only``).
    """

    symbol: str
    base: str
    quote: str
    settle: str
    kind: MarketKind = SPOT
    active: bool = True
    limit_only: bool = False
    restriction: str = ""
    shortable: bool = False
    price_tick: Decimal = ZERO
    quantity_step: Decimal = ZERO
    min_quantity: Decimal = ZERO
    max_quantity: Decimal = ZERO
    max_market_quantity: Decimal = ZERO
    max_market_notional: Decimal = ZERO
    min_notional: Decimal = ZERO
    contract_size: Decimal = Decimal(1)
    taker_fee: Decimal = ZERO
    maker_fee: Decimal = ZERO


def largest_order(info: SymbolInfo, price: Decimal | None, *, at_market: bool) -> Decimal:
    """Return the largest quantity of one order, base units on the grid; 0 for no maximum.

    Args:
        info: the market's rules.
        price: at which a maximum in quote units is judged; None where no price is known.
        at_market: the order trades at the market's price, at once or when its trigger is reached.
    """
    largest = info.max_quantity
    if at_market:
        if most := info.max_market_quantity:
            largest = min(largest, most) if largest else most
        if price and info.max_market_notional:
            most = info.max_market_notional / price
            largest = min(largest, most) if largest else most
    return floor_to(largest, info.quantity_step) if largest else ZERO


def quote_currency(symbol: str) -> str:
    """Return the quote currency of a CCXT unified symbol.

    The form is ``BASE/QUOTE``, with ``:SETTLE`` after it for contracts (CCXT manual, "Contract
    Naming Conventions").

    Raises:
        ValueError: the symbol names no quote currency.
    """
    quote = symbol.partition("/")[2].partition(":")[0]
    if not quote:
        raise ValueError(f"{symbol} is not a market's symbol")
    return quote


class Ticker(msgspec.Struct, kw_only=True, frozen=True, gc=False):
    """The market's price at ``at_ms`` (local wall clock, Unix milliseconds)."""

    symbol: str
    bid: Decimal
    ask: Decimal
    last: Decimal
    at_ms: int


class Balance(msgspec.Struct, kw_only=True, frozen=True):
    """One currency's holdings."""

    free: Decimal
    total: Decimal


class ExchangePosition(msgspec.Struct, kw_only=True, frozen=True):
    """A position as the exchange reports it; ``quantity`` is positive, in base units."""

    symbol: str
    direction: Direction
    quantity: Decimal
    entry_price: Decimal
