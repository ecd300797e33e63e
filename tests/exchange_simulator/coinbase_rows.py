"""The rows of Coinbase's replies; see ``coinbase.py`` for the documents."""

from datetime import UTC, datetime
from typing import Any, Final

from tests.exchange_simulator.dialect import Dialect
from tests.exchange_simulator.markets import Market
from tests.exchange_simulator.orders import ZERO, Order, Trade, plain

_STATES: Final = {
    "NEW": "OPEN",
    "PARTIALLY_FILLED": "OPEN",
    "FILLED": "FILLED",
    "REJECTED": "FAILED",
}


def order_row(dialect: Dialect, order: Order) -> dict[str, Any]:
    """Return one row of an order list."""
    fees = sum((t.commission for t in order.trades), ZERO)
    ((word, configuration),) = order.extra["configuration"].items()
    state = _STATES.get(order.status, "CANCELLED")
    return {
        "order_id": dialect.oid(order),
        "product_id": order.market.symbol,
        "user_id": "u",
        "order_configuration": {word: configuration},
        "side": order.side,
        "client_order_id": order.client_id,
        "status": order.extra.get("status", state),
        "time_in_force": {"GTC": "GOOD_UNTIL_CANCELLED", "IOC": "IMMEDIATE_OR_CANCEL"}.get(
            order.tif, "FILL_OR_KILL"
        ),
        "created_time": iso(order.accepted_ms),
        "last_fill_time": iso(order.updated_ms) if order.trades else None,
        "completion_percentage": plain(order.executed / order.quantity * 100),
        "filled_size": plain(order.executed),
        "average_filled_price": plain(order.average),
        "fee": "",
        "number_of_fills": str(len(order.trades)),
        "filled_value": plain(order.cost),
        "pending_cancel": False,
        "size_in_quote": "quote_size" in configuration,
        "total_fees": plain(fees),
        "size_inclusive_of_fees": False,
        "total_value_after_fees": plain(order.cost + fees),
        "trigger_status": "STOP_PENDING"
        if order.is_open and not order.working
        else "INVALID_ORDER_TYPE",
        "order_type": "MARKET" if order.type == "MARKET" else "LIMIT",
        "reject_reason": order.extra.get("reject_reason", "REJECT_REASON_UNSPECIFIED"),
        "reject_message": "",
        "cancel_message": "",
        "settled": order.status == "FILLED",
        "product_type": "SPOT",
    }


def fill_row(dialect: Dialect, order: Order, trade: Trade) -> dict[str, Any]:
    """Return one row of fills."""
    return {
        "entry_id": f"e-{trade.trade_id}",
        "trade_id": f"t-{trade.trade_id}",
        "order_id": dialect.oid(order),
        "trade_time": iso(trade.time_ms),
        "trade_type": "FILL",
        "price": plain(trade.price),
        "size": plain(trade.quantity),
        "commission": plain(trade.commission),
        "product_id": order.market.symbol,
        "sequence_timestamp": iso(trade.time_ms),
        "liquidity_indicator": "MAKER" if trade.maker else "TAKER",
        "size_in_quote": False,
        "user_id": "u",
        "side": order.side,
    }


def iso(at_ms: int) -> str:
    """Return a time as Coinbase writes it."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat().replace("+00:00", "Z")


def product_row(market: Market) -> dict[str, Any]:
    """Return one row of products."""
    halted = market.halted
    return {
        "product_id": market.symbol,
        "price": plain(market.last),
        "base_increment": plain(market.step),
        "quote_increment": plain(market.tick),
        "price_increment": plain(market.tick),
        "quote_min_size": plain(market.min_notional),
        "quote_max_size": "100000000000",
        "base_min_size": plain(market.min_quantity or market.step),
        "base_max_size": plain(market.max_quantity),
        "base_name": market.base,
        "quote_name": market.quote,
        "status": "online",
        "product_type": "SPOT",
        "base_currency_id": market.base,
        "quote_currency_id": market.quote,
        "volume_24h": "1",
        "alias": "",
        "alias_to": [],
        "is_disabled": halted == "is_disabled",
        "trading_disabled": halted == "trading_disabled",
        "cancel_only": halted == "cancel_only",
        "limit_only": halted == "limit_only",
        "post_only": halted == "post_only",
        "view_only": halted == "view_only",
        "auction_mode": halted == "auction_mode",
    }
