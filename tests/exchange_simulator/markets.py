"""The simulator's symbols: filters, prices, and the two exchangeInfo documents.

Spot and futures share a symbol name (``BTCUSDT``) but are separate markets with separate prices.
"""

import random
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Any, Literal

Venue = Literal["spot", "futures"]

#: base, price, spot tick, spot step, futures tick, futures step (None: no such contract)
_DEFAULTS: tuple[tuple[str, str, str, str, str, str], ...] = (
    ("BTC", "60000", "0.01", "0.00001", "0.1", "0.001"),
    ("ETH", "3000", "0.01", "0.0001", "0.01", "0.001"),
    ("BNB", "600", "0.01", "0.001", "0.01", "0.01"),
    ("SOL", "150", "0.01", "0.001", "0.01", "0.01"),
    ("XRP", "0.5", "0.0001", "0.1", "0.0001", "0.1"),
    ("ADA", "0.4", "0.0001", "0.1", "0.0001", "1"),
    ("DOGE", "0.12", "0.00001", "1", "0.00001", "1"),
    ("LTC", "80", "0.01", "0.001", "0.01", "0.001"),
    ("LINK", "14", "0.01", "0.01", "0.001", "0.01"),
    ("AVAX", "28", "0.01", "0.01", "0.001", "1"),
    ("DOT", "6", "0.001", "0.01", "0.001", "0.1"),
    ("ATOM", "7", "0.001", "0.01", "0.001", "0.01"),
)
_SPOT_TYPES = [
    "LIMIT",
    "LIMIT_MAKER",
    "MARKET",
    "STOP_LOSS",
    "STOP_LOSS_LIMIT",
    "TAKE_PROFIT",
    "TAKE_PROFIT_LIMIT",
]
_FUTURES_TYPES = [
    "LIMIT",
    "MARKET",
    "STOP",
    "STOP_MARKET",
    "TAKE_PROFIT",
    "TAKE_PROFIT_MARKET",
    "TRAILING_STOP_MARKET",
]
_PERPETUAL_DELIVERY_MS = 4133404800000
_TEN_BPS = Decimal("0.0001")


@dataclass(slots=True)
class Market:
    """One tradable symbol of one venue, with its filters and its current quote.

    Prices and sizes are Decimal; ``tick`` and ``step`` are the price and quantity increments.
    """

    venue: Venue
    symbol: str
    base: str
    quote: str
    tick: Decimal
    step: Decimal
    min_notional: Decimal
    max_quantity: Decimal
    bid: Decimal = Decimal(0)
    ask: Decimal = Decimal(0)
    last: Decimal = Decimal(0)
    min_quantity: Decimal = Decimal(0)
    #: base units of one contract, on exchanges whose perpetuals are ordered in contracts
    contract: Decimal = Decimal(1)
    #: where fees come from: ``""`` as the exchange usually does, ``quote``, ``base``, or a coin
    fee_in: str = ""
    #: price of that coin in quote units
    fee_price: Decimal = Decimal(1)
    #: into how many trades a fill is split; 0 as the engine does it
    fills: int = 0
    #: empty while the market trades, else the exchange's own word for its state
    halted: str = ""
    #: a limit price may deviate from the last price by these factors (PERCENT_PRICE)
    up: Decimal = Decimal(5)
    down: Decimal = Decimal("0.2")
    #: the largest market order, 0 for that of any order (MARKET_LOT_SIZE)
    max_market_quantity: Decimal = Decimal(0)

    @property
    def price_digits(self) -> int:
        """Decimals of a price on the wire."""
        return 8 if self.venue == "spot" else plain_digits(self.tick)

    @property
    def quantity_digits(self) -> int:
        """Decimals of a quantity on the wire."""
        return 8 if self.venue == "spot" else plain_digits(self.step)

    def set_quote(
        self,
        price: Decimal | None,
        spread_bps: Decimal,
        bid: Decimal | None = None,
        ask: Decimal | None = None,
    ) -> None:
        """Set the quote from a middle price and a spread, or from bid and ask as given.

        The last price, which stops trigger on, is ``price``, else the middle of the quote.
        """
        if price is not None:
            half = price * spread_bps * _TEN_BPS / 2
            self.bid = max(floor_to(price - half, self.tick), self.tick)
            self.ask = max(ceil_to(price + half, self.tick), self.bid)
        self.bid = bid if bid is not None else self.bid
        self.ask = ask if ask is not None else self.ask
        if not Decimal(0) < self.bid <= self.ask:
            raise ValueError(f"{self.symbol}: bid {self.bid} and ask {self.ask} make no quote")
        self.last = floor_to(price or (self.bid + self.ask) / 2, self.tick)

    def info(self) -> dict[str, Any]:
        """Return this symbol's entry of exchangeInfo."""
        return self._spot_info() if self.venue == "spot" else self._futures_info()

    def _spot_info(self) -> dict[str, Any]:
        least = self.min_quantity or self.step
        size = {"minQty": text(least, 8), "maxQty": text(self.max_quantity, 8)}
        return {
            "symbol": self.symbol,
            "status": self.halted or "TRADING",
            "baseAsset": self.base,
            "baseAssetPrecision": 8,
            "quoteAsset": self.quote,
            "quotePrecision": 8,
            "quoteAssetPrecision": 8,
            "baseCommissionPrecision": 8,
            "quoteCommissionPrecision": 8,
            "orderTypes": _SPOT_TYPES,
            "icebergAllowed": True,
            "ocoAllowed": True,
            "otoAllowed": True,
            "quoteOrderQtyMarketAllowed": True,
            "allowTrailingStop": True,
            "cancelReplaceAllowed": True,
            "isSpotTradingAllowed": True,
            "isMarginTradingAllowed": False,
            "filters": [
                {
                    "filterType": "PRICE_FILTER",
                    "minPrice": text(self.tick, 8),
                    "maxPrice": "1000000.00000000",
                    "tickSize": text(self.tick, 8),
                },
                {"filterType": "LOT_SIZE", **size, "stepSize": text(self.step, 8)},
                {"filterType": "ICEBERG_PARTS", "limit": 10},
                {
                    "filterType": "MARKET_LOT_SIZE",
                    "minQty": "0.00000000",
                    "maxQty": text(self.max_market_quantity or self.max_quantity, 8),
                    "stepSize": "0.00000000",
                },
                {
                    "filterType": "TRAILING_DELTA",
                    "minTrailingAboveDelta": 10,
                    "maxTrailingAboveDelta": 2000,
                    "minTrailingBelowDelta": 10,
                    "maxTrailingBelowDelta": 2000,
                },
                {
                    "filterType": "PERCENT_PRICE_BY_SIDE",
                    "bidMultiplierUp": str(self.up),
                    "bidMultiplierDown": str(self.down),
                    "askMultiplierUp": str(self.up),
                    "askMultiplierDown": str(self.down),
                    "avgPriceMins": 5,
                },
                {
                    "filterType": "NOTIONAL",
                    "minNotional": text(self.min_notional, 8),
                    "applyMinToMarket": True,
                    "maxNotional": "9000000.00000000",
                    "applyMaxToMarket": False,
                    "avgPriceMins": 5,
                },
                {"filterType": "MAX_NUM_ORDERS", "maxNumOrders": 200},
                {"filterType": "MAX_NUM_ALGO_ORDERS", "maxNumAlgoOrders": 5},
            ],
            "permissions": [],
            "permissionSets": [["SPOT"]],
            "defaultSelfTradePreventionMode": "EXPIRE_MAKER",
            "allowedSelfTradePreventionModes": ["NONE", "EXPIRE_MAKER"],
        }

    def _futures_info(self) -> dict[str, Any]:
        lot = {
            "minQty": str(self.min_quantity or self.step),
            "maxQty": str(self.max_quantity),
            "stepSize": str(self.step),
        }
        return {
            "symbol": self.symbol,
            "pair": self.symbol,
            "contractType": "PERPETUAL",
            "deliveryDate": _PERPETUAL_DELIVERY_MS,
            "onboardDate": 1569398400000,
            "status": self.halted or "TRADING",
            "maintMarginPercent": "2.5000",
            "requiredMarginPercent": "5.0000",
            "baseAsset": self.base,
            "quoteAsset": self.quote,
            "marginAsset": self.quote,
            "pricePrecision": plain_digits(self.tick),
            "quantityPrecision": plain_digits(self.step),
            "baseAssetPrecision": 8,
            "quotePrecision": 8,
            "underlyingType": "COIN",
            "triggerProtect": "0.0500",
            "liquidationFee": "0.012500",
            "marketTakeBound": "0.05",
            "filters": [
                {
                    "filterType": "PRICE_FILTER",
                    "minPrice": str(self.tick),
                    "maxPrice": "1000000",
                    "tickSize": str(self.tick),
                },
                {"filterType": "LOT_SIZE", **lot},
                {
                    "filterType": "MARKET_LOT_SIZE",
                    **lot,
                    "maxQty": str(self.max_market_quantity or self.max_quantity),
                },
                {"filterType": "MAX_NUM_ORDERS", "limit": 200},
                {"filterType": "MAX_NUM_ALGO_ORDERS", "limit": 100},
                {"filterType": "MIN_NOTIONAL", "notional": str(self.min_notional)},
                {
                    "filterType": "PERCENT_PRICE",
                    "multiplierUp": str(self.up),
                    "multiplierDown": str(self.down),
                    "multiplierDecimal": "4",
                },
            ],
            "orderTypes": _FUTURES_TYPES,
            "timeInForce": ["GTC", "IOC", "FOK", "GTX", "GTD"],
        }


def build_markets(generated: int, seed: int, spread_bps: Decimal) -> dict[Venue, dict[str, Market]]:
    """Return the default markets of both venues plus ``generated`` symbols C000USDT, C001USDT, ….

    Generated prices are drawn from ``seed``; the names are padded to at least three digits.
    """
    spot: dict[str, Market] = {}
    futures: dict[str, Market] = {}

    def add(base: str, price: Decimal, spot_inc: tuple[str, str], fut_inc: tuple[str, str]) -> None:
        symbol = f"{base}USDT"
        for venue, (tick, step), least, bucket in (
            ("spot", spot_inc, "5", spot),
            ("futures", fut_inc, "5", futures),
        ):
            market = Market(
                venue=venue,  # type: ignore[arg-type]  # a literal in both rows above
                symbol=symbol,
                base=base,
                quote="USDT",
                tick=Decimal(tick),
                step=Decimal(step),
                min_notional=Decimal(least),
                max_quantity=Decimal(9_000_000),
            )
            if venue == "futures":
                market.up, market.down = Decimal("1.5"), Decimal("0.5")
            market.set_quote(price, spread_bps)
            bucket[symbol] = market

    for name, start, spot_tick, spot_step, fut_tick, fut_step in _DEFAULTS:
        add(name, Decimal(start), (spot_tick, spot_step), (fut_tick, fut_step))
    rng = random.Random(f"{seed}:markets")
    width = max(3, len(str(max(generated - 1, 0))))
    for index in range(generated):
        price = Decimal(rng.randrange(1_000, 100_000)) / 100
        add(f"C{index:0{width}d}", price, ("0.01", "0.001"), ("0.01", "0.001"))
    return {"spot": spot, "futures": futures}


#: Announced where nothing is limited.
_ENOUGH = 1_000_000_000


def exchange_info(
    venue: Venue,
    markets: dict[str, Market],
    now_ms: int,
    weight_limit: int | None,
    order_limit: int | None,
) -> dict[str, Any]:
    """Return the exchangeInfo document of ``venue``; it announces the limits that are enforced."""
    limits = [
        {
            "rateLimitType": "REQUEST_WEIGHT",
            "interval": "MINUTE",
            "intervalNum": 1,
            "limit": _ENOUGH if weight_limit is None else weight_limit,
        },
        {
            "rateLimitType": "ORDERS",
            "interval": "SECOND",
            "intervalNum": 10,
            "limit": _ENOUGH if order_limit is None else order_limit,
        },
    ]
    return {
        "timezone": "UTC",
        "serverTime": now_ms,
        "rateLimits": limits,
        "exchangeFilters": [],
        "assets": []
        if venue == "spot"
        else [{"asset": "USDT", "marginAvailable": True, "autoAssetExchange": "-10000"}],
        "symbols": [market.info() for market in markets.values()],
    }


def floor_to(value: Decimal, increment: Decimal) -> Decimal:
    """Round ``value`` down to a multiple of ``increment``."""
    return (value / increment).to_integral_value(ROUND_FLOOR) * increment


def ceil_to(value: Decimal, increment: Decimal) -> Decimal:
    """Round ``value`` up to a multiple of ``increment``."""
    return (value / increment).to_integral_value(ROUND_CEILING) * increment


def plain_digits(value: Decimal) -> int:
    """Return the significant decimals of ``value``, trailing zeros not counted."""
    exponent = value.normalize().as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0


def text(value: Decimal, digits: int = 8) -> str:
    """Format without exponent, with ``digits`` decimals, as Binance does."""
    return f"{value:.{digits}f}"
