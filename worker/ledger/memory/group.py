"""The message group of an entry, and the kind as which it waits there."""

import hashlib
from collections.abc import Mapping
from typing import Final

import msgspec

from worker.ledger.words import Line

#: A longer text is not looked into.
MAX_DATA_BYTES: Final = 65_536
#: A longer name of a group is replaced by its digest.
MAX_NAME_BYTES: Final = 128
#: What makes a position no larger; everything else counts as an opening.
_OTHERS: Final = frozenset({"close", "cancel", "protect"})


def group_name(entry_id: str, fields: Mapping[bytes, bytes]) -> bytes:
    """Return the message group of a new entry.

    That is its ``key`` field, else exchange and symbol of its JSON, else a group of its own. (The
    scripts find exchange and symbol even in some texts that are no JSON; those are no signals.)
    """
    name = fields.get(b"key", b"")
    if not name:
        signal = _read(fields.get(b"data", b""))
        exchange, symbol = signal.get("exchange"), signal.get("symbol")
        if isinstance(exchange, str) and isinstance(symbol, str):
            name = f"{exchange}:{symbol}".encode()
    if not name:
        return b"!" + entry_id.encode()
    if len(name) > MAX_NAME_BYTES:
        name = hashlib.sha1(name, usedforsecurity=False).hexdigest().encode()
    return b":" + name


def surplus_group(entry_id: str) -> bytes:
    """Return the group, its own, of an entry for which its message group has no room."""
    return b"!*" + entry_id.encode()


def line_kind(fields: Mapping[bytes, bytes]) -> Line:
    """Return as what an entry waits; what cannot be read counts as an opening."""
    action = _read(fields.get(b"data", b"")).get("action")
    is_other = isinstance(action, str) and action in _OTHERS
    return Line.OTHER if is_other else Line.OPENING


def _read(data: bytes) -> dict[str, object]:
    if len(data) > MAX_DATA_BYTES:
        return {}
    try:
        return msgspec.json.decode(data, type=dict[str, object])
    except (msgspec.MsgspecError, RecursionError, ValueError):
        return {}
