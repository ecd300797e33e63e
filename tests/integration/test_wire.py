"""The scripts' own connection: replies find their calls, and no call waits for ever."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import pytest
import uvloop
from redis.exceptions import NoScriptError, ResponseError

from worker.config.keys import RedisConfig, Secret
from worker.config.redis_url import Address
from worker.ledger.connection import Connections, Purpose
from worker.ledger.limits import MAX_REPLY_BYTES
from worker.ledger.wire import Argument, ReplyTooLargeError, Wire, connect
from worker.runtime.embedded_server import EmbeddedServer

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def dial(port: int, *setup: tuple[Argument, ...], timeout_s: float = 5.0) -> Wire:
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
        async with asyncio.timeout(3):
            for call in calls:
                with pytest.raises(TimeoutError, match="no reply in time"):
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
    """``max number of clients reached`` comes without a call, and is the end on this side too."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"-ERR max number of clients reached\r\n")
        await silent(reader, writer)

    async with serving(serve) as port:
        wire = await dial(port)
        async with asyncio.timeout(5):
            while wire.is_open:  # noqa: ASYNC110 (a wire has no event for its end)
                await asyncio.sleep(0)
        with pytest.raises(ConnectionError):
            await wire.call("PING")


async def test_a_call_that_crosses_such_an_error_is_told_what_it_says() -> None:
    """Nobody can tell it from a reply, and whoever has to wait for a free place learns why."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"-ERR max number of clients reached\r\n")
        await writer.drain()
        writer.close()

    async with serving(serve) as port:
        with pytest.raises(ResponseError, match="max number of clients"):
            await (await dial(port)).call("PING")


async def test_a_reply_without_end_is_not_read_to_its_end() -> None:
    """Nor kept: the bound is on what has come, whatever the reply says of its length."""
    sent = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.read(1)
        writer.write(b"$2000000000\r\n")
        with suppress(ConnectionError):
            while True:
                writer.write(b"x" * 2**20)
                await writer.drain()
                sent += 2**20

    async with serving(serve) as port:
        wire = await dial(port)
        with pytest.raises(ReplyTooLargeError, match=str(MAX_REPLY_BYTES)):
            await wire.call("PING")
        assert not wire.is_open
    assert MAX_REPLY_BYTES <= sent + 2**20 <= 2 * MAX_REPLY_BYTES


async def test_many_large_replies_are_read() -> None:
    """Each counts for itself."""
    half = MAX_REPLY_BYTES // 2

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        for _ in range(3):
            writer.write(b"$%d\r\n%b\r\n" % (half, b"x" * half))
            await writer.drain()

    async with serving(serve) as port:
        wire = await dial(port)
        replies = await asyncio.gather(*(wire.call("PING") for _ in range(3)))
        assert [len(reply) for reply in replies] == [half] * 3


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


async def test_what_cannot_be_packed_shifts_no_reply(server: EmbeddedServer) -> None:
    """The next call gets its own reply, not the one of a call that never was."""
    wire = await dial(server.port)
    with pytest.raises(UnicodeEncodeError):
        wire.call("SET", "k", "\ud800")
    assert [await wire.call("ECHO", word) for word in ("one", "two")] == [b"one", b"two"]
    wire.close()


async def test_a_call_behind_slow_ones_is_not_late() -> None:
    """Its time runs from the reply before it."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.readuntil(b"PING\r\n"):
            await asyncio.sleep(0.06)
            writer.write(b"+PONG\r\n")

    async with serving(serve) as port:
        wire = await dial(port, timeout_s=0.1)
        calls = [wire.call("PING") for _ in range(5)]
        assert [await call for call in calls] == [b"PONG"] * 5
        wire.close()


async def test_a_wire_to_a_primary_that_was_dropped_is_not_kept(server: EmbeddedServer) -> None:
    """The primary was looked for anew while it was opened: it may be another one now."""
    connections = Connections(RedisConfig(url=Secret(server.url)), key="{main}:x", name="w")
    located = connections._locate
    dials = 0

    async def locate() -> Address:
        nonlocal dials
        dials += 1
        address = await located()
        if dials == 1:
            connections._primary = None  # as an invalidation meanwhile leaves it
        return address

    connections._locate = locate  # type: ignore[method-assign]
    wire = await connections.open(Purpose.SCRIPTS)
    assert (dials, await wire.call("PING")) == (2, b"PONG")
    await connections.close()


async def test_a_wire_that_cannot_be_opened_leaves_the_others(server: EmbeddedServer) -> None:
    """They may be in the middle of a call."""
    connections = Connections(RedisConfig(url=Secret(server.url)), key="{main}:x", name="w")
    wire = await connections.open(Purpose.SCRIPTS)
    await connections.invalidate(None)
    assert await wire.call("PING") == b"PONG"
    await connections.invalidate(wire)
    assert not wire.is_open
    await connections.close()


async def test_only_what_was_lost_is_made_anew() -> None:
    """Neither a first connection counts as a reconnection, nor an attempt that fails."""
    anew: list[str] = []
    with EmbeddedServer() as server:
        connections = Connections(
            RedisConfig(url=Secret(server.url)),
            key="{main}:x",
            name="w",
            on_reconnect=lambda: anew.append("one"),
        )
        wire = await connections.open(Purpose.SCRIPTS)
        assert await connections.open(Purpose.SCRIPTS) is wire
        await connections.open(Purpose.DOORBELL)
        assert anew == []
        server.kill()
        with pytest.raises(ConnectionError):
            await wire.call("PING")
        await connections.invalidate(wire)
        for _ in range(3):
            with pytest.raises(ConnectionError):
                await connections.open(Purpose.SCRIPTS)
            await connections.invalidate(None)
        assert anew == []
        server.start()
        await connections.open(Purpose.SCRIPTS)
        await connections.open(Purpose.DOORBELL)
        await connections.open(Purpose.REPLICATED)  # there was none before
        assert len(anew) == 2
        await connections.close()


async def test_a_user_without_a_password_signs_in(server: EmbeddedServer) -> None:
    """``nopass`` users exist; the wire must not fall back to the default user."""
    wire = await dial(server.port)
    await wire.call("ACL", "SETUSER", "bob", "on", "nopass", "~*", "+@all")
    url = f"redis://bob@127.0.0.1:{server.port}/0"
    connections = Connections(RedisConfig(url=Secret(url)), key="{main}:x", name="w")
    as_bob = await connections.open(Purpose.SCRIPTS)
    assert await as_bob.call("ACL", "WHOAMI") == b"bob"
    await connections.close()
    await wire.call("ACL", "DELUSER", "bob")
    wire.close()
