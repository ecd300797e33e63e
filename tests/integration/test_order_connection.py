"""The life of the connection that orders go over: made, found dead, made again, closed."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import BaseTestServer, TestServer
from multidict import CIMultiDict, CIMultiDictProxy
from structlog.testing import capture_logs
from yarl import URL

from tests.exchange_simulator import Settings, serve
from tests.integration.binance import (
    CONNECT,
    CREATE,
    KEY,
    SECRET,
    SOCKETS,
    SPOT,
    WEBSOCKET,
    a_limit,
    all_open,
    an_adapter,
    an_order,
    connections,
    failure,
    hang_up,
    trading,
)
from tests.unit.parts import ManualClock
from worker.assembly.factory import ExchangeFactory
from worker.config.keys import Config, ExchangeConfig, Secret
from worker.domain.market import MarketKind
from worker.domain.order import OrderReport, OrderState
from worker.exchanges.binance import adapter as binance
from worker.exchanges.binance import order_socket
from worker.exchanges.binance.adapter import BinanceCCXTAdapter
from worker.exchanges.binance.order_socket import OrderSocket
from worker.exchanges.ccxt.http_session import open_session
from worker.exchanges.errors import CredentialsError, ExchangeError, Outcome
from worker.exchanges.ports import SendWindow
from worker.paper.exchange import PaperExchange
from worker.runtime.clock import SystemClock


def spot_socket(adapter: BinanceCCXTAdapter) -> OrderSocket:
    """What spot orders go over."""
    (socket,) = (s for url, s in adapter._sockets.items() if url.endswith(SOCKETS[SPOT]))
    return socket


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
    unsent = 0
    async with trading(config=WEBSOCKET) as (adapter, server):
        for _ in range(3):
            await all_open(adapter)
            await hang_up(adapter, server)
            results = await asyncio.gather(
                *(adapter.place_order(an_order(), adapter.open_window()) for _ in range(3)),
                return_exceptions=True,
            )
            for result in results:
                if not isinstance(result, OrderReport):
                    assert isinstance(result, ExchangeError), repr(result)
                    assert result.outcome is Outcome.NOT_SENT
                    unsent += 1
        assert len(server.simulator.orders()) == 3 * 3 - unsent


def transport_of(adapter: BinanceCCXTAdapter) -> asyncio.Transport:
    """What spot orders are written to."""
    socket = spot_socket(adapter)
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
    """However long the order waited: under a window that is over it is not sent at all."""
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
            said = f"there is no connection to {path}: WSServerHandshakeError (404)"
            async with asyncio.timeout(5):
                # Each time it tries again it is "still connecting".
                while said not in adapter.obstacle:  # noqa: ASYNC110 (an obstacle has no event)
                    await asyncio.sleep(0)
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
    monkeypatch.setattr(order_socket, "HEARTBEAT_S", 0.2)
    async with serve(Settings(api_key=KEY, secret=SECRET)) as server:
        server.answers_pings = False
        adapter = an_adapter(server.url, **WEBSOCKET)
        with capture_logs() as lines:
            await adapter.start()
            await server.until(lambda _: connections(server) > 1)
        await adapter.close()
    reasons = [line["reason"] for line in lines if line["event"] == "order_socket_lost"]
    assert reasons
    assert all("No PONG received" in reason for reason in reasons)


async def test_a_connection_whose_pings_are_answered_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next ping goes out, long after the last one's answer was due: nothing was replaced."""
    answered = {path: asyncio.Semaphore(0) for path in SOCKETS.values()}

    class Answering(web.WebSocketResponse):
        async def pong(self, message: bytes = b"") -> None:
            await super().pong(message)
            assert self._req is not None
            answered[self._req.path].release()

    monkeypatch.setattr(order_socket, "HEARTBEAT_S", 0.4)
    monkeypatch.setattr(web, "WebSocketResponse", Answering)
    async with trading(config=WEBSOCKET) as (adapter, server):
        with capture_logs() as lines:
            async with asyncio.timeout(10):
                for _ in range(2):
                    for path in SOCKETS.values():
                        await answered[path].acquire()
            assert adapter.obstacle == ""
        assert [line["event"] for line in lines] == []
        assert [connections(server, path) for path in SOCKETS.values()] == [1, 1]


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
async def test_closing_lets_no_order_wait_for_a_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is told at once, not when its window ends or it has waited for long enough."""
    monkeypatch.setattr(binance, "LONGEST_REACH_MS", 60_000.0)
    async with connecting() as adapter:
        placing = asyncio.ensure_future(failure(adapter, an_order()))
        await asyncio.sleep(0)
        assert not placing.done()
        async with asyncio.timeout(10):
            await adapter.close()
            error = await placing
        assert (error.outcome, error.code) == (Outcome.NOT_SENT, "not_connected")
        assert "there is no connection to /ws-api/v3: closed" in str(error)


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
