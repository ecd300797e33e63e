"""Turns ccxt's unified structures into the domain's values, contracts into base units."""

from collections.abc import Iterable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from worker.domain.market import Balance, ExchangePosition, MarketKind, SymbolInfo, Ticker
from worker.domain.money import ZERO, ratio, tidy
from worker.domain.order import Fill, OrderReport, OrderState
from worker.domain.signal import Direction
from worker.exchanges.ccxt.outcomes import IncompleteReplyError

#: ccxt's precision modes; in the third (``TICK_SIZE``) a precision is the step itself.
_DECIMAL_PLACES: Final = 2
_SIGNIFICANT_DIGITS: Final = 3
_TWO: Final = Decimal(2)

_RESTING: Final = frozenset({"open", "canceling", "pending"})
_ENDED: Final = {
    "canceled": OrderState.CANCELLED,
    "expired": OrderState.EXPIRED,
    "rejected": OrderState.REJECTED,
}

#: Why an order was cancelled that was asked to be.
OWN_REQUEST: Final = (
    "cancelled at the account's own request: by this worker once the time allowed is over, or by a "
    "person"
)


def decimal(value: Any) -> Decimal:
    """Return ccxt's number as an exact Decimal (a string, an int, a float of its tables, None).

    Raises:
        IncompleteReplyError: if it is not a finite number.
    """
    if value is None or value == "":
        return ZERO
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        raise IncompleteReplyError(f"{str(value)[:40]!r} is not a number") from None
    if not number.is_finite():
        raise IncompleteReplyError(f"{number} is not a finite number")
    return number


def order_state(status: str | None, filled: Decimal, amount: Decimal) -> OrderState:
    """Return the state by ccxt's status and the filled quantity (same units as ``amount``).

    No status means the exchange acknowledged an id and no more: SUBMITTED. A "closed" order that
    is not completely filled was ended early, which ccxt does not tell apart.
    """
    if status in _RESTING:
        return OrderState.PARTIALLY_FILLED if filled else OrderState.ACTIVE
    if status == "closed":
        if filled and (not amount or filled >= amount):
            return OrderState.FILLED
        return OrderState.CANCELLED if amount else OrderState.SUBMITTED
    if status in _ENDED:
        return _ENDED[status]
    return OrderState.SUBMITTED


def order_report(
    order: Mapping[str, Any], info: SymbolInfo, *, client_order_id: str = ""
) -> OrderReport:
    """Return the report of one ccxt order.

    Args:
        order: ccxt's order structure.
        info: its market.
        client_order_id: what we asked for, where the exchange does not repeat it.

    Raises:
        IncompleteReplyError: if the order has no id: the exchange said nothing we can use.
    """
    exchange_id = order.get("id")
    if not exchange_id:
        raise IncompleteReplyError("the reply holds no order id")
    filled, amount = decimal(order.get("filled")), decimal(order.get("amount"))
    created_ms = max(int(order.get("timestamp") or 0), 0)
    return OrderReport(
        client_order_id=str(order.get("clientOrderId") or client_order_id),
        exchange_order_id=str(exchange_id),
        symbol=info.symbol,
        state=order_state(order.get("status"), filled, amount),
        filled_quantity=tidy(filled * info.contract_size),
        average_price=(tidy(decimal(order.get("average"))) or None) if filled else None,
        fills=fills(order.get("trades") or (), info, at_ms=created_ms),
        created_ms=created_ms,
        reason=str(order.get("rejectReason") or ""),
    )


def fills(
    trades: Iterable[Mapping[str, Any]], info: SymbolInfo, *, at_ms: int = 0
) -> tuple[Fill, ...]:
    """Return the fills of ccxt trades, oldest first, each trade id once.

    ``at_ms`` is the time of trades that have none, Unix milliseconds.
    """
    by_id: dict[str, Fill] = {}
    for trade in trades:
        trade_id = str(trade.get("id") or "")
        # Without an id an execution may be a repeat of another; Kraken lists ids without amounts.
        if not trade_id or not trade.get("amount"):
            continue
        (currency, fee), *more_fees = _fees(trade)
        by_id[trade_id] = Fill(
            trade_id=trade_id,
            quantity=tidy(decimal(trade.get("amount")) * info.contract_size),
            price=tidy(decimal(trade.get("price"))),
            fee=fee,
            fee_currency=currency,
            at_ms=int(trade.get("timestamp") or at_ms),
            more_fees=tuple(more_fees),
        )
    return tuple(sorted(by_id.values(), key=lambda fill: (fill.at_ms, _natural(fill.trade_id))))


def _natural(trade_id: str) -> tuple[int, str]:
    return (int(trade_id), "") if trade_id.isdigit() else (0, trade_id)


def _fees(trade: Mapping[str, Any]) -> list[tuple[str, Decimal]]:
    """Return a trade's fees summed by currency, in the order given; one zero if there are none."""
    paid: dict[str, Decimal] = {}
    for fee in trade.get("fees") or [trade.get("fee")]:
        if fee and (cost := decimal(fee.get("cost"))):
            currency = str(fee.get("currency") or "")
            paid[currency] = tidy(paid.get(currency, ZERO) + cost)
    return list(paid.items()) or [("", ZERO)]


def market_kind(market: Mapping[str, Any]) -> MarketKind | None:
    """Return the kind of a ccxt market, None for kinds this project does not trade."""
    if market.get("spot"):
        return MarketKind.SPOT
    if market.get("swap") and market.get("linear"):
        return MarketKind.LINEAR
    return None


def symbol_info(market: Mapping[str, Any], kind: MarketKind, precision_mode: int) -> SymbolInfo:
    """Return a ccxt market's rules in base and quote units.

    Raises:
        IncompleteReplyError: a rule is no finite number, or a contract has no size.
    """
    precision, limits = market["precision"], market["limits"]
    units = decimal(market.get("contractSize")) if market.get("contract") else Decimal(1)
    if units <= 0:
        raise IncompleteReplyError(f"a contract of {units} has no size")
    amount = limits.get("amount") or {}
    at_market = limits.get("market") or {}
    return SymbolInfo(
        symbol=market["symbol"],
        base=market["base"],
        quote=market["quote"],
        settle=market.get("settle") or market["quote"],
        kind=kind,
        active=market.get("active") is not False,
        shortable=kind is MarketKind.LINEAR,
        price_tick=_step(precision.get("price"), precision_mode),
        quantity_step=_step(precision.get("amount"), precision_mode) * units,
        min_quantity=decimal(amount.get("min")) * units,
        max_quantity=decimal(amount.get("max")) * units,
        max_market_quantity=decimal(at_market.get("max")) * units,
        min_notional=decimal((limits.get("cost") or {}).get("min")),
        contract_size=units,
        taker_fee=decimal(market.get("taker")),
        maker_fee=decimal(market.get("maker")),
    )


def _step(value: Any, precision_mode: int) -> Decimal:
    if value is None or precision_mode == _SIGNIFICANT_DIGITS:
        return ZERO  # the exchange states no step
    if precision_mode == _DECIMAL_PLACES:
        return Decimal(1).scaleb(-int(decimal(value)))
    return decimal(value)


def balances(reply: Mapping[str, Any]) -> dict[str, Balance]:
    """Return free and total amounts by currency; zero holdings are left out."""
    free = reply.get("free") or {}
    return {
        code: Balance(free=decimal(free.get(code)), total=decimal(total))
        for code, total in (reply.get("total") or {}).items()
        if decimal(total)
    }


def position(row: Mapping[str, Any], info: SymbolInfo) -> ExchangePosition | None:
    """Return a ccxt position in base units, or None for a flat one."""
    contracts = decimal(row.get("contracts"))
    if not contracts:
        return None
    return ExchangePosition(
        symbol=info.symbol,
        direction=Direction.SHORT if row.get("side") == "short" else Direction.LONG,
        quantity=tidy(abs(contracts) * info.contract_size),
        entry_price=tidy(decimal(row.get("entryPrice"))),
    )


def ticker(row: Mapping[str, Any], symbol: str, at_ms: int) -> Ticker:
    """Return a ccxt ticker; a missing side takes the last price, a missing last the sides'.

    Raises:
        IncompleteReplyError: if there is no price at all.
    """
    bid, ask, last = (decimal(row.get(name)) for name in ("bid", "ask", "last"))
    if not last:
        last = ratio(bid + ask, _TWO) if bid and ask else bid or ask
    if not last:
        raise IncompleteReplyError(f"no price for {symbol}")
    return Ticker(symbol=symbol, bid=bid or last, ask=ask or last, last=last, at_ms=at_ms)
