"""Frames of the order socket that are too much, too deep, or answer nobody; over a real socket."""

import asyncio
import json

import pytest

from tests.integration.binance import (
    CREATE,
    SOCKETS,
    SPOT,
    WEBSOCKET,
    all_open,
    an_order,
    connections,
    failure,
    trading,
)
from worker.domain.order import OrderState
from worker.exchanges.binance.order_socket import MOST_STRAY
from worker.exchanges.ccxt.bounds import FRAME, MAX_DEPTH
from worker.exchanges.errors import Outcome

pytestmark = pytest.mark.usefixtures("quickly")

FRAMES: dict[str, str] = {
    "too long": json.dumps({"id": "x", "text": "x" * FRAME.most_bytes}),
    "too deep": '{"id": "x", "result": ' + "[" * 100_000 + "]" * 100_000 + "}",
    "a little too deep": '{"id": "x", "result": ' + "[" * MAX_DEPTH + "]" * MAX_DEPTH + "}",
    "too many values": '{"id": "x", "result": [' + "0," * FRAME.most_values + "0]}",
    "twice": '{"id": "1", "id": "2"}',
    "digits": '{"id": ' + "1" * 10_000 + "}",
    "NaN": '{"id": "x", "result": NaN}',
    "no JSON": "hello",
}


@pytest.mark.parametrize("name", sorted(FRAMES))
async def test_a_frame_over_the_bounds_ends_the_connection(name: str) -> None:
    """Orders in flight are of unknown outcome at once; the next goes over a new connection."""
    async with trading(config=WEBSOCKET | {"timeout_ms": 60_000}) as (adapter, server):
        server.simulator.add_fault(count=1, action="no_reply_after", **CREATE)
        placing = asyncio.ensure_future(failure(adapter, an_order()))
        await server.until(lambda sim: len(sim.orders()) == 1)
        (socket,) = (one for one in server.sockets if one.path == SOCKETS[SPOT])
        await socket.send(FRAMES[name])
        async with asyncio.timeout(10):
            error = await placing
        assert (error.outcome, error.code) == (Outcome.UNKNOWN, "SocketLostError")
        await all_open(adapter)
        report = await adapter.place_order(an_order(), adapter.open_window())
        assert report.state is OrderState.FILLED
        assert connections(server) == 2


@pytest.mark.parametrize("kind", ["text", "ping", "pong", "fragment"])
async def test_a_flood_of_frames_that_answer_nothing_ends_the_connection(kind: str) -> None:
    """Pings are answered, a few stray frames passed over; thousands a minute are no exchange's."""
    async with trading(config=WEBSOCKET) as (adapter, server):
        (socket,) = (one for one in server.sockets if one.path == SOCKETS[SPOT])
        for number in range(20):
            await socket.ws.ping(b"hello")
            await socket.send(json.dumps({"id": f"nobody-{number}", "status": 200, "result": {}}))
        report = await adapter.place_order(an_order(), adapter.open_window())
        assert report.state is OrderState.FILLED
        assert connections(server) == 1
        transport = socket._request.transport
        assert transport is not None
        sent = 0
        while not transport.is_closing() and sent < 100 * MOST_STRAY:
            sent += 1
            if kind == "text":
                await socket.send('{"id": "nobody"}')
            elif kind == "fragment":
                transport.write(b"\x01\x7e\x40\x00" if sent == 1 else b"\x00\x7e\x40\x00")
                transport.write(b"x" * 0x4000)
            else:
                transport.write({"ping": b"\x89\x00", "pong": b"\x8a\x00"}[kind])
            if sent % 50 == 0:
                await asyncio.sleep(0.001)
        assert sent < 100 * MOST_STRAY
        await all_open(adapter)
        report = await adapter.place_order(an_order(), adapter.open_window())
        assert report.state is OrderState.FILLED
        assert connections(server) == 2


async def test_a_frame_that_says_it_is_packed_is_refused() -> None:
    """Compression is not offered, so no frame can unpack to more than it is."""
    async with trading(config=WEBSOCKET) as (adapter, server):
        (socket,) = (one for one in server.sockets if one.path == SOCKETS[SPOT])
        transport = socket._request.transport
        assert transport is not None
        transport.write(b"\xc1\x05\x00\x00\x00\x00\x00")  # the first reserved bit
        await server.until(lambda _: connections(server) == 2)
        await all_open(adapter)
        report = await adapter.place_order(an_order(), adapter.open_window())
        assert report.state is OrderState.FILLED
