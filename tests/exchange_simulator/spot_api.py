"""Endpoints of Binance spot: /api/v3 and the few of /sapi a trading client touches."""

from typing import Any

from tests.exchange_simulator import call as calls
from tests.exchange_simulator import errors, filters
from tests.exchange_simulator.call import Call, Route, Routes
from tests.exchange_simulator.errors import ApiError
from tests.exchange_simulator.markets import exchange_info, text
from tests.exchange_simulator.orders import (
    CONDITIONAL_TYPES,
    ZERO,
    Order,
    spot_cancelled,
    spot_created,
    spot_order,
    spot_trade,
)

_LIMIT_TYPES = frozenset({"LIMIT", "STOP_LOSS_LIMIT", "TAKE_PROFIT_LIMIT"})
_TYPES = CONDITIONAL_TYPES - {"STOP", "STOP_MARKET", "TAKE_PROFIT_MARKET"} | {
    "MARKET",
    "LIMIT",
    "LIMIT_MAKER",
}


def key_rights(call: Call) -> dict[str, Any]:
    """GET /sapi/v1/account/apiRestrictions."""
    return {
        "ipRestrict": call.engine.key_is_bound,
        "enableReading": True,
        "enableSpotAndMarginTrading": True,
        "enableFutures": True,
        "enableWithdrawals": call.engine.key_withdraws,
    }


def _read_order(call: Call) -> Order:
    market = call.engine.market("spot", call.text("symbol"))
    kind = call.text("type")
    if kind not in _TYPES:
        raise ApiError(-1116, "Invalid orderType.")
    tif = call.params.get("timeInForce", "")
    if kind in _LIMIT_TYPES:
        if not tif:
            raise errors.missing("timeInForce")
        if tif not in {"GTC", "IOC", "FOK"}:
            raise ApiError(-1115, "Invalid timeInForce.")
    elif tif:
        raise ApiError(-1106, "Parameter 'timeInForce' sent when not required.")
    by_quote = kind == "MARKET" and "quoteOrderQty" in call.params
    if not by_quote and "quantity" not in call.params:
        raise errors.missing("quantity")
    order = Order(
        kind="order",
        market=market,
        client_id=call.params.get("newClientOrderId") or call.new_id(),
        side=call.side(),
        type=kind,
        tif=tif or "GTC",
        quantity=call.decimal("quantity"),
        price=call.decimal("price", required=kind in _LIMIT_TYPES or kind == "LIMIT_MAKER"),
        stop_price=call.decimal("stopPrice", required=kind in CONDITIONAL_TYPES),
        quote_quantity=call.decimal("quoteOrderQty") if by_quote else ZERO,
        conditions=call.conditions,
    )
    filters.check_client_id(order.client_id, "newClientOrderId", futures=False)
    return order


def create(call: Call) -> Any:
    """POST /api/v3/order."""
    order = call.engine.submit(_read_order(call))
    default = "FULL" if order.type in {"MARKET", "LIMIT"} else "ACK"
    return spot_created(order, call.text("newOrderRespType", default))


def test_create(call: Call) -> Any:
    """POST /api/v3/order/test: all checks, no order."""
    call.engine.check(_read_order(call))
    return {}


def query(call: Call) -> Any:
    """GET /api/v3/order."""
    order = call.existing("spot", "orderId", "origClientOrderId", by_symbol=True)
    return spot_order(call.visible(order))


def cancel(call: Call) -> Any:
    """DELETE /api/v3/order."""
    try:
        order = call.existing("spot", "orderId", "origClientOrderId", by_symbol=True)
    except ApiError as refused:
        raise errors.cancel_not_found() if refused.code == -2013 else refused from None
    call.engine.cancel(order, call.now_ms)
    return spot_cancelled(order, call.params.get("newClientOrderId") or call.new_id())


def open_orders(call: Call) -> Any:
    """GET /api/v3/openOrders."""
    symbol = call.params.get("symbol")
    if symbol:
        call.engine.market("spot", symbol)
    found = call.engine.open_orders("spot", symbol)
    return [spot_order(order) for order in found if order.visible_ms <= call.now_ms]


def cancel_open(call: Call) -> Any:
    """DELETE /api/v3/openOrders."""
    symbol = call.engine.market("spot", call.text("symbol")).symbol
    found = call.engine.open_orders("spot", symbol)
    if not found:
        raise errors.cancel_not_found()
    for order in found:
        if order.is_open:
            call.engine.cancel(order, call.now_ms)
    return [spot_cancelled(order, call.new_id()) for order in found]


def all_orders(call: Call) -> Any:
    """GET /api/v3/allOrders."""
    symbol = call.engine.market("spot", call.text("symbol")).symbol
    return [spot_order(order) for order in call.page(call.engine.of_symbol("spot", symbol))]


def my_trades(call: Call) -> Any:
    """GET /api/v3/myTrades."""
    return call.trades("spot", spot_trade)


def account(call: Call) -> Any:
    """GET /api/v3/account."""
    ledger = call.engine.spot
    omit = call.flag("omitZeroBalances")
    return {
        "makerCommission": int(ledger.maker_rate * 10_000),
        "takerCommission": int(ledger.taker_rate * 10_000),
        "buyerCommission": 0,
        "sellerCommission": 0,
        "commissionRates": {
            "maker": text(ledger.maker_rate),
            "taker": text(ledger.taker_rate),
            "buyer": "0.00000000",
            "seller": "0.00000000",
        },
        "canTrade": True,
        "canWithdraw": True,
        "canDeposit": True,
        "brokered": False,
        "requireSelfTradePrevention": False,
        "preventSor": False,
        "updateTime": call.now_ms,
        "accountType": "SPOT",
        "balances": [
            {"asset": asset, "free": text(held.free), "locked": text(held.locked)}
            for asset, held in ledger.balances.items()
            if held.free or held.locked or not omit
        ],
        "permissions": ["SPOT"],
        "uid": 1,
    }


def create_oco(call: Call) -> Any:
    """POST /api/v3/orderList/oco: ``above`` and ``below`` legs of one quantity."""
    market = call.engine.market("spot", call.text("symbol"))
    side, quantity = call.side(), call.decimal("quantity", required=True)
    legs = []
    for leg in ("above", "below"):
        kind = call.text(f"{leg}Type")
        if kind not in _TYPES - {"MARKET", "LIMIT"}:
            raise ApiError(-1116, "Invalid orderType.")
        limited = kind in _LIMIT_TYPES or kind == "LIMIT_MAKER"
        order = Order(
            kind="order",
            market=market,
            client_id=call.params.get(f"{leg}ClientOrderId") or call.new_id(),
            side=side,
            type=kind,
            tif=call.text(f"{leg}TimeInForce", "GTC"),
            quantity=quantity,
            price=call.decimal(f"{leg}Price", required=limited),
            stop_price=call.decimal(f"{leg}StopPrice", required=kind in CONDITIONAL_TYPES),
            conditions=call.conditions,
        )
        filters.check_client_id(order.client_id, f"{leg}ClientOrderId", futures=False)
        legs.append(order)
    list_id = call.engine.submit_list(legs)
    return _order_list(call, list_id, legs) | {
        "orderReports": [spot_created(order, "RESULT") for order in legs]
    }


def _order_list(call: Call, list_id: int, legs: list[Order]) -> dict[str, Any]:
    alive = any(order.is_open for order in legs)
    return {
        "orderListId": list_id,
        "contingencyType": "OCO",
        "listStatusType": "EXEC_STARTED" if alive else "ALL_DONE",
        "listOrderStatus": "EXECUTING" if alive else "ALL_DONE",
        "listClientOrderId": call.params.get("listClientOrderId") or call.new_id(),
        "transactionTime": call.now_ms,
        "symbol": legs[0].market.symbol,
        "orders": [
            {
                "symbol": order.market.symbol,
                "orderId": order.order_id,
                "clientOrderId": order.client_id,
            }
            for order in legs
        ],
    }


def _legs(call: Call) -> tuple[int, list[Order]]:
    list_id = call.integer("orderListId")
    legs = [order for order in call.engine.accepted if list_id in {order.list_id} - {-1}]
    if list_id is None or not legs:
        raise ApiError(-2018, "Order list does not exist.")
    return list_id, legs


def query_list(call: Call) -> Any:
    """GET /api/v3/orderList (by orderListId)."""
    return _order_list(call, *_legs(call))


def cancel_list(call: Call) -> Any:
    """DELETE /api/v3/orderList (by orderListId)."""
    list_id, legs = _legs(call)
    alive = [order for order in legs if order.is_open]
    if not alive:
        raise errors.cancel_not_found()
    call.engine.cancel(alive[0], call.now_ms)
    return _order_list(call, list_id, legs) | {
        "orderReports": [spot_cancelled(order, call.new_id()) for order in legs]
    }


def _info(call: Call) -> Any:
    markets = call.engine.markets["spot"]
    symbol = call.params.get("symbol")
    if symbol:
        markets = {symbol: call.engine.market("spot", symbol)}
    return exchange_info("spot", markets, call.now_ms, *call.engine.limits)


def _average(call: Call) -> Any:
    market = call.engine.market("spot", call.text("symbol"))
    return {"mins": 5, "price": text(market.last), "closeTime": call.now_ms}


ROUTES: Routes = {
    ("GET", "/api/v3/ping"): Route(lambda _: {}, "public"),
    ("GET", "/api/v3/time"): Route(lambda call: {"serverTime": call.now_ms}, "public"),
    ("GET", "/api/v3/exchangeInfo"): Route(_info, "public", 20),
    ("GET", "/api/v3/avgPrice"): Route(_average, "public", 2),
    ("GET", "/api/v3/depth"): Route(lambda call: calls.depth(call, "spot"), "public", 5),
    ("GET", "/api/v3/ticker/24hr"): Route(
        lambda call: calls.tickers(call, "spot", calls.ticker_24h), "public", 2
    ),
    ("GET", "/api/v3/ticker/bookTicker"): Route(
        lambda call: calls.tickers(call, "spot", calls.ticker_book), "public", 2
    ),
    ("GET", "/api/v3/ticker/price"): Route(
        lambda call: calls.tickers(call, "spot", calls.ticker_price), "public", 2
    ),
    ("POST", "/api/v3/order"): Route(create, places_order=True),
    ("POST", "/api/v3/order/test"): Route(test_create),
    ("GET", "/api/v3/order"): Route(query, weight=4),
    ("DELETE", "/api/v3/order"): Route(cancel),
    ("GET", "/api/v3/openOrders"): Route(open_orders, weight=6),
    ("DELETE", "/api/v3/openOrders"): Route(cancel_open),
    ("GET", "/api/v3/allOrders"): Route(all_orders, weight=20),
    ("GET", "/api/v3/myTrades"): Route(my_trades, weight=20),
    ("GET", "/api/v3/account"): Route(account, weight=20),
    ("POST", "/api/v3/orderList/oco"): Route(create_oco, places_order=True),
    ("GET", "/api/v3/orderList"): Route(query_list, weight=4),
    ("DELETE", "/api/v3/orderList"): Route(cancel_list),
    ("GET", "/sapi/v1/system/status"): Route(lambda _: {"status": 0, "msg": "normal"}, "public"),
    ("GET", "/sapi/v1/capital/config/getall"): Route(lambda _: []),
    ("GET", "/sapi/v1/margin/allPairs"): Route(lambda _: []),
    ("GET", "/sapi/v1/margin/isolated/allPairs"): Route(lambda _: []),
    ("GET", "/sapi/v1/account/apiRestrictions"): Route(key_rights),
}
