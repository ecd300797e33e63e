"""Real ccxt trades against the simulator; what it raises and what landed are both checked."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import aiohttp
import ccxt.async_support as ccxt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.exchange_simulator import (
    ControlError,
    Server,
    Settings,
    Simulator,
    SimulatorThread,
    serve,
    simulator_process,
)
from tests.exchange_simulator.errors import ApiError
from tests.exchange_simulator.orders import Conditions, Order

SPOT, PERP = "BTC/USDT", "BTC/USDT:USDT"


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with serve(Settings(symbols=3, base_balance=Decimal(10))) as running:
        yield running


def _session(host: str, port: int) -> aiohttp.ClientSession:
    async def reroute(
        request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        request.url = request.url.with_scheme("http").with_host(host).with_port(port)
        return await handler(request)

    return aiohttp.ClientSession(middlewares=(reroute,))


def _ccxt(session: aiohttp.ClientSession, **more: Any) -> Any:
    exchange = ccxt.binance(
        {
            "apiKey": "sim-key",
            "secret": "sim-secret",
            "session": session,
            "enableRateLimit": False,
            "options": {
                "fetchMarkets": {"types": ["spot", "linear"]},
                "fetchCurrencies": False,
                "fetchMargins": False,
            },
            **more,
        }
    )
    exchange.number = str
    return exchange


@pytest.fixture
async def binance(server: Server) -> AsyncIterator[Any]:
    async with _session(server.host, server.port) as session:
        exchange = _ccxt(session)
        await exchange.load_markets()
        yield exchange
        _release(exchange)


def _release(exchange: Any) -> None:
    """Part ccxt from the session, which is ours; its close() would wait 250 ms for nothing."""
    exchange.session = None


def _landed(server: Server, client_id: str) -> int:
    return sum(order.client_id == client_id for order in server.simulator.orders())


async def _buy(exchange: Any, client_id: str, symbol: str = SPOT, **params: Any) -> Any:
    """Market buy 0.01 under ``client_id``."""
    return await exchange.create_order(
        symbol, "market", "buy", "0.01", None, {"clientOrderId": client_id, **params}
    )


# ---- trading ------------------------------------------------------------------------------------


async def test_markets_load_with_filters(binance: Any) -> None:
    """The ccxt markets carry the simulator's steps, ticks and minimum notional, both venues."""
    spot, perp = binance.market(SPOT), binance.market(PERP)
    assert Decimal(spot["precision"]["amount"]) == Decimal("0.00001")
    assert Decimal(spot["precision"]["price"]) == Decimal("0.01")
    assert Decimal(spot["limits"]["cost"]["min"]) == 5
    assert perp["linear"] is True
    assert Decimal(perp["precision"]["amount"]) == Decimal("0.001")
    assert {"C000/USDT", "C002/USDT:USDT"} <= set(binance.markets)


async def test_spot_market_buy_moves_money(server: Server, binance: Any) -> None:
    """A spot buy fills at the ask; quote goes down, base up, commission is taken in base."""
    server.simulator.set_price("BTCUSDT", bid="59999", ask="60001")
    order = await _buy(binance, "a1")
    assert (order["status"], order["clientOrderId"]) == ("closed", "a1")
    assert Decimal(order["average"]) == 60001
    assert order["fee"] == {"currency": "BTC", "cost": "0.00001000"}
    balance = await binance.fetch_balance()
    assert Decimal(balance["BTC"]["free"]) == Decimal("10.00999")
    assert Decimal(balance["USDT"]["free"]) == 1_000_000_000 - Decimal("600.01")
    (trade,) = await binance.fetch_my_trades(SPOT)
    assert (trade["order"], trade["takerOrMaker"]) == (order["id"], "taker")
    assert (await binance.fetch_order(None, SPOT, {"clientOrderId": "a1"}))["id"] == order["id"]


async def test_sells_need_base_balance(server: Server, binance: Any) -> None:
    """A sell beyond the free balance is refused as insufficient and does not land."""
    with pytest.raises(ccxt.InsufficientFunds):
        await binance.create_order(SPOT, "market", "sell", 11, None, {"clientOrderId": "s"})
    assert _landed(server, "s") == 0
    sold = await binance.create_order(SPOT, "market", "sell", 10, None, {"clientOrderId": "s"})
    assert sold["fee"]["currency"] == "USDT"
    assert server.simulator.balance("BTC").free == 0


async def test_limit_rests_locks_and_fills_as_maker(server: Server, binance: Any) -> None:
    """A limit below the market rests with funds locked, and fills at its price when reached."""
    order = await binance.create_order(
        SPOT, "limit", "buy", "0.01", 59000, {"clientOrderId": "rest"}
    )
    assert order["status"] == "open"
    assert server.simulator.balance("USDT").locked == 590
    assert [o["id"] for o in await binance.fetch_open_orders(SPOT)] == [order["id"]]
    server.simulator.set_price("BTCUSDT", "58000")
    filled = await binance.fetch_order(order["id"], SPOT)
    assert (filled["status"], Decimal(filled["average"])) == ("closed", Decimal(59000))
    assert server.simulator.balance("USDT").locked == 0
    assert (await binance.fetch_my_trades(SPOT))[0]["takerOrMaker"] == "maker"


async def test_cancel_unlocks_and_a_second_cancel_is_unknown(server: Server, binance: Any) -> None:
    """Cancelling by client id returns the funds; cancelling again is -2011."""
    await binance.create_order(SPOT, "limit", "buy", "0.01", 59000, {"clientOrderId": "c"})
    cancelled = await binance.cancel_order(None, SPOT, {"clientOrderId": "c"})
    assert cancelled["status"] == "canceled"
    assert server.simulator.balance("USDT").locked == 0
    with pytest.raises(ccxt.OrderNotFound, match="-2011"):
        await binance.cancel_order(None, SPOT, {"clientOrderId": "c"})


@pytest.mark.parametrize(
    ("tif", "price", "status"),
    [("IOC", 59000, "expired"), ("FOK", 59000, "expired"), ("IOC", 61000, "closed")],
)
async def test_immediate_orders_never_rest(
    server: Server, binance: Any, tif: str, price: int, status: str
) -> None:
    """IOC and FOK fill at once or expire; nothing is left on the book or locked."""
    order = await binance.create_order(SPOT, "limit", "buy", "0.01", price, {"timeInForce": tif})
    assert order["status"] == status
    assert await binance.fetch_open_orders(SPOT) == []
    assert server.simulator.balance("USDT").locked == 0


async def test_spot_stop_triggers_at_its_price(server: Server, binance: Any) -> None:
    """A spot stop-loss waits untriggered, then sells at the market when the price falls."""
    params = {"stopLossPrice": 58000, "clientOrderId": "stop"}
    order = await binance.create_order(SPOT, "market", "sell", "0.01", None, params)
    server.simulator.set_price("BTCUSDT", "58500")
    assert (await binance.fetch_order(order["id"], SPOT))["status"] == "open"
    server.simulator.set_price("BTCUSDT", bid="57000", ask="57001")
    filled = await binance.fetch_order(order["id"], SPOT)
    assert (filled["status"], Decimal(filled["average"])) == ("closed", Decimal(57000))
    with pytest.raises(ccxt.OrderImmediatelyFillable):
        await binance.create_order(SPOT, "market", "sell", "0.01", None, {"stopLossPrice": 58000})


async def test_oco_legs_exclude_each_other(server: Server, binance: Any) -> None:
    """One OCO leg filling expires the other; the shared quantity is locked once."""
    await binance.privatePostOrderListOco(
        {
            "symbol": "BTCUSDT",
            "side": "SELL",
            "quantity": "1",
            "aboveType": "LIMIT_MAKER",
            "abovePrice": "62000",
            "aboveClientOrderId": "tp",
            "belowType": "STOP_LOSS",
            "belowStopPrice": "58000",
            "belowClientOrderId": "sl",
        }
    )
    assert server.simulator.balance("BTC").locked == 1
    server.simulator.set_price("BTCUSDT", "62100")
    states = {order.client_id: order.status for order in server.simulator.orders()}
    assert states == {"tp": "FILLED", "sl": "EXPIRED"}
    held = server.simulator.balance("BTC")
    assert (held.free, held.locked) == (Decimal(9), Decimal(0))


async def test_futures_position_pnl_and_fees(server: Server, binance: Any) -> None:
    """A futures round trip realises its profit; fees come only with the trades."""
    server.simulator.set_price("BTCUSDT", bid="60000", ask="60000")
    opened = await _buy(binance, "f1", PERP)
    assert (opened["status"], Decimal(opened["average"]), opened["fee"]) == (
        "closed",
        Decimal(60000),
        None,
    )
    (position,) = await binance.fetch_positions([PERP])
    assert (position["side"], Decimal(position["contracts"])) == ("long", Decimal("0.01"))
    server.simulator.set_price("BTCUSDT", bid="61000", ask="61000")
    await binance.create_order(PERP, "market", "sell", "0.01", None, {"reduceOnly": True})
    assert await binance.fetch_positions([PERP]) == []
    trades = await binance.fetch_my_trades(PERP)
    fees = sum(Decimal(trade["fee"]["cost"]) for trade in trades)
    assert fees == Decimal("1.21")
    balance = await binance.fetch_balance({"type": "swap"})
    assert Decimal(balance["USDT"]["total"]) == 1_000_000_000 + 10 - fees


async def test_reduce_only_without_position_is_refused(server: Server, binance: Any) -> None:
    """Reduce-only with nothing to reduce is -2022, and can never turn a position round."""
    with pytest.raises(ccxt.InvalidOrder, match="-2022"):
        await binance.create_order(PERP, "market", "sell", "0.01", None, {"reduceOnly": True})
    await _buy(binance, "f", PERP)
    await binance.create_order(PERP, "market", "sell", "0.05", None, {"reduceOnly": True})
    assert server.simulator.engine.futures.positions["BTCUSDT"].amount == 0


async def test_futures_stop_lives_in_the_algo_service(server: Server, binance: Any) -> None:
    """A futures stop is created, found, listed and cancelled by clientAlgoId with trigger=True."""
    await _buy(binance, "f", PERP)
    stop = {"stopLossPrice": 58000, "reduceOnly": True, "clientOrderId": "st"}
    await binance.create_order(PERP, "market", "sell", "0.01", None, stop)
    by_id = {"clientOrderId": "st", "trigger": True}
    assert (await binance.fetch_order(None, PERP, by_id))["status"] == "open"
    assert len(await binance.fetch_open_orders(PERP, params={"trigger": True})) == 1
    assert await binance.fetch_open_orders(PERP) == []
    with pytest.raises(ccxt.InvalidOrder, match="-4116"):
        await binance.create_order(PERP, "market", "sell", "0.01", None, stop)
    await binance.cancel_order(None, PERP, by_id)
    assert (await binance.fetch_order(None, PERP, by_id))["status"] == "canceled"
    await binance.create_order(PERP, "market", "sell", "0.01", None, stop)
    server.simulator.set_price("BTCUSDT", "57000")
    assert (await binance.fetch_order(None, PERP, by_id))["status"] == "closed"
    assert await binance.fetch_positions([PERP]) == []
    real = await binance.fetch_order(None, PERP, {"clientOrderId": "st"})
    assert (real["status"], real["type"]) == ("closed", "market")
    assert [o.source for o in server.simulator.orders()] == ["api", "api", "api", "trigger"]


async def test_binanceusdm_trades_too(server: Server) -> None:
    """The futures-only class of ccxt works against the same server."""
    async with _session(server.host, server.port) as session:
        exchange = ccxt.binanceusdm({"apiKey": "sim-key", "secret": "sim-secret"})
        exchange.session, exchange.own_session = session, False
        exchange.options["fetchCurrencies"] = False
        order = await exchange.create_order(PERP, "market", "buy", 0.01)
        assert order["status"] == "closed"
        await exchange.set_leverage(5, PERP)
        (position,) = await exchange.fetch_positions([PERP], {"useV2": True})
        assert position["leverage"] == 5
        _release(exchange)


# ---- client order ids ---------------------------------------------------------------------------


@pytest.mark.parametrize(("symbol", "code"), [(SPOT, "Duplicate order sent"), (PERP, "-4116")])
async def test_ids_are_unique_among_open_orders_only(
    server: Server, binance: Any, symbol: str, code: str
) -> None:
    """An open order's id is refused, a filled one's accepted again: the double send shows."""
    place = binance.create_order
    await place(symbol, "limit", "buy", "0.01", 59000, {"clientOrderId": "open"})
    with pytest.raises(ccxt.InvalidOrder, match=code):
        await place(symbol, "limit", "buy", "0.01", 59000, {"clientOrderId": "open"})
    assert _landed(server, "open") == 1
    await _buy(binance, "filled", symbol)
    await _buy(binance, "filled", symbol)
    assert _landed(server, "filled") == 2
    assert list(server.simulator.duplicates()) == ["filled"]


@pytest.mark.parametrize("symbol", [SPOT, PERP])
async def test_id_form_is_checked(binance: Any, symbol: str) -> None:
    """36 characters of the documented set pass; 37, or a foreign character, do not."""
    assert (await _buy(binance, "aZ09._:/-" + "x" * 27, symbol))["status"] == "closed"
    for bad in ("x" * 37, "a b", "ü"):
        with pytest.raises(ccxt.BadRequest):
            await _buy(binance, bad, symbol)


# ---- refusals -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "order", "code"),
    [
        ("private", {"quantity": "0.000001", "type": "MARKET"}, "Filter failure: LOT_SIZE"),
        ("private", {"quantity": "0.0100005", "type": "MARKET"}, "Filter failure: LOT_SIZE"),
        ("private", {"quantity": "0.010000001", "type": "MARKET"}, "-1111"),
        ("private", {"quantity": "0.00001", "type": "MARKET"}, "Filter failure: NOTIONAL"),
        ("private", {"quantity": "1", "price": "59000.001"}, "Filter failure: PRICE_FILTER"),
        ("private", {"quantity": "1", "price": "1"}, "PERCENT_PRICE_BY_SIDE"),
        ("private", {"quantity": "x", "type": "MARKET"}, "-1100"),
        ("private", {"quantity": "1", "side": "HOLD", "type": "MARKET"}, "-1117"),
        ("private", {"quantity": "1", "symbol": "NOPE", "type": "MARKET"}, "-1121"),
        ("private", {"quantity": "1", "type": "STOP_MARKET"}, "-1116"),
        ("private", {"type": "MARKET"}, "-1102"),
        ("fapiPrivate", {"quantity": "0.0001", "type": "MARKET"}, "-1111"),
        ("fapiPrivate", {"quantity": "0", "type": "MARKET"}, "-4003"),
        ("fapiPrivate", {"quantity": "1", "price": "59000.01"}, "-1111"),
        ("fapiPrivate", {"quantity": "1", "price": "1"}, "-4024"),
        ("fapiPrivate", {"quantity": "0.001", "symbol": "XRPUSDT", "type": "MARKET"}, "-1111"),
        ("fapiPrivate", {"quantity": "1", "symbol": "XRPUSDT", "type": "MARKET"}, "-4164"),
        ("fapiPrivate", {"quantity": "1", "type": "STOP_MARKET"}, "-4120"),
        ("fapiPrivate", {"quantity": "1", "price": "61000", "timeInForce": "GTX"}, "-5022"),
        ("fapiPrivate", {"quantity": "9000000", "type": "MARKET"}, "-2019"),
    ],
)
async def test_bad_orders_are_refused_with_the_documented_code(
    server: Server, binance: Any, path: str, order: dict[str, str], code: str
) -> None:
    """Filters, precision and parameters are refused as Binance words it; nothing lands."""
    limit = {"type": "LIMIT", "timeInForce": "GTC"} if "price" in order else {}
    request = {"symbol": "BTCUSDT", "side": "BUY", **limit, **order}
    with pytest.raises(ccxt.BaseError, match=re.escape(code)):
        await getattr(binance, f"{path}PostOrder")(request)
    assert server.simulator.orders() == []


@pytest.mark.parametrize(
    ("more", "error", "code"),
    [
        ({"secret": "wrong"}, ccxt.AuthenticationError, "-1022"),
        ({"apiKey": "wrong"}, ccxt.AuthenticationError, "-2015"),
        ({"apiKey": "no good!"}, ccxt.AuthenticationError, "-2014"),
    ],
)
async def test_credentials_are_checked(
    server: Server, more: dict[str, str], error: type[Exception], code: str
) -> None:
    """A wrong secret, an unknown key and a malformed key each get their own refusal."""
    async with _session(server.host, server.port) as session:
        exchange = _ccxt(session, **more)
        with pytest.raises(error, match=code):
            await _buy(exchange, "x")
        _release(exchange)
    assert server.simulator.orders() == []


async def test_window_is_checked_on_arrival(server: Server, binance: Any) -> None:
    """A timestamp too old, too far ahead, or a window over a minute is refused."""
    now = server.simulator.now_ms()
    cases: list[tuple[dict[str, Any], type[Exception]]] = [
        ({"timestamp": now - 6000, "recvWindow": 5000}, ccxt.InvalidNonce),
        ({"timestamp": now + 5000, "recvWindow": 5000}, ccxt.InvalidNonce),
        ({"recvWindow": 60001}, ccxt.BadRequest),
    ]
    for params, error in cases:
        with pytest.raises(error):
            await _buy(binance, "w", **params)
    server.simulator.clock_offset_ms = 30_000
    with pytest.raises(ccxt.InvalidNonce):
        await _buy(binance, "w", recvWindow=5000)
    assert _landed(server, "w") == 0
    assert await binance.fetch_time() == pytest.approx(now + 30_000, abs=3000)


@pytest.mark.parametrize("symbol", [SPOT, PERP])
async def test_window_is_checked_again_before_the_engine(
    server: Server, binance: Any, symbol: str
) -> None:
    """A request held up past its window is refused, never accepted late."""
    server.simulator.add_fault(method="POST", path="/order$", delay_ms=150)
    with pytest.raises(ccxt.InvalidNonce, match="-1021"):
        await _buy(binance, "late", symbol, recvWindow=100)
    assert _landed(server, "late") == 0
    assert (await _buy(binance, "late", symbol, recvWindow=5000))["status"] == "closed"


async def test_futures_engine_window_can_answer_5028() -> None:
    """The futures engine's own window code is a BadRequest to ccxt, nothing lands."""
    async with (
        serve(Settings(futures_engine_window_code=-5028)) as server,
        _session(server.host, server.port) as session,
    ):
        exchange = _ccxt(session)
        server.simulator.add_fault(method="POST", path="/order$", delay_ms=150)
        with pytest.raises(ccxt.BadRequest, match="-5028"):
            await _buy(exchange, "late", PERP, recvWindow=100)
        assert server.simulator.orders() == []
        _release(exchange)


# ---- faults -------------------------------------------------------------------------------------

DISCONNECTED = aiohttp.ServerDisconnectedError
FAULTS: list[tuple[dict[str, Any], type[Exception], type[Exception] | None, int]] = [
    ({"action": "drop_before"}, ccxt.ExchangeNotAvailable, DISCONNECTED, 0),
    ({"action": "drop_after"}, ccxt.ExchangeNotAvailable, DISCONNECTED, 1),
    (
        {"action": "drop_after", "reset": True},
        ccxt.ExchangeNotAvailable,
        aiohttp.ClientOSError,
        1,
    ),
    ({"action": "no_reply_before"}, ccxt.RequestTimeout, TimeoutError, 0),
    ({"action": "no_reply_after"}, ccxt.RequestTimeout, TimeoutError, 1),
    ({"action": "cut_response"}, ccxt.ExchangeError, aiohttp.ClientPayloadError, 1),
    ({"preset": "502_html"}, ccxt.ExchangeNotAvailable, None, 0),
    ({"preset": "502_html", "when": "after"}, ccxt.ExchangeNotAvailable, None, 1),
    ({"preset": "504_html"}, ccxt.RequestTimeout, None, 0),
    ({"preset": "504_html", "when": "after"}, ccxt.RequestTimeout, None, 1),
    ({"preset": "503_unknown"}, ccxt.OperationFailed, None, 0),
    ({"preset": "503_unknown", "when": "after"}, ccxt.OperationFailed, None, 1),
    ({"preset": "500_1006", "when": "after"}, ccxt.OperationFailed, None, 1),
    ({"preset": "408_1007"}, ccxt.RequestTimeout, None, 0),
    ({"preset": "408_1007", "when": "after"}, ccxt.RequestTimeout, None, 1),
    ({"preset": "503_1007", "when": "after"}, ccxt.RequestTimeout, None, 1),
    ({"preset": "503_service_unavailable"}, ccxt.OperationFailed, None, 0),
    ({"preset": "503_1001"}, ccxt.OperationFailed, None, 0),
    ({"preset": "503_1008"}, ccxt.OperationFailed, None, 0),
    ({"preset": "429"}, ccxt.DDoSProtection, None, 0),
    ({"preset": "418"}, ccxt.DDoSProtection, None, 0),
    ({"preset": "429_1015"}, ccxt.DDoSProtection, None, 0),
    ({"preset": "400_1015"}, ccxt.RateLimitExceeded, None, 0),
    ({"preset": "400_1016"}, ccxt.BadRequest, None, 0),
    ({"preset": "403_waf"}, ccxt.ExchangeNotAvailable, None, 0),
    ({"action": "reject", "code": -1021, "msg": "x"}, ccxt.InvalidNonce, None, 0),
    ({"action": "reject", "code": -1013, "msg": "Invalid"}, ccxt.BadRequest, None, 0),
]


@pytest.mark.parametrize("symbol", [SPOT, PERP], ids=["spot", "futures"])
@pytest.mark.parametrize(
    ("fault", "error", "cause", "landed"),
    FAULTS,
    ids=["-".join(str(value) for value in row[0].values()) for row in FAULTS],
)
async def test_fault_table(
    server: Server,
    binance: Any,
    symbol: str,
    fault: dict[str, Any],
    error: type[Exception],
    cause: type[Exception] | None,
    landed: int,
) -> None:
    """Each fault raises its class in ccxt, and the order landed or not as the fault says."""
    server.simulator.add_fault(method="POST", path="/order$", count=1, **fault)
    if str(fault.get("action")).startswith("no_reply"):
        binance.timeout = 300
    with pytest.raises(error) as raised:
        await _buy(binance, "once", symbol)
    assert type(raised.value) is error
    assert type(raised.value.__cause__) is (cause or type(None))
    assert _landed(server, "once") == landed
    binance.timeout = 10_000
    assert (await _buy(binance, "next", symbol))["status"] == "closed"


@pytest.mark.parametrize("symbol", [SPOT, PERP], ids=["spot", "futures"])
@pytest.mark.parametrize("action", ["empty_200", "truncated_json_200"])
async def test_unreadable_success_raises_nothing(
    server: Server, binance: Any, symbol: str, action: str
) -> None:
    """A 200 without usable JSON is an order without an id to ccxt, though it landed."""
    server.simulator.add_fault(method="POST", path="/order$", count=1, action=action)
    order = await _buy(binance, "once", symbol)
    assert order["id"] is None
    assert _landed(server, "once") == 1


async def test_aiohttp_repeats_a_dropped_cancel_by_itself(server: Server, binance: Any) -> None:
    """A kept-alive connection dropped under a DELETE is retried unseen: the repeat finds -2011.

    So a cancel that worked can look like an order that never was; a POST is not repeated.
    """
    await binance.create_order(SPOT, "limit", "buy", "0.01", 59000, {"clientOrderId": "c"})
    server.simulator.add_fault(method="DELETE", action="drop_after", count=1)
    with pytest.raises(ccxt.OrderNotFound, match="-2011"):
        await binance.cancel_order(None, SPOT, {"clientOrderId": "c"})
    (order,) = server.simulator.orders()
    assert order.status == "CANCELED"
    assert sum(request["method"] == "DELETE" for request in server.simulator.recent) == 2


async def test_key_refused_after_success_looks_like_a_ban(server: Server, binance: Any) -> None:
    """After one spot success ccxt turns -2015 into DDoSProtection."""
    await _buy(binance, "first")
    server.simulator.add_fault(method="POST", preset="401_2015")
    with pytest.raises(ccxt.DDoSProtection, match="-2015"):
        await _buy(binance, "second")
    assert _landed(server, "second") == 0


@pytest.mark.parametrize("symbol", [SPOT, PERP], ids=["spot", "futures"])
async def test_late_visibility(server: Server, binance: Any, symbol: str) -> None:
    """An accepted order is not found by queries until its time has come."""
    server.simulator.add_fault(method="POST", path="/order$", late_visibility_ms=60_000)
    await binance.create_order(symbol, "limit", "buy", "0.01", 59000, {"clientOrderId": "late"})
    assert _landed(server, "late") == 1
    with pytest.raises(ccxt.OrderNotFound, match="-2013"):
        await binance.fetch_order(None, symbol, {"clientOrderId": "late"})
    assert await binance.fetch_open_orders(symbol) == []
    server.simulator.clock_offset_ms = 60_001
    window = {"timestamp": server.simulator.now_ms()}
    found = await binance.fetch_order(None, symbol, {"clientOrderId": "late", **window})
    assert found["status"] == "open"


async def test_slow_fill(server: Server, binance: Any) -> None:
    """A slow market order is NEW first and filled when its time has come."""
    server.simulator.add_fault(method="POST", path="/order$", slow_fill_ms=60_000)
    order = await _buy(binance, "slow", PERP)
    assert (order["status"], Decimal(order["filled"])) == ("open", Decimal(0))
    server.simulator.clock_offset_ms = 60_001
    (accepted,) = server.simulator.orders()
    assert (accepted.status, accepted.executed) == ("FILLED", Decimal("0.01"))


async def test_partial_fill(server: Server, binance: Any) -> None:
    """Half the liquidity: a market order expires half filled, a limit order rests half filled."""
    server.simulator.add_fault(method="POST", path="/order$", partial_fill=0.5)
    market = await _buy(binance, "m")
    assert (market["status"], Decimal(market["filled"])) == ("expired", Decimal("0.005"))
    limit = await binance.create_order(SPOT, "limit", "buy", "0.01", 61000, {"clientOrderId": "l"})
    assert (limit["status"], Decimal(limit["filled"])) == ("open", Decimal("0.005"))
    server.simulator.fill("l")
    done = await binance.fetch_order(limit["id"], SPOT)
    assert (done["status"], Decimal(done["filled"])) == ("closed", Decimal("0.01"))
    assert server.simulator.balance("USDT").locked == 0


async def test_request_of_a_client_that_left_still_lands(server: Server, binance: Any) -> None:
    """A delay longer than the client's patience: it saw a timeout, the exchange an order."""
    server.simulator.add_fault(method="POST", path="/order$", delay_ms=200, count=1)
    binance.timeout = 50
    with pytest.raises(ccxt.RequestTimeout):
        await _buy(binance, "gone")
    await server.until(lambda sim: sim.counts["POST /api/v3/order", "200"] == 1)
    assert _landed(server, "gone") == 1


async def _pattern(seed: int) -> list[bool]:
    async with serve(Settings(seed=seed)) as server, _session(server.host, server.port) as session:
        exchange = _ccxt(session)
        server.simulator.add_fault(method="POST", preset="503_unknown", probability=0.5)
        outcomes = []
        for number in range(20):
            try:
                await _buy(exchange, f"o{number}")
                outcomes.append(True)
            except ccxt.OperationFailed:
                outcomes.append(False)
        assert sum(outcomes) == len(server.simulator.orders())
        _release(exchange)
        return outcomes


async def test_random_faults_repeat_with_their_seed() -> None:
    """Equal seeds give equal faults; different seeds differ."""
    first = await _pattern(1)
    assert {True, False} == set(first)
    assert await _pattern(1) == first
    assert await _pattern(2) != first


async def test_matchers_skip_and_count(server: Server, binance: Any) -> None:
    """A rule hits only its symbol, after its skips, as often as it counts."""
    rule = {"preset": "503_unknown", "symbol": "ETHUSDT", "skip": 1, "count": 1}
    server.simulator.add_fault(method="POST", path="^/api/v3/order$", **rule)
    await _buy(binance, "other")
    await _buy(binance, "e1", "ETH/USDT")
    with pytest.raises(ccxt.OperationFailed):
        await _buy(binance, "e2", "ETH/USDT")
    await _buy(binance, "e3", "ETH/USDT")
    assert [o.client_id for o in server.simulator.orders()] == ["other", "e1", "e3"]


async def test_limits_answer_429_with_headers(binance: Any, server: Server) -> None:
    """Weight and order counts are reported; the configured limit answers 429 -1015."""
    server.simulator.meter.order_limit = 1
    await _buy(binance, "1")
    headers = binance.last_response_headers
    assert int(headers["X-MBX-USED-WEIGHT-1M"]) >= 1
    assert headers["X-MBX-ORDER-COUNT-10S"] == "1"
    with pytest.raises(ccxt.DDoSProtection, match="-1015"):
        await _buy(binance, "2")
    assert _landed(server, "2") == 0


# ---- beside a synchronous test ------------------------------------------------------------------


async def _trade_once(url: str, client_id: str) -> None:
    host, port = url.removeprefix("http://").split(":")

    async with _session(host, int(port)) as session:
        exchange = _ccxt(session)
        try:
            await _buy(exchange, client_id)
        finally:
            _release(exchange)


def test_thread_and_control_api() -> None:
    """Everything a test may do is reachable over the control API."""
    with SimulatorThread(Settings(symbols=1)) as sim:
        control = sim.control
        asyncio.run(_trade_once(sim.url, "x"))
        asyncio.run(_trade_once(sim.url, "x"))
        assert [len(same) for same in control.duplicates().values()] == [2]
        (first, _) = control.orders(client_id="x")
        assert (first["status"], first["executed_quantity"]) == ("FILLED", "0.01")
        assert first["request_timestamp"] <= first["accepted_at"]
        assert first["recv_window"] == 10_000
        counted = control.requests(recent=1)
        assert counted["counts"]["POST /api/v3/order"] == {"200": 2}
        assert counted["recent"][0]["client_id"] == "x"
        control.set_price("BTCUSDT", "50000", market="spot")
        assert control.call("GET", "prices")["spot"]["BTCUSDT"]["last"] == "50000"
        control.set_balances({"BTC": "3"}, "7")
        assert control.balances()["spot"]["BTC"]["free"] == "3"
        assert control.balances()["futures"]["wallet"] == "7"
        control.set_clock_offset(5000)
        rule = control.add_fault(method="POST", preset="418", count=2)
        (shown,) = control.faults()
        assert (shown["id"], shown["remaining"]) == (rule, 2)
        with pytest.raises(ControlError, match="preset"):
            control.add_fault(preset="nonsense")
        with pytest.raises(ControlError, match="presett"):
            control.add_fault(presett="418")
        control.clear_faults()
        assert control.faults() == []
        control.reset()
        assert control.orders() == []
        assert control.balances()["spot"]["USDT"]["free"] == "1000000000"


def test_command_line_process() -> None:
    """The program serves generated symbols with its own key and ends on SIGTERM."""
    rules = '[{"method": "POST", "path": "/order$", "preset": "502_html", "count": 1}]'
    with simulator_process("--symbols", "2", "--api-key", "sim-key", "--faults", rules) as control:
        assert "C001USDT" in control.call("GET", "prices")["futures"]
        with pytest.raises(ccxt.ExchangeNotAvailable):
            asyncio.run(_trade_once(control.url, "p"))
        assert control.orders() == []
        asyncio.run(_trade_once(control.url, "p"))
        assert len(control.orders(client_id="p")) == 1
        assert control.duplicates() == {}


# ---- invariants of the engine ------------------------------------------------------------------

_ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["MARKET", "LIMIT", "STOP_LOSS", "cancel", "price"]),
        st.sampled_from(["BUY", "SELL"]),
        st.integers(1, 300),
        st.integers(57_000, 63_000),
        st.sampled_from([None, Decimal("0.3")]),
    ),
    max_size=40,
)


@given(_ACTIONS)
def test_money_is_neither_made_nor_lost(
    actions: list[tuple[str, str, int, int, Decimal | None]],
) -> None:
    """Balances always equal the start plus every trade less its commission; locks end at zero."""
    sim = Simulator(Settings(base_balance=Decimal(1)), clock_ms=lambda: 0)
    market = sim.engine.market("spot", "BTCUSDT")
    for number, (kind, side, size, price, partial) in enumerate(actions):
        if kind == "price":
            sim.set_price("BTCUSDT", Decimal(price), market="spot")
            continue
        working = sim.engine.open_orders("spot", "BTCUSDT")
        if kind == "cancel":
            if working:
                sim.engine.cancel(working[0], 0)
            continue
        order = Order(
            kind="order",
            market=market,
            client_id=f"o{number}",
            side="BUY" if side == "BUY" else "SELL",
            type=kind,
            tif="GTC",
            quantity=Decimal(size) / 1000,
            price=Decimal(price) if kind == "LIMIT" else Decimal(0),
            stop_price=Decimal(price) if kind == "STOP_LOSS" else Decimal(0),
            conditions=Conditions(0, partial_fill=partial),
        )
        with contextlib.suppress(ApiError):
            sim.engine.submit(order)
    for order in sim.engine.open_orders("spot", "BTCUSDT"):
        sim.engine.cancel(order, 0)
    expected = {"BTC": Decimal(1), "USDT": Decimal(1_000_000_000)}
    for order in sim.orders():
        sign = 1 if order.side == "BUY" else -1
        assert order.executed == sum(trade.quantity for trade in order.trades) <= order.quantity
        for trade in order.trades:
            expected["BTC"] += sign * trade.quantity
            expected["USDT"] -= sign * trade.quantity * trade.price
            expected[trade.commission_asset] -= trade.commission
    for asset, amount in expected.items():
        held = sim.balance(asset)
        assert (held.free, held.locked) == (amount, Decimal(0))
