"""The exchange's clock, carried by the local monotonic one."""

from collections.abc import Awaitable, Callable
from typing import Final

from worker.clock import Clock
from worker.exchanges.base import ExchangeClock, ExchangeError, SendWindow

CLOCK_SAMPLES: Final = 4


class ExchangeTime:
    """Exchange time as local monotonic time plus an offset, so steps of the wall clock do no harm.

    Args:
        clock: this machine's clocks.
        grain_ms: the unit in which the exchange tells its time.
    """

    def __init__(self, clock: Clock, grain_ms: float) -> None:
        self._clock = clock
        self._grain_ms = grain_ms
        self._offset_ms = clock.now_ms() - clock.monotonic_ms()
        self._uncertainty_ms = 0.0

    def now_ms(self) -> int:
        """The exchange's time now, Unix milliseconds."""
        return int(self._clock.monotonic_ms() + self._offset_ms)

    async def measure(self, ask: Callable[[], Awaitable[float]]) -> ExchangeClock:
        """Ask for the time a few times and keep the answer with the shortest round trip.

        Raises:
            ExchangeError: the last one, if every attempt failed.
        """
        best: tuple[float, float] | None = None
        failure: ExchangeError | None = None
        for _ in range(CLOCK_SAMPLES):
            sent = self._clock.monotonic_ms()
            try:
                stamp = await ask()
            except ExchangeError as error:
                failure = error
                continue
            back = self._clock.monotonic_ms()
            uncertainty = (back - sent + self._grain_ms) / 2
            if best is None or uncertainty < best[0]:
                # The answer was true somewhere between: take the middle of both intervals.
                best = uncertainty, stamp + self._grain_ms / 2 - (sent + back) / 2
        if best is None:
            raise failure or ExchangeError("the exchange's clock was not measured")
        self._uncertainty_ms, self._offset_ms = best
        ours = self._clock.now_ms() - self._clock.monotonic_ms()
        return ExchangeClock(self._offset_ms - ours, self._uncertainty_ms)

    def window(self, valid_ms: int) -> SendWindow:
        """A window that opens now; its local end allows for the whole clock uncertainty."""
        now = self._clock.monotonic_ms()
        return SendWindow(
            int(now + self._offset_ms), valid_ms, now + valid_ms + self._uncertainty_ms
        )
