"""Endpoints of USDⓈ-M futures about the account: wallet, positions, leverage, configuration."""

from decimal import Decimal
from typing import Any

from tests.exchange_simulator import call as calls
from tests.exchange_simulator import errors
from tests.exchange_simulator.call import Call, Route, Routes
from tests.exchange_simulator.errors import ApiError
from tests.exchange_simulator.ledgers import Position
from tests.exchange_simulator.markets import text
from tests.exchange_simulator.orders import ZERO

_MAINTENANCE = Decimal("0.004")


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
    ("GET", "/fapi/v1/premiumIndex"): Route(_premium, "public"),
    ("POST", "/fapi/v1/leverage"): Route(set_leverage),
    ("POST", "/fapi/v1/marginType"): Route(set_margin_type),
    ("GET", "/fapi/v1/positionSide/dual"): Route(
        lambda call: {"dualSidePosition": call.engine.hedge_mode}
    ),
    ("POST", "/fapi/v1/positionSide/dual"): Route(set_dual),
    ("GET", "/fapi/v1/accountConfig"): Route(
        lambda _: {"canTrade": True, "dualSidePosition": False, "multiAssetsMargin": False},
        weight=5,
    ),
    ("GET", "/fapi/v1/multiAssetsMargin"): Route(lambda _: {"multiAssetsMargin": False}),
    ("GET", "/fapi/v1/leverageBracket"): Route(brackets),
    ("GET", "/fapi/v1/commissionRate"): Route(_commission, weight=20),
    ("GET", "/fapi/v1/symbolConfig"): Route(_symbol_config, weight=5),
    ("GET", "/fapi/v2/positionRisk"): Route(position_risk_v2, weight=5),
    ("GET", "/fapi/v3/positionRisk"): Route(position_risk_v3, weight=5),
}
for _version in ("v2", "v3"):
    ROUTES["GET", f"/fapi/{_version}/account"] = Route(account, weight=5)
    ROUTES["GET", f"/fapi/{_version}/balance"] = Route(balance, weight=5)
