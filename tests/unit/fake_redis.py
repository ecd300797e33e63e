"""A Redis made of Python, for tests of streams that need no script.

fakeredis is not Redis: it has no ``cmsgpack``, so the ledger's scripts do not run on it, and over
TCP it closes the connection after an error reply. Whatever touches either is tested on a real
server, in ``tests/integration``.
"""

from collections.abc import Mapping
from typing import Any

from redis import Redis

Fields = dict[bytes, bytes]


class FakeRedis:
    """One fake server: its address, and a client of the tests' own.

    Args:
        port: where it listens on the loopback interface.
    """

    def __init__(self, port: int) -> None:
        self.port = port
        self.url = f"redis://127.0.0.1:{port}/0"
        self.client: Any = Redis.from_url(self.url)

    def stored(self, stream: str, account: str = "main") -> list[tuple[str, Fields]]:
        """Return every entry of one of the account's streams, ids as text."""
        rows = self.client.xrange(f"{{{account}}}:{stream}")
        return [(entry_id.decode(), fields) for entry_id, fields in rows]

    def add(self, stream: str, fields: Mapping[str, str | bytes], entry_id: str = "*") -> str:
        """Append an entry to one of the streams of account ``main``; return its id."""
        added: bytes = self.client.xadd(f"{{main}}:{stream}", dict(fields), id=entry_id)
        return added.decode()

    def add_event(self, event_id: str, *, stream: str = "orders", **fields: str) -> str:
        """Append an event of signal ``s``; return the entry's id."""
        event = {"type": "OrderFilled", "id": event_id, "subject": "s", "data": "{}"}
        return self.add(stream, event | fields)
