"""One unreadable market in a listing costs that market, not the exchange; with the real ccxt."""

import copy
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import pytest

from tests.integration.canned import Asked, Canned, CannedServer, canned_server
from tests.integration.venues import adapter_for, stock
from worker.domain.market import MarketKind
from worker.exchanges.ccxt.adapter import CCXTAdapter
from worker.exchanges.errors import ExchangeError

D = Decimal
SPOT, LINEAR = "BTC/USDT", "BTC/USDT:USDT"
Row = dict[str, Any]

#: Each exchange's lists, where the rows of a reply are, and what another market's names are.
LISTS: dict[str, tuple[list[str], list[str], Row]] = {
    "binance": (
        ["GET /api/v3/exchangeInfo", "GET /fapi/v1/exchangeInfo"],
        ["symbols"],
        {"symbol": "BADUSDT", "baseAsset": "BAD"},
    ),
    "bybit": (
        ["GET /v5/market/instruments-info"],
        ["result", "list"],
        {"symbol": "BADUSDT", "baseCoin": "BAD"},
    ),
    "okx": (
        ["GET /api/v5/public/instruments"],
        ["data"],
        {"instId": "BAD-USDT", "baseCcy": "BAD", "uly": "BAD-USDT", "ctValCcy": "BAD"},
    ),
}
VENUES = sorted(LISTS)


def _set(row: Row, path: str, value: Any) -> None:
    *parents, last = path.split(".")
    inner: Any = row
    for name in parents:
        inner = inner[int(name)] if isinstance(inner, list) else inner[name]
    inner[int(last) if isinstance(inner, list) else last] = value


def _renamed(row: Row, names: Row) -> Row:
    other = copy.deepcopy(row)
    for name, value in names.items():
        if name in other:
            other[name] = value
    if str(other.get("instType")) == "SWAP":
        other["instId"] = "BAD-USDT-SWAP"
    return other


async def _with_row(
    venue: str, server: CannedServer, spoil: Callable[[Row], Any], kind: MarketKind
) -> None:
    """Put one more market, spoilt by ``spoil``, into the listing of ``kind``."""
    routes, path, names = LISTS[venue]
    is_spot = kind is MarketKind.SPOT
    for route in routes if len(routes) == 1 else [routes[0 if is_spot else 1]]:
        before = server.replies[route]

        def reply(asked: Asked, before: Any = before) -> Any:
            told = copy.deepcopy(before(asked) if callable(before) else before)
            asks_spot = asked.query.get("instType", asked.query.get("category", "")).lower()
            if asks_spot and (asks_spot == "spot") is not is_spot:
                return told
            rows = told
            for name in path:
                rows = rows[name]
            if rows:
                spoilt = spoil(_renamed(rows[0], names))
                rows.insert(0, spoilt)
                rows.append(copy.deepcopy(spoilt))
            return Canned(json.dumps(told).replace('"1e999"', "1e999").replace('"INF"', "Infinity"))

        server.replies[route] = reply


def spoiling(path: str, value: Any) -> Callable[[Row], Any]:
    """Return what sets one field of a row."""

    def spoil(row: Row) -> Row:
        _set(row, path, value)
        return row

    return spoil


def dropping(*names: str) -> Callable[[Row], Any]:
    """Return what takes fields out of a row."""

    def spoil(row: Row) -> Row:
        return {name: value for name, value in row.items() if name not in names}

    return spoil


#: What can be wrong with a row at any exchange.
ANYWHERE: list[Callable[[Row], Any]] = [
    lambda _: {},
    lambda _: None,
    lambda _: "BADUSDT",
    lambda _: [],
    dict.fromkeys,
    lambda row: dict.fromkeys(row, ""),
]
#: As texts, and as numbers in and out of JSON.
MAXIMA = ["Infinity", "1e999", "INF", "NaN", "-1", "many"]
#: What can be wrong with one exchange's fields: in both kinds, spot alone, perpetuals alone.
FIELDS: dict[str, list[Callable[[Row], Any]]] = {
    "binance": [
        dropping("symbol"),
        dropping("quoteAsset"),
        spoiling("baseAsset", None),
        spoiling("quoteAsset", ""),
        spoiling("filters.0.tickSize", "0"),
        spoiling("filters.0.tickSize", None),
        spoiling("filters.1.stepSize", "0.000"),
        spoiling("filters.1.stepSize", "tiny"),
        spoiling("filters.2.minNotional", "Infinity"),
        *(spoiling("filters.1.maxQty", value) for value in MAXIMA),
        lambda row: row | {"filters": [*row["filters"], _market_lots("Infinity")]},
    ],
    "bybit": [
        dropping("symbol"),
        dropping("baseCoin", "quoteCoin"),
        dropping("lotSizeFilter"),
        spoiling("quoteCoin", ""),
        spoiling("priceFilter", {"tickSize": "0"}),
        spoiling("priceFilter", {"tickSize": "0.01x"}),
        *(spoiling("lotSizeFilter.maxOrderQty", value) for value in MAXIMA),
        *(spoiling("lotSizeFilter.maxMktOrderQty", value) for value in MAXIMA),
    ],
    "okx": [
        dropping("instId"),
        dropping("tickSz"),
        spoiling("tickSz", ""),
        spoiling("tickSz", "0"),
        spoiling("lotSz", "0"),
        spoiling("lotSz", ""),
        *(spoiling("maxLmtSz", value) for value in MAXIMA),
        *(spoiling("maxMktSz", value) for value in MAXIMA),
    ],
}
#: A contract whose size is not told would be bought a hundredfold.
CONTRACTS = [spoiling("ctVal", value) for value in ("", "0", None, "-1", "NaN")]
CONTRACTS += [spoiling("ctValCcy", "USD"), dropping("settleCcy"), dropping("uly")]


def _market_lots(most: str) -> Row:
    return {"filterType": "MARKET_LOT_SIZE", "minQty": "0", "maxQty": most, "stepSize": "0"}


@asynccontextmanager
async def listed(
    venue: str, spoil: Callable[[Row], Any], kind: MarketKind
) -> AsyncIterator[tuple[CCXTAdapter, CannedServer]]:
    """An adapter, not started, of an exchange with one market that is spoilt."""
    async with canned_server() as server:
        stock(server, venue)
        await _with_row(venue, server, spoil, kind)
        adapter = adapter_for(venue, server.url)
        try:
            yield adapter, server
        finally:
            await adapter.close()


CASES = [
    (venue, kind, spoil)
    for venue in VENUES
    for kind in MarketKind
    for spoil in ANYWHERE + FIELDS[venue]
] + [("okx", MarketKind.LINEAR, spoil) for spoil in CONTRACTS]


@pytest.mark.parametrize(("venue", "kind", "spoil"), CASES)
async def test_a_market_that_cannot_be_read_is_left_out_and_all_others_load(
    venue: str, kind: MarketKind, spoil: Callable[[Row], Any]
) -> None:
    """At the start and at every refresh."""
    async with listed(venue, spoil, kind) as (adapter, _):
        await adapter.start()
        for _ in range(2):
            assert not [symbol for symbol in adapter.symbols() if "BAD" in symbol]
            for symbol in (SPOT, LINEAR):
                info = adapter.get_symbol_info(symbol)
                assert info is not None
                assert info.active
                assert info.price_tick > 0
                assert info.quantity_step > 0
            await adapter.refresh_markets()


@pytest.mark.parametrize("venue", VENUES)
async def test_a_good_market_beside_the_others_is_listed(venue: str) -> None:
    """The row that the other tests spoil is one that would be read."""
    for kind in MarketKind:
        async with listed(venue, lambda row: row, kind) as (adapter, _):
            await adapter.start()
            assert [symbol for symbol in adapter.symbols() if "BAD" in symbol]


@pytest.mark.parametrize("venue", VENUES)
async def test_a_market_that_becomes_unreadable_stays_known_and_is_closed(venue: str) -> None:
    """Orders and positions of it may have to be looked after; it trades again once it is whole."""
    names = {"binance": "filters.0.tickSize", "bybit": "priceFilter", "okx": "tickSz"}
    broken: list[Any] = [{"tickSize": "0"} if venue == "bybit" else "0"]

    def spoil(row: Row) -> Row:
        if broken:
            _set(row, names[venue], broken[0])
        return row

    async with listed(venue, spoil, MarketKind.SPOT) as (adapter, _):
        value = broken.pop()
        await adapter.start()
        before = adapter.get_symbol_info("BAD/USDT")
        assert before is not None
        assert before.active
        broken.append(value)
        await adapter.refresh_markets()
        closed = adapter.get_symbol_info("BAD/USDT")
        assert closed is not None
        assert not closed.active
        assert closed.price_tick == before.price_tick
        broken.clear()
        await adapter.refresh_markets()
        assert adapter.get_symbol_info("BAD/USDT") == before


@pytest.mark.parametrize("venue", VENUES)
async def test_a_listing_of_unreadable_markets_alone_changes_nothing(venue: str) -> None:
    """It fails with the first reason, and what was loaded is used on."""
    async with canned_server() as server:
        stock(server, venue)
        adapter = adapter_for(venue, server.url)
        await adapter.start()
        known = {symbol: adapter.get_symbol_info(symbol) for symbol in adapter.symbols()}
        loaded = adapter._ccxt.markets
        routes, path, _ = LISTS[venue]
        for route in routes:
            before = server.replies[route]

            def reply(asked: Asked, before: Any = before) -> Any:
                told = copy.deepcopy(before(asked) if callable(before) else before)
                rows = told
                for name in path:
                    rows = rows[name]
                for row in rows:
                    if venue == "binance":
                        _set(row, "filters.0.tickSize", "0")
                    else:
                        row |= {"tickSz": "0", "priceFilter": {"tickSize": "0"}}
                return told

            server.replies[route] = reply
        with pytest.raises(ExchangeError, match="price tick"):
            await adapter.refresh_markets()
        assert {one: adapter.get_symbol_info(one) for one in adapter.symbols()} == known
        assert adapter._ccxt.markets is loaded
        await adapter.close()


@pytest.mark.parametrize(
    ("most", "expected"), [("120.5", D("120.5")), ("0", D(0)), ("0.00000000", D(0))]
)
async def test_binance_and_bybit_state_a_maximum_of_market_orders(most: str, expected: D) -> None:
    """MARKET_LOT_SIZE, where 0 is none; ``maxMktOrderQty``, and ``maxMarketOrderQty`` of spot."""
    for venue in ("binance", "bybit"):
        for kind in MarketKind:

            def spoil(row: Row, venue: str = venue, kind: MarketKind = kind) -> Row:
                if venue == "binance":
                    return row | {"filters": [*row["filters"], _market_lots(most)]}
                name = "maxMarketOrderQty" if kind is MarketKind.SPOT else "maxMktOrderQty"
                return row | {"lotSizeFilter": row["lotSizeFilter"] | {name: most}}

            async with listed(venue, spoil, kind) as (adapter, _):
                await adapter.start()
                symbol = "BAD/USDT" if kind is MarketKind.SPOT else "BAD/USDT:USDT"
                info = adapter.get_symbol_info(symbol)
                assert info is not None
                assert info.max_market_quantity == expected
                assert info.max_quantity > 0
                good = adapter.get_symbol_info(SPOT)
                assert good is not None
                assert good.max_market_quantity == 0
