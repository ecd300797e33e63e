"""Canned markets, clocks and accounts of exchanges, enough for an adapter to start on."""

import asyncio
import time
from typing import Any

from tests.integration.canned import CannedServer
from worker.config.keys import ExchangeConfig, Secret
from worker.domain.market import MarketKind
from worker.exchanges.binance.adapter import BinanceCCXTAdapter
from worker.exchanges.bybit.adapter import BybitCCXTAdapter
from worker.exchanges.ccxt.adapter import CCXTAdapter
from worker.exchanges.coinbase.adapter import CoinbaseCCXTAdapter
from worker.exchanges.kraken.adapter import KrakenCCXTAdapter
from worker.exchanges.okx.adapter import OkxCCXTAdapter
from worker.runtime.clock import SystemClock

API_KEY = "KEYtopSECRETkeyKEY"
SECRET = "c2VjcmV0LXNlY3JldC1zZWNyZXQ="  # Kraken's is base64
PASSWORD = "PASSphrasePHRASE"

_ADAPTERS: dict[str, type[CCXTAdapter]] = {
    "binance": BinanceCCXTAdapter,
    "bybit": BybitCCXTAdapter,
    "okx": OkxCCXTAdapter,
    "kraken": KrakenCCXTAdapter,
    "coinbase": CoinbaseCCXTAdapter,
}
#: Where each exchange takes an order: ``BTC/USDT`` spot, and the linear perpetual where there is.
CREATE_ROUTES = {
    "binance": "POST /api/v3/order",
    "bybit": "POST /v5/order/create",
    "okx": "POST /api/v5/trade/order",
    "kraken": "POST /0/private/AddOrder",
    "coinbase": "POST /api/v3/brokerage/orders",
}


def now_ms() -> int:
    """The machine's time, Unix milliseconds."""
    return time.time_ns() // 1_000_000


class Impatient(SystemClock):
    """Real time, but nobody waits: Kraken's coarse clock is not worth a second in every test."""

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)


def adapter_for(
    venue: str, url: str, *, clock: SystemClock | None = None, **changes: Any
) -> CCXTAdapter:
    """An adapter of ``venue`` against ``url``, both market kinds where the venue has them."""
    kinds = (MarketKind.SPOT, MarketKind.LINEAR)
    settings: dict[str, Any] = {
        "adapter": "ccxt",
        "ccxt_id": venue,
        "api_key": Secret(API_KEY),
        "secret": Secret(SECRET if venue == "kraken" else SECRET.rstrip("=")),
        "password": Secret(PASSWORD),
        "base_url": url,
        "market_types": kinds[:1] if venue in {"kraken", "coinbase"} else kinds,
    }
    return _ADAPTERS[venue](venue, ExchangeConfig(**settings | changes), clock or Impatient())


def stock(server: CannedServer, venue: str) -> None:
    """Put ``venue``'s start-up replies on ``server``."""
    _STOCKS[venue](server)


def _bybit(server: CannedServer) -> None:
    def instruments(asked: Any) -> dict[str, Any]:
        if asked.query["category"] == "spot":
            rules = {"basePrecision": "0.000001", "quotePrecision": "0.0000001"}
            lots = rules | {"minOrderQty": "0.00001", "maxOrderQty": "100", "minOrderAmt": "1"}
            extra: dict[str, Any] = {"marginTrading": "none", "innovation": "0"}
        else:
            lots = {"qtyStep": "0.001", "minOrderQty": "0.001", "maxOrderQty": "100"}
            lots |= {"minNotionalValue": "5"}
            extra = {
                "contractType": "LinearPerpetual",
                "launchTime": "1585526400000",
                "deliveryTime": "0",
                "settleCoin": "USDT",
                "leverageFilter": {"minLeverage": "1", "maxLeverage": "100"},
            }
        market = {
            "symbol": "BTCUSDT",
            "baseCoin": "BTC",
            "quoteCoin": "USDT",
            "status": "Trading",
            "lotSizeFilter": lots,
            "priceFilter": {"tickSize": "0.01"},
        }
        rows = [] if "status" in asked.query else [market | extra]
        if rows and asked.query["category"] == "linear":
            dollar = {"symbol": "BTCPERP", "quoteCoin": "USDC", "settleCoin": "USDC"}
            rows.append(market | extra | dollar)
        result = {"category": asked.query["category"], "list": rows}
        return {"retCode": 0, "retMsg": "OK", "result": result}

    server.replies |= {
        "GET /v5/market/time": lambda _: {"retCode": 0, "result": {}, "time": now_ms()},
        "GET /v5/market/instruments-info": instruments,
        "GET /v5/user/query-api": {"retCode": 0, "result": {"unified": 0, "uta": 1}},
        "GET /v5/account/info": {"retCode": 0, "result": {"unifiedMarginStatus": 6}},
        "GET /v5/account/wallet-balance": {
            "retCode": 0,
            "result": {
                "list": [
                    {
                        "accountType": "UNIFIED",
                        "coin": [{"coin": "USDT", "walletBalance": "1000", "locked": "10"}],
                    }
                ]
            },
        },
    }


def _okx(server: CannedServer) -> None:
    def instruments(asked: Any) -> dict[str, Any]:
        if asked.query["instType"] == "SPOT":
            row = {"instId": "BTC-USDT", "lotSz": "0.00000001", "minSz": "0.00001"}
            row |= {"baseCcy": "BTC", "quoteCcy": "USDT", "ctVal": "", "settleCcy": "", "uly": ""}
        else:
            row = {"instId": "BTC-USDT-SWAP", "lotSz": "0.01", "minSz": "0.01", "ctVal": "0.01"}
            row |= {"baseCcy": "", "quoteCcy": "", "settleCcy": "USDT", "uly": "BTC-USDT"}
            row |= {"ctType": "linear", "ctMult": "1", "ctValCcy": "BTC"}
        row |= {"instType": asked.query["instType"], "tickSz": "0.1", "state": "live", "lever": "5"}
        return {"code": "0", "data": [row], "msg": ""}

    details = [{"ccy": "USDT", "eq": "1000", "availEq": "900", "availBal": "900", "frozenBal": "0"}]
    server.replies |= {
        "GET /api/v5/public/time": lambda _: {"code": "0", "data": [{"ts": str(now_ms())}]},
        "GET /api/v5/public/instruments": instruments,
        "GET /api/v5/account/balance": {
            "code": "0",
            "data": [{"uTime": "1614846244194", "details": details}],
        },
    }


def _kraken(server: CannedServer) -> None:
    pair = {
        "altname": "XBTUSDT",
        "wsname": "XBT/USDT",
        "aclass_base": "currency",
        "base": "XXBT",
        "aclass_quote": "currency",
        "quote": "USDT",
        "lot": "unit",
        "cost_decimals": 6,
        "pair_decimals": 1,
        "lot_decimals": 8,
        "lot_multiplier": 1,
        "leverage_buy": [],
        "leverage_sell": [],
        "fees": [[0, 0.4]],
        "fees_maker": [[0, 0.25]],
        "ordermin": "0.0001",
        "costmin": "0.5",
        "tick_size": "0.1",
        "status": "online",
    }
    server.replies |= {
        "GET /0/public/Time": lambda _: {
            "error": [],
            "result": {"unixtime": now_ms() // 1000, "rfc1123": ""},
        },
        "GET /0/public/AssetPairs": {"error": [], "result": {"XBTUSDT": pair}},
        "GET /0/public/Assets": {"error": [], "result": {}},
        "POST /0/private/BalanceEx": {
            "error": [],
            "result": {"USDT": {"balance": "1000", "hold_trade": "10"}},
        },
    }


def _coinbase(server: CannedServer) -> None:
    product = {
        "product_id": "BTC-USDT",
        "price": "60000",
        "base_increment": "0.00000001",
        "quote_increment": "0.01",
        "quote_min_size": "1",
        "quote_max_size": "50000000",
        "base_min_size": "0.00001",
        "base_max_size": "2600",
        "status": "online",
        "trading_disabled": False,
        "product_type": "SPOT",
        "base_currency_id": "BTC",
        "quote_currency_id": "USDT",
        "price_increment": "0.01",
        "volume_24h": "1",
    }
    clock = {"iso": "2026-01-01T00:00:00Z"}
    server.replies |= {
        "GET /api/v3/brokerage/time": lambda _: (
            clock | {"epochSeconds": str(now_ms() // 1000), "epochMillis": str(now_ms())}
        ),
        "GET /api/v3/brokerage/products": {"products": [product], "num_products": 1},
        "GET /api/v3/brokerage/market/products": {"products": [product], "num_products": 1},
        "GET /api/v3/brokerage/transaction_summary": {
            "fee_tier": {"taker_fee_rate": "0.006", "maker_fee_rate": "0.004"}
        },
        "GET /api/v3/brokerage/accounts": {
            "accounts": [
                {
                    "uuid": "u",
                    "name": "USDT Wallet",
                    "currency": "USDT",
                    "type": "ACCOUNT_TYPE_CRYPTO",
                    "available_balance": {"value": "900", "currency": "USDT"},
                    "hold": {"value": "100", "currency": "USDT"},
                }
            ],
            "has_next": False,
        },
        "GET /v2/currencies": {"data": []},
        "GET /v2/currencies/crypto": {"data": []},
    }


def _binance(server: CannedServer) -> None:
    kinds = ["LIMIT", "MARKET", "STOP_LOSS", "STOP_LOSS_LIMIT", "STOP", "STOP_MARKET"]
    kinds += ["TAKE_PROFIT_MARKET", "TAKE_PROFIT"]
    market = {
        "symbol": "BTCUSDT",
        "status": "TRADING",
        "baseAsset": "BTC",
        "quoteAsset": "USDT",
        "orderTypes": kinds,
        "permissionSets": [["SPOT"]],
        "isSpotTradingAllowed": True,
        "filters": [
            {"filterType": "PRICE_FILTER", "minPrice": "0.01", "maxPrice": "0", "tickSize": "0.01"},
            {"filterType": "LOT_SIZE", "minQty": "0.00001", "maxQty": "9", "stepSize": "0.00001"},
            {"filterType": "NOTIONAL", "minNotional": "5"},
        ],
    }
    linear = market | {
        "contractType": "PERPETUAL",
        "marginAsset": "USDT",
        "deliveryDate": 4133404800000,
        "onboardDate": 1569398400000,
    }
    server.replies |= {
        "GET /api/v3/time": lambda _: {"serverTime": now_ms()},
        "GET /fapi/v1/time": lambda _: {"serverTime": now_ms()},
        "GET /api/v3/exchangeInfo": {"symbols": [market]},
        "GET /fapi/v1/exchangeInfo": {"symbols": [linear]},
        "GET /api/v3/account": {"balances": [{"asset": "USDT", "free": "900", "locked": "100"}]},
        "GET /fapi/v3/account": {"assets": []},
        "GET /fapi/v2/account": {"assets": []},
        "GET /fapi/v3/balance": [],
        "GET /fapi/v2/balance": [],
    }


_STOCKS = {
    "binance": _binance,
    "bybit": _bybit,
    "okx": _okx,
    "kraken": _kraken,
    "coinbase": _coinbase,
}
