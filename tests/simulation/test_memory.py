"""The simulation with the account in memory: the same fleet, the same promises, no Redis."""

from unittest import mock

import pytest

from tests.simulation import scenarios
from tests.simulation.faults import Fault
from tests.simulation.memory_account import MemoryPlace
from tests.simulation.scenarios import LONG_S, at, play
from tests.simulation.test_scenarios import MAY_BREAK, MAY_STOP, ends, kept
from tests.simulation.test_simulation import explain
from tests.simulation.world import World, simulate
from worker.ledger.memory.queue import Entry, Queue

#: As many as fit a CI run; ``make simulate LEDGER=memory SEEDS=…`` runs any number.
SEEDS = 60
CHUNK = 15


@pytest.fixture
def place() -> MemoryPlace:
    """Where the account is kept."""
    return MemoryPlace()


@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_every_promise_is_kept_in_memory(place: MemoryPlace, first: int) -> None:
    """No fault at any await point makes the fleet break one of its promises."""
    seen: set[str] = set()
    for seed in range(first, first + CHUNK):
        world = simulate(place, seed)
        assert not world.checker.violations, explain(world)
        seen |= {str(step[5] if step[2] == "fault" else step[2]) for step in world.trace.steps}
    assert {"lost_reply", "crash_after", "pause_before", "resync", "park", "adopt"} <= seen
    assert {"OrderFilled", "OrderFailed", "PositionOpened", "PositionClosed"} <= seen


@pytest.mark.parametrize("fault", [*MAY_BREAK, *MAY_STOP])
@pytest.mark.parametrize("name", ["claim", "heartbeat", "elect", "adopt", "admit", "commit"])
def test_any_fault_at_any_call_leaves_one_order(
    place: MemoryPlace, name: str, fault: Fault
) -> None:
    """Whatever happens to one call, before or after it took effect, the signal trades once."""
    seconds = LONG_S if fault.name.startswith("PAUSE") else 0.7
    world = kept(play(place, at("redis", name, fault, seconds, nth=2)))
    assert len(world.venue.accepted) == 1
    assert ends(world) == ["OrderFilled 0.10"]


def test_without_the_fence_a_promise_is_broken(place: MemoryPlace) -> None:
    """The fence is needed here as it is in the scripts, and its loss is noticed."""

    def held(self: Queue, entry_id: str, _worker: str, _token: int) -> Entry | None:
        return self.entries.get(entry_id)

    def broken(world: World) -> bool:
        return bool(world.checker.violations)

    assert not broken(scenarios.stops_before_sending(place, {}))
    with mock.patch.object(Queue, "held", held):
        assert any(broken(simulate(place, seed)) for seed in range(40))
