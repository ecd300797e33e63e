"""A TCP proxy that misbehaves on command: cut, refuse, delay, lose replies, stall, chaos.

In a test's own loop: ``async with TcpProxy("127.0.0.1", 6379) as proxy: … await proxy.cut()``.
Beside a synchronous test: ``ProxyThread``. As a program: ``python -m tests.tcp_proxy --listen 0
--target 127.0.0.1:6379`` with one JSON command a line on standard input.
"""

import argparse
import asyncio
import contextlib
import json
import random
import socket
import struct
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Any, Literal, Self

Direction = Literal["to_server", "to_client"]

_CHUNK_BYTES = 65_536
_QUEUED_CHUNKS = 256
_WAIT_LIMIT_S = 30.0
_LINGER_NOT = struct.pack("ii", 1, 0)  # makes close() send a reset


@dataclass(slots=True)
class Stats:
    """What went through, since the start."""

    connections: int = 0
    open_connections: int = 0
    chunks_to_server: int = 0
    chunks_to_client: int = 0
    swallowed_chunks: int = 0
    cut_connections: int = 0


@dataclass(frozen=True, slots=True)
class Chaos:
    """Chances per chunk of misfortune, and the range of extra delay in ms."""

    cut: float = 0.0
    lose_reply: float = 0.0
    max_delay_ms: float = 0.0


@dataclass(slots=True)
class _Swallow:
    """Replies to lose: how many chunks still, and only after which request bytes."""

    chunks: int | None
    request_contains: bytes


class _Link:
    """One proxied connection."""

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self.client = client
        self.server = server
        self.lost_bytes = False
        self.matched = False
        self.dropped = asyncio.Event()

    def close(self, *, reset: bool) -> None:
        for writer in (self.client, self.server):
            if reset:
                _reset(writer)
            else:
                writer.close()


class TcpProxy:
    """Forwards connections to a target, and spoils them as told.

    Args:
        target_host: where to forward.
        target_port: where to forward.
        listen_port: 0 picks a free one; ``port`` tells which.
        listen_host: address to listen on.
    """

    def __init__(
        self,
        target_host: str,
        target_port: int,
        *,
        listen_port: int = 0,
        listen_host: str = "127.0.0.1",
    ) -> None:
        self.target = (target_host, target_port)
        self.host = listen_host
        self.port = listen_port
        self.stats = Stats()
        self._links: set[_Link] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._listener: asyncio.Server | None = None
        self._delay_ms: dict[Direction, float] = {"to_server": 0.0, "to_client": 0.0}
        self._swallow: _Swallow | None = None
        self._chaos: Chaos | None = None
        self._rng = random.Random(0)
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._changed = asyncio.Condition()

    async def __aenter__(self) -> Self:
        await self.accept()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.refuse()
        await self.cut()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # ---- commands ---------------------------------------------------------------------------

    async def accept(self) -> None:
        """Listen (again) for new connections, on the same port as before."""
        if self._listener is None:
            self._listener = await asyncio.start_server(
                self._connected, self.host, self.port, reuse_address=True
            )
            self.port = self._listener.sockets[0].getsockname()[1]

    async def refuse(self) -> None:
        """Refuse new connections at the TCP level; established ones go on."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    async def cut(self, *, reset: bool = True) -> int:
        """Close every connection, by reset or orderly; returns how many there were."""
        links = list(self._links)
        for link in links:
            self._drop(link, reset=reset)
        return len(links)

    async def delay(self, *, to_server_ms: float = 0.0, to_client_ms: float = 0.0) -> None:
        """Delay each direction; bytes keep their order and delays do not add up."""
        self._delay_ms = {"to_server": to_server_ms, "to_client": to_client_ms}

    async def swallow(self, *, chunks: int | None = 1, request_contains: str = "") -> None:
        """Lose the next replies, then cut the connections they belonged to.

        Args:
            chunks: how many server→client chunks to lose; None until ``pass_through``.
            request_contains: lose only replies on a connection that has, since this command,
                sent these bytes to the server.
        """
        self._swallow = _Swallow(chunks, request_contains.encode())
        for link in self._links:
            link.matched = False

    async def stall(self) -> None:
        """Forward nothing in either direction until ``pass_through``; connections stay open."""
        self._flowing.clear()

    async def chaos(
        self,
        *,
        seed: int,
        cut: float = 0.0,
        lose_reply: float = 0.0,
        max_delay_ms: float = 0.0,
    ) -> None:
        """Treat each chunk at random: cut its connection, lose it (a reply) and cut, delay it."""
        self._rng = random.Random(seed)
        self._chaos = Chaos(cut, lose_reply, max_delay_ms)

    async def pass_through(self) -> None:
        """End every misbehaviour but a refusal; cut connections that have lost bytes."""
        self._swallow = None
        self._chaos = None
        self._delay_ms = {"to_server": 0.0, "to_client": 0.0}
        self._flowing.set()
        for link in [link for link in self._links if link.lost_bytes]:
            self._drop(link, reset=True)

    async def status(self) -> dict[str, Any]:
        """Return counters and settings."""
        return {
            **asdict(self.stats),
            "port": self.port,
            "listening": self._listener is not None,
            "stalled": not self._flowing.is_set(),
            "swallowing": self._swallow is not None,
        }

    async def until(self, condition: Callable[[Stats], bool]) -> None:
        """Wait until the counters satisfy ``condition``; TimeoutError after half a minute."""
        async with asyncio.timeout(_WAIT_LIMIT_S), self._changed:
            await self._changed.wait_for(lambda: condition(self.stats))

    async def command(self, name: str, **arguments: Any) -> dict[str, Any]:
        """Run a command by name, as a line of JSON does; returns the status afterwards."""
        known: dict[str, Callable[..., Any]] = {
            "accept": self.accept,
            "refuse": self.refuse,
            "cut": self.cut,
            "delay": self.delay,
            "swallow": self.swallow,
            "stall": self.stall,
            "chaos": self.chaos,
            "pass": self.pass_through,
            "status": self.status,
        }
        if name not in known:
            raise ValueError(f"unknown command {name!r}; one of {sorted(known)}")
        await known[name](**arguments)
        return await self.status()

    # ---- forwarding -------------------------------------------------------------------------

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        try:
            server_reader, server_writer = await asyncio.open_connection(*self.target)
        except OSError:
            _reset(writer)
            return
        link = _Link(writer, server_writer)
        self._links.add(link)
        self.stats.connections += 1
        self.stats.open_connections += 1
        await self._notify()
        pumps: set[asyncio.Task[Any]] = {
            asyncio.create_task(self._pump(link, reader, server_writer, "to_server")),
            asyncio.create_task(self._pump(link, server_reader, writer, "to_client")),
        }
        ends = pumps | {asyncio.create_task(link.dropped.wait())}
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for end in ends:
                end.cancel()
            await asyncio.gather(*ends, return_exceptions=True)
            link.close(reset=False)
            self._links.discard(link)
            self.stats.open_connections -= 1
            await self._notify()

    async def _pump(
        self,
        link: _Link,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        direction: Direction,
    ) -> None:
        loop = asyncio.get_running_loop()
        queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_QUEUED_CHUNKS)
        sender = asyncio.create_task(self._send(queue, writer))
        due = 0.0
        try:
            while data := await reader.read(_CHUNK_BYTES):
                kept = self._judge(link, direction, data)
                await self._notify()
                if kept:
                    due = max(due, loop.time() + self._extra_ms(direction) / 1000)
                    await queue.put((due, data))
            await queue.put((0.0, b""))  # the end follows what is still on its way
            await sender
        except OSError:
            return  # the peer is gone, the link closes
        finally:
            sender.cancel()
            await asyncio.gather(sender, return_exceptions=True)

    async def _send(
        self, queue: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter
    ) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due, data = await queue.get()
            if not data:
                return
            if due > loop.time():
                await asyncio.sleep(due - loop.time())
            await self._flowing.wait()
            writer.write(data)
            with contextlib.suppress(OSError):
                await writer.drain()

    def _judge(self, link: _Link, direction: Direction, data: bytes) -> bool:
        """Count a chunk and decide whether it is forwarded."""
        if direction == "to_server":
            self.stats.chunks_to_server += 1
            wanted = self._swallow.request_contains if self._swallow else b""
            if wanted and wanted in data:
                link.matched = True
        else:
            self.stats.chunks_to_client += 1
            if self._swallows(link):
                return False
        return not (self._chaos is not None and self._misfortune(self._chaos, link, direction))

    def _swallows(self, link: _Link) -> bool:
        armed = self._swallow
        if armed is None or (armed.request_contains and not link.matched):
            return False
        self.stats.swallowed_chunks += 1
        link.lost_bytes = True
        if armed.chunks is not None:
            armed.chunks -= 1
            if armed.chunks <= 0:
                self._swallow = None
                for hurt in [other for other in self._links if other.lost_bytes]:
                    self._drop(hurt, reset=True)
        return True

    def _misfortune(self, chaos: Chaos, link: _Link, direction: Direction) -> bool:
        lot = self._rng.random()
        if lot < chaos.cut:
            self._drop(link, reset=True)
            return True
        if direction == "to_client" and lot < chaos.cut + chaos.lose_reply:
            self.stats.swallowed_chunks += 1
            self._drop(link, reset=True)
            return True
        return False

    def _extra_ms(self, direction: Direction) -> float:
        extra = self._delay_ms[direction]
        if self._chaos is not None and self._chaos.max_delay_ms:
            extra += self._rng.uniform(0, self._chaos.max_delay_ms)
        return extra

    def _drop(self, link: _Link, *, reset: bool) -> None:
        if link in self._links:
            self._links.discard(link)
            self.stats.cut_connections += 1
            link.close(reset=reset)
            link.dropped.set()

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close a connection so that its peer sees a reset."""
    plain: socket.socket | None = writer.get_extra_info("socket")
    if plain is not None and not writer.is_closing():
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
    writer.transport.abort()


class ProxyThread:
    """A proxy on its own event loop in its own thread, for synchronous tests.

    ``with ProxyThread("127.0.0.1", 6379) as proxy: proxy.command("swallow", chunks=1)``
    """

    def __init__(self, target_host: str, target_port: int, *, listen_port: int = 0) -> None:
        self._target = (target_host, target_port)
        self._listen_port = listen_port
        self._ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._proxy: TcpProxy | None = None
        self._thread = threading.Thread(target=self._run, name="tcp-proxy", daemon=True)

    @property
    def port(self) -> int:
        """The port it listens on."""
        return self._running()[1].port

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._ready.wait(_WAIT_LIMIT_S):
            raise RuntimeError("the proxy thread did not start")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._loop is not None and self._stop is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(_WAIT_LIMIT_S)

    def command(self, name: str, **arguments: Any) -> dict[str, Any]:
        """Run a command (see ``TcpProxy.command``); returns the status afterwards."""
        loop, proxy = self._running()
        done = asyncio.run_coroutine_threadsafe(proxy.command(name, **arguments), loop)
        return done.result(_WAIT_LIMIT_S)

    def until(self, condition: Callable[[Stats], bool]) -> None:
        """Wait until the counters satisfy ``condition``."""
        loop, proxy = self._running()
        asyncio.run_coroutine_threadsafe(proxy.until(condition), loop).result(_WAIT_LIMIT_S)

    def _running(self) -> tuple[asyncio.AbstractEventLoop, TcpProxy]:
        if self._loop is None or self._proxy is None:
            raise RuntimeError("the proxy is not running")
        return self._loop, self._proxy

    def _run(self) -> None:
        asyncio.run(self._main())

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        async with TcpProxy(*self._target, listen_port=self._listen_port) as proxy:
            self._proxy = proxy
            self._ready.set()
            await self._stop.wait()


async def _serve_commands(proxy: TcpProxy) -> None:
    """Obey JSON lines from standard input until it ends or says quit."""
    loop = asyncio.get_running_loop()
    lines = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    _print({"ready": True, "port": proxy.port})
    while line := await lines.readline():
        try:
            arguments = json.loads(line)
            name = arguments.pop("cmd")
            if name == "quit":
                return
            _print({"ok": True, **await proxy.command(name, **arguments)})
        except (ValueError, TypeError, KeyError, AttributeError) as wrong:
            _print({"ok": False, "error": f"{type(wrong).__name__}: {wrong}"})


def _print(value: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


async def _main(arguments: argparse.Namespace) -> None:
    host, _, port = arguments.target.rpartition(":")
    async with TcpProxy(host, int(port), listen_port=arguments.listen) as proxy:
        await _serve_commands(proxy)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="tests.tcp_proxy", description=__doc__)
    parser.add_argument("--listen", type=int, default=0, help="0 picks a free port")
    parser.add_argument("--target", required=True, help="HOST:PORT")
    asyncio.run(_main(parser.parse_args()))
