"""The bell: wakes the workers that wait for work."""

import asyncio

from worker.ledger.memory.stream import Order, Stream


class Bell:
    """Rings when an entry is given back; whoever listens is woken by that and by new signals."""

    def __init__(self) -> None:
        self._stream = Stream()
        self._listeners: set[asyncio.Event] = set()

    @property
    def last(self) -> Order:
        """Return the id of the last ring."""
        return self._stream.last

    def ring(self, now_ms: int) -> None:
        """Note that there is work, and wake everybody."""
        self._stream.append({}, now_ms)
        self._stream.keep_newest(1)
        self.wake()

    def wake(self) -> None:
        """Wake everybody."""
        for event in self._listeners:
            event.set()

    def listen(self) -> asyncio.Event:
        """Return an event that is set from now on whenever somebody is to wake."""
        event = asyncio.Event()
        self._listeners.add(event)
        return event

    def forget(self, event: asyncio.Event) -> None:
        """Wake this listener no more."""
        self._listeners.discard(event)
