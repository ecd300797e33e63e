"""What the ledger's calls say of time."""

from typing import Any

from tests.unit.parts import ManualClock
from worker.ledger.calls import RedisLedger

SLOW_MS = 4_000


class SlowScripts:
    """A server whose answers take their time."""

    lost_replies = 0

    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock

    async def run(self, name: str, *arguments: Any) -> Any:
        self._clock.ms += SLOW_MS
        delivery = [2, 2, b"", None, 0, None, 0, []]
        return [[b"1-0", delivery], [], [5, 700, b"primary"], b"1-0", 0, 0, [], []]


async def test_a_slow_claim_shortens_our_lease_and_nobody_elses() -> None:
    """Ours counts from the question; others' leases and lost primaries, from the reply."""
    clock = ManualClock()
    ledger = RedisLedger(SlowScripts(clock), clock=clock, worker="w", lease_ms=15_000)  # type: ignore[arg-type]
    asked = clock.monotonic_ms()
    (delivery,) = (await ledger.claim(1)).deliveries
    assert delivery.lease_mono_ms == asked + 15_000
    assert delivery.received_mono_ms == asked + SLOW_MS
    assert delivery.settled_mono_ms == asked + SLOW_MS + 700
