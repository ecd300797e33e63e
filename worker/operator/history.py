"""One signal's history, assembled from its record, its events and its dead letters."""

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any, Final

import msgspec

from worker.ledger.access import (
    DEAD_STREAM,
    INPUT_STREAM,
    LARGE_PAGE,
    OUTPUT_STREAMS,
    Access,
    StreamEntry,
    entries_of,
    split_id,
)
from worker.ledger.inspection import find_record
from worker.ledger.stored import Record
from worker.operator.dead_letters import DeadLetter, dead_letter, signal_id_of
from worker.runtime.clock import utc

#: Entries read of a stream: forward from each known moment of a signal, or back from the newest.
MAX_AHEAD: Final = 20_000
MAX_BACK: Final = 5_000
PAGE: Final = 1_000
#: Bytes read of a stream, about.
MAX_BYTES: Final = 67_108_864
#: An event may carry an id slightly before the time its record states: clocks of a failed-over
#: server differ, and a script's time is taken at its start.
SLACK_MS: Final = 1_000


class RecordView(msgspec.Struct, frozen=True, kw_only=True):
    """A signal's execution record.

    ``intent`` is the plan, empty once the signal has ended; ``outcome`` is the summary, empty until
    then. Both names are public JSON.
    """

    state: str
    entry_id: str
    worker: str
    admitted_at: datetime | None
    unresolved_since: datetime | None
    ended_at: datetime | None
    intent: dict[str, Any]
    outcome: dict[str, Any]


class StoredEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One event as it stands on its stream; ``at`` is the Redis time it was written."""

    stream: str
    entry_id: str
    at: datetime
    type: str
    event_id: str
    data: msgspec.Raw


class History(msgspec.Struct, frozen=True, kw_only=True):
    """One signal's history, its events oldest first.

    ``arrived_at`` is the time its entry was put on the stream, None where no entry was found.
    ``complete`` is False where the streams hold more entries than were read.
    """

    signal_id: str
    arrived_at: datetime | None
    entry_id: str | None
    record: RecordView | None
    events: tuple[StoredEvent, ...]
    dead_letters: tuple[DeadLetter, ...]
    complete: bool

    @property
    def is_known(self) -> bool:
        """Return whether anything at all was found."""
        return bool(self.record or self.events or self.dead_letters or self.entry_id)


async def read_history(access: Access, signal_id: str) -> History:
    """Assemble one signal's history.

    The record has the times at which events were written, and stream ids are times; so each output
    stream is read from there. Without a record the newest entries are searched.

    Raises:
        LedgerError: Redis cannot be asked.
    """
    stored = await find_record(access, signal_id)
    record, moments = _view(stored) if stored else (None, [])
    events: list[StoredEvent] = []
    complete = True
    for stream in OUTPUT_STREAMS:
        if moments:
            entries, is_all = await _ahead(access, stream, moments)
        else:
            entries, is_all = await _back(access, stream)
        complete &= is_all
        events += [_event(entry) for entry in entries if entry.text("subject") == signal_id]
    dead, is_all_dead = await _back(access, DEAD_STREAM)
    entry_id = record.entry_id if record else None
    if entry_id is None:
        signals, _ = await _back(access, INPUT_STREAM)
        entry_id = next((entry.id for entry in _carrying(signals, signal_id)), None)
    events.sort(key=lambda event: (event.at, OUTPUT_STREAMS.index(event.stream)))
    return History(
        signal_id=signal_id,
        arrived_at=_at(entry_id) if entry_id else None,
        entry_id=entry_id,
        record=record,
        events=tuple(events),
        dead_letters=tuple(dead_letter(entry) for entry in _carrying(dead, signal_id)),
        complete=complete and is_all_dead,
    )


def _view(record: Record) -> tuple[RecordView, list[int]]:
    """Return the record for display, and the times (Unix ms) at which events of it were written."""
    state = record.state
    if state == "ADMITTED" and record.unresolved_since:
        state = "UNRESOLVED"
    times = (record.admitted_at, record.unresolved_since, record.ended_at)
    admitted, unresolved, ended = (utc(at) if at else None for at in times)
    view = RecordView(
        state=state,
        entry_id=record.entry,
        worker=record.worker,
        admitted_at=admitted,
        unresolved_since=unresolved,
        ended_at=ended,
        intent=_object(record.plan),
        outcome=_object(record.outcome),
    )
    return view, sorted(at for at in times if at)


def _object(raw: str) -> dict[str, Any]:
    try:
        return msgspec.json.decode(raw, type=dict[str, Any])
    except msgspec.MsgspecError:
        return {}


async def _ahead(
    access: Access, stream: str, moments: Iterable[int]
) -> tuple[list[StreamEntry], bool]:
    """Read entries from each moment on, each once; and whether they reach the stream's end."""
    read: dict[str, StreamEntry] = {}
    reached_ms, at_end, has_gap = 0, False, False
    for moment in moments:
        if at_end:
            break  # the end was reached from an earlier moment
        start = f"{max(moment - SLACK_MS, 0)}-0"
        if read and moment - SLACK_MS <= reached_ms:
            start = "(" + next(reversed(read))
        elif read:
            has_gap = True
        entries, at_end = await _page(access, "XRANGE", stream, start, "+", MAX_AHEAD)
        read.update((entry.id, entry) for entry in entries)
        if entries:
            reached_ms = entries[-1].order[0]
    return list(read.values()), at_end and not has_gap


async def _back(access: Access, stream: str) -> tuple[list[StreamEntry], bool]:
    """Read the newest entries, oldest first; and whether they are all there are."""
    entries, is_all = await _page(access, "XREVRANGE", stream, "+", "-", MAX_BACK)
    return entries[::-1], is_all


async def _page(
    access: Access, command: str, stream: str, start: str, end: str, limit: int
) -> tuple[list[StreamEntry], bool]:
    """Read up to ``limit`` entries in pages; and whether there are no more."""
    entries: list[StreamEntry] = []
    count, room = PAGE if stream in OUTPUT_STREAMS else LARGE_PAGE, MAX_BYTES
    while len(entries) < limit and room > 0:
        rows = await access.ask_one(command, access.key(stream), start, end, "COUNT", count)
        page = entries_of(stream, rows)
        room -= sum(entry.size for entry in page)
        entries += page
        if len(rows or ()) < count:
            return entries, True
        start = "(" + entries[-1].id
    return entries, False


def _carrying(entries: Iterable[StreamEntry], signal_id: str) -> Iterator[StreamEntry]:
    """Yield the entries whose payload has ``signal_id``."""
    wanted = signal_id.encode()
    for entry in entries:
        data = entry.fields.get("data", b"")
        if wanted in data and signal_id_of(data) == signal_id:
            yield entry


def _event(entry: StreamEntry) -> StoredEvent:
    data = entry.fields.get("data", b"")
    return StoredEvent(
        stream=entry.stream,
        entry_id=entry.id,
        at=_at(entry.id),
        type=entry.text("type"),
        event_id=entry.text("id"),
        data=msgspec.Raw(data or b"null"),
    )


def _at(entry_id: str) -> datetime:
    return utc(split_id(entry_id)[0])
