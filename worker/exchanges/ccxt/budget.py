"""A token bucket for orders, in place of ccxt's throttle, which costs 200 ms an order."""

from typing import Final

from worker.runtime.clock import Clock

BURST_SECONDS: Final = 1.0


class OrderBudget:
    """At most ``per_second`` orders a second from this process, with a second's worth in a burst.

    The generic cell rate algorithm (ITU-T I.371): one number, first come first served.

    Args:
        per_second: 0 means no limit.
        clock: whose time.
    """

    def __init__(self, per_second: float, clock: Clock) -> None:
        self._interval_ms = 1000.0 / per_second if per_second else 0.0
        self._burst_ms = max(0.0, BURST_SECONDS * 1000.0 - self._interval_ms)
        self._clock = clock
        self._next_ms = 0.0

    def take(self, within_ms: float) -> float:
        """Take the next turn, unless it comes later than ``within_ms``.

        Returns:
            Milliseconds until the turn, 0 for now. If that is more than ``within_ms`` the turn was
            not taken, so that nobody waits behind an order that will not be sent.
        """
        if not self._interval_ms:
            return 0.0
        now = self._clock.monotonic_ms()
        arrival = max(self._next_ms, now)
        wait_ms = max(0.0, arrival - self._burst_ms - now)
        if wait_ms <= within_ms:
            self._next_ms = arrival + self._interval_ms
        return wait_ms
