"""Hundreds of seeds, every promise checked at every step; a failing seed says how to replay it."""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.simulation.faults import Fault
from tests.simulation.memory_account import MemoryPlace
from tests.simulation.redis_account import SimulationServer
from tests.simulation.steps import Place
from tests.simulation.world import World, simulate

CHUNK = 25
#: As many as fit a CI run; ``make simulate SEEDS=…`` runs any number.
SEEDS = int(os.environ.get("SIMULATION_SEEDS", "300"))
LAST_STEPS = 80


def explain(world: World) -> str:
    """What broke, the last steps before it, and how to see them all."""
    seed = world.story.seed
    return "\n".join(
        [
            f"seed {seed} broke a promise:",
            *world.checker.violations,
            *world.trace.lines(LAST_STEPS),
            f"replay: python -m tests.simulation --seed {seed}",
        ]
    )


@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_every_promise_is_kept_whatever_breaks(server: SimulationServer, first: int) -> None:
    """No fault at any await point makes the fleet break one of its promises."""
    for seed in range(first, min(first + CHUNK, SEEDS)):
        world = simulate(server, seed)
        assert not world.checker.violations, explain(world)


@pytest.mark.parametrize("ledger", ["redis", "memory"])
def test_a_seed_means_the_same_run_every_time(server: SimulationServer, ledger: str) -> None:
    """The same seed takes the same steps in another process with other hash values."""
    place: Place = server if ledger == "redis" else MemoryPlace()
    here = [simulate(place, seed).trace.digest() for seed in range(5)]
    program = (
        "from tests.simulation.memory_account import MemoryPlace\n"
        "from tests.simulation.redis_account import SimulationServer\n"
        "from tests.simulation.world import simulate\n"
        "server = SimulationServer()\n"
        f"place = server if {ledger!r} == 'redis' else MemoryPlace()\n"
        "print(*[simulate(place, seed).trace.digest() for seed in range(5)])\n"
        "server.close()\n"
    )
    there = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        check=True,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONHASHSEED": "7"},
        text=True,
        timeout=60,
    )
    assert there.stdout.split() == here


def test_the_simulation_is_about_something(server: SimulationServer) -> None:
    """Over some seeds every kind of fault strikes, and every kind of outcome is seen."""
    seen: Counter[str] = Counter()
    accepted = late = 0
    for seed in range(60):
        world = simulate(server, seed)
        accepted += len(world.venue.accepted)
        late += world.venue.refused_late
        for step in world.trace.steps:
            seen[str(step[5] if step[2] == "fault" else step[2])] += 1
            if step[2] == "happens":
                seen[str(step[3])] += 1
    wanted = {
        *(fault.value for fault in Fault if fault is not Fault.NONE),
        *("crash", "pause", "stop", "halt", "reduce", "redis_outage", "exchange_outage"),
        *("failover", "lose_group", "resync", "park", "adopt", "release", "authorize"),
        *("OrderFilled", "OrderCancelled", "OrderPartiallyFilled", "OrderFailed"),
        *("PositionOpened", "PositionChanged", "PositionClosed", "SystemError"),
    }
    assert wanted <= seen.keys()
    assert accepted > 100
    assert late > 5  # requests that came after their time, from workers that had been stopped
