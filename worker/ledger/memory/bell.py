"""Waking those who wait: for work, or for events."""

import asyncio

from worker.ledger.memory.stream import Order, Stream


class Listeners:
    """Those who wait for something to happen."""

    def __init__(self) -> None:
        self._events: set[asyncio.Event] = set()

    def wake(self) -> None:
        """Wake everybody."""
        for event in self._events:
            event.set()

    def listen(self) -> asyncio.Event:
        """Return an event that is set from now on whenever somebody is to wake."""
        event = asyncio.Event()
        self._events.add(event)
        return event

    def forget(self, event: asyncio.Event) -> None:
        """Wake this listener no more."""
        self._events.discard(event)


class Bell(Listeners):
    """Rings when an entry is given back; workers are woken by that and by new signals."""

    def __init__(self) -> None:
        super().__init__()
        self._stream = Stream()

    @property
    def last(self) -> Order:
        """Return the id of the last ring."""
        return self._stream.last

    def ring(self, now_ms: int) -> None:
        """Note that there is work, and wake everybody."""
        self._stream.append({}, now_ms)
        self._stream.keep_newest(1)
        self.wake()
