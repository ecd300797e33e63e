"""What the scripts keep as msgpack: entries in hand or waiting, and execution records."""

import msgspec


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """An entry of the signals stream until it ends: one field of the hash ``entries``.

    ``prelude.lua`` names the places. ``group`` is raw: a producer may have put any bytes there.
    ``owner`` is the consumer it is pending for, ``worker`` who was granted it last ('' once it was
    given back), ``signal`` the id admitted under it, ``following`` the next entry of its group.
    """

    group: msgspec.Raw
    owner: str
    worker: str
    token: int
    deliveries: int
    signal: str
    following: str
    refused: str = ""
    asked: str = ""


class Record(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """A signal's execution record: what was meant to be done, then what came of it.

    Written by ``admit`` before anything is sent, replaced by ``commit``; ``prelude.lua`` names the
    places. Times are Redis's, Unix milliseconds, 0 for never. ``intent`` and ``position`` (as it
    was) are kept until the end only; ``token``, ``outcome`` and ``ended_at`` follow then. The texts
    are JSON.
    """

    entry: str
    digest: str = ""
    signal: str
    state: str
    worker: str = ""
    admitted_at: int = 0
    unresolved_since: int = 0
    intent: str = ""
    position: str = ""
    token: int = 0
    outcome: str = ""
    ended_at: int = 0


decode_entry = msgspec.msgpack.Decoder(Entry).decode
decode_record = msgspec.msgpack.Decoder(Record).decode
