"""Turns ccxt's unified structures into the domain's values, contracts into base units."""

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any, Final

from worker.domain.market import Balance, ExchangePosition, MarketKind, SymbolInfo, Ticker
from worker.domain.money import ZERO, ratio, tidy
from worker.domain.order import Fill, OrderReport, OrderRequest, OrderState
from worker.domain.plausibility import (
    MAX_REASON_CHARS,
    ImplausibleError,
    check_report,
    check_ticker,
    moment_ms,
    name_of,
    number,
)
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


def decimal(value: Any, name: str = "a number") -> Decimal:
    """Return ccxt's number as an exact Decimal (a string, an int, a float of its tables, None).

    Raises:
        ImplausibleError: it is none that can be computed with.
    """
    return number(value, name)


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
    order: Mapping[str, Any], info: SymbolInfo, request: OrderRequest | None = None
) -> OrderReport:
    """Return the report of one ccxt order.

    Args:
        order: ccxt's order structure.
        info: its market.
        request: our order, which the report is checked against; None for any order of the account.

    Raises:
        IncompleteReplyError: the order has no id: the exchange said nothing we can use. Or it has
            ended, and what it traded is not said.
        ImplausibleError: it cannot be true.
    """
    exchange_id = name_of(order.get("id"), "id")
    if not exchange_id:
        raise IncompleteReplyError("the reply holds no order id")
    filled, amount = decimal(order.get("filled"), "filled"), decimal(order.get("amount"), "amount")
    created_ms = moment_ms(order.get("timestamp"), "timestamp")
    status = order.get("status")
    # A stop order that is not triggered has traded nothing, and not every exchange says so.
    if request is not None and not request.order_type.needs_stop_price:
        if status == "closed" and not filled:
            raise IncompleteReplyError("the order is closed, and filled is nothing")
        if status in {"canceled", "expired"} and order.get("filled") in {None, ""}:
            raise IncompleteReplyError(f"the order is {status}, and filled is missing")
    asked_for = "" if request is None else request.client_order_id
    report = OrderReport(
        client_order_id=name_of(order.get("clientOrderId"), "clientOrderId") or asked_for,
        exchange_order_id=exchange_id,
        symbol=info.symbol,
        state=order_state(status, filled, amount),
        filled_quantity=tidy(filled * info.contract_size),
        average_price=(tidy(decimal(order.get("average"), "average")) or None) if filled else None,
        fills=fills(order.get("trades") or (), info, at_ms=created_ms),
        created_ms=created_ms,
        reason=str(order.get("rejectReason") or "")[:MAX_REASON_CHARS],
    )
    if request is not None:
        check_report(report, request, info)
    return report


def fills(
    trades: Iterable[Mapping[str, Any]], info: SymbolInfo, *, at_ms: int = 0
) -> tuple[Fill, ...]:
    """Return the fills of ccxt trades, oldest first, each trade id once.

    ``at_ms`` is the time of trades that have none, Unix milliseconds.

    Raises:
        ImplausibleError: a number or a time of one cannot be, or an id has two trades.
    """
    by_id: dict[str, Fill] = {}
    for trade in trades:
        trade_id = name_of(trade.get("id"), "a trade's id")
        # Without an id an execution may be a repeat of another; Kraken lists ids without amounts.
        if not trade_id or not trade.get("amount"):
            continue
        (currency, fee), *more_fees = _fees(trade)
        fill = Fill(
            trade_id=trade_id,
            quantity=tidy(decimal(trade.get("amount"), "a trade's amount") * info.contract_size),
            price=tidy(decimal(trade.get("price"), "a trade's price")),
            fee=fee,
            fee_currency=currency,
            at_ms=moment_ms(trade.get("timestamp"), "a trade's timestamp") or at_ms,
            more_fees=tuple(more_fees),
        )
        if by_id.setdefault(trade_id, fill) != fill:
            raise ImplausibleError(f"two trades have the id {trade_id}")
    return tuple(sorted(by_id.values(), key=lambda fill: (fill.at_ms, _natural(fill.trade_id))))


def _natural(trade_id: str) -> tuple[int, str]:
    is_number = trade_id.isascii() and trade_id.isdigit()
    return (int(trade_id), "") if is_number else (0, trade_id)


def _fees(trade: Mapping[str, Any]) -> list[tuple[str, Decimal]]:
    """Return a trade's fees summed by currency, in the order given; one zero if there are none."""
    paid: dict[str, Decimal] = {}
    for fee in trade.get("fees") or [trade.get("fee")]:
        if fee and (cost := decimal(fee.get("cost"), "a trade's fee")):
            currency = name_of(fee.get("currency"), "a fee's currency")
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
    """Return free and total amounts by currency; zero holdings are left out.

    Of a currency that is owed, whose amount is negative, nothing is free.
    """
    free = reply.get("free") or {}
    return {
        code: Balance(
            free=max(decimal(free.get(code), f"free {code[:20]}"), ZERO),
            total=decimal(total, f"total {code[:20]}"),
        )
        for code, total in (reply.get("total") or {}).items()
        if decimal(total)
    }


def position(row: Mapping[str, Any], info: SymbolInfo) -> ExchangePosition | None:
    """Return a ccxt position in base units, or None for a flat one.

    Raises:
        ImplausibleError: a number of it cannot be, or it does not say its direction.
    """
    contracts = decimal(row.get("contracts"), f"contracts of {info.symbol}")
    if not contracts:
        return None
    side, price = row.get("side"), decimal(row.get("entryPrice"), f"entryPrice of {info.symbol}")
    if side not in {"long", "short"}:
        raise ImplausibleError(f"side of the position in {info.symbol} is {str(side)[:40]!r}")
    if price < 0:
        raise ImplausibleError(f"entryPrice of {info.symbol} is {price}")
    return ExchangePosition(
        symbol=info.symbol,
        direction=Direction.SHORT if side == "short" else Direction.LONG,
        quantity=tidy(abs(contracts) * info.contract_size),
        entry_price=tidy(price),
    )


def ticker(row: Mapping[str, Any], symbol: str, at_ms: int, now_ms: int) -> Ticker:
    """Return a ccxt ticker; a missing side takes the last price, a missing last the sides'.

    Args:
        row: in ccxt's form.
        symbol: its market.
        at_ms: this machine's time, Unix milliseconds.
        now_ms: the exchange's, by which its own time of the price is judged.

    Raises:
        IncompleteReplyError: there is no price at all.
        ImplausibleError: no order can be judged by these.
    """
    bid, ask, last = (decimal(row.get(name), name) for name in ("bid", "ask", "last"))
    if not last:
        last = ratio(bid + ask, _TWO) if bid and ask else bid or ask
    if not last:
        raise IncompleteReplyError(f"no price for {symbol}")
    found = Ticker(symbol=symbol, bid=bid or last, ask=ask or last, last=last, at_ms=at_ms)
    check_ticker(found, moment_ms(row.get("timestamp"), "timestamp"), now_ms)
    return found
