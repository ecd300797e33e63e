"""Grants of entries, as a worker receives them."""

from collections.abc import Mapping

import msgspec

from worker.ledger.memory.account import MemoryAccount
from worker.ledger.memory.queue import Entry
from worker.ledger.stored import Record


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """An entry as it was granted; :class:`~worker.ledger.replies.Delivery` explains the fields."""

    entry_id: str
    fields: Mapping[bytes, bytes]
    token: int
    deliveries: int
    record: Record | None = None
    overdue_ms: int = 0
    verdict: bytes | None = None
    is_surplus: bool = False


def grant_of(account: MemoryAccount, entry: Entry, overdue_ms: int = 0) -> Grant:
    """Return the grant of an entry: its fields, and what is known of its signal."""
    queue, signal = account.queue, entry.signal
    record = account.records.stored(signal, account.now_ms()) if signal else None
    if signal and record is None:
        record = Record(entry="", signal=signal, state="")
    return Grant(
        entry_id=entry.entry_id,
        fields=queue.body(entry) or {},
        token=entry.token,
        deliveries=entry.deliveries,
        record=record,
        overdue_ms=overdue_ms,
        verdict=queue.verdicts.get(entry.entry_id) if signal else None,
        is_surplus=entry.is_surplus,
    )


def hand_on(
    account: MemoryAccount, head: Entry, worker: str, until_ms: int, *, wanted: bool
) -> Grant | None:
    """Hand on the entry that heads its group now: to ``worker`` if wanted there, else to any."""
    if wanted and account.queue.grant(head, worker, until_ms, count_as=1):
        return grant_of(account, head)
    account.queue.offer(head, account.now_ms())
    return None
