"""Claims entries as there is room for them, and lets what is in hand finish when it stops."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextlib import suppress
from typing import Any, Final

from worker.engine.batches import Batches
from worker.engine.counting import count_buried
from worker.engine.endings import Endings
from worker.engine.grants import Grants
from worker.engine.leases import Leases
from worker.engine.tasks import Tasks
from worker.engine.turn_runner import TurnRunner
from worker.ledger.errors import (
    GroupMissingError,
    LedgerError,
    LedgerRefusedError,
    LedgerUnavailableError,
)
from worker.ledger.ports import Ledger
from worker.ledger.replies import Delivery
from worker.ledger.turns import Turn
from worker.observe.health import Health
from worker.observe.metrics import Metrics
from worker.observe.tracing import Tracing
from worker.pipeline.pipeline import ExecutionPipeline
from worker.pipeline.worker_state import WorkerState
from worker.runtime.cancellation import cancel_all
from worker.runtime.clock import Clock
from worker.runtime.logger import LogSignal, get_logger, log_signal
from worker.turns.follow import FollowOrders

log = get_logger()

#: How long one wait for new signals lasts; also how soon an expired lease is noticed.
DOORBELL_MS: Final = 500
#: A wait lasts at most a lease divided by this: leases count from before it.
WAIT_SHARE: Final = 30
#: Time limit of the resync after a stop interrupted a claim.
LAST_RESYNC_S: Final = 2.0
#: Pause after an error of the claim loop, growing to the longest.
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 5.0

#: Its name, and the coroutine function that is its life.
SideTask = tuple[str, Callable[[], Coroutine[Any, Any, None]]]


class ExecutionEngine:
    """One worker's main loop.

    Args:
        ledger: the Redis side.
        pipeline: what happens to one signal.
        follow: what happens in a turn.
        state: of the worker; written here only.
        metrics: counts it all.
        health: told whether Redis answers and the group exists.
        clock: time.
        concurrency: how many signals may be in hand at once.
        drain_s: how long what is in hand may take once stopping was asked for.
        status: builds what the heartbeat says of this worker, JSON.
        tracing: makes a trace of every signal; None where nobody asked for it.
        log_signal: logs the one line of every signal.
    """

    def __init__(
        self,
        *,
        ledger: Ledger,
        pipeline: ExecutionPipeline,
        follow: FollowOrders,
        state: WorkerState,
        metrics: Metrics,
        health: Health,
        clock: Clock,
        concurrency: int,
        drain_s: float,
        status: Callable[["ExecutionEngine"], bytes],
        tracing: Tracing | None = None,
        log_signal: LogSignal = log_signal,
    ) -> None:
        self._ledger = ledger
        self._state = state
        self._metrics = metrics
        self._health = health
        self._clock = clock
        self._concurrency = concurrency
        self._drain_s = drain_s
        self._log_signal = log_signal
        self._wait_ms = min(DOORBELL_MS, ledger.lease_ms // WAIT_SHARE)
        self._hurry = asyncio.Event()
        #: Set when the claim loop has something to look at: room, an answered admission, the stop.
        self._news = asyncio.Event()
        #: Whether the admission of what was claimed last is not answered yet.
        self._is_admitting = False
        self._seen_lost_replies = 0
        self._fatal: BaseException | None = None
        self._grants = Grants()
        self._tasks = Tasks(self._fail)
        self._leases = Leases(
            ledger=ledger,
            grants=self._grants,
            state=state,
            metrics=metrics,
            health=health,
            clock=clock,
            status=lambda: status(self),
        )
        self._endings = Endings(
            ledger=ledger,
            pipeline=pipeline,
            grants=self._grants,
            leases=self._leases,
            tasks=self._tasks,
            state=state,
            metrics=metrics,
            clock=clock,
            hand_on=self._hand_on,
            on_room=self._news.set,
            on_fatal=self._fail,
            log_signal=log_signal,
        )
        self._batches = Batches(
            ledger=ledger,
            pipeline=pipeline,
            grants=self._grants,
            endings=self._endings,
            tasks=self._tasks,
            metrics=metrics,
            clock=clock,
            tracing=tracing,
        )
        self._turns = self._turn_runner(follow)

    def _turn_runner(self, follow: FollowOrders) -> TurnRunner:
        return TurnRunner(
            ledger=self._ledger,
            follow=follow,
            grants=self._grants,
            leases=self._leases,
            tasks=self._tasks,
            metrics=self._metrics,
            clock=self._clock,
            concurrency=self._concurrency,
            on_room=self._news.set,
            on_fatal=self._fail,
            log_signal=self._log_signal,
        )

    @property
    def draining(self) -> bool:
        """Return whether stopping was asked for."""
        return self._state.draining

    @property
    def in_flight(self) -> int:
        """Return how many entries are in hand."""
        return len(self._grants) - self._turns.in_hand

    def stop(self) -> None:
        """Finish what is in hand, then return from :meth:`run`; a second call hands it back now."""
        if self._state.draining:
            self._hurry.set()
        self._state.drain()
        self._news.set()
        self._ledger.hang_up()
        self._health.set("draining", ok=False, detail="finishing what is in hand")

    async def stopping(self) -> None:
        """Wait until stopping was asked for."""
        await self._state.until_draining()

    async def run(self, side_tasks: Iterable[SideTask] = ()) -> None:
        """Work until :meth:`stop`; side tasks that die take the worker down with them.

        Raises:
            ExceptionGroup: a side task or an invariant failed.
        """
        async with asyncio.TaskGroup() as group:
            running = [group.create_task(self._leases.keep(), name="heartbeat")]
            for name, task in side_tasks:
                running.append(group.create_task(task(), name=name))
            try:
                await self._claim_until_stopped()
                await self._drain()
            finally:
                await cancel_all(running)
        if self._fatal is not None:
            raise self._fatal
        await self._leave()

    def take(self, deliveries: Iterable[Delivery]) -> None:
        """Start work on granted entries, but for grants that are in hand already."""
        self._batches.take(deliveries)

    def _hand_on(self, following: Sequence[Delivery]) -> None:
        self._batches.hand_on(following)

    def _fail(self, error: BaseException) -> None:
        """Stop the worker for a broken invariant; what is in hand is handed back."""
        log.critical("invariant_broken", error=str(error), exc_info=error)
        self._fatal = error
        self.stop()
        self._hurry.set()

    # -- claiming ------------------------------------------------------------------------------

    async def introduce(self) -> None:
        """Make the group, and learn which primary this is, taking nothing.

        Done while the exchanges start, so that a primary lost meanwhile is noticed.
        """
        try:
            await self._ledger.ensure_group()
            await self._ledger.claim(0)
        except LedgerError as error:  # the claim loop meets the same trouble and goes on trying
            log.debug("introduction_failed", error=str(error))

    async def _claim_until_stopped(self) -> None:
        tail: bytes | None = None
        pause = FIRST_PAUSE_S
        while not self._state.draining:
            # The keeper adopts a few entries beside this, so the ceiling may be exceeded by those.
            room = max(self._concurrency - self.in_flight, 0)
            if not room and not await self._await_room():
                continue
            try:
                tail = await self._claim(room, tail)
                pause = FIRST_PAUSE_S
            except LedgerError as error:
                tail = None
                if not self._state.draining:
                    await self._recover(error, pause)
                    pause = min(pause * 2, LONGEST_PAUSE_S)
        if self._ledger.lost_replies != self._seen_lost_replies:
            # If this fails, others get those entries when the leases end.
            with suppress(LedgerError, TimeoutError):
                async with asyncio.timeout(LAST_RESYNC_S):
                    await self._decline(await self._ledger.resync(self._grants))

    async def _await_room(self) -> bool:
        """Wait for room for an entry; return whether to claim all the same, for turns alone."""
        self._news.clear()
        try:
            async with asyncio.timeout(self._wait_ms / 1000):
                await self._news.wait()
        except TimeoutError:
            return self._turns.room > 0
        return False

    async def _claim(self, room: int, tail: bytes | None) -> bytes | None:
        """Take what there is room for, waiting for news after ``tail`` if there is one.

        Returns:
            After what to wait the next time; None if there is more.
        """
        started = time.perf_counter()
        claim = await self._ledger.claim(
            room, turns=self._turns.room, after=tail, wait_ms=self._wait_ms
        )
        lost_replies = self._ledger.lost_replies
        if tail is None:
            self._metrics.stage("claim", time.perf_counter() - started)
        self._health.set("redis", ok=True, detail="answers")
        self._health.set("group", ok=True, detail="exists")
        if claim.vanished:
            self._metrics.vanished(claim.vanished)
            log.warning("entries_vanished", count=claim.vanished)
        for entry_id, error in claim.oversize:
            count_buried(self._metrics, self._log_signal, entry_id, error)
        if self._state.draining:
            await self._decline([*claim.deliveries, *claim.turns])
            return None
        self._turns.take(claim.turns)
        self._metrics.claimed(len(claim.deliveries))
        await self._admitted(claim.deliveries)
        if lost_replies != self._seen_lost_replies:
            # After the claim, which learns whether a primary took over that may lack writes.
            missed = await self._ledger.resync(self._grants)
            self.take(one for one in missed if isinstance(one, Delivery))
            self._turns.take(one for one in missed if isinstance(one, Turn))
            self._seen_lost_replies = lost_replies
        if not claim.more:
            return claim.tail
        if not claim.deliveries and not claim.oversize:
            # Everything new waits behind the heads of its groups: room comes with their commits.
            await self._clock.sleep(0.01)
        return None

    async def _admitted(self, deliveries: Sequence[Delivery]) -> None:
        """Start work on what was claimed; return once its admission is answered.

        The next claim waits on the server for new entries: it is sent after the admission, so that
        no new signal waits behind it. A stop is not held up.
        """
        self._is_admitting = self._batches.take(deliveries, self._note_admitted)
        while self._is_admitting and not self._state.draining:
            self._news.clear()
            await self._news.wait()

    def _note_admitted(self) -> None:
        self._is_admitting = False
        self._news.set()

    async def _decline(self, deliveries: Iterable[Delivery | Turn]) -> None:
        """Hand back at once what came after stopping was asked for."""
        # A grant that a commit's reply has handed on meanwhile is worked on: it is not given back.
        new = [one for one in deliveries if not self._grants.knows(one)]
        custodies = [self._grants.take(one) for one in new]
        if await self._leases.give_back(custodies) is None:
            return  # the end of the drain tries again
        for custody in custodies:
            self._grants.let_go(custody)

    async def _recover(self, error: LedgerError, pause: float) -> None:
        """Say what is wrong, mend what can be mended, wait."""
        if isinstance(error, GroupMissingError):
            log.warning("group_missing", detail="creating the consumer group again")
            self._health.set("group", ok=False, detail="missing")
            try:
                await self._ledger.ensure_group()
            except LedgerError as again:
                error = again
            else:
                return
        self._health.set("redis", ok=False, detail=str(error))
        is_away = isinstance(error, LedgerRefusedError | LedgerUnavailableError)
        event = "redis_unavailable" if is_away else "ledger_failed"
        log.error(event, error=str(error), retry_in_s=round(pause, 2))
        await self._clock.sleep(pause)

    # -- stopping ------------------------------------------------------------------------------

    async def _drain(self) -> None:
        """Let what is in hand finish, then hand the rest back."""
        log.info("draining", in_flight=len(self._grants), drain_s=self._drain_s)
        deadline = self._clock.monotonic_ms() + self._drain_s * 1000
        hurry = asyncio.get_running_loop().create_task(self._hurry.wait())
        while self._tasks and not self._hurry.is_set():
            left_s = (deadline - self._clock.monotonic_ms()) / 1000
            if left_s <= 0:
                break
            await asyncio.wait(
                {hurry, *self._tasks.running()},
                timeout=left_s,
                return_when=asyncio.FIRST_COMPLETED,
            )
        hurry.cancel()
        await self._tasks.end()
        self._endings.close_traces()
        held = self._grants.held()
        for custody in held:
            custody.lose()  # whatever still holds one sends nothing under it
        log.info("drained", handed_back=await self._leases.give_back(held) or 0)

    async def _leave(self) -> None:
        try:
            await self._ledger.leave()
        except LedgerError as error:
            log.warning("leave_failed", error=str(error))
