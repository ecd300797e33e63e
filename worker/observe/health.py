"""What a worker knows of its own state: whether its loop runs, and whether it can do its work."""

import threading
from collections.abc import Iterable
from typing import Any, Final

from worker.observe.metrics import Metrics
from worker.runtime.clock import Clock

#: A loop that has not beaten for this long is stuck.
MAX_BEAT_AGE_MS: Final = 5_000.0
BEAT_EVERY_S: Final = 0.5


class Health:
    """What the worker knows of itself; every method may be called from any thread.

    Args:
        clock: for the age of the heartbeat.
        checks: names that must all be set to ok before the worker is ready; ``set`` adds more.
    """

    def __init__(self, clock: Clock, checks: Iterable[str] = ()) -> None:
        self._clock = clock
        self._beat_mono_ms = clock.monotonic_ms()
        # Replaced, never changed: a reader on another thread sees one whole state or the next.
        self._checks: dict[str, tuple[bool, str]] = dict.fromkeys(checks, (False, "not yet"))
        self._lock = threading.Lock()

    def beat(self) -> None:
        """Say that the event loop runs."""
        self._beat_mono_ms = self._clock.monotonic_ms()

    def set(self, check: str, ok: bool, detail: str = "") -> None:
        """State one check's result, with a few words for a person."""
        if self._checks.get(check) == (ok, detail):
            return
        with self._lock:
            self._checks = {**self._checks, check: (ok, detail)}

    @property
    def alive(self) -> bool:
        """Whether the loop has beaten within ``MAX_BEAT_AGE_MS``."""
        return self._clock.monotonic_ms() - self._beat_mono_ms < MAX_BEAT_AGE_MS

    @property
    def ready(self) -> bool:
        """Whether every check is ok."""
        return all(ok for ok, _ in self._checks.values())

    def report(self) -> dict[str, Any]:
        """``{"ready": bool, "checks": {name: {"ok": bool, "detail": str}}}``."""
        checks = self._checks
        return {
            "ready": all(ok for ok, _ in checks.values()),
            "checks": {name: {"ok": ok, "detail": text} for name, (ok, text) in checks.items()},
        }


async def loop_monitor(clock: Clock, health: Health, metrics: Metrics) -> None:
    """Beat twice a second and note how late the event loop wakes this up; runs until cancelled."""
    while True:
        health.beat()
        before = clock.monotonic_ms()
        await clock.sleep(BEAT_EVERY_S)
        late_ms = clock.monotonic_ms() - before - BEAT_EVERY_S * 1_000
        metrics.loop_lag(max(late_ms, 0.0) / 1_000)
