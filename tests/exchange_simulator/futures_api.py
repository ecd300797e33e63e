"""Endpoints of Binance USDⓈ-M futures: /fapi/v1, v2 and v3, conditional orders included."""

from typing import Any

from tests.exchange_simulator import call as calls
from tests.exchange_simulator import errors, filters
from tests.exchange_simulator.call import Call, Route, Routes
from tests.exchange_simulator.errors import ApiError
from tests.exchange_simulator.markets import exchange_info
from tests.exchange_simulator.orders import (
    ZERO,
    Order,
    algo_order,
    futures_created,
    futures_order,
    futures_trade,
)

_ALGO_TYPES = frozenset({"STOP", "STOP_MARKET", "TAKE_PROFIT", "TAKE_PROFIT_MARKET"})
_TIFS = frozenset({"GTC", "IOC", "FOK", "GTX", "GTD"})


def create(call: Call) -> Any:
    """POST /fapi/v1/order: MARKET and LIMIT; conditional types are refused (-4120)."""
    market = call.engine.market("futures", call.text("symbol"))
    kind = call.text("type")
    if kind in _ALGO_TYPES or kind == "TRAILING_STOP_MARKET":
        raise ApiError(
            -4120,
            "Order type not supported for this endpoint. "
            "Please use the Algo Order API endpoints instead.",
        )
    if kind not in {"MARKET", "LIMIT"}:
        raise ApiError(-1116, "Invalid orderType.")
    tif = call.params.get("timeInForce", "")
    if kind == "LIMIT" and not tif:
        raise errors.missing("timeInForce")
    order = Order(
        kind="order",
        market=market,
        client_id=call.params.get("newClientOrderId") or call.new_id(),
        side=call.side(),
        type=kind,
        tif=_checked_tif(tif or "GTC"),
        quantity=call.decimal("quantity", required=True),
        price=call.decimal("price", required=True) if kind == "LIMIT" else ZERO,
        reduce_only=call.flag("reduceOnly"),
        conditions=call.conditions,
    )
    _one_way(call)
    filters.check_client_id(order.client_id, "newClientOrderId", futures=True)
    call.engine.submit(order)
    return futures_created(order, call.text("newOrderRespType", "ACK"))


def create_algo(call: Call) -> Any:
    """POST /fapi/v1/algoOrder: a conditional order that waits outside the book."""
    market = call.engine.market("futures", call.text("symbol"))
    if call.text("algoType") != "CONDITIONAL":
        raise ApiError(-1102, "Mandatory parameter 'algoType' was malformed.")
    kind = call.text("type")
    if kind not in _ALGO_TYPES:
        raise ApiError(-1116, "Invalid orderType.")
    closes = call.flag("closePosition")
    if closes and call.params.get("quantity"):
        raise ApiError(-4137, "Quantity must be zero with closePosition equals true.")
    limited = kind in {"STOP", "TAKE_PROFIT"}
    order = Order(
        kind="algo",
        market=market,
        client_id=call.params.get("clientAlgoId") or call.new_id(),
        side=call.side(),
        type=kind,
        tif=_checked_tif(call.params.get("timeInForce") or "GTC"),
        quantity=call.decimal("quantity", required=not closes),
        price=call.decimal("price", required=True) if limited else ZERO,
        stop_price=call.decimal("triggerPrice", required=True),
        reduce_only=call.flag("reduceOnly") or closes,
        close_position=closes,
        conditions=call.conditions,
    )
    _one_way(call)
    filters.check_client_id(order.client_id, "clientAlgoId", futures=True)
    return algo_order(call.engine.submit(order))


def _checked_tif(tif: str) -> str:
    if tif not in _TIFS:
        raise ApiError(-1115, "Invalid timeInForce.")
    return tif


def _one_way(call: Call) -> None:
    if call.engine.hedge_mode != (call.params.get("positionSide", "BOTH") != "BOTH"):
        raise ApiError(-4061, "Order's position side does not match user's setting.")


def query(call: Call) -> Any:
    """GET /fapi/v1/order."""
    order = call.existing("futures", "orderId", "origClientOrderId", by_symbol=True)
    return futures_order(call.visible(order))


def query_open(call: Call) -> Any:
    """GET /fapi/v1/openOrder: as query, but only an open order."""
    order = call.existing("futures", "orderId", "origClientOrderId", by_symbol=True)
    if not order.is_open:
        raise errors.order_not_found()
    return futures_order(call.visible(order))


def query_algo(call: Call) -> Any:
    """GET /fapi/v1/algoOrder."""
    order = call.existing("algo", "algoId", "clientAlgoId", by_symbol=False)
    return algo_order(call.visible(order))


def cancel(call: Call) -> Any:
    """DELETE /fapi/v1/order."""
    order = _to_cancel(call, "futures", "orderId", "origClientOrderId")
    reply = futures_order(call.engine.cancel(order, call.now_ms))
    del reply["time"]
    return reply


def cancel_algo(call: Call) -> Any:
    """DELETE /fapi/v1/algoOrder."""
    order = _to_cancel(call, "algo", "algoId", "clientAlgoId")
    call.engine.cancel(order, call.now_ms)
    return {
        "algoId": order.order_id,
        "clientAlgoId": order.client_id,
        "code": "200",
        "msg": "success",
    }


def _to_cancel(call: Call, space: str, id_name: str, client_name: str) -> Order:
    try:
        return call.existing(space, id_name, client_name, by_symbol=space != "algo")
    except ApiError as refused:
        raise errors.cancel_not_found() if refused.code == -2013 else refused from None


def open_orders(call: Call) -> Any:
    """GET /fapi/v1/openOrders."""
    return [futures_order(order) for order in _open(call, "futures")]


def open_algo_orders(call: Call) -> Any:
    """GET /fapi/v1/openAlgoOrders."""
    return [algo_order(order) for order in _open(call, "algo")]


def _open(call: Call, space: str) -> list[Order]:
    symbol = call.params.get("symbol")
    if symbol:
        call.engine.market("futures", symbol)
    found = call.engine.open_orders(space, symbol)
    return [order for order in found if order.visible_ms <= call.now_ms]


def cancel_all(call: Call, space: str) -> Any:
    """DELETE allOpenOrders / algoOpenOrders of a symbol."""
    symbol = call.engine.market("futures", call.text("symbol")).symbol
    for order in call.engine.open_orders(space, symbol):
        call.engine.cancel(order, call.now_ms)
    return {"code": 200, "msg": "The operation of cancel all open order is done."}


def all_orders(call: Call, space: str) -> Any:
    """GET allOrders / allAlgoOrders of a symbol."""
    symbol = call.engine.market("futures", call.text("symbol")).symbol
    shape = algo_order if space == "algo" else futures_order
    return [shape(order) for order in call.page(call.engine.of_symbol(space, symbol))]


def user_trades(call: Call) -> Any:
    """GET /fapi/v1/userTrades."""
    return call.trades("futures", futures_trade)


ROUTES: Routes = {
    ("GET", "/fapi/v1/ping"): Route(lambda _: {}, "public"),
    ("GET", "/fapi/v1/time"): Route(lambda call: {"serverTime": call.now_ms}, "public"),
    ("GET", "/fapi/v1/exchangeInfo"): Route(
        lambda call: exchange_info(
            "futures", call.engine.markets["futures"], call.now_ms, *call.engine.limits
        ),
        "public",
    ),
    ("GET", "/fapi/v1/depth"): Route(lambda call: calls.depth(call, "futures"), "public", 2),
    ("POST", "/fapi/v1/order"): Route(create, weight=0, places_order=True),
    ("GET", "/fapi/v1/order"): Route(query),
    ("GET", "/fapi/v1/openOrder"): Route(query_open),
    ("DELETE", "/fapi/v1/order"): Route(cancel),
    ("GET", "/fapi/v1/openOrders"): Route(open_orders),
    ("DELETE", "/fapi/v1/allOpenOrders"): Route(lambda call: cancel_all(call, "futures")),
    ("GET", "/fapi/v1/allOrders"): Route(lambda call: all_orders(call, "futures"), weight=5),
    ("GET", "/fapi/v1/userTrades"): Route(user_trades, weight=5),
    ("POST", "/fapi/v1/algoOrder"): Route(create_algo, weight=0, places_order=True),
    ("GET", "/fapi/v1/algoOrder"): Route(query_algo),
    ("DELETE", "/fapi/v1/algoOrder"): Route(cancel_algo),
    ("GET", "/fapi/v1/openAlgoOrders"): Route(open_algo_orders),
    ("DELETE", "/fapi/v1/algoOpenOrders"): Route(lambda call: cancel_all(call, "algo")),
    ("GET", "/fapi/v1/allAlgoOrders"): Route(lambda call: all_orders(call, "algo"), weight=5),
}
for _version in ("v1", "v2"):
    for _name, _shape in (
        ("24hr", calls.ticker_24h),
        ("bookTicker", calls.ticker_book),
        ("price", calls.ticker_price),
    ):
        ROUTES["GET", f"/fapi/{_version}/ticker/{_name}"] = Route(
            lambda call, shape=_shape: calls.tickers(call, "futures", shape),  # type: ignore[misc]
            "public",
        )
