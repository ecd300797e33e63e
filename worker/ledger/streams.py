"""Submitting signals and following an account's streams from outside a worker."""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Final

from redis.exceptions import RedisError

from worker.ledger.access import (
    INPUT_STREAM,
    LARGE_PAGE,
    OUTPUT_STREAMS,
    Access,
    StreamEntry,
    entries_of,
    split_id,
)
from worker.ledger.errors import LedgerError, LedgerUnavailableError, map_exceptions
from worker.ledger.wire import Argument
from worker.runtime.errors import UncertainError

#: How many entries of one output stream a read returns at most.
READ_COUNT: Final = 500
#: Entries in one pipeline of ``submit``: small enough for a reply well within its time limit.
SUBMIT_BATCH: Final = 500
#: One blocking read; well under the connection's time limit.
BLOCK_MS: Final = 2_000


class SubmissionError(LedgerError):
    """Not all entries are known to be on the stream; ``ids`` are those that are."""

    def __init__(self, message: str, ids: list[str]) -> None:
        super().__init__(message)
        self.ids = ids


class UncertainSubmissionError(SubmissionError, UncertainError):
    """A submission whose answer was lost: entries beside ``ids`` may be on the stream."""


async def submit(access: Access, entries: Sequence[Mapping[str, bytes]]) -> list[str]:
    """Append entries to the signals stream, in order, pipelined.

    Never repeated here: a lost reply leaves it open whether an entry was added. Submitting the same
    signals again is safe, for a repeated ``signal_id`` is recognised as a duplicate.

    Args:
        access: the account.
        entries: the stream fields of each (``data``; ``key`` and others where wanted).

    Returns:
        The entry ids.

    Raises:
        SubmissionError: a call failed; its ``ids`` are those of the entries that were added.
        UncertainSubmissionError: the same, and more may have been added.
    """
    ids: list[str] = []
    key = access.key(INPUT_STREAM)
    for start in range(0, len(entries), SUBMIT_BATCH):
        batch = entries[start : start + SUBMIT_BATCH]
        commands = [("XADD", key, "*", *_flat(entry)) for entry in batch]
        try:
            replies = await access.ask(*commands, atomic=False)
            ids += [reply.decode() for reply in replies if isinstance(reply, bytes)]
            _raise_first(replies)
        except LedgerError as error:
            is_lost = isinstance(error, LedgerUnavailableError) and error.may_have_run
            kind = UncertainSubmissionError if is_lost else SubmissionError
            raise kind(
                f"{error}; {len(ids)} of {len(entries)} signals are known to be submitted "
                "(submitting all of them again is safe: a repeated signal_id is not traded twice)",
                ids,
            ) from error
    return ids


def _flat(entry: Mapping[str, bytes]) -> list[Argument]:
    return [part for pair in entry.items() for part in pair]


def _raise_first(replies: list[Any]) -> None:
    with map_exceptions():
        for reply in replies:
            if isinstance(reply, RedisError):
                raise reply


class Tail:
    """A position in several streams, moving forward; streams may not exist yet.

    Args:
        access: the account.
        streams: short names, in the order in which events of the same moment are shown.
        from_id: the id to begin after; ``0`` for everything, ``$`` for new entries only.
    """

    def __init__(self, access: Access, streams: Sequence[str], from_id: str = "$") -> None:
        self._access = access
        self._streams = tuple(streams)
        is_small = set(streams) <= set(OUTPUT_STREAMS)
        self._count = READ_COUNT if is_small else LARGE_PAGE
        self._rank = {stream: rank for rank, stream in enumerate(self._streams)}
        self._places: dict[str, str] = {}
        if from_id != "$":
            self._places = dict.fromkeys(self._streams, from_id)

    async def start(self) -> None:
        """Look up the ids that ``$`` stands for; ``$`` in each read would miss entries between.

        Raises:
            LedgerError: Redis cannot be asked.
        """
        if self._places:
            return
        infos = await self._access.ask(
            *(("XINFO STREAM", self._access.key(stream)) for stream in self._streams)
        )
        # A stream that does not exist answers with an error: all it will hold is new.
        self._places = {
            stream: info["last-generated-id"].decode() if isinstance(info, dict) else "0-0"
            for stream, info in zip(self._streams, infos, strict=True)
        }

    @property
    def places(self) -> dict[str, str]:
        """The id of each stream after which it will be read next; empty before :meth:`start`."""
        return dict(self._places)

    async def read(self, block_ms: int = BLOCK_MS) -> list[StreamEntry]:
        """Return entries since the last read, waiting up to ``block_ms`` for the first.

        Returns:
            Entries of all streams in the order of their ids; empty if none came.

        Raises:
            LedgerError: Redis cannot be asked; the position is kept, read again.
        """
        await self.start()
        keys = {self._access.key(stream).encode(): stream for stream in self._streams}
        async with self._access.client(blocking=True) as client:
            reply = await client.execute_command(
                "XREAD", "COUNT", self._count, "BLOCK", block_ms,
                "STREAMS", *keys, *(self._places[stream] for stream in self._streams),
            )  # fmt: skip
        rows_by_key = dict(reply or ())
        entries = [e for key, rows in rows_by_key.items() for e in entries_of(keys[key], rows)]
        entries.sort(key=self._when)
        full = [rows[-1][0].decode() for rows in rows_by_key.values() if len(rows) == self._count]
        if full:
            # A stream read to its limit has more: what is later than that in others must wait.
            horizon = min(map(split_id, full))
            entries = [entry for entry in entries if entry.order <= horizon]
        for entry in entries:
            self._places[entry.stream] = entry.id
        return entries

    def _when(self, entry: StreamEntry) -> tuple[int, int, int]:
        ms, number = entry.order
        return ms, self._rank[entry.stream], number


async def follow(
    access: Access, streams: Sequence[str], from_id: str = "$"
) -> AsyncIterator[StreamEntry]:
    """Yield every entry of ``streams`` after ``from_id``, for ever.

    Raises:
        LedgerError: Redis cannot be asked.
    """
    tail = Tail(access, streams, from_id)
    while True:
        for entry in await tail.read():
            yield entry
