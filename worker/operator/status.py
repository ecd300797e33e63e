"""An account's status: the ledger's snapshot as ages, liveness and counts."""

from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from typing import Any

import msgspec

from worker.config.keys import Config
from worker.domain.trading_asks import Ask
from worker.domain.trading_state import TradingState
from worker.ledger.access import Access, split_id, value_of
from worker.ledger.errors import NotPermittedError
from worker.ledger.inspection import Snapshot, UnresolvedOrder, read_snapshot
from worker.ledger.limits import AHEAD_MS
from worker.ledger.published import Heartbeat, heartbeats_of, unix_ms
from worker.operator.limits import Limit, limits_of
from worker.runtime.clock import utc


class WorkerView(msgspec.Struct, frozen=True, kw_only=True):
    """One worker's last heartbeat, ``silent_ms`` ago by Redis time, and the status in it."""

    name: str
    alive: bool
    silent_ms: int
    status: dict[str, Any]


class UnresolvedView(msgspec.Struct, frozen=True, kw_only=True):
    """An order whose outcome is unknown; signals for its symbol wait."""

    entry_id: str
    signal_id: str
    exchange: str
    symbol: str
    since: datetime | None
    age_ms: int | None


class FullestGroup(msgspec.Struct, frozen=True, kw_only=True):
    """The message group where most signals wait, and how many are allowed to."""

    name: str
    waiting: int
    allowed: int


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """An account at one moment (``at``, Redis time).

    ``mode`` is that of the workers heard from lately, ``mixed`` where they differ, and the
    command's own where there is none. ``sheet_age_ms`` and ``compared_age_ms`` say how long ago the
    keeper published wallets and marks, and compared the book with every exchange; None for never.
    ``lag`` counts the signals no worker has seen, None where that cannot be known; ``pending``
    those seen and not finished, of which ``in_flight`` are leased to a worker now and ``waiting``
    stand behind others of their group: most in ``fullest_group``, None if none wait. Ages are
    milliseconds, None for none. ``streams_ahead_ms`` has the streams whose last id is too far ahead
    of Redis's clock; ``dead_letters_trimmed`` counts the letters removed for want of room within a
    day.
    """

    account: str
    mode: str
    at: datetime
    trading_state: TradingState
    reason: str
    actor: str
    changed_at: str
    asks: tuple[Ask, ...]
    workers: tuple[WorkerView, ...]
    keeper: str | None
    group_exists: bool
    stream_length: int
    lag: int | None
    pending: int
    in_flight: int
    waiting: int
    fullest_group: FullestGroup | None
    oldest_pending_age_ms: int | None
    oldest_unseen_age_ms: int | None
    unresolved_count: int
    unresolved: tuple[UnresolvedView, ...]
    open_positions: int
    opening: int
    closing: int
    exposure: dict[str, Decimal]
    realized: dict[str, Decimal]
    realized_today: dict[str, Decimal]
    dead_letters: int
    dead_letters_trimmed: int
    streams_ahead_ms: dict[str, int]
    throttled_ms: dict[str, int]
    sheet_age_ms: int | None
    compared_age_ms: int | None
    differences: int
    limits: tuple[Limit, ...]

    @property
    def workers_alive(self) -> int:
        """The number of workers heard from lately."""
        return sum(worker.alive for worker in self.workers)


async def read_status(access: Access, config: Config) -> Status:
    """Read an account's status.

    Args:
        access: the account.
        config: says when a worker counts as silent (``worker.lease_seconds``), and what no worker
            is there to say: mode and limits.

    Raises:
        LedgerError: Redis cannot be asked, or refuses.
    """
    return status_of(access.account, await read_snapshot(access), config)


async def read_mode(access: Access, config: Config) -> str:
    """Read whether an account is ``paper``, ``live`` or ``mixed``, as its status has it.

    Whom Redis does not let read the heartbeats sees the command's own mode.

    Raises:
        LedgerError: Redis cannot be asked.
    """
    try:
        now, reply = await access.ask(("TIME",), ("HGETALL", access.key("workers")), atomic=False)
        at_ms, beats = unix_ms(value_of(now)), heartbeats_of(value_of(reply) or {})
    except NotPermittedError:
        return config.mode
    silent_after_ms = int(config.worker.lease_seconds * 1000)
    workers = [_worker(name, beat, at_ms, silent_after_ms) for name, beat in beats.items()]
    return _mode(workers, config.mode)


def status_of(account: str, snapshot: Snapshot, config: Config) -> Status:
    """Return the status of an account from its snapshot; arguments as :func:`read_status` has."""
    at_ms, control, backlog = snapshot.at_ms, snapshot.control.control, snapshot.backlog
    silent_after_ms = int(config.worker.lease_seconds * 1000)
    stored = snapshot.sheet
    workers = tuple(
        _worker(name, heartbeat, at_ms, silent_after_ms)
        for name, heartbeat in snapshot.heartbeats.items()
    )
    sheet_age_ms = max(at_ms - stored.at_ms, 0) if stored else None
    compared_ms = stored.sheet.compared_ms if stored else None
    return Status(
        account=account,
        mode=_mode(workers, config.mode),
        at=utc(at_ms),
        trading_state=control.trading_state,
        reason=control.reason,
        actor=control.actor,
        changed_at=control.changed_at,
        asks=snapshot.control.asks,
        workers=workers,
        keeper=snapshot.keeper,
        group_exists=backlog.group_exists,
        stream_length=backlog.length,
        lag=backlog.lag,
        pending=backlog.pending,
        in_flight=snapshot.leased,
        waiting=snapshot.waiting,
        fullest_group=FullestGroup(
            name=snapshot.fullest_group,
            waiting=snapshot.fullest_waiting,
            allowed=config.worker.max_group_waiting,
        )
        if snapshot.fullest_waiting
        else None,
        oldest_pending_age_ms=_age_ms(backlog.oldest_pending, at_ms),
        oldest_unseen_age_ms=_age_ms(backlog.oldest_unseen, at_ms),
        unresolved_count=snapshot.unresolved_count,
        unresolved=tuple(_unresolved(order, at_ms) for order in snapshot.unresolved),
        open_positions=snapshot.open_positions,
        opening=snapshot.opening,
        closing=snapshot.closing,
        exposure=snapshot.exposure,
        realized=snapshot.realized,
        realized_today=snapshot.realized_today,
        dead_letters=snapshot.dead_letters,
        dead_letters_trimmed=snapshot.dead_letters_trimmed,
        streams_ahead_ms={name: ms for name, ms in snapshot.ahead_ms.items() if ms > AHEAD_MS},
        throttled_ms={
            exchange: until_ms - at_ms
            for exchange, until_ms in snapshot.throttled_until_ms.items()
            if until_ms > at_ms
        },
        sheet_age_ms=sheet_age_ms,
        compared_age_ms=(
            None if compared_ms is None or sheet_age_ms is None else compared_ms + sheet_age_ms
        ),
        differences=stored.sheet.differences if stored else 0,
        limits=limits_of(snapshot, config.risk.account_limits),
    )


def aged(status: Status, ms: int) -> Status:
    """Return a status that was read ``ms`` ago with its ages counted on."""
    if ms <= 0:
        return status
    return msgspec.structs.replace(
        status,
        workers=tuple(
            msgspec.structs.replace(one, silent_ms=one.silent_ms + ms) for one in status.workers
        ),
        unresolved=tuple(
            msgspec.structs.replace(one, age_ms=_older(one.age_ms, ms)) for one in status.unresolved
        ),
        oldest_pending_age_ms=_older(status.oldest_pending_age_ms, ms),
        oldest_unseen_age_ms=_older(status.oldest_unseen_age_ms, ms),
        sheet_age_ms=_older(status.sheet_age_ms, ms),
        compared_age_ms=_older(status.compared_age_ms, ms),
    )


def _older(age_ms: int | None, ms: int) -> int | None:
    return None if age_ms is None else age_ms + ms


def _mode(workers: Iterable[WorkerView], own: str) -> str:
    """Return the mode of the live workers, else of those silent, else the command's own."""
    known = [one for one in workers if "mode" in one.status]
    heard = [one for one in known if one.alive] or known
    modes = {str(one.status["mode"]) for one in heard}
    return modes.pop() if len(modes) == 1 else "mixed" if modes else own


def _worker(name: str, heartbeat: Heartbeat, at_ms: int, silent_after_ms: int) -> WorkerView:
    silent_ms = max(at_ms - heartbeat.at_ms, 0)
    return WorkerView(
        name=name,
        alive=silent_ms <= silent_after_ms,
        silent_ms=silent_ms,
        status=heartbeat.status,
    )


def _unresolved(order: UnresolvedOrder, at_ms: int) -> UnresolvedView:
    since_ms = order.unresolved_since_ms
    return UnresolvedView(
        entry_id=order.entry_id,
        signal_id=order.signal_id,
        exchange=order.exchange,
        symbol=order.symbol,
        since=utc(since_ms) if since_ms else None,
        age_ms=max(at_ms - since_ms, 0) if since_ms else None,
    )


def _age_ms(entry_id: str | None, at_ms: int) -> int | None:
    """Return an entry's age, None for no entry; an entry's id begins with the time it was added."""
    return None if entry_id is None else max(at_ms - split_id(entry_id)[0], 0)
