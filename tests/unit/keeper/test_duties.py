"""A keeper's duties: in their order, at their intervals, and none outside of a term."""

import asyncio
from collections.abc import Sequence
from typing import cast

import pytest

from tests.unit.keeper.test_office import FakeLedger, Redis, Time
from worker.keeper.duties.adopt import AdoptUnresolved
from worker.keeper.duties.compare import CompareBooks
from worker.keeper.duties.publish import PublishAccount
from worker.keeper.duties.sweep import Sweep
from worker.keeper.duty import Duty
from worker.keeper.office import TERM_MS, TURN_EVERY_S, Keeper
from worker.keeper.readiness import Readiness
from worker.ledger.errors import LedgerUnavailableError
from worker.ledger.ports import Ledger
from worker.ledger.replies import Election
from worker.observe.metrics import Metrics
from worker.runtime.cancellation import cancel_all

TURN_MS = TURN_EVERY_S * 1_000


class Noted(Duty):
    """Notes its runs and terms, each with the time."""

    name = "noted"
    interval_ms = 5_000

    def __init__(self, clock: Time, notes: list[str]) -> None:
        self.clock = clock
        self.notes = notes
        self.fails: Exception | None = None

    def note(self, what: str) -> None:
        self.notes.append(f"{what} {self.clock.ms / 1_000:.0f}")

    def begin_term(self) -> None:
        self.note("begin")

    def end_term(self) -> None:
        self.note("end")

    async def run(self) -> None:
        self.note(self.name)
        if self.fails is not None:
            raise self.fails


class EveryTurn(Noted):
    name = "every"
    interval_ms = 0


class Slow(Noted):
    """Ends when the test lets it."""

    name = "slow"
    interval_ms = 2_000
    in_background = True

    def __init__(self, clock: Time, notes: list[str]) -> None:
        super().__init__(clock, notes)
        self.may_end = asyncio.Event()

    async def run(self) -> None:
        await super().run()
        await self.may_end.wait()


class Office:
    """A keeper with duties of the test's choice."""

    def __init__(self, *duties: type[Noted]) -> None:
        self.clock = Time()
        self.redis = Redis(self.clock)
        self.notes: list[str] = []
        self.duties = [duty(self.clock, self.notes) for duty in duties]
        self.drain = Drain()
        self.keeper = Keeper(
            ledger=cast("Ledger", FakeLedger(self.redis, "w1")),
            duties=self.duties,
            readiness=cast("Readiness", Silent()),
            drain=self.drain,
            metrics=Metrics(version="0", mode="paper"),
            clock=self.clock,
        )
        self.task = asyncio.create_task(self.keeper.run())


class Drain:
    """Stops when the test sets it."""

    def __init__(self) -> None:
        self.event = asyncio.Event()

    @property
    def draining(self) -> bool:
        return self.event.is_set()

    async def stopping(self) -> None:
        await self.event.wait()


class Silent:
    """No readiness."""

    def note(self) -> str:
        return ""

    def record(self, election: Election) -> None: ...


async def notes_after(office: Office, ms: float) -> Sequence[str]:
    """The notes made while time passes."""
    before = len(office.notes)
    await office.clock.advance(ms)
    return office.notes[before:]


async def test_duties_run_in_their_order_each_at_its_interval() -> None:
    """All in the first turn of the term; later the ones that are due."""
    office = Office(Noted, EveryTurn)
    assert await notes_after(office, 0) == ["begin 0", "begin 0", "noted 0", "every 0"]
    assert await notes_after(office, 4 * TURN_MS) == [f"every {second}" for second in range(1, 5)]
    assert await notes_after(office, TURN_MS) == ["noted 5", "every 5"]
    await cancel_all([office.task])


async def test_a_duty_in_the_background_runs_once_at_a_time_and_holds_nothing_up() -> None:
    """Its end starts a turn at once; the next run comes when it is due."""
    office = Office(Slow, EveryTurn)
    assert await notes_after(office, 3 * TURN_MS) == [
        "begin 0", "begin 0", "every 0", "slow 0", "every 1", "every 2", "every 3",
    ]  # fmt: skip
    cast("Slow", office.duties[0]).may_end.set()
    assert await notes_after(office, 0) == ["every 3", "slow 3", "every 3"]
    await cancel_all([office.task])


async def test_a_duty_that_redis_fails_ends_the_turn_and_not_the_term() -> None:
    """The next turn stands for election again; the duties after the failed one wait for it."""
    office = Office(Noted, EveryTurn)
    office.duties[0].fails = LedgerUnavailableError("away", kind="connection")
    assert await notes_after(office, 0) == ["begin 0", "begin 0", "noted 0"]
    in_office = [office.keeper.is_keeper]
    assert await notes_after(office, TURN_MS) == ["every 1"]
    assert [*in_office, office.keeper.is_keeper] == [False, True]
    await cancel_all([office.task])


async def test_a_lost_term_is_ended_once_and_runs_nothing() -> None:
    """Another worker does the duties until this one is elected again."""
    office = Office(EveryTurn)
    await office.clock.advance(0)
    office.redis.keeper, office.redis.ends_ms = "w2", office.clock.ms + TERM_MS
    assert await notes_after(office, TERM_MS - TURN_MS) == ["end 1"]
    assert await notes_after(office, TURN_MS) == ["begin 15", "every 15"]
    await cancel_all([office.task])


async def test_an_error_of_a_duty_in_the_background_ends_the_keeper() -> None:
    """No task dies unnoticed."""
    office = Office(Slow)
    office.duties[0].fails = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError):
        await office.task


def test_every_duty_has_a_name_of_its_own() -> None:
    """The office schedules by name."""
    names = [duty.name for duty in (AdoptUnresolved, CompareBooks, Sweep, PublishAccount)]
    assert len(set(names)) == len(names)
