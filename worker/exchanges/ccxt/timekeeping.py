"""The exchange's clock, carried by the local monotonic one."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import msgspec

from worker.exchanges.errors import ExchangeError
from worker.exchanges.ports import ClockOffset, SendWindow
from worker.runtime.clock import Clock

CLOCK_SAMPLES: Final = 4
#: While the bounds are wider than this, a sample waits for the moment that narrows them most. A
#: clock of whole seconds is known this well after three samples, in about a second.
CLOSE_ENOUGH_MS: Final = 300.0


class Bounds(msgspec.Struct, frozen=True, gc=False):
    """Bounds of the exchange's time minus the local monotonic time."""

    low_ms: float
    high_ms: float

    @property
    def width_ms(self) -> float:
        """The distance between the bounds."""
        return self.high_ms - self.low_ms

    @property
    def middle_ms(self) -> float:
        """The mean of the bounds."""
        return (self.low_ms + self.high_ms) / 2


class ExchangeTime:
    """Exchange time as local monotonic time plus an offset, safe from steps of the wall clock.

    Args:
        clock: this machine's clocks.
        grain_ms: the unit of the exchange's timestamps, which are rounded down to it.
    """

    def __init__(self, clock: Clock, grain_ms: float) -> None:
        self._clock = clock
        self._grain_ms = grain_ms
        # Until it is measured, and as long as that agrees, the exchange's time is this machine's.
        self._offset_ms = clock.now_ms() - clock.monotonic_ms()
        self._uncertainty_ms = 0.0
        #: When the sample under way was sent; whoever waits for its turn sets it again.
        self.sent_ms = 0.0

    def now_ms(self) -> int:
        """Return the exchange's time now, Unix milliseconds."""
        return int(self._clock.monotonic_ms() + self._offset_ms)

    async def measure(self, ask: Callable[[], Awaitable[float]]) -> ClockOffset:
        """Ask for the time a few times and set the offset within the bounds of all answers.

        Raises:
            ExchangeError: the last one, if every attempt failed.
        """
        samples: list[Bounds] = []
        failure: ExchangeError | None = None
        for _ in range(CLOCK_SAMPLES):
            await self._await_tick(samples)
            self.sent_ms = self._clock.monotonic_ms()
            try:
                stamp = await ask()
            except ExchangeError as error:
                failure = error
                continue
            back = self._clock.monotonic_ms()
            # At some moment between the two its clock stood between this stamp and the next one.
            samples.append(Bounds(stamp - back, stamp + self._grain_ms - self.sent_ms))
        if not samples:
            raise failure or ExchangeError("the exchange's clock was not measured")
        self._settle(_common(samples))
        ours = self._clock.now_ms() - self._clock.monotonic_ms()
        return ClockOffset(self._offset_ms - ours, self._uncertainty_ms)

    async def _await_tick(self, samples: Sequence[Bounds]) -> None:
        """Wait so that the next request arrives at a tick of a coarse clock, in mid-bounds.

        Its answer then halves the bounds: before the tick it is one unit, after it the next.
        """
        if not samples:
            return
        known = _common(samples)
        trip_ms = min(sample.width_ms for sample in samples) - self._grain_ms
        if known.width_ms > max(CLOSE_ENOUGH_MS, 2 * trip_ms):
            arrives = self._clock.monotonic_ms() + trip_ms / 2 + known.middle_ms
            await self._clock.sleep((-arrives % self._grain_ms) / 1000)

    def _settle(self, bounds: Bounds) -> None:
        """Set the offset within ``bounds``, to the old one if possible, so that time does not jump.

        It must not jump back further than needed: nonces are made of it.
        """
        if self._offset_ms >= bounds.low_ms:
            self._offset_ms = min(self._offset_ms, bounds.high_ms)
        else:
            self._offset_ms = bounds.middle_ms
        self._uncertainty_ms = max(
            self._offset_ms - bounds.low_ms, bounds.high_ms - self._offset_ms
        )

    def window(self, valid_ms: int) -> SendWindow:
        """Return a window that opens now; its local end allows for the whole clock uncertainty."""
        now = self._clock.monotonic_ms()
        return SendWindow(
            int(now + self._offset_ms), valid_ms, now + valid_ms + self._uncertainty_ms
        )


def _common(samples: Sequence[Bounds]) -> Bounds:
    """Return the intersection of all samples; the narrowest of them if that is empty."""
    low_ms = max(sample.low_ms for sample in samples)
    high_ms = min(sample.high_ms for sample in samples)
    if low_ms <= high_ms:
        return Bounds(low_ms, high_ms)
    return min(samples, key=lambda sample: sample.width_ms)
