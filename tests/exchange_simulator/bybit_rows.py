"""The rows of Bybit's replies; see ``bybit.py`` for the documents."""

from decimal import Decimal
from typing import Any, Final

from tests.exchange_simulator.dialect import Dialect
from tests.exchange_simulator.markets import Market
from tests.exchange_simulator.orders import ZERO, Order, Trade, plain

_STATES: Final = {
    "NEW": "New",
    "PARTIALLY_FILLED": "PartiallyFilled",
    "FILLED": "Filled",
    "REJECTED": "Rejected",
}


def order_row(dialect: Dialect, order: Order) -> dict[str, Any]:
    """Return one row of an order list."""
    stopped = order.status in {"CANCELED", "EXPIRED"}
    state = _STATES.get(order.status, "Cancelled")
    if stopped and order.executed and order.market.venue == "spot":
        state = "PartiallyFilledCanceled"  # "Only spot has this order status"
    if order.is_open and not order.working:
        state = "Untriggered"
    fees: dict[str, Decimal] = {}
    for trade in order.trades:
        fees[trade.commission_asset] = fees.get(trade.commission_asset, ZERO) + trade.commission
    return {
        "orderId": dialect.oid(order),
        "orderLinkId": order.client_id,
        "symbol": order.market.symbol,
        "side": order.side.capitalize(),
        "orderType": "Limit" if order.price else "Market",
        "orderStatus": state,
        "price": plain(order.price),
        "qty": plain(order.quantity),
        "timeInForce": order.tif,
        "avgPrice": plain(order.average) if order.executed else "",
        "leavesQty": plain(ZERO if stopped else order.remaining),
        "cumExecQty": plain(order.executed),
        "cumExecValue": plain(order.cost),
        "cumFeeDetail": {asset: plain(fee) for asset, fee in fees.items()},
        "triggerPrice": plain(order.stop_price) if order.stop_price else "",
        "stopOrderType": "Stop" if order.stop_price else "",
        "reduceOnly": order.reduce_only,
        "positionIdx": 0,
        "rejectReason": "EC_NoError",
        "cancelType": "CancelByUser" if order.status == "CANCELED" else "UNKNOWN",
        "createdTime": str(order.accepted_ms),
        "updatedTime": str(order.updated_ms),
    } | {name: value for name, value in order.extra.items() if order.market.venue == "spot"}


def execution_row(dialect: Dialect, order: Order, trade: Trade) -> dict[str, Any]:
    """Return one row of executions."""
    return {
        "symbol": order.market.symbol,
        "orderId": dialect.oid(order),
        "orderLinkId": order.client_id,
        "side": order.side.capitalize(),
        "orderPrice": plain(order.price),
        "orderQty": plain(order.quantity),
        "orderType": "Limit" if order.price else "Market",
        "execId": f"e-{trade.trade_id}",
        "execPrice": plain(trade.price),
        "execQty": plain(trade.quantity),
        "execType": "Trade",
        "execValue": plain(trade.price * trade.quantity),
        "execFee": plain(trade.commission),
        "feeCurrency": trade.commission_asset,
        "execTime": str(trade.time_ms),
        "isMaker": trade.maker,
    }


def instrument_row(market: Market) -> dict[str, Any]:
    """Return one row of instruments-info."""
    least, most = plain(market.min_quantity or market.step), plain(market.max_quantity)
    most_at_market = plain(market.max_market_quantity or market.max_quantity)
    row: dict[str, Any] = {
        "symbol": market.symbol,
        "baseCoin": market.base,
        "quoteCoin": market.quote,
        "status": market.halted or "Trading",
        "priceFilter": {"tickSize": plain(market.tick)},
    }
    if market.venue == "spot":
        return row | {
            "innovation": "0",
            "marginTrading": "none",
            "lotSizeFilter": {
                "basePrecision": plain(market.step),
                "quotePrecision": "0.00000001",
                "minOrderQty": least,
                "maxOrderQty": most,
                "maxLimitOrderQty": most,
                "maxMarketOrderQty": most_at_market,
                "minOrderAmt": plain(market.min_notional),
                "maxOrderAmt": "100000000000",
            },
        }
    return row | {
        "contractType": "LinearPerpetual",
        "launchTime": "1585526400000",
        "deliveryTime": "0",
        "settleCoin": market.quote,
        "leverageFilter": {"minLeverage": "1", "maxLeverage": "100", "leverageStep": "0.01"},
        "lotSizeFilter": {
            "qtyStep": plain(market.step),
            "minOrderQty": least,
            "maxOrderQty": most,
            "maxMktOrderQty": most_at_market,
            "minNotionalValue": plain(market.min_notional),
        },
    }


def ticker_row(market: Market) -> dict[str, Any]:
    """Return one row of tickers."""
    row = {
        "symbol": market.symbol,
        "bid1Price": plain(market.bid),
        "bid1Size": "1000",
        "ask1Price": plain(market.ask),
        "ask1Size": "1000",
        "lastPrice": plain(market.last),
        "volume24h": "1",
        "turnover24h": "1",
    }
    if market.venue == "futures":
        row |= {"markPrice": plain(market.last), "openInterestValue": "1"}
    return row
