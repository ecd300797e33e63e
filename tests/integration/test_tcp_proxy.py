"""The proxy between worker and Redis does to a connection exactly what it was told."""

import asyncio
import json
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.tcp_proxy import ProxyThread, TcpProxy

_ROOT = Path(__file__).resolve().parents[2]


class EchoServer:
    """Answers each line with ``re:`` and the line, and remembers what it received."""

    def __init__(self) -> None:
        self.received: list[bytes] = []
        self.port = 0

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            self.received.append(line)
            writer.write(b"re:" + line)
        writer.close()


@pytest.fixture
async def echo() -> AsyncIterator[EchoServer]:
    server = EchoServer()
    listener = await asyncio.start_server(server.handle, "127.0.0.1", 0)
    server.port = listener.sockets[0].getsockname()[1]
    yield server
    listener.close()


@pytest.fixture
async def proxy(echo: EchoServer) -> AsyncIterator[TcpProxy]:
    async with TcpProxy("127.0.0.1", echo.port) as running:
        yield running


class Client:
    """A line client with a short patience."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def connect(cls, proxy: TcpProxy) -> "Client":
        return cls(*await asyncio.open_connection("127.0.0.1", proxy.port))

    def send(self, line: bytes) -> None:
        self._writer.write(line + b"\n")

    async def reply(self, patience_s: float = 5.0) -> bytes:
        async with asyncio.timeout(patience_s):
            return (await self._reader.readline()).strip()

    async def ask(self, line: bytes) -> bytes:
        self.send(line)
        return await self.reply()

    def close(self) -> None:
        self._writer.close()


async def test_passes_both_ways_by_default(proxy: TcpProxy) -> None:
    """Without a command the proxy is transparent."""
    client = await Client.connect(proxy)
    assert await client.ask(b"one") == b"re:one"
    assert await client.ask(b"two") == b"re:two"
    client.close()
    await proxy.until(lambda stats: stats.open_connections == 0)
    assert proxy.stats.connections == 1


async def test_cut_closes_what_is_open_and_takes_new_connections(proxy: TcpProxy) -> None:
    """A cut ends established connections; the next connection works."""
    client = await Client.connect(proxy)
    await client.ask(b"one")
    assert await proxy.cut() == 1
    with pytest.raises(ConnectionResetError):
        await client.reply()
    again = await Client.connect(proxy)
    assert await again.ask(b"two") == b"re:two"
    again.close()


async def test_orderly_cut_is_an_end_of_stream(proxy: TcpProxy) -> None:
    """Without reset the client reads an end of stream, not an error."""
    client = await Client.connect(proxy)
    await client.ask(b"one")
    await proxy.cut(reset=False)
    assert await client.reply() == b""


async def test_refuse_is_a_tcp_refusal_and_ends_with_accept(proxy: TcpProxy) -> None:
    """A refusing proxy gives ECONNREFUSED on the same port it accepts on again later."""
    client = await Client.connect(proxy)
    await client.ask(b"one")
    await proxy.refuse()
    with pytest.raises(ConnectionRefusedError):
        await Client.connect(proxy)
    assert await client.ask(b"still there") == b"re:still there"
    await proxy.accept()
    again = await Client.connect(proxy)
    assert await again.ask(b"two") == b"re:two"
    client.close()
    again.close()


async def test_swallowed_reply_means_the_server_acted(proxy: TcpProxy, echo: EchoServer) -> None:
    """A lost reply: the request took effect, the client saw its connection die."""
    client = await Client.connect(proxy)
    await client.ask(b"one")
    await proxy.swallow(chunks=1)
    client.send(b"act")
    with pytest.raises(ConnectionResetError):
        await client.reply()
    assert echo.received == [b"one\n", b"act\n"]
    assert proxy.stats.swallowed_chunks == 1
    again = await Client.connect(proxy)
    assert await again.ask(b"two") == b"re:two"
    again.close()


async def test_swallow_waits_for_the_request_it_is_for(proxy: TcpProxy) -> None:
    """With a pattern, only the reply to a request that contains it is lost."""
    client = await Client.connect(proxy)
    await proxy.swallow(chunks=1, request_contains="EVALSHA")
    assert await client.ask(b"PING") == b"re:PING"
    client.send(b"EVALSHA x")
    with pytest.raises(ConnectionResetError):
        await client.reply()


async def test_swallow_until_told(proxy: TcpProxy, echo: EchoServer) -> None:
    """An open-ended swallow loses every reply until pass_through, which cuts the hurt link."""
    client = await Client.connect(proxy)
    await proxy.swallow(chunks=None)
    client.send(b"one")
    await proxy.until(lambda stats: stats.swallowed_chunks == 1)
    client.send(b"two")
    await proxy.until(lambda stats: stats.swallowed_chunks == 2)
    assert echo.received == [b"one\n", b"two\n"]
    await proxy.pass_through()
    with pytest.raises(ConnectionResetError):
        await client.reply()


async def test_stall_holds_bytes_until_pass_through(proxy: TcpProxy, echo: EchoServer) -> None:
    """A stalled proxy forwards nothing, keeps the connection, and delivers on release."""
    client = await Client.connect(proxy)
    await client.ask(b"one")
    await proxy.stall()
    client.send(b"held")
    await proxy.until(lambda stats: stats.chunks_to_server == 2)
    with pytest.raises(TimeoutError):
        await client.reply(0.05)
    assert echo.received == [b"one\n"]
    await proxy.pass_through()
    assert await client.reply() == b"re:held"
    client.close()


@pytest.mark.parametrize("direction", ["to_server_ms", "to_client_ms"])
async def test_delay_applies_to_its_direction_and_does_not_add_up(
    proxy: TcpProxy, direction: str
) -> None:
    """A delay is latency: three requests in flight together wait once, not three times."""
    client = await Client.connect(proxy)
    await client.ask(b"warm")
    await proxy.delay(**{direction: 300})
    loop = asyncio.get_running_loop()
    began = loop.time()
    for number in (b"1", b"2", b"3"):
        client.send(number)
        await proxy.until(
            lambda stats, wanted=1 + int(number): stats.chunks_to_server >= wanted  # type: ignore[misc]
        )
    assert [await client.reply() for _ in range(3)] == [b"re:1", b"re:2", b"re:3"]
    assert 0.29 <= loop.time() - began < 0.85
    client.close()


async def _survivors(port: int, seed: int) -> list[bool]:
    async with TcpProxy("127.0.0.1", port) as proxy:
        await proxy.chaos(seed=seed, cut=0.1, lose_reply=0.2)
        outcomes = []
        for _ in range(40):
            client = await Client.connect(proxy)
            try:
                outcomes.append(await client.ask(b"x") == b"re:x")
            except ConnectionError:
                outcomes.append(False)
            client.close()
        return outcomes


async def test_chaos_repeats_with_its_seed(echo: EchoServer) -> None:
    """The same seed and the same traffic meet the same misfortunes; another seed, others."""
    first = await _survivors(echo.port, 7)
    assert True in first
    assert False in first
    assert await _survivors(echo.port, 7) == first
    assert await _survivors(echo.port, 8) != first


async def test_dead_target_looks_like_a_reset() -> None:
    """When the target refuses, the client's connection is reset rather than left hanging."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    async with TcpProxy("127.0.0.1", port) as proxy:
        client = await Client.connect(proxy)
        client.send(b"hello")
        with pytest.raises(ConnectionResetError):
            await client.reply()


async def test_thread_helper_serves_a_synchronous_test(echo: EchoServer) -> None:
    """ProxyThread obeys commands from outside its loop."""

    def drive() -> tuple[bytes, bytes, int]:
        with ProxyThread("127.0.0.1", echo.port) as proxy:
            with socket.create_connection(("127.0.0.1", proxy.port), timeout=5) as plain:
                plain.sendall(b"one\n")
                before = plain.recv(100)
                proxy.command("cut", reset=False)
                after = plain.recv(100)
            return before, after, int(proxy.command("status")["cut_connections"])

    assert await asyncio.to_thread(drive) == (b"re:one\n", b"", 1)


async def test_command_line_obeys_json_lines(echo: EchoServer) -> None:
    """The program prints its port, answers each command, reports nonsense, quits when told."""

    def drive() -> list[dict[str, object]]:
        program = [sys.executable, "-m", "tests.tcp_proxy", "--target", f"127.0.0.1:{echo.port}"]
        with subprocess.Popen(
            program, cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            answers = [json.loads(process.stdout.readline())]
            for command in ('{"cmd": "refuse"}', '{"cmd": "dance"}', "nonsense"):
                process.stdin.write(command + "\n")
                process.stdin.flush()
                answers.append(json.loads(process.stdout.readline()))
            process.stdin.write('{"cmd": "quit"}\n')
            process.stdin.flush()
            assert process.wait(10) == 0
            return answers

    ready, refused, unknown, nonsense = await asyncio.to_thread(drive)
    assert ready["ready"] is True
    assert refused["listening"] is False
    assert (unknown["ok"], nonsense["ok"]) == (False, False)
