"""A status with which all is well."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Final

from worker.domain.trading_state import TradingState
from worker.operator.status import Status, WorkerView

GOOD: Final = Status(
    account="main",
    mode="paper",
    at=datetime(2026, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC),
    trading_state=TradingState.ACTIVE,
    reason="",
    actor="",
    changed_at="",
    asks=(),
    workers=(WorkerView(name="w1", alive=True, silent_ms=100, status={"in_flight": 2}),),
    keeper="w1",
    group_exists=True,
    stream_length=10,
    lag=0,
    pending=2,
    in_flight=2,
    waiting=0,
    fullest_group=None,
    oldest_pending_age_ms=90,
    oldest_unseen_age_ms=None,
    unresolved_count=0,
    unresolved=(),
    open_positions=1,
    opening=0,
    closing=0,
    exposure={"USDT": Decimal("1.5")},
    realized={},
    realized_today={},
    dead_letters=0,
    dead_letters_trimmed=0,
    streams_ahead_ms={},
    throttled_ms={},
    sheet_age_ms=100,
    compared_age_ms=100,
    differences=0,
    limits=(),
)
