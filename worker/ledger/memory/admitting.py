"""Admission: limits checked and reserved, and the record written, before anything is sent."""

from collections.abc import Sequence

import msgspec

from worker.domain.refusal import CancelCode, Code
from worker.ledger.items import AdmitItem
from worker.ledger.memory.account import MemoryAccount
from worker.ledger.memory.limits import count_in_limits, rule_broken
from worker.ledger.memory.queue import Entry, Refusal
from worker.ledger.replies import (
    Admission,
    Admitted,
    Authorization,
    Blocked,
    Duplicate,
    EndedFirst,
    Fenced,
    Waits,
)
from worker.ledger.stored import STATE_ADMITTED, BookRow, Record, Reservation
from worker.ledger.turns import CancelMark


def admit(account: MemoryAccount, worker: str, items: Sequence[AdmitItem]) -> list[Admission]:
    """Admit orders, each wholly or not at all; later ones see what earlier ones have reserved."""
    return [_admit(account, worker, item) for item in items]


def _admit(account: MemoryAccount, worker: str, item: AdmitItem) -> Admission:
    now_ms = account.now_ms()
    entry = account.queue.held(item.entry, worker, item.token)
    if entry is None:
        return Fenced()
    pause_ms = float(account.pauses.left_ms(item.exchange, now_ms))
    record = account.records.find(item.signal, now_ms)
    if record is not None:
        if record.digest != item.digest:
            return Duplicate(conflict=True)
        if record.entry != item.entry or record.state != STATE_ADMITTED:
            return Duplicate(conflict=False)
        # Asked again: the first reply was lost.
        return Admitted(record.position.encode(), pause_ms, record.admitted_at)
    before = entry.refusal
    if before and (before.token, before.only_look) == (item.token, item.only_look):
        return before.code  # asked again
    row = account.book.row(item.position_key)
    broken = rule_broken(account, item, row)
    if broken is not None:
        return _refuse(account, entry, item, broken, row)
    count_in_limits(account, item)
    account.book.reserve(item.position_key, item.signal)
    entry.signal = item.signal
    account.records.begin(_record(account, worker, item, row.position, now_ms))
    return Admitted(row.position, pause_ms, now_ms)


def _refuse(
    account: MemoryAccount, entry: Entry, item: AdmitItem, broken: Code | Waits, row: BookRow
) -> Admission:
    """Refuse an order, so that it is answered the same if it is asked again.

    A close waits while the entry that rests for its position is cancelled; where nothing of that
    had traded, it has come to its end.
    """
    if isinstance(broken, Waits):
        entry.refusal, entry.waits_for = None, row.signal
        mark, now_ms = CancelMark(CancelCode.CLOSED, item.signal), account.now_ms()
        account.orders.ask_to_cancel(row.signal, mark, now_ms)
        account.agenda.bring_forward(item.position_key, now_ms)
        return broken
    if broken is Code.NO_POSITION and entry.waits_for:
        return EndedFirst(entry.waits_for)
    entry.refusal, entry.waits_for = Refusal(item.token, item.only_look, broken), ""
    return Blocked(row.signal) if row.reservation is Reservation.RESTING else broken


def _record(
    account: MemoryAccount, worker: str, item: AdmitItem, position: bytes, now_ms: int
) -> Record:
    """Return the record of an order that is admitted now."""
    parked = account.records.stored(item.signal, now_ms)
    return Record(
        entry=item.entry,
        digest=item.digest,
        signal=item.signal,
        state=STATE_ADMITTED,
        worker=worker,
        plan=item.plan,
        admitted_at=now_ms,
        unresolved_since=parked.unresolved_since if parked else 0,
        position=position.decode(),
    )


def authorize(
    account: MemoryAccount, worker: str, entry_id: str, token: int, exchange: str
) -> Authorization:
    """Check again before an order is sent that it is still granted and the account may trade."""
    entry = account.queue.held(entry_id, worker, token)
    return Authorization(
        held=entry is not None and bool(entry.signal),
        trading_state=account.trading_state,
        pause_ms=float(account.pauses.left_ms(exchange, account.now_ms())),
    )


def park(
    account: MemoryAccount,
    worker: str,
    entry_id: str,
    token: int,
    signal: str,
    retry_ms: int,
    event: tuple[str, str, str],
) -> bool:
    """Put an unresolved order into the keeper's care: no lease, unacknowledged, its group waits.

    Returns:
        False if the entry is no longer held, nor parked already.
    """
    queue, now_ms = account.queue, account.now_ms()
    entry = queue.held(entry_id, worker, token)
    if entry is None:
        return entry_id in queue.unresolved
    record = account.records.stored(signal, now_ms) or Record(
        entry="", signal=signal, state=STATE_ADMITTED, worker=worker
    )
    entry.worker = ""
    queue.leases.pop(entry_id, None)
    queue.unresolved[entry_id] = now_ms + retry_ms
    if not record.unresolved_since:
        account.records.begin(msgspec.structs.replace(record, unresolved_since=now_ms))
        account.outputs.tell(("system", *event), signal, now_ms)
    return True
