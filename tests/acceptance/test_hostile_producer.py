"""A hostile producer for a few seconds; ``make fuzz`` goes on for as long as one likes."""

from datetime import UTC, datetime

import pytest

from tests.fuzz import producers
from tests.fuzz.entries import KINDS, LIGHT, HostileEntries

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
pytestmark = pytest.mark.alone


def test_a_hostile_producer_delays_and_loses_nothing() -> None:
    """Every entry ends, honest signals trade in time, memory stays within its bounds."""
    result = producers.run(6.0, seed=11)
    assert result.faults == []
    assert set(result.hostile) | set(result.refused) == set(LIGHT), "each kind was tried"
    assert result.honest > 20


def test_delays_are_faults(monkeypatch: pytest.MonkeyPatch) -> None:
    """What nothing could keep is told: the harness looks."""
    monkeypatch.setattr(producers, "PATIENCE_S", 0.0)
    monkeypatch.setattr(producers, "WORKER_MIB", 1)
    result = producers.run(1.0, seed=12, kinds=("noise",))
    assert any(" took " in fault for fault in result.faults)
    assert sum("more than 1" in fault for fault in result.faults) == producers.WORKERS


@pytest.mark.parametrize("kind", KINDS)
def test_a_seed_repeats_its_entries(kind: str) -> None:
    """At the same time the same bytes, so that a seed is a report of a fault."""
    one, other = (HostileEntries(5, (kind,), lambda: START) for _ in range(2))
    made = [one.make() for _ in range(20)]
    assert made == [other.make() for _ in range(20)]
    assert len({str(entry) for _, entry in made}) > 1
