"""A loopback server that answers with canned replies and keeps what it was asked."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from aiohttp import web


@dataclass(frozen=True, slots=True)
class Asked:
    """One request as it arrived."""

    method: str
    path: str
    query: dict[str, str]
    body: str
    headers: dict[str, str]

    @property
    def fields(self) -> dict[str, Any]:
        """The query and the body's fields, from JSON or a form."""
        if self.body.startswith(("{", "[")):
            decoded = json.loads(self.body)
            return self.query | (decoded if isinstance(decoded, dict) else {"items": decoded})
        return self.query | dict(parse_qsl(self.body))


@dataclass(frozen=True, slots=True)
class Canned:
    """One reply, or a way to fail.

    ``drop`` the connection, ``hang``, ``cut`` the body; send it as ``raw`` bytes, head and all;
    repeat it without an ``endless``, or drop by drop: the body in a ``trickle``, or such headers.
    """

    body: bytes | str | dict[str, Any] | list[Any] = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    fault: str = ""

    def encoded(self) -> bytes:
        """The body as bytes."""
        if isinstance(self.body, bytes):
            return self.body
        return (self.body if isinstance(self.body, str) else json.dumps(self.body)).encode()


Reply = Canned | dict[str, Any] | list[Any] | Callable[[Asked], "Canned | dict[str, Any]"]


class CannedServer:
    """Routes by ``"METHOD /path"``; anything else is a 404 that says so."""

    def __init__(self) -> None:
        self.replies: dict[str, Reply] = {}
        self.asked: list[Asked] = []
        self.url = ""
        self.released = asyncio.Event()

    def requests(self, route: str) -> list[Asked]:
        """What was asked of one route, in order."""
        return [one for one in self.asked if f"{one.method} {one.path}" == route]

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        asked = Asked(
            request.method,
            request.path,
            dict(request.query),
            (await request.read()).decode(),
            dict(request.headers),
        )
        self.asked.append(asked)
        reply = self.replies.get(f"{asked.method} {asked.path}", Canned("no such route", 404))
        if callable(reply):
            reply = reply(asked)
        if not isinstance(reply, Canned):
            reply = Canned(reply)
        if reply.fault == "hang":
            await self.released.wait()
        if reply.fault in {"drop", "hang"}:
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        if reply.fault in {"raw", "endless", "trickle", "trickled_head"}:
            return await self._pour(request, reply)
        if reply.fault == "cut":
            response = web.StreamResponse(headers={"Content-Length": "1000"})
            await response.prepare(request)
            await response.write(reply.encoded())
            assert request.transport is not None
            request.transport.abort()
            return response
        headers = {"Content-Type": "application/json"} | reply.headers
        return web.Response(status=reply.status, body=reply.encoded(), headers=headers)

    async def _pour(self, request: web.BaseRequest, reply: Canned) -> web.StreamResponse:
        """Write past aiohttp, for as long as the other side takes it."""
        transport = request.transport
        assert transport is not None
        kind = "Content-Type: application/json\r\n"
        head = f"HTTP/1.1 200 OK\r\n{kind}Connection: close\r\n"
        if reply.fault == "raw":
            transport.write(reply.encoded())
        else:
            transport.write((head + ("" if reply.fault == "trickled_head" else "\r\n")).encode())
        pause_s = 0.0 if reply.fault == "endless" else 0.02
        while reply.fault != "raw" and not transport.is_closing():
            if transport.get_write_buffer_size() < 1 << 20:
                transport.write(reply.encoded())
            await asyncio.sleep(pause_s)
        transport.close()
        return web.Response()  # goes nowhere


@asynccontextmanager
async def canned_server() -> AsyncIterator[CannedServer]:
    """One server on a free port for the length of the block."""
    canned = CannedServer()
    runner = web.ServerRunner(web.Server(canned.handle, access_log=None), shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    canned.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield canned
    finally:
        canned.released.set()
        await runner.cleanup()
