"""Encodes events as the JSON text the ledger writes, parts that events share encoded once.

A settled order has three events or more about the same signal and order. Instead of encoding the
header in each, :func:`share` encodes a part as JSON members (an object's text without its braces)
and :func:`encode` joins such texts with commas. The result is one JSON object only if every text
holds at least one member and no name occurs twice; :func:`check_parts` refuses event types for
which that does not hold, when this module is imported.
"""

from typing import Final

import msgspec

from worker.domain.event import STREAM_OF, Event, Header

#: Stream (short name), event type, event id, JSON.
EventText = tuple[str, str, str, str]
_encode: Final = msgspec.json.Encoder().encode
#: The members that come before an event's parts.
_LEADING: Final = ("type", "event_id")
#: By type of event: its stream, its name, and how its JSON begins.
_BEGINNINGS: Final = {
    kind: (stream, kind.__name__, f'{{"type":"{kind.__name__}","event_id":"')
    for kind, stream in STREAM_OF.items()
}


def share(part: Header | Event) -> str:
    """Encode a part as JSON members without braces, to be joined into every event that has it."""
    return _encode(part)[1:-1].decode()


def encode(event: Event, identity: str, shared: str) -> EventText:
    """Encode an event from its own fields and the text of the parts it shares.

    Args:
        event: its own fields.
        identity: its id, plain ASCII without quotes.
        shared: its ``parts`` by :func:`share`, in order, joined with commas.
    """
    return announce(type(event), identity, shared, _encode(event)[1:-1].decode())


def announce(kind: type[Event], identity: str, shared: str, own: str) -> EventText:
    """Encode an event whose own fields are shared text too.

    Args:
        kind: the event's type.
        identity: its id, plain ASCII without quotes.
        shared: its ``parts`` by :func:`share`, in order, joined with commas.
        own: its own fields by :func:`share`.
    """
    stream, name, beginning = _BEGINNINGS[kind]
    return stream, name, identity, f'{beginning}{identity}",{shared},{own}}}'


def check_parts(kind: type[Event]) -> None:
    """Check that the members of an event's parts and its own make one JSON object.

    Raises:
        TypeError: a part may encode to no members, is not encoded as an object, is tagged (its
            ``type`` would come twice), or repeats a name.
    """
    seen = set(_LEADING)
    for part in (*kind.parts, kind):
        config = part.__struct_config__
        if config.array_like or config.omit_defaults or config.tag is not None:
            raise TypeError(f"{kind.__name__}: {part.__name__} is not encoded with all its fields")
        names = part.__struct_encode_fields__
        if not names:
            raise TypeError(f"{kind.__name__}: {part.__name__} has no field")
        if repeated := seen.intersection(names):
            raise TypeError(f"{kind.__name__}: {', '.join(sorted(repeated))} would come twice")
        seen.update(names)


for _kind in STREAM_OF:
    check_parts(_kind)
