"""The order of one API key's private requests.

Kraken refuses a request whose nonce is not above the last one it has seen of that key, and locks a
key out that does this often. Requests of one worker may overtake each other on the way (they travel
on several connections), so the next one is signed only after the one before has arrived: when its
reply is there, or when it has been under way for so long that it must have arrived.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

from worker.runtime.clock import Clock

#: After this time a request that was written counts as arrived, reply or not. A lost packet is sent
#: again by TCP after about 200 ms.
ARRIVED_S: Final = 0.3
#: Orders that have to wait no longer than this in line are sent without waiting before.
_SHORT_MS: Final = 150.0
#: Places that are remembered; the oldest are forgotten.
_MAX_PLACES: Final = 1_000
#: The share of a new measurement in the mean duration of a turn.
_WEIGHT: Final = 0.2


class RequestTurns:
    """Lets one request at a time be signed and written, first come, first served.

    Args:
        clock: measures how long turns last.
        arrived_s: after this time a request counts as arrived; 0 where requests may overtake each
            other, so that only the writing is in order.
    """

    def __init__(self, clock: Clock, arrived_s: float = ARRIVED_S) -> None:
        self._clock = clock
        self._arrived_s = arrived_s
        self._holder: Turn | None = None
        self._waiting: deque[asyncio.Future[None]] = deque()
        #: The mean duration of a turn, milliseconds.
        self._mean_ms = 0.0
        self._next_ms = 0.0
        #: When each order that has a place may join the line, by its key.
        self._places: dict[str, float] = {}

    async def take(self) -> "Turn":
        """Wait for the next turn and take it; whoever takes it ends it."""
        if self._holder is not None:
            mine = asyncio.get_running_loop().create_future()
            self._waiting.append(mine)
            try:
                await mine
            except asyncio.CancelledError:
                if mine in self._waiting:
                    self._waiting.remove(mine)
                elif mine.done() and not mine.cancelled():
                    self._pass_on()
                raise
        turn = Turn(self._clock, self._arrived_s, self._end)
        self._holder = turn
        return turn

    def reserve(self, within_ms: float, key: str = "") -> float:
        """Reserve a place in the line of orders, unless it comes later than ``within_ms``.

        Args:
            within_ms: how long the order may wait, milliseconds.
            key: the order's own; asked again by it, the place it has counts.

        Returns:
            Milliseconds until the order may join the line, 0 for now. If that is more than
            ``within_ms`` nothing was reserved.
        """
        now = self._clock.monotonic_ms()
        if key in self._places:
            left_ms = self._places[key] - now
            if left_ms <= 0:
                del self._places[key]
            return max(0.0, left_ms)
        arrival = max(self._next_ms, now)
        wait_ms = max(0.0, arrival - _SHORT_MS - now)
        if wait_ms <= within_ms:
            self._next_ms = arrival + self._mean_ms
            if key and wait_ms:
                while len(self._places) >= _MAX_PLACES:
                    del self._places[next(iter(self._places))]
                self._places[key] = now + wait_ms
        return wait_ms

    def _end(self, turn: "Turn", lasted_ms: float) -> None:
        self._mean_ms += _WEIGHT * (lasted_ms - self._mean_ms)
        if self._holder is turn:
            self._pass_on()

    def _pass_on(self) -> None:
        """Give the turn to the next in line; it stays taken until that one has it."""
        while self._waiting:
            following = self._waiting.popleft()
            if not following.done():
                following.set_result(None)
                return
        self._holder = None


class Turn:
    """One request's turn; it ends once, when the request has arrived."""

    def __init__(self, clock: Clock, arrived_s: float, on_end: "Callable[[Turn, float], None]"):
        self._clock = clock
        self._arrived_s = arrived_s
        self._on_end = on_end
        self._began_ms = clock.monotonic_ms()
        self._timer: asyncio.TimerHandle | None = None
        self._has_ended = False

    def writing(self) -> None:
        """Note that the request's first byte is about to be written."""
        if self._timer is None and not self._has_ended:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._arrived_s, self.end)

    def end(self) -> None:
        """Let the next request be signed; idempotent."""
        if self._has_ended:
            return
        self._has_ended = True
        if self._timer is not None:
            self._timer.cancel()
        self._on_end(self, self._clock.monotonic_ms() - self._began_ms)
