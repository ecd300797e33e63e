"""What a script did, read from its arguments and its reply."""

from typing import Any, Final, NamedTuple

import msgspec

from tests.simulation.steps import Step, reply_text, status_of
from worker.ledger.items import CommitItem
from worker.ledger.layouts import ADMIT, DeliveryRow, read_row
from worker.ledger.wire import Argument

#: Of a commit that writes no event; the last of them says how many there are.
_COMMIT_FIELDS: Final = len(CommitItem(entry="", token=0).encode("")[0])


def read_step(name: str, arguments: tuple[Argument, ...], reply: Any) -> Step:
    """Return what one script did."""
    rows = reply[0] if name in {"claim", "adopt", "resync"} else []
    opened: list[str] = []
    ended: list[str] = []
    if name == "admit":
        for item, row in zip(_admissions(arguments), reply[1], strict=True):
            if status_of(row) == b"admitted" and item.action == "open":
                opened.append(item.signal)
    if name == "commit":
        for entry_id, row in zip(_ends(arguments), reply[0], strict=True):
            if status_of(row) in {b"committed", b"duplicate"}:
                ended.append(entry_id)
    is_operator = name in {"control", "throttle", "announce"}
    return Step(
        name=name,
        who="operator" if is_operator or not arguments else reply_text(arguments[0]).strip("'"),
        text=_short(name, arguments, reply),
        surplus=_surplus(rows),
        opened=tuple(opened),
        ended=tuple(ended),
        stranded=int(reply[3]) if name == "sweep" else 0,
        state=str(arguments[2]) if name == "control" else "",
    )


class _Asked(NamedTuple):
    """What an admission asks for, as far as it is looked at."""

    signal: str
    action: str


def _admissions(arguments: tuple[Argument, ...]) -> list[_Asked]:
    fields = _fields(arguments, 2 + int(arguments[1]))
    return [
        _Asked(
            signal=fields[first + ADMIT.index("signal")],
            action=fields[first + ADMIT.index("action")],
        )
        for first in range(0, len(fields), len(ADMIT))
    ]


def _ends(arguments: tuple[Argument, ...]) -> list[str]:
    """The entries a commit is about."""
    fields = _fields(arguments, 5)
    entries, first = [], 0
    while first < len(fields):
        entries.append(fields[first])
        first += _COMMIT_FIELDS + 3 * fields[first + _COMMIT_FIELDS - 1]
    return entries


def _fields(arguments: tuple[Argument, ...], at: int) -> list[Any]:
    """Values packed one behind the other, in as many arguments as the one at ``at`` says."""
    parts = arguments[at + 1 : at + 1 + int(arguments[at])]
    raw = b"".join(part for part in parts if isinstance(part, bytes))
    fewest, most = 1, len(raw)
    while fewest <= most:  # as many as the decoder finds neither too few nor too many
        count = (fewest + most) // 2
        try:
            return msgspec.msgpack.decode(b"\xdd" + count.to_bytes(4) + raw, type=list[Any])
        except msgspec.DecodeError as error:
            if "truncated" in str(error):
                most = count - 1
            else:
                fewest = count + 1
    raise AssertionError(raw)


def _surplus(rows: list[Any]) -> tuple[str, ...]:
    """The entries granted for which their group has no room."""
    return tuple(
        entry_id.decode()
        for entry_id, told in zip(rows[::2], rows[1::2], strict=True)
        if isinstance(told, list)
        and isinstance(told[0], int)
        and read_row(DeliveryRow, told).is_surplus
    )


def _granted(rows: list[Any]) -> list[tuple[Any, ...]]:
    """Ids, with token and deliveries of those that came before."""
    before = [isinstance(told, list) and isinstance(told[0], int) for told in rows[1::2]]
    return [
        (entry_id.decode(), *(told[:2] if again else ()))
        for entry_id, told, again in zip(rows[::2], rows[1::2], before, strict=True)
    ]


def _short(name: str, arguments: tuple[Argument, ...], reply: Any) -> str:
    """One step in a few words."""
    if name == "claim":
        return f"room {arguments[1]!r} -> {_granted(reply[0])}"
    if name == "admit":
        signals = [one.signal for one in _admissions(arguments)]
        return f"{signals} -> {reply_text([status_of(row) for row in reply[1]])}"
    if name == "commit":
        handed = f", handed on {_granted(reply[3])}" if reply[3] else ""
        return f"{_ends(arguments)} -> {reply_text(reply[0])}{handed}"
    if name in {"adopt", "resync"}:
        return f"-> {_granted(reply[0])}"
    shown = [reply_text(part)[:48] for part in arguments[1:8]]
    return f"{' '.join(shown)} -> {reply_text(reply)}"
