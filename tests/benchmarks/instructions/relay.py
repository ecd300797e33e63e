"""Stands between the worker and the server and decides when a blocking read goes on.

Commands and replies pass unchanged, except for a command with ``BLOCK``: it, and whatever the
connection sends after it, is kept back until :meth:`Relay.release`.
"""

import selectors
import socket
import time
from types import TracebackType
from typing import Any, Final, Self

import hiredis

from tests.benchmarks.processes import BenchmarkError
from tests.benchmarks.wire import pack

_CHUNK: Final = 1 << 18


class _Link:
    """One connection of the worker and its counterpart to the server."""

    def __init__(self, worker: socket.socket, port: int) -> None:
        self.worker = worker
        self.server = socket.create_connection(("127.0.0.1", port))
        self.commands = hiredis.Reader()
        self.replies = hiredis.Reader()
        self.kept: list[list[bytes]] = []
        self.unanswered = 0
        for one in (self.worker, self.server):
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def close(self) -> None:
        self.worker.close()
        self.server.close()


class Relay:
    """A listening socket for the worker, in front of a server.

    Nothing passes but in :meth:`pump`, which the harness has to call.

    Args:
        port: the server's, on loopback.

    Attributes:
        forwarded: how many commands were.
    """

    def __init__(self, port: int) -> None:
        self._server_port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ, None)
        self._links: list[_Link] = []
        self.forwarded = 0

    @property
    def url(self) -> str:
        """The ``redis.url`` of the worker."""
        return f"redis://127.0.0.1:{self._listener.getsockname()[1]}/0"

    @property
    def waits(self) -> bool:
        """Whether the worker waits for signals, and for nothing else."""
        return any(link.kept for link in self._links) and not any(
            link.unanswered for link in self._links
        )

    def release(self) -> None:
        """Forward everything that was kept back.

        Raises:
            BenchmarkError: nothing was.
        """
        if not any(link.kept for link in self._links):
            raise BenchmarkError("the worker does not wait for signals")
        for link in self._links:
            kept, link.kept = link.kept, []
            self._forward(link, kept)

    def pump(self, seconds: float) -> bool:
        """Pass on what comes for ``seconds``; return whether anything came."""
        deadline = time.monotonic() + seconds
        has_passed = False
        while (left_s := deadline - time.monotonic()) > 0:
            for key, _ in self._selector.select(left_s):
                has_passed = True
                if key.data is None:
                    self._accept()
                else:
                    self._pass(key.data, key.fileobj)
        return has_passed

    def close(self) -> None:
        """Close every connection."""
        for link in self._links:
            link.close()
        self._listener.close()
        self._selector.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _accept(self) -> None:
        worker, _ = self._listener.accept()
        link = _Link(worker, self._server_port)
        self._links.append(link)
        for one in (link.worker, link.server):
            self._selector.register(one, selectors.EVENT_READ, link)

    def _pass(self, link: _Link, source: Any) -> None:
        if link not in self._links:
            return  # closed while the other end of it was read
        data = source.recv(_CHUNK)
        if not data:
            self._drop(link)
        elif source is link.server:
            link.worker.sendall(data)
            link.unanswered -= len(_parsed(link.replies, data))
        else:
            self._take(link, _parsed(link.commands, data))

    def _take(self, link: _Link, commands: list[list[bytes]]) -> None:
        for command in commands:
            if link.kept or b"BLOCK" in command:
                link.kept.append(command)
            else:
                self._forward(link, [command])

    def _forward(self, link: _Link, commands: list[list[bytes]]) -> None:
        self.forwarded += len(commands)
        link.unanswered += len(commands)
        link.server.sendall(b"".join(pack(*command) for command in commands))

    def _drop(self, link: _Link) -> None:
        self._links.remove(link)
        for one in (link.worker, link.server):
            self._selector.unregister(one)
        link.close()


def _parsed(reader: hiredis.Reader, data: bytes) -> list[Any]:
    """Return what is complete once ``data`` is there too: commands, or replies."""
    reader.feed(data)
    found = []
    while (one := reader.gets()) is not False:
        found.append(one)
    return found
