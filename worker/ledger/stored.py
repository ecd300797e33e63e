"""Values the scripts store: entries, execution records, rows of the book."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Final

import msgspec

#: A record's state from admission to the signal's end.
STATE_ADMITTED: Final = "ADMITTED"
#: ... and while its order goes on without it: acknowledged, followed by turns.
STATE_RESTING: Final = "RESTING"


class Reservation(StrEnum):
    """A signal's claim on a position: to open it, to close it, or an entry that rests for it."""

    NONE = ""
    OPENING = "opening"
    CLOSING = "closing"
    RESTING = "resting"


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """An entry of the signals stream until it ends: one field of the hash ``entries``.

    A sequence without the number of its values. ``group`` is raw: a producer may have put any
    bytes there. ``owner`` is the consumer it is pending for, ``worker`` who was granted it last
    (empty once it was given back), ``refused`` the question and the code of the refusal it got, or
    while it waits behind others what it is counted as (:class:`~worker.ledger.layouts.Line`),
    ``following`` the next entry of its group, ``signal`` the id admitted under it.
    """

    group: msgspec.Raw
    owner: str
    worker: str
    token: int
    deliveries: int
    refused: str
    following: str
    signal: str


class AdmittedPart(msgspec.Struct, frozen=True, kw_only=True, array_like=True, gc=False):
    """The part of a record that a worker encodes for an admission; the server adds the next three.

    ``plan`` is JSON: what the order is meant to do.
    """

    entry: str
    digest: str = ""
    signal: str
    state: str
    worker: str = ""
    plan: str = ""


class EndedPart(AdmittedPart, frozen=True, kw_only=True, array_like=True, gc=False):
    """The part of a record that a worker encodes for a commit; the server adds the last.

    Times are Redis's, Unix milliseconds, 0 for never. ``position`` is JSON, as it was at admission.
    """

    admitted_at: int = 0
    unresolved_since: int = 0
    position: str = ""
    token: int = 0
    outcome: str = ""


class Record(EndedPart, frozen=True, kw_only=True, array_like=True, gc=False):
    """A signal's execution record: what was meant to be done, then what came of it.

    An array. ``admit`` writes it up to ``position`` before anything is sent, ``commit`` replaces
    it; both only append the end, which the server knows, to what the worker has encoded. ``plan``
    and ``position`` are kept until the end only; ``token``, ``outcome`` (JSON) and ``ended_at``
    follow then.
    """

    ended_at: int = 0


class OrderRow(msgspec.Struct, frozen=True, kw_only=True, array_like=True, gc=False):
    """An order at the exchange that outlives its signal's entry: ``order:<client order id>``.

    A JSON array.

    ``entry`` is the id of the stream entry it came by, ``parent`` the client order id of the order
    it is a part of (empty if none), ``state`` an :class:`~worker.domain.order.OrderState`,
    ``request`` the order as it was sent (JSON). ``filled`` (base units) and ``average_price``
    (quote units, empty without fills) are what the exchange has reported and events have told.
    Times are Unix milliseconds: ``placed_ms`` when it was written down, ``ends_ms`` when it is to
    be cancelled, 0 for never. ``ending`` is why its cancellation was asked for, empty before.
    """

    client_order_id: str
    signal: str
    entry: str
    role: str
    position_key: str
    state: str
    exchange_order_id: str
    request: str
    attempts: int
    placed_ms: int
    parent: str = ""
    filled: str = "0"
    average_price: str = ""
    ends_ms: int = 0
    ending: str = ""

    @property
    def exchange_key(self) -> str:
        """The order's field in the index by exchange id; empty where that id is not known."""
        exchange = self.position_key.partition(":")[0]
        return f"{exchange}:{self.exchange_order_id}" if self.exchange_order_id else ""


class BookRow(msgspec.Struct, frozen=True):
    """A value of the hash ``book``: a position (JSON) and its reservation.

    ``position`` is empty where there is none, ``signal`` where nobody reserved it.
    """

    position: bytes
    reservation: Reservation = Reservation.NONE
    signal: str = ""


def read_book_row(raw: bytes) -> BookRow:
    """Read a value of the book, as ``read_position.lua`` does.

    It is ``{...}``, or a reservation: ``opening s-1``, ``closing s-1 {...}``, ``resting s-1`` or
    ``resting s-1 {...}``.
    """
    if raw.startswith(b"{"):
        return BookRow(raw)
    reservation, signal, *position = raw.split(b" ", 2)
    return BookRow(
        position[0] if position else b"", Reservation(reservation.decode()), signal.decode()
    )


encode: Final = msgspec.msgpack.Encoder().encode
decode_record: Final = msgspec.msgpack.Decoder(Record).decode
decode_order: Final = msgspec.json.Decoder(OrderRow).decode
_encode_order: Final = msgspec.json.Encoder().encode
_decode_entry: Final = msgspec.msgpack.Decoder(Entry).decode


def array_start(count: int) -> bytes:
    """Return the first bytes of a msgpack array of ``count`` values."""
    if count < 16:  # msgpack specification, "array format family"
        return bytes((0x90 | count,))
    return b"\xdc" + count.to_bytes(2, "big")


def packed(values: Sequence[object]) -> bytes:
    """Return values one behind the other: an array of them without its beginning."""
    return encode(values)[len(array_start(len(values))) :]


_ENTRY_START: Final = array_start(len(Entry.__struct_fields__))
#: A record begins with the number of its fields: those there are at admission, and all of them.
_ADMITTED_START: Final = array_start(Record.__struct_fields__.index("position") + 1)
_ENDED_START: Final = array_start(len(Record.__struct_fields__))


def encode_record(part: AdmittedPart | EndedPart) -> bytes:
    """Return the beginning of a record, to which the server appends the rest."""
    if isinstance(part, EndedPart):
        return _ENDED_START + encode(part)[1:]
    return _ADMITTED_START + encode(part)[1:]


def encode_order(row: OrderRow) -> str:
    """Return an order as its key has it: a JSON array."""
    return _encode_order(row).decode()


def decode_entry(raw: bytes) -> Entry:
    """Decode an entry as the hash ``entries`` has it."""
    return _decode_entry(_ENTRY_START + raw)


def read_record(signal_id: str, raw: bytes | None) -> Record:
    """Read the record of a signal that was admitted; an empty one where it has been lost."""
    return decode_record(raw) if raw else Record(entry="", signal=signal_id, state="")
