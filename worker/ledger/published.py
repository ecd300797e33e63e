"""Reads what others publish: heartbeats, the sheet, the trading state, the streams' last ids."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from worker.domain.sheet import Sheet
from worker.domain.trading_asks import Ask, Control, add, is_at_least, state_of
from worker.domain.trading_state import TradingState
from worker.ledger.access import STREAMS, Access, split_id, value_of
from worker.ledger.errors import LedgerUnavailableError

_decode_asks: Final = msgspec.json.Decoder(tuple[Ask, ...]).decode
_decode_sheet: Final = msgspec.json.Decoder(Sheet).decode


class StoredControl(msgspec.Struct, frozen=True, kw_only=True):
    """The trading state in force, who asks for what, and these requests as they are stored."""

    control: Control
    asks: tuple[Ask, ...]
    raw: bytes


class Heartbeat(msgspec.Struct, frozen=True, kw_only=True):
    """A worker's last heartbeat, at ``at_ms`` (Redis time, Unix ms), and the status in it."""

    at_ms: int
    status: dict[str, Any]


class StoredSheet(msgspec.Struct, frozen=True, kw_only=True):
    """The keeper's sheet, published at ``at_ms`` (Redis time, Unix ms)."""

    at_ms: int
    sheet: Sheet


async def read_control(access: Access) -> StoredControl:
    """Read the trading state, ``ACTIVE`` where none was ever set, and who asks for it.

    Raises:
        LedgerError: Redis cannot be asked, or refuses.
    """
    return control_of_hash(await access.ask_one("HGETALL", access.key("control")) or {})


async def read_heartbeats(access: Access) -> tuple[int, dict[str, Heartbeat]]:
    """Read Redis's time (Unix ms) and every worker's last heartbeat, by name.

    Raises:
        LedgerError: Redis cannot be asked, or refuses.
    """
    now, workers = map(value_of, await access.ask(("TIME",), ("HGETALL", access.key("workers"))))
    return unix_ms(now), heartbeats_of(workers or {})


async def read_ahead(access: Access) -> dict[str, int]:
    """Read by how many milliseconds the last id of each stream is ahead of Redis's clock.

    A stream is left out whose first or last entry, which come along, is too large to be sent.

    Raises:
        LedgerError: Redis refuses.
    """
    ahead: dict[str, int] = {}
    for name in STREAMS:
        try:
            info_of = ("XINFO STREAM", access.key(name))
            now, reply = await access.ask(("TIME",), info_of, atomic=False)
        except LedgerUnavailableError:
            continue
        info = value_of(reply)
        last_ms = split_id(info["last-generated-id"].decode())[0] if info else 0
        ahead[name] = max(last_ms - unix_ms(value_of(now)), 0)
    return ahead


def text_of(raw: bytes) -> str:
    """Return as text what anybody with a password may have written."""
    return raw.decode(errors="replace")


def unix_ms(time: tuple[int, int]) -> int:
    """Return the reply to ``TIME`` as Unix milliseconds."""
    seconds, micros = time
    return int(seconds) * 1000 + int(micros) // 1000


def control_of_hash(raw: Mapping[bytes, bytes]) -> StoredControl:
    """Read the hash ``control``; a state that nobody is known to ask for counts as its actor's."""
    text = raw.get(b"asks", b"")
    control = Control(
        trading_state=TradingState.read(raw.get(b"trading_state", b"ACTIVE")),
        reason=text_of(raw.get(b"reason", b"")),
        actor=text_of(raw.get(b"actor", b"")),
        changed_at=text_of(raw.get(b"at", b"")),
    )
    try:
        asks = _decode_asks(text) if text else ()
    except msgspec.MsgspecError:
        asks = ()
    if not is_at_least(state_of(asks), control.trading_state):
        lone = Ask(
            asker=control.actor or "unknown",
            state=control.trading_state,
            reasons=(control.reason,) if control.reason else (),
            at=control.changed_at,
        )
        asks = add(asks, lone)
    return StoredControl(control=control, asks=asks, raw=text)


def heartbeats_of(raw: Mapping[bytes, bytes]) -> dict[str, Heartbeat]:
    """Read ``<Unix ms> <status as JSON>`` of each worker, by name."""
    heartbeats = {}
    for name, beat in sorted(raw.items()):
        at_ms, _, data = beat.partition(b" ")
        try:
            status = msgspec.json.decode(data, type=dict[str, Any])
        except msgspec.MsgspecError:
            status = {}
        heartbeats[text_of(name)] = Heartbeat(at_ms=int(at_ms), status=status)
    return heartbeats


def sheet_of(raw: bytes | None) -> StoredSheet | None:
    """Read ``<Unix ms> <Sheet as JSON>``; None if there is none, or another version's."""
    if not raw:
        return None
    at_ms, _, text = raw.partition(b" ")
    try:
        return StoredSheet(at_ms=int(at_ms), sheet=_decode_sheet(text))
    except (msgspec.MsgspecError, ValueError):
        return None
