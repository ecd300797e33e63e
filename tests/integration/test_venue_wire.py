"""What goes over the wire to each exchange, and how its replies are read, with the real ccxt."""

import json
import logging
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import pytest

from tests.integration.canned import Asked, Canned, CannedServer, canned_server
from tests.integration.venues import (
    API_KEY,
    CREATE_ROUTES,
    PASSWORD,
    SECRET,
    adapter_for,
    now_ms,
    stock,
)
from worker.domain.market import MarketKind
from worker.domain.order import OrderRequest, OrderState, Role, Side
from worker.domain.signal import OrderType, TimeInForce
from worker.exchanges.ccxt.adapter import CCXTAdapter
from worker.exchanges.errors import ExchangeError, InvalidOrderError, OrderNotFoundError, Outcome
from worker.exchanges.ports import Resend
from worker.runtime.clock import SystemClock
from worker.runtime.errors import ConfigError

ID = "0123456789abcdef0123456789abcdef"
D = Decimal

CREATED: dict[str, Any] = {
    "bybit": {"retCode": 0, "retMsg": "OK", "result": {"orderId": "X-1", "orderLinkId": ID}},
    "okx": {"code": "0", "data": [{"ordId": "X-1", "clOrdId": ID, "sCode": "0", "sMsg": ""}]},
    "kraken": {
        "error": [],
        "result": {"descr": {"order": "buy 0.01 XBTUSDT @ limit 1"}, "txid": ["X-1"]},
    },
    "coinbase": {
        "success": True,
        "success_response": {"order_id": "X-1", "client_order_id": ID, "product_id": "BTC-USDT"},
    },
}


def an_order(symbol: str = "BTC/USDT", **changes: Any) -> OrderRequest:
    """A market buy of 0.0125 BTC, unless changed."""
    fields: dict[str, Any] = {
        "client_order_id": ID,
        "exchange": "x",
        "symbol": symbol,
        "role": Role.ENTRY,
        "side": Side.BUY,
        "order_type": OrderType.MARKET,
        "quantity": D("0.0125"),
    }
    return OrderRequest(**fields | changes)


def a_limit(symbol: str = "BTC/USDT", **changes: Any) -> OrderRequest:
    """An immediate-or-cancel limit buy at 60000.17."""
    fields = {"order_type": OrderType.LIMIT, "price": D("60000.17")}
    return an_order(symbol, **fields | {"time_in_force": TimeInForce.IOC} | changes)


@asynccontextmanager
async def trading(venue: str, **changes: Any) -> AsyncIterator[tuple[CCXTAdapter, CannedServer]]:
    """A started adapter and the server it talks to, ready to take an order."""
    async with canned_server() as server:
        stock(server, venue)
        server.replies[CREATE_ROUTES[venue]] = CREATED[venue]
        adapter = adapter_for(venue, server.url, **changes)
        await adapter.start()
        server.asked.clear()
        try:
            yield adapter, server
        finally:
            await adapter.close()


async def sent(venue: str, request: OrderRequest, route: str = "") -> Asked:
    """What one ``place_order`` puts on the wire; it must be one request."""
    async with trading(venue) as (adapter, server):
        if route:
            server.replies[route] = CREATED[venue]
        report = await adapter.place_order(request, adapter.open_window())
        assert report.exchange_order_id == "X-1"
        assert report.client_order_id == ID
        assert report.state is OrderState.SUBMITTED
        assert len(server.asked) == 1
        return server.requests(route or CREATE_ROUTES[venue])[0]


async def test_bybit_sends_client_id_units_and_no_price_with_a_market_order() -> None:
    """A spot market buy is in base units, under our id."""
    fields = (await sent("bybit", an_order())).fields
    assert fields["orderLinkId"] == ID
    assert fields["category"] == "spot"
    assert fields["marketUnit"] == "baseCoin"
    assert fields["qty"] == "0.0125"
    assert "price" not in fields


async def test_bybit_limit_price_is_rounded_towards_the_callers_side() -> None:
    """A buy is never sent above its limit, a sell never below."""
    buy = (await sent("bybit", a_limit("BTC/USDT:USDT", price=D("60000.019")))).fields
    sell = (
        await sent("bybit", a_limit("BTC/USDT:USDT", price=D("60000.011"), side=Side.SELL))
    ).fields
    assert buy["price"] == "60000.01"
    assert sell["price"] == "60000.02"
    assert buy["timeInForce"] == "IOC"
    assert buy["qty"] == "0.012"  # floored to the step


@pytest.mark.parametrize(
    ("side", "role", "direction"),
    [
        (Side.SELL, Role.STOP_LOSS, 2),
        (Side.SELL, Role.TAKE_PROFIT, 1),
        (Side.BUY, Role.STOP_LOSS, 1),
        (Side.BUY, Role.TAKE_PROFIT, 2),
        (Side.BUY, Role.ENTRY, 1),
    ],
)
async def test_bybit_trigger_direction_follows_side_and_role(
    side: Side, role: Role, direction: int
) -> None:
    """A stop triggers on the losing side, a take-profit on the other; an entry may open."""
    reduce_only = role is not Role.ENTRY
    fields = (
        await sent(
            "bybit",
            an_order(
                "BTC/USDT:USDT",
                side=side,
                role=role,
                order_type=OrderType.STOP,
                stop_price=D("59000"),
                reduce_only=reduce_only,
            ),
        )
    ).fields
    assert fields["triggerDirection"] == direction
    assert fields["triggerPrice"] == "59000"
    assert bool(fields.get("reduceOnly")) is reduce_only


async def test_bybit_deadline_is_the_windows_own_even_if_signing_is_late() -> None:
    """The timestamp on the wire is the window's, fixed before; recv_window is the configured."""
    async with trading("bybit", recv_window_ms=4_321) as (adapter, server):
        window = adapter.open_window()
        assert abs(window.timestamp_ms - now_ms()) < 1_000
        assert adapter.resend is Resend.AFTER_DEADLINE
        await adapter.place_order(an_order(), window)
        headers = server.requests(CREATE_ROUTES["bybit"])[0].headers
        assert headers["X-BAPI-TIMESTAMP"] == str(window.timestamp_ms)
        assert headers["X-BAPI-RECV-WINDOW"] == "4321"


async def test_bybit_looks_up_open_then_closed_orders_by_our_id() -> None:
    """Found among the closed ones, with a partial fill that ended early; unknown ids are absent."""
    row = {
        "orderId": "X-1",
        "orderLinkId": ID,
        "symbol": "BTCUSDT",
        "side": "Buy",
        "orderType": "Market",
        "orderStatus": "PartiallyFilledCanceled",
        "qty": "0.0125",
        "cumExecQty": "0.01",
        "cumExecValue": "600",
        "avgPrice": "60000",
        "createdTime": "1700000000123",
    }
    async with trading("bybit") as (adapter, server):
        server.replies["GET /v5/order/realtime"] = {"retCode": 0, "result": {"list": []}}
        server.replies["GET /v5/order/history"] = {"retCode": 0, "result": {"list": [row]}}
        report = await adapter.get_order(an_order())
        assert report.state is OrderState.CANCELLED
        assert (report.filled_quantity, report.average_price) == (D("0.01"), D(60000))
        assert report.created_ms == 1700000000123
        assert [asked.query["orderLinkId"] for asked in server.asked] == [ID, ID]
        server.replies["GET /v5/order/history"] = {"retCode": 0, "result": {"list": []}}
        with pytest.raises(OrderNotFoundError):
            await adapter.get_order(an_order())


async def test_bybit_cancels_by_our_id_and_reads_fees() -> None:
    """Cancel carries orderLinkId and no exchange id; executions carry fees."""
    trade = {
        "symbol": "BTCUSDT",
        "orderId": "X-1",
        "execId": "T-1",
        "execQty": "0.0125",
        "execPrice": "60000",
        "execFee": "0.0000125",
        "feeCurrency": "BTC",
        "side": "Buy",
        "execTime": "1700000000456",
        "execType": "Trade",
    }
    async with trading("bybit") as (adapter, server):
        server.replies["POST /v5/order/cancel"] = CREATED["bybit"]
        server.replies["GET /v5/execution/list"] = {"retCode": 0, "result": {"list": [trade] * 2}}
        await adapter.cancel_order(an_order())
        fields = server.requests("POST /v5/order/cancel")[0].fields
        assert fields["orderLinkId"] == ID
        assert "orderId" not in fields
        report = await adapter.place_order(an_order(), adapter.open_window())
        (fill,) = await adapter.get_trades(an_order(), report)
        assert (fill.trade_id, fill.quantity, fill.price) == ("T-1", D("0.0125"), D(60000))
        assert (fill.fee, fill.fee_currency) == (D("0.0000125"), "BTC")
        for told, currency in (("MNT", "MNT"), ("", "BTC")):  # nothing told: what it ordinarily is
            row = trade | {"feeCurrency": told}
            server.replies["GET /v5/execution/list"] = {"retCode": 0, "result": {"list": [row]}}
            (fill,) = await adapter.get_trades(an_order(), report)
            assert fill.fee_currency == currency


async def test_bybit_positions_are_asked_for_in_every_settle_currency() -> None:
    """A position in a USDC perpetual is seen as well as one in USDT; neither is seen twice."""

    def positions(asked: Asked) -> dict[str, Any]:
        symbol = {"USDT": "BTCUSDT", "USDC": "BTCPERP"}[asked.query["settleCoin"]]
        row = {"symbol": symbol, "side": "Sell", "size": "0.5", "avgPrice": "60000"}
        return {"retCode": 0, "result": {"list": [row | {"positionIdx": 0}]}}

    async with trading("bybit") as (adapter, server):
        server.replies["GET /v5/position/list"] = positions
        held = await adapter.get_positions()
        assert [(one.symbol, one.quantity) for one in held] == [
            ("BTC/USDC:USDC", D("0.5")),
            ("BTC/USDT:USDT", D("0.5")),
        ]
        assert all(asked.query["category"] == "linear" for asked in server.asked)


async def test_okx_sends_contracts_client_id_and_its_deadline_header() -> None:
    """A swap's quantity leaves as contracts; expTime is the window's end."""
    async with trading("okx") as (adapter, server):
        window = adapter.open_window()
        await adapter.place_order(a_limit("BTC/USDT:USDT", reduce_only=True), window)
        asked = server.requests(CREATE_ROUTES["okx"])[0]
        assert asked.fields["clOrdId"] == ID
        assert asked.fields["sz"] == "1.25"  # of 0.01 BTC
        assert asked.fields["px"] == "60000.1"
        assert asked.fields["ordType"] == "ioc"
        assert asked.fields["reduceOnly"] is True
        assert asked.headers["expTime"] == str(window.timestamp_ms + window.valid_ms)
        assert "expTime" not in server.asked[0].query


async def test_okx_spot_market_buy_is_in_base_units_without_a_price() -> None:
    """``tgtCcy`` says base; no price goes out."""
    fields = (await sent("okx", an_order())).fields
    assert (fields["ordType"], fields["tgtCcy"], fields["sz"]) == ("market", "base_ccy", "0.0125")
    assert "px" not in fields


async def test_okx_conditional_orders_carry_their_own_client_id_and_are_followed() -> None:
    """``algoClOrdId`` on create and look-up; after the trigger the placed order's fills count."""
    stop = an_order(
        "BTC/USDT:USDT",
        side=Side.SELL,
        role=Role.STOP_LOSS,
        order_type=OrderType.STOP,
        stop_price=D("59000"),
        reduce_only=True,
    )
    async with trading("okx") as (adapter, server):
        created = {"algoId": "A-1", "algoClOrdId": ID, "clOrdId": "", "sCode": "0"}
        server.replies["POST /api/v5/trade/order-algo"] = {"code": "0", "data": [created]}
        report = await adapter.place_order(stop, adapter.open_window())
        fields = server.requests("POST /api/v5/trade/order-algo")[0].fields
        assert report.exchange_order_id == "A-1"
        assert fields["algoClOrdId"] == ID
        assert (fields["slTriggerPx"], fields["slOrdPx"]) == ("59000", "-1")
        algo = {
            "algoId": "A-1",
            "algoClOrdId": ID,
            "instId": "BTC-USDT-SWAP",
            "state": "effective",
            "ordId": "X-2",
            "sz": "1.25",
            "cTime": "1700000000123",
        }
        placed = {
            "ordId": "X-2",
            "clOrdId": "",
            "instId": "BTC-USDT-SWAP",
            "instType": "SWAP",
            "state": "filled",
            "sz": "1.25",
            "accFillSz": "1.25",
            "avgPx": "58990",
            "cTime": "1700000009999",
            "side": "sell",
            "ordType": "market",
        }
        server.replies["GET /api/v5/trade/order-algo"] = {"code": "0", "data": [algo]}
        server.replies["GET /api/v5/trade/order"] = {"code": "0", "data": [placed]}
        found = await adapter.get_order(stop)
        assert server.requests("GET /api/v5/trade/order-algo")[0].query["algoClOrdId"] == ID
        assert found.state is OrderState.FILLED
        assert (found.exchange_order_id, found.client_order_id) == ("X-2", ID)
        assert found.filled_quantity == D("0.0125")  # contracts turned back into base units
        assert found.created_ms == 1700000000123


async def test_okx_fills_are_in_base_units_with_positive_fees() -> None:
    """OKX says -0.5 for a fee paid; we say 0.5."""
    trade = {
        "instId": "BTC-USDT-SWAP",
        "instType": "SWAP",
        "tradeId": "7",
        "ordId": "X-1",
        "fillSz": "1.25",
        "fillPx": "60000",
        "side": "buy",
        "fee": "-0.375",
        "feeCcy": "USDT",
        "ts": "1700000000456",
    }
    async with trading("okx") as (adapter, server):
        server.replies["GET /api/v5/trade/fills"] = {"code": "0", "data": [trade]}
        report = await adapter.place_order(an_order("BTC/USDT:USDT"), adapter.open_window())
        (fill,) = await adapter.get_trades(an_order("BTC/USDT:USDT"), report)
        assert (fill.quantity, fill.fee, fill.fee_currency) == (D("0.0125"), D("0.375"), "USDT")


async def test_kraken_sends_cl_ord_id_and_a_deadline_the_engine_enforces() -> None:
    """At least the documented 2 s plus the grain of Kraken's clock."""
    async with trading("kraken", recv_window_ms=500) as (adapter, server):
        window = adapter.open_window()
        await adapter.place_order(a_limit(), window)
        fields = server.requests(CREATE_ROUTES["kraken"])[0].fields
        assert fields["cl_ord_id"] == ID
        assert fields["price"] == "60000.1"
        assert fields["timeinforce"] == "IOC"
        assert fields["deadline"].endswith("Z")
        assert window.valid_ms >= 3_000
        assert adapter.resend is Resend.AFTER_DEADLINE


async def test_kraken_looks_up_by_our_id_and_reads_the_fee() -> None:
    """Open first, then closed; fills come from the trades the order names."""
    row = {
        "status": "closed",
        "cl_ord_id": ID,
        "opentm": 1700000000.123,
        "descr": {"pair": "XBTUSDT", "type": "buy", "ordertype": "market", "price": "0"},
        "vol": "0.0125",
        "vol_exec": "0.0125",
        "cost": "750",
        "fee": "3",
        "price": "60000",
        "oflags": "fciq",
        "trades": ["T-1"],
    }
    trade = {
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
    async with trading("kraken") as (adapter, server):
        server.replies |= {
            "POST /0/private/OpenOrders": {"error": [], "result": {"open": {}}},
            "POST /0/private/ClosedOrders": {"error": [], "result": {"closed": {"X-1": row}}},
            "POST /0/private/QueryOrders": {"error": [], "result": {"X-1": row}},
            "POST /0/private/QueryTrades": {"error": [], "result": {"T-1": trade}},
        }
        report = await adapter.get_order(an_order())
        assert report.state is OrderState.FILLED
        assert report.fills == ()  # the order lists trade ids without amounts
        assert report.created_ms == 1700000000123
        assert all(asked.fields["cl_ord_id"] == ID for asked in server.asked)
        (fill,) = await adapter.get_trades(an_order(), report)
        assert (fill.trade_id, fill.quantity, fill.fee) == ("T-1", D("0.0125"), D(3))


async def test_coinbase_sends_our_id_and_base_units() -> None:
    """The library would make an id up, and spend a quote amount on a market buy."""
    fields = (await sent("coinbase", an_order())).fields
    assert fields["client_order_id"] == ID
    assert fields["order_configuration"] == {"market_market_ioc": {"base_size": "0.0125"}}
    limit = (await sent("coinbase", a_limit())).fields
    assert limit["order_configuration"]["sor_limit_ioc"] == {
        "base_size": "0.0125",
        "limit_price": "60000.17",
    }


async def test_coinbase_lists_to_find_and_cancels_by_exchange_id() -> None:
    """There is no look-up by client id; the repeat of a create is idempotent instead."""
    row = {
        "order_id": "X-1",
        "client_order_id": ID,
        "product_id": "BTC-USDT",
        "side": "BUY",
        "status": "OPEN",
        "order_configuration": {"limit_limit_gtc": {"base_size": "0.0125", "limit_price": "1"}},
        "filled_size": "0",
        "average_filled_price": "0",
        "created_time": "2023-11-14T22:13:20.123Z",
        "total_fees": "0",
    }
    async with trading("coinbase") as (adapter, server):
        assert adapter.resend is Resend.IDEMPOTENT
        listing = "GET /api/v3/brokerage/orders/historical/batch"
        server.replies[listing] = {"orders": [row], "has_next": False}
        report = await adapter.get_order(an_order())
        assert (report.exchange_order_id, report.state) == ("X-1", OrderState.ACTIVE)
        assert report.created_ms == 1700000000123
        cancelled = {"results": [{"success": True, "order_id": "X-1"}]}
        server.replies["POST /api/v3/brokerage/orders/batch_cancel"] = cancelled
        await adapter.cancel_order(an_order())
        body = server.requests("POST /api/v3/brokerage/orders/batch_cancel")[0].body
        assert json.loads(body) == {"order_ids": ["X-1"]}
        server.replies[listing] = {"orders": []}
        with pytest.raises(OrderNotFoundError):
            await adapter.get_order(an_order())


async def test_coinbase_refuses_stop_market_orders_before_sending() -> None:
    """The library has none; nothing reaches the wire."""
    stop = an_order(order_type=OrderType.STOP, stop_price=D("59000"), side=Side.SELL)
    async with trading("coinbase") as (adapter, server):
        with pytest.raises(ExchangeError, match="stop limit") as raised:
            await adapter.place_order(stop, adapter.open_window())
        assert raised.value.outcome is Outcome.REFUSED
        assert server.asked == []


@pytest.mark.parametrize(("venue", "known_to_ms"), [("kraken", 350), ("coinbase", 100)])
async def test_the_clock_is_known_better_than_to_the_second(venue: str, known_to_ms: int) -> None:
    """Kraken's tells whole seconds, so its ticks are waited for; Coinbase's has milliseconds."""
    async with trading(venue, clock=SystemClock()) as (adapter, _):
        assert adapter.clock_offset.uncertainty_ms < known_to_ms
        assert abs(adapter.clock_offset.offset_ms) <= adapter.clock_offset.uncertainty_ms + 1


@pytest.mark.parametrize(
    ("route", "reply"),
    [
        ("GET /0/public/Time", {"error": [], "result": {}}),
        ("GET /api/v3/brokerage/time", {"iso": "2026-01-01T00:00:00Z"}),
    ],
)
async def test_a_clock_that_tells_no_time_is_not_taken_for_1970(
    route: str, reply: dict[str, Any]
) -> None:
    """The exchange does not start, rather than refuse every order for a clock that is off."""
    venue = "kraken" if "public" in route else "coinbase"
    async with canned_server() as server:
        stock(server, venue)
        server.replies[route] = reply
        with pytest.raises(ExchangeError, match="fetch_time: incomplete_reply"):
            await adapter_for(venue, server.url).start()


@pytest.mark.parametrize("venue", ["kraken", "coinbase"])
def test_spot_only_exchanges_refuse_perpetuals_in_configuration(venue: str) -> None:
    """The key is named."""
    with pytest.raises(ConfigError, match="market_types"):
        adapter_for(venue, "", market_types=("linear", "spot"))


@pytest.mark.parametrize("venue", sorted(CREATED))
async def test_nothing_left_of_a_quantity_is_refused_here(venue: str) -> None:
    """A quantity under one step never reaches the wire."""
    async with trading(venue) as (adapter, server):
        with pytest.raises(InvalidOrderError) as raised:
            await adapter.place_order(an_order(quantity=D("1e-12")), adapter.open_window())
        assert raised.value.outcome is Outcome.REFUSED
        assert server.asked == []


@pytest.mark.parametrize("venue", sorted(CREATED))
async def test_another_orders_report_is_not_taken_for_ours(venue: str) -> None:
    """A reply about another client id, or without any order id, leaves the outcome open."""
    replies = [json.loads(json.dumps(CREATED[venue]).replace("X-1", ""))]
    if venue != "kraken":  # whose reply repeats no client id
        replies.append(json.loads(json.dumps(CREATED[venue]).replace(ID, "f" * 32)))
    async with trading(venue) as (adapter, server):
        for reply in replies:
            server.replies[CREATE_ROUTES[venue]] = reply
            with pytest.raises(ExchangeError) as raised:
                await adapter.place_order(an_order(), adapter.open_window())
            assert raised.value.outcome is Outcome.UNKNOWN


@pytest.mark.parametrize("venue", ["binance", *sorted(CREATED)])
async def test_secrets_do_not_show(venue: str) -> None:
    """Neither in the adapter's repr nor in an error that quotes the request back at us."""
    async with canned_server() as server:
        stock(server, venue)
        adapter = adapter_for(venue, server.url)
        await adapter.start()
        quoted = f"bad {API_KEY} {SECRET} {PASSWORD} https://x/y?signature=abcdef&timestamp=1"
        texts = [repr(adapter), str(adapter)]
        for body in ({"code": -1102, "msg": quoted}, {"error": [f"EGeneral:{quoted}"]}):
            server.replies[CREATE_ROUTES[venue]] = body
            with pytest.raises(ExchangeError, match=venue) as raised:
                await adapter.place_order(an_order(), adapter.open_window())
            error: BaseException | None = raised.value
            assert error is not None
            assert error.__cause__ is None
            assert error.__context__ is None
            texts += [str(error), repr(error), repr(vars(error))]
        await adapter.close()
    for text in texts:
        for secret in (API_KEY, SECRET.rstrip("="), PASSWORD, "abcdef&"):
            assert secret not in text


async def test_a_triggered_stop_whose_order_is_not_visible_yet_is_still_there() -> None:
    """The conditional order answers, its child does not: working, not "not found"."""
    algo = {
        "algoId": 1,
        "clientAlgoId": ID,
        "symbol": "BTCUSDT",
        "algoStatus": "TRIGGERED",
        "actualOrderId": "5",
        "side": "SELL",
        "orderType": "STOP_MARKET",
        "quantity": "0.01",
        "createTime": 1700000000123,
    }
    stop = an_order(
        "BTC/USDT:USDT",
        side=Side.SELL,
        role=Role.STOP_LOSS,
        order_type=OrderType.STOP,
        stop_price=D("59000"),
    )
    async with canned_server() as server:
        stock(server, "binance")
        adapter = adapter_for("binance", server.url)
        await adapter.start()
        server.replies["GET /fapi/v1/algoOrder"] = algo
        missing = Canned({"code": -2013, "msg": "Order does not exist."}, 400)
        server.replies["GET /fapi/v1/order"] = missing
        report = await adapter.get_order(stop)
        assert (report.state, report.client_order_id) == (OrderState.ACTIVE, ID)
        server.replies["GET /fapi/v1/algoOrder"] = missing
        with pytest.raises(OrderNotFoundError):
            await adapter.get_order(stop)
        await adapter.close()


@pytest.mark.parametrize("venue", ["binance", *sorted(CREATED)])
async def test_nothing_is_logged_that_could_be_used(
    venue: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Even with every logger at DEBUG, which would have ccxt log keys and signatures."""
    with caplog.at_level(logging.DEBUG):
        async with canned_server() as server:
            stock(server, venue)
            adapter = adapter_for(venue, server.url)
            await adapter.start()
            await adapter.get_balance()
            await adapter.close()
    for secret in (API_KEY, SECRET.rstrip("="), PASSWORD, "signature="):
        assert secret not in caplog.text


@pytest.mark.parametrize("venue", ["bybit", "okx"])
async def test_a_unified_account_is_one_wallet(venue: str) -> None:
    """Spot and perpetuals are paid for from the same money, which is asked for once."""
    async with trading(venue) as (adapter, server):
        assert adapter.wallets == (MarketKind.SPOT,)
        held = [await adapter.get_balance(kind) for kind in MarketKind]
        assert held[0] == held[1]
        assert held[0]["USDT"].total > 0
        first, second = server.asked
        assert (first.method, first.path) == (second.method, second.path)


async def test_the_sandbox_is_the_one_that_works_for_the_markets_asked_for() -> None:
    """Binance: testnet for spot alone, demo trading with futures; Kraken has none, and says so."""
    for kinds, host in (
        (("spot",), "testnet.binance.vision"),
        (("spot", "linear"), "demo-api.binance.com"),
    ):
        adapter = adapter_for("binance", "", sandbox=True, market_types=kinds)
        adapter._open()
        assert host in adapter._ccxt.urls["api"]["private"]
        await adapter.close()
    adapter = adapter_for("kraken", "", sandbox=True)
    with pytest.raises(ConfigError, match=r"exchanges\.kraken\.sandbox"):
        await adapter.start()


# --- every digit of a fine grid ---

_TICKS = ("tickSize", "tickSz", "tick_size", "price_increment", "quote_increment")
_LARGEST = ("maxOrderQty", "base_max_size", "maxQty")


def finer(server: CannedServer) -> None:
    """Let the venue's markets have a tick of 1e-14 and no maximum to speak of."""

    def changed(reply: Any) -> Any:
        def answer(asked: Asked) -> Any:
            text = json.dumps(reply(asked) if callable(reply) else reply)
            for name in _TICKS:
                text = re.sub(rf'"{name}": "[0-9.]*"', f'"{name}": "0.00000000000001"', text)
            for name in _LARGEST:
                text = re.sub(rf'"{name}": "[0-9.]*"', f'"{name}": "9999999999999999999"', text)
            return json.loads(text.replace('"pair_decimals": 1', '"pair_decimals": 14'))

        return answer

    for route, reply in list(server.replies.items()):
        if any(part in route for part in ("instruments", "AssetPairs", "products", "exchangeInfo")):
            server.replies[route] = changed(reply)


@pytest.mark.parametrize("symbol", ["BTC/USDT", "BTC/USDT:USDT"])
@pytest.mark.parametrize("venue", ["binance", "bybit", "okx", "kraken", "coinbase"])
async def test_prices_and_quantities_keep_every_digit_of_the_grid(venue: str, symbol: str) -> None:
    """A buy is never above the caller's price, a sale never below, whatever ccxt would round."""
    created = {"orderId": 1, "clientOrderId": ID, "symbol": "BTCUSDT", "status": "NEW"}
    async with canned_server() as server:
        stock(server, venue)
        finer(server)
        server.replies[CREATE_ROUTES[venue]] = CREATED.get(venue, created)
        server.replies["POST /fapi/v1/order"] = created
        adapter = adapter_for(venue, server.url)
        await adapter.start()
        try:
            if adapter.get_symbol_info(symbol) is None:
                return  # the venue has no such market
            for side, sent in (Side.BUY, "0.00000000123459"), (Side.SELL, "0.0000000012346"):
                server.asked.clear()
                if venue == "kraken":  # which says what it has understood
                    said = {"order": f"{side} 12345678901234567.12 XBTUSDT @ limit {sent}"}
                    result = {"descr": said, "txid": ["X-1"]}
                    server.replies[CREATE_ROUTES[venue]] = {"error": [], "result": result}
                quantity = D("12345678901234567.12")
                order = a_limit(symbol, side=side, price=D("0.000000001234599"), quantity=quantity)
                await adapter.place_order(order, adapter.open_window())
                (body,) = (one.body for one in server.asked if "rder" in one.path)
                assert re.search(rf"[=\"]{sent}([&\"]|$)", body), body
                contracts = "1234567890123456712" if "SWAP" in body else str(quantity)
                assert contracts in body
        finally:
            await adapter.close()
