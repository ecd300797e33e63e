"""Rules for what an exchange's reply may say at all: what breaks one is garbage, and is not booked.

Each function passes what can be true and raises :class:`ImplausibleError` for what cannot, with a
sentence that names the field and its value. A rule leaves room for everything that an exchange is
known to do; it is not there to judge prices or fees, only to tell numbers from nonsense.
"""

from collections.abc import Iterable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from worker.domain.market import SymbolInfo, Ticker
from worker.domain.money import ZERO, text
from worker.domain.order import (
    BUY,
    Fill,
    OrderReport,
    OrderRequest,
    OrderState,
    average_price,
    total_quantity,
)

#: The most characters of a number, and the most digits before and after its decimal point.
MAX_NUMBER_CHARS: Final = 80
MAX_MAGNITUDE: Final = 30
#: The most characters of an id or a name, and of a reason.
MAX_NAME_CHARS: Final = 128
MAX_REASON_CHARS: Final = 300
#: The most of a trade's value that a fee in one of its own currencies can be.
MAX_FEE_SHARE: Final = Decimal("0.2")
#: The largest fee in any other coin, whose worth is not known.
MAX_FEE: Final = Decimal(10) ** 15
#: How far beyond its limit price an order can have traded, and how far the mean price that is
#: reported can be from that of the trades, as fractions.
MAX_BEYOND_LIMIT: Final = Decimal("0.1")
MAX_MEAN_OFF: Final = Decimal("0.1")
#: How far a bid can be above the ask, as a fraction: books cross for a moment.
MAX_CROSSED: Final = Decimal("0.1")
#: How far a price's time can be from the exchange's own, milliseconds.
MAX_TICKER_AGE_MS: Final = 86_400_000
#: Unix milliseconds of 2009-01-01 and 2100-01-01: no exchange's times are outside.
EARLIEST_MS: Final = 1_230_768_000_000
LATEST_MS: Final = 4_102_444_800_000
#: The finest and the coarsest grid and contract.
FINEST: Final = Decimal("1e-18")
COARSEST: Final = Decimal("1e12")

_ONE: Final = Decimal(1)
_LONGEST_ID: Final = 10**40


class ImplausibleError(ValueError):
    """A reading that cannot be true; the message names the field and its value."""


def number(value: Any, name: str = "a number") -> Decimal:
    """Return a reported number exactly; nothing or an empty text is 0.

    Raises:
        ImplausibleError: it is no finite number, or too long, large or small to be computed with.
    """
    if value is None or value == "":
        return ZERO
    if isinstance(value, bool | list | dict):
        raise ImplausibleError(f"{name} is {shown(value)}, which is not a number")
    if isinstance(value, int) and abs(value) >= _LONGEST_ID:
        raise ImplausibleError(f"{name} has too many digits")
    digits = str(value)
    if len(digits) > MAX_NUMBER_CHARS or not digits.isascii() or "_" in digits:
        raise ImplausibleError(f"{name} is {shown(value)}, which is not a number")
    try:
        found = Decimal(digits)
    except InvalidOperation:
        raise ImplausibleError(f"{name} is {shown(value)}, which is not a number") from None
    if not found.is_finite():
        raise ImplausibleError(f"{name} is {found}, which is not a finite number")
    if found and not -MAX_MAGNITUDE <= found.adjusted() <= MAX_MAGNITUDE:
        raise ImplausibleError(f"{name} is {found}, which is out of all bounds")
    return found


def moment_ms(value: Any, name: str = "a time") -> int:
    """Return a reported time, Unix milliseconds; 0 where none is given, or a negative one.

    Raises:
        ImplausibleError: it is no time between 2009 and 2100.
    """
    found = number(value, name)
    if found <= 0:
        return 0
    if not EARLIEST_MS <= found <= LATEST_MS:
        raise ImplausibleError(f"{name} is {text(found)}, which is no time between 2009 and 2100")
    return int(found)


def name_of(value: Any, name: str) -> str:
    """Return a reported id or name as text, empty if there is none.

    Raises:
        ImplausibleError: it is no text or number, too long, or holds what cannot be printed.
    """
    if value is None:
        return ""
    if isinstance(value, bool | float | list | dict):
        raise ImplausibleError(f"{name} is {shown(value)}")
    if isinstance(value, int) and abs(value) >= _LONGEST_ID:
        raise ImplausibleError(f"{name} has too many digits")
    found = str(value)
    if len(found) > MAX_NAME_CHARS or not found.isprintable():
        raise ImplausibleError(f"{name} is {shown(found)}")
    return found


def shown(value: Any) -> str:
    """Return the beginning of what an exchange sent, for a sentence about it."""
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "an object"
    return repr(value[:40] if isinstance(value, str) else value)[:48]


def check_report(report: OrderReport, request: OrderRequest, info: SymbolInfo) -> None:
    """Check what a reply says of one order against the order as it was sent.

    Raises:
        ImplausibleError: it cannot be true.
    """
    filled, ordered = report.filled_quantity, request.quantity
    if filled < 0:
        raise ImplausibleError(f"filled is {text(filled)}, less than nothing")
    if filled > ordered + info.quantity_step:
        raise ImplausibleError(f"filled is {text(filled)}, and {text(ordered)} was ordered")
    if report.state is OrderState.REJECTED and filled:
        raise ImplausibleError(f"the order is rejected, and filled is {text(filled)}")
    if report.average_price is not None:
        _check_price(report.average_price, request, "average")
    check_fills(report.fills, request, info)


def check_fills(fills: tuple[Fill, ...], request: OrderRequest, info: SymbolInfo) -> None:
    """Check the trades of one order.

    Raises:
        ImplausibleError: one of them, or all together, cannot have happened.
    """
    traded, ordered = total_quantity(fills), request.quantity
    if traded > ordered + info.quantity_step:
        raise ImplausibleError(
            f"the trades are {text(traded)} in all, and {text(ordered)} was ordered"
        )
    for fill in fills:
        name = f"trade {fill.trade_id[:40]}: "
        if fill.quantity <= 0:
            raise ImplausibleError(f"{name}amount is {text(fill.quantity)}")
        _check_price(fill.price, request, f"{name}price")
        for currency, fee in fill.fees:
            _check_fee(abs(fee), currency, fill, info, name)


def check_mean(fills: tuple[Fill, ...], report: OrderReport) -> None:
    """Check an order's trades against the mean price that was reported with it.

    Raises:
        ImplausibleError: they are not of the same order, or one of both is nonsense.
    """
    stated, traded = report.average_price, average_price(fills)
    if stated and traded and abs(traded - stated) > stated * MAX_MEAN_OFF:
        raise ImplausibleError(
            f"average is {text(stated)}, and the trades' mean price is {text(traded)}"
        )


def check_progress(report: OrderReport, last: OrderReport) -> None:
    """Check a report against the one before: what has traded cannot be taken back.

    Raises:
        ImplausibleError: it is.
    """
    if report.filled_quantity < last.filled_quantity:
        raise ImplausibleError(
            f"filled is {text(report.filled_quantity)}, and was {text(last.filled_quantity)} before"
        )


def check_names(order: Mapping[str, Any], request: OrderRequest, known: Iterable[str]) -> None:
    """Check that a ccxt order is of our market and side, as far as it says so.

    Args:
        order: in ccxt's form.
        request: ours.
        known: every market's symbol; a name that is none of them says nothing.

    Raises:
        ImplausibleError: it is about another order.
    """
    symbol, side = order.get("symbol"), order.get("side")
    if not isinstance(symbol, str):
        symbol = ""
    # ccxt takes some rows of a perpetual for rows of the spot market with the same id.
    is_other = symbol.partition(":")[0] != request.symbol.partition(":")[0]
    if is_other and symbol in known:
        raise ImplausibleError(f"symbol is {shown(symbol)}, and {request.symbol} was ordered")
    if side and side != request.side.value:
        raise ImplausibleError(f"side is {shown(side)}, and {request.side.value} was ordered")


def check_ticker(ticker: Ticker, told_ms: int, now_ms: int) -> None:
    """Check a market's prices.

    Args:
        ticker: the prices.
        told_ms: the time that the exchange gave with them, Unix milliseconds; 0 if none.
        now_ms: the exchange's time.

    Raises:
        ImplausibleError: no order can be judged by them.
    """
    for name, price in (("bid", ticker.bid), ("ask", ticker.ask), ("last", ticker.last)):
        if price <= 0:
            raise ImplausibleError(f"{name} of {ticker.symbol} is {text(price)}")
    if ticker.bid > ticker.ask * (_ONE + MAX_CROSSED):
        raise ImplausibleError(
            f"bid of {ticker.symbol} is {text(ticker.bid)}, and ask is {text(ticker.ask)}"
        )
    if told_ms and abs(told_ms - now_ms) > MAX_TICKER_AGE_MS:
        hours = (now_ms - told_ms) / 3_600_000
        raise ImplausibleError(f"the price of {ticker.symbol} is {hours:.0f} hours old")


def check_market(info: SymbolInfo) -> None:
    """Check that orders can be put on a market's grid and within its limits.

    Raises:
        ImplausibleError: they cannot.
    """
    for name in (info.symbol, info.base, info.quote, info.settle):
        name_of(name, "a name of it")
    grids = (
        ("price tick", info.price_tick),
        ("quantity step", info.quantity_step),
        ("contract size", info.contract_size),
    )
    for name, step in grids:
        if not FINEST <= step <= COARSEST:
            raise ImplausibleError(f"its {name} is {text(step)}")
    limits = (
        info.min_quantity,
        info.max_quantity,
        info.min_notional,
        info.max_market_quantity,
        info.max_market_notional,
    )
    if min(limits) < 0:
        raise ImplausibleError("one of its limits is negative")
    if info.max_quantity and info.min_quantity > info.max_quantity:
        raise ImplausibleError(
            f"its minimum is {text(info.min_quantity)}, and its maximum {text(info.max_quantity)}"
        )
    for name, share in (("taker fee", info.taker_fee), ("maker fee", info.maker_fee)):
        if abs(share) > MAX_FEE_SHARE:
            raise ImplausibleError(f"its {name} is {text(share)} of the value")


def _check_price(price: Decimal, request: OrderRequest, name: str) -> None:
    if price <= 0:
        raise ImplausibleError(f"{name} is {text(price)}")
    limit = request.price if request.order_type.needs_price else None
    if limit is None or limit <= 0:
        return
    beyond = price - limit if request.side is BUY else limit - price
    if beyond > limit * MAX_BEYOND_LIMIT:
        raise ImplausibleError(
            f"{name} is {text(price)}, and the {request.side.value} limit is {text(limit)}"
        )


def _check_fee(fee: Decimal, currency: str, fill: Fill, info: SymbolInfo, name: str) -> None:
    most = MAX_FEE
    if currency == info.base:
        most = fill.quantity * MAX_FEE_SHARE
    elif currency in {info.quote, info.settle}:
        most = fill.quantity * fill.price * MAX_FEE_SHARE
    name_of(currency, f"{name}fee currency")
    if fee > most:
        raise ImplausibleError(
            f"{name}fee is {text(fee)} {currency}, and the trade is "
            f"{text(fill.quantity)} at {text(fill.price)}"
        )
