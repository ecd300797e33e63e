"""An exchange's list of markets: as first loaded by ccxt, and loaded again while in use."""

import asyncio
from collections.abc import Collection, Mapping
from typing import Any

from worker.domain.market import MarketKind, SymbolInfo
from worker.exchanges.ccxt import readings
from worker.exchanges.ccxt.outcomes import IncompleteReplyError


def read(exchange: Any, kinds: Collection[MarketKind]) -> dict[str, SymbolInfo]:
    """Return the rules of the markets of ``kinds`` that a ccxt exchange has loaded, by symbol.

    Raises:
        IncompleteReplyError: there is none.
    """
    infos = {}
    for market in exchange.markets.values():
        kind = readings.market_kind(market)
        if kind is not None and kind in kinds:
            info = readings.symbol_info(market, kind, exchange.precisionMode)
            infos[info.symbol] = info
    if not infos:
        raise IncompleteReplyError("the exchange lists no market of market_types")
    return infos


async def reload(
    exchange: Any, kinds: Collection[MarketKind], known: Mapping[str, SymbolInfo]
) -> dict[str, SymbolInfo]:
    """Load the markets again; nothing is changed until that has worked.

    ccxt's ``load_markets(True)`` is not used: while it runs all calls wait, orders among them.

    Args:
        exchange: of ccxt, its markets loaded.
        kinds: which markets are wanted.
        known: what :func:`read` or this made of them before; what is gone is kept as inactive,
            since orders and positions of it may still have to be looked after.

    Raises:
        IncompleteReplyError: the exchange lists none of ``kinds``.
    """
    listed = await exchange.fetch_markets()
    symbols = {market["symbol"] for market in listed if readings.market_kind(market) in kinds}
    if not symbols:
        raise IncompleteReplyError("the exchange lists no market of market_types")
    gone = [exchange.markets[symbol] for symbol in known if symbol not in symbols]
    await asyncio.sleep(0)  # each of the three steps keeps the loop busy for a while
    # What the exchange said of a market that is gone does not count any more.
    closed = ({**market, "active": False, "info": {}} for market in gone)
    exchange.set_markets([*listed, *closed])
    exchange.markets_loading = None  # it holds the markets from before
    await asyncio.sleep(0)
    return read(exchange, kinds)


def changes(
    before: Mapping[str, SymbolInfo], now: Mapping[str, SymbolInfo]
) -> dict[str, list[str]]:
    """Return the ``new`` symbols and those ``closed`` to trading; empty if there are none."""
    new = [symbol for symbol in now if symbol not in before]
    closed = [symbol for symbol, info in before.items() if info.active and not now[symbol].active]
    return {"new": sorted(new), "closed": sorted(closed)} if new or closed else {}
