"""Orders over the WebSocket API: real ccxt, a real socket, the simulated exchange's faults."""

import asyncio
import json
import logging
import re
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any, cast

import aiohttp
import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import BaseTestServer, TestServer
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from tests.exchange_simulator import Server, Settings, serve
from tests.exchange_simulator import orders as order_shapes
from tests.integration.canned import Canned
from tests.integration.test_ccxt_adapter import (
    KEY,
    LINEAR,
    SECRET,
    SPOT,
    a_limit,
    a_stop,
    all_open,
    an_adapter,
    an_order,
    trading,
)
from tests.integration.test_outcomes_real_ccxt import CASES, Case
from tests.unit.parts import ManualClock
from worker.clock import SystemClock
from worker.config import Config, ExchangeConfig, Secret
from worker.domain.market import MarketKind
from worker.domain.order import OrderRequest, OrderState, Role, Side
from worker.domain.signal import OrderType, TimeInForce
from worker.exchanges import order_socket
from worker.exchanges.base import (
    CredentialsError,
    ExchangeError,
    Outcome,
    SendWindow,
)
from worker.exchanges.binance import BinanceCCXTAdapter
from worker.exchanges.factory import ExchangeFactory
from worker.exchanges.http_session import open_session
from worker.exchanges.order_socket import OrderSocket
from worker.exchanges.outcomes import Call, IncompleteReplyError
from worker.exchanges.paper import PaperExchange

D = Decimal
SOCKETS = {SPOT: "/ws-api/v3", LINEAR: "/ws-fapi/v1"}
WEBSOCKET: dict[str, Any] = {"order_transport": "websocket"}
CREATE: dict[str, Any] = {"method": "POST", "path": r"/ws-.*rder\.place$"}
CONNECT: dict[str, Any] = {"method": "GET", "path": "/ws-"}


@pytest.fixture
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connect again at once, however short the last connection was."""
    monkeypatch.setattr(order_socket, "SHORTEST_CYCLE_S", 0.02)
    monkeypatch.setattr(order_socket, "LONGEST_CYCLE_S", 0.1)


async def failure(adapter: BinanceCCXTAdapter, request: OrderRequest) -> ExchangeError:
    """What placing ``request`` fails with."""
    with pytest.raises(ExchangeError) as raised:
        await adapter.place_order(request, adapter.open_window())
    return raised.value


def connections(server: Server, path: str = "/ws-api/v3", outcome: str = "101") -> int:
    """How many connections were made, or attempted with that outcome."""
    return server.simulator.counts[f"GET {path}", outcome]


async def hang_up(adapter: BinanceCCXTAdapter, server: Server) -> None:
    """Close every connection as Binance does after a day, and wait until the adapter knows."""
    before = {socket: socket._ws for socket in adapter._sockets.values()}
    for connection in tuple(server.sockets):
        await connection.ws.close()
    for _ in range(100_000):
        if not any(ws is socket._ws and socket.is_open for socket, ws in before.items()):
            return
        await asyncio.sleep(0)
    raise AssertionError("the adapter did not notice")


async def under_way(adapter: BinanceCCXTAdapter) -> None:
    """Wait until every socket is being connected."""
    for _ in range(100_000):
        if not any(socket._settled.is_set() for socket in adapter._sockets.values()):
            return
        await asyncio.sleep(0)
    raise AssertionError("nobody connects")


@asynccontextmanager
async def connecting() -> AsyncIterator[BinanceCCXTAdapter]:
    """An adapter that lost its connections, and whose attempts to make new ones go on for ever."""
    config = WEBSOCKET | {"recv_window_ms": 60_000, "timeout_ms": 60_000}
    async with trading(config=config) as (adapter, server):
        server.simulator.add_fault(action="no_reply_before", **CONNECT)
        await hang_up(adapter, server)
        await under_way(adapter)
        yield adapter


@asynccontextmanager
async def listening(
    answer: Callable[[web.Request], Awaitable[web.StreamResponse]],
) -> AsyncIterator[BaseTestServer]:
    """A server that answers everything in one way."""
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", answer)
    async with TestServer(application) as server:
        yield server


# ---- what goes out ---------------------------------------------------------------------------


def one_of_each() -> dict[str, OrderRequest]:
    """Every kind of order there is, on both markets."""
    sell = {"side": Side.SELL}
    return {
        "spot market": an_order(),
        "spot limit": a_limit(SPOT, "55000.017", quantity=D("0.0100009")),
        "spot immediate or cancel": a_limit(time_in_force=TimeInForce.IOC),
        "spot stop": a_stop(),
        "spot stop limit": a_stop(SPOT, order_type=OrderType.STOP_LIMIT, price=D("54000")),
        "spot take profit": a_stop(SPOT, "65000", role=Role.TAKE_PROFIT),
        "futures market": an_order(LINEAR),
        "futures limit": a_limit(LINEAR, "65000.1", reduce_only=True, **sell),
        "futures stop": a_stop(LINEAR, "55000.1"),
        "futures stop limit": a_stop(LINEAR, order_type=OrderType.STOP_LIMIT, price=D("54000")),
        "futures take profit": a_stop(LINEAR, "65000", role=Role.TAKE_PROFIT),
    }


async def test_a_frame_says_what_rest_says_with_the_orders_own_window() -> None:
    """The same parameters to the letter, our id, and timestamp and recvWindow of the window.

    No name of ccxt's own is left in it: Binance refuses parameters it does not read.
    """
    async with trading(config=WEBSOCKET) as (adapter, server):
        rest = an_adapter(server.url)
        await rest.start()
        for name, request in one_of_each().items():
            opened = adapter.open_window()
            # Another width than configured, and a little older than now.
            window = SendWindow(opened.timestamp_ms - 7, 4_321, opened.expires_mono_ms)
            await adapter.place_order(request, window)
            frame = server.simulator.last[-1].frame
            assert frame is not None, name
            over_socket = frame["params"]
            again = msgspec.structs.replace(request, client_order_id="f" + request.client_order_id)
            await rest.place_order(again, window)
            over_rest = server.simulator.last[-1].params

            assert over_socket["timestamp"] == window.timestamp_ms, name
            assert over_socket["recvWindow"] == 4_321, name
            ours = {"newClientOrderId", "clientAlgoId"} & over_socket.keys()
            assert [over_socket[one] for one in ours] == [request.client_order_id], name
            kept = over_rest.keys() - ours - {"signature", "timestamp", "recvWindow"}
            extra = {"apiKey", "returnRateLimits", "signature", "timestamp", "recvWindow"}
            assert over_socket.keys() - extra - ours == kept, name
            for one in kept:
                value = over_socket[one]
                assert isinstance(value, str | bool), (name, one)
                assert json.dumps(value).strip('"') == over_rest[one], (name, one)
        await rest.close()


async def test_only_creating_goes_over_the_socket_and_one_connection_does_for_all() -> None:
    """Look-ups, cancels, lists and balances stay on REST; both connections are there from start."""
    async with trading(config=WEBSOCKET) as (adapter, server):
        counts = server.simulator.counts
        assert {path for path in SOCKETS.values() if connections(server, path) == 1} == {
            *SOCKETS.values()
        }
        for symbol, path in SOCKETS.items():
            request = a_limit(symbol)
            report = await adapter.place_order(request, adapter.open_window())
            assert (report.state, report.symbol) == (OrderState.ACTIVE, symbol)
            assert (await adapter.get_order(request)).state is OrderState.ACTIVE
            assert len(await adapter.get_open_orders(symbol)) == 1
            await adapter.cancel_order(request)
            assert counts[f"POST {path}/order.place", "200"] == 1
        stop = a_stop(LINEAR)
        await adapter.place_order(stop, adapter.open_window())
        assert (await adapter.get_order(stop)).state is OrderState.ACTIVE
        assert counts["POST /ws-fapi/v1/algoOrder.place", "200"] == 1
        posted = {endpoint for endpoint, _ in counts if endpoint.startswith("POST")}
        assert all("/ws-" in endpoint for endpoint in posted)
        await adapter.start()  # a second time: what is there stays
        assert sum(connections(server, path) for path in SOCKETS.values()) == 2


async def test_the_report_of_a_spot_order_is_complete() -> None:
    """State, average, every fill with its fee, and no number lost a digit."""
    async with trading(config=WEBSOCKET, fills_per_order=3) as (adapter, _):
        request = an_order(quantity=D("0.01"))
        report = await adapter.place_order(request, adapter.open_window())
        assert (report.state, len(report.fills)) == (OrderState.FILLED, 3)
        assert sum(fill.fee for fill in report.fills) == D("0.00001")
        found = await adapter.get_order(request)
        assert found.created_ms == report.created_ms > 0
        assert found.average_price == report.average_price


async def test_a_number_in_a_result_keeps_every_digit() -> None:
    """As on REST, even where it is not sent as a string."""
    async with trading(config=WEBSOCKET) as (adapter, server):
        request = a_limit(LINEAR)
        await adapter.place_order(request, adapter.open_window())
        again = a_limit(LINEAR)
        made = order_shapes.futures_order(server.simulator.orders()[-1]) | {
            "clientOrderId": again.client_order_id
        }
        body = json.dumps(made).replace(
            '"executedQty": "0.000"', '"executedQty": 1234567890.12345678'
        )
        assert "345678" in body
        server.simulator.add_fault(action="http_status", status=200, body=body, **CREATE)
        report = await adapter.place_order(again, adapter.open_window())
        assert report.filled_quantity == D("1234567890.12345678")


# ---- what comes back -------------------------------------------------------------------------


async def test_an_error_frame_means_what_the_same_rest_reply_means() -> None:
    """Every code of the tables: outcome, class, code and transience, on both markets.

    Rows without a code have no frame like them: a page is not a frame.
    """
    cases = [one for one in CASES if one.venue == "binance" and _code(one)]
    # In no table of ours, and of different classes in ccxt on the two markets.
    cases += [
        Case(
            "binance",
            Canned({"code": code, "msg": "x"}, 400),
            outcome,
            ExchangeError,
            "",
            False,
            on,
        )
        for code, on, outcome in (
            (-2008, SPOT, Outcome.REFUSED),
            (-2008, LINEAR, Outcome.UNKNOWN),
            (-2027, LINEAR, Outcome.REFUSED),
            (-2027, SPOT, Outcome.UNKNOWN),
        )
    ]
    assert len(cases) > 50
    async with trading(config=WEBSOCKET) as (adapter, server):
        rest = an_adapter(server.url)
        await rest.start()
        wrong = []
        for case in cases:
            reply = {"status": case.reply.status, "body": json.dumps(case.reply.body)}
            seen = []
            for one in (rest, adapter):
                server.simulator.faults.clear()
                server.simulator.add_fault(
                    method="POST", path="order", action="http_status", **reply
                )
                error = await failure(one, an_order(case.symbol))
                seen.append((error.outcome, type(error), error.code, error.transient))
            if seen[0] != seen[1] or seen[1][0] is not case.outcome:
                wrong.append((case.name, seen))
        assert wrong == []
        await rest.close()


def _code(case: Case) -> bool:
    return isinstance(case.reply.body, dict) and "code" in case.reply.body


def test_a_reply_is_a_result_a_whole_error_or_neither() -> None:
    """Only a status with a code and a text is an answer; retryAfter is a time, not a span."""
    assert order_socket.read_reply(
        {"id": "1", "status": 200, "result": {"a": 1}}, Call("x"), 0
    ) == {"a": 1}
    error = {"code": -1003, "msg": "text"}
    neither: list[dict[str, Any]] = [
        {},
        {"status": 200},
        {"status": 200, "result": [], "error": None},
        {"status": 200, "result": {}, "error": error},
        {"status": "400", "error": error},
        {"status": 200, "error": error},
        {"status": 302, "error": error},
        {"error": error},
        {"status": 400},
        {"status": 400, "result": {"orderId": 1}},
        {"status": 400, "error": {"code": -1003}},
        {"status": 400, "error": {"msg": "text"}},
        {"status": 400, "error": {"code": "-1003", "msg": 3}},
        {"status": 400, "error": "-1003"},
    ]
    for frame in neither:
        call = Call("create_order", creating=True)
        with pytest.raises(IncompleteReplyError):
            order_socket.read_reply(frame, call, 0)
        assert (call.status, call.body) == (0, None)
    waits: list[tuple[Any, float]] = [
        ({"serverTime": 1_000, "retryAfter": 8_500}, 7.5),
        ({"retryAfter": 8_500}, 6.5),
        ({"serverTime": 9_000, "retryAfter": 8_500}, 0.0),
        ({"serverTime": 0, "retryAfter": 10**12}, 3_600.0),
        ({"retryAfter": "soon"}, 0.0),
        ([], 0.0),
        (None, 0.0),
    ]
    for data, seconds in waits:
        call = Call("create_order", creating=True)
        with pytest.raises(order_socket.FrameError):
            order_socket.read_reply({"status": 429, "error": error | {"data": data}}, call, 2_000)
        assert (call.status, call.retry_after_s) == (429, seconds)


async def test_replies_in_any_order_reach_their_own_callers() -> None:
    """Twenty orders at once, the first sent are the last answered."""
    async with trading(config=WEBSOCKET) as (adapter, server):
        requests = [an_order(quantity=D("0.01") + D("0.0001") * n) for n in range(20)]
        for number, request in enumerate(requests):
            wait_ms = 10 * (len(requests) - number)
            server.simulator.add_fault(
                client_id=request.client_order_id, delay_after_ms=wait_ms, **CREATE
            )
        done: list[str] = []

        async def place(request: OrderRequest) -> None:
            report = await adapter.place_order(request, adapter.open_window())
            assert report.client_order_id == request.client_order_id
            assert report.filled_quantity == request.quantity
            done.append(request.client_order_id)

        await asyncio.gather(*map(place, requests))
        sent = [request.client_order_id for request in requests]
        assert done != sent
        assert sorted(done) == sent


async def test_a_reply_that_comes_too_late_is_nobodys() -> None:
    """The order timed out and is UNKNOWN; its reply disturbs neither the socket nor the next."""
    async with trading(config=WEBSOCKET | {"timeout_ms": 200}) as (adapter, server):
        server.simulator.add_fault(count=1, delay_after_ms=300, **CREATE)
        late = an_order()
        error = await failure(adapter, late)
        assert (error.outcome, error.code) == (Outcome.UNKNOWN, "TimeoutError")
        assert not any(socket._waiting for socket in adapter._sockets.values())
        server.simulator.add_fault(count=1, delay_after_ms=150, **CREATE)
        request = an_order()
        report = await adapter.place_order(request, adapter.open_window())
        assert report.client_order_id == request.client_order_id
        assert (await adapter.get_order(late)).state is OrderState.FILLED
        assert connections(server) == 1


STRAY = ["[]", "3", '"text"', "null", "{}", '{"id": null, "status": 400, "error": {}}',
         '{"id": []}', '{"id": 1, "status": 200, "result": {}}', '{"id": "999", "status": 200}',
         '{"event": {"e": "serverShutdown", "E": 1}}']  # fmt: skip


async def test_stray_frames_are_passed_over() -> None:
    """Whatever JSON comes that is no reply to an order in flight: the socket goes on."""
    async with trading(config=WEBSOCKET) as (adapter, server):
        server.simulator.add_fault(delay_after_ms=50, **CREATE)
        placing = asyncio.ensure_future(adapter.place_order(an_order(), adapter.open_window()))
        await server.until(lambda sim: len(sim.orders()) == 1)
        for text in STRAY:
            for socket in server.sockets:
                await socket.send(text)
        assert (await placing).state is OrderState.FILLED
        assert connections(server) == 1


@pytest.mark.usefixtures("quickly")
@pytest.mark.parametrize("broken", ["not JSON", "a handler that raises", "binary"])
async def test_what_cannot_be_read_replaces_the_socket_at_once(
    broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Orders in flight are UNKNOWN at once, not after their timeout; the next one goes out."""
    async with trading(config=WEBSOCKET | {"timeout_ms": 60_000}) as (adapter, server):
        server.simulator.add_fault(count=2, action="no_reply_after", **CREATE)
        requests = [an_order(), an_order()]
        placing = [asyncio.ensure_future(failure(adapter, request)) for request in requests]
        await server.until(lambda sim: len(sim.orders()) == 2)
        (socket,) = (one for one in server.sockets if one.path == SOCKETS[SPOT])
        if broken == "binary":
            await socket.ws.send_bytes(b"{}")
        elif broken == "not JSON":
            await socket.send('{"id": "1", "sta')
        else:
            with monkeypatch.context() as patched:
                patched.setattr(order_socket, "_frames", Raising())
                await socket.send("{}")
                async with asyncio.timeout(10):
                    await asyncio.wait(placing)
        async with asyncio.timeout(10):
            for error in await asyncio.gather(*placing):
                assert (error.outcome, error.code) == (Outcome.UNKNOWN, "SocketLostError")
        await all_open(adapter)
        report = await adapter.place_order(an_order(), adapter.open_window())
        assert report.state is OrderState.FILLED
        assert connections(server) == 2
        assert len(server.simulator.orders()) == 3


class Raising:
    """A decoder with a fault in it."""

    def decode(self, _: object) -> object:
        """Raise what nobody expects."""
        raise ZeroDivisionError


@pytest.mark.usefixtures("quickly")
async def test_no_secret_is_said_at_any_level(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither by what is logged at DEBUG nor by an error: no key, no secret, no signature."""
    said = []
    with caplog.at_level(logging.DEBUG):
        async with trading(config=WEBSOCKET | {"timeout_ms": 300}) as (adapter, server):
            await adapter.place_order(an_order(), adapter.open_window())
            for action in ("drop_after", "no_reply_after", "cut_response", "truncated_json_200"):
                await all_open(adapter)
                server.simulator.add_fault(count=1, action=action, **CREATE)
                said.append(repr(await failure(adapter, an_order())))
            await all_open(adapter)
            text = f"API-key {KEY}, signature={'0' * 64}"
            server.simulator.add_fault(count=1, action="reject", code=-2015, msg=text, **CREATE)
            said.append(repr(await failure(adapter, an_order())))
            server.simulator.add_fault(action="drop_before", **CONNECT)
            await hang_up(adapter, server)
            said += [repr(await failure(adapter, an_order())), repr(adapter._sockets)]
    output = capsys.readouterr()
    told = "\n".join([*said, caplog.text, output.out, output.err])
    assert "order_socket_lost" in told
    for secret in (KEY, SECRET):
        assert secret not in told
    assert re.findall(r"\b[0-9a-f]{64}\b", told) == []


# ---- connecting ------------------------------------------------------------------------------


@pytest.mark.usefixtures("quickly")
async def test_a_socket_closed_while_idle_is_replaced_before_the_next_order() -> None:
    """As Binance closes each after 24 hours: the next order goes out once, and is no question."""
    async with trading(config=WEBSOCKET) as (adapter, server):
        for symbol in SOCKETS:
            for turn in range(3):
                await hang_up(adapter, server)
                await all_open(adapter)
                request = an_order(symbol)
                report = await adapter.place_order(request, adapter.open_window())
                assert report.state is OrderState.FILLED, (symbol, turn)
        assert server.simulator.duplicates() == {}


@pytest.mark.usefixtures("quickly")
async def test_an_order_right_after_the_exchange_hung_up_is_never_a_question() -> None:
    """It waits for the attempt under way, or is not sent; the closed socket is not written to."""
    async with trading(config=WEBSOCKET) as (adapter, server):
        for _ in range(3):
            await all_open(adapter)
            await hang_up(adapter, server)
            results = await asyncio.gather(
                *(adapter.place_order(an_order(), adapter.open_window()) for _ in range(3)),
                return_exceptions=True,
            )
            for error in results:
                assert not isinstance(error, ExchangeError) or error.outcome is Outcome.NOT_SENT


def transport_of(adapter: BinanceCCXTAdapter) -> asyncio.Transport:
    """What spot orders are written to."""
    (socket,) = (s for url, s in adapter._sockets.items() if url.endswith(SOCKETS[SPOT]))
    assert socket._ws is not None
    connection = socket._ws._response.connection
    assert connection is not None
    assert connection.transport is not None
    return connection.transport


async def test_a_connection_known_to_be_gone_is_not_written_to() -> None:
    """The transport has ended and nobody has read so far: not sent, rather than unknown."""
    async with trading(config=WEBSOCKET) as (adapter, server):
        transport_of(adapter).abort()
        await asyncio.sleep(0)  # the transport tells its protocol; the reader has not run
        error = await failure(adapter, an_order())
        assert (error.outcome, error.code) == (Outcome.NOT_SENT, "not_connected")
        assert server.simulator.orders() == []


async def test_a_write_that_fails_leaves_the_outcome_open() -> None:
    """The transport ends under the frame: how much of it went out, nobody says."""
    async with trading(config=WEBSOCKET) as (adapter, _):
        transport_of(adapter).abort()
        error = await failure(adapter, an_order())
        assert (error.outcome, error.code) == (Outcome.UNKNOWN, "ClientConnectionResetError")


@pytest.mark.usefixtures("quickly")
@pytest.mark.parametrize(
    "refusal", [{"action": "drop_before"}, {"preset": "503_unknown"}, {"preset": "403_waf"}]
)
async def test_an_order_without_a_connection_is_not_sent_and_says_so(
    refusal: dict[str, Any],
) -> None:
    """Nothing falls back to REST; once the exchange lets us in again, the same order goes out."""
    async with trading(config=WEBSOCKET) as (adapter, server):
        server.simulator.add_fault(**CONNECT, **refusal)
        refused = f"fault:{refusal.get('preset') or refusal.get('action')}"
        refused += ":before" if "preset" in refusal else ""
        await hang_up(adapter, server)
        await server.until(lambda _: connections(server, outcome=refused) > 0)
        request = an_order()
        error = await failure(adapter, request)
        assert (error.outcome, error.code) == (Outcome.NOT_SENT, "not_connected")
        assert "nothing was sent, there is no connection to /ws-api/v3" in str(error)
        assert server.simulator.orders() == []
        server.simulator.faults.clear()
        await all_open(adapter)
        assert (await adapter.place_order(request, adapter.open_window())).filled_quantity > 0
        assert len(server.simulator.orders()) == 1


@pytest.mark.usefixtures("quickly")
async def test_an_order_waits_for_the_attempt_under_way() -> None:
    """As an order on REST waits for its connection: one attempt, and it goes out."""
    async with trading(config=WEBSOCKET) as (adapter, server):
        server.simulator.add_fault(delay_ms=150, **CONNECT)
        await hang_up(adapter, server)
        await under_way(adapter)
        report = await adapter.place_order(an_order(), adapter.open_window())
        assert report.state is OrderState.FILLED


@pytest.mark.usefixtures("quickly")
async def test_a_window_that_ends_while_connecting_is_not_sent() -> None:
    """The order never waits longer than its window; one that is over is not sent at all."""
    async with trading(config=WEBSOCKET | {"recv_window_ms": 100}) as (adapter, server):
        server.simulator.add_fault(delay_ms=400, **CONNECT)
        await hang_up(adapter, server)
        await under_way(adapter)
        error = await failure(adapter, an_order())
        assert (error.outcome, error.code) == (Outcome.NOT_SENT, "window_over")
        window = adapter.open_window()
        over = SendWindow(window.timestamp_ms, window.valid_ms, 0.0)
        await all_open(adapter)
        with pytest.raises(ExchangeError) as raised:
            await adapter.place_order(an_order(), over)
        assert (raised.value.outcome, raised.value.code) == (Outcome.NOT_SENT, "window_over")
        assert server.simulator.orders() == []


@pytest.mark.usefixtures("quickly")
async def test_an_order_does_not_wait_long_for_a_connection() -> None:
    """Halt and expiry were looked at before the waiting: a slow connection is not waited for."""
    async with connecting() as adapter:
        error = await asyncio.wait_for(failure(adapter, an_order()), 10)
        assert (error.outcome, error.code) == (Outcome.NOT_SENT, "not_connected")
        assert "still connecting" in str(error)
        assert not any(socket._settled.is_set() for socket in adapter._sockets.values())


@pytest.mark.usefixtures("quickly")
async def test_a_start_goes_on_without_the_socket_and_says_what_is_in_the_way() -> None:
    """Look-ups, cancels and prices need REST alone; orders are sent once there is a connection."""
    async with serve(Settings(api_key=KEY, secret=SECRET)) as server:
        server.simulator.add_fault(**CONNECT, action="http_status", status=404)
        adapter = an_adapter(server.url, **WEBSOCKET)
        await adapter.start()
        for path in SOCKETS.values():
            assert f"there is no connection to {path}: WSServerHandshakeError" in adapter.obstacle
        assert (await failure(adapter, an_order())).outcome is Outcome.NOT_SENT
        assert await adapter.get_open_orders() == []
        server.simulator.faults.clear()
        await all_open(adapter)
        assert adapter.obstacle == ""
        assert (await adapter.place_order(an_order(), adapter.open_window())).filled_quantity > 0
        await adapter.close()


async def test_what_goes_over_a_socket_follows_no_redirect() -> None:
    """A signed order goes to the address it was meant for, or nowhere."""
    arrived: list[str] = []

    async def elsewhere(request: web.Request) -> web.WebSocketResponse:
        arrived.append(request.path)
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        return socket

    async def gate(_: web.Request) -> web.Response:
        raise web.HTTPFound(f"http://127.0.0.1:{other.port}/ws-api/v3")

    async with listening(elsewhere) as other, listening(gate) as first:
        url = URL(f"ws://127.0.0.1:{first.port}")
        session = open_session(None, url, ssl.create_default_context())
        socket = OrderSocket("binance", "wss://host/ws-api/v3", session, 5_000, SystemClock())
        await socket.settled(5_000)
        assert "ClientPayloadError" in socket.obstacle
        await socket.close()
        await session.close()
    assert arrived == []


@pytest.mark.usefixtures("quickly")
async def test_a_dead_connection_is_found_by_its_pings(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other side says nothing any more, not even pong: the connection is replaced."""
    monkeypatch.setattr(order_socket, "HEARTBEAT_S", 0.05)
    async with serve(Settings(api_key=KEY, secret=SECRET)) as server:
        server.answers_pings = False
        adapter = an_adapter(server.url, **WEBSOCKET)
        await adapter.start()
        await server.until(lambda _: connections(server) > 1)
        await adapter.close()


class Refusing:
    """A session that no connection can be made with."""

    def __init__(self, **headers: str) -> None:
        self.attempts = 0
        self._headers = CIMultiDict(headers)

    async def ws_connect(self, url: str, **_: Any) -> Any:
        self.attempts += 1
        info = aiohttp.RequestInfo(URL(url), "GET", CIMultiDictProxy(CIMultiDict()), URL(url))
        raise aiohttp.WSServerHandshakeError(info, (), status=418, headers=self._headers)


class Minutes(ManualClock):
    """Counts the waits, and ends the waiter's life after five minutes."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.ms += seconds * 1_000
        if self.ms > 300_000:
            raise asyncio.CancelledError
        await asyncio.sleep(0)


async def _refused(**headers: str) -> tuple[Refusing, Minutes]:
    """What a socket does for five minutes in which every connection is refused."""
    session, clock = Refusing(**headers), Minutes()
    socket = OrderSocket("binance", "wss://host/x", cast("Any", session), 1_000, clock)
    await asyncio.wait([socket._keeper])
    assert "WSServerHandshakeError (418)" in socket.obstacle
    return session, clock


async def test_a_refused_connection_is_asked_for_less_and_less_often() -> None:
    """Binance counts attempts, 300 in five minutes: the pauses grow, and differ by chance."""
    session, clock = await _refused()
    longest = [min(0.5 * 2**n, 20.0) for n in range(len(clock.waits))]
    for wait, most in zip(clock.waits, longest, strict=True):
        assert most / 2 <= wait <= most
    assert session.attempts < 40
    assert len(set(clock.waits)) == len(clock.waits)


async def test_an_exchange_that_names_a_time_is_left_alone_until_then() -> None:
    """``Retry-After`` of a refused handshake: a ban grows with every attempt under it."""
    _, clock = await _refused(**{"Retry-After": "120"})
    assert clock.waits == [120.0] * 3


async def test_closing_tells_orders_in_flight_that_their_outcome_is_open() -> None:
    """Not a cancellation, which would look like the caller's own."""
    async with trading(config=WEBSOCKET) as (adapter, server):
        server.simulator.add_fault(action="no_reply_after", **CREATE)
        placing = asyncio.ensure_future(failure(adapter, an_order()))
        await server.until(lambda sim: len(sim.orders()) == 1)
        await adapter.close()
        error = await placing
        assert (error.outcome, error.code) == (Outcome.UNKNOWN, "SocketLostError")
        names = [task.get_name() for task in asyncio.all_tasks()]
        assert not any(name.startswith("order-socket") for name in names)


@pytest.mark.usefixtures("quickly")
async def test_closing_lets_no_order_wait_for_a_connection() -> None:
    """It is told at once, not when its window ends."""
    async with connecting() as adapter:
        placing = asyncio.ensure_future(failure(adapter, an_order()))
        await asyncio.sleep(0)
        async with asyncio.timeout(10):
            await adapter.close()
            error = await placing
        assert (error.outcome, error.code) == (Outcome.NOT_SENT, "not_connected")


# ---- who has one -----------------------------------------------------------------------------


async def test_without_credentials_there_is_no_socket_and_no_order() -> None:
    """An adapter for public data only connects nowhere else."""
    async with serve(Settings(api_key=KEY, secret=SECRET)) as server:
        adapter = an_adapter(server.url, api_key=Secret(), secret=Secret(), **WEBSOCKET)
        await adapter.start()
        assert server.sockets == set()
        error = await failure(adapter, an_order())
        assert isinstance(error, CredentialsError)
        assert error.outcome is Outcome.REFUSED
        await adapter.close()


async def test_in_paper_mode_no_socket_is_opened() -> None:
    """The key is allowed and without effect, like the others of the connection to the exchange."""
    async with serve(Settings(api_key=KEY, secret=SECRET)) as server:
        section = ExchangeConfig(
            adapter="ccxt",
            api_key=Secret(KEY),
            secret=Secret(SECRET),
            base_url=server.url,
            ws_base_url=server.ws_url,
            order_transport="websocket",
        )
        factory = ExchangeFactory(
            Config(mode="paper", exchanges={"binance": section}), SystemClock()
        )
        adapter = factory.get("binance")
        await adapter.start()
        await adapter.place_order(a_limit(), adapter.open_window())
        assert isinstance(adapter, PaperExchange)
        lender = adapter._source
        assert isinstance(lender, BinanceCCXTAdapter)
        assert not lender._ccxt.has.get("createOrderWs")  # ccxt.pro is not even loaded
        assert server.sockets == set()
        assert server.simulator.orders() == []
        await factory.close()


@pytest.mark.parametrize(
    ("kinds", "hosts"),
    [
        ((MarketKind.SPOT,), {"ws-api.testnet.binance.vision"}),
        (
            (MarketKind.SPOT, MarketKind.LINEAR),
            {"demo-ws-api.binance.com", "testnet.binancefuture.com"},
        ),
    ],
)
async def test_the_sandbox_has_sockets_of_its_own(
    kinds: tuple[MarketKind, ...], hosts: set[str]
) -> None:
    """The hosts Binance documents for its testnet and for demo trading, never the real ones."""
    adapter = an_adapter("", sandbox=True, market_types=kinds, ws_base_url="", **WEBSOCKET)
    adapter._open()
    urls = [adapter._socket_url(kind) for kind in kinds]
    assert {url.split("/")[2] for url in urls} == hosts
    assert [url.split("/", 3)[3] for url in urls] == ["ws-api/v3", "ws-fapi/v1"][: len(kinds)]
    await adapter.close()


def test_only_a_worker_with_sockets_loads_ccxt_pro_and_only_one_exchange_of_it() -> None:
    """In a fresh process; and a later plain import finds the very same classes."""
    program = """
import sys
import worker.exchanges.binance
from worker.exchanges.ccxt_import import exchange_class
rest = exchange_class("binance")
assert not any(name.startswith("ccxt.pro") for name in sys.modules)
alone = exchange_class("binance", pro=True)
assert issubclass(alone, rest)
assert "ccxt.pro.bybit" not in sys.modules
assert "ccxt" not in sys.modules
for name in ("nowhere", "base", "../binance"):
    try:
        exchange_class(name, pro=True)
    except KeyError:
        continue
    raise AssertionError(name)
import ccxt.pro as whole
import ccxt.async_support
assert whole.binance is alone, "another class"
assert ccxt.async_support.binance is rest
assert issubclass(whole.bybit, whole.Exchange)
assert exchange_class("okx", pro=True) is whole.okx
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
