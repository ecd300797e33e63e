"""The exchange's clock: known within bounds that hold, however coarsely it tells its time."""

import math
from collections.abc import Iterable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.parts import START_MS, ManualClock
from worker.exchanges.ccxt.timekeeping import CLOCK_SAMPLES, ExchangeTime
from worker.exchanges.errors import ExchangeError, Outcome
from worker.exchanges.ports import ClockOffset

#: ``execution.max_clock_skew_ms`` where nothing is configured.
ALLOWED_MS = 1_000
#: This machine's wall clock is read in whole milliseconds.
READING_MS = 1.0

Trip = tuple[float, float]


class Machine(ManualClock):
    """A clock somebody may set, which changes nothing about time passing."""

    def __init__(self) -> None:
        super().__init__()
        self.set_by_ms = 0.0

    def now_ms(self) -> int:
        return START_MS + int(self.ms + self.set_by_ms)


class Distant:
    """An exchange whose clock is ``ahead_ms`` of the machine's, and the way there and back."""

    def __init__(self, machine: Machine, grain_ms: float, ahead_ms: float) -> None:
        self.machine = machine
        self.grain_ms = grain_ms
        self.ahead_ms = ahead_ms
        self.trips: Iterator[Trip] = iter(())

    def now_ms(self) -> float:
        """Its time to the last digit."""
        return START_MS + self.machine.ms + self.ahead_ms

    async def ask(self) -> float:
        there, back = next(self.trips)
        self.machine.ms += there
        stamp = math.floor(self.now_ms() / self.grain_ms) * self.grain_ms
        self.machine.ms += back
        return stamp

    async def measured(
        self, keeper: ExchangeTime, trips: Iterable[Trip] = ((5.0, 5.0),) * CLOCK_SAMPLES
    ) -> ClockOffset:
        self.trips = iter(trips)
        return await keeper.measure(self.ask)


trips = st.lists(
    st.tuples(st.floats(0, 200), st.floats(0, 200)), min_size=CLOCK_SAMPLES, max_size=CLOCK_SAMPLES
)


@given(
    st.sampled_from([1.0, 1_000.0]),
    st.floats(-5_000, 5_000),
    st.floats(0, 2_000),
    st.lists(st.tuples(trips, st.floats(-500, 500)), min_size=1, max_size=4),
)
async def test_the_truth_is_never_further_away_than_the_uncertainty(
    grain_ms: float, ahead_ms: float, begun_ms: float, rounds: list[tuple[list[Trip], float]]
) -> None:
    """Whatever the phase and the trips; and a request's window ends after the exchange's own."""
    machine = Machine()
    machine.ms = begun_ms
    keeper, exchange = ExchangeTime(machine, grain_ms), Distant(machine, grain_ms, ahead_ms)
    for taken, moved_ms in rounds:
        measured = await exchange.measured(keeper, taken)
        off = abs(measured.offset_ms - exchange.ahead_ms)
        assert off <= measured.uncertainty_ms + READING_MS
        window = keeper.window(3_000)
        really_over = machine.ms + window.timestamp_ms + window.valid_ms - exchange.now_ms()
        assert window.expires_mono_ms >= really_over - READING_MS
        machine.ms += 30_000
        exchange.ahead_ms += moved_ms


@given(st.floats(0, 1_000), st.floats(-200, 200), trips)
async def test_whole_seconds_do_not_pass_for_a_clock_that_is_off(
    begun_ms: float, ahead_ms: float, taken: list[Trip]
) -> None:
    """At every phase, a clock within a fifth of a second of the exchange's is good to send with."""
    machine = Machine()
    machine.ms = begun_ms
    exchange = Distant(machine, 1_000.0, ahead_ms)
    measured = await exchange.measured(ExchangeTime(machine, 1_000.0), taken)
    assert abs(measured.offset_ms) + measured.uncertainty_ms <= ALLOWED_MS


async def test_a_coarse_clock_is_asked_when_it_ticks() -> None:
    """Each question halves what is not known; none waits longer than a tick, a fine one not."""
    machine = Machine()
    machine.ms = 123.0
    exchange = Distant(machine, 1_000.0, 40.0)
    measured = await exchange.measured(ExchangeTime(machine, 1_000.0))
    assert measured.uncertainty_ms < 150
    assert all(0 <= seconds < 1 for seconds in machine.slept)
    assert len(machine.slept) == 2
    machine.slept.clear()
    exchange.grain_ms = 1.0
    await exchange.measured(ExchangeTime(machine, 1.0), [(200.0, 200.0)] * CLOCK_SAMPLES)
    assert machine.slept == []


async def test_all_samples_are_counted_and_steps_of_the_wall_clock_are_not() -> None:
    """What one bounds below and another above is known better than by either."""
    machine = Machine()
    keeper, exchange = ExchangeTime(machine, 1.0), Distant(machine, 1.0, 90_000.0)
    measured = await exchange.measured(keeper, [(40.0, 1.0), (1.0, 40.0), (40.0, 40.0)] * 2)
    # Neither below -1 nor above 1, and the grain.
    assert measured.uncertainty_ms == pytest.approx(1.5)
    assert abs(measured.offset_ms - 90_000) <= measured.uncertainty_ms
    machine.set_by_ms = 3_600_000.0
    assert abs(keeper.now_ms() - exchange.now_ms()) <= measured.uncertainty_ms
    assert (await exchange.measured(keeper)).offset_ms == pytest.approx(90_000 - 3_600_000, abs=7)


async def test_samples_that_contradict_each_other_leave_the_narrowest() -> None:
    """The exchange's clock was set between two of them: no interval holds both."""
    machine = Machine()
    keeper, exchange = ExchangeTime(machine, 1.0), Distant(machine, 1.0, 0.0)
    taken = [(30.0, 30.0), (2.0, 2.0), (20.0, 20.0), (20.0, 20.0)]

    async def ask() -> float:
        stamp = await exchange.ask()
        exchange.ahead_ms = 5_000.0
        return stamp

    exchange.trips = iter(taken)
    measured = await keeper.measure(ask)
    assert measured.uncertainty_ms == pytest.approx(2.5)
    assert abs(measured.offset_ms - 5_000) <= measured.uncertainty_ms


async def test_time_does_not_jump_while_it_can_be_right() -> None:
    """An offset that may still be true stays; else it goes back no further than it must."""
    machine = Machine()
    keeper, exchange = ExchangeTime(machine, 1.0), Distant(machine, 1.0, 0.0)
    first = await exchange.measured(keeper)
    assert first.offset_ms == 0  # as this machine's clock has it
    exchange.ahead_ms = -3.0
    kept = await exchange.measured(keeper, [(20.0, 20.0)] * CLOCK_SAMPLES)
    assert kept.offset_ms == pytest.approx(first.offset_ms)
    assert kept.uncertainty_ms > 20
    exchange.ahead_ms = -100.0
    back = await exchange.measured(keeper)
    assert back.offset_ms == pytest.approx(-100 + 5 + 1)
    assert back.uncertainty_ms == pytest.approx(11)
    exchange.ahead_ms = 100.0
    onwards = await exchange.measured(keeper)
    assert onwards.offset_ms == pytest.approx(100.5)
    assert onwards.uncertainty_ms == pytest.approx(5.5)


async def test_a_question_that_fails_is_not_missed_where_others_are_answered() -> None:
    """Some failures are survived; where all fail the last one says why."""
    machine = Machine()
    keeper, exchange = ExchangeTime(machine, 1.0), Distant(machine, 1.0, 70.0)
    exchange.trips = iter([(5.0, 5.0)])

    async def ask() -> float:
        if machine.ms:
            raise ExchangeError("down", outcome=Outcome.NOT_SENT)
        return await exchange.ask()

    assert abs((await keeper.measure(ask)).offset_ms - 70) <= 5.5
    with pytest.raises(ExchangeError, match="down"):
        await keeper.measure(ask)
