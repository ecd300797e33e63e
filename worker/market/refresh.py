"""Asks an exchange one question at a time, and not again at once after a costly failure."""

import asyncio
from collections.abc import Mapping
from typing import Final

from worker.exchanges.ports import ExchangeAdapter

#: After a costly failure the same question is not asked again for this long, milliseconds.
FAILED_FOR_MS: Final = 1_000.0
#: A failure is costly if it took at least this long, or if the exchange wants fewer questions.
COSTLY_MS: Final = 250.0
#: For this long after a costly failure nobody waits while another tries again, milliseconds:
#: signals that wait for an exchange that does not answer keep others from being worked on. Less
#: than ``ACTIVE_FOR_S``, in which the background finds out that it answers again.
OUTAGE_MS: Final = 30_000.0
#: What nobody asked for in this long is no longer refreshed, seconds.
ACTIVE_FOR_S: Final = 60.0
NEVER: Final = float("-inf")


class Refresh:
    """One question to an exchange at a time; its answer serves all who wait for it.

    Attributes:
        lock: held while the exchange is asked; the next holder looks into memory first.
        failures: how many questions have failed, so that a waiter knows that its own did.
    """

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.failures = 0
        #: When the last question failed at a cost; -inf once one is answered.
        self._failed_mono_ms = NEVER

    def is_pointless(self, now_mono_ms: float) -> bool:
        """Return True if asking now would most likely take long and fail."""
        age_ms = now_mono_ms - self._failed_mono_ms
        return age_ms < FAILED_FOR_MS or (self.lock.locked() and age_ms < OUTAGE_MS)

    def succeed(self) -> None:
        """Record a successful refresh."""
        self._failed_mono_ms = NEVER

    def fail(self, asked_mono_ms: float, now_mono_ms: float, *, throttled: bool = False) -> None:
        """Record a failed refresh; a costly one suppresses retries for a while."""
        self.failures += 1
        if throttled or now_mono_ms - asked_mono_ms >= COSTLY_MS:
            self._failed_mono_ms = now_mono_ms


def spent(adapter: ExchangeAdapter, operation: str) -> Mapping[str, float]:
    """Return what an operation has cost so far by limit; nothing where nothing is limited."""
    gate = adapter.request_gate
    return {} if gate is None else gate.spent(operation)


def interval_s(adapter: ExchangeAdapter, operation: str, before: Mapping[str, float]) -> float:
    """Return how rarely the background may ask by what it has spent since ``before``, seconds.

    It takes at most a twentieth of any limit; whoever needs something sooner asks for it.
    """
    gate = adapter.request_gate
    return 0.0 if gate is None else gate.interval_s(operation, before)
