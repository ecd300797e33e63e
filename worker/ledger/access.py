"""One account's keys on its primary, for everything that is not a worker."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import msgspec
from redis.asyncio import Redis

from worker.domain.identity import account_key
from worker.ledger.connection import Connections
from worker.ledger.errors import (
    GroupMissingError,
    LedgerUnavailableError,
    map_exceptions,
    translate,
)
from worker.ledger.wire import Argument

#: The streams of an account by their short names, in the order they are shown.
INPUT_STREAM: Final = "signals"
OUTPUT_STREAMS: Final = ("orders", "positions", "system")
DEAD_STREAM: Final = "dead"
STREAMS: Final = (INPUT_STREAM, *OUTPUT_STREAMS, DEAD_STREAM)
#: Entries of `signals` or `dead` read in one reply, which must stay well below the 64 MiB at which
#: a server may hang up: each is up to a mebibyte.
LARGE_PAGE: Final = 16


class StreamEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of one stream; ``stream`` is the short name, values are bytes as written."""

    stream: str
    id: str
    fields: dict[str, bytes]

    @property
    def order(self) -> tuple[int, int]:
        """Return the id as two numbers, so that entries compare."""
        return split_id(self.id)

    @property
    def size(self) -> int:
        """Return the bytes of all names and values."""
        return sum(len(name.encode()) + len(value) for name, value in self.fields.items())

    def text(self, name: str) -> str:
        """Return a field as text, empty where it is absent."""
        return self.fields.get(name, b"").decode(errors="replace")


class Access:
    """An account's keys and the primary they are on.

    Args:
        connections: to the primary.
        account: the account's id.
    """

    def __init__(self, connections: Connections, account: str) -> None:
        self.connections = connections
        self.account = account

    def key(self, name: str) -> str:
        """Return the full name of one of the account's keys."""
        return account_key(self.account, name)

    @asynccontextmanager
    async def client(self, *, blocking: bool = False) -> AsyncIterator[Redis]:
        """Lend the primary's client, with every foreign error translated.

        Raises:
            LedgerError: whatever goes wrong inside.
        """
        client = await (self.connections.blocking() if blocking else self.connections.commands())
        try:
            with map_exceptions():
                yield client
        except LedgerUnavailableError as error:
            if error.moved:
                await self.connections.invalidate(client)
            raise

    async def ask_one(self, *command: Argument) -> Any:
        """Send one command and return its reply.

        Args:
            command: a name (of one or two words) and its arguments.

        Raises:
            LedgerError: the round trip failed, or the server answered with an error.
        """
        async with self.client() as client:
            return await client.execute_command(*command)

    async def ask(self, *commands: Sequence[Argument], atomic: bool = True) -> list[Any]:
        """Send commands in one round trip.

        Args:
            commands: each a name (of one or two words) and its arguments.
            atomic: whether nothing may happen between them.

        Returns:
            One reply for each command; the reply of a command that failed is its error.

        Raises:
            LedgerError: the round trip failed.
        """
        if not commands:
            return []
        async with self.client() as client:
            pipeline = client.pipeline(transaction=atomic)
            for command in commands:
                pipeline.execute_command(*command)
            return list(await pipeline.execute(raise_on_error=False))


def value_of(reply: Any) -> Any:
    """Return a reply, None where the stream or group it is about does not exist.

    Raises:
        LedgerError: the server answered with any other error.
    """
    if not isinstance(reply, Exception):
        return reply
    error = translate(reply)
    if isinstance(error, GroupMissingError):
        return None
    raise error


def split_id(entry_id: str) -> tuple[int, int]:
    """Return a stream id as two numbers; a missing second part counts as 0."""
    ms, _, number = entry_id.partition("-")
    return int(ms), int(number or 0)


def entries_of(stream: str, rows: Any) -> list[StreamEntry]:
    """Return the library's rows of ``XRANGE`` or ``XREAD`` as entries, without deleted ones."""
    return [
        StreamEntry(
            stream=stream,
            id=row[0].decode(),
            fields={name.decode(errors="replace"): value for name, value in row[1].items()},
        )
        for row in rows or ()
        if row[1] is not None
    ]
