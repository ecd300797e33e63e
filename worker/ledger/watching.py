"""The keeper's look at an account for changes that people make."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from worker.ledger.layouts import StreamCounts, WatchedReply, read_row
from worker.ledger.scripts import Scripts

#: Events that one look returns at most.
MOST_EVENTS: Final = 16


class WatchedEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An event of the stream ``system``, its texts cut at 4,096 bytes."""

    entry_id: str
    type: str
    event_id: str
    data: str


class Watched(msgspec.Struct, frozen=True, kw_only=True):
    """One look: the trading state's fields, earlier marks, counts of streams, new events.

    A stream that does not exist has the counts 0, 0 and ``0-0``.
    """

    control: Mapping[str, str]
    marks: Mapping[str, str]
    system: StreamCounts
    dead: StreamCounts
    events: tuple[WatchedEvent, ...]


async def watch(scripts: Scripts, marks: Mapping[str, str]) -> Watched:
    """Note ``marks`` for the next keeper, and look at what has changed since.

    Raises:
        LedgerError: Redis cannot be asked.
    """
    flat = [part for pair in marks.items() for part in pair]
    reply = read_row(WatchedReply, await scripts.run("watch", *flat))
    texts = [_text(part) for part in reply.events]
    rows = zip(texts[::4], texts[1::4], texts[2::4], texts[3::4], strict=True)
    return Watched(
        control=_mapping(reply.control),
        marks=_mapping(reply.marks),
        system=_counts(reply.system),
        dead=_counts(reply.dead),
        events=tuple(
            WatchedEvent(entry_id=entry_id, type=kind, event_id=event_id, data=data)
            for entry_id, kind, event_id, data in rows
        ),
    )


def _counts(row: list[Any]) -> StreamCounts:
    return read_row(StreamCounts, row) if row else StreamCounts(0, 0, b"0-0")


def _mapping(flat: list[bytes]) -> dict[str, str]:
    texts = [_text(part) for part in flat]
    return dict(zip(texts[::2], texts[1::2], strict=True))


def _text(part: bytes) -> str:
    return part.decode(errors="replace")
