"""Text and JSON of stream entries; times, ages and amounts in words."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, Final

import msgspec

from worker.domain.money import text
from worker.ledger.access import DEAD_STREAM, INPUT_STREAM, StreamEntry
from worker.runtime.counted import count_of as count_of  # noqa: PLC0414 (for the commands)
from worker.runtime.printable import printable

_encode = msgspec.json.Encoder().encode
#: The fields of an event shown on its line, in this order.
_SHOWN: Final = (
    "side", "role", "direction", "order_type", "quantity", "price", "filled_quantity",
    "average_price", "entry_price", "exit_price", "realized_pnl", "fee", "slippage_bps",
    "latency_ms", "close_reason", "trading_state", "previous", "checked_positions",
    "stage", "component", "code", "severity", "reason", "actor",
)  # fmt: skip
_SIGNAL: Final = (
    "action", "direction", "order_type", "quantity", "entry_price", "stop_loss", "take_profit",
)  # fmt: skip
#: Significant digits of a price for people: more than any price on its grid has that is in use, so
#: only averages are rounded.
_PRICE_DIGITS: Final = 9
#: How long the aligned columns of an entry's line are: time, type, market and signal.
HEAD: Final = 14 + 20 + 1 + 22 + 1 + 24 + 1
_NOTHING: Final[tuple[Any, ...]] = (None, "", [], {})


def age(ms: int | None) -> str:
    """Format a duration in milliseconds in at most two units; ``-`` for none."""
    if ms is None:
        return "-"
    if ms < 1_000:
        return f"{ms} ms"
    seconds = ms // 1000
    if seconds < 60:
        return f"{ms / 1000:.1f} s"
    if seconds < 3_600:
        return f"{seconds // 60} min {seconds % 60} s"
    if seconds < 86_400:
        return f"{seconds // 3600} h {seconds % 3600 // 60} min"
    return f"{seconds // 86400} d {seconds % 86400 // 3600} h"


def price(value: Decimal | None) -> str:
    """Format a price for people: as it is on its grid, an average rounded; empty for None."""
    if value is None:
        return ""
    digits = _PRICE_DIGITS - 1 - value.adjusted()
    exponent = int(value.as_tuple().exponent)
    if value and -exponent > max(digits, 0):
        value = round(value, max(digits, 0)).normalize()
    return text(value)


def money(value: Decimal | None) -> str:
    """Format an amount of money for people, with two digits; empty for None.

    Of less than a tenth they are the first two that are not 0, so that no loss looks like none.
    """
    if value is None:
        return ""
    digits = 2 if not value or value.adjusted() >= -1 else 1 - value.adjusted()
    return text(round(value, digits) if value else Decimal("0.00"))


def size(count: int) -> str:
    """Format a number of bytes: as such, in KiB or in MiB."""
    if count < 1_024:
        return f"{count} B"
    if count < 1_048_576:
        return f"{count / 1_024:.1f} KiB"
    return f"{count / 1_048_576:.1f} MiB"


#: How amounts in events are written for people.
_FORMS: Final[Mapping[str, Callable[[Decimal], str]]] = {
    "fee": money, "realized_pnl": money, "slippage_bps": money,
    "average_price": price, "entry_price": price, "exit_price": price,
}  # fmt: skip


def clock_time(at: datetime) -> str:
    """Format the time of day in UTC, to the millisecond."""
    return at.strftime("%H:%M:%S.%f")[:-3]


def moment(at: datetime) -> str:
    """Format date and time in UTC, to the millisecond."""
    return f"{at.strftime('%Y-%m-%d')} {clock_time(at)}"


def written_moment(at: str) -> str:
    """Format a time that somebody else has written, as :func:`day_time`; as it is if none."""
    try:
        moment_of = datetime.fromisoformat(at)
        return day_time(moment_of.astimezone(UTC)) if moment_of.tzinfo else at
    except (ValueError, OverflowError):
        return at


def day_time(at: datetime) -> str:
    """Format day and time of day in UTC, to the second, as lists show them."""
    return at.strftime("%m-%d %H:%M:%S")


def payload(data: bytes) -> dict[str, Any]:
    """Decode a payload; empty where it is no JSON object."""
    try:
        return msgspec.json.decode(data, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return {}


def kind_of(entry: StreamEntry) -> str:
    """Return the type of an entry: an event's own, ``Signal`` or ``DeadLetter``."""
    return {INPUT_STREAM: "Signal", DEAD_STREAM: "DeadLetter"}.get(entry.stream, entry.text("type"))


def one_line(entry: StreamEntry, at: datetime) -> str:
    """Format one entry of any stream as a line of text."""
    data = payload(entry.fields.get("data", b""))
    kind = kind_of(entry)
    if entry.stream == DEAD_STREAM:
        shown: dict[str, Any] = {name: entry.text(name) for name in ("reason", "error")}
    elif entry.stream == INPUT_STREAM:
        shown = pick(data, _SIGNAL)
    else:
        shown = details(data)
    where = " ".join(str(data[name]) for name in ("exchange", "symbol") if data.get(name))
    subject = str(data.get("signal_id") or "-")
    head = f"{kind:<20} {where:<22} {subject:<24}"
    return f"{clock_time(at)}  {printable(head)} {spell(shown)}".rstrip()


def details(data: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of an event that are shown on its line, amounts as people read them."""
    shown = pick(data, _SHOWN)
    return {name: _for_people(name, value) for name, value in shown.items()}


def _for_people(name: str, value: Any) -> Any:
    form = _FORMS.get(name)
    try:
        return form(Decimal(value)) if form and isinstance(value, str) else value
    except (InvalidOperation, ValueError):
        return value  # anybody may write to a stream


def pick(data: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """Return some fields of a payload, those without a value left out."""
    return {name: data[name] for name in names if data.get(name) not in _NOTHING}


def spell(fields: dict[str, Any]) -> str:
    """Format fields as ``name=value``, with quotes where a value has spaces."""
    return " ".join(f"{name}={_quoted(value)}" for name, value in fields.items())


def _quoted(value: Any) -> str:
    text = printable(value if isinstance(value, str) else _encode(value).decode())
    return f'"{text}"' if " " in text else text


def as_json(entry: StreamEntry) -> bytes:
    r"""Encode one entry of any stream as a line of JSON; ``data`` is embedded where it is JSON.

    Bytes that are no UTF-8 are escaped, as ``\xff``. The id of a dead letter is its ``letter_id``,
    for its ``entry_id`` is the id that the entry had among the signals. A field that a producer
    gave one of these names is shown with ``own_`` before it.
    """
    known = {"stream": entry.stream, "entry_id": entry.id}
    if entry.stream == DEAD_STREAM:
        known = {
            "stream": entry.stream,
            "letter_id": entry.id,
            "entry_id": entry.text("entry_id") or entry.id,
        }
    fields: dict[str, Any] = {}
    for name, value in entry.fields.items():
        shown = f"own_{name}" if name in known else name
        fields[shown] = _embedded(value) if name == "data" else _escaped(value)
    if entry.stream == DEAD_STREAM:
        fields.pop("own_entry_id", None)
    return _encode(known | fields)


def _escaped(value: bytes) -> str:
    return value.decode(errors="backslashreplace")


def _embedded(data: bytes) -> Any:
    """Return a payload as JSON to be written as it is, as text where it is none."""
    try:
        data.decode()
        return msgspec.Raw(msgspec.json.format(data, indent=-1))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _escaped(data)
