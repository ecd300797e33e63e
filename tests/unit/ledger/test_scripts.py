"""Calling a script while Redis cannot serve: again at once, then after pauses, then no more."""

from random import Random
from typing import Any, cast
from unittest import mock

import pytest

from tests.unit.parts import ManualClock
from worker.ledger.connection import Connections
from worker.ledger.errors import LedgerError, LedgerRefusedError, LedgerUnavailableError
from worker.ledger.scripts import Doorbell, RedisScripts
from worker.ledger.wire import Argument


class Outage(RedisScripts):
    """The real class on a server that cannot serve for the first ``failures`` calls."""

    def __init__(self, failures: int, patience_s: float) -> None:
        self.clock = ManualClock()
        self.noted: list[LedgerError] = []
        super().__init__(
            cast("Connections", None),
            signals="{main}:signals",
            patience_s=patience_s,
            clock=self.clock,
            random=Random(1),
            on_error=self.noted.append,
        )
        self._failures = failures
        self.calls = 0

    async def _once(self, name: str, arguments: tuple[Argument, ...]) -> Any:
        self.calls += 1
        if self.calls <= self._failures:
            raise LedgerUnavailableError("cannot be reached", kind="connection")
        return name, arguments


async def test_the_second_call_is_made_at_once() -> None:
    """Where only a connection was lost, nobody waits."""
    scripts = Outage(1, patience_s=0.0)
    assert await scripts.run("claim", 1) == ("claim", (1,))
    assert (scripts.clock.slept, scripts.lost_replies) == ([], 1)


async def test_pauses_are_random_and_their_bound_doubles_to_a_second() -> None:
    """A fleet does not come back as one, nor all the time."""
    scripts = Outage(40, patience_s=60.0)
    assert await scripts.run("claim") == ("claim", ())
    pauses, dice = scripts.clock.slept, Random(1)
    bounds = [0.05, 0.1, 0.2, 0.4, 0.8] + [1.0] * 34
    assert pauses == [dice.uniform(0, bound) for bound in bounds]
    assert scripts.lost_replies == len(scripts.noted) == 40


async def test_patience_ends() -> None:
    """The last failure is the caller's, once the time is over and not before; all are counted."""
    scripts = Outage(1_000, patience_s=3.0)
    with pytest.raises(LedgerUnavailableError) as caught:
        await scripts.run("claim")
    assert caught.value is scripts.noted[-1]
    assert 3_000 <= scripts.clock.ms <= 4_000
    assert scripts.lost_replies == scripts.calls == len(scripts.clock.slept) + 2


async def test_without_patience_there_is_one_more_call() -> None:
    """And no pause."""
    scripts = Outage(1_000, patience_s=0.0)
    with pytest.raises(LedgerUnavailableError):
        await scripts.run("claim")
    assert (scripts.calls, scripts.clock.slept) == (2, [])


async def test_an_answer_is_not_asked_for_again() -> None:
    """A refusal is one."""

    class Refusing(Outage):
        async def _once(self, name: str, arguments: tuple[Argument, ...]) -> Any:
            self.calls += 1
            raise LedgerRefusedError("no")

    scripts = Refusing(0, patience_s=9.0)
    with pytest.raises(LedgerRefusedError):
        await scripts.run("claim")
    assert (scripts.calls, scripts.lost_replies) == (1, 0)
    assert [error.kind for error in scripts.noted] == ["refused"]


@pytest.mark.parametrize("hangs_up", [False, True])
async def test_a_wait_that_fails_is_told_unless_this_side_ended_it(hangs_up: bool) -> None:
    """A worker that stops closes its own connection: that is no failure of Redis."""

    class Cut(Outage):
        async def _after(self, *_arguments: Any) -> Any:
            if hangs_up:
                self.hang_up()
            raise LedgerUnavailableError("closed", kind="connection")

    scripts = Cut(0, patience_s=9.0)
    with (
        mock.patch.object(scripts, "_connections", mock.Mock(ready=lambda _purpose: None)),
        pytest.raises(LedgerUnavailableError),
    ):
        await scripts.run_after(Doorbell(b"0", b"0", 5), "claim")
    assert len(scripts.noted) == (0 if hangs_up else 1)
    assert scripts.lost_replies == 1
