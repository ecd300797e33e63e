"""The network side: reads requests, lets faults spoil them, writes replies."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, TypeVar

from aiohttp import web

from tests.exchange_simulator import control
from tests.exchange_simulator.alterations import renamed
from tests.exchange_simulator.errors import Reply
from tests.exchange_simulator.faults import Rule
from tests.exchange_simulator.simulator import Pending, Settings, Simulator
from tests.exchange_simulator.sockets import PATHS, Socket

T = TypeVar("T")
_CLIENT_GONE_POLL_S = 0.02
_LINGER_NOT = struct.pack("ii", 1, 0)  # makes close() send a reset


class Server:
    """Serves one Simulator over HTTP and WebSocket; control endpoints under ``/_sim/``.

    Args:
        simulator: Binance, or another exchange's dialect.
        host: the address to listen on.
        port: 0 picks a free one.
    """

    def __init__(self, simulator: Simulator, host: str = "127.0.0.1", port: int = 0) -> None:
        self.simulator = simulator
        self.host = host
        self.port = port
        #: open WebSocket connections
        self.sockets: set[Socket] = set()
        self.answers_pings = True
        #: changes every reply that no rule spoils, if set
        self.alter: Callable[[Pending, bytes], bytes] | None = None
        self._runner: web.ServerRunner | None = None
        self._answered = asyncio.Condition()

    @property
    def url(self) -> str:
        """Where it listens, without a trailing slash."""
        return f"http://{self.host}:{self.port}"

    @property
    def ws_url(self) -> str:
        """The same for WebSocket connections."""
        return f"ws://{self.host}:{self.port}"

    async def start(self) -> None:
        """Listen; ``port`` is the real one afterwards."""
        server = web.Server(self._handle, access_log=None)
        self._runner = web.ServerRunner(server, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self.host, self.port, backlog=4096)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Stop listening and drop every connection."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def until(self, condition: Callable[[Simulator], bool], limit_s: float = 10.0) -> None:
        """Wait until ``condition`` holds after a request came in or was answered.

        Raises:
            TimeoutError: it did not in ``limit_s``.
        """
        async with asyncio.timeout(limit_s), self._answered:
            await self._answered.wait_for(lambda: condition(self.simulator))

    async def _record(self, pending: Pending, outcome: str) -> None:
        self.simulator.record(pending, outcome)
        await self._notify()

    async def _notify(self) -> None:
        async with self._answered:
            self._answered.notify_all()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        path, _, query = request.raw_path.partition("?")
        body = (await request.read()).decode() if request.can_read_body else ""
        if path.startswith("/_sim/"):
            return _response(control.answer(self.simulator, request.method, path, query, body))
        if path in PATHS:
            return await self._connect(request, path)
        pending = self.simulator.take(request.method, path, query, body, request.headers)
        await self._notify()
        return await self._serve(pending, _respond, partial(self._spoil, request))

    async def _serve(
        self,
        pending: Pending,
        respond: Callable[[Reply], Awaitable[T]],
        spoil: Callable[[Rule, Reply], Awaitable[T]],
    ) -> T:
        verdict, simulator = pending.verdict, self.simulator
        if verdict.delay_ms:
            await asyncio.sleep(verdict.delay_ms / 1000)
        action = verdict.action
        if action is not None and not action.applies_first:
            await self._record(pending, action.outcome)
            return await spoil(action, action.reply())
        reply = simulator.apply(pending)
        refused = pending.refused
        outcome = str(reply.status) if refused is None else f"{reply.status}:{refused.code}"
        await self._record(pending, action.outcome if action is not None else outcome)
        if verdict.delay_after_ms:
            await asyncio.sleep(verdict.delay_after_ms / 1000)
        if self.alter is not None:
            body = self.alter(pending, reply.body)
            reply = Reply(reply.status, body, reply.content_type, reply.headers)
        if action is not None:
            ending = action.reply() if action.action in {"http_status", "reject"} else reply
            return await spoil(action, ending)
        return await respond(reply)

    async def _connect(self, request: web.BaseRequest, path: str) -> web.StreamResponse:
        """A WebSocket connection, from the upgrade to its end."""
        pending = self.simulator.connect(request.method, path)
        if pending.verdict.delay_ms:
            await asyncio.sleep(pending.verdict.delay_ms / 1000)
        action = pending.verdict.action
        await self._record(pending, action.outcome if action is not None else "101")
        if action is not None:
            return await self._spoil(request, action, action.reply())

        async def serve(
            frame: dict[str, Any],
            answer: Callable[[Reply], Awaitable[None]],
            spoil: Callable[[Rule, Reply], Awaitable[None]],
        ) -> None:
            await self._serve(self.simulator.arrive_frame(path, frame), answer, spoil)

        connection = Socket(
            path,
            request,
            _hang_up,
            self.simulator.now_ms,
            answers_pings=self.answers_pings,
        )
        self.sockets.add(connection)
        try:
            return await connection.run(serve)
        finally:
            self.sockets.discard(connection)

    async def _spoil(
        self, request: web.BaseRequest, rule: Rule, reply: Reply
    ) -> web.StreamResponse:
        transport = request.transport
        match rule.action:
            case "http_status" | "reject":
                return _response(reply)
            case "alter":
                body = renamed(reply.body, rule.fields)
                return _response(Reply(reply.status, body, reply.content_type, reply.headers))
            case "empty_200":
                return _response(Reply(200, b"", reply.content_type))
            case "truncated_json_200":
                half = reply.body[: len(reply.body) // 2]
                return _response(Reply(200, half, reply.content_type, reply.headers))
            case "cut_response" if transport is not None:
                transport.write(_head(reply) + reply.body[: len(reply.body) // 2])
            case "no_reply_before" | "no_reply_after":
                await _until_gone(request, rule.hang_ms / 1000)
            case _:
                pass
        _hang_up(request, rule)
        return web.Response()  # goes nowhere: the connection is closed


def _hang_up(request: web.BaseRequest, rule: Rule) -> None:
    transport = request.transport
    if transport is None:
        return
    if not rule.reset:
        transport.close()
        return
    plain: socket.socket | None = transport.get_extra_info("socket")
    if plain is not None:
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
    transport.abort()


async def _until_gone(request: web.BaseRequest, limit_s: float) -> None:
    """Wait until the client has hung up, at most ``limit_s``."""
    loop = asyncio.get_running_loop()
    end = loop.time() + limit_s
    while loop.time() < end:
        transport = request.transport
        if transport is None or transport.is_closing():
            return
        await asyncio.sleep(_CLIENT_GONE_POLL_S)


def _head(reply: Reply) -> bytes:
    lines = [
        f"HTTP/1.1 {reply.status} OK",
        f"Content-Type: {reply.content_type}",
        f"Content-Length: {len(reply.body)}",
        *(f"{name}: {value}" for name, value in reply.headers.items()),
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


async def _respond(reply: Reply) -> web.StreamResponse:
    return _response(reply)


def _response(reply: Reply) -> web.Response:
    headers = {"Content-Type": reply.content_type, **reply.headers}
    return web.Response(status=reply.status, body=reply.body, headers=headers)


@asynccontextmanager
async def serve(
    settings: Settings | None = None, host: str = "127.0.0.1", port: int = 0
) -> AsyncIterator[Server]:
    """Run a simulator in the running event loop for as long as the block lasts."""
    server = Server(Simulator(settings), host, port)
    await server.start()
    try:
        yield server
    finally:
        with contextlib.suppress(asyncio.CancelledError):
            await server.stop()
