"""A token bucket for orders, in place of ccxt's throttle, which costs 200 ms an order."""

from typing import Final

from worker.clock import Clock
from worker.exchanges.base import Outcome, RateLimitError

BURST_SECONDS: Final = 1.0


class OrderBudget:
    """At most ``per_second`` orders a second from this process, with a second's worth in a burst.

    The generic cell rate algorithm (ITU-T I.371): one number, first come first served.

    Args:
        per_second: 0 means no limit.
        clock: whose time and waiting.
    """

    def __init__(self, per_second: float, clock: Clock) -> None:
        self._interval_ms = 1000.0 / per_second if per_second else 0.0
        self._burst_ms = max(0.0, BURST_SECONDS * 1000.0 - self._interval_ms)
        self._clock = clock
        self._next_ms = 0.0

    async def take(self, until_mono_ms: float) -> None:
        """Wait for a turn, unless it comes after ``until_mono_ms``.

        Raises:
            RateLimitError: THROTTLED, with the time to wait; nothing was sent.
        """
        if not self._interval_ms:
            return
        now = self._clock.monotonic_ms()
        arrival = max(self._next_ms, now)
        wait_ms = arrival - self._burst_ms - now
        if now + wait_ms > until_mono_ms:
            raise RateLimitError(
                "max_orders_per_second is used up",
                outcome=Outcome.THROTTLED,
                code="local_budget",
                retry_after_s=wait_ms / 1000.0,
            )
        self._next_ms = arrival + self._interval_ms
        if wait_ms > 0:
            await self._clock.sleep(wait_ms / 1000.0)
