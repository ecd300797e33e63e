"""Clients of the HTTP server that are slow, rude or wrong, many at once, in a process of their own.

``python -m tests.acceptance.slow_clients PORT KIND COUNT`` keeps ``COUNT`` of them connected until
its standard input ends, and connects anew whoever was hung up on. It says ``attacking`` once all
have been connected.
"""

import itertools
import random
import resource
import selectors
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Final

PAUSE_S: Final = 0.05
_GET: Final = b"GET /%s HTTP/1.1\r\nHost: worker\r\n\r\n"
_ASK: Final = _GET % b"metrics"
_HELLO: Final = bytes.fromhex("16030100e8010000e40303") + bytes(221)


def silent() -> Iterator[bytes]:
    """Send nothing."""
    return iter(())


def trickle() -> Iterator[bytes]:
    """Send a request and endless headers, byte by byte."""
    yield from (bytes([byte]) for byte in b"GET /livez HTTP/1.1\r\n")
    yield from (bytes([byte]) for byte in itertools.cycle(b"X-Header: value\r\n"))


def unread() -> Iterator[bytes]:
    """Ask for the largest page and never read it."""
    yield _ASK


def garbage() -> Iterator[bytes]:
    """Send bytes at random."""
    yield random.randbytes(512)


def tls() -> Iterator[bytes]:
    """Say hello as a TLS client does."""
    yield _HELLO


def headers() -> Iterator[bytes]:
    """Send one header without end."""
    yield b"GET /livez HTTP/1.1\r\nX-Header: "
    yield from itertools.repeat(b"x" * 16_384)


def line() -> Iterator[bytes]:
    """Send a request line without end."""
    yield from itertools.repeat(b"GET" + b"x" * 16_384)


def pipelined() -> Iterator[bytes]:
    """Send requests without end and without waiting for an answer."""
    yield from itertools.repeat(_ASK * 100)


def body() -> Iterator[bytes]:
    """Announce a large body, and send it."""
    yield b"POST /livez HTTP/1.1\r\nContent-Length: 10000000000\r\n\r\n"
    yield from itertools.repeat(b"x" * 16_384)


def half_close() -> Iterator[bytes]:
    """Send half a request, and close the sending side."""
    yield b"GET /live"
    yield b""


def asked_half_close() -> Iterator[bytes]:
    """Send a whole request and close the sending side; never read the answer."""
    yield _ASK
    yield b""


KINDS: Final[dict[str, Callable[[], Iterator[bytes]]]] = {
    kind.__name__: kind
    for kind in (
        silent, trickle, unread, garbage, tls, headers, line, pipelined, body, half_close,
        asked_half_close,
    )
}  # fmt: skip


class Clients:
    """``count`` connections of one kind, or of all kinds in turn."""

    def __init__(self, port: int, kind: str, count: int) -> None:
        self._port = port
        self._kinds = itertools.cycle([KINDS[kind]] if kind != "all" else KINDS.values())
        self._selector = selectors.DefaultSelector()
        self._missing = count

    def turn(self) -> None:
        """Connect who is missing, send everybody's next piece, note who was hung up on."""
        for _ in range(self._missing):
            connection = socket.socket()
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1_024)
            connection.setblocking(False)
            connection.connect_ex(("127.0.0.1", self._port))
            events = selectors.EVENT_WRITE | selectors.EVENT_READ
            self._selector.register(connection, events, next(self._kinds)())
        self._missing = 0
        for key, ready in self._selector.select(0):
            assert isinstance(key.fileobj, socket.socket)
            try:
                if ready & selectors.EVENT_WRITE:
                    self._send(key.fileobj, key.data)
                if ready & selectors.EVENT_READ:
                    self._look(key.fileobj)
            except BlockingIOError:
                continue
            except OSError:
                self._selector.unregister(key.fileobj)
                key.fileobj.close()
                self._missing += 1

    def _send(self, connection: socket.socket, pieces: Iterator[bytes]) -> None:
        piece = next(pieces, None)
        if piece == b"":
            connection.shutdown(socket.SHUT_WR)
        elif piece:
            connection.send(piece)

    def _look(self, connection: socket.socket) -> None:
        """Raise if the other side is gone; without reading anything."""
        if not connection.recv(1, socket.MSG_PEEK):
            raise ConnectionResetError


def main() -> None:
    """Attack until told to stop."""
    port, kind, count = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    clients = Clients(port, kind, count)
    clients.turn()
    print("attacking", flush=True)
    with selectors.DefaultSelector() as told:
        told.register(sys.stdin, selectors.EVENT_READ)
        while not told.select(PAUSE_S):
            clients.turn()


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        main()
