"""The rows of OKX's replies; see ``okx.py`` for the documents."""

from typing import Any, Final

from tests.exchange_simulator.dialect import Asked, Dialect
from tests.exchange_simulator.markets import Market, Venue
from tests.exchange_simulator.orders import ZERO, Order, Trade, plain

_STATES: Final = {"NEW": "live", "PARTIALLY_FILLED": "partially_filled", "FILLED": "filled"}
_ALGO_STATES: Final = {
    "NEW": "live",
    "TRIGGERED": "effective",
    "FINISHED": "effective",
    "REJECTED": "order_failed",
    "EXPIRED": "order_failed",
}


def ticker_row(dialect: Dialect, market: Market) -> dict[str, Any]:
    """Return one row of tickers."""
    return {
        "instType": "SPOT" if market.venue == "spot" else "SWAP",
        "instId": market.symbol,
        "last": plain(market.last),
        "askPx": plain(market.ask),
        "askSz": "1000",
        "bidPx": plain(market.bid),
        "bidSz": "1000",
        "ts": str(dialect.now_ms()),
    }


def fill_row(dialect: Dialect, order: Order, trade: Trade) -> dict[str, Any]:
    """Return one row of fills."""
    return {
        "instType": "SPOT" if order.market.venue == "spot" else "SWAP",
        "instId": order.market.symbol,
        "tradeId": str(trade.trade_id),
        "ordId": dialect.oid(order),
        "clOrdId": order.client_id if order.source == "api" else "",
        "billId": str(trade.trade_id),
        "fillPx": plain(trade.price),
        "fillSz": plain(trade.quantity / order.market.contract),
        "side": order.side.lower(),
        "posSide": "net",
        "execType": "M" if trade.maker else "T",
        "fee": plain(-trade.commission),
        "feeCcy": trade.commission_asset,
        "ts": str(trade.time_ms),
    }


def order_row(dialect: Dialect, order: Order) -> dict[str, Any]:
    """Return one row of an order query."""
    unit, fees = order.market.contract, sum((t.commission for t in order.trades), ZERO)
    word = "market" if order.type == "MARKET" else order.extra.get("ordType", "limit")
    return {
        "instType": "SPOT" if order.market.venue == "spot" else "SWAP",
        "instId": order.market.symbol,
        "ordId": dialect.oid(order),
        "clOrdId": order.client_id if order.source == "api" else "",
        "algoClOrdId": "" if order.source == "api" else order.client_id,
        "side": order.side.lower(),
        "posSide": "net",
        "ordType": word,
        "tdMode": order.extra.get("tdMode", ""),
        "tgtCcy": "base_ccy" if order.market.venue == "spot" else "",
        "state": _STATES.get(order.status, "canceled"),
        "cancelSource": order.extra.get("cancelSource", "14" if order.tif == "IOC" else "0")
        if order.status not in _STATES
        else "",
        "px": plain(order.price) if order.price else "",
        "sz": plain(order.quantity / unit),
        "accFillSz": plain(order.executed / unit),
        "avgPx": plain(order.average) if order.executed else "",
        "fee": plain(-fees),
        "feeCcy": order.trades[0].commission_asset if order.trades else "",
        "reduceOnly": "true" if order.reduce_only else "false",
        "cTime": str(order.accepted_ms),
        "uTime": str(order.updated_ms),
    }


def algo_row(dialect: Dialect, order: Order) -> dict[str, Any]:
    """Return one row of an algo order query."""
    child = dialect.oid(order.child) if order.child is not None else ""
    return {
        "instType": "SPOT" if order.market.venue == "spot" else "SWAP",
        "instId": order.market.symbol,
        "algoId": dialect.oid(order),
        "algoClOrdId": order.client_id,
        "clOrdId": "",
        "ordId": child,
        "ordIdList": [child] if child else [],
        "ordType": order.extra["ordType"],
        "side": order.side.lower(),
        "state": _ALGO_STATES.get(order.status, "canceled"),
        "sz": plain(order.quantity / order.market.contract),
        "actualSz": plain(order.executed / order.market.contract) if child else "0",
        "slTriggerPx": plain(order.stop_price),
        "slOrdPx": plain(order.price) if order.price else "-1",
        "failCode": "0" if order.status != "REJECTED" else "51008",
        "reduceOnly": "true" if order.reduce_only else "false",
        "cTime": str(order.accepted_ms),
        "uTime": str(order.updated_ms),
        "triggerTime": str(order.triggered_ms) if order.triggered_ms else "",
    }


def instrument_row(market: Market) -> dict[str, Any]:
    """Return one row of instruments."""
    unit = market.contract
    sizes = {
        "lotSz": plain(market.step / unit),
        "minSz": plain((market.min_quantity or market.step) / unit),
        "maxLmtSz": plain(market.max_quantity / unit),
        "maxMktSz": plain((market.max_market_quantity or market.max_quantity) / unit),
    }
    if market.venue == "spot":  # "the value is the quantity in USDT" (instruments, maxMktSz)
        most = market.max_market_quantity * market.last
        sizes["maxMktSz"] = plain(most) if most else "1000000000"
    row = {
        "instId": market.symbol,
        "tickSz": plain(market.tick),
        "state": market.halted or "live",
        "listTime": "1600000000000",
    }
    if market.venue == "spot":
        names = {"instType": "SPOT", "baseCcy": market.base, "quoteCcy": market.quote}
        return row | sizes | names | {"ctVal": "", "settleCcy": "", "uly": "", "lever": ""}
    return (
        row
        | sizes
        | {
            "instType": "SWAP",
            "baseCcy": "",
            "quoteCcy": "",
            "settleCcy": market.quote,
            "uly": f"{market.base}-{market.quote}",
            "ctType": "linear",
            "ctVal": plain(unit),
            "ctMult": "1",
            "ctValCcy": market.base,
            "lever": "50",
        }
    )


def limit_field(asked: Asked) -> str:
    """Return the field that holds a conditional order's limit."""
    if asked.text("ordType") == "trigger":
        return "orderPx"
    return "slOrdPx" if asked.text("slTriggerPx") else "tpOrdPx"


def conditional_type(venue: Venue, *, stop: bool, limited: bool) -> str:
    """Return the core's type of a conditional order."""
    if venue == "spot":
        return ("STOP_LOSS" if stop else "TAKE_PROFIT") + ("_LIMIT" if limited else "")
    return ("STOP" if stop else "TAKE_PROFIT") + ("" if limited else "_MARKET")
