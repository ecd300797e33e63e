"""How an account is doing, read from Redis in three round trips, and what of it needs a person."""

from datetime import datetime
from decimal import Decimal
from typing import Any, Final

import msgspec

from worker.domain.money import tidy
from worker.domain.trading_state import TradingState
from worker.ledger.access import Access, Part, split_id
from worker.ledger.errors import GroupMissingError, translate
from worker.ledger.stored import decode_entry, decode_record, read_place
from worker.runtime.clock import utc

GROUP: Final = "execution"
#: Unresolved orders listed by name; more are only counted.
MAX_LISTED: Final = 20
#: Undelivered entries counted one by one where the server no longer knows how many there are.
MAX_COUNTED: Final = 5_000
#: Work that is older than this without an outcome is worth a look.
OLD_MS: Final = 60_000


class WorkerView(msgspec.Struct, frozen=True, kw_only=True):
    """One worker as its last heartbeat left it; ``silent_ms`` ago, by Redis time."""

    name: str
    alive: bool
    silent_ms: int
    status: dict[str, Any]


class UnresolvedView(msgspec.Struct, frozen=True, kw_only=True):
    """An order nobody knows the outcome of yet; its symbol waits for it."""

    entry_id: str
    signal_id: str
    exchange: str
    symbol: str
    since: datetime | None
    age_ms: int | None


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """An account at one moment (``at``, Redis time).

    ``lag`` is how many signals no worker has seen, None where that cannot be known; ``pending``
    how many a worker has seen and not finished, of which ``in_flight`` are leased to a worker now
    and ``waiting`` stand behind others of their group. Ages are milliseconds, None for none.
    """

    account: str
    at: datetime
    trading_state: TradingState
    reason: str
    actor: str
    changed_at: str
    workers: tuple[WorkerView, ...]
    keeper: str | None
    group_exists: bool
    stream_length: int
    lag: int | None
    pending: int
    in_flight: int
    waiting: int
    oldest_pending_age_ms: int | None
    oldest_unseen_age_ms: int | None
    unresolved_count: int
    unresolved: tuple[UnresolvedView, ...]
    open_positions: int
    opening: int
    closing: int
    exposure: dict[str, Decimal]
    realized: dict[str, Decimal]
    dead_letters: int
    throttled_ms: dict[str, int]

    @property
    def workers_alive(self) -> int:
        """How many workers were heard from lately."""
        return sum(worker.alive for worker in self.workers)


class _SymbolOf(msgspec.Struct, frozen=True):
    exchange: str = ""
    symbol: str = ""


class _IntentOf(msgspec.Struct, frozen=True):
    """As much of a stored intent as is shown."""

    signal: _SymbolOf = _SymbolOf()


async def read_status(access: Access, *, silent_after_ms: int) -> Status:
    """Read an account's status.

    Args:
        access: the account.
        silent_after_ms: a worker not heard from in this long does not count as alive.

    Raises:
        LedgerError: Redis cannot be asked, or refuses.
    """
    key = access.key
    signals = key("signals")
    commands: dict[str, tuple[Part, ...]] = {
        "time": ("TIME",),
        "control": ("HGETALL", key("control")),
        "workers": ("HGETALL", key("workers")),
        "keeper": ("GET", key("keeper")),
        "length": ("XLEN", signals),
        "groups": ("XINFO GROUPS", signals),
        "pending": ("XPENDING", signals, GROUP),
        "leases": ("ZCARD", key("leases")),
        "unresolved": ("ZCARD", key("unresolved")),
        "looked_up": ("ZINTERCARD", 2, key("leases"), key("unresolved")),
        "listed": ("ZRANGE", key("unresolved"), 0, MAX_LISTED - 1),
        "book": ("HGETALL", key("book")),
        "exposure": ("HGETALL", key("totals")),
        "realized": ("HGETALL", key("realized")),
        "dead": ("XLEN", key("dead")),
        "throttle": ("HGETALL", key("throttle")),
    }
    replies = await access.ask(*commands.values())
    found = dict(zip(commands, map(_value, replies), strict=True))
    seconds, micros = found["time"]
    at_ms = int(seconds) * 1000 + int(micros) // 1000
    control = {name.decode(): value.decode() for name, value in (found["control"] or {}).items()}
    group = next((g for g in found["groups"] or () if g["name"] == GROUP.encode()), None)
    pending = (found["pending"] or {}).get("pending", 0)
    oldest = (found["pending"] or {}).get("min")
    lag, oldest_unseen = await _unseen(access, group, found["length"])
    places = [read_place(raw) for raw in (found["book"] or {}).values()]
    idle_unresolved = found["unresolved"] - found["looked_up"]
    return Status(
        account=access.account,
        at=utc(at_ms),
        trading_state=TradingState.read(control.get("trading_state", "ACTIVE").encode()),
        reason=control.get("reason", ""),
        actor=control.get("actor", ""),
        changed_at=control.get("at", ""),
        workers=tuple(
            _worker(name.decode(), raw, at_ms, silent_after_ms)
            for name, raw in sorted((found["workers"] or {}).items())
        ),
        keeper=found["keeper"].decode() if found["keeper"] else None,
        group_exists=group is not None,
        stream_length=found["length"],
        lag=lag,
        pending=pending,
        in_flight=found["leases"],
        waiting=max(pending - found["leases"] - idle_unresolved, 0),
        oldest_pending_age_ms=_age(oldest, at_ms),
        oldest_unseen_age_ms=_age(oldest_unseen, at_ms),
        unresolved_count=found["unresolved"],
        unresolved=await _unresolved(access, found["listed"] or [], at_ms),
        open_positions=sum(bool(place.position) for place in places),
        opening=sum(place.busy == "opening" for place in places),
        closing=sum(place.busy == "closing" for place in places),
        exposure=_amounts(found["exposure"]),
        realized=_amounts(found["realized"]),
        dead_letters=found["dead"],
        throttled_ms={
            name.decode(): int(until) - at_ms
            for name, until in sorted((found["throttle"] or {}).items())
            if int(until) > at_ms
        },
    )


def _value(reply: Any) -> Any:
    """A reply, None where the stream or group asked about does not exist.

    Raises:
        LedgerError: the server answered with any other error.
    """
    if not isinstance(reply, Exception):
        return reply
    error = translate(reply)
    if isinstance(error, GroupMissingError):
        return None
    raise error


def _amounts(raw: dict[bytes, bytes]) -> dict[str, Decimal]:
    """Amounts by currency, from millionths."""
    return {
        currency.decode(): tidy(Decimal(int(amount)) / 1_000_000)
        for currency, amount in sorted(raw.items())
    }


def _age(entry_id: bytes | None, at_ms: int) -> int | None:
    return None if not entry_id else max(at_ms - split_id(entry_id.decode())[0], 0)


def _worker(name: str, raw: bytes, at_ms: int, silent_after_ms: int) -> WorkerView:
    beat_ms, _, data = raw.partition(b" ")
    silent_ms = max(at_ms - int(beat_ms), 0)
    try:
        status = msgspec.json.decode(data, type=dict[str, Any])
    except msgspec.MsgspecError:
        status = {}
    return WorkerView(
        name=name, alive=silent_ms <= silent_after_ms, silent_ms=silent_ms, status=status
    )


async def _unseen(
    access: Access, group: dict[str, Any] | None, length: int
) -> tuple[int | None, bytes | None]:
    """How many entries no worker was given yet, and the oldest of them.

    The server forgets the number once an entry in the middle was deleted; then they are counted.
    """
    last = group["last-delivered-id"] if group is not None else b"0-0"
    known = group["lag"] if group is not None else length
    wanted = 1 if known is not None else MAX_COUNTED + 1
    (rows,) = await access.ask(("XRANGE", access.key("signals"), b"(" + last, "+", "COUNT", wanted))
    rows = _value(rows) or []
    if known is None and len(rows) <= MAX_COUNTED:
        known = len(rows)
    return known, rows[0][0] if rows else None


async def _unresolved(
    access: Access, entries: list[bytes], at_ms: int
) -> tuple[UnresolvedView, ...]:
    names = [entry.decode() for entry in entries]
    if not names:
        return ()
    (found,) = await access.ask(("HMGET", access.key("entries"), *names))
    signals = [decode_entry(raw).signal if raw else "" for raw in _value(found)]
    keys = [access.key(f"record:{signal}") for signal in signals]
    records = await access.ask(*(("GET", key) for key in keys))
    views = []
    for entry, signal, raw in zip(names, signals, map(_value, records), strict=True):
        record = decode_record(raw) if raw else None
        since = record.unresolved_since if record else 0
        shown = symbol_of(record.intent if record else "")
        views.append(
            UnresolvedView(
                entry_id=entry,
                signal_id=signal,
                exchange=shown.exchange,
                symbol=shown.symbol,
                since=utc(since) if since else None,
                age_ms=max(at_ms - since, 0) if since else None,
            )
        )
    return tuple(views)


def symbol_of(intent: str) -> _SymbolOf:
    """Exchange and symbol of a stored intent; empty where it is none."""
    try:
        return msgspec.json.decode(intent, type=_IntentOf).signal
    except msgspec.MsgspecError:
        return _SymbolOf()


def needs_attention(status: Status) -> list[str]:
    """What a person should look at, the gravest first; empty on a good day."""
    found: list[str] = []
    if status.trading_state is not TradingState.ACTIVE:
        why = f": {status.reason}" if status.reason else ""
        found.append(f"trading is {status.trading_state}{why}")
    found += [
        f"order of {one.signal_id} ({one.exchange} {one.symbol}) is unresolved"
        + (f" for {one.age_ms // 1000} s" if one.age_ms is not None else "")
        for one in status.unresolved
    ]
    if status.unresolved_count > len(status.unresolved):
        more = status.unresolved_count - len(status.unresolved)
        found.append(f"{more} more orders are unresolved")
    work = status.pending + (status.lag if status.lag is not None else status.stream_length)
    if not status.workers_alive and work:
        found.append(f"no worker is alive and {work} signals wait")
    found += [
        f"worker {worker.name} has been silent for {worker.silent_ms // 1000} s"
        for worker in status.workers
        if not worker.alive
    ]
    if status.workers_alive and status.keeper is None:
        found.append("the account has no keeper: nobody looks unresolved orders up")
    if not status.group_exists and status.stream_length:
        found.append("the consumer group is missing; a running worker creates it again")
    for what, age_ms in (
        ("seen", status.oldest_pending_age_ms),
        ("unseen", status.oldest_unseen_age_ms),
    ):
        if age_ms is not None and age_ms > OLD_MS and not status.unresolved_count:
            found.append(f"the oldest {what} signal without an outcome is {age_ms // 1000} s old")
    found += [
        f"nothing is sent to {exchange} for another {ms // 1000 + 1} s: it asked us to slow down"
        for exchange, ms in status.throttled_ms.items()
    ]
    if status.dead_letters:
        plural = "s" if status.dead_letters > 1 else ""
        found.append(f"{status.dead_letters} dead letter{plural}: see execution-worker dead list")
    return found
