"""Markets come and go while a worker runs: new ones trade, gone ones do not, none is in the way."""

import asyncio
import time
from typing import Any

import pytest

from tests.integration.binance import LINEAR, SPOT, an_order, trading
from tests.integration.canned import Asked, Canned, canned_server
from tests.integration.venues import adapter_for, stock
from worker.domain.order import OrderState
from worker.exchanges.errors import ExchangeError, Outcome

ETH = "ETH/USDT"
#: Where each exchange lists its markets.
LISTS = {
    "binance": ["GET /api/v3/exchangeInfo", "GET /fapi/v1/exchangeInfo"],
    "bybit": ["GET /v5/market/instruments-info"],
    "okx": ["GET /api/v5/public/instruments"],
    "kraken": ["GET /0/public/AssetPairs"],
    "coinbase": ["GET /api/v3/brokerage/products", "GET /api/v3/brokerage/market/products"],
}
#: A reply without any market.
NOTHING: dict[str, Any] = {
    "binance": {"symbols": []},
    "bybit": {"retCode": 0, "retMsg": "OK", "result": {"list": []}},
    "okx": {"code": "0", "data": [], "msg": ""},
    "kraken": {"error": [], "result": {}},
    "coinbase": {"products": [], "num_products": 0},
}


async def test_new_markets_trade_and_gone_ones_are_closed() -> None:
    """Without a restart; orders of a gone market can still be looked up."""
    async with trading() as (adapter, server):
        markets = server.simulator.engine.markets["spot"]
        request = an_order(ETH)
        report = await adapter.place_order(request, adapter.open_window())
        before = adapter.get_symbol_info(SPOT)

        delisted = markets.pop("ETHUSDT")
        await adapter.refresh_markets()
        gone = adapter.get_symbol_info(ETH)
        assert gone is not None
        assert not gone.active
        assert adapter.get_symbol_info(SPOT) == before
        assert adapter._ccxt.markets[SPOT]["active"]
        markets["ETHUSDT"] = delisted  # what the exchange keeps of orders outlives the market
        assert (await adapter.get_order(request)).exchange_order_id == report.exchange_order_id

        await adapter.refresh_markets()
        listed = adapter.get_symbol_info(ETH)
        assert listed is not None
        assert listed.active
        report = await adapter.place_order(an_order(ETH), adapter.open_window())
        assert report.state is OrderState.FILLED


async def test_a_market_that_was_not_there_at_the_start_trades_after_a_refresh() -> None:
    """To the adapter it is unknown before, and like any other after."""
    async with trading() as (adapter, server):
        markets = server.simulator.engine.markets["spot"]
        later = markets.pop("ETHUSDT")
        await adapter.close()
        await adapter.start()
        assert adapter.get_symbol_info(ETH) is None
        markets["ETHUSDT"] = later
        await adapter.refresh_markets()
        report = await adapter.place_order(an_order(ETH), adapter.open_window())
        assert report.state is OrderState.FILLED


async def test_orders_do_not_wait_for_markets_that_are_being_loaded() -> None:
    """However long that takes, and whether it ends well or not."""
    async with trading() as (adapter, server):
        rule = server.simulator.add_fault(
            path="exchangeInfo", delay_ms=1_500, action="http_status", status=503, body="busy"
        )
        loading = asyncio.ensure_future(adapter.refresh_markets())
        async with asyncio.timeout(5):
            while not server.simulator.faults.armed[rule].hits:  # noqa: ASYNC110 (no event)
                await asyncio.sleep(0)
        asked = time.monotonic()
        await adapter.place_order(an_order(), adapter.open_window())
        await adapter.get_ticker(LINEAR)
        assert time.monotonic() - asked < 1
        assert not loading.done()
        with pytest.raises(ExchangeError):
            await loading
        await adapter.place_order(an_order(LINEAR), adapter.open_window())


@pytest.mark.parametrize("venue", LISTS)
async def test_a_refresh_that_fails_changes_nothing(venue: str) -> None:
    """Neither an error nor an empty list leaves the adapter without markets, at any exchange."""
    async with canned_server() as server:
        stock(server, venue)
        adapter = adapter_for(venue, server.url)
        await adapter.start()
        known = {symbol: adapter.get_symbol_info(symbol) for symbol in adapter.symbols()}
        await adapter.refresh_markets()
        assert {one: adapter.get_symbol_info(one) for one in adapter.symbols()} == known
        loaded = adapter._ccxt.markets
        for reply in (Canned("down", 503), NOTHING[venue]):
            server.replies |= dict.fromkeys(LISTS[venue], reply)
            with pytest.raises(ExchangeError):
                await adapter.refresh_markets()
            assert {one: adapter.get_symbol_info(one) for one in adapter.symbols()} == known
            assert adapter._ccxt.markets is loaded
        await adapter.close()
        with pytest.raises(ExchangeError, match="not started"):
            await adapter.refresh_markets()


# --- prices beside a market that has none ---


async def test_a_symbol_the_exchange_no_longer_knows_leaves_the_others_their_prices() -> None:
    """Binance refuses a whole list for one unknown symbol in it; that one is searched for."""
    async with trading(symbols=60) as (adapter, server):
        wanted = [SPOT, ETH, "SOL/USDT", LINEAR, "NO/SUCH"]
        assert set(await adapter.get_tickers(wanted)) == {SPOT, ETH, "SOL/USDT", LINEAR}
        server.simulator.engine.markets["spot"].pop("ETHUSDT")
        assert set(await adapter.get_tickers(wanted)) == {SPOT, "SOL/USDT", LINEAR}
        assert set(await adapter.get_tickers([ETH, LINEAR])) == {LINEAR}
        with pytest.raises(ExchangeError):
            await adapter.get_tickers([ETH])
        many = [ETH, *(f"C{number:03}/USDT" for number in range(60))]
        before = server.simulator.counts.total()
        assert len(await adapter.get_tickers(many)) == 60
        assert server.simulator.counts.total() - before < 20
        assert await adapter.get_tickers(["NO/SUCH"]) == {}


async def test_a_market_nobody_quotes_takes_its_price_from_the_day() -> None:
    """And only that one is asked about again."""
    async with trading() as (adapter, server):
        rows = [
            {"symbol": "BTCUSDT", "bidPrice": "9", "askPrice": "11"},
            {"symbol": "ETHUSDT", "bidPrice": "0", "askPrice": "0"},
        ]
        server.simulator.add_fault(
            path="api/v3/ticker/bookTicker",
            action="http_status",
            status=200,
            body=str(rows).replace("'", '"'),
            content_type="application/json",
        )
        found = await adapter.get_tickers([SPOT, ETH])
        assert found[SPOT].last == 10
        assert found[ETH].last > 100


async def test_one_failing_price_does_not_keep_the_others_back_elsewhere() -> None:
    """Where there is a call for every symbol; only if all fail does the whole fail."""
    async with canned_server() as server:
        stock(server, "bybit")
        adapter = adapter_for("bybit", server.url)
        await adapter.start()
        closed: set[str] = {"spot"}

        def tickers(asked: Asked) -> dict[str, Any]:
            if asked.query["category"] in closed:
                return {"retCode": 10001, "retMsg": "Not supported symbols", "result": {}}
            row = {"symbol": "BTCUSDT", "lastPrice": "10", "bid1Price": "9", "ask1Price": "11"}
            return {"retCode": 0, "retMsg": "OK", "result": {"list": [row]}}

        server.replies["GET /v5/market/tickers"] = tickers
        assert set(await adapter.get_tickers([SPOT, LINEAR, "NO/SUCH"])) == {LINEAR}
        closed.add("linear")
        with pytest.raises(ExchangeError) as raised:
            await adapter.get_tickers([SPOT, LINEAR])
        assert raised.value.outcome is Outcome.REFUSED
        await adapter.close()
