"""The steps of the fleet: heartbeats, elections, seats at API keys, pauses of exchanges."""

from collections.abc import Sequence
from typing import NamedTuple

from worker.domain.trading_state import TradingState
from worker.ledger.layouts import Held
from worker.ledger.memory.account import MemoryAccount
from worker.ledger.memory.claiming import renew
from worker.ledger.memory.office import Beat
from worker.ledger.memory.turning import make_resting_due
from worker.ledger.replies import Election, Seat


class Beaten(NamedTuple):
    """The answer to a heartbeat.

    ``lost`` are the entries no longer held; ``shares`` has of each budget how many workers use it,
    and this one's number among them.
    """

    lost: set[str]
    trading_state: TradingState
    shares: dict[str, tuple[int, int]]


def heartbeat(
    account: MemoryAccount,
    worker: str,
    lease_ms: int,
    held: Sequence[Held],
    status: bytes,
    budgets: Sequence[str],
) -> Beaten:
    """Renew a worker's leases, note that it lives and which budgets of requests it uses."""
    now_ms = account.now_ms()
    lost = renew(account, worker, lease_ms, held)
    if account.trading_state is not TradingState.ACTIVE:
        make_resting_due(account)
    account.office.workers[worker] = Beat(now_ms, status)
    shares = {one: account.pauses.share(one, worker, lease_ms, now_ms) for one in budgets}
    return Beaten(lost, account.trading_state, shares)


def leave(account: MemoryAccount, worker: str) -> int:
    """Sign a worker off; return how many entries it still owns."""
    account.office.leave(worker, account.now_ms())
    return sum(entry.owner == worker for entry in account.queue.entries.values())


def elect(account: MemoryAccount, worker: str, term_ms: int, note: str) -> Election:
    """Become or remain the account's keeper; a term of 0 resigns."""
    return account.office.elect(worker, term_ms, note, account.now_ms())


def publish(account: MemoryAccount, worker: str, sheet: bytes, lifetime_ms: int) -> bool:
    """Publish the keeper's sheet; False if ``worker`` is not the keeper."""
    return account.office.publish(worker, sheet, lifetime_ms, account.now_ms())


def take_seat(account: MemoryAccount, holder: str, key: str, seats: int, term_ms: int) -> Seat:
    """Take or keep a seat at an API key; a term of 0 gives it up."""
    return account.office.seat(holder, key, seats, term_ms, account.now_ms())


def throttle(account: MemoryAccount, name: str, pause_ms: int) -> int:
    """Keep the whole fleet from asking an exchange anything; return the ms in force."""
    left_ms = account.pauses.pause(name, pause_ms, account.now_ms())
    account.bell.ring(account.now_ms())  # workers that wait for signals learn it now
    return left_ms
