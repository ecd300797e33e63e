"""What the scripts keep as msgpack: entries in hand or waiting, and execution records."""

from typing import Final

import msgspec


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """An entry of the signals stream until it ends: one field of the hash ``entries``.

    A sequence; ``prelude.lua`` names the places. ``group`` is raw: a producer may have put any
    bytes there. ``owner`` is the consumer it is pending for, ``worker`` who was granted it last (''
    once it was given back), ``refused`` the refusal it got, and when asked, ``following`` the next
    entry of its group, ``signal`` the id admitted under it.
    """

    group: msgspec.Raw
    owner: str
    worker: str
    token: int
    deliveries: int
    refused: str
    following: str
    signal: str


class Record(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """A signal's execution record: what was meant to be done, then what came of it.

    An array. ``admit`` writes it before anything is sent, ``commit`` replaces it; both only put the
    end, which the server knows, to what the worker has encoded. ``prelude.lua`` names the places.
    Times are Redis's, Unix milliseconds, 0 for never. ``intent`` and ``position`` (as it was) are
    kept until the end only; ``token``, ``outcome`` and ``ended_at`` follow then. The texts are
    JSON.
    """

    entry: str
    digest: str = ""
    signal: str
    state: str
    worker: str = ""
    intent: str = ""
    admitted_at: int = 0
    unresolved_since: int = 0
    position: str = ""
    token: int = 0
    outcome: str = ""
    ended_at: int = 0


class Place(msgspec.Struct, frozen=True):
    """What the hash ``book`` has of a place: a position (JSON) and whether a signal changes it.

    ``position`` is empty where there is none; ``busy`` is ``opening``, ``closing`` or empty, and
    ``signal`` whose doing that is.
    """

    position: bytes
    busy: str = ""
    signal: str = ""


def read_place(raw: bytes) -> Place:
    """``{...}``, ``opening s-1`` or ``closing s-1 {...}``, as ``place_of`` in ``prelude.lua``."""
    if raw.startswith(b"{"):
        return Place(raw)
    busy, signal, *position = raw.split(b" ", 2)
    return Place(position[0] if position else b"", busy.decode(), signal.decode())


#: The first byte of an array of fewer than sixteen values, without their number.
_ARRAY: Final = 0x90
#: With what a record begins, from admission on and at its end: how many fields it has.
ADMITTED_RECORD: Final = bytes((_ARRAY | 9,))
ENDED_RECORD: Final = bytes((_ARRAY | len(Record.__struct_fields__),))
_ENTRY: Final = bytes((_ARRAY | len(Entry.__struct_fields__),))

encode: Final = msgspec.msgpack.Encoder().encode
decode_record: Final = msgspec.msgpack.Decoder(Record).decode
_decode_entry: Final = msgspec.msgpack.Decoder(Entry).decode


def decode_entry(raw: bytes) -> Entry:
    """An entry as the hash has it."""
    return _decode_entry(_ENTRY + raw)
