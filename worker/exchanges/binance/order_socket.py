"""Orders over an exchange's WebSocket API: one kept connection, each reply matched by its id.

ccxt.pro makes the frame, signs it and says where it goes. Its own socket client is left out: it
sends from a task of its own, after the last look at the window; a frame that is not JSON ends its
receiving without a word; and closing it cancels whoever waits for a reply. What an order's fate
hangs on is here instead:

- no connection, or not in time: nothing was sent, and an :class:`ExchangeError` says so;
- a whole error frame is put into the running ``Call`` as if it were a REST reply, to be judged
  there by the same tables;
- everything else after the frame was handed over leaves the outcome open.

Frames: https://developers.binance.com/docs/binance-spot-api-docs/websocket-api/response-format and
https://developers.binance.com/docs/derivatives/usds-margined-futures/websocket-api-general-info.
"""

import asyncio
import contextlib
import logging
import random
from collections.abc import Mapping
from typing import Any, Final

import aiohttp
import msgspec
from yarl import URL

from worker.exchanges.ccxt.outcomes import (
    Call,
    IncompleteReplyError,
    current_call,
    retry_after_seconds,
)
from worker.exchanges.ports import ExchangeError, Outcome
from worker.runtime.clock import Clock
from worker.runtime.errors import InvariantError
from worker.runtime.logger import get_logger

#: A ping every so often, and half as long for its pong: a dead connection is found and replaced
#: before an order needs it, and no load balancer takes a quiet one for idle.
HEARTBEAT_S: Final = 15.0
#: From one attempt to connect to the next at most, doubled up to the longest for as long as no
#: connection lasts that long, and up to half less by chance, so that a fleet does not knock as one.
#: Binance allows 300 attempts in five minutes per address: one socket makes fewer than 40.
SHORTEST_CYCLE_S: Final = 0.5
LONGEST_CYCLE_S: Final = 20.0
#: How long the other side may take to say goodbye.
_GOODBYE_S: Final = 1.0
_CONNECTING: Final = "still connecting"

#: ccxt's unified names, which ``create_order_ws`` leaves beside the exchange's own.
_UNIFIED: Final = ("clientOrderId", "stopLossPrice", "takeProfitPrice")

Frame = dict[str, Any]

_log = get_logger()


class SocketLostError(Exception):
    """The connection ended after the order was handed to it and before its reply."""


class FrameError(Exception):
    """The exchange answered with an error; the running ``Call`` has it."""


class OrderSocket:
    """One WebSocket connection, made at once and made again whenever it ends.

    Args:
        name: the exchange's name, for messages.
        url: where, as ccxt knows it.
        session: connects; its middleware sends it elsewhere where configured. Not closed here.
        timeout_ms: how long connecting may take, and how long a reply.
        clock: tells a connection that lasted from one that is refused again and again, and waits.
    """

    def __init__(
        self, name: str, url: str, session: aiohttp.ClientSession, timeout_ms: int, clock: Clock
    ) -> None:
        self._name = name
        self._url = url
        self._path = URL(url).path
        self._session = session
        self._timeout_s = timeout_ms / 1_000
        self._clock = clock
        self._ws: aiohttp.ClientWebSocketResponse | None = None
        #: Set unless an attempt to connect is under way.
        self._settled = asyncio.Event()
        #: Why there is no connection.
        self._reason = _CONNECTING
        #: For how long the exchange asked not to be connected to.
        self._banned_s = 0.0
        self._waiting: dict[str, asyncio.Future[Frame | None]] = {}
        self._keeper = asyncio.create_task(self._keep(), name=f"order-socket-{name}{self._path}")

    def __repr__(self) -> str:
        state = "open" if self.is_open else self._reason
        return f"<OrderSocket {self._name}{self._path}: {state}, {len(self._waiting)} waiting>"

    @property
    def is_open(self) -> bool:
        """Whether a frame can be written, as far as this side knows."""
        ws = self._ws
        # The transport is gone a moment before the reading task has noticed.
        return ws is not None and not ws.closed and ws.get_extra_info("peername") is not None

    @property
    def obstacle(self) -> str:
        """Why no frame can be written, for a person; empty if one can."""
        return "" if self.is_open else f"there is no connection to {self._path}: {self._reason}"

    async def settled(self, within_ms: float) -> None:
        """Wait for the attempt to connect that is under way, if any, at most ``within_ms``."""
        if not self.is_open:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(within_ms / 1_000):
                    await self._settled.wait()

    async def ask(self, frame_id: str, frame: Frame) -> Frame:
        """Send ``frame`` at once, note it in the running ``Call``, and wait for its reply.

        Raises:
            ExchangeError: not sent: there is no connection.
            SocketLostError: the connection ended first.
            TimeoutError: there is no reply after ``timeout_ms``.
            InvariantError: no ``Call`` is running.
        """
        call = _running()
        text = msgspec.json.encode(frame).decode()
        ws = self._check_open()
        reply: asyncio.Future[Frame | None] = asyncio.get_running_loop().create_future()
        self._waiting[frame_id] = reply
        call.requests += 1
        # "/ws-fapi/v1" is the API of "/fapi/v1", which some codes' meaning depends on.
        call.path = self._path.replace("/ws-", "/", 1)
        call.status, call.retry_after_s, call.body = 0, 0.0, None
        call.sent += 1
        try:
            async with asyncio.timeout(self._timeout_s):
                await ws.send_str(text)
                answer = await reply
        finally:
            self._waiting.pop(frame_id, None)
        if answer is None:
            raise SocketLostError
        return answer

    async def close(self) -> None:
        """Give the connection back; whoever waits for a reply learns that none will come."""
        self._keeper.cancel()
        await asyncio.wait([self._keeper])
        self._reason = "closed"
        self._settled.set()

    # ---- inside -----------------------------------------------------------------------------

    def _check_open(self) -> aiohttp.ClientWebSocketResponse:
        if self._ws is None or not self.is_open:
            raise unsent(self._name, self.obstacle)
        return self._ws

    async def _keep(self) -> None:
        """One connection after the other: at once, unless the last one did not last."""
        cycle_s = SHORTEST_CYCLE_S
        while True:
            self._settled.clear()
            self._reason = _CONNECTING
            began_ms = self._clock.monotonic_ms()
            self._reason = await self._connection()
            self._settled.set()
            lasted_s = (self._clock.monotonic_ms() - began_ms) / 1_000
            if lasted_s >= LONGEST_CYCLE_S:
                cycle_s = SHORTEST_CYCLE_S
            else:
                pause_s = cycle_s * random.uniform(0.5, 1.0) - lasted_s  # noqa: S311 (no secret)
                await self._clock.sleep(max(pause_s, self._banned_s, 0.0))
                cycle_s = min(cycle_s * 2, LONGEST_CYCLE_S)

    async def _connection(self) -> str:
        """One connection from its making to its end, and what ended it."""
        self._banned_s = 0.0
        try:
            async with asyncio.timeout(self._timeout_s):
                ws = await self._session.ws_connect(
                    self._url,
                    heartbeat=HEARTBEAT_S,
                    timeout=aiohttp.ClientWSTimeout(ws_close=_GOODBYE_S),
                )
        except Exception as error:  # whatever it is, the next attempt may go better
            reason = type(error).__name__
            if isinstance(error, aiohttp.WSServerHandshakeError) and error.headers is not None:
                self._banned_s = retry_after_seconds(error.headers.get("Retry-After"))
                reason += f" ({error.status})"
            _log.warning("order_socket_failed", exchange=self._name, to=self._path, reason=reason)
            return reason
        self._ws, self._reason = ws, "just lost"
        self._settled.set()
        _log.info("order_socket_connected", exchange=self._name, to=self._path)
        reason = "closed"
        try:
            reason = await self._read(ws)
        except Exception as error:  # not raised, or nobody would notice that nothing is read
            reason = type(error).__name__
        finally:
            unanswered = self._lose()
            with contextlib.suppress(Exception):
                await ws.close()
        _log.log(
            logging.WARNING if unanswered else logging.INFO,
            "order_socket_lost",
            exchange=self._name,
            to=self._path,
            reason=reason,
            unanswered=unanswered,
        )
        return reason

    async def _read(self, ws: aiohttp.ClientWebSocketResponse) -> str:
        async for message in ws:
            if message.type is aiohttp.WSMsgType.ERROR:  # a missing pong is one
                return str(ws.exception() or "error")
            if message.type is not aiohttp.WSMsgType.TEXT:
                return str(message.type.name).lower()
            # Nobody can tell whose reply a frame was that is not JSON: it ends the connection.
            frame = _frames.decode(message.data)
            frame_id = frame.get("id") if isinstance(frame, dict) else None
            reply = self._waiting.pop(frame_id, None) if isinstance(frame_id, str) else None
            if reply is not None and not reply.done():
                reply.set_result(frame)
        return f"closed by the exchange ({ws.close_code})"

    def _lose(self) -> int:
        """Tell everybody who waits that this connection brings no reply; returns how many."""
        self._ws = None
        waiting = [reply for reply in self._waiting.values() if not reply.done()]
        self._waiting.clear()
        for reply in waiting:
            reply.set_result(None)
        return len(waiting)


def _running() -> Call:
    """The call that an order is part of."""
    call = current_call.get()
    if call is None:  # whether the order was sent would be noted where nobody looks
        raise InvariantError("an order is about to be sent outside of any call")
    return call


def unsent(name: str, obstacle: str) -> ExchangeError:
    """The failure of an order that there was no connection for."""
    return ExchangeError(
        f"{name} create_order: nothing was sent, {obstacle}",
        outcome=Outcome.NOT_SENT,
        code="not_connected",
    )


class _Error(msgspec.Struct):
    code: int
    msg: str
    data: Any = None


class _Reply(msgspec.Struct):
    status: int
    result: dict[str, Any] | None = None
    error: _Error | None = None


#: Numbers with a fraction keep every digit.
_frames: Final = msgspec.json.Decoder(float_hook=str)


def read_reply(frame: Frame, call: Call, now_ms: int) -> dict[str, Any]:
    """The result in a reply.

    Args:
        frame: the whole frame.
        call: takes the error, if it is one, as from a REST reply.
        now_ms: the exchange's time, where the frame does not tell it, Unix milliseconds.

    Raises:
        FrameError: it is a whole error: a status, a code and a text.
        IncompleteReplyError: it is neither a result nor a whole error.
    """
    try:
        reply = msgspec.convert(frame, _Reply)
    except msgspec.ValidationError:
        raise IncompleteReplyError("the frame is neither a result nor an error") from None
    if reply.status == 200 and reply.error is None and reply.result is not None:
        return reply.result
    if reply.status < 400 or reply.error is None:
        raise IncompleteReplyError("the frame is neither a result nor an error")
    call.status = reply.status
    call.retry_after_s = _retry_after_s(reply.error.data, now_ms)
    call.body = msgspec.json.encode({"code": reply.error.code, "msg": reply.error.msg})
    raise FrameError


def _retry_after_s(data: Any, now_ms: int) -> float:
    """Seconds until ``retryAfter``, which is a time and not a span."""
    if not isinstance(data, dict):
        return 0.0
    until_ms, sent_ms = data.get("retryAfter"), data.get("serverTime")
    if not isinstance(until_ms, int):
        return 0.0
    since_ms = sent_ms if isinstance(sent_ms, int) else now_ms
    return retry_after_seconds(str((until_ms - since_ms) / 1_000))


def over_sockets(base: type[Any], sockets: Mapping[str, OrderSocket]) -> type[Any]:
    """The ccxt.pro class ``base`` with its orders going over ``sockets``, by URL.

    ``create_order_ws`` of it returns the exchange's own result, to be read as one of REST is.
    """

    class OverSockets(base):  # type: ignore[misc]
        """The ccxt.pro class with the two changes."""

        options: dict[str, Any]

        def sign_params(self, params: Mapping[str, Any]) -> dict[str, Any]:
            """Sign what REST would send: no names of ccxt's own, the order's own ``recvWindow``.

            ccxt puts ``options.recvWindow`` over the order's; there is no other way to tell it.
            """
            sent = {name: value for name, value in params.items() if name not in _UNIFIED}
            shared = self.options
            if "recvWindow" in sent:
                self.options = {**shared, "recvWindow": sent["recvWindow"]}
            try:
                signed: dict[str, Any] = super().sign_params(sent)
            finally:
                self.options = shared
            return signed

        async def watch(
            self,
            url: str,
            message_hash: str,
            message: Frame,
            _subscribe_hash: str = "",
            _subscription: object = None,
        ) -> dict[str, Any]:
            """Where every frame of ccxt.pro passes: send it over our socket instead."""
            socket = sockets.get(url)
            if socket is None:
                raise unsent(self.id, f"there is no connection to {URL(url).path}: closed")
            call = _running()
            frame = await socket.ask(message_hash, message)
            try:
                return read_reply(frame, call, self.milliseconds())
            except FrameError:
                self._raise_as_rest(call, frame["error"])
                raise

        def _raise_as_rest(self, call: Call, error: dict[str, Any]) -> None:
            """What ccxt would raise for it on REST, where its classes depend on the URL."""
            rest = self.urls["api"]["fapiPrivate" if "/fapi" in call.path else "private"]
            body = (call.body or b"").decode()
            self.handle_errors(call.status, "", rest + "/order", "POST", {}, body, error, {}, body)

    OverSockets.__name__ = OverSockets.__qualname__ = base.__name__
    return OverSockets
