"""Finding the signal that an id belongs to: of an order, a position or a stream entry.

A client order id is a digest, so nothing can be computed back from it, and Redis has no index of
these ids: the streams are searched, newest entries first, and the answer says how far.
"""

import re
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from worker.ledger.access import DEAD_STREAM, INPUT_STREAM, OUTPUT_STREAMS, Access, entries_of
from worker.ledger.inspection import find_record, read_positions
from worker.ledger.stored import decode_entry, decode_record
from worker.operator.dead_letters import signal_id_of

#: Entries of one stream that are searched, and how many are read at a time.
MAX_SEARCHED: Final = 20_000
PAGE: Final = 1_000
#: Unresolved orders whose plans are searched.
MAX_UNRESOLVED: Final = 1_000
#: The fields of an event that identify an order or position, and the streams that have them.
_IDS: Final = ("client_order_id", "exchange_order_id", "position_id")
_SEARCHED: Final = ("orders", "positions")
_ENTRY_ID: Final = re.compile(r"\d{1,20}-\d{1,20}")


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """The signals an id belongs to, each with the kind of id it is there.

    ``complete`` is False where the streams hold more entries than were searched.
    """

    kinds: dict[str, str]
    complete: bool = True


async def find_signals(access: Access, identity: str) -> Found:
    """Find the signals that an id belongs to; more than one where exchanges use the same order id.

    Args:
        access: the account.
        identity: a signal id, an entry id of any stream, a client order id, an exchange's order
            id, or a position id.

    Raises:
        LedgerError: Redis cannot be asked.
    """
    if await find_record(access, identity) is not None:
        return Found(kinds={identity: "signal_id"})
    if _ENTRY_ID.fullmatch(identity) and (found := await _of_entry(access, identity)):
        return Found(kinds=found)
    held = (await read_positions(access)).positions.values()
    kinds = {one.signal_id: "position_id" for one in held if one.position_id == identity}
    kinds |= await _among_unresolved(access, identity)
    complete = True
    for stream in _SEARCHED:
        found, is_all = await _search(access, stream, identity)
        complete &= is_all
        kinds = found | kinds
    for unique in ("client_order_id", "position_id"):
        # A position's id is its opener's; signals that changed it came later, and so stand before.
        names = [name for name, kind in kinds.items() if kind == unique]
        if names:
            return Found(kinds={names[-1]: unique}, complete=complete)
    return Found(kinds=kinds, complete=complete)


async def _of_entry(access: Access, entry_id: str) -> dict[str, str]:
    """Return the signal that an entry carries or is about.

    Entries of several streams may have the same id; the signal's own comes first.
    """
    streams = (INPUT_STREAM, DEAD_STREAM, *OUTPUT_STREAMS)
    replies = await access.ask(
        *(("XRANGE", access.key(name), entry_id, entry_id) for name in streams),
        ("HGET", access.key("entries"), entry_id),
    )
    in_hand = replies.pop()  # it may have been trimmed from the stream while it was waited for
    names = [decode_entry(in_hand).signal if isinstance(in_hand, bytes) else ""]
    for stream, rows in zip(streams, replies, strict=True):
        for entry in entries_of(stream, rows if isinstance(rows, list) else ()):
            is_event = stream in OUTPUT_STREAMS
            data = entry.fields.get("data", b"")
            names.append((entry.text("subject") if is_event else signal_id_of(data)) or "")
    return {name: "entry_id" for name in names if name and name == next(filter(None, names))}


async def _among_unresolved(access: Access, identity: str) -> dict[str, str]:
    """Search the plans of unresolved orders, of which no event says the id yet."""
    key = access.key("unresolved")
    entries = await access.ask_one("ZRANGE", key, 0, MAX_UNRESOLVED - 1)
    if not entries:
        return {}
    stored = await access.ask_one("HMGET", access.key("entries"), *entries)
    names = [decode_entry(raw).signal for raw in stored if raw]
    replies = await access.ask(*(("GET", access.key(f"record:{name}")) for name in names))
    plans = {
        name: decode_record(raw).plan
        for name, raw in zip(names, replies, strict=True)
        if isinstance(raw, bytes)
    }
    return {name: kind for name, plan in plans.items() if (kind := _kind(plan.encode(), identity))}


async def _search(access: Access, stream: str, identity: str) -> tuple[dict[str, str], bool]:
    """Search the newest events of a stream; and whether they are all there are."""
    found: dict[str, str] = {}
    end, searched = "+", 0
    while searched < MAX_SEARCHED:
        rows = await access.ask_one("XREVRANGE", access.key(stream), end, "-", "COUNT", PAGE)
        page = entries_of(stream, rows)
        for entry in page:
            if kind := _kind(entry.fields.get("data", b""), identity):
                found[entry.text("subject")] = kind
        if len(page) < PAGE:
            return found, True
        searched += len(page)
        end = f"({page[-1].id}"
    return found, False


def _kind(data: bytes, identity: str) -> str:
    """Return which id of a JSON object ``identity`` is; empty where it is none."""
    if identity.encode() not in data:
        return ""
    try:
        return next(_kinds(msgspec.json.decode(data), identity), "")
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return ""


def _kinds(value: Any, identity: str) -> Iterator[str]:
    """Yield the names of the ids that ``identity`` is in a JSON value, at any depth."""
    if isinstance(value, dict):
        yield from (name for name in _IDS if value.get(name) == identity)
        for name, part in value.items():
            if name != "metadata":  # the producer's own
                yield from _kinds(part, identity)
