"""Binance's WebSocket API for ccxt: orders out, results and errors back.

Frames: https://developers.binance.com/docs/binance-spot-api-docs/websocket-api/response-format and
https://developers.binance.com/docs/derivatives/usds-margined-futures/websocket-api-general-info.
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from yarl import URL

from worker.exchanges.binance.order_socket import Frame, OrderSocket, running_call, unsent
from worker.exchanges.ccxt.call import Call
from worker.exchanges.ccxt.outcomes import IncompleteReplyError
from worker.exchanges.ccxt.pauses import retry_after_seconds

#: ccxt's unified names, which ``create_order_ws`` leaves beside the exchange's own.
_UNIFIED: Final = ("clientOrderId", "stopLossPrice", "takeProfitPrice")


class FrameError(Exception):
    """The exchange answered with an error; the running ``Call`` has it."""


class _Error(msgspec.Struct):
    code: int
    msg: str
    data: Any = None


class _Reply(msgspec.Struct):
    status: int
    result: dict[str, Any] | None = None
    error: _Error | None = None


def read_reply(frame: Frame, call: Call, now_ms: int) -> dict[str, Any]:
    """Return the result in a reply.

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
        call.status = reply.status  # an answer: it ends a hold
        return reply.result
    if reply.status < 400 or reply.error is None:
        raise IncompleteReplyError("the frame is neither a result nor an error")
    call.status = reply.status
    call.retry_after_s = _retry_after_s(reply.error.data, now_ms)
    call.body = msgspec.json.encode({"code": reply.error.code, "msg": reply.error.msg})
    raise FrameError


def _retry_after_s(data: Any, now_ms: int) -> float:
    """Return the seconds until ``retryAfter``, which is a point in time."""
    if not isinstance(data, dict):
        return 0.0
    until_ms, sent_ms = data.get("retryAfter"), data.get("serverTime")
    if not isinstance(until_ms, int):
        return 0.0
    since_ms = sent_ms if isinstance(sent_ms, int) else now_ms
    return retry_after_seconds(str((until_ms - since_ms) / 1_000))


def over_sockets(base: type[Any], sockets: Mapping[str, OrderSocket]) -> type[Any]:
    """Return the ccxt.pro class ``base`` changed to send its orders over ``sockets``, by URL.

    Its ``create_order_ws`` returns the exchange's own result, to be parsed as a REST result is.
    """

    class OverSockets(base):  # type: ignore[misc]
        """The ccxt.pro class with the two changes."""

        options: dict[str, Any]

        def sign_params(self, params: Mapping[str, Any]) -> dict[str, Any]:
            """Sign what REST would send: no names of ccxt's own, the order's own ``recvWindow``.

            ccxt lets ``options.recvWindow`` override the order's, so the option is replaced.
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
            """Send a frame over our socket; every frame of ccxt.pro passes here."""
            socket = sockets.get(url)
            if socket is None:
                raise unsent(self.id, f"there is no connection to {URL(url).path}: closed")
            call = running_call()
            frame = await socket.ask(message_hash, message)
            try:
                return read_reply(frame, call, self.milliseconds())
            except FrameError:
                self._raise_as_rest(call, frame["error"])
                raise

        def _raise_as_rest(self, call: Call, error: dict[str, Any]) -> None:
            """Raise what ccxt raises for it on REST, where its classes depend on the URL."""
            rest = self.urls["api"]["fapiPrivate" if "/fapi" in call.path else "private"]
            body = (call.body or b"").decode()
            self.handle_errors(call.status, "", rest + "/order", "POST", {}, body, error, {}, body)

    OverSockets.__name__ = OverSockets.__qualname__ = base.__name__
    return OverSockets
