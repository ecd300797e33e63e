"""An account's status: the ledger's snapshot as ages, liveness and counts."""

from datetime import datetime
from decimal import Decimal
from typing import Any

import msgspec

from worker.domain.trading_state import TradingState
from worker.ledger.access import Access, split_id
from worker.ledger.inspection import Heartbeat, Snapshot, UnresolvedOrder, read_snapshot
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


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """An account at one moment (``at``, Redis time).

    ``lag`` counts the signals no worker has seen, None where that cannot be known; ``pending``
    those seen and not finished, of which ``in_flight`` are leased to a worker now and ``waiting``
    stand behind others of their group. Ages are milliseconds, None for none.
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
        """The number of workers heard from lately."""
        return sum(worker.alive for worker in self.workers)


async def read_status(access: Access, *, silent_after_ms: int) -> Status:
    """Read an account's status.

    Args:
        access: the account.
        silent_after_ms: a worker not heard from in this long does not count as alive.

    Raises:
        LedgerError: Redis cannot be asked, or refuses.
    """
    return _status(access.account, await read_snapshot(access), silent_after_ms)


def _status(account: str, snapshot: Snapshot, silent_after_ms: int) -> Status:
    at_ms, control, backlog = snapshot.at_ms, snapshot.control, snapshot.backlog
    return Status(
        account=account,
        at=utc(at_ms),
        trading_state=control.trading_state,
        reason=control.reason,
        actor=control.actor,
        changed_at=control.changed_at,
        workers=tuple(
            _worker(name, heartbeat, at_ms, silent_after_ms)
            for name, heartbeat in snapshot.heartbeats.items()
        ),
        keeper=snapshot.keeper,
        group_exists=backlog.group_exists,
        stream_length=backlog.length,
        lag=backlog.lag,
        pending=backlog.pending,
        in_flight=snapshot.leased,
        waiting=snapshot.waiting,
        oldest_pending_age_ms=_age_ms(backlog.oldest_pending, at_ms),
        oldest_unseen_age_ms=_age_ms(backlog.oldest_unseen, at_ms),
        unresolved_count=snapshot.unresolved_count,
        unresolved=tuple(_unresolved(order, at_ms) for order in snapshot.unresolved),
        open_positions=snapshot.open_positions,
        opening=snapshot.opening,
        closing=snapshot.closing,
        exposure=snapshot.exposure,
        realized=snapshot.realized,
        dead_letters=snapshot.dead_letters,
        throttled_ms={
            exchange: until_ms - at_ms
            for exchange, until_ms in snapshot.throttled_until_ms.items()
            if until_ms > at_ms
        },
    )


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
