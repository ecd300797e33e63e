"""Orders and trades of the simulator, and the JSON shapes Binance gives them."""

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal

from tests.exchange_simulator.auth import NO_WINDOW, Window
from tests.exchange_simulator.markets import Market, Venue, text

Side = Literal["BUY", "SELL"]
ZERO = Decimal(0)
OPEN = frozenset({"NEW", "PARTIALLY_FILLED"})
STOP_TYPES = frozenset({"STOP_LOSS", "STOP_LOSS_LIMIT", "STOP", "STOP_MARKET"})
TAKE_TYPES = frozenset({"TAKE_PROFIT", "TAKE_PROFIT_LIMIT", "TAKE_PROFIT_MARKET"})
CONDITIONAL_TYPES = STOP_TYPES | TAKE_TYPES
#: conditional types that become a market order when triggered, by venue (TAKE_PROFIT differs)
MARKET_WHEN_TRIGGERED: dict[Venue, frozenset[str]] = {
    "spot": frozenset({"STOP_LOSS", "TAKE_PROFIT"}),
    "futures": frozenset({"STOP_MARKET", "TAKE_PROFIT_MARKET"}),
}


@dataclass(slots=True)
class Lock:
    """Funds set aside for an order; the legs of an order list share one."""

    asset: str
    amount: Decimal


@dataclass(frozen=True, slots=True)
class Trade:
    """One fill. ``commission`` is positive, in ``commission_asset``."""

    trade_id: int
    price: Decimal
    quantity: Decimal
    commission: Decimal
    commission_asset: str
    realized_pnl: Decimal
    time_ms: int
    maker: bool


@dataclass(frozen=True, slots=True)
class Conditions:
    """What a request and the faults on it impose on one order.

    Args:
        now_ms: the exchange's clock when the matching engine sees the order.
        window: the request's timestamp and recvWindow.
        late_visibility_ms: how long queries do not find the order.
        partial_fill: fraction that finds liquidity, or None for all.
        slow_fill_ms: delay between acceptance (NEW) and the fill of a market order.
        faults: ids of the rules that hit the request.
    """

    now_ms: int
    window: Window = NO_WINDOW
    late_visibility_ms: int = 0
    partial_fill: Decimal | None = None
    slow_fill_ms: int = 0
    faults: tuple[int, ...] = ()


@dataclass(slots=True)
class Order:
    """One order as accepted; ``kind`` algo is a futures conditional order of the algo service."""

    kind: Literal["order", "algo"]
    market: Market
    client_id: str
    side: Side
    type: str
    tif: str
    quantity: Decimal
    price: Decimal = ZERO
    stop_price: Decimal = ZERO
    quote_quantity: Decimal = ZERO
    reduce_only: bool = False
    close_position: bool = False
    source: Literal["api", "trigger", "order_list"] = "api"
    response_type: str = "ACK"
    conditions: Conditions = Conditions(0)
    order_id: int = 0
    list_id: int = -1
    status: str = "NEW"
    executed: Decimal = ZERO
    cost: Decimal = ZERO
    working: bool = True
    lock: Lock | None = None
    updated_ms: int = 0
    triggered_ms: int = 0
    child: "Order | None" = None
    parent: "Order | None" = None
    #: what an exchange's dialect must repeat of the request
    extra: dict[str, Any] = field(default_factory=dict)
    trades: list[Trade] = field(default_factory=list)
    history: list[tuple[int, str, str]] = field(default_factory=list)

    @property
    def accepted_ms(self) -> int:
        """When the matching engine took it, on the exchange's clock."""
        return self.conditions.now_ms

    @property
    def visible_ms(self) -> int:
        """From when queries find it."""
        return self.conditions.now_ms + self.conditions.late_visibility_ms

    @property
    def remaining(self) -> Decimal:
        """Quantity not filled."""
        return self.quantity - self.executed

    @property
    def average(self) -> Decimal:
        """Average fill price, zero without a fill."""
        return self.cost / self.executed if self.executed else ZERO

    @property
    def is_open(self) -> bool:
        """Whether it can still trade."""
        return self.status in OPEN

    def move(self, status: str, now_ms: int) -> None:
        """Change status, keeping the history."""
        self.status = status
        self.updated_ms = now_ms
        self.history.append((now_ms, status, str(self.executed)))

    def truth(self) -> dict[str, Any]:
        """Return everything known, for the list of accepted orders."""
        return {
            "kind": self.kind,
            "market": self.market.venue,
            "symbol": self.market.symbol,
            "order_id": self.order_id,
            "client_order_id": self.client_id,
            "side": self.side,
            "type": self.type,
            "time_in_force": self.tif,
            "quantity": plain(self.quantity),
            "price": plain(self.price),
            "stop_price": plain(self.stop_price),
            "reduce_only": self.reduce_only,
            "status": self.status,
            "executed_quantity": plain(self.executed),
            "average_price": plain(self.average),
            "source": self.source,
            "order_list_id": self.list_id,
            "actual_order_id": self.child.order_id if self.child else None,
            "accepted_at": self.accepted_ms,
            "updated_at": self.updated_ms,
            "visible_at": self.visible_ms,
            "request_timestamp": self.conditions.window.timestamp_ms,
            "recv_window": self.conditions.window.recv_window_ms,
            "faults": list(self.conditions.faults),
            "trades": [
                {
                    "trade_id": t.trade_id,
                    "price": plain(t.price),
                    "quantity": plain(t.quantity),
                    "commission": plain(t.commission),
                    "commission_asset": t.commission_asset,
                    "maker": t.maker,
                    "time": t.time_ms,
                }
                for t in self.trades
            ],
            "history": [list(step) for step in self.history],
        }


def plain(value: Decimal) -> str:
    """Format a Decimal exactly, without exponent or trailing zeros."""
    return f"{value.normalize():f}" if value else "0"


def spot_created(order: Order, response_type: str) -> dict[str, Any]:
    """Return the reply to a spot POST order: ACK, RESULT or FULL."""
    reply: dict[str, Any] = {
        "symbol": order.market.symbol,
        "orderId": order.order_id,
        "orderListId": order.list_id,
        "clientOrderId": order.client_id,
        "transactTime": order.accepted_ms,
    }
    if response_type == "ACK":
        return reply
    reply |= _spot_numbers(order)
    reply["workingTime"] = order.accepted_ms if order.working else -1
    if response_type == "FULL":
        reply["fills"] = [
            {
                "price": text(t.price),
                "qty": text(t.quantity),
                "commission": text(t.commission),
                "commissionAsset": t.commission_asset,
                "tradeId": t.trade_id,
            }
            for t in order.trades
        ]
    return reply


def spot_order(order: Order) -> dict[str, Any]:
    """Return the reply to a spot order query."""
    return {
        "symbol": order.market.symbol,
        "orderId": order.order_id,
        "orderListId": order.list_id,
        "clientOrderId": order.client_id,
        **_spot_numbers(order),
        "icebergQty": "0.00000000",
        "time": order.accepted_ms,
        "updateTime": order.updated_ms,
        "isWorking": order.working,
        "workingTime": order.accepted_ms if order.working else -1,
    }


def spot_cancelled(order: Order, cancel_id: str) -> dict[str, Any]:
    """Return the reply to a spot DELETE; as on Binance, clientOrderId names the *cancel*."""
    return {
        "symbol": order.market.symbol,
        "origClientOrderId": order.client_id,
        "orderId": order.order_id,
        "orderListId": order.list_id,
        "clientOrderId": cancel_id,
        "transactTime": order.updated_ms,
        **_spot_numbers(order),
    }


def _spot_numbers(order: Order) -> dict[str, Any]:
    numbers = {
        "price": text(order.price),
        "origQty": text(order.quantity),
        "executedQty": text(order.executed),
        "origQuoteOrderQty": text(order.quote_quantity),
        "cummulativeQuoteQty": text(order.cost),
        "status": order.status,
        "timeInForce": order.tif,
        "type": order.type,
        "side": order.side,
        "selfTradePreventionMode": "NONE",
    }
    if order.stop_price:
        numbers["stopPrice"] = text(order.stop_price)
    return numbers


def spot_trade(order: Order, trade: Trade) -> dict[str, Any]:
    """Return one row of spot myTrades."""
    return {
        "symbol": order.market.symbol,
        "id": trade.trade_id,
        "orderId": order.order_id,
        "orderListId": order.list_id,
        "price": text(trade.price),
        "qty": text(trade.quantity),
        "quoteQty": text(trade.price * trade.quantity),
        "commission": text(trade.commission),
        "commissionAsset": trade.commission_asset,
        "time": trade.time_ms,
        "isBuyer": order.side == "BUY",
        "isMaker": trade.maker,
        "isBestMatch": True,
    }


def futures_order(order: Order) -> dict[str, Any]:
    """Return a futures order as a query shows it (and, without ``time``, as POST does)."""
    digits, places = order.market.price_digits, order.market.quantity_digits
    return {
        "orderId": order.order_id,
        "symbol": order.market.symbol,
        "status": order.status,
        "clientOrderId": order.client_id,
        "price": text(order.price, digits),
        "avgPrice": text(order.average, 5),
        "origQty": text(order.quantity, places),
        "executedQty": text(order.executed, places),
        "cumQuote": text(order.cost, 5),
        "timeInForce": order.tif,
        "type": order.type,
        "reduceOnly": order.reduce_only,
        "closePosition": order.close_position,
        "side": order.side,
        "positionSide": "BOTH",
        "stopPrice": text(order.stop_price, digits),
        "workingType": "CONTRACT_PRICE",
        "priceProtect": False,
        "origType": order.type,
        "priceMatch": "NONE",
        "selfTradePreventionMode": "EXPIRE_MAKER",
        "goodTillDate": 0,
        "time": order.accepted_ms,
        "updateTime": order.updated_ms,
    }


def futures_created(order: Order, response_type: str) -> dict[str, Any]:
    """Return the reply to a futures POST order: ACK shows it NEW, RESULT its final state."""
    reply = futures_order(order)
    del reply["time"]
    reply["cumQty"] = reply["executedQty"]
    if response_type != "RESULT":
        zero = text(ZERO, order.market.quantity_digits)
        reply |= {"status": "NEW", "avgPrice": "0.00", "executedQty": zero, "cumQty": zero}
        reply["cumQuote"] = "0.00000"
    return reply


def futures_trade(order: Order, trade: Trade) -> dict[str, Any]:
    """Return one row of futures userTrades."""
    digits, places = order.market.price_digits, order.market.quantity_digits
    return {
        "symbol": order.market.symbol,
        "id": trade.trade_id,
        "orderId": order.order_id,
        "side": order.side,
        "price": text(trade.price, digits),
        "qty": text(trade.quantity, places),
        "realizedPnl": text(trade.realized_pnl),
        "quoteQty": text(trade.price * trade.quantity),
        "commission": text(trade.commission),
        "commissionAsset": trade.commission_asset,
        "time": trade.time_ms,
        "positionSide": "BOTH",
        "buyer": order.side == "BUY",
        "maker": trade.maker,
    }


def algo_order(order: Order) -> dict[str, Any]:
    """Return a futures conditional order of the algo service."""
    digits, places = order.market.price_digits, order.market.quantity_digits
    child = order.child
    return {
        "algoId": order.order_id,
        "clientAlgoId": order.client_id,
        "algoType": "CONDITIONAL",
        "orderType": order.type,
        "symbol": order.market.symbol,
        "side": order.side,
        "positionSide": "BOTH",
        "timeInForce": order.tif,
        "quantity": text(order.quantity, places),
        "algoStatus": order.status,
        "actualOrderId": str(child.order_id) if child else "",
        "actualPrice": text(child.average, digits) if child else text(ZERO, digits),
        "triggerPrice": text(order.stop_price, digits),
        "price": text(order.price, digits),
        "icebergQuantity": None,
        "selfTradePreventionMode": "EXPIRE_MAKER",
        "workingType": "CONTRACT_PRICE",
        "priceMatch": "NONE",
        "closePosition": order.close_position,
        "priceProtect": False,
        "reduceOnly": order.reduce_only,
        "createTime": order.accepted_ms,
        "updateTime": order.updated_ms,
        "triggerTime": order.triggered_ms,
        "goodTillDate": 0,
    }
