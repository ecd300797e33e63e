"""Reads for operators: a snapshot of an account, its book, one position, one record."""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

import msgspec

from worker.domain.money import tidy
from worker.domain.position import Position
from worker.domain.position_json import read_position
from worker.domain.position_key import PositionKey
from worker.ledger.access import Access, value_of
from worker.ledger.errors import LedgerUnavailableError
from worker.ledger.limit_rows import RATE
from worker.ledger.limits import WINDOW_MS
from worker.ledger.published import (
    Heartbeat,
    StoredControl,
    StoredSheet,
    control_of_hash,
    heartbeats_of,
    read_ahead,
    sheet_of,
    text_of,
    unix_ms,
)
from worker.ledger.replies import Book, printable_group, read_book
from worker.ledger.stored import Record, Reservation, decode_entry, decode_record, read_book_row
from worker.ledger.wire import Argument

GROUP: Final = "execution"
#: Unresolved orders listed by name; more are only counted.
MAX_LISTED: Final = 20
#: Undelivered entries counted one by one where the server no longer knows how many there are.
MAX_COUNTED: Final = 5_000
#: The length of the days by which the ledger counts, milliseconds.
DAY_MS: Final = 86_400_000


class Backlog(msgspec.Struct, frozen=True, kw_only=True):
    """The signals stream and its consumer group.

    ``lag`` counts entries no worker has seen, None where that cannot be known; ``pending`` those
    seen and not finished. The ids are of the oldest entry of each kind, None for none.
    """

    group_exists: bool
    length: int
    lag: int | None
    oldest_unseen: str | None
    pending: int
    oldest_pending: str | None


class UnresolvedOrder(msgspec.Struct, frozen=True, kw_only=True):
    """An order whose outcome is unknown since a time (Unix ms, 0 where its record is lost)."""

    entry_id: str
    signal_id: str
    exchange: str
    symbol: str
    unresolved_since_ms: int


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """An account at one moment (``at_ms``, Redis time, Unix milliseconds).

    ``leased`` entries are with a worker now; ``waiting`` ones stand behind others of their group.
    Most of them wait in ``fullest_group``: ``fullest_waiting`` openings, or so many others.
    Of the unresolved orders ``MAX_LISTED`` are listed. Amounts are by currency. ``ahead_ms`` says
    of each stream by how much its last id is ahead of Redis's clock; ``dead_letters_trimmed``
    counts the letters that were removed within a day for want of room.
    """

    at_ms: int
    control: StoredControl
    heartbeats: dict[str, Heartbeat]
    keeper: str | None
    backlog: Backlog
    leased: int
    waiting: int
    fullest_group: str
    fullest_waiting: int
    unresolved_count: int
    unresolved: tuple[UnresolvedOrder, ...]
    open_positions: int
    opening: int
    closing: int
    exposure: dict[str, Decimal]
    realized: dict[str, Decimal]
    dead_letters: int
    dead_letters_trimmed: int
    ahead_ms: dict[str, int]
    throttled_until_ms: dict[str, int]
    sheet: StoredSheet | None
    realized_today: dict[str, Decimal]
    entries_last_minute: int
    oldest_entry_ms: int | None

    @property
    def taken_positions(self) -> int:
        """The number of positions held or being opened."""
        return self.open_positions + self.opening


class StoredPosition(msgspec.Struct, frozen=True, kw_only=True):
    """A position, and the text of it in the book, which a correction must still find there."""

    key: PositionKey
    position: Position
    raw: bytes


async def read_snapshot(access: Access) -> Snapshot:
    """Read an account in nine round trips; the first reads all but the streams' details at once.

    Raises:
        LedgerError: Redis cannot be asked, or refuses.
    """
    commands = _commands(access)
    replies = await access.ask(*commands.values())
    found = dict(zip(commands, map(value_of, replies), strict=True))
    at_ms = unix_ms(found["time"])
    backlog = await _backlog(access, found)
    rate, since_ms = access.key(RATE), at_ms - WINDOW_MS + 1
    day, count, oldest = await access.ask(
        ("HGETALL", access.key(f"day:{at_ms // DAY_MS}")),
        ("ZCOUNT", rate, since_ms, "+inf"),
        ("ZRANGE", rate, since_ms, "+inf", "BYSCORE", "LIMIT", 0, 1, "WITHSCORES"),
    )
    rows = [read_book_row(raw) for raw in (found["book"] or {}).values()]
    fullest = _flat(found["fullest"] or []) or [b"", 0]
    unleased = found["unresolved"] - found["leased_unresolved"]
    return Snapshot(
        at_ms=at_ms,
        control=control_of_hash(found["control"] or {}),
        heartbeats=heartbeats_of(found["workers"] or {}),
        keeper=text_of(found["keeper"]) if found["keeper"] else None,
        backlog=backlog,
        leased=found["leases"],
        waiting=max(backlog.pending - found["leases"] - unleased, 0),
        fullest_group=printable_group(fullest[0].lstrip(b"-").removeprefix(b":")),
        fullest_waiting=int(fullest[1]),
        unresolved_count=found["unresolved"],
        unresolved=await _unresolved(access, found["listed"] or []),
        open_positions=sum(bool(row.position) for row in rows),
        opening=sum(row.reservation is Reservation.OPENING for row in rows),
        closing=sum(row.reservation is Reservation.CLOSING for row in rows),
        exposure=_amounts(found["exposure"]),
        realized=_amounts(found["realized"]),
        dead_letters=found["dead"],
        dead_letters_trimmed=int(found["trimmed"] or 0),
        ahead_ms=await read_ahead(access),
        throttled_until_ms={
            text_of(name): int(until) for name, until in sorted((found["throttle"] or {}).items())
        },
        sheet=sheet_of(found["sheet"]),
        realized_today=_amounts(value_of(day) or {}),
        entries_last_minute=int(value_of(count)),
        oldest_entry_ms=next(map(int, _flat(value_of(oldest))[1::2]), None),
    )


async def read_positions(access: Access) -> Book:
    """Read the book: the open positions by key, and the keys a signal is changing now.

    Raises:
        LedgerError: Redis cannot be asked, or refuses.
    """
    return read_book(await access.ask_one("HGETALL", access.key("book")))


async def find_position(access: Access, key: PositionKey) -> StoredPosition | None:
    """Read one position; None if the account holds none under ``key``.

    Raises:
        LedgerError: Redis cannot be asked, or refuses.
    """
    return stored_position(key, await access.ask_one("HGET", access.key("book"), key))


def stored_position(key: PositionKey, row: bytes | None) -> StoredPosition | None:
    """Read a row of the book; None if it has no position."""
    raw = read_book_row(row).position if row else b""
    return StoredPosition(key=key, position=read_position(raw), raw=raw) if raw else None


async def find_record(access: Access, signal_id: str) -> Record | None:
    """Read a signal's execution record; None if there is none, or it has expired.

    Raises:
        LedgerError: Redis cannot be asked, or refuses.
    """
    raw = await access.ask_one("GET", _record_key(access, signal_id))
    return decode_record(raw) if raw else None


async def read_seat_holder(access: Access, key_digest: str) -> str:
    """Read who holds the first seat at an API key (lua/seat.lua); empty if nobody does now.

    Raises:
        LedgerError: Redis cannot be asked, or refuses.
    """
    seats = access.key(f"key:{key_digest}")
    replies = await access.ask(("TIME",), ("HGET", seats, 0), atomic=False)
    time, seat = map(value_of, replies)
    ends_ms, _, holder = (seat or b"0 ").partition(b" ")
    return text_of(holder) if int(ends_ms) > unix_ms(time) else ""


async def find_records(access: Access, signal_ids: Sequence[str]) -> list[Record | None]:
    """Read the records of signals in one round trip; None where there is none.

    Raises:
        LedgerError: Redis cannot be asked, or refuses.
    """
    replies = await access.ask(*(("GET", _record_key(access, one)) for one in signal_ids))
    return [decode_record(raw) if raw else None for raw in map(value_of, replies)]


async def read_admitted(access: Access) -> list[Record]:
    """Read the record of every signal that was admitted and has not ended.

    Raises:
        LedgerError: Redis cannot be asked, or refuses.
    """
    stored = await access.ask_one("HGETALL", access.key("entries")) or {}
    # The hash also names the last entry of each group; a group's name is no entry's id.
    rows = [decode_entry(raw) for name, raw in stored.items() if name[:1].isdigit()]
    records = await find_records(access, [row.signal for row in rows if row.signal])
    return [one for one in records if one is not None and not one.ended_at]


def _record_key(access: Access, signal_id: str) -> str:
    return access.key(f"record:{signal_id}")


def _commands(access: Access) -> dict[str, tuple[Argument, ...]]:
    key = access.key
    signals, leases, unresolved = key("signals"), key("leases"), key("unresolved")
    return {
        "time": ("TIME",),
        "control": ("HGETALL", key("control")),
        "workers": ("HGETALL", key("workers")),
        "keeper": ("GET", key("keeper")),
        "length": ("XLEN", signals),
        "groups": ("XINFO GROUPS", signals),
        "pending": ("XPENDING", signals, GROUP),
        "leases": ("ZCARD", leases),
        "unresolved": ("ZCARD", unresolved),
        "leased_unresolved": ("ZINTERCARD", 2, leases, unresolved),
        "fullest": ("ZRANGE", key("lines"), 0, 0, "REV", "WITHSCORES"),
        "listed": ("ZRANGE", unresolved, 0, MAX_LISTED - 1),
        "book": ("HGETALL", key("book")),
        "exposure": ("HGETALL", key("totals")),
        "realized": ("HGETALL", key("realized")),
        "dead": ("XLEN", key("dead")),
        "trimmed": ("HGET", key("letters-trimmed"), "letters"),
        "throttle": ("HGETALL", key("throttle")),
        "sheet": ("GET", key("sheet")),
    }


def _flat(rows: list[Any]) -> list[Any]:
    """Return members and scores in turn: the library pairs them, or not."""
    return [part for row in rows for part in (row if isinstance(row, list | tuple) else (row,))]


def _amounts(raw: Mapping[bytes, bytes]) -> dict[str, Decimal]:
    """Read amounts by currency, stored in millionths."""
    return {
        text_of(currency): tidy(Decimal(int(amount)) / 1_000_000)
        for currency, amount in sorted(raw.items())
    }


async def _backlog(access: Access, found: Mapping[str, Any]) -> Backlog:
    """Read the consumer group, and the entries it has not delivered.

    The server forgets their number once an entry in the middle was deleted; then they are counted.
    That and the oldest one's age need their bodies: both are unknown if those cannot be sent.
    """
    group = next((g for g in found["groups"] or () if g["name"] == GROUP.encode()), None)
    last = group["last-delivered-id"] if group is not None else b"0-0"
    lag = group["lag"] if group is not None else found["length"]
    limit = 1 if lag is not None else MAX_COUNTED + 1
    after = ("XRANGE", access.key("signals"), b"(" + last, "+", "COUNT", limit)
    try:
        rows = await access.ask_one(*after) if lag != 0 else None
    except LedgerUnavailableError:  # one of them may be too large to be sent
        rows = None
    is_read, rows = rows is not None, rows or []
    if lag is None and is_read and len(rows) <= MAX_COUNTED:
        lag = len(rows)
    pending = found["pending"] or {}
    oldest = pending.get("min")
    return Backlog(
        group_exists=group is not None,
        length=found["length"],
        lag=lag,
        oldest_unseen=text_of(rows[0][0]) if rows else None,
        pending=pending.get("pending", 0),
        oldest_pending=text_of(oldest) if oldest else None,
    )


class _Market(msgspec.Struct, frozen=True):
    exchange: str = ""
    symbol: str = ""


class _StoredSignal(msgspec.Struct, frozen=True):
    """The part of a stored plan that names its market."""

    signal: _Market = _Market()


async def _unresolved(access: Access, entries: list[bytes]) -> tuple[UnresolvedOrder, ...]:
    names = [text_of(entry) for entry in entries]
    if not names:
        return ()
    stored = await access.ask_one("HMGET", access.key("entries"), *names)
    signals = [decode_entry(raw).signal if raw else "" for raw in stored]
    replies = await access.ask(*(("GET", _record_key(access, signal)) for signal in signals))
    orders = []
    for entry_id, signal_id, raw in zip(names, signals, map(value_of, replies), strict=True):
        record = decode_record(raw) if raw else None
        market = _market_of(record)
        orders.append(
            UnresolvedOrder(
                entry_id=entry_id,
                signal_id=signal_id,
                exchange=market.exchange,
                symbol=market.symbol,
                unresolved_since_ms=record.unresolved_since if record else 0,
            )
        )
    return tuple(orders)


def _market_of(record: Record | None) -> _Market:
    try:
        return msgspec.json.decode(record.plan if record else "", type=_StoredSignal).signal
    except msgspec.MsgspecError:
        return _Market()
