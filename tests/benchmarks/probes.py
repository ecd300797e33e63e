"""Signals sent one at a time or at a steady rate, and when their terminal events could be read."""

import select
import time
from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

from tests.benchmarks.processes import BenchmarkError
from tests.benchmarks.signals import ORDERS, SIGNALS, Signal
from tests.benchmarks.wire import Wire, pack
from worker.domain.event import TERMINAL_EVENTS

_TERMINAL: Final = frozenset(kind.__name__.encode() for kind in TERMINAL_EVENTS)
_TICK_S: Final = 0.001
#: Between two signals sent one at a time: time to come to rest.
_REST_S: Final = 0.001
_PATIENCE_S: Final = 20.0
_BLOCK_MS: Final = 2_000


class Probe(msgspec.Struct):
    """One signal's times, monotonic nanoseconds; ``read_ns`` is 0 while its end is not known."""

    signal: Signal
    sent_ns: int
    read_ns: int = 0

    @property
    def to_event_ms(self) -> float:
        """``XADD`` to terminal event readable."""
        return (self.read_ns - self.sent_ns) / 1e6

    def to_exchange_ms(self, reached: dict[str, int]) -> float:
        """``XADD`` to the order's arrival, from the notes of whoever it reached."""
        return (reached[self.signal.client_id] - self.sent_ns) / 1e6


class _Flag(msgspec.Struct):
    """The part of an event that says whether its signal is over; bare loops leave it out."""

    terminal: bool = True


_read_flag: Final = msgspec.json.Decoder(_Flag).decode


class _Events:
    """Follows the order events on a connection of its own; timing first, reading later."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        last = wire.call("XREVRANGE", ORDERS, "+", "-", "COUNT", 1)
        self._last = last[0][0] if last else b"0-0"
        self.batches: list[tuple[int, Any]] = []

    def ask(self) -> None:
        """Wait, on the server, for what comes next."""
        self.wire.send(
            pack("XREAD", "COUNT", 1_000, "BLOCK", _BLOCK_MS, "STREAMS", ORDERS, self._last)
        )

    def take(self) -> list[Any]:
        """The answer; its time is noted before anything is looked at."""
        reply = self.wire.receive()
        at_ns = time.monotonic_ns()
        entries: list[Any] = reply[0][1] if reply else []
        if entries:
            self._last = entries[-1][0]
            self.batches.append((at_ns, entries))
        return entries

    def ends(self) -> dict[str, tuple[int, bytes]]:
        """When each signal's terminal event could be read, and its type."""
        found = {}
        for at_ns, entries in self.batches:
            for _, flat in entries:
                fields = dict(zip(flat[::2], flat[1::2], strict=True))
                if _is_end(fields):
                    found[fields.get(b"subject", b"").decode()] = (at_ns, fields[b"type"])
        return found


def ended_in(entries: Iterable[Any]) -> int:
    """How many of a stream's rows are terminal order events."""
    return sum(_is_end(dict(zip(flat[::2], flat[1::2], strict=True))) for _, flat in entries)


def _is_end(fields: dict[bytes, bytes]) -> bool:
    return fields[b"type"] in _TERMINAL and _read_flag(fields[b"data"]).terminal


def one_at_a_time(port: int, signals: Iterable[Signal]) -> list[Probe]:
    """Send each signal when the one before has ended and everything has come to rest.

    Raises:
        BenchmarkError: some event did not come.
    """
    probes = []
    with Wire(port) as sender, Wire(port) as reader:
        events = _Events(reader)
        for signal in signals:
            command = pack("XADD", SIGNALS, "*", "data", signal.data)
            events.batches.clear()
            events.ask()
            time.sleep(_REST_S)
            probe = Probe(signal, time.monotonic_ns())
            sender.send(command)
            while not ended_in(events.take()):
                if time.monotonic_ns() - probe.sent_ns > _PATIENCE_S * 1e9:
                    raise BenchmarkError(f"{signal.signal_id} did not end")
                events.ask()
            probe.read_ns = events.batches[-1][0]
            sender.receive()
            probes.append(probe)
    return probes


class Load(msgspec.Struct):
    """What a steady load found; ``late_ms`` is by how much the harness itself fell behind."""

    probes: list[Probe]
    late_ms: float


def at_rate(port: int, signals: Sequence[Signal], rate: float) -> Load:
    """Send ``rate`` signals a second, whatever becomes of them, then wait for every end.

    Raises:
        BenchmarkError: some signal did not end in an order, or not in time.
    """
    commands = [pack("XADD", SIGNALS, "*", "data", signal.data) for signal in signals]
    sent_ns = [0] * len(signals)
    late, sent, ended = 0.0, 0, 0
    with Wire(port) as sender, Wire(port) as reader:
        events = _Events(reader)
        events.ask()
        started = time.monotonic()
        deadline = started + len(signals) / rate + _PATIENCE_S
        while ended < len(signals):
            now = time.monotonic()
            if now > deadline:
                raise BenchmarkError(f"only {ended} of {len(signals)} signals ended")
            due = min(int((now - started) * rate) + 1, len(signals))
            if due > sent:
                late = max(late, now - started - sent / rate)
                sent_ns[sent:due] = [time.monotonic_ns()] * (due - sent)
                sender.send(b"".join(commands[sent:due]))
                sent = due
            readable = select.select([sender, reader], [], [], _TICK_S)[0]
            if sender in readable:
                sender.discard()
            if reader in readable:
                ended += ended_in(events.take())
                events.ask()
    ends = events.ends()
    failed = [signal_id for signal_id, (_, kind) in ends.items() if kind != b"OrderFilled"]
    if failed:
        raise BenchmarkError(f"{len(failed)} signals did not fill, {failed[0]} for one")
    probes = [
        Probe(signal, sent_ns[n], ends[signal.signal_id][0]) for n, signal in enumerate(signals)
    ]
    return Load(probes, late * 1000)
