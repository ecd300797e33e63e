"""The time in which an exchange wants no request at all, and the one request after it."""

from typing import Final

from worker.runtime.clock import Clock

#: A probe that nobody says the end of is given up after this, milliseconds.
PROBE_MS: Final = 30_000.0
#: While another's probe is under way, look again after this, milliseconds.
LOOK_AGAIN_MS: Final = 100.0


class Holds:
    """A hold on every request; when it is over one request probes before all others.

    Args:
        clock: monotonic time.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._until_ms = float("-inf")
        self._probe_until_ms = float("-inf")
        #: From a hold until the exchange has answered a request.
        self.is_probing = False
        #: Refusals for rate without an answer between.
        self.times = 0
        self._burst_until_ms = float("-inf")

    def refusals_before(self) -> int:
        """Return the refusals before one that comes now; those of one burst count once."""
        is_same = self._clock.monotonic_ms() < self._burst_until_ms
        return self.times - 1 if is_same and self.times else self.times

    def refused(self, for_ms: float) -> None:
        """Count a refusal for rate after which nothing is sent for so long."""
        self.times = self.refusals_before() + 1
        self._burst_until_ms = max(self._burst_until_ms, self._clock.monotonic_ms() + for_ms)

    def hold(self, for_ms: float) -> None:
        """Send nothing for so long; never shortens a hold."""
        if for_ms <= 0:
            return
        self._until_ms = max(self._until_ms, self._clock.monotonic_ms() + for_ms)
        self._probe_until_ms = float("-inf")
        self.is_probing = True

    def lift(self) -> None:
        """Forget the hold: the exchange is known to answer again."""
        self._until_ms = self._probe_until_ms = float("-inf")
        self.is_probing = False
        self.times = 0

    def held_ms(self) -> float:
        """Return for how long nothing may be sent, milliseconds."""
        if not self.is_probing:
            return 0.0
        return max(0.0, self._until_ms - self._clock.monotonic_ms())

    def wait_ms(self) -> float:
        """Return how long a request has to wait: for the end of the hold, then for the probe."""
        if not self.is_probing:
            return 0.0
        now_ms = self._clock.monotonic_ms()
        if now_ms < self._until_ms:
            return self._until_ms - now_ms
        return LOOK_AGAIN_MS if now_ms < self._probe_until_ms else 0.0

    def sent(self, within_ms: float = PROBE_MS) -> None:
        """Note that a request is sent, or is about to be: after a hold it is the probe."""
        if self.is_probing:
            self._probe_until_ms = self._clock.monotonic_ms() + within_ms

    def answered(self) -> bool:
        """Note an answer that refuses nothing for rate; return True if that ends the probing.

        An answer to a request from before the hold proves nothing.
        """
        if not self.is_probing or self.held_ms() or self._probe_until_ms == float("-inf"):
            return False
        self.lift()
        return True

    def failed(self) -> bool:
        """Note a request without any answer; return True if it was the probe: the next one is."""
        if not self.is_probing or self._probe_until_ms == float("-inf"):
            return False
        self._probe_until_ms = float("-inf")
        return True
