"""One connection to Redis that carries the scripts: hiredis on a plain asyncio protocol.

Everything a signal asks of Redis travels here. redis-py finds the primary and serves the tools; a
lone call through it takes several times the processor time (docs/performance.md).
"""

import asyncio
import ssl
from collections import deque
from typing import Any, Final, cast

import hiredis
from redis.exceptions import NoScriptError, ResponseError

from worker.ledger.limits import MAX_REPLY_BYTES

#: The types of a command's arguments.
Argument = bytes | str | int | float

#: How long connecting and signing in may take together.
CONNECT_TIMEOUT_S: Final = 2.0


class ReplyTooLargeError(Exception):
    """A reply has more bytes than any call here expects; it was not read to its end."""


class Wire(asyncio.Protocol):
    """Commands go out in order, replies come back in order; many may be under way.

    Args:
        timeout_s: how long a reply may take; then the connection is given up, for whatever comes
            on it afterwards could belong to any call.

    Attributes:
        is_open: True while calls can be made.
    """

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._loop = asyncio.get_running_loop()
        self._reader = hiredis.Reader(replyError=_error)
        #: Calls without a reply, oldest first, with the time each was made.
        self._waiting: deque[tuple[asyncio.Future[Any], float]] = deque()
        self._transport: asyncio.Transport | None = None
        self.is_open = False
        self._watch: asyncio.TimerHandle | None = None
        self._heard = 0.0
        self._unanswered_bytes = 0

    def call(self, *command: Argument) -> "asyncio.Future[Any]":
        """Send one command; the future gets its reply.

        Raises (through the future):
            ResponseError: the server answered with an error (:class:`NoScriptError` for that one).
            ConnectionError, TimeoutError: no reply will come; whether the command ran is unknown.
        """
        future: asyncio.Future[Any] = self._loop.create_future()
        if self._transport is None:
            future.set_exception(ConnectionError("the connection is closed"))
            return future
        packed = hiredis.pack_command(command)  # may fail; nothing waits for a reply then
        self._waiting.append((future, self._loop.time()))
        self._transport.write(packed)
        if self._watch is None:
            self._watch = self._loop.call_later(self._timeout_s, self._look)
        return future

    def close(self) -> None:
        """Close the connection; calls under way fail."""
        self._end(ConnectionError("the connection was closed"))

    # -- asyncio.Protocol ----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport; calls can be made."""
        self._transport = cast("asyncio.Transport", transport)
        self.is_open = True

    def data_received(self, data: bytes) -> None:
        """Give every whole reply to its call."""
        self._heard = self._loop.time()
        try:
            self._reader.feed(data)
            reply = self._reader.gets()
            if reply is False:
                self._wait_for_more(len(data))
                return
            self._unanswered_bytes = 0
            while reply is not False:
                self._answer(reply)
                reply = self._reader.gets()
        except (hiredis.ProtocolError, ResponseError) as error:
            self._end(error)

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail the calls under way."""
        self._end(exc or ConnectionError("the server closed the connection"))

    # -- inside --------------------------------------------------------------------------------

    def _wait_for_more(self, count: int) -> None:
        """Note that so many bytes came without the end of a reply; stop where they are too many."""
        self._unanswered_bytes += count
        if self._unanswered_bytes > MAX_REPLY_BYTES:
            self._end(ReplyTooLargeError(f"a reply has more than {MAX_REPLY_BYTES} bytes"))

    def _answer(self, reply: Any) -> None:
        if not self._waiting:  # "max number of clients reached" comes unasked
            raise reply if isinstance(reply, ResponseError) else hiredis.ProtocolError("unasked")
        future, _ = self._waiting.popleft()
        if future.done():
            return  # cancelled
        if isinstance(reply, ResponseError):
            future.set_exception(reply)
        else:
            future.set_result(reply)

    def _look(self) -> None:
        """Give up on the oldest reply if it is overdue; come again when it would be."""
        self._watch = None
        if not self._waiting:
            return
        # A call's time runs from the reply before it: before that the server had others to answer.
        since = max(self._waiting[0][1], self._heard)
        overdue_s = self._loop.time() - since - self._timeout_s
        if overdue_s >= 0:
            self._end(TimeoutError("no reply in time"))
        else:
            self._watch = self._loop.call_later(-overdue_s, self._look)

    def _end(self, error: Exception) -> None:
        transport, self._transport = self._transport, None
        self.is_open = False
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        if transport is not None:
            transport.abort()
        while self._waiting:
            future, _ = self._waiting.popleft()
            if not future.done():
                future.set_exception(error)


def _error(text: str) -> ResponseError:
    return NoScriptError(text) if text.startswith("NOSCRIPT") else ResponseError(text)


async def connect(
    *,
    host: str,
    port: int,
    path: str,
    timeout_s: float,
    tls: ssl.SSLContext | None,
    setup: tuple[tuple[Argument, ...], ...],
) -> Wire:
    """Open a connection and set it up.

    Args:
        host: the server's name or address; not used with ``path``.
        port: its port; not used with ``path``.
        path: of the server's unix socket; empty for TCP.
        timeout_s: how long a reply may take, seconds.
        tls: how to encrypt, if at all.
        setup: commands that must succeed first: sign in, choose the database, give a name.

    Raises:
        OSError, TimeoutError, ResponseError: connecting or the set-up failed.
    """
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(CONNECT_TIMEOUT_S):
        if path:
            _, wire = await loop.create_unix_connection(lambda: Wire(timeout_s), path)
        else:
            _, wire = await loop.create_connection(lambda: Wire(timeout_s), host, port, ssl=tls)
        try:
            for command in setup:
                await wire.call(*command)
        except BaseException:
            wire.close()
            raise
    return wire
