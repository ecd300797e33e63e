"""The parts of an account's status that need an operator: a code each, gravest first."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec

from worker.domain.trading_asks import held_back, is_held
from worker.domain.trading_state import TradingState
from worker.operator.attention_codes import Attention, Code, Severity
from worker.operator.status import Status
from worker.runtime.counted import count_of

#: Signals older than this that have not ended need attention.
STUCK_MS: Final = 60_000
#: A comparison of the books older than this does: one is made every minute.
COMPARED_MS: Final = 180_000
#: So does a sheet older than this while something is open: one is published every 5 s.
SHEET_MS: Final = 30_000
#: A message group needs attention when so much of what may wait in it does.
FULL_PART: Final = 0.8
_BY_SEVERITY: Final = {severity: n for n, severity in enumerate(Severity)}
_BY_CODE: Final = {code: n for n, code in enumerate(Code)}


def needs_attention(status: Status) -> list[Attention]:
    """Return all that a person should look at, gravest first; empty if there is nothing."""
    found = [
        *_streams(status),
        *_nobody(status),
        *_trading(status),
        *_unresolved(status),
        *_workers(status),
        *_backlog(status),
        *_exchanges(status),
        *_sheet(status),
        *_limits(status),
        *_dead_letters(status),
    ]
    return sorted(found, key=lambda one: (_BY_SEVERITY[one.severity], _BY_CODE[one.code]))


def stale(status: Status, age_ms: int) -> Attention:
    """Return what to say of a status that could not be read again for ``age_ms``."""
    return Attention(
        code=Code.STALE,
        severity=Severity.CRITICAL,
        subject="redis",
        since=status.at,
        text=f"Redis does not answer: what stands here is {age_ms // 1000} s old",
    )


def _streams(status: Status) -> Iterator[Attention]:
    for stream, ahead_ms in status.streams_ahead_ms.items():
        yield Attention(
            code=Code.STREAM_AHEAD,
            severity=Severity.CRITICAL,
            subject=stream,
            text=stream_ahead(stream, ahead_ms),
            see="execution-worker mend-stream",
        )


def stream_ahead(stream: str, ahead_ms: int) -> str:
    """Return a sentence on a stream whose last id is ahead of Redis's clock."""
    days = ahead_ms // 86_400_000
    ahead = f"{days} days" if days > 1 else f"{ahead_ms // 1000} s"
    return (
        f"the last id of the stream {stream} is {ahead} ahead of Redis's clock: it may soon take "
        "nothing more, or does so already; mend it with execution-worker mend-stream"
    )


def _nobody(status: Status) -> Iterator[Attention]:
    """Nobody is there to work on the account."""
    at_stake = _at_stake(status)
    if not status.workers_alive:
        lately = min((one.silent_ms for one in status.workers), default=None)
        yield Attention(
            code=Code.NO_WORKER,
            severity=Severity.CRITICAL if at_stake else Severity.INFO,
            subject=status.account,
            since=None if lately is None else _ago(status, lately),
            count=0,
            text="no worker is alive" + (f" and {at_stake}" if at_stake else ""),
            see="execution-worker workers",
        )
    elif status.keeper is None:
        yield Attention(
            code=Code.NO_KEEPER,
            severity=Severity.CRITICAL if at_stake else Severity.WARNING,
            subject=status.account,
            count=0,
            text="the account has no keeper: nobody looks unresolved orders up or compares the "
            "books" + (f", and {at_stake}" if at_stake else ""),
            see="execution-worker workers",
        )


def _at_stake(status: Status) -> str:
    """Return in words what is open or waits; empty for nothing."""
    unseen = status.lag if status.lag is not None else status.stream_length
    counts = (
        (status.open_positions, "position is open", "positions are open"),
        (status.opening + status.closing, "order is under way", "orders are under way"),
        (status.unresolved_count, "order is unresolved", "orders are unresolved"),
        (status.pending + unseen, "signal waits", "signals wait"),
    )
    words = [f"{count} {one if count == 1 else many}" for count, one, many in counts if count]
    return ", ".join(words)


def _trading(status: Status) -> Iterator[Attention]:
    state = status.trading_state
    if state is not TradingState.ACTIVE:
        yield Attention(
            code=Code[state.value],
            severity=Severity.WARNING,
            subject=status.actor or status.account,
            since=_moment(status.changed_at),
            text=f"trading is {state}"
            + (f": {status.reason}" if status.reason else "")
            + _held_back(status),
        )
    missing = [
        one.name
        for one in status.workers
        if one.alive and not is_held(one.status.get("trading_state"), state)
    ]
    if missing:
        live = status.workers_alive
        yield Attention(
            code=Code.STATE_NOT_HELD,
            severity=Severity.WARNING if state is TradingState.ACTIVE else Severity.CRITICAL,
            subject=", ".join(missing),
            since=_moment(status.changed_at),
            count=len(missing),
            text=f"{live - len(missing)} of {count_of(live, 'worker')} "
            f"hold{'s' if live == 1 else ''} {state}; not {', '.join(missing)}",
            see="execution-worker workers",
        )


def _held_back(status: Status) -> str:
    """Return what persons and limits ask for in vain while a flatten runs; empty for nothing."""
    asked = [
        f"{one.state} of {one.asker}" + (f" ({'; '.join(one.reasons)})" if one.reasons else "")
        for one in held_back(status.asks)
    ]
    return f"; a flatten holds back {', '.join(asked)}" if asked else ""


def _unresolved(status: Status) -> Iterator[Attention]:
    for order in status.unresolved:
        age = f" for {order.age_ms // 1000} s" if order.age_ms is not None else ""
        market = f"{order.exchange} {order.symbol}"
        yield Attention(
            code=Code.ORDER_UNRESOLVED,
            severity=Severity.CRITICAL,
            subject=order.signal_id,
            since=order.since,
            text=f"order of {order.signal_id} ({market}) is unresolved{age}",
            see=f"execution-worker order {order.signal_id}",
        )
    more = status.unresolved_count - len(status.unresolved)
    if more > 0:
        yield Attention(
            code=Code.ORDER_UNRESOLVED,
            severity=Severity.CRITICAL,
            subject=status.account,
            count=more,
            text=f"{more} more orders are unresolved",
        )


def _workers(status: Status) -> Iterator[Attention]:
    for worker in status.workers:
        if not worker.alive:
            yield Attention(
                code=Code.WORKER_LOST,
                severity=Severity.WARNING,
                subject=worker.name,
                since=_ago(status, worker.silent_ms),
                text=f"worker {worker.name} has been silent for {worker.silent_ms // 1000} s",
                see="execution-worker workers",
            )
    live = [one for one in status.workers if one.alive]
    digests = {str(one.status["config_digest"]) for one in live if "config_digest" in one.status}
    if len(digests) > 1:
        yield Attention(
            code=Code.CONFIG_DIFFERS,
            severity=Severity.WARNING,
            subject=status.account,
            count=len(digests),
            text=f"the {len(live)} live workers have {len(digests)} different configurations",
            see="execution-worker workers",
        )


def _backlog(status: Status) -> Iterator[Attention]:
    if not status.group_exists and status.stream_length:
        yield Attention(
            code=Code.BACKLOG,
            severity=Severity.WARNING,
            subject="signals",
            count=status.stream_length,
            text="the consumer group is missing; a running worker creates it again",
        )
    fullest = status.fullest_group
    if fullest is not None and fullest.waiting >= FULL_PART * fullest.allowed:
        yield Attention(
            code=Code.BACKLOG,
            severity=Severity.WARNING,
            subject=fullest.name,
            count=fullest.waiting,
            text=f"{fullest.waiting} signals of message group {fullest.name} wait for each other; "
            f"of {fullest.allowed} on, openings end as GROUP_FULL",
        )
    if status.unresolved_count:
        return  # signals of a symbol wait for its unresolved order, which is reported already
    waiting = (
        ("seen", status.oldest_pending_age_ms, status.pending),
        ("unseen", status.oldest_unseen_age_ms, status.lag or 0),
    )
    for kind, age_ms, count in waiting:
        if age_ms is not None and age_ms > STUCK_MS:
            yield Attention(
                code=Code.BACKLOG,
                severity=Severity.WARNING,
                subject="signals",
                since=_ago(status, age_ms),
                count=max(count, 1),
                text=f"the oldest {kind} signal without an end is {age_ms // 1000} s old",
            )


def _exchanges(status: Status) -> Iterator[Attention]:
    for exchange, ms in status.throttled_ms.items():
        wait_s = ms // 1000 + 1
        yield Attention(
            code=Code.EXCHANGE_THROTTLED,
            severity=Severity.WARNING,
            subject=exchange,
            text=f"nothing is sent to {exchange} for another {wait_s} s: it asked us to slow down",
        )
    troubles: dict[tuple[str, str], list[str]] = {}
    for worker in status.workers:
        not_ready = worker.status.get("not_ready")
        if not worker.alive or not isinstance(not_ready, dict):
            continue
        for check, detail in not_ready.items():
            kind, _, exchange = str(check).partition(":")
            if kind in {"markets", "orders", "account"}:
                subject = exchange or str(detail).partition(":")[0]
                troubles.setdefault((subject, str(detail)), []).append(worker.name)
    for (exchange, detail), workers in troubles.items():
        yield Attention(
            code=Code.EXCHANGE_DOWN,
            severity=Severity.CRITICAL if _at_stake(status) else Severity.WARNING,
            subject=exchange,
            count=len(workers),
            text=f"{', '.join(workers)} cannot trade on {exchange}: {detail}",
            see="execution-worker check",
        )


def _sheet(status: Status) -> Iterator[Attention]:
    """The keeper's sheet is old, or tells of differences."""
    if status.differences:
        plural = "s" if status.differences > 1 else ""
        yield Attention(
            code=Code.POSITION_DRIFT,
            severity=Severity.CRITICAL,
            subject=status.account,
            count=status.differences,
            text=f"the book and the exchanges differ in {status.differences} place{plural}",
            see="execution-worker tail system",
        )
    if status.keeper is None:
        return  # said already
    compared_ms = status.compared_age_ms
    if compared_ms is not None and compared_ms > COMPARED_MS:
        yield Attention(
            code=Code.COMPARISON_OLD,
            severity=Severity.WARNING,
            subject=status.account,
            since=_ago(status, compared_ms),
            text=f"the book was last compared with every exchange {compared_ms // 60_000} min ago",
        )
    age_ms = status.sheet_age_ms
    if status.open_positions and age_ms is not None and age_ms > SHEET_MS:
        yield Attention(
            code=Code.STALE,
            severity=Severity.WARNING,
            subject="sheet",
            since=_ago(status, age_ms),
            text=f"wallets and marks are {age_ms // 1000} s old",
            see="execution-worker balance",
        )


def _limits(status: Status) -> Iterator[Attention]:
    for limit in status.limits:
        if limit.is_reached:
            yield Attention(
                code=Code.LIMIT_REACHED,
                severity=Severity.WARNING,
                subject=limit.name,
                text=f"{limit.name} is used up: {limit.used:f} of {limit.allowed:f} {limit.unit} "
                f"({limit.scope})",
                see="execution-worker limits",
            )


def _dead_letters(status: Status) -> Iterator[Attention]:
    count = status.dead_letters
    if count:
        yield Attention(
            code=Code.DEAD_LETTERS,
            severity=Severity.WARNING,
            subject="dead",
            count=count,
            text=f"{count} dead letter{'s' if count > 1 else ''}",
            see="execution-worker dead list",
        )
    trimmed = status.dead_letters_trimmed
    if trimmed:
        yield Attention(
            code=Code.DEAD_LETTERS,
            severity=Severity.WARNING,
            subject="trimmed",
            count=trimmed,
            text=f"{trimmed} of the oldest dead letters were removed within a day to keep "
            "redis.dead_max_length and redis.dead_max_bytes",
        )


def _ago(status: Status, ms: int) -> datetime:
    return status.at - timedelta(milliseconds=ms)


def _moment(text: Any) -> datetime | None:
    try:
        return msgspec.convert(text, datetime)
    except msgspec.MsgspecError:
        return None
