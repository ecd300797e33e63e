"""Kraken: look-ups that prove something, trading modes, refusals, with the real ccxt."""

import asyncio
from decimal import Decimal
from typing import Any

import pytest

from tests.integration.canned import Canned
from tests.integration.test_venue_wire import CREATED, ID, a_limit, an_order, trading
from tests.integration.venues import CREATE_ROUTES, adapter_for
from worker.config.keys import Secret
from worker.domain.order import OrderState
from worker.domain.signal import OrderType
from worker.exchanges.budget.classes import RequestClass, asking
from worker.exchanges.errors import ExchangeError, OrderNotFoundError, Outcome, RateLimitError

OPEN, CLOSED = "POST /0/private/OpenOrders", "POST /0/private/ClosedOrders"
QUERY, TRADES = "POST /0/private/QueryOrders", "POST /0/private/QueryTrades"
D = Decimal
ROW: dict[str, Any] = {
    "refid": None,
    "userref": 0,
    "cl_ord_id": ID,
    "status": "closed",
    "opentm": 1700000000.123,
    "descr": {"pair": "XBTUSDT", "type": "buy", "ordertype": "market", "price": "0"},
    "vol": "0.0125",
    "vol_exec": "0.0125",
    "cost": "750",
    "fee": "3",
    "price": "60000",
    "oflags": "fciq",
}
TRADE = {
    "ordertxid": "X-1",
    "pair": "XBTUSDT",
    "time": 1700000000.5,
    "type": "buy",
    "ordertype": "market",
    "price": "60000",
    "cost": "750",
    "fee": "3",
    "vol": "0.0125",
}


def listing(name: str, rows: Any, **more: Any) -> dict[str, Any]:
    return {"error": [], "result": {name: rows} | more}


def row(**changes: Any) -> dict[str, Any]:
    return {k: v for k, v in (ROW | changes).items() if v != "absent"}


OTHER = row(cl_ord_id="f" * 32)


@pytest.mark.parametrize("route", [OPEN, CLOSED])
@pytest.mark.parametrize(
    "rows",
    [
        {"X-1": row(cl_ord_id="absent")},
        {"X-1": row(cl_ord_id=None)},
        {"X-1": row(cl_ord_id="")},
        {"X-1": row(cl_ord_id="absent", userref=7)},
        {"X-0": OTHER, "X-1": row(cl_ord_id=None)},
        {"X-1": {}},
        {"X-1": "closed"},
        {"X-1": row(status="absent")},
        {"X-1": row(status="thinking")},
        {"X-1": row(vol_exec="absent")},
        [ROW],
        None,
    ],
)
async def test_a_listing_that_was_not_understood_proves_nothing(route: str, rows: Any) -> None:
    """The order may be one of those rows; "not found" would have it sent again."""
    async with trading("kraken") as (adapter, server):
        name = {OPEN: "open", CLOSED: "closed"}[route]
        server.replies |= {OPEN: listing("open", {}), CLOSED: listing("closed", {}, count=0)}
        server.replies[route] = listing(name, rows)
        with pytest.raises(ExchangeError) as raised:
            await adapter.get_order(an_order())
        assert not isinstance(raised.value, OrderNotFoundError)
        assert raised.value.outcome is Outcome.UNKNOWN


@pytest.mark.parametrize(
    ("open_rows", "closed", "is_proof"),
    [
        ({}, listing("closed", {}, count=0), True),
        ({}, listing("closed", {}), True),
        ({"X-0": OTHER}, listing("closed", {"X-0": OTHER}, count=1), True),
        ({}, listing("closed", {"X-0": OTHER}, count=51), False),
        ({}, {"error": [], "result": {}}, False),
        ({}, {"error": []}, False),
        ({}, {"error": [], "result": []}, False),
    ],
)
async def test_only_whole_listings_without_it_prove_its_absence(
    open_rows: Any, closed: Any, is_proof: bool
) -> None:
    """Of other orders each says whose it is, and no page is missing."""
    async with trading("kraken") as (adapter, server):
        server.replies |= {OPEN: listing("open", open_rows), CLOSED: closed}
        with pytest.raises(ExchangeError) as raised:
            await adapter.get_order(an_order())
        assert isinstance(raised.value, OrderNotFoundError) is is_proof


async def test_an_order_without_a_description_is_found_all_the_same() -> None:
    """It is ours by its client id, and says how it stands."""
    async with trading("kraken") as (adapter, server):
        server.replies[OPEN] = listing("open", {"X-1": row(descr="absent")})
        report = await adapter.get_order(an_order())
        assert (report.state, report.filled_quantity) == (OrderState.FILLED, D("0.0125"))
        assert (report.exchange_order_id, report.client_order_id) == ("X-1", ID)


async def test_a_known_order_is_asked_for_by_its_id_and_its_trades_once() -> None:
    """One call has its state and its trade ids, though it repeats no client id."""
    async with trading("kraken") as (adapter, server):
        told = row(cl_ord_id="absent", trades=["T-1"])
        server.replies[QUERY] = {"error": [], "result": {"X-1": told}}
        server.replies[TRADES] = {"error": [], "result": {"T-1": TRADE}}
        report = await adapter.get_order(an_order(), "X-1")
        assert (report.state, report.client_order_id) == (OrderState.FILLED, ID)
        (fill,) = await adapter.get_trades(an_order(), report)
        assert (fill.trade_id, fill.fee) == ("T-1", D(3))
        assert [one.path for one in server.asked] == [
            "/0/private/QueryOrders",
            "/0/private/QueryTrades",
        ]
        assert server.asked[0].fields["txid"] == "X-1"
        assert server.asked[0].fields["trades"] == "true"
        await adapter.get_trades(an_order(), report)  # asked again, it is looked up anew
        assert len(server.requests(QUERY)) == 2


async def test_an_id_that_the_query_leaves_out_is_looked_for_in_the_lists() -> None:
    """An empty answer is none."""
    async with trading("kraken") as (adapter, server):
        server.replies[QUERY] = {"error": [], "result": {}}
        server.replies[OPEN] = listing("open", {"X-1": row(status="open", vol_exec="0")})
        assert (await adapter.get_order(an_order(), "X-1")).state is OrderState.ACTIVE


@pytest.mark.parametrize(
    ("status", "filled", "state"),
    [
        ("pending", "0", OrderState.ACTIVE),
        ("open", "0.01", OrderState.PARTIALLY_FILLED),
        ("closed", "0.0125", OrderState.FILLED),
        ("canceled", "0.01", OrderState.CANCELLED),
        ("expired", "0", OrderState.EXPIRED),
    ],
)
async def test_every_documented_state(status: str, filled: str, state: OrderState) -> None:
    """And the reason that Kraken gives."""
    async with trading("kraken") as (adapter, server):
        told = row(status=status, vol_exec=filled, reason="User requested")
        server.replies[OPEN] = listing("open", {"X-1": told})
        report = await adapter.get_order(an_order())
        assert (report.state, report.reason) == (state, "User requested")


async def test_open_orders_without_a_pair_are_not_left_out() -> None:
    """Of one symbol or of all; an order that cannot be placed is an error."""
    async with trading("kraken") as (adapter, server):
        server.replies[OPEN] = listing("open", {"X-1": row(status="open", vol_exec="0")})
        assert [one.exchange_order_id for one in await adapter.get_open_orders()] == ["X-1"]
        assert len(await adapter.get_open_orders("BTC/USDT")) == 1
        server.replies[OPEN] = listing("open", {"X-1": row(status="open", descr={})})
        for symbol in (None, "BTC/USDT"):
            with pytest.raises(ExchangeError):
                await adapter.get_open_orders(symbol)


@pytest.mark.parametrize(
    ("mode", "active", "limit_only"),
    [
        ("online", True, False),
        ("limit_only", True, True),
        ("post_only", False, False),
        ("cancel_only", False, False),
        ("reduce_only", False, False),
        ("maintenance", False, False),
    ],
)
async def test_a_pairs_mode_counts(mode: str, active: bool, limit_only: bool) -> None:
    """Orders that it takes are sent; others are refused here, with the mode in the sentence."""
    async with trading("kraken") as (adapter, server):
        pairs: Any = server.replies["GET /0/public/AssetPairs"]
        pair = pairs["result"]["XBTUSDT"] | {"status": mode}
        server.replies["GET /0/public/AssetPairs"] = {"error": [], "result": {"XBTUSDT": pair}}
        await adapter.refresh_markets()
        server.asked.clear()
        info = adapter.get_symbol_info("BTC/USDT")
        assert info is not None
        assert (info.active, info.limit_only) == (active, limit_only)
        assert (mode in info.restriction) is (mode != "online")
        if limit_only:
            await adapter.place_order(a_limit(), adapter.open_window())
            assert len(server.asked) == 1
            stop = an_order(order_type=OrderType.STOP, stop_price=D("61000"))
            for request in (an_order(), stop):
                with pytest.raises(ExchangeError, match="limit_only") as raised:
                    await adapter.place_order(request, adapter.open_window())
                assert (raised.value.outcome, raised.value.transient) == (Outcome.REFUSED, False)
            assert len(server.asked) == 1


async def test_a_pair_that_is_gone_stays_closed_whatever_its_mode_was() -> None:
    """What was listed before does not open it again."""
    async with trading("kraken") as (adapter, server):
        pairs: Any = server.replies["GET /0/public/AssetPairs"]
        pair = pairs["result"]["XBTUSDT"]
        other = pair | {"altname": "XBTEUR", "wsname": "XBT/EUR", "quote": "ZEUR"}
        limited = {"XBTUSDT": pair | {"status": "limit_only"}, "XBTEUR": other}
        for listed in (limited, {"XBTEUR": other}):
            server.replies["GET /0/public/AssetPairs"] = {"error": [], "result": listed}
            await adapter.refresh_markets()
        info = adapter.get_symbol_info("BTC/USDT")
        assert info is not None
        assert (info.active, info.limit_only) == (False, False)


async def test_a_throttle_is_told_with_its_end() -> None:
    """``EService: Throttled: <Unix time>`` by the exchange's own clock."""
    async with trading("kraken") as (adapter, server):
        until_s = adapter.now_ms() // 1000 + 30
        server.replies[CREATE_ROUTES["kraken"]] = Canned(
            {"error": [f"EService: Throttled: {until_s}"]}
        )
        with pytest.raises(RateLimitError) as raised:
            await adapter.place_order(an_order(), adapter.open_window())
        assert raised.value.outcome is Outcome.THROTTLED
        assert 28 < raised.value.retry_after_s <= 30


async def test_the_whole_body_of_an_order() -> None:
    """Nothing else goes along."""
    async with trading("kraken") as (adapter, server):
        server.replies[CREATE_ROUTES["kraken"]] = CREATED["kraken"]
        await adapter.place_order(a_limit(), adapter.open_window())
        fields = server.requests(CREATE_ROUTES["kraken"])[0].fields
        assert set(fields) == {
            "nonce", "pair", "type", "ordertype", "volume", "price", "timeinforce", "cl_ord_id",
            "deadline",
        }  # fmt: skip


def test_it_advises_one_of_the_two_ways_for_several_workers() -> None:
    """A key each, or a nonce window; nothing where there is a window, or no key at all."""
    (advice,) = adapter_for("kraken", "").advice
    assert "exchanges.kraken.nonce_window" in advice
    assert "each a key of its own" in advice
    assert adapter_for("kraken", "", nonce_window=10_000).advice == ()
    assert adapter_for("kraken", "", api_key=Secret("")).advice == ()


async def test_prices_of_many_pairs_come_with_one_request() -> None:
    """One public request a second is allowed; a pair without a price does not hide the others."""
    quoted = {side: ["100", "1", "1"] for side in "abc"}
    async with trading("kraken") as (adapter, server):
        listed: Any = server.replies["GET /0/public/AssetPairs"]
        (pair,) = listed["result"].values()
        more = {"altname": "ETHUSDT", "wsname": "ETH/USDT", "base": "ETH"}
        two = listed["result"] | {"ETHUSDT": pair | more}
        server.replies["GET /0/public/AssetPairs"] = {"error": [], "result": two}
        await adapter.refresh_markets()
        symbols = list(adapter.symbols())
        assert len(symbols) == 2
        ids = {symbol: adapter._ccxt.market(symbol)["id"] for symbol in symbols}
        ticker = "GET /0/public/Ticker"
        server.replies[ticker] = {"error": [], "result": dict.fromkeys(ids.values(), quoted)}
        found = await adapter.get_tickers([*symbols, "NO/SUCH"])
        assert {name: one.last for name, one in found.items()} == dict.fromkeys(symbols, D(100))
        (asked,) = server.requests(ticker)
        assert asked.fields["pair"] == ",".join(ids.values())
        server.replies[ticker] = {"error": [], "result": {ids[symbols[0]]: quoted}}
        assert set(await adapter.get_tickers(symbols)) == {symbols[0]}
        server.replies[ticker] = {"error": ["EAPI:Rate limit exceeded"]}
        with pytest.raises(RateLimitError):
            await adapter.get_tickers(symbols)


async def test_a_look_up_in_doubt_does_not_wait_behind_polls() -> None:
    """They are asked for by separate requests, the urgent one first."""
    async with trading("kraken") as (adapter, server):
        server.replies[QUERY] = {"error": [], "result": {"X-1": row(), "X-2": row()}}
        adapter.request_gate.fill("calls")
        with asking(RequestClass.POLL, 60.0):
            poll = asyncio.create_task(adapter.get_order(an_order(), "X-1"))
        await asyncio.sleep(0.05)
        assert not poll.done()
        doubt = asyncio.create_task(adapter.get_order(an_order(), "X-2"))
        await asyncio.wait({poll, doubt}, timeout=15, return_when=asyncio.FIRST_COMPLETED)
        assert doubt.done()
        assert not poll.done()
        assert server.requests(QUERY)[0].fields["txid"] == "X-2"
        poll.cancel()
