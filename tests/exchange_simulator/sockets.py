"""The WebSocket APIs of both venues: orders in frames, served by the same engine and faults.

Frames: https://developers.binance.com/docs/binance-spot-api-docs/websocket-api/response-format and
https://developers.binance.com/docs/derivatives/usds-margined-futures/websocket-api-general-info.
A fault rule sees a frame as a POST to ``/ws-api/v3/order.place`` (or ``/ws-fapi/v1/…``) and the
connecting as a GET of ``/ws-api/v3``.
"""

import asyncio
import contextlib
import struct
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from aiohttp import WSMsgType, web

from tests.exchange_simulator.errors import Reply, error_body
from tests.exchange_simulator.faults import Rule

PATHS = frozenset({"/ws-api/v3", "/ws-fapi/v1"})

#: what a frame is served with: the frame, how to answer, how to spoil the answer
Serve = Callable[
    [dict[str, Any], Callable[[Reply], Awaitable[None]], Callable[[Rule, Reply], Awaitable[None]]],
    Awaitable[None],
]


class Socket:
    """One connection. Each frame is served by itself: replies come in any order.

    Args:
        path: the API it is connected to.
        request: the upgrade request.
        hang_up: ends the connection as a rule wants it.
        now_ms: the exchange's clock.
        answers_pings: whether it says pong.
    """

    def __init__(
        self,
        path: str,
        request: web.BaseRequest,
        hang_up: Callable[[web.BaseRequest, Rule], None],
        now_ms: Callable[[], int],
        *,
        answers_pings: bool = True,
    ) -> None:
        self.path = path
        self.ws = web.WebSocketResponse(autoping=answers_pings)
        self._request = request
        self._hang_up = hang_up
        self._now_ms = now_ms
        self._serving: set[asyncio.Task[None]] = set()

    async def run(self, serve: Serve) -> web.WebSocketResponse:
        """Serve frames until the connection ends."""
        await self.ws.prepare(self._request)
        try:
            async for message in self.ws:
                if message.type is WSMsgType.TEXT:
                    task = asyncio.create_task(self._one(message.data, serve))
                    self._serving.add(task)
                    task.add_done_callback(self._serving.discard)
        finally:
            for task in tuple(self._serving):
                task.cancel()
        return self.ws

    async def send(self, text: str) -> None:
        """Send a text frame, if the other side is still there."""
        with contextlib.suppress(ConnectionError):
            if not self.ws.closed:
                await self.ws.send_str(text)

    async def _one(self, text: str, serve: Serve) -> None:
        try:
            frame = msgspec.json.decode(text, type=dict[str, Any])
        except msgspec.MsgspecError:
            wrong = Reply(400, error_body(-1135, "Invalid JSON Request"))
            await self.send(self._text(None, wrong))
            return
        frame_id = frame.get("id")

        async def answer(reply: Reply) -> None:
            await self.send(self._text(frame_id, reply))

        async def spoil(rule: Rule, reply: Reply) -> None:
            await self._spoil(rule, self._text(frame_id, reply))

        await serve(frame, answer, spoil)

    async def _spoil(self, rule: Rule, text: str) -> None:
        match rule.action:
            case "http_status" | "reject":
                await self.send(text)
            case "empty_200":
                await self.send(text.partition(',"result"')[0] + "}")
            case "truncated_json_200":
                await self.send(text[: len(text) // 2])
            case "no_reply_before" | "no_reply_after":
                pass
            case "cut_response" if self._request.transport is not None:
                whole = text.encode()
                self._request.transport.write(_head(len(whole)) + whole[: len(whole) // 2])
                self._hang_up(self._request, rule)
            case _:
                self._hang_up(self._request, rule)

    def _text(self, frame_id: Any, reply: Reply) -> str:
        """A reply as the text of a frame; a gateway's page stays what it is."""
        try:
            body = msgspec.json.decode(reply.body)
        except msgspec.DecodeError:
            return reply.body.decode()
        shown: dict[str, Any] = {"id": frame_id, "status": reply.status}
        if reply.status == 200:
            shown["result"] = msgspec.Raw(reply.body)
        else:
            wait_s = reply.headers.get("Retry-After")
            if wait_s is not None:
                now_ms = self._now_ms()
                until_ms = now_ms + int(float(wait_s) * 1_000)
                body["data"] = {"serverTime": now_ms, "retryAfter": until_ms}
            shown["error"] = body
        return msgspec.json.encode(shown).decode()


def _head(length: int) -> bytes:
    """The head of an unmasked text frame (RFC 6455, 5.2)."""
    if length < 126:
        return struct.pack("!BB", 0x81, length)
    return struct.pack("!BBH", 0x81, 126, length)
