"""Reads for operators: a snapshot of an account, its book, one position, one record."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

import msgspec

from worker.domain.money import tidy
from worker.domain.position import Position
from worker.domain.position_key import PositionKey
from worker.domain.trading_state import TradingState
from worker.ledger.access import Access
from worker.ledger.errors import GroupMissingError, translate
from worker.ledger.replies import Book, read_book
from worker.ledger.stored import Record, Reservation, decode_entry, decode_record, read_book_row
from worker.ledger.wire import Argument

GROUP: Final = "execution"
#: Unresolved orders listed by name; more are only counted.
MAX_LISTED: Final = 20
#: Undelivered entries counted one by one where the server no longer knows how many there are.
MAX_COUNTED: Final = 5_000
_decode_position: Final = msgspec.json.Decoder(Position).decode


class Control(msgspec.Struct, frozen=True, kw_only=True):
    """The trading state, and who set it, why and when (RFC 3339, as written)."""

    trading_state: TradingState
    reason: str
    actor: str
    changed_at: str


class Heartbeat(msgspec.Struct, frozen=True, kw_only=True):
    """A worker's last heartbeat, at ``at_ms`` (Redis time, Unix ms), and the status in it."""

    at_ms: int
    status: dict[str, Any]


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
    Of the unresolved orders ``MAX_LISTED`` are listed. Amounts are by currency.
    """

    at_ms: int
    control: Control
    heartbeats: dict[str, Heartbeat]
    keeper: str | None
    backlog: Backlog
    leased: int
    waiting: int
    unresolved_count: int
    unresolved: tuple[UnresolvedOrder, ...]
    open_positions: int
    opening: int
    closing: int
    exposure: dict[str, Decimal]
    realized: dict[str, Decimal]
    dead_letters: int
    throttled_until_ms: dict[str, int]


class StoredPosition(msgspec.Struct, frozen=True, kw_only=True):
    """A position, and the text of it in the book, which a correction must still find there."""

    key: PositionKey
    position: Position
    raw: bytes


async def read_snapshot(access: Access) -> Snapshot:
    """Read an account in three round trips; the first reads all but the streams' details at once.

    Raises:
        LedgerError: Redis cannot be asked, or refuses.
    """
    commands = _commands(access)
    replies = await access.ask(*commands.values())
    found = dict(zip(commands, map(_value, replies), strict=True))
    backlog = await _backlog(access, found)
    rows = [read_book_row(raw) for raw in (found["book"] or {}).values()]
    unleased = found["unresolved"] - found["leased_unresolved"]
    return Snapshot(
        at_ms=_unix_ms(found["time"]),
        control=_control(found["control"] or {}),
        heartbeats=_heartbeats(found["workers"] or {}),
        keeper=_text(found["keeper"]) if found["keeper"] else None,
        backlog=backlog,
        leased=found["leases"],
        waiting=max(backlog.pending - found["leases"] - unleased, 0),
        unresolved_count=found["unresolved"],
        unresolved=await _unresolved(access, found["listed"] or []),
        open_positions=sum(bool(row.position) for row in rows),
        opening=sum(row.reservation is Reservation.OPENING for row in rows),
        closing=sum(row.reservation is Reservation.CLOSING for row in rows),
        exposure=_amounts(found["exposure"]),
        realized=_amounts(found["realized"]),
        dead_letters=found["dead"],
        throttled_until_ms={
            _text(name): int(until) for name, until in sorted((found["throttle"] or {}).items())
        },
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
    place = await access.ask_one("HGET", access.key("book"), key)
    raw = read_book_row(place).position if place else b""
    return StoredPosition(key=key, position=_decode_position(raw), raw=raw) if raw else None


async def read_trading_state(access: Access) -> TradingState:
    """Read the trading state, ``ACTIVE`` where none was ever set.

    Raises:
        LedgerError: Redis cannot be asked, or refuses.
    """
    raw = await access.ask_one("HGET", access.key("control"), "trading_state")
    return TradingState.read(raw) if raw is not None else TradingState.ACTIVE


async def find_record(access: Access, signal_id: str) -> Record | None:
    """Read a signal's execution record; None if there is none, or it has expired.

    Raises:
        LedgerError: Redis cannot be asked, or refuses.
    """
    raw = await access.ask_one("GET", _record_key(access, signal_id))
    return decode_record(raw) if raw else None


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
        "listed": ("ZRANGE", unresolved, 0, MAX_LISTED - 1),
        "book": ("HGETALL", key("book")),
        "exposure": ("HGETALL", key("totals")),
        "realized": ("HGETALL", key("realized")),
        "dead": ("XLEN", key("dead")),
        "throttle": ("HGETALL", key("throttle")),
    }


def _value(reply: Any) -> Any:
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


def _text(raw: bytes) -> str:
    """Return what anybody with a password may have written."""
    return raw.decode(errors="replace")


def _unix_ms(time: tuple[int, int]) -> int:
    seconds, micros = time
    return int(seconds) * 1000 + int(micros) // 1000


def _control(raw: Mapping[bytes, bytes]) -> Control:
    return Control(
        trading_state=TradingState.read(raw.get(b"trading_state", b"ACTIVE")),
        reason=_text(raw.get(b"reason", b"")),
        actor=_text(raw.get(b"actor", b"")),
        changed_at=_text(raw.get(b"at", b"")),
    )


def _heartbeats(raw: Mapping[bytes, bytes]) -> dict[str, Heartbeat]:
    """Read ``<Unix ms> <status as JSON>`` of each worker, by name."""
    heartbeats = {}
    for name, beat in sorted(raw.items()):
        at_ms, _, data = beat.partition(b" ")
        try:
            status = msgspec.json.decode(data, type=dict[str, Any])
        except msgspec.MsgspecError:
            status = {}
        heartbeats[_text(name)] = Heartbeat(at_ms=int(at_ms), status=status)
    return heartbeats


def _amounts(raw: Mapping[bytes, bytes]) -> dict[str, Decimal]:
    """Read amounts by currency, stored in millionths."""
    return {
        _text(currency): tidy(Decimal(int(amount)) / 1_000_000)
        for currency, amount in sorted(raw.items())
    }


async def _backlog(access: Access, found: Mapping[str, Any]) -> Backlog:
    """Read the consumer group, and the entries it has not delivered.

    The server forgets their number once an entry in the middle was deleted; then they are counted.
    """
    group = next((g for g in found["groups"] or () if g["name"] == GROUP.encode()), None)
    last = group["last-delivered-id"] if group is not None else b"0-0"
    lag = group["lag"] if group is not None else found["length"]
    limit = 1 if lag is not None else MAX_COUNTED + 1
    rows = await access.ask_one("XRANGE", access.key("signals"), b"(" + last, "+", "COUNT", limit)
    rows = rows or []
    if lag is None and len(rows) <= MAX_COUNTED:
        lag = len(rows)
    pending = found["pending"] or {}
    oldest = pending.get("min")
    return Backlog(
        group_exists=group is not None,
        length=found["length"],
        lag=lag,
        oldest_unseen=_text(rows[0][0]) if rows else None,
        pending=pending.get("pending", 0),
        oldest_pending=_text(oldest) if oldest else None,
    )


class _Market(msgspec.Struct, frozen=True):
    exchange: str = ""
    symbol: str = ""


class _StoredSignal(msgspec.Struct, frozen=True):
    """The part of a stored plan that names its market."""

    signal: _Market = _Market()


async def _unresolved(access: Access, entries: list[bytes]) -> tuple[UnresolvedOrder, ...]:
    names = [_text(entry) for entry in entries]
    if not names:
        return ()
    stored = await access.ask_one("HMGET", access.key("entries"), *names)
    signals = [decode_entry(raw).signal if raw else "" for raw in stored]
    replies = await access.ask(*(("GET", _record_key(access, signal)) for signal in signals))
    orders = []
    for entry_id, signal_id, raw in zip(names, signals, map(_value, replies), strict=True):
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
