"""The scripts' own connection: replies find their calls, and no call waits for ever."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import uvloop
from redis.exceptions import NoScriptError, ResponseError

from worker.ledger.embedded import EmbeddedServer
from worker.ledger.wire import Part, Wire, connect

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def dial(port: int, *setup: tuple[Part, ...], timeout_s: float = 5.0) -> Wire:
    return await connect(
        host="127.0.0.1", port=port, path="", timeout_s=timeout_s, tls=None, setup=setup
    )


@asynccontextmanager
async def serving(serve: Serve) -> AsyncIterator[int]:
    """A server of our own that says what a test wants; yields its port."""
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def silent(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    """Read for ever and say nothing."""
    while await reader.read(65_536):
        pass


async def test_every_call_gets_its_own_reply(server: EmbeddedServer) -> None:
    """Many under way at once, large and small, an error among them."""
    wire = await dial(server.port)
    calls = [wire.call("ECHO", "x" * (n * 997 % 50_000)) for n in range(200)]
    wrong = wire.call("HSET", "only-a-key")
    last = wire.call("ECHO", "last")
    assert [len(await call) for call in calls] == [n * 997 % 50_000 for n in range(200)]
    with pytest.raises(ResponseError, match="wrong number of arguments"):
        await wrong
    assert await last == b"last"
    wire.close()


def test_it_runs_on_the_workers_own_loop(server: EmbeddedServer) -> None:
    """Uvloop's transports are not asyncio's."""

    async def talk() -> bytes:
        wire = await dial(server.port, ("CLIENT", "SETNAME", "me"))
        name = await wire.call("CLIENT", "GETNAME")
        wire.close()
        return bytes(name)

    assert uvloop.run(talk()) == b"me"


async def test_a_missing_script_has_an_error_of_its_own(server: EmbeddedServer) -> None:
    """The caller sends the whole text then."""
    wire = await dial(server.port)
    with pytest.raises(NoScriptError):
        await wire.call("EVALSHA", "0" * 40, 0)
    wire.close()


async def test_a_cancelled_call_takes_its_reply_with_it(server: EmbeddedServer) -> None:
    """The next call must not get the reply of one that nobody waits for any more."""
    wire = await dial(server.port)
    first, second = wire.call("ECHO", "first"), wire.call("ECHO", "second")
    first.cancel()
    assert await second == b"second"
    wire.close()


async def test_silence_ends_every_call_in_time() -> None:
    """No reply within the time limit: the connection is given up, and says so."""
    async with serving(silent) as port:
        wire = await dial(port, timeout_s=0.05)
        calls = [wire.call("PING"), wire.call("PING")]
        for call in calls:
            with pytest.raises(TimeoutError):
                await call
        assert not wire.is_open
        with pytest.raises(ConnectionError):
            await wire.call("PING")


async def test_a_slow_reply_is_not_late_for_the_next_call() -> None:
    """The time limit is each call's own, from when it was made."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(4):
            await reader.readuntil(b"PING\r\n")
            await asyncio.sleep(0.06)
            writer.write(b"+PONG\r\n")

    async with serving(serve) as port:
        wire = await dial(port, timeout_s=0.1)
        assert [await wire.call("PING") for _ in range(4)] == [b"PONG"] * 4
        wire.close()


async def test_a_cut_fails_what_is_under_way() -> None:
    """Whether it ran is unknown; the caller is told at once."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.close()

    async with serving(serve) as port:
        wire = await dial(port)
        with pytest.raises(ConnectionError):
            await wire.call("PING")
        assert not wire.is_open


async def test_an_error_nobody_asked_for_is_the_connections_own() -> None:
    """``max number of clients reached`` comes without a call, and then the end."""

    async def serve(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"-ERR max number of clients reached\r\n")
        await writer.drain()
        writer.close()

    async with serving(serve) as port:
        with pytest.raises((ResponseError, ConnectionError)):
            await (await dial(port)).call("PING")


async def test_nonsense_ends_the_connection() -> None:
    """What is no Redis is not talked to."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with serving(serve) as port:
        wire = await dial(port)
        with pytest.raises(Exception, match="rotocol"):
            await wire.call("PING")
        assert not wire.is_open


async def test_a_refused_sign_in_opens_nothing(server: EmbeddedServer) -> None:
    """The setup's error is the caller's."""
    with pytest.raises(ResponseError, match=r"WRONGPASS|AUTH"):
        await dial(server.port, ("AUTH", "nobody", "wrong"))
