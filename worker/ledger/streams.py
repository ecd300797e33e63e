"""Putting signals on the account's stream and following its streams from outside a worker."""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Final

from redis.exceptions import RedisError

from worker.ledger.access import INPUT_STREAM, Access, Part, StreamEntry, entries_of, split_id
from worker.ledger.errors import LedgerError, map_exceptions

#: Entries a read returns at most, a stream.
READ_COUNT: Final = 500
#: Entries in one pipeline of ``submit``: small enough for a reply well within its time limit.
SUBMIT_BATCH: Final = 500
#: One blocking read; well under the connection's time limit.
BLOCK_MS: Final = 2_000


class SubmissionError(LedgerError):
    """Not every entry is known to be on the stream; ``ids`` are those of the ones that are."""

    def __init__(self, message: str, ids: list[str]) -> None:
        super().__init__(message)
        self.ids = ids


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
        SubmissionError: it failed on the way; carries the ids of what was surely added.
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
            raise SubmissionError(
                f"{error}; {len(ids)} of {len(entries)} signals are known to be submitted "
                "(submitting all of them again is safe: a repeated signal_id is not traded twice)",
                ids,
            ) from error
    return ids


def _flat(entry: Mapping[str, bytes]) -> list[Part]:
    return [part for pair in entry.items() for part in pair]


def _raise_first(replies: list[Any]) -> None:
    with map_exceptions():
        for reply in replies:
            if isinstance(reply, RedisError):
                raise reply


class Tail:
    """A place in several streams, moving forward; streams that do not exist yet are waited for.

    Args:
        access: the account.
        streams: short names, in the order in which events of the same moment are shown.
        from_id: what comes after this id; ``0`` for everything, ``$`` for what is new.
    """

    def __init__(self, access: Access, streams: Sequence[str], from_id: str = "$") -> None:
        self._access = access
        self._streams = tuple(streams)
        self._rank = {stream: rank for rank, stream in enumerate(self._streams)}
        self._places: dict[str, str] = {}
        if from_id != "$":
            self._places = dict.fromkeys(self._streams, from_id)

    async def start(self) -> None:
        """Fix what ``$`` means, once: asking for ``$`` in each read would miss what came between.

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

    async def read(self, block_ms: int = BLOCK_MS) -> list[StreamEntry]:
        """What came since the last read, waiting up to ``block_ms`` for the first of it.

        Returns:
            Entries in the order of their ids over all streams; none if nothing came.

        Raises:
            LedgerError: Redis cannot be asked; the place is kept, read again.
        """
        await self.start()
        keys = {self._access.key(stream).encode(): stream for stream in self._streams}
        async with self._access.client(blocking=True) as client:
            reply = await client.execute_command(
                "XREAD", "COUNT", READ_COUNT, "BLOCK", block_ms,
                "STREAMS", *keys, *(self._places[stream] for stream in self._streams),
            )  # fmt: skip
        found = dict(reply or ())
        entries = [e for key, rows in found.items() for e in entries_of(keys[key], rows)]
        entries.sort(key=self._when)
        full = [rows[-1][0].decode() for rows in found.values() if len(rows) == READ_COUNT]
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
    """Every entry of ``streams`` after ``from_id``, for ever.

    Raises:
        LedgerError: Redis cannot be asked.
    """
    tail = Tail(access, streams, from_id)
    while True:
        for entry in await tail.read():
            yield entry
