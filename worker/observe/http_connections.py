"""The connections of the HTTP server: one request each, bounded in bytes, in time and in number."""

import asyncio
import math
import re
from collections.abc import Awaitable, Callable
from email.utils import formatdate
from typing import Final, NamedTuple, cast
from urllib.parse import urlsplit

#: Connections open at the same time; a new one has the oldest of the least urgent hung up on.
MAX_CONNECTIONS: Final = 128
#: A connection is over after this long, whatever its client sends or reads meanwhile, seconds.
DEADLINE_S: Final = 5.0
#: How often that is looked at.
SWEEP_EVERY_S: Final = 0.2
#: The request line and all headers together.
MAX_REQUEST_BYTES: Final = 8_192
MAX_LINE_BYTES: Final = 2_048
#: Bytes after the request (a body, further requests) that are dropped before hanging up.
MAX_DROPPED_BYTES: Final = 65_536

_LINE: Final = re.compile(rb"([A-Z]{1,16}) (\S+) HTTP/(\d)\.\d")
_END: Final = re.compile(rb"\r?\n\r?\n")
_TEXT: Final = "text/plain; charset=utf-8"


class Answer(NamedTuple):
    """An answer to one request."""

    status: str
    body: bytes
    content_type: str = _TEXT
    headers: tuple[tuple[str, str], ...] = ()


#: Answers a request for a page at once, or says what to wait for.
Page = Callable[[], Answer | Awaitable[Answer]]


class Connections:
    """All open connections, by how much is lost when one is hung up on.

    First to go are those whose answer is written, read or not. Then it is the larger of two groups:
    those that have not asked yet, and those that wait for a page that takes long. Of each the
    oldest goes. So a client that is slow, by intent or not, cannot keep a probe out, a scrape
    outlives any number of connections that ask nothing, and a probe any number of scrapes.

    Args:
        pages: by path.
    """

    def __init__(self, pages: dict[str, Page]) -> None:
        self._pages = pages
        self._answered: dict[Connection, None] = {}
        self._asking: dict[Connection, None] = {}
        self._waiting: dict[Connection, None] = {}

    def new(self) -> "Connection":
        """Return the protocol of a connection that was accepted."""
        return Connection(self)

    def __len__(self) -> int:
        """Return how many are open."""
        return len(self._answered) + len(self._asking) + len(self._waiting)

    def admit(self, connection: "Connection") -> None:
        """Take in a new connection; hang up on another if there are too many."""
        if len(self) >= MAX_CONNECTIONS:
            group = self._answered or max(self._asking, self._waiting, key=len)
            next(iter(group)).hang_up()
        self._asking[connection] = None

    def has_asked(self, connection: "Connection") -> None:
        """Note that a connection's request is complete."""
        self._asking.pop(connection, None)
        self._waiting[connection] = None

    def is_answered(self, connection: "Connection") -> None:
        """Note that a connection's answer is written."""
        self._waiting.pop(connection, None)
        self._answered[connection] = None

    def forget(self, connection: "Connection") -> None:
        """Forget a connection that is closed."""
        for group in (self._answered, self._asking, self._waiting):
            group.pop(connection, None)

    def hang_up(self, since_s: float = math.inf) -> None:
        """Hang up on all that are open since ``since_s`` by the loop's clock, or longer."""
        for connection in [*self._answered, *self._asking, *self._waiting]:
            if connection.since_s <= since_s:
                connection.hang_up()

    async def sweep(self) -> None:
        """Keep hanging up on those whose time is over."""
        loop = asyncio.get_running_loop()
        while True:
            self.hang_up(loop.time() - DEADLINE_S)
            await asyncio.sleep(SWEEP_EVERY_S)

    def answer(self, request: "Request") -> Answer | Awaitable[Answer]:
        """Return the answer to a request, or what to wait for."""
        try:
            page = self._pages.get(urlsplit(request.target).path)
        except ValueError:
            return Answer("400 Bad Request", b"bad request target\n")
        if page is None:
            return Answer("404 Not Found", b"not found\n")
        if request.method not in {"GET", "HEAD"}:
            allow = (("Allow", "GET, HEAD"),)
            return Answer("405 Method Not Allowed", b"only GET and HEAD\n", headers=allow)
        return page()


class Connection(asyncio.Protocol):
    """One connection: one request is read and answered, whatever else is sent is dropped.

    After the answer only our side is closed: to close both with bytes unread would reset the
    connection, and the client could lose its answer.
    """

    _transport: asyncio.Transport
    #: When it was accepted, by the loop's clock.
    since_s: float

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._request = bytearray()
        self._has_asked = self._has_answer = self._has_left = False
        self._dropped = 0
        self._task: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Let the connection's time begin."""
        self._transport = cast("asyncio.Transport", transport)
        self.since_s = asyncio.get_running_loop().time()
        self._connections.admit(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Let everything go."""
        if self._task is not None:
            self._task.cancel()
        self._connections.forget(self)

    def hang_up(self) -> None:
        """Close the connection at once."""
        self._connections.forget(self)
        self._transport.abort()

    def eof_received(self) -> bool:
        """Keep our side open as long as there is an answer to give."""
        self._has_left = True
        return self._has_asked and not self._has_answer

    def data_received(self, data: bytes) -> None:
        """Take in a piece of the request; answer once it is complete, or cannot become one."""
        if self._has_asked:
            self._dropped += len(data)
            if self._dropped > MAX_DROPPED_BYTES:
                self.hang_up()
            return
        self._request += data[: MAX_REQUEST_BYTES + 1 - len(self._request)]
        read = _read(self._request)
        if read is None:
            return
        self._has_asked = True
        self._request.clear()
        self._connections.has_asked(self)
        if isinstance(read, Answer):
            self._send(read)
            return
        with_body = read.method != "HEAD"
        answer = self._connections.answer(read)
        if isinstance(answer, Answer):
            self._send(answer, with_body=with_body)
        else:
            self._task = asyncio.ensure_future(self._send_later(answer, with_body=with_body))

    async def _send_later(self, answer: Awaitable[Answer], *, with_body: bool) -> None:
        try:
            self._send(await answer, with_body=with_body)
        except Exception:  # logged as every other of a task
            self.hang_up()
            raise

    def _send(self, answer: Answer, *, with_body: bool = True) -> None:
        headers = (
            ("Date", formatdate(usegmt=True)),
            ("Server", "execution-worker"),
            ("Content-Type", answer.content_type),
            ("Content-Length", str(len(answer.body))),
            ("Cache-Control", "no-store"),
            ("Connection", "close"),
            *answer.headers,
        )
        lines = [f"HTTP/1.1 {answer.status}", *(f"{name}: {value}" for name, value in headers)]
        head = "\r\n".join([*lines, "", ""]).encode()
        self._transport.write(head + answer.body if with_body else head)
        self._has_answer = True
        self._connections.is_answered(self)
        if self._has_left:
            self._transport.close()  # once all is sent
        else:
            self._transport.write_eof()


class Request(NamedTuple):
    """A request for a page."""

    method: str
    target: str


def _read(request: bytearray) -> Request | Answer | None:
    """Return the request in these bytes, why there is none, or None if more must come."""
    line, newline, _ = request.partition(b"\n")
    if len(line) > MAX_LINE_BYTES:
        return Answer("414 URI Too Long", b"the request line is too long\n")
    if not newline:
        # As a TLS client that says hello to a server without TLS.
        return None if request[:1].isalpha() else Answer("400 Bad Request", b"no HTTP request\n")
    asked = _LINE.fullmatch(line.removesuffix(b"\r"))
    if asked is None:
        return Answer("400 Bad Request", b"no HTTP request\n")
    if asked[3] != b"1":
        return Answer("505 HTTP Version Not Supported", b"only HTTP/1.1\n")
    if _END.search(request):
        return Request(asked[1].decode(), asked[2].decode(errors="replace"))
    if len(request) > MAX_REQUEST_BYTES:
        return Answer("431 Request Header Fields Too Large", b"the headers are too long\n")
    return None
