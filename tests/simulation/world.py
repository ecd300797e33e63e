"""One run: workers, Redis, the exchange and the story on one virtual clock."""

import asyncio
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from random import Random
from types import SimpleNamespace
from typing import Any, Final
from unittest import mock

import msgspec
import structlog

from tests.simulation.checker import MAX_SKEW_MS, Checker
from tests.simulation.exchange import SimulatedExchange
from tests.simulation.faults import Faults, RandomFaults
from tests.simulation.loop import Process, Stuck, VirtualLoop
from tests.simulation.network import Network
from tests.simulation.scripts import Bell, SimulatedScripts
from tests.simulation.steps import Inspection, Mutation, Place, Step
from tests.simulation.story import EPOCH_MS, Happening, Production, Story, tell
from tests.simulation.trace import Trace
from tests.simulation.venue import Venue
from worker.assembly import worker as app
from worker.config.keys import Config
from worker.domain.money import use_exact_arithmetic
from worker.domain.trading_state import TradingState
from worker.ledger.errors import LedgerUnavailableError

#: How often it is looked whether everything has finished, seconds.
LOOK_EVERY_S: Final = 0.25
#: Exceptions that may end a delivery: Redis could not serve for longer than the patience.
_EXPECTED: Final = (LedgerUnavailableError,)


class VirtualClock:
    """One machine's clocks: both off by something of their own.

    Args:
        loop: true time.
        ahead_ms: how far the wall clock is ahead.
        started_s: what the monotonic clock counts from.
    """

    def __init__(self, loop: VirtualLoop, ahead_ms: int, started_s: float) -> None:
        self._loop = loop
        self.ahead_ms = ahead_ms
        self._started_s = started_s

    def now_ms(self) -> int:
        """Wall-clock time."""
        return EPOCH_MS + self.ahead_ms + int(self._loop.time() * 1000)

    def monotonic_ms(self) -> float:
        """Never steps."""
        return (self._loop.time() + self._started_s) * 1000

    async def sleep(self, seconds: float) -> None:
        """Virtual."""
        await asyncio.sleep(seconds)


class Quiet:
    """Metrics and health that count nothing, but tell of deliveries that ended in an exception."""

    def __init__(self, on_failure: Callable[[BaseException | None], None]) -> None:
        self._on_failure = on_failure

    def __getattr__(self, name: str) -> Callable[..., None]:
        return _nothing

    loop_lag_ms = 0

    def failing(self) -> dict[str, str]:
        """Nothing is not ready."""
        return {}

    def watch(self, _stage: str) -> Callable[..., None]:
        """What is told of each stage's time."""
        return _nothing

    def delivery_failed(self) -> None:
        """Called inside the engine's ``except``."""
        self._on_failure(sys.exc_info()[1])


def _nothing(*_: object, **__: object) -> None:
    return None


class Machine(msgspec.Struct):
    """One worker process."""

    process: Process
    clock: VirtualClock
    worker: app.Worker
    main: "asyncio.Task[None]"


class World:
    """Everything of one run.

    Args:
        place: where the account is kept.
        story: what is to happen.
        faults: what goes wrong; by default what the story says.
        mutation: a change to a script.
        detailed: whether faults choose by what a call carries.
        logs: whether the workers' log lines go into the trace.
    """

    def __init__(
        self,
        place: Place,
        story: Story,
        *,
        faults: Faults | None = None,
        mutation: Mutation | None = None,
        detailed: bool = False,
        logs: bool = False,
    ) -> None:
        self.story = story
        self._random = Random(story.seed + 1)
        self._detailed = detailed
        self._logs = logs
        self.loop = VirtualLoop(self._on_loop_error)  # type: ignore[abstract]
        self.trace = Trace(self.loop.time)
        config = story.config
        if faults is None:
            faults = RandomFaults(
                Random(story.seed + 2),
                story.rates,
                until_s=story.calm_s,
                lease_s=config.worker.lease_seconds,
                outages=[
                    (one.what.removesuffix("_outage"), one.at_s, one.at_s + one.seconds)
                    for one in story.happenings
                    if one.what.endswith("_outage")
                ],
            )
        self.network = Network(self.loop, Random(story.seed + 3), faults, self.trace)
        #: For the pauses of calls that are repeated.
        self._pauses = Random(story.seed + 5)
        self.venue = Venue(
            self.loop.time,
            epoch_ms=EPOCH_MS,
            random=Random(story.seed + 4),
            offset_ms=self._random.randint(-MAX_SKEW_MS, MAX_SKEW_MS),
        )
        self._redis_offset_ms = 0
        self.account = place.account(self._redis_ms, mutation=mutation)
        self.bell = Bell(self.account, self.loop)
        self.checker = Checker(story, self.venue, self.account, self.now_ms, self.trace)
        self.venue.on_accept = self.checker.on_accept
        self.account.on_step = self._on_step
        self.network.killed = self._on_killed
        self.machines: list[Machine] = []
        self._started = 0
        self._snapshot: dict[bytes, bytes] | None = None
        self._to_come = len(story.productions)
        self._last_s = max((one.at_s for one in story.happenings), default=0.0)
        self._is_over = False
        #: After a worker died, another starts this much later; None: none does.
        self.replace_after_s: Callable[[], float | None] = lambda: self._random.uniform(0.05, 3.0)

    def now_ms(self) -> int:
        """The true time."""
        return EPOCH_MS + int(self.loop.time() * 1000)

    def _redis_ms(self) -> int:
        return self.now_ms() + self._redis_offset_ms

    # -- running -------------------------------------------------------------------------------

    def run(self) -> list[str]:
        """Run the story to its end; returns what was violated."""
        with self._surroundings():
            self._lay_out()
            try:
                self.loop.run_until(self._is_done, limit_s=self.story.limit_s)
                if not self.checker.violations:
                    self._stop_workers()
                    self.checker.at_the_end()
            except Stuck as stuck:
                self.checker.violate(f"{stuck}: {self._pending()}")
            finally:
                for machine in self.machines:  # the processes of those that died are wound up too
                    machine.worker.engine._tasks.are_ending = True
                self.loop.finish([machine.process for machine in self.machines])
        return self.checker.violations

    def _lay_out(self) -> None:
        for production in self.story.productions:
            self.loop.outside(production.at_s, self._produce, production)
        for happening in self.story.happenings:
            if happening.what in self.account.impossible:
                continue
            self.loop.outside(happening.at_s, self._happen, happening)
        for _ in range(self.story.workers):
            self.start_worker()
        self.loop.outside(self.story.calm_s, self._calm)

    def _is_done(self) -> bool:
        return self._is_over or bool(self.checker.violations)

    def _calm(self) -> None:
        """From here on nothing breaks any more: look whether all has finished."""
        self.loop.outside(LOOK_EVERY_S, self._calm)
        if not any(machine.process.is_alive for machine in self.machines):
            self.start_worker()
        stopped = any(
            machine.process.is_alive and not machine.process.runs for machine in self.machines
        )
        # What a stopped worker holds in its hands, or the network carries, is yet to come too.
        to_come = self._to_come or self.loop.time() < self._last_s
        if not (to_come or self.checker.unfinished or self.network.under_way or stopped):
            self._is_over = not self.account.unfinished()[1] and not self.account.live()

    def _stop_workers(self) -> None:
        """Let everybody leave in good order."""
        for machine in self.machines:
            if machine.process.is_alive and not machine.main.done():
                machine.worker.engine.stop()
        self.loop.run_until(self._have_left, limit_s=self.story.limit_s)

    def _have_left(self) -> bool:
        return all(machine.main.done() or not machine.process.is_alive for machine in self.machines)

    def _pending(self) -> str:
        return ", ".join(self.checker.unfinished) or "no entry is left"

    # -- what happens --------------------------------------------------------------------------

    def _produce(self, production: Production) -> None:
        self._to_come -= 1
        fields = production.fields(EPOCH_MS)
        entry_id = self.account.add(fields)
        self.checker.produced(entry_id, fields)
        self.trace.note("producer", entry_id, production.signal_id, production.body)
        self.bell.look(*self.account.tails())

    def _happen(self, happening: Happening) -> None:
        self.trace.note("happens", happening.what, round(happening.seconds, 3))
        alive = [m for m in self.machines if m.process.runs and not m.main.done()]
        what, seconds = happening.what, happening.seconds
        if what in {"crash", "pause", "stop", "step"} and alive:
            machine = self._random.choice(alive)
            self.trace.note(machine.process.name, what)
            if what == "crash":
                self.loop.kill(machine.process)
                self._on_killed(machine.process)
            elif what == "pause":
                self.loop.pause(machine.process, seconds)
            elif what == "step":
                machine.clock.ahead_ms = int(seconds / 2 * MAX_SKEW_MS)
            else:
                machine.worker.engine.stop()
                self.loop.outside(seconds, self._start_another)
        elif what == "halt":
            self.set_state(TradingState.HALTED)
            self.loop.outside(seconds, self.set_state, TradingState.ACTIVE)
        elif what == "reduce":
            self.set_state(TradingState.REDUCING)
            self.loop.outside(seconds, self.set_state, TradingState.ACTIVE)
        elif what == "replica_stops":
            self._snapshot = self.account.snapshot()
        elif what == "failover":
            self.fail_over()
        elif what == "lose_group":
            self.account.destroy_group()
            self.checker.lost_group()

    def set_state(self, state: TradingState) -> None:
        """What an operator does."""
        self.account.set_state(state.value, str(self.loop.time()))

    def fail_over(self) -> None:
        """A replica takes over that lacks what was written since it stopped receiving.

        The operator and the producers notice: they say again what was lost.
        """
        if self._snapshot is None:
            return
        state = self.account.trading_state()
        self.account.fail_over(self._snapshot)
        self._snapshot = None
        restored = self.account.trading_state()
        self.bell.forget()
        lost = self.checker.lose_writes(restored)
        if restored != state:
            self.set_state(TradingState(state))
        for fields in lost:
            entry_id = self.account.add(fields)
            self.trace.note("producer", entry_id, "again")
            self.checker.produced(entry_id, fields)
        self.bell.look(*self.account.tails())

    def _on_step(self, step: Step, seen: Inspection | None) -> None:
        self.checker.on_step(step, seen)
        if seen is not None:
            self.bell.look(seen.tail, seen.bell)

    # -- workers -------------------------------------------------------------------------------

    def start_worker(self) -> Machine:
        """Start one more process."""
        self._started += 1
        process = Process(f"w{self._started}")
        clock = VirtualClock(
            self.loop,
            self._random.randint(-MAX_SKEW_MS, MAX_SKEW_MS) // 2,
            self._random.uniform(0, 1e5),
        )
        worker = self._compose(process, clock)
        main = self.loop.spawn(process, _live(worker))
        machine = Machine(process, clock, worker, main)
        main.add_done_callback(lambda task: self._on_ended(process, task))
        self.machines.append(machine)
        return machine

    def _start_another(self) -> None:
        if not self._is_over:
            self.start_worker()

    def _compose(self, process: Process, clock: VirtualClock) -> app.Worker:
        """The real composition, with the outermost parts replaced."""
        config = self.story.config
        adapter = SimulatedExchange(
            venue=self.venue,
            network=self.network,
            process=process,
            clock=clock,
            recv_window_ms=config.exchanges["sim"].recv_window_ms,
            on_send=self.checker.on_send,
        )

        def scripts(*_: object, **__: object) -> SimulatedScripts:
            return SimulatedScripts(
                account=self.account,
                network=self.network,
                loop=self.loop,
                process=process,
                patience_s=config.worker.lease_seconds / 3,
                clock=clock,
                random=self._pauses,
                bell=self.bell,
                detailed=self._detailed,
            )

        quiet = Quiet(lambda error: self._on_failure(process, error))
        seeded: Config = msgspec.structs.replace(
            config, worker=msgspec.structs.replace(config.worker, seed=self._started)
        )
        with (
            self.account.way(scripts),
            mock.patch.multiple(
                app,
                consumer_name=lambda: process.name,
                ExchangeFactory=lambda *_, **__: SimpleNamespace(
                    all=lambda: {"sim": adapter}, price_sources={}, side_tasks=list
                ),
                Metrics=lambda *_, **__: quiet,
                Health=lambda *_, **__: quiet,
            ),
        ):
            return app.Worker(seeded, clock=clock, account=self.account.memory)

    def _on_killed(self, process: Process) -> None:
        self.trace.note(process.name, "dies")
        after_s = self.replace_after_s()
        if after_s is not None:
            self.loop.outside(after_s, self._start_another)

    def _on_ended(self, process: Process, task: "asyncio.Task[None]") -> None:
        self.trace.note(process.name, "ends")
        if not task.cancelled() and task.exception() is not None:
            self.checker.violate(f"{process.name} ended with {task.exception()!r}")

    def _on_failure(self, process: Process, error: BaseException | None) -> None:
        self.trace.note(process.name, "delivery failed", repr(error))
        if not isinstance(error, _EXPECTED):
            self.checker.violate(f"{process.name}: a delivery ended with {error!r}")

    def _on_loop_error(self, context: dict[str, Any]) -> None:
        error = context.get("exception")
        self.checker.violate(f"{context.get('message')}: {error!r}")

    # -- surroundings --------------------------------------------------------------------------

    @contextmanager
    def _surroundings(self) -> Generator[None, None, None]:
        """The ambient logging, replaced for the run."""
        before = structlog.get_config() if structlog.is_configured() else None
        structlog.configure(
            processors=[self._keep_line],
            wrapper_class=structlog.make_filtering_bound_logger(10 if self._logs else 50),
            cache_logger_on_first_use=False,
        )
        try:
            yield
        finally:
            _restore_logging(before)

    def _keep_line(
        self, _logger: Any, _method: str, line: structlog.typing.EventDict
    ) -> structlog.typing.EventDict:
        self.trace.note("log", *(f"{key}={value}" for key, value in line.items()))
        raise structlog.DropEvent


async def _live(worker: app.Worker) -> None:
    introduction = asyncio.create_task(worker.engine.introduce())
    if await worker.supervisor.start():
        await introduction
        await worker.engine.run(worker._side_tasks())


def _restore_logging(before: dict[str, Any] | None) -> None:
    if before is None:
        structlog.reset_defaults()
    else:
        structlog.configure(**before)


def simulate(place: Place, seed: int, *, logs: bool = False) -> World:
    """Run one seed."""
    use_exact_arithmetic()  # as every command does
    world = World(place, tell(seed), logs=logs)
    world.run()
    return world
