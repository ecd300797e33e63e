"""The output streams and the dead letters: what the account tells others."""

from collections.abc import Mapping
from typing import Final

from worker.ledger.access import DEAD_STREAM, OUTPUT_STREAMS
from worker.ledger.memory.bell import Listeners
from worker.ledger.memory.stream import Stream

#: How many of the last events are looked through for one that was announced before.
LOOKED_THROUGH: Final = 64


class Outputs:
    """The streams by short name: ``orders``, ``positions``, ``system`` and ``dead``."""

    def __init__(self) -> None:
        #: Woken by every event.
        self.listeners = Listeners()
        self.streams = {name: Stream() for name in (*OUTPUT_STREAMS, DEAD_STREAM)}
        #: How many dead letters were removed for want of room.
        self.letters_trimmed = 0

    def tell(
        self, event: tuple[str, str, str, str], subject: str, now_ms: int, *, traceparent: str = ""
    ) -> None:
        """Write one event: stream, type, id, JSON."""
        stream, kind, identity, data = event
        fields = {"type": kind, "id": identity, "subject": subject, "data": data}
        if traceparent:
            fields["traceparent"] = traceparent
        encoded = {name.encode(): value.encode() for name, value in fields.items()}
        self.streams[stream].append(encoded, now_ms)
        self.listeners.wake()

    def has_told(self, identity: str) -> bool:
        """Return whether the system stream has an event of this id among its last ones."""
        rows = self.streams["system"].rows()[-LOOKED_THROUGH:]
        return any(row.fields.get(b"id") == identity.encode() for row in rows)

    def bury(self, fields: Mapping[bytes, bytes], tail: Mapping[bytes, bytes], now_ms: int) -> None:
        """Write a dead letter: an entry's own fields, and the tail after them."""
        self.streams[DEAD_STREAM].append({**fields, **tail}, now_ms)

    def trim(self, length: int) -> None:
        """Keep the output streams at their length."""
        for name in OUTPUT_STREAMS:
            self.streams[name].keep_newest(length)
