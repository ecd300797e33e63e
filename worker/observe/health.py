"""A worker's own state: its event loop runs (alive), its work can be done (ready)."""

import threading
from collections.abc import Callable, Iterable
from typing import Any, Final

from worker.runtime.clock import Clock

#: A loop that has not beaten for this long is stuck.
MAX_BEAT_AGE_MS: Final = 5_000.0
BEAT_EVERY_S: Final = 0.5
#: A check's words are cut to this where other workers' operators read them.
MAX_DETAIL: Final = 200


class Health:
    """Checks by name and the loop's heartbeat; every method may be called from any thread.

    Args:
        clock: times the heartbeat.
        checks: names of checks that must be ok before the worker is ready; ``set`` adds more.
    """

    def __init__(self, clock: Clock, checks: Iterable[str] = ()) -> None:
        self._clock = clock
        self._beat_mono_ms = clock.monotonic_ms()
        # Replaced, never changed: a reader on another thread sees one whole state or the next.
        self._checks: dict[str, tuple[bool, str]] = dict.fromkeys(checks, (False, "not yet"))
        self._lock = threading.Lock()
        #: How late the event loop ended its last sleep.
        self.loop_lag_ms = 0

    def beat(self, lag_ms: float = 0.0) -> None:
        """Record that the event loop runs, and how late it was."""
        self._beat_mono_ms = self._clock.monotonic_ms()
        self.loop_lag_ms = round(lag_ms)

    def set(self, check: str, ok: bool, detail: str = "") -> None:
        """Record one check's result, with a few words for a person."""
        if self._checks.get(check) == (ok, detail):
            return
        with self._lock:
            self._checks = {**self._checks, check: (ok, detail)}

    @property
    def alive(self) -> bool:
        """Return whether the loop has beaten within ``MAX_BEAT_AGE_MS``."""
        return self._clock.monotonic_ms() - self._beat_mono_ms < MAX_BEAT_AGE_MS

    @property
    def ready(self) -> bool:
        """Return whether every check is ok."""
        return all(ok for ok, _ in self._checks.values())

    def failing(self) -> dict[str, str]:
        """Return why each check that is not ok is not, a few words each."""
        return {name: text[:MAX_DETAIL] for name, (ok, text) in self._checks.items() if not ok}

    def report(self) -> dict[str, Any]:
        """Return ``{"ready": bool, "checks": {name: {"ok": bool, "detail": str}}}``."""
        checks = self._checks
        return {
            "ready": all(ok for ok, _ in checks.values()),
            "checks": {name: {"ok": ok, "detail": text} for name, (ok, text) in checks.items()},
        }


async def loop_monitor(clock: Clock, health: Health, note_lag: Callable[[float], None]) -> None:
    """Beat twice a second and measure the event loop's lag, until cancelled.

    Args:
        clock: the monotonic one measures.
        health: gets the beats.
        note_lag: called after each sleep with how late the loop ended it, in seconds.
    """
    late_ms = 0.0
    while True:
        health.beat(late_ms)
        before = clock.monotonic_ms()
        await clock.sleep(BEAT_EVERY_S)
        late_ms = max(clock.monotonic_ms() - before - BEAT_EVERY_S * 1_000, 0.0)
        note_lag(late_ms / 1_000)
