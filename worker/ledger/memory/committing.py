"""The end of an entry: everything about it written at once, the next of its group handed on."""

from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec

from worker.ledger.items import CommitItem
from worker.ledger.memory.account import MemoryAccount
from worker.ledger.memory.grants import Grant, hand_on
from worker.ledger.memory.oversize import tail_fields
from worker.ledger.memory.queue import Entry
from worker.ledger.replies import CommitStatus
from worker.ledger.stored import STATE_RESTING, Record, decode_order
from worker.ledger.turn_layouts import Rests

#: By how much a record outlives its signal, at least: clocks differ.
OUTLIVES_MS: Final = 60_000


class Terms(NamedTuple):
    """A worker's settings that its commits need: how long leases and ended records last."""

    lease_ms: int
    retention_ms: int
    output_length: int


class Ended(NamedTuple):
    """The answer for one item, with the next entry of its group if it was handed on."""

    status: CommitStatus
    following: Grant | None = None


def commit(
    account: MemoryAccount, worker: str, terms: Terms, items: Sequence[CommitItem]
) -> list[Ended]:
    """Write outcomes, in turn."""
    ended = [_commit(account, worker, terms, item) for item in items]
    account.outputs.trim(terms.output_length)
    return ended


def _commit(account: MemoryAccount, worker: str, terms: Terms, item: CommitItem) -> Ended:
    now_ms = account.now_ms()
    entry = account.queue.held(item.entry, worker, item.token)
    if entry is None:
        again = _was_committed(account, worker, item)
        return Ended(CommitStatus.COMMITTED if again else CommitStatus.FENCED)
    # An item without a reservation must not end an entry that was admitted: two tasks of one
    # worker may hold one grant.
    if entry.signal and not item.reservation:
        return Ended(CommitStatus.FENCED)
    is_admitted = bool(entry.signal) and entry.signal == item.signal
    status = CommitStatus.COMMITTED
    if not (item.duplicate or is_admitted):
        status = _judged(account, item)
    if status is CommitStatus.CONFLICT:
        return Ended(status)  # comes again as a dead letter
    if item.rests is not None and not is_admitted:
        return Ended(CommitStatus.FENCED)  # it is admitted anew
    if status is CommitStatus.COMMITTED and not item.duplicate:
        _write_outcome(account, worker, terms, item, is_admitted=is_admitted)
    if item.dead is not None:
        body = account.queue.body(entry) or {}
        account.outputs.bury(body, tail_fields(item.dead), now_ms)
    return Ended(status, _end(account, worker, terms, entry, wanted=item.take_next))


def _end(
    account: MemoryAccount, worker: str, terms: Terms, entry: Entry, *, wanted: bool
) -> Grant | None:
    """Acknowledge an entry, and hand the next of its group on."""
    head = account.queue.forget(entry)
    if head is None:
        return None
    until_ms = account.now_ms() + terms.lease_ms
    return hand_on(account, head, worker, until_ms, wanted=wanted)


def _was_committed(account: MemoryAccount, worker: str, item: CommitItem) -> bool:
    """Return whether this very item was committed before and the reply was lost."""
    record = account.records.find(item.signal, account.now_ms())
    return record is not None and (record.entry, record.worker, record.token) == (
        item.entry,
        worker,
        item.token,
    )


def _judged(account: MemoryAccount, item: CommitItem) -> CommitStatus:
    """Return the status of an item never admitted, by the record under its signal id."""
    record = account.records.find(item.signal, account.now_ms())
    if record is None:
        return CommitStatus.COMMITTED
    is_same = record.digest == item.digest
    return CommitStatus.DUPLICATE if is_same else CommitStatus.CONFLICT


def _write_outcome(
    account: MemoryAccount, worker: str, terms: Terms, item: CommitItem, *, is_admitted: bool
) -> None:
    """Write position, reservation, sums, events and the record of a signal that has ended."""
    now_ms, end = account.now_ms(), item.record
    if item.rests is not None:
        _rest_order(account, item, item.rests)
    elif item.reservation:
        _settle_position(account, item, is_admitted=is_admitted)
    for event in item.events:
        account.outputs.tell(event, item.signal, now_ms, traceparent=item.traceparent)
    if not item.signal or item.rests is not None:
        return
    record = Record(
        entry=item.entry,
        digest=item.digest,
        signal=item.signal,
        state=end.state,
        worker=worker,
        admitted_at=end.admitted_at,
        unresolved_since=end.unresolved_since,
        token=item.token,
        outcome=end.outcome,
        ended_at=now_ms,
    )
    # Until the signal has expired, or a repetition would trade.
    keep_ms = max(terms.retention_ms, item.expires_ms - now_ms + OUTLIVES_MS)
    account.records.end(record, keep_ms=keep_ms, now_ms=now_ms)


def _rest_order(account: MemoryAccount, item: CommitItem, rests: Rests) -> None:
    """Leave an admitted signal's order to turns: it keeps what admission reserved."""
    key, now_ms = item.position_key, account.now_ms()
    account.book.rest(key, item.signal, (item.position or "").encode())
    record = account.records.stored(item.signal, now_ms)
    if record is not None:
        account.records.begin(msgspec.structs.replace(record, state=STATE_RESTING))
    account.orders.put(key, rests.exchange_key, decode_order(rests.row.encode()))
    account.agenda.bring_forward(key, now_ms + rests.due_ms)


def _settle_position(account: MemoryAccount, item: CommitItem, *, is_admitted: bool) -> None:
    """Give the reservation back and write the position.

    Where the entry shows no admission, a reservation that is there belongs to another signal, and
    the exposure that admission would have added is still to be added.
    """
    sums, position = account.sums, item.position
    account.book.settle(
        item.position_key,
        None if position is None else position.encode(),
        is_ours=is_admitted,
    )
    if not is_admitted:
        sums.change_exposure(item.quote, item.reserved)
    sums.change_exposure(item.quote, item.exposure)
    sums.book_profit(item.quote, item.realized, account.now_ms())
