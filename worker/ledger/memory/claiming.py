"""Handing out entries: claim, and what a lost reply or a slow holder makes necessary."""

from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from worker.ledger.layouts import Held, Released
from worker.ledger.limits import FIELD_COST, REPLY_BYTES
from worker.ledger.memory.account import MemoryAccount
from worker.ledger.memory.grants import Grant, grant_of
from worker.ledger.memory.oversize import bury_oversize, is_too_large, size_of
from worker.ledger.memory.queue import Entry, in_order_of_time
from worker.ledger.memory.stream import text_of_order
from worker.ledger.memory.turning import TurnGrant, resync_turns, take_turns


class Claimed(msgspec.Struct, kw_only=True):
    """One claim, as it is filled; :class:`~worker.ledger.replies.Claim` explains the fields.

    ``size`` is how many bytes of entries it has.
    """

    granted: list[Grant]
    turns: list[TurnGrant]
    tail: bytes = b"0-0"
    more: bool = True
    vanished: int = 0
    oversize: list[tuple[str, str]]
    size: int = 0

    def has_room(self, room: int) -> bool:
        """Return whether another entry may be granted."""
        return len(self.granted) < room and self.size < REPLY_BYTES


class ClaimTerms(NamedTuple):
    """A worker's settings that its claims need.

    ``lease_ms`` is for how long entries are taken, ``max_waiting`` how many may wait in all groups,
    ``max_group_waiting`` how many openings may wait in one group, and how many others.
    """

    lease_ms: int
    max_waiting: int
    max_group_waiting: int


def claim(account: MemoryAccount, worker: str, terms: ClaimTerms, room: int, turns: int) -> Claimed:
    """Take up to ``room`` entries and ``turns`` turns.

    First come turns that are due, then expired leases, then released entries, then new ones.
    """
    lease_ms, ceiling, bound = terms
    now_ms, queue = account.now_ms(), account.queue
    pending = len(queue.entries)
    claimed = Claimed(granted=[], turns=take_turns(account, worker, lease_ms, turns), oversize=[])
    for entry, until_ms in queue.expired(now_ms, room):
        _take(account, claimed, entry, worker, now_ms + lease_ms, now_ms - until_ms)
    while claimed.has_room(room) and (released := queue.next_released()) is not None:
        _take(account, claimed, released, worker, now_ms + lease_ms, 0)
    ceiling -= pending - len(queue.leases)
    count = room - len(claimed.granted)
    while count > 0 and claimed.size < REPLY_BYTES:
        count -= 1
        row = queue.read_next()
        if row is None:
            claimed.more, claimed.tail = False, text_of_order(queue.delivered).encode()
            break
        claimed.size += size_of(row.fields)
        if is_too_large(row.fields):
            claimed.size += FIELD_COST * 2 * len(row.fields)
            claimed.oversize.append((row.entry_id, bury_oversize(account, row, worker)))
            continue
        entry = queue.enter(row, worker, bound=bound, ceiling=ceiling)
        if entry.waits_as is not None:
            ceiling -= 1
            continue
        queue.leases[entry.entry_id] = now_ms + lease_ms
        claimed.granted.append(grant_of(account, entry))
    return claimed


def _take(
    account: MemoryAccount,
    claimed: Claimed,
    entry: Entry | None,
    worker: str,
    until_ms: int,
    overdue_ms: int,
) -> None:
    """Grant an entry; where nobody can act on it any more, forget it and grant the next."""
    while entry is not None:
        if account.queue.grant(entry, worker, until_ms, count_as=1):
            grant = grant_of(account, entry, overdue_ms)
            claimed.granted.append(grant)
            claimed.size += size_of(grant.fields)
            return
        claimed.vanished += 1
        entry = account.queue.forget(entry)


def renew(account: MemoryAccount, worker: str, lease_ms: int, held: Iterable[Held]) -> set[str]:
    """Renew a worker's leases; return the entries that it does not hold any more."""
    lost = set()
    until_ms = account.now_ms() + lease_ms
    for entry_id, token in held:
        if (turn := account.agenda.held(entry_id, worker, token)) is not None:
            turn.until_ms = until_ms
        elif account.queue.held(entry_id, worker, token) is not None:
            account.queue.leases[entry_id] = until_ms
        else:
            lost.add(entry_id)
    return lost


def release(account: MemoryAccount, worker: str, entries: Iterable[Released]) -> int:
    """Give entries and turns back: at once, or after a hold, during which nobody gets them."""
    queue, now_ms, count = account.queue, account.now_ms(), 0
    for entry_id, token, hold_ms, died in entries:
        turn = account.agenda.held(entry_id, worker, token)
        if turn is not None:
            count += 1
            account.agenda.end(turn.key)
            account.agenda.bring_forward(turn.key, now_ms + hold_ms)
            continue
        entry = queue.held(entry_id, worker, token)
        if entry is None:
            continue
        count += 1
        entry.worker = ""
        if not died:
            entry.deliveries -= 1
        if hold_ms > 0:
            queue.leases[entry_id] = now_ms + hold_ms
        else:
            queue.leases.pop(entry_id, None)
            queue.offer(entry, now_ms)
    return count


def resync(
    account: MemoryAccount, worker: str, lease_ms: int, known: frozenset[str]
) -> tuple[list[Grant], list[TurnGrant]]:
    """Return the entries and turns leased to a worker by replies that were lost.

    Tokens are unchanged: a reply that is only late says the same.
    """
    queue, found = account.queue, []
    for entry_id in in_order_of_time(queue.leases):
        entry = queue.entries[entry_id]
        if entry.worker == worker and entry_id not in known:
            queue.leases[entry_id] = account.now_ms() + lease_ms
            found.append(grant_of(account, entry))
    return found, resync_turns(account, worker, lease_ms, known)


def adopt(account: MemoryAccount, worker: str, lease_ms: int, count: int) -> list[Grant]:
    """Let the keeper take unresolved orders that are due for another look-up."""
    queue, now_ms = account.queue, account.now_ms()
    due = [one for one in in_order_of_time(queue.unresolved) if queue.unresolved[one] <= now_ms]
    granted = []
    for entry_id in due[:count]:
        entry, until_ms = queue.entries[entry_id], now_ms + lease_ms
        is_free = entry_id not in queue.leases
        if is_free and queue.grant(entry, worker, until_ms, count_as=0):
            granted.append(grant_of(account, entry))
        queue.unresolved[entry_id] = until_ms
    return granted
