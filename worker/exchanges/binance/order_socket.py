"""Orders over an exchange's WebSocket API: one kept connection, each reply matched by its id.

ccxt.pro makes the frame, signs it and says where it goes. Its own socket client is left out: it
sends from a task of its own, after the last check of the window; a frame that is not JSON ends its
receiving silently; and closing it cancels whoever waits for a reply. What decides an order's
outcome is here instead:

- no connection, or not in time: nothing was sent, and an :class:`ExchangeError` says so;
- a whole error frame is put into the running ``Call`` as if it were a REST reply, and classified
  by the same tables;
- everything else after the frame was handed over leaves the outcome open.

Frames: https://developers.binance.com/docs/binance-spot-api-docs/websocket-api/response-format and
https://developers.binance.com/docs/derivatives/usds-margined-futures/websocket-api-general-info.
"""

import asyncio
import contextlib
import logging
import random
from typing import Any, Final

import aiohttp
import msgspec
from yarl import URL

from worker.exchanges.budget.requests import RequestGate
from worker.exchanges.ccxt.bounds import FRAME, check_form
from worker.exchanges.ccxt.call import Call, current_call
from worker.exchanges.ccxt.pauses import retry_after_seconds
from worker.exchanges.errors import ExchangeError, Outcome
from worker.runtime.clock import Clock
from worker.runtime.errors import InvariantError
from worker.runtime.logger import get_logger

#: Interval of pings; a pong may take half of it. A dead connection is found and replaced before an
#: order needs it, and no load balancer takes a quiet one for idle.
HEARTBEAT_S: Final = 15.0
#: The interval between attempts to connect. It is doubled, up to the longest, until a connection
#: lasts that long. A random part of up to half is taken off, so that workers spread their attempts.
#: Binance allows 300 attempts in five minutes per address: one socket makes fewer than 40.
SHORTEST_CYCLE_S: Final = 0.5
LONGEST_CYCLE_S: Final = 20.0
#: How long the other side may take to answer a closing handshake.
_CLOSE_S: Final = 1.0
#: Frames a minute, pings among them, that answer no order: Binance sends three pings.
MOST_STRAY: Final = 1_000
_CONNECTING: Final = "still connecting"

Frame = dict[str, Any]
#: Numbers with a fraction keep every digit.
_frames: Final = msgspec.json.Decoder(float_hook=str)

_log = get_logger()


class SocketLostError(Exception):
    """The connection ended after the order was handed to it and before its reply."""


class OrderSocket:
    """One WebSocket connection, opened at once and opened again whenever it ends.

    Args:
        name: the exchange's name, for messages.
        url: where, as ccxt knows it.
        session: connects, rerouted by its middleware where configured; not closed here.
        timeout_ms: how long connecting may take, and how long a reply.
        clock: measures how long connections last, and waits.
        gate: the exchange's budget: nothing connects while it wants no request.
    """

    def __init__(
        self,
        name: str,
        url: str,
        session: aiohttp.ClientSession,
        timeout_ms: int,
        clock: Clock,
        gate: RequestGate | None = None,
    ) -> None:
        self._gate = gate
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
        """True if a frame can be written, as far as this side knows."""
        ws = self._ws
        # The transport is gone a moment before the reading task has noticed.
        return ws is not None and not ws.closed and ws.get_extra_info("peername") is not None

    @property
    def obstacle(self) -> str:
        """Why no frame can be written, in a sentence; empty if one can."""
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
        call = running_call()
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
        """Close the connection; callers that wait for a reply get :class:`SocketLostError`."""
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
        """Open one connection after the other: at once, unless the last one ended soon."""
        cycle_s = SHORTEST_CYCLE_S
        while True:
            await self._hold_back()
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

    async def _hold_back(self) -> None:
        """Wait until the exchange takes requests."""
        while self._gate is not None and (held_ms := self._gate.holds.held_ms()):
            self._reason = "the exchange wants no request for now"
            self._settled.set()
            await self._clock.sleep(min(held_ms / 1_000, LONGEST_CYCLE_S))

    async def _connection(self) -> str:
        """Open one connection and read until it ends; returns the reason of its end."""
        self._banned_s = 0.0
        try:
            async with asyncio.timeout(self._timeout_s):
                ws = await self._session.ws_connect(
                    self._url,
                    heartbeat=HEARTBEAT_S,
                    timeout=aiohttp.ClientWSTimeout(ws_close=_CLOSE_S),
                    autoping=False,  # they are counted
                    max_msg_size=FRAME.most_bytes,
                )
        except Exception as error:  # whatever it is, the next attempt may go better
            reason = type(error).__name__
            if isinstance(error, aiohttp.WSServerHandshakeError) and error.headers is not None:
                self._banned_s = retry_after_seconds(error.headers.get("Retry-After"))
                reason += f" ({error.status})"
                if self._gate is not None and error.status in {418, 429}:
                    self._gate.refused(self._banned_s or LONGEST_CYCLE_S)
            _log.warning("order_socket_failed", exchange=self._name, to=self._path, reason=reason)
            return reason
        self._ws, self._reason = ws, "just lost"
        self._settled.set()
        _log.info("order_socket_connected", exchange=self._name, to=self._path)
        reason = "closed"
        try:
            reason = await self._read(ws)
        except Exception as error:  # raised, it would end the reading unnoticed
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
        since_ms, stray = self._clock.monotonic_ms(), 0
        async for message in ws:
            if message.type is aiohttp.WSMsgType.ERROR:  # a missing pong is one
                return str(ws.exception() or "error")
            if message.type is aiohttp.WSMsgType.TEXT:
                if self._answer(message.data):
                    continue
            elif message.type is aiohttp.WSMsgType.PING:
                await ws.pong(message.data)
            elif message.type is not aiohttp.WSMsgType.PONG:
                return str(message.type.name).lower()
            now_ms = self._clock.monotonic_ms()
            if now_ms - since_ms > 60_000:
                since_ms, stray = now_ms, 0
            stray += 1
            if stray > MOST_STRAY:
                return f"more than {MOST_STRAY} frames a minute that answer nothing"
        return f"closed by the exchange ({ws.close_code})"

    def _answer(self, text: str) -> bool:
        """Give a frame to the caller that waits for it; False if nobody does.

        Raises:
            Exception: it cannot be read, and answers an unknown request: the connection ends.
        """
        check_form(text.encode(), FRAME)
        frame = _frames.decode(text)
        frame_id = frame.get("id") if isinstance(frame, dict) else None
        reply = self._waiting.pop(frame_id, None) if isinstance(frame_id, str) else None
        if reply is None or reply.done():
            return False
        reply.set_result(frame)
        return True

    def _lose(self) -> int:
        """Wake all who wait for a reply of this connection, without one; returns their number."""
        self._ws = None
        waiting = [reply for reply in self._waiting.values() if not reply.done()]
        self._waiting.clear()
        for reply in waiting:
            reply.set_result(None)
        return len(waiting)


def running_call() -> Call:
    """Return the call that an order is part of.

    Raises:
        InvariantError: there is none, so that nobody would see whether the order was sent.
    """
    call = current_call.get()
    if call is None:
        raise InvariantError("an order is about to be sent outside of any call")
    return call


def unsent(name: str, obstacle: str) -> ExchangeError:
    """Return the error of an order that there was no connection for."""
    return ExchangeError(
        f"{name} create_order: nothing was sent, {obstacle}",
        outcome=Outcome.NOT_SENT,
        code="not_connected",
    )
