"""One signal's whole story, put together from its record, its events and its dead letters."""

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any, Final

import msgspec

from worker.ledger.access import (
    DEAD_STREAM,
    INPUT_STREAM,
    OUTPUT_STREAMS,
    Access,
    StreamEntry,
    entries_of,
    split_id,
)
from worker.ledger.stored import Record, decode_record
from worker.operator.dead_letters import DeadLetter, dead_letter, signal_id_of
from worker.runtime.clock import utc

#: Entries looked at after each known moment of an order, a stream; and back from the newest.
MAX_AHEAD: Final = 20_000
MAX_BACK: Final = 5_000
PAGE: Final = 1_000
#: An event may carry an id slightly before the time its record states: clocks of a failed-over
#: server differ, and a script's time is taken at its start.
SLACK_MS: Final = 1_000


class RecordView(msgspec.Struct, frozen=True, kw_only=True):
    """What the ledger wrote down about one signal.

    ``intent`` is empty once it has ended, ``outcome`` until then.
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
    """One event as it stands on its stream; ``at`` is when it was written, by Redis time."""

    stream: str
    entry_id: str
    at: datetime
    type: str
    event_id: str
    data: msgspec.Raw


class History(msgspec.Struct, frozen=True, kw_only=True):
    """One signal's story, its events oldest first.

    ``arrived_at`` is when its entry was put on the stream, None where no entry was found.
    ``complete`` is False where the streams hold more than was looked at.
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
        """Whether anything at all was found."""
        return bool(self.record or self.events or self.dead_letters or self.entry_id)


async def read_history(access: Access, signal_id: str) -> History:
    """Put one signal's story together.

    The record tells when things happened, and what was written then stands at these ids; so each
    output stream is read from there. What has no record yet is looked for among the newest entries.

    Raises:
        LedgerError: Redis cannot be asked.
    """
    async with access.client() as client:
        raw = await client.execute_command("GET", access.key(f"record:{signal_id}"))
    record, moments = _view(decode_record(raw)) if raw else (None, [])
    events: list[StoredEvent] = []
    complete = True
    for stream in OUTPUT_STREAMS:
        if moments:
            entries, whole = await _ahead(access, stream, moments)
        else:
            entries, whole = await _back(access, stream)
        complete &= whole
        events += [_event(entry) for entry in entries if entry.text("subject") == signal_id]
    dead, whole_dead = await _back(access, DEAD_STREAM)
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
        complete=complete and whole_dead,
    )


def _view(record: Record) -> tuple[RecordView, list[int]]:
    """The record as it is shown, and the moments (Unix ms) at which something was written of it."""
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
        intent=_object(record.intent),
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
    """Entries from each moment on, each once; and whether they reach to the stream's end."""
    found: dict[str, StreamEntry] = {}
    reached_ms, whole, has_gap = 0, False, False
    for moment in moments:
        if whole:
            break  # the end was reached from an earlier moment
        start = f"{max(moment - SLACK_MS, 0)}-0"
        if found and moment - SLACK_MS <= reached_ms:
            start = "(" + next(reversed(found))
        elif found:
            has_gap = True
        entries, whole = await _page(access, "XRANGE", stream, start, "+", MAX_AHEAD)
        found.update((entry.id, entry) for entry in entries)
        if entries:
            reached_ms = entries[-1].order[0]
    return list(found.values()), whole and not has_gap


async def _back(access: Access, stream: str) -> tuple[list[StreamEntry], bool]:
    """The newest entries, oldest first; and whether they are all there are."""
    entries, whole = await _page(access, "XREVRANGE", stream, "+", "-", MAX_BACK)
    return entries[::-1], whole


async def _page(
    access: Access, command: str, stream: str, start: str, end: str, limit: int
) -> tuple[list[StreamEntry], bool]:
    """Up to ``limit`` entries in pages; and whether there are no more."""
    found: list[StreamEntry] = []
    async with access.client() as client:
        while len(found) < limit:
            rows = await client.execute_command(
                command, access.key(stream), start, end, "COUNT", PAGE
            )
            found += entries_of(stream, rows)
            if len(rows or ()) < PAGE:
                return found, True
            start = "(" + found[-1].id
    return found, False


def _carrying(entries: Iterable[StreamEntry], signal_id: str) -> Iterator[StreamEntry]:
    """The entries whose payload carries ``signal_id``."""
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
