"""Bounds on entries of the signals stream and the replies that carry them, and other numbers.

The scripts know them as ``LIMIT.ENTRY_BYTES`` and so on (:mod:`worker.ledger.script_source`).
"""

from collections.abc import Mapping
from typing import Final

#: The names and values of an entry's fields: 64 KiB of ``data``, and 8 KiB for everything else.
ENTRY_BYTES: Final = 73_728
#: The fields of an entry; a signal has five at most.
ENTRY_FIELDS: Final = 64
#: What a dead letter keeps of an entry that is too large: its beginning.
KEPT_BYTES: Final = 4_096
#: Entries and records in one reply of a script; the last of them may exceed it. Entries that are
#: too large count as well, to bound what one script reads,
REPLY_BYTES: Final = 4 * 2**20
#: and each of their names and values as so many bytes more, for it costs as much time.
FIELD_COST: Final = 32
#: New entries that are read at once. Their size is known only then: that many may be too large.
PORTION: Final = 8
#: For so long after an entry that was too large, new ones are read one by one.
WARY_MS: Final = 60_000
#: The bytes of one reply that a worker reads before it closes the connection. A script's stays far
#: below; the wait for new signals brings the body of the entry that ends it, whatever its size.
MAX_REPLY_BYTES: Final = 32 * 2**20
#: A stream's last id may be ahead of Redis's clock by this: clocks of a failed-over server differ.
AHEAD_MS: Final = 60_000

#: Of so long the orders count towards ``risk.max_orders_per_minute``.
WINDOW_MS: Final = 60_000

#: Those that the scripts know.
IN_SCRIPTS: Final[Mapping[str, int]] = {
    "ENTRY_BYTES": ENTRY_BYTES,
    "ENTRY_FIELDS": ENTRY_FIELDS,
    "KEPT_BYTES": KEPT_BYTES,
    "REPLY_BYTES": REPLY_BYTES,
    "FIELD_COST": FIELD_COST,
    "PORTION": PORTION,
    "WARY_MS": WARY_MS,
    "AHEAD_MS": AHEAD_MS,
    "WINDOW_MS": WINDOW_MS,
}


def why_too_large(fields: Mapping[str, bytes]) -> str | None:
    """Return a sentence on an entry that workers would bury for its size; None for any other."""
    size = sum(len(name.encode()) + len(value) for name, value in fields.items())
    if size > ENTRY_BYTES:
        return f"entry too large: {size} bytes of names and values, {ENTRY_BYTES} are allowed"
    return None
