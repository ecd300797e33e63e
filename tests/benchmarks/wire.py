"""The harness's own connection to Redis: packed commands out, parsed replies in, nothing between.

The harness must cost as little as possible beside what it measures, so it does without redis-py.
"""

import contextlib
import socket
from collections.abc import Iterable, Iterator, Sequence
from types import TracebackType
from typing import Any, Final, Self

import hiredis

Part = bytes | str | int | float
_CHUNK: Final = 1 << 18
#: Commands sent before their replies are read.
_WINDOW: Final = 1_000


class WireError(Exception):
    """The server refused a command, or hung up."""


def pack(*command: Part) -> bytes:
    """One command as it travels."""
    return bytes(hiredis.pack_command(command))


class Wire:
    """One blocking connection.

    Args:
        port: on loopback.
        timeout_s: after which a missing reply is an error.
    """

    def __init__(self, port: int, *, timeout_s: float = 60.0) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=timeout_s)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._reader = hiredis.Reader()

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def fileno(self) -> int:
        """For ``select``."""
        return self._socket.fileno()

    def send(self, data: bytes) -> None:
        """Send packed commands."""
        self._socket.sendall(data)

    def receive(self) -> Any:
        """The next reply.

        Raises:
            WireError: it was an error, or the connection ended.
        """
        while (reply := self._reader.gets()) is False:
            self._feed()
        if isinstance(reply, hiredis.ReplyError):
            raise WireError(str(reply))
        return reply

    def discard(self) -> None:
        """Read what has come and look at none of it but errors.

        Raises:
            WireError: there was one, or the connection ended.
        """
        self._feed()
        while (reply := self._reader.gets()) is not False:
            if isinstance(reply, hiredis.ReplyError):
                raise WireError(str(reply))

    def _feed(self) -> None:
        data = self._socket.recv(_CHUNK)
        if not data:
            raise WireError("the server hung up")
        self._reader.feed(data)

    def call(self, *command: Part) -> Any:
        """One command and its reply."""
        self.send(pack(*command))
        return self.receive()

    def pour(self, commands: Iterable[bytes]) -> int:
        """Send many packed commands, a thousand to a round trip; returns how many."""
        count = 0
        for window in _windows(commands):
            self.send(b"".join(window))
            for _ in window:
                self.receive()
            count += len(window)
        return count

    def info(self, section: str) -> dict[str, str]:
        """One section of ``INFO`` as names and values."""
        lines = self.call("INFO", section).decode().splitlines()
        return dict(line.split(":", 1) for line in lines if ":" in line)

    def fields(self, *command: Part) -> dict[str, Any]:
        """A reply of alternating names and values as a dictionary."""
        return pairs(self.call(*command))


def pairs(flat: Sequence[Any]) -> dict[str, Any]:
    """Alternating names and values as a dictionary."""
    return {name.decode(): value for name, value in zip(flat[::2], flat[1::2], strict=True)}


def _windows(commands: Iterable[bytes]) -> Iterator[list[bytes]]:
    source = iter(commands)
    with contextlib.suppress(StopIteration):
        while True:
            window = [next(source)]
            for command in source:
                window.append(command)
                if len(window) == _WINDOW:
                    break
            yield window
