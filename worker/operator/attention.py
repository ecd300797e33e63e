"""The parts of an account's status that need an operator, a sentence each, gravest first."""

from collections.abc import Iterator
from typing import Final

from worker.domain.trading_state import TradingState
from worker.operator.status import Status

#: Signals older than this that have not ended need attention.
STUCK_MS: Final = 60_000


def needs_attention(status: Status) -> list[str]:
    """Return a sentence for everything a person should look at; empty if there is nothing."""
    return [
        *_trading(status),
        *_unresolved(status),
        *_workers(status),
        *_backlog(status),
        *_exchanges(status),
        *_dead_letters(status),
    ]


def _trading(status: Status) -> Iterator[str]:
    if status.trading_state is not TradingState.ACTIVE:
        why = f": {status.reason}" if status.reason else ""
        yield f"trading is {status.trading_state}{why}"


def _unresolved(status: Status) -> Iterator[str]:
    for order in status.unresolved:
        age = f" for {order.age_ms // 1000} s" if order.age_ms is not None else ""
        market = f"{order.exchange} {order.symbol}"
        yield f"order of {order.signal_id} ({market}) is unresolved{age}"
    more = status.unresolved_count - len(status.unresolved)
    if more > 0:
        yield f"{more} more orders are unresolved"


def _workers(status: Status) -> Iterator[str]:
    unseen = status.lag if status.lag is not None else status.stream_length
    work = status.pending + unseen
    if not status.workers_alive and work:
        yield f"no worker is alive and {work} signals wait"
    for worker in status.workers:
        if not worker.alive:
            yield f"worker {worker.name} has been silent for {worker.silent_ms // 1000} s"
    if status.workers_alive and status.keeper is None:
        yield "the account has no keeper: nobody looks unresolved orders up"


def _backlog(status: Status) -> Iterator[str]:
    if not status.group_exists and status.stream_length:
        yield "the consumer group is missing; a running worker creates it again"
    if status.unresolved_count:
        return  # signals of a symbol wait for its unresolved order, which is reported already
    ages = {"seen": status.oldest_pending_age_ms, "unseen": status.oldest_unseen_age_ms}
    for kind, age_ms in ages.items():
        if age_ms is not None and age_ms > STUCK_MS:
            yield f"the oldest {kind} signal without an end is {age_ms // 1000} s old"


def _exchanges(status: Status) -> Iterator[str]:
    for exchange, ms in status.throttled_ms.items():
        wait_s = ms // 1000 + 1
        yield f"nothing is sent to {exchange} for another {wait_s} s: it asked us to slow down"


def _dead_letters(status: Status) -> Iterator[str]:
    if status.dead_letters:
        plural = "s" if status.dead_letters > 1 else ""
        yield f"{status.dead_letters} dead letter{plural}: see execution-worker dead list"
