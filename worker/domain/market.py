"""What an exchange tells about its markets, prices and balances, in exchange-neutral form."""

from decimal import Decimal
from enum import StrEnum

import msgspec

from worker.domain.money import ZERO
from worker.domain.signal import Direction


class MarketKind(StrEnum):
    """The kinds of market this project trades."""

    SPOT = "spot"
    LINEAR = "linear"


class SymbolInfo(msgspec.Struct, kw_only=True, frozen=True):
    """One market's rules. Quantities are in base units, prices and notionals in quote units.

    A zero step, minimum or maximum means the exchange states no such rule. ``contract_size`` is
    base units a contract; the adapter converts, nobody above it sees contracts.
    """

    symbol: str
    base: str
    quote: str
    settle: str
    kind: MarketKind = MarketKind.SPOT
    active: bool = True
    shortable: bool = False
    price_tick: Decimal = ZERO
    quantity_step: Decimal = ZERO
    min_quantity: Decimal = ZERO
    max_quantity: Decimal = ZERO
    min_notional: Decimal = ZERO
    contract_size: Decimal = Decimal(1)
    taker_fee: Decimal = ZERO
    maker_fee: Decimal = ZERO


class Ticker(msgspec.Struct, kw_only=True, frozen=True):
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
