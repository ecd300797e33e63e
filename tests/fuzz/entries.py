"""Entries that a hostile producer may put on the stream, one function for each kind.

All but the kinds in :data:`HEAVY` cost the server and the workers about as much as honest signals.
"""

import json
import random
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

#: The largest value that is tried, bytes: over it the shipped server refuses a value unread.
MAX_VALUE: Final = 1_048_000
_SYMBOLS: Final = tuple(f"ZZ{number}/USDT" for number in range(50))
_CHARACTERS: Final = ("a", "\x00", "\x1b[2J", "\x9b", "\u202e", "\U0001f4a3", "\\", '"', "\ud800")
_ODD_VALUES: Final[tuple[Any, ...]] = (
    None, True, 0, -1, 1e308, 10**40, "", "NaN", "-Infinity", "1e400", "9" * 60_000, "\u0661",
    [], {}, [[]], {"a": {}}, "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59Z",
    "3026-01-01T00:00:00Z", "x" * 30_000,
)  # fmt: skip


class HostileEntry(NamedTuple):
    """One entry: its fields, and the id it asks for."""

    fields: Mapping[bytes, bytes]
    entry_id: bytes = b"*"


class HostileEntries:
    """An endless, repeatable mix of entries.

    Args:
        seed: the same seed gives the same entries, but for their times.
        kinds: names of :data:`KINDS`.
        now: the time, aware.
    """

    def __init__(
        self, seed: int, kinds: tuple[str, ...], now: Callable[[], datetime] | None = None
    ) -> None:
        self._now = now or (lambda: datetime.now(UTC))
        self._rng = random.Random(seed)
        self._kinds = kinds
        self._number = 0
        self._sent: list[dict[str, Any]] = []

    def make(self) -> tuple[str, HostileEntry]:
        """Return the next entry and its kind."""
        kind = self._rng.choice(self._kinds)
        return kind, KINDS[kind](self)

    # ---- kinds --------------------------------------------------------------------------------

    def noise(self) -> HostileEntry:
        """Any fields with any bytes."""
        count = self._rng.choice((1, 2, 5, 20))
        return HostileEntry({self._bytes(40): self._bytes(400) for _ in range(count)})

    def valid(self) -> HostileEntry:
        """Good signals: openings, closes, repetitions, used ids for something else."""
        if self._sent and self._rng.random() < 0.2:
            again = self._rng.choice(self._sent)
            if self._rng.random() < 0.5:
                again = again | {"strategy_id": "another"}
            return self._entry(again)
        signal = self._signal()
        if self._rng.random() < 0.4:
            signal = {k: v for k, v in signal.items() if k not in _ONLY_OPEN} | {"action": "close"}
        self._sent.append(signal)
        del self._sent[:-200]
        return self._entry(signal)

    def odd_values(self) -> HostileEntry:
        """One to three fields of a good signal with values of another type or size."""
        signal = self._signal()
        for name in self._rng.sample([*signal, "metadata", "expires_at", "stop_los"], 3):
            signal[name] = self._rng.choice(_ODD_VALUES)
        return self._entry(signal)

    def mutated(self) -> HostileEntry:
        """A good signal's bytes, some of them changed, doubled, taken out or cut off."""
        data = bytearray(json.dumps(self._signal()).encode())
        for _ in range(self._rng.randrange(1, 8)):
            at = self._rng.randrange(len(data))
            match self._rng.randrange(4):
                case 0:
                    data[at] = self._rng.randrange(256)
                case 1:
                    data[at:at] = data[at : at + self._rng.randrange(1, 40)]
                case 2:
                    del data[at : at + self._rng.randrange(1, 10)]
                case _:
                    data[at:at] = self._rng.choice((b'"', b"{", b"}", b"\\u0000", b"\xff", b","))
            data = data or bytearray(b" ")
        return HostileEntry({b"data": bytes(data)})

    def nested(self) -> HostileEntry:
        """Lists or objects in each other, deeper than a parser goes, closed or not."""
        depth = self._rng.choice((10, 500, 2_000, 30_000))
        begin, end = self._rng.choice(((b"[", b"]"), (b'{"a":', b"}")))
        inner = (begin * depth)[:32_000] + (end * depth)[: self._rng.choice((0, 32_000))]
        if self._rng.random() < 0.5:
            inner = json.dumps(self._signal())[:-1].encode() + b',"metadata":' + inner + b"}"
        return HostileEntry({b"data": inner[:65_000]})

    def escapes(self) -> HostileEntry:
        """Controls, escapes, half characters and emoji in every text, and in names."""
        signal = self._signal()
        for name in self._rng.sample([*signal, "strategy_id"], 2):
            signal[name] = self._rng.choice(_CHARACTERS) * self._rng.randrange(1, 200)
        if self._rng.random() < 0.3:
            signal[self._rng.choice(_CHARACTERS) * 20] = 1
        return self._entry(signal)

    def groups(self) -> HostileEntry:
        """Message groups of any name and length, and one that many entries share."""
        key = self._rng.choice(
            (b"", b"one", b"one", b"x" * 129, b"!1-1", b"\x00", self._bytes(900))
        )
        fields = dict(self._entry(self._signal()).fields)
        return HostileEntry(fields | {b"key": key, b"traceparent": self._bytes(200)})

    def lifetimes(self) -> HostileEntry:
        """Signals from any time that live until any time."""
        signal = self._signal()
        for name in ("created_at", "expires_at"):
            signal[name] = self._time(self._rng.choice((-1e9, -60, 0, 4, 60, 86_500, 1e9, 1e11)))
        return self._entry(signal)

    def forged(self) -> HostileEntry:
        """Signatures of nobody."""
        fields = dict(self._entry(self._signal()).fields)
        key_id = self._rng.choice((b"desk", self._bytes(100)))
        return HostileEntry(fields | {b"key_id": key_id, b"signature": self._bytes(64)})

    def past_ids(self) -> HostileEntry:
        """An id that is not after the last one: the server refuses it."""
        entry = self._entry(self._signal())
        return HostileEntry(entry.fields, self._rng.choice((b"1-1", b"0-0", b"x", b"5")))

    def large(self) -> HostileEntry:
        """Values up to the largest that the shipped server takes."""
        size = self._rng.choice((65_536, 65_537, 300_000, MAX_VALUE))
        data = json.dumps(self._signal())[:-1].encode() + b',"metadata":{"m":"'
        return HostileEntry({b"data": data.ljust(size - 3, b"m") + b'"}}'})

    def many_fields(self) -> HostileEntry:
        """Thousands of small fields."""
        count = self._rng.choice((1_000, 10_000, 50_000))
        return HostileEntry({b"%d" % number: b"" for number in range(count)})

    def future_ids(self) -> HostileEntry:
        """An id from later on, which every later id must exceed."""
        entry = self._entry(self._signal())
        later_ms = int(
            self._now().timestamp() * 1_000 + self._rng.choice((1_000, 60_000, 3_600_000))
        )
        return HostileEntry(entry.fields, b"%d-0" % later_ms)

    # ---- parts --------------------------------------------------------------------------------

    def _signal(self) -> dict[str, Any]:
        self._number += 1
        return {
            "signal_id": f"z-{self._number}",
            "created_at": self._time(),
            "exchange": "paper",
            "symbol": self._rng.choice(_SYMBOLS),
            "direction": self._rng.choice(("long", "short")),
            "strength": 0.9,
            "confluence_score": 8,
            "entry_price": "100",
            "quantity": "0.1",
        }

    def _entry(self, signal: Mapping[str, Any]) -> HostileEntry:
        text = json.dumps(signal, ensure_ascii=self._rng.random() < 0.5)
        return HostileEntry({b"data": text.encode(errors="surrogatepass")[:65_536]})

    def _time(self, offset_s: float = 0.0) -> str:
        now = self._now()
        furthest = (_LAST if offset_s > 0 else _FIRST) - now
        offset = min(abs(timedelta(seconds=offset_s)), abs(furthest))
        return (now + offset if offset_s > 0 else now - offset).isoformat()

    def _bytes(self, most: int) -> bytes:
        return self._rng.randbytes(self._rng.randrange(1, most))


_ONLY_OPEN: Final = frozenset({"direction", "strength", "confluence_score", "quantity"})
#: The first time that a datetime of Python may have is far behind, the last far ahead.
_FIRST, _LAST = datetime(1, 1, 2, tzinfo=UTC), datetime(9999, 12, 30, tzinfo=UTC)
KINDS: Final[Mapping[str, Callable[[HostileEntries], HostileEntry]]] = {
    "noise": HostileEntries.noise,
    "valid": HostileEntries.valid,
    "odd_values": HostileEntries.odd_values,
    "mutated": HostileEntries.mutated,
    "nested": HostileEntries.nested,
    "escapes": HostileEntries.escapes,
    "groups": HostileEntries.groups,
    "lifetimes": HostileEntries.lifetimes,
    "forged": HostileEntries.forged,
    "past_ids": HostileEntries.past_ids,
    "large": HostileEntries.large,
    "many_fields": HostileEntries.many_fields,
    "future_ids": HostileEntries.future_ids,
}
#: Kinds whose cost is in what the server must read, or that move the stream's ids.
HEAVY: Final = ("large", "many_fields", "future_ids")
LIGHT: Final = tuple(kind for kind in KINDS if kind not in HEAVY)
