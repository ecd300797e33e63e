"""Every safeguard is needed: without it a scenario breaks a promise, with it none does."""

import pytest

from tests.simulation.mutants import MUTANTS, Mutant
from tests.simulation.redis_account import SimulationServer


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_safeguard_less_is_noticed(server: SimulationServer, mutant: Mutant) -> None:
    """The scenario keeps every promise as it is, and breaks one without the safeguard."""
    whole = mutant.scenario(server, {})
    assert not whole.checker.violations, "\n".join(
        [*whole.checker.violations, *whole.trace.lines()]
    )
    with mutant.applied():
        less = mutant.scenario(server, mutant.scripts)
    assert less.checker.violations, "\n".join(less.trace.lines())
