"""An exchange's list of markets: as first loaded by ccxt, and loaded again while in use."""

import asyncio
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

import msgspec

from worker.domain.market import MarketKind, SymbolInfo
from worker.domain.plausibility import MAX_REASON_CHARS, check_market
from worker.exchanges.ccxt import readings
from worker.exchanges.ccxt.loading import MOST_LEFT_OUT
from worker.exchanges.ccxt.outcomes import IncompleteReplyError
from worker.runtime.logger import get_logger

#: Reads the rules of one ccxt market: ``readings.symbol_info``, and what an exchange has to add.
Rules = Callable[[Mapping[str, Any], MarketKind, int], SymbolInfo]

_NONE: Final = "the exchange lists no market of market_types"

#: Where ccxt keeps its markets.
_INDEXES: Final = ("markets", "markets_by_id", "symbols", "ids")

_log = get_logger()


def read(
    exchange: Any,
    kinds: Collection[MarketKind],
    rules: Rules = readings.symbol_info,
    known: Mapping[str, SymbolInfo] | None = None,
) -> dict[str, SymbolInfo]:
    """Return the rules of the markets of ``kinds`` that a ccxt exchange has loaded, by symbol.

    A market whose rules cannot be read is left out, and said in the log once; where it was read
    before it stays as it was, closed, since orders and positions of it may have to be looked after.

    Args:
        exchange: of ccxt, its markets loaded.
        kinds: which markets are wanted.
        rules: reads one market.
        known: what this made of them before.

    Raises:
        IncompleteReplyError: there is none.
    """
    infos, unread = {}, {}
    for symbol, market in exchange.markets.items():
        kind = readings.market_kind(market)
        if kind is None or kind not in kinds:
            continue
        try:
            info = rules(market, kind, exchange.precisionMode)
            check_market(info)
            infos[symbol] = info
        except Exception as error:  # one market's nonsense is that market's alone
            unread[symbol] = (str(error) or type(error).__name__)[:MAX_REASON_CHARS]
    if not infos:
        raise IncompleteReplyError(_first_reason(unread))
    for symbol, info in (known or {}).items():
        if symbol not in infos:
            infos[symbol] = msgspec.structs.replace(info, active=False)
    _tell(exchange, unread)
    return infos


def _first_reason(unread: Mapping[str, str]) -> str:
    for symbol, reason in unread.items():
        return f"{_NONE} that can be read: {symbol}: {reason}"
    return _NONE


def _tell(exchange: Any, unread: Mapping[str, str]) -> None:
    """Log each market that is left out, once for each reason."""
    told: dict[str, str] = exchange.options.setdefault("marketsLeftOut", {})
    for symbol, reason in unread.items():
        if told.get(symbol) != reason and (symbol in told or len(told) < MOST_LEFT_OUT):
            told[symbol] = reason
            _log.warning("market_left_out", exchange=exchange.id, market=symbol, reason=reason)


async def reload(
    exchange: Any,
    kinds: Collection[MarketKind],
    known: Mapping[str, SymbolInfo],
    rules: Rules = readings.symbol_info,
) -> dict[str, SymbolInfo]:
    """Load the markets again; nothing is changed until that has worked.

    ccxt's ``load_markets(True)`` is not used: while it runs all calls wait, orders among them.

    Args:
        exchange: of ccxt, its markets loaded.
        kinds: which markets are wanted.
        known: what :func:`read` or this made of them before; what is gone is kept as inactive,
            since orders and positions of it may still have to be looked after.
        rules: reads one market.

    Raises:
        IncompleteReplyError: the exchange lists none of ``kinds``.
    """
    listed = [market for market in await exchange.fetch_markets() if isinstance(market, dict)]
    symbols = {
        market["symbol"]
        for market in listed
        if market.get("symbol") and readings.market_kind(market) in kinds
    }
    if not symbols:
        raise IncompleteReplyError(_NONE)
    gone = [exchange.markets[symbol] for symbol in known if symbol not in symbols]
    await asyncio.sleep(0)  # each of the three steps keeps the loop busy for a while
    # What the exchange said of a market that is gone does not count any more.
    closed = ({**market, "active": False, "info": {}} for market in gone)
    before = {name: getattr(exchange, name) for name in _INDEXES}
    exchange.set_markets([*listed, *closed])
    exchange.markets_loading = None  # it holds the markets from before
    await asyncio.sleep(0)
    try:
        return read(exchange, kinds, rules, known)
    except IncompleteReplyError:
        for name, index in before.items():
            setattr(exchange, name, index)
        raise


def changes(
    before: Mapping[str, SymbolInfo], now: Mapping[str, SymbolInfo]
) -> dict[str, list[str]]:
    """Return the ``new`` symbols and those ``closed`` to trading; empty if there are none."""
    new = [symbol for symbol in now if symbol not in before]
    closed = [symbol for symbol, info in before.items() if info.active and not now[symbol].active]
    return {"new": sorted(new), "closed": sorted(closed)} if new or closed else {}
