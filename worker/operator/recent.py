"""The account's recent signals and orders, newest first."""

from collections.abc import AsyncIterator, Callable, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec

from worker.ledger.access import (
    DEAD_STREAM,
    INPUT_STREAM,
    LARGE_PAGE,
    Access,
    StreamEntry,
    entries_of,
    split_id,
    value_of,
)
from worker.ledger.inspection import GROUP, find_records, read_admitted
from worker.ledger.stored import Record
from worker.runtime.clock import utc

#: Entries of a stream read at a time, and in all.
PAGE: Final = 200
MAX_READ: Final = 20_000
#: Dead letters that are looked through for the entries of a page.
MAX_LETTERS: Final = 2_000
#: The state that the last event of an order tells.
_STATES: Final = {
    "OrderPlaced": "ACTIVE",
    "OrderPartiallyFilled": "PARTIALLY_FILLED",
    "OrderFilled": "FILLED",
    "OrderCancelled": "CANCELLED",
    "OrderFailed": "FAILED",
}


class SignalRow(msgspec.Struct, frozen=True, kw_only=True):
    """One signal: ``WAITING`` until it is admitted, then ``ADMITTED``, at last how it ended.

    ``DEAD`` for an entry that became a dead letter, ``code`` its reason then; it may have no signal
    id, market or action of its own. ``UNKNOWN`` for one that is finished and of which nothing is
    left: a dead letter that was removed, or a record that has expired.
    """

    signal_id: str
    entry_id: str
    exchange: str
    symbol: str
    action: str
    state: str
    code: str | None
    created_at: str
    ended_at: datetime | None


class OrderRow(msgspec.Struct, frozen=True, kw_only=True):
    """One order; what no event has told yet is None. Amounts are decimal text."""

    client_order_id: str
    exchange_order_id: str | None
    signal_id: str
    role: str | None
    parent: str | None
    exchange: str
    symbol: str
    side: str | None
    order_type: str | None
    price: str | None
    stop_price: str | None
    quantity: str | None
    filled_quantity: str
    average_price: str | None
    state: str
    placed_at: datetime | None
    ends_at: datetime | None


class _SignalText(msgspec.Struct, frozen=True):
    """The fields of a signal's JSON that a list shows, of any shape."""

    signal_id: Any = ""
    exchange: Any = ""
    symbol: Any = ""
    action: Any = "open"
    created_at: Any = ""


_decode_signal = msgspec.json.Decoder(_SignalText).decode
_decode_event = msgspec.json.Decoder(dict[str, Any]).decode


async def recent_signals(
    access: Access, count: int, *, wanted: Callable[[SignalRow], bool]
) -> list[SignalRow]:
    """Read the newest signals that are still on their stream.

    Args:
        access: the account.
        count: how many at most.
        wanted: which of them.

    Raises:
        LedgerError: Redis cannot be asked.
    """
    found: list[SignalRow] = []
    async for entries in _pages(access, INPUT_STREAM):
        texts = [_signal_text(entry) for entry in entries]
        records = await find_records(access, [str(one.signal_id) for one in texts])
        unclear = [
            entry.id
            for entry, record in zip(entries, records, strict=True)
            if record is None or record.entry != entry.id
        ]
        buried, in_hand = await _buried(access, unclear), await _in_hand(access, unclear)
        rows = [
            _dead_row(entry, text, buried[entry.id])
            if entry.id in buried
            else _signal_row(entry, text, record, is_open=entry.id in in_hand)
            for entry, text, record in zip(entries, texts, records, strict=True)
        ]
        found += [row for row in rows if wanted(row)]
        if len(found) >= count:
            break
    return found[:count]


def _signal_text(entry: StreamEntry) -> _SignalText:
    try:
        return _decode_signal(entry.fields.get("data", b""))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return _SignalText()


async def _buried(access: Access, entry_ids: Sequence[str]) -> dict[str, StreamEntry]:
    """Return the dead letters of some entries by the entry's id, of the newest ``MAX_LETTERS``."""
    found: dict[str, StreamEntry] = {}
    if not entry_ids:
        return found
    oldest, wanted, end, read = min(map(split_id, entry_ids)), set(entry_ids), "+", 0
    while read < MAX_LETTERS and len(found) < len(wanted):
        rows = await access.ask_one(
            "XREVRANGE", access.key(DEAD_STREAM), end, str(oldest[0]), "COUNT", LARGE_PAGE
        )
        letters = entries_of(DEAD_STREAM, rows)
        found |= {one.text("entry_id"): one for one in letters if one.text("entry_id") in wanted}
        if len(rows or ()) < LARGE_PAGE:
            break
        read, end = read + LARGE_PAGE, "(" + letters[-1].id
    return found


async def _in_hand(access: Access, entry_ids: Sequence[str]) -> set[str]:
    """Return which entries no worker has seen yet, or has seen and not finished."""
    if not entry_ids:
        return set()
    replies = await access.ask(
        ("XINFO GROUPS", access.key(INPUT_STREAM)),
        ("HMGET", access.key("entries"), *entry_ids),
        atomic=False,
    )
    groups, known = map(value_of, replies)
    group = next((g for g in groups or () if g["name"] == GROUP.encode()), None)
    seen = split_id(group["last-delivered-id"].decode()) if group is not None else (0, 0)
    return {
        one
        for one, entry in zip(entry_ids, known, strict=True)
        if entry is not None or split_id(one) > seen
    }


def _dead_row(entry: StreamEntry, text: _SignalText, letter: StreamEntry) -> SignalRow:
    return SignalRow(
        signal_id=str(text.signal_id),
        entry_id=entry.id,
        exchange=str(text.exchange),
        symbol=str(text.symbol),
        action=str(text.action),
        state="DEAD",
        code=letter.text("reason"),
        created_at=str(text.created_at),
        ended_at=utc(split_id(letter.id)[0]),
    )


def _signal_row(
    entry: StreamEntry, text: _SignalText, record: Record | None, *, is_open: bool
) -> SignalRow:
    state, code, ended_at = "WAITING" if is_open else "UNKNOWN", None, None
    if record is not None and record.entry and record.entry != entry.id:
        state = "WAITING" if is_open else "DUPLICATE"
    elif record is not None:
        state = "UNRESOLVED" if record.unresolved_since and not record.ended_at else record.state
        code = _code(record)
        ended_at = utc(record.ended_at) if record.ended_at else None
    return SignalRow(
        signal_id=str(text.signal_id),
        entry_id=entry.id,
        exchange=str(text.exchange),
        symbol=str(text.symbol),
        action=str(text.action),
        state=state,
        code=code,
        created_at=str(text.created_at),
        ended_at=ended_at,
    )


def _code(record: Record) -> str | None:
    try:
        outcome = _decode_event(record.outcome)
    except msgspec.MsgspecError:
        return None
    code = outcome.get("code")
    return str(code) if code else None


async def recent_orders(
    access: Access, count: int, *, wanted: Callable[[OrderRow], bool]
) -> list[OrderRow]:
    """Read the orders that the newest events are about, each as its last event tells it.

    Arguments and errors as :func:`recent_signals` has them.
    """
    found: dict[str, OrderRow] = {}
    async for entries in _pages(access, "orders"):
        for entry in entries:
            row = _order_row(entry)
            if row is not None:
                found[row.client_order_id] = _joined(found.get(row.client_order_id), row)
        if sum(1 for row in found.values() if wanted(row)) >= count:
            break
    return [row for row in found.values() if wanted(row)][:count]


async def live_orders(access: Access, *, wanted: Callable[[OrderRow], bool]) -> list[OrderRow]:
    """Read the orders that may be at an exchange now: those admitted and not ended.

    Raises:
        LedgerError: Redis cannot be asked.
    """
    rows = [_admitted_row(record) for record in await read_admitted(access)]
    return [row for row in rows if wanted(row)]


def _admitted_row(record: Record) -> OrderRow:
    try:
        plan = _decode_event(record.plan)
    except msgspec.MsgspecError:
        plan = {}
    signal, request = _part(plan, "signal"), _part(plan, "request")
    return OrderRow(
        client_order_id=str(request.get("client_order_id") or ""),
        exchange_order_id=None,
        signal_id=record.signal,
        role=_text(request.get("role")),
        parent=None,
        exchange=str(signal.get("exchange") or ""),
        symbol=str(request.get("symbol") or signal.get("symbol") or ""),
        side=_text(request.get("side")),
        order_type=_text(request.get("order_type")),
        price=_text(request.get("price")),
        stop_price=_text(request.get("stop_price")),
        quantity=_text(request.get("quantity")),
        filled_quantity="0",
        average_price=None,
        state="UNRESOLVED" if record.unresolved_since else "PENDING",
        placed_at=None,
        ends_at=None,
    )


def _part(plan: dict[str, Any], name: str) -> dict[str, Any]:
    part = plan.get(name)
    return part if isinstance(part, dict) else {}


def _order_row(entry: StreamEntry) -> OrderRow | None:
    """Return the order as one event tells it; None for an event about no order."""
    kind = entry.text("type")
    try:
        data = _decode_event(entry.fields.get("data", b""))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    order_id = data.get("client_order_id")
    if kind not in _STATES or not order_id:
        return None
    return OrderRow(
        client_order_id=str(order_id),
        exchange_order_id=_text(data.get("exchange_order_id")),
        signal_id=str(data.get("signal_id") or ""),
        role=_text(data.get("role")),
        parent=_text(data.get("parent")),
        exchange=str(data.get("exchange") or ""),
        symbol=str(data.get("symbol") or ""),
        side=_text(data.get("side")),
        order_type=_text(data.get("order_type")),
        price=_text(data.get("price")),
        stop_price=_text(data.get("stop_price")),
        quantity=_text(data.get("quantity")),
        filled_quantity=str(data.get("filled_quantity") or "0"),
        average_price=_text(data.get("average_price")),
        state=_STATES[kind],
        placed_at=utc(split_id(entry.id)[0]) if kind == "OrderPlaced" else None,
        ends_at=None,
    )


def _joined(later: OrderRow | None, earlier: OrderRow) -> OrderRow:
    """Fill what a later event of the same order does not tell from an earlier one."""
    if later is None:
        return earlier
    fields = {
        name: getattr(later, name) if getattr(later, name) is not None else getattr(earlier, name)
        for name in OrderRow.__struct_fields__
    }
    return OrderRow(**fields)


def _text(value: Any) -> str | None:
    return None if value is None or value == "" else str(value)


async def _pages(access: Access, stream: str) -> AsyncIterator[Sequence[StreamEntry]]:
    """Yield the newest entries of a stream in pages, newest first, ``MAX_READ`` at most."""
    end, read = "+", 0
    while read < MAX_READ:
        rows = await access.ask_one("XREVRANGE", access.key(stream), end, "-", "COUNT", PAGE)
        entries = entries_of(stream, rows)
        if entries:
            yield entries
            end = "(" + entries[-1].id
        read += PAGE
        if len(rows or ()) < PAGE:
            return
