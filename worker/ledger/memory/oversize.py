"""Entries that are too large: read once, each becomes a dead letter with only its beginning."""

from collections.abc import Mapping

from worker.domain.refusal import DeadReason
from worker.ledger.layouts import DeadLetterTail
from worker.ledger.limits import ENTRY_BYTES, ENTRY_FIELDS, KEPT_BYTES
from worker.ledger.memory.account import MemoryAccount
from worker.ledger.memory.stream import StreamRow
from worker.ledger.words import CUT_FIELD
from worker.runtime.clock import rfc3339


def size_of(fields: Mapping[bytes, bytes]) -> int:
    """Return the bytes of an entry's field names and values."""
    return sum(len(name) + len(value) for name, value in fields.items())


def is_too_large(fields: Mapping[bytes, bytes]) -> bool:
    """Return whether an entry has more bytes or fields than one may have."""
    return size_of(fields) > ENTRY_BYTES or len(fields) > ENTRY_FIELDS


def bury_oversize(account: MemoryAccount, row: StreamRow, worker: str) -> str:
    """Bury an entry that is too large, on behalf of ``worker``; return what is wrong with it."""
    kept: dict[bytes, bytes] = {}
    left = KEPT_BYTES
    for name, value in list(row.fields.items())[:ENTRY_FIELDS]:
        if left <= 0:
            break
        kept[name[:left]] = value[: max(left - len(name), 0)]
        left -= len(name) + len(value)
    size, count = size_of(row.fields), len(row.fields)
    error = (
        f"entry too large: {size} bytes in {count} fields; "
        f"it may have {ENTRY_BYTES} bytes in {ENTRY_FIELDS} fields"
    )
    now_ms = account.now_ms()
    tail = DeadLetterTail(
        reason=DeadReason.MALFORMED.value,
        error=error,
        entry_id=row.entry_id,
        deliveries="1",
        worker=worker,
        at=rfc3339(now_ms),
    )
    kept[CUT_FIELD.encode()] = str(size).encode()
    account.outputs.bury(kept, tail_fields(tail), now_ms)
    account.queue.signals.remove(row.entry_id)
    return error


def tail_fields(tail: DeadLetterTail) -> dict[bytes, bytes]:
    """Return the fields at the end of a dead letter."""
    return {
        name.encode(): str(value).encode()
        for name, value in zip(DeadLetterTail._fields, tail, strict=True)
    }
