"""Every trade of an order is read, in however many pages an exchange tells them; the real ccxt."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any
from urllib.parse import quote

import pytest

from tests.integration import binance as simulated
from tests.integration.canned import Asked, CannedServer, canned_server
from tests.integration.venues import adapter_for, stock
from worker.domain.order import Fill, OrderReport, OrderRequest, OrderState, Role, Side
from worker.domain.signal import OrderType
from worker.exchanges.ccxt.adapter import CCXTAdapter
from worker.exchanges.ccxt.paging import MAX_PAGES
from worker.exchanges.errors import ExchangeError

D = Decimal
ORDER = "77"
#: Of each trade, in whatever currency.
FEE = "0.1"
STARTED_MS = 1_700_000_000_000
Raw = dict[str, Any]

#: Trades in a full page, and where they are asked for.
PAGE = {"binance": 1_000, "binance linear": 1_000, "bybit": 100, "bybit linear": 100}
PAGE |= {"okx": 100, "okx linear": 100, "coinbase": 100, "kraken": 20}
ROUTE = {
    "binance": "GET /api/v3/myTrades",
    "binance linear": "GET /fapi/v1/userTrades",
    "bybit": "GET /v5/execution/list",
    "bybit linear": "GET /v5/execution/list",
    "okx": "GET /api/v5/trade/fills",
    "okx linear": "GET /api/v5/trade/fills",
    "coinbase": "GET /api/v3/brokerage/orders/historical/fills",
    "kraken": "POST /0/private/QueryTrades",
}


def _symbol(market: str) -> str:
    return "BTC/USDT:USDT" if market.endswith("linear") else "BTC/USDT"


# ---- each exchange's trades, and its way to tell them ---------------------------------------
# Trade n is of n contracts or coins at the price of 100, so that no two can be mixed up.


def _binance(count: int, symbol: str) -> Callable[[Asked], Any]:
    """The newest ones, or from ``fromId`` on; always the oldest first."""
    row: Raw = {"symbol": "BTCUSDT", "orderId": int(ORDER), "price": "100", "commission": FEE}
    row |= {"commissionAsset": "USDT", "side": "BUY", "isBuyer": True, "buyer": True}
    if symbol == "BTC/USDT":
        row["orderListId"] = -1
    rows = [row | {"id": n, "qty": str(n), "time": STARTED_MS + n} for n in range(1, count + 1)]

    def answer(asked: Asked) -> list[Raw]:
        assert asked.query["orderId"] == ORDER
        limit = int(asked.query["limit"])
        if "fromId" in asked.query:
            return [row for row in rows if row["id"] >= int(asked.query["fromId"])][:limit]
        return rows[-limit:]

    return answer


def _bybit(count: int, symbol: str) -> Callable[[Asked], Any]:
    """The newest first; with a cursor, percent-encoded, even where nothing comes any more."""
    row = {"symbol": "BTCUSDT", "orderId": ORDER, "execPrice": "100", "side": "Buy"}
    row |= {"execFee": FEE, "feeCurrency": "", "execType": "Trade"}

    def answer(asked: Asked) -> Raw:
        category = "spot" if symbol == "BTC/USDT" else "linear"
        assert (asked.query["orderId"], asked.query["category"]) == (ORDER, category)
        newest = int(asked.query.get("cursor", f"{count}:0,").partition(":")[0])
        oldest = max(newest - int(asked.query["limit"]), 0)
        rows = [
            row | {"execId": str(n), "execQty": str(n), "execTime": str(STARTED_MS + n)}
            for n in range(newest, oldest, -1)
        ]
        result = {"list": rows, "nextPageCursor": quote(f"{oldest}:0,{oldest}:0")}
        return {"retCode": 0, "result": result}

    return answer


def _okx(count: int, symbol: str) -> Callable[[Asked], Any]:
    """The newest first, from before the bill ``after`` on."""
    instrument = "BTC-USDT" if symbol == "BTC/USDT" else "BTC-USDT-SWAP"
    row = {"instId": instrument, "ordId": ORDER, "fillPx": "100", "side": "buy"}
    row |= {"fee": f"-{FEE}", "feeCcy": "USDT"}

    def answer(asked: Asked) -> Raw:
        assert (asked.query["ordId"], asked.query["instId"]) == (ORDER, instrument)
        newest = int(asked.query.get("after", f"9{count + 1:09}")[1:]) - 1
        oldest = max(newest - int(asked.query.get("limit", "100")), 0)
        rows = [
            row
            | {"tradeId": str(n), "fillSz": str(n), "ts": str(STARTED_MS + n), "billId": f"9{n:09}"}
            for n in range(newest, oldest, -1)
        ]
        return {"code": "0", "data": rows}

    return answer


def _coinbase(count: int, symbol: str) -> Callable[[Asked], Any]:
    """The newest first, without a cursor at the end; of all orders if none is named rightly."""
    row = {"product_id": "BTC-USDT", "price": "100", "commission": FEE, "side": "BUY"}

    def answer(asked: Asked) -> Raw:
        order = asked.query.get("order_ids", "another")
        newest = int(asked.query.get("cursor", count))
        oldest = max(newest - int(asked.query.get("limit", "100")), 0)
        rows = [
            row
            | {"trade_id": f"t{n}", "order_id": order, "size": str(n)}
            | {"trade_time": f"2023-11-14T{n // 3600:02}:{n // 60 % 60:02}:{n % 60:02}Z"}
            for n in range(newest, oldest, -1)
        ]
        return {"fills": rows, "cursor": str(oldest) if oldest else ""}

    return answer


def _kraken(count: int, symbol: str) -> Callable[[Asked], Any]:
    """One to twenty trades by their ids."""
    row = {"ordertxid": ORDER, "pair": "XBTUSDT", "type": "buy", "ordertype": "market"}
    row |= {"price": "100", "cost": "100", "fee": FEE}

    def answer(asked: Asked) -> Raw:
        ids = asked.fields.get("txid", "").split(",")
        if not ids[0] or len(ids) > 20:
            return {"error": ["EGeneral:Invalid arguments:txid"]}
        found = {
            trade: row | {"vol": trade[1:], "time": STARTED_MS // 1000 + int(trade[1:])}
            for trade in ids
        }
        return {"error": [], "result": found}

    return answer


_ANSWERS: dict[str, Callable[[int, str], Callable[[Asked], Any]]] = {
    "binance": _binance,
    "bybit": _bybit,
    "okx": _okx,
}
_ANSWERS |= {"coinbase": _coinbase, "kraken": _kraken}


@asynccontextmanager
async def holding(market: str, count: int) -> AsyncIterator[tuple[CCXTAdapter, CannedServer]]:
    """A started adapter, and the server on which one order has ``count`` trades."""
    venue, symbol = market.partition(" ")[0], _symbol(market)
    async with canned_server() as server:
        stock(server, venue)
        server.replies[ROUTE[market]] = _ANSWERS[venue](count, symbol)
        named = [f"T{n}" for n in range(1, count + 1)]
        order: Raw = {"vol": "1", "vol_exec": "1", "status": "closed", "trades": named}
        order["descr"] = {"pair": "XBTUSDT", "type": "buy", "ordertype": "market", "price": "0"}
        server.replies["POST /0/private/QueryOrders"] = {"error": [], "result": {ORDER: order}}
        adapter = adapter_for(venue, server.url)
        await adapter.start()
        server.asked.clear()
        try:
            yield adapter, server
        finally:
            await adapter.close()


async def read(adapter: CCXTAdapter, market: str) -> tuple[Fill, ...]:
    """What ``get_trades`` says of the order."""
    request = OrderRequest(
        client_order_id="c",
        exchange="x",
        symbol=_symbol(market),
        role=Role.ENTRY,
        side=Side.BUY,
        order_type=OrderType.MARKET,
        quantity=D(10_000_000),  # no less than all trades together
    )
    report = OrderReport(
        client_order_id="c",
        exchange_order_id=ORDER,
        symbol=request.symbol,
        state=OrderState.FILLED,
    )
    return await adapter.get_trades(request, report)


@pytest.mark.parametrize("more", [-1, 0, 1, "two pages", "and a bit"])
@pytest.mark.parametrize("market", sorted(PAGE))
async def test_every_trade_is_read_once(market: str, more: int | str) -> None:
    """One page or several, the last one full or not: the trades add up, oldest first."""
    page = PAGE[market]
    count = {"two pages": 2 * page, "and a bit": 2 * page + 3}.get(str(more)) or page + int(more)
    async with holding(market, count) as (adapter, server):
        fills = await read(adapter, market)
        unit = D("0.01") if market == "okx linear" else D(1)
        assert [fill.quantity for fill in fills] == [n * unit for n in range(1, count + 1)]
        assert sum(fill.fee for fill in fills) == count * D(FEE)
        # Binance begins anew where its first page is full.
        assert len(server.requests(ROUTE[market])) <= count // page + 2


@pytest.mark.parametrize("market", sorted(PAGE))
async def test_a_page_that_is_not_full_is_the_last(market: str) -> None:
    """The usual order costs one question, not a second one after which nothing comes."""
    async with holding(market, 2) as (adapter, server):
        assert len(await read(adapter, market)) == 2
        assert len(server.requests(ROUTE[market])) == 1


async def test_kraken_is_not_asked_about_no_trade_at_all() -> None:
    """An order whose trades are not listed yet has none to ask about."""
    async with holding("kraken", 0) as (adapter, server):
        assert await read(adapter, "kraken") == ()
        assert server.requests(ROUTE["kraken"]) == []


async def test_bybit_naming_the_last_page_again_ends_the_list() -> None:
    """As it does for a full one: the page's own cursor instead of the next one's."""
    async with holding("bybit", 200) as (adapter, server):
        answer = _bybit(200, "BTC/USDT")

        def stuck(asked: Asked) -> Raw:
            reply: Raw = answer(asked)
            if "cursor" in asked.query:
                reply["result"]["nextPageCursor"] = quote(asked.query["cursor"])
            return reply

        server.replies[ROUTE["bybit"]] = stuck
        assert len(await read(adapter, "bybit")) == 200
        assert len(server.requests(ROUTE["bybit"])) == 2


@pytest.mark.parametrize("market", ["okx", "kraken"])
async def test_more_pages_than_are_read_are_an_error_that_says_so(market: str) -> None:
    """Never a part of the trades for all of them, and never a question too many."""
    async with holding(market, MAX_PAGES * PAGE[market] + 1) as (adapter, server):
        with pytest.raises(ExchangeError, match=f"more than 100 pages of {PAGE[market]}") as raised:
            await read(adapter, market)
        assert str(raised.value).startswith(f"{market} get_trades: ")
        assert len(server.requests(ROUTE[market])) <= MAX_PAGES


@pytest.mark.parametrize(
    ("symbol", "quantity"), [(simulated.SPOT, "0.025"), (simulated.LINEAR, "2.5")]
)
async def test_an_order_in_thousands_of_trades_on_a_simulated_binance(
    symbol: str, quantity: str
) -> None:
    """The fills of 2,500 trades come to the filled quantity."""
    async with simulated.trading(fills_per_order=2_500) as (adapter, _):
        request = simulated.an_order(symbol, quantity=D(quantity))
        report = await adapter.place_order(request, adapter.open_window())
        fills = await adapter.get_trades(request, report)
        assert len(fills) == 2_500
        assert sum(fill.quantity for fill in fills) == report.filled_quantity == D(quantity)
