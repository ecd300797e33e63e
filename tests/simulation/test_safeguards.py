"""Every safeguard is needed: without it a scenario breaks a promise, with it none does."""

import pytest

from tests.simulation.mutants import MUTANTS, Mutant
from tests.simulation.redis_account import SimulationServer


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_switching_a_safeguard_off_breaks_a_promise(
    server: SimulationServer, mutant: Mutant
) -> None:
    """Each scenario keeps every promise, and breaks one once its safeguard is off."""
    whole = mutant.scenario(server, {})
    assert not whole.checker.violations, "\n".join(
        [*whole.checker.violations, *whole.trace.lines()]
    )
    with mutant.applied():
        less = mutant.scenario(server, mutant.scripts)
    assert less.checker.violations, "\n".join(less.trace.lines())
