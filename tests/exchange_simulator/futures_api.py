"""Endpoints of Binance USDⓈ-M futures: /fapi/v1, v2 and v3, conditional orders included."""

from decimal import Decimal
from typing import Any

from tests.exchange_simulator import call as calls
from tests.exchange_simulator import errors, filters
from tests.exchange_simulator.call import Call, Route, Routes
from tests.exchange_simulator.errors import ApiError
from tests.exchange_simulator.ledgers import Position
from tests.exchange_simulator.markets import exchange_info, text
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
_MAINTENANCE = Decimal("0.004")


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
    if call.params.get("positionSide", "BOTH") != "BOTH":
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


def balance(call: Call) -> Any:
    """GET /fapi/v2|v3/balance."""
    row = _asset(call)
    return [
        {
            "accountAlias": "sim",
            "asset": row["asset"],
            "balance": row["walletBalance"],
            "crossWalletBalance": row["crossWalletBalance"],
            "crossUnPnl": row["crossUnPnl"],
            "availableBalance": row["availableBalance"],
            "maxWithdrawAmount": row["maxWithdrawAmount"],
            "marginAvailable": True,
            "updateTime": call.now_ms,
        }
    ]


def _asset(call: Call) -> dict[str, Any]:
    ledger = call.engine.futures
    profit = sum((held.unrealized for held in ledger.positions.values()), ZERO)
    maintenance = sum(
        (abs(held.amount) * held.market.last for held in ledger.positions.values()), ZERO
    )
    available = max(ledger.available + min(profit, ZERO), ZERO)
    return {
        "asset": ledger.asset,
        "walletBalance": text(ledger.wallet),
        "unrealizedProfit": text(profit),
        "marginBalance": text(ledger.wallet + profit),
        "maintMargin": text(maintenance * _MAINTENANCE),
        "initialMargin": text(ledger.position_margin + ledger.order_margin),
        "positionInitialMargin": text(ledger.position_margin),
        "openOrderInitialMargin": text(ledger.order_margin),
        "crossWalletBalance": text(ledger.wallet),
        "crossUnPnl": text(profit),
        "availableBalance": text(available),
        "maxWithdrawAmount": text(available),
        "updateTime": call.now_ms,
    }


def account(call: Call) -> Any:
    """GET /fapi/v2|v3/account."""
    row = _asset(call)
    totals = {
        "totalInitialMargin": row["initialMargin"],
        "totalMaintMargin": row["maintMargin"],
        "totalWalletBalance": row["walletBalance"],
        "totalUnrealizedProfit": row["unrealizedProfit"],
        "totalMarginBalance": row["marginBalance"],
        "totalPositionInitialMargin": row["positionInitialMargin"],
        "totalOpenOrderInitialMargin": row["openOrderInitialMargin"],
        "totalCrossWalletBalance": row["crossWalletBalance"],
        "totalCrossUnPnl": row["crossUnPnl"],
        "availableBalance": row["availableBalance"],
        "maxWithdrawAmount": row["maxWithdrawAmount"],
    }
    held = [p for p in call.engine.futures.positions.values() if p.amount]
    return {
        "feeTier": 0,
        "canTrade": True,
        "canDeposit": True,
        "canWithdraw": True,
        "multiAssetsMargin": False,
        "updateTime": call.now_ms,
        **totals,
        "assets": [row],
        "positions": [_position(position) for position in held],
    }


def position_risk_v2(call: Call) -> Any:
    """GET /fapi/v2/positionRisk: every symbol, flat ones too."""
    symbol = call.params.get("symbol")
    markets = call.engine.markets["futures"]
    chosen = [call.engine.market("futures", symbol)] if symbol else list(markets.values())
    return [_position(call.engine.futures.position(market)) for market in chosen]


def position_risk_v3(call: Call) -> Any:
    """GET /fapi/v3/positionRisk: only open positions, without leverage and margin type."""
    symbol = call.params.get("symbol")
    if symbol:
        call.engine.market("futures", symbol)
    rows = [
        _position(held)
        for held in call.engine.futures.positions.values()
        if held.amount and symbol in (None, "", held.market.symbol)
    ]
    for row in rows:
        for name in ("leverage", "marginType", "isolated", "isAutoAddMargin", "unrealizedProfit"):
            del row[name]
    return rows


def _position(position: Position) -> dict[str, Any]:
    market = position.market
    notional = position.amount * market.last
    return {
        "symbol": market.symbol,
        "positionSide": "BOTH",
        "positionAmt": text(position.amount, market.quantity_digits),
        "entryPrice": text(position.entry_price),
        "breakEvenPrice": text(position.entry_price),
        "markPrice": text(market.last),
        "unRealizedProfit": text(position.unrealized),
        "unrealizedProfit": text(position.unrealized),
        "liquidationPrice": "0",
        "isolatedMargin": "0",
        "isolatedWallet": "0",
        "isolated": False,
        "marginType": position.margin_type,
        "isAutoAddMargin": "false",
        "leverage": str(position.leverage),
        "notional": text(notional),
        "marginAsset": market.quote,
        "initialMargin": text(position.margin),
        "maintMargin": text(abs(notional) * _MAINTENANCE),
        "positionInitialMargin": text(position.margin),
        "openOrderInitialMargin": "0",
        "adl": 0,
        "bidNotional": "0",
        "askNotional": "0",
        "updateTime": position.updated_ms,
    }


def set_leverage(call: Call) -> Any:
    """POST /fapi/v1/leverage."""
    market = call.engine.market("futures", call.text("symbol"))
    leverage = call.integer("leverage") or 0
    if not 1 <= leverage <= 125:
        raise ApiError(-4028, f"Leverage {leverage} is not valid")
    call.engine.futures.set_leverage(market, leverage)
    return {"symbol": market.symbol, "leverage": leverage, "maxNotionalValue": "1000000000"}


def set_margin_type(call: Call) -> Any:
    """POST /fapi/v1/marginType; -4046 when nothing would change."""
    position = call.engine.futures.position(call.engine.market("futures", call.text("symbol")))
    wanted = {"ISOLATED": "isolated", "CROSSED": "cross"}.get(call.text("marginType"))
    if wanted is None:
        raise errors.missing("marginType")
    if wanted == position.margin_type:
        raise ApiError(-4046, "No need to change margin type.")
    position.margin_type = wanted
    return {"code": 200, "msg": "success"}


def set_dual(call: Call) -> Any:
    """POST /fapi/v1/positionSide/dual: only one-way mode exists here."""
    if call.flag("dualSidePosition"):
        raise ApiError(-4067, "Position side cannot be changed if there exists open orders.")
    raise ApiError(-4059, "No need to change position side.")


def brackets(call: Call) -> Any:
    """GET /fapi/v1/leverageBracket: one bracket a symbol."""
    symbol = call.params.get("symbol")
    names = [symbol] if symbol else list(call.engine.markets["futures"])
    bracket = {
        "bracket": 1,
        "initialLeverage": 125,
        "notionalCap": 1_000_000_000,
        "notionalFloor": 0,
        "maintMarginRatio": float(_MAINTENANCE),
        "cum": 0.0,
    }
    return [{"symbol": name, "notionalCoef": 1.0, "brackets": [bracket]} for name in names]


def _premium(call: Call) -> Any:
    def shape(market: Any, now_ms: int) -> dict[str, Any]:
        return {
            "symbol": market.symbol,
            "markPrice": text(market.last),
            "indexPrice": text(market.last),
            "lastFundingRate": "0.00010000",
            "nextFundingTime": now_ms + 3_600_000,
            "interestRate": "0.00010000",
            "time": now_ms,
        }

    return calls.tickers(call, "futures", shape)


def _commission(call: Call) -> Any:
    ledger = call.engine.futures
    return {
        "symbol": call.engine.market("futures", call.text("symbol")).symbol,
        "makerCommissionRate": str(ledger.maker_rate),
        "takerCommissionRate": str(ledger.taker_rate),
    }


def _symbol_config(call: Call) -> Any:
    symbol = call.params.get("symbol")
    ledger, markets = call.engine.futures, call.engine.markets["futures"]
    chosen = [call.engine.market("futures", symbol)] if symbol else list(markets.values())
    return [
        {
            "symbol": market.symbol,
            "marginType": "ISOLATED"
            if ledger.position(market).margin_type == "isolated"
            else "CROSSED",
            "isAutoAddMargin": "false",
            "leverage": ledger.position(market).leverage,
            "maxNotionalValue": "1000000000",
        }
        for market in chosen
    ]


ROUTES: Routes = {
    ("GET", "/fapi/v1/ping"): Route(lambda _: {}, "public"),
    ("GET", "/fapi/v1/time"): Route(lambda call: {"serverTime": call.now_ms}, "public"),
    ("GET", "/fapi/v1/exchangeInfo"): Route(
        lambda call: exchange_info("futures", call.engine.markets["futures"], call.now_ms), "public"
    ),
    ("GET", "/fapi/v1/depth"): Route(lambda call: calls.depth(call, "futures"), "public", 2),
    ("GET", "/fapi/v1/premiumIndex"): Route(_premium, "public"),
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
    ("POST", "/fapi/v1/leverage"): Route(set_leverage),
    ("POST", "/fapi/v1/marginType"): Route(set_margin_type),
    ("GET", "/fapi/v1/positionSide/dual"): Route(lambda _: {"dualSidePosition": False}),
    ("POST", "/fapi/v1/positionSide/dual"): Route(set_dual),
    ("GET", "/fapi/v1/multiAssetsMargin"): Route(lambda _: {"multiAssetsMargin": False}),
    ("GET", "/fapi/v1/leverageBracket"): Route(brackets),
    ("GET", "/fapi/v1/commissionRate"): Route(_commission, weight=20),
    ("GET", "/fapi/v1/symbolConfig"): Route(_symbol_config, weight=5),
    ("GET", "/fapi/v2/positionRisk"): Route(position_risk_v2, weight=5),
    ("GET", "/fapi/v3/positionRisk"): Route(position_risk_v3, weight=5),
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
for _version in ("v2", "v3"):
    ROUTES["GET", f"/fapi/{_version}/account"] = Route(account, weight=5)
    ROUTES["GET", f"/fapi/{_version}/balance"] = Route(balance, weight=5)
