"""One API call as the endpoints see it, and the reading of its parameters."""

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any, Literal

from tests.exchange_simulator import errors
from tests.exchange_simulator.errors import ApiError
from tests.exchange_simulator.markets import Venue
from tests.exchange_simulator.matching import Engine
from tests.exchange_simulator.orders import ZERO, Conditions, Order, Side

_MAX_LIMIT = 1000


@dataclass(frozen=True, slots=True)
class Call:
    """Parameters, the engine, and what was imposed on the request."""

    engine: Engine
    params: dict[str, str]
    conditions: Conditions
    new_id: Callable[[], str]

    @property
    def now_ms(self) -> int:
        """The exchange's clock at processing."""
        return self.conditions.now_ms

    def text(self, name: str, default: str | None = None) -> str:
        """Return a parameter; -1102 when it is mandatory and absent."""
        value = self.params.get(name) or default
        if value is None:
            raise errors.missing(name)
        return value

    def integer(self, name: str) -> int | None:
        """Return an integer parameter, None when absent; -1100 when it is no number."""
        raw = self.params.get(name)
        if not raw:
            return None
        try:
            return int(raw)
        except ValueError:
            raise ApiError(
                -1100, f"Illegal characters found in parameter '{name}'; legal range is '^[0-9]*$'."
            ) from None

    def decimal(self, name: str, *, required: bool = False) -> Decimal:
        """Return a decimal parameter, zero when absent; -1100 when it is no plain number."""
        raw = self.params.get(name)
        if not raw:
            if required:
                raise errors.missing(name)
            return ZERO
        try:
            value = Decimal(raw)
        except InvalidOperation:
            value = Decimal("NaN")
        if not value.is_finite() or "e" in raw.lower():
            raise ApiError(
                -1100,
                f"Illegal characters found in parameter '{name}'; "
                "legal range is '^([0-9]{1,20})(\\.[0-9]{1,20})?$'.",
            )
        return value

    def flag(self, name: str) -> bool:
        """Return a boolean parameter, false when absent."""
        return self.params.get(name, "").lower() == "true"

    def side(self) -> Side:
        """Return BUY or SELL; -1117 for anything else."""
        value = self.text("side")
        if value == "BUY":
            return "BUY"
        if value == "SELL":
            return "SELL"
        raise ApiError(-1117, "Invalid side.")

    def existing(self, space: str, id_name: str, client_name: str, *, by_symbol: bool) -> Order:
        """Return the order a query or cancel names; -2013 when there is none."""
        symbol = ""
        if by_symbol:
            venue: Venue = "spot" if space == "spot" else "futures"
            symbol = self.engine.market(venue, self.text("symbol")).symbol
        order_id, client_id = self.integer(id_name), self.params.get(client_name, "")
        if order_id is None and not client_id:
            raise ApiError(
                -1102,
                f"Param '{client_name}' or '{id_name}' must be sent, but both were empty/null!",
            )
        order = self.engine.find(space, symbol, order_id, client_id)
        if order is None:
            raise errors.order_not_found()
        return order

    def visible(self, order: Order) -> Order:
        """Return the order unless it is still hidden from queries (-2013)."""
        if order.visible_ms > self.now_ms:
            raise errors.order_not_found()
        return order

    def page(self, orders: list[Order]) -> list[Order]:
        """Apply startTime, endTime, orderId and limit as allOrders does."""
        start = self.integer("startTime") or 0
        end = self.integer("endTime") or 1 << 62
        first = self.integer("orderId") or 0
        limit = min(self.integer("limit") or 500, _MAX_LIMIT)
        found = [
            order
            for order in orders
            if order.visible_ms <= self.now_ms
            and start <= order.accepted_ms <= end
            and order.order_id >= first
        ]
        return found[:limit] if first or start else found[-limit:]

    def trades(self, space: str, shape: Callable[[Order, Any], dict[str, Any]]) -> list[Any]:
        """Return myTrades / userTrades of one symbol, filtered as asked, oldest first."""
        venue: Venue = "spot" if space == "spot" else "futures"
        symbol = self.engine.market(venue, self.text("symbol")).symbol
        wanted = self.integer("orderId")
        start = self.integer("startTime") or 0
        end = self.integer("endTime") or 1 << 62
        first = self.integer("fromId")
        limit = min(self.integer("limit") or 500, _MAX_LIMIT)
        rows = [
            (trade.trade_id, shape(order, trade))
            for order in self.engine.of_symbol(space, symbol)
            if wanted in (None, order.order_id) and order.visible_ms <= self.now_ms
            for trade in order.trades
            if start <= trade.time_ms <= end and trade.trade_id >= (first or 0)
        ]
        rows.sort(key=lambda row: row[0])
        kept = rows[-limit:] if first is None and not start else rows[:limit]
        return [row for _, row in kept]


@dataclass(frozen=True, slots=True)
class Route:
    """An endpoint: its handler, who may call it, its weight, and whether it places an order."""

    handler: Callable[[Call], Any]
    security: Literal["public", "signed"] = "signed"
    weight: int = 1
    places_order: bool = False


Routes = dict[tuple[str, str], Route]


def tickers(call: Call, venue: Venue, shape: Callable[[Any, int], dict[str, Any]]) -> Any:
    """Serve a ticker endpoint: one symbol, a JSON list of ``symbols``, or all of them."""
    one, many = call.params.get("symbol"), call.params.get("symbols")
    if one:
        return shape(call.engine.market(venue, one), call.now_ms)
    if many:
        names = [name.strip('" ') for name in many.strip("[]").split(",")]
        return [shape(call.engine.market(venue, name), call.now_ms) for name in names]
    return [shape(market, call.now_ms) for market in call.engine.markets[venue].values()]


def ticker_24h(market: Any, now_ms: int) -> dict[str, Any]:
    """Return a 24-hour ticker; statistics are flat at the last price."""
    last, bid, ask = f"{market.last:f}", f"{market.bid:f}", f"{market.ask:f}"
    shown: dict[str, Any] = {
        "symbol": market.symbol,
        "priceChange": "0.00",
        "priceChangePercent": "0.000",
        "weightedAvgPrice": last,
        "lastPrice": last,
        "lastQty": "1.00",
        "openPrice": last,
        "highPrice": last,
        "lowPrice": last,
        "volume": "1000000.00",
        "quoteVolume": f"{market.last * 1_000_000:f}",
        "openTime": now_ms - 86_400_000,
        "closeTime": now_ms,
        "firstId": 1,
        "lastId": 2,
        "count": 1000,
    }
    if market.venue == "spot":
        shown |= {"prevClosePrice": last, "bidPrice": bid, "bidQty": "1000.00"}
        shown |= {"askPrice": ask, "askQty": "1000.00"}
    return shown


def ticker_book(market: Any, now_ms: int) -> dict[str, Any]:
    """Return the best bid and ask."""
    shown: dict[str, Any] = {
        "symbol": market.symbol,
        "bidPrice": f"{market.bid:f}",
        "bidQty": "1000000.00",
        "askPrice": f"{market.ask:f}",
        "askQty": "1000000.00",
    }
    return shown if market.venue == "spot" else shown | {"time": now_ms}


def ticker_price(market: Any, now_ms: int) -> dict[str, Any]:
    """Return the last price."""
    shown: dict[str, Any] = {"symbol": market.symbol, "price": f"{market.last:f}"}
    return shown if market.venue == "spot" else shown | {"time": now_ms}


def depth(call: Call, venue: Venue) -> dict[str, Any]:
    """Return a one-level order book."""
    market = call.engine.market(venue, call.text("symbol"))
    return {
        "lastUpdateId": call.now_ms,
        "E": call.now_ms,
        "T": call.now_ms,
        "bids": [[f"{market.bid:f}", "1000000.00"]],
        "asks": [[f"{market.ask:f}", "1000000.00"]],
    }
