"""Claims entries as there is room for them, runs each through the pipeline, commits its end."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterable
from contextlib import suppress
from typing import Any, Final

import msgspec

from worker.domain.trading_state import TradingState
from worker.engine.grants import InHand
from worker.ledger.calls import Ledger
from worker.ledger.errors import (
    GroupMissingError,
    LedgerError,
    LedgerRefusedError,
    LedgerUnavailableError,
)
from worker.ledger.items import CommitItem
from worker.ledger.lease import Lease
from worker.ledger.replies import CommitStatus, Committed, Delivery
from worker.observe.health import Health
from worker.observe.metrics import Metrics
from worker.observe.tracing import Tracing
from worker.pipeline.flow import Postponed, Unresolved
from worker.pipeline.pipeline import ExecutionPipeline
from worker.pipeline.settlement import Ending, Scribe
from worker.runtime.cancellation import cancel_all
from worker.runtime.clock import Clock
from worker.runtime.errors import InvariantError
from worker.runtime.logger import Tell, bind_ids, get_logger, tell

log = get_logger()

#: How long one wait for new signals lasts; also how soon an expired lease is noticed.
DOORBELL_MS: Final = 500
#: A wait takes at most this part of a lease, one over so many: leases count from before it.
WAIT_SHARE: Final = 30
#: Turns of the loop until what was taken asks for its admission: the signal's, its batch's, and the
#: sending; what two connections send in one turn goes out in no order.
TURNS_AHEAD: Final = 3
#: How long a stopping worker asks what a claim took that it cut short.
LAST_RESYNC_S: Final = 2.0
#: A postponed or failed delivery comes again after this.
RETRY_HOLD_MS: Final = 1_000
#: An unresolved order is looked up again after this.
UNRESOLVED_RETRY_MS: Final = 5_000
#: Pause after an error of the claim loop, growing to the longest.
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 5.0

#: By themselves, as in :mod:`worker.domain.signal`.
_DUPLICATE, _CONFLICT = CommitStatus.DUPLICATE, CommitStatus.CONFLICT
_FENCED: Final = CommitStatus.FENCED

#: Its name, and the coroutine function that is its life.
SideTask = tuple[str, Callable[[], Coroutine[Any, Any, None]]]


class ExecutionEngine:
    """One worker's main loop.

    Args:
        ledger: the Redis side.
        pipeline: what happens to one signal.
        scribe: writes what the engine itself decides.
        metrics: counts it all.
        health: told whether Redis answers and the group exists.
        clock: time.
        concurrency: how many signals may be in hand at once.
        drain_s: how long what is in hand may take once stopping was asked for.
        status: what the heartbeat says of this worker, JSON.
        in_hand: where to keep what is in hand, for those who want to look.
        tracing: makes a trace of every signal; None where nobody asked for it.
        tell: logs the one line of every signal.
    """

    def __init__(
        self,
        *,
        ledger: Ledger,
        pipeline: ExecutionPipeline,
        scribe: Scribe,
        metrics: Metrics,
        health: Health,
        clock: Clock,
        concurrency: int,
        drain_s: float,
        status: Callable[["ExecutionEngine"], bytes],
        in_hand: InHand | None = None,
        tracing: Tracing | None = None,
        tell: Tell = tell,
    ) -> None:
        self._ledger = ledger
        self._pipeline = pipeline
        self._scribe = scribe
        self._metrics = metrics
        self._health = health
        self._clock = clock
        self._concurrency = concurrency
        self._drain_s = drain_s
        self._wait_ms = min(DOORBELL_MS, ledger.lease_ms // WAIT_SHARE)
        self._status = status
        self._tracing = tracing
        self._tell = tell
        self._in_hand = InHand() if in_hand is None else in_hand
        #: In the order they were started.
        self._tasks: dict[asyncio.Task[None], None] = {}
        self._abandoned: list[Lease] = []
        self._room = asyncio.Event()
        self._stopping = asyncio.Event()
        self._hurry = asyncio.Event()
        self._seen_repeats = 0
        self._fatal: BaseException | None = None
        self.trading_state = TradingState.ACTIVE

    @property
    def draining(self) -> bool:
        """Whether stopping was asked for."""
        return self._stopping.is_set()

    @property
    def in_flight(self) -> int:
        """How many entries are in hand."""
        return len(self._in_hand)

    def stop(self) -> None:
        """Finish what is in hand, then return from :meth:`run`; a second call hands it back now."""
        if self._stopping.is_set():
            self._hurry.set()
        self._stopping.set()
        self._room.set()
        self._ledger.hang_up()
        self._health.set("draining", ok=False, detail="finishing what is in hand")

    async def stopping(self) -> None:
        """Wait until stopping was asked for."""
        await self._stopping.wait()

    async def run(self, side_tasks: Iterable[SideTask] = ()) -> None:
        """Work until :meth:`stop`; side tasks that die take the worker down with them.

        Raises:
            ExceptionGroup: a side task or an invariant failed.
        """
        async with asyncio.TaskGroup() as group:
            running = [group.create_task(self._beat(), name="heartbeat")]
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
        loop = asyncio.get_running_loop()
        for delivery in deliveries:
            if self._in_hand.knows(delivery):
                continue
            if delivery.deliveries > 1:
                self._metrics.takeover()
            lease = self._in_hand.take(delivery)
            task = loop.create_task(self._work(delivery, lease))
            self._tasks[task] = None
            task.add_done_callback(self._tasks.pop)

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
        while not self._stopping.is_set():
            # The keeper adopts a few entries beside this: by so many the ceiling is soft.
            room = self._concurrency - len(self._in_hand)
            if room <= 0:
                self._room.clear()
                await self._room.wait()
                continue
            try:
                tail = await self._claim(room, tail)
                pause = FIRST_PAUSE_S
                if tail is not None:
                    # What was taken asks for its admission before the next claim begins to wait.
                    for _ in range(TURNS_AHEAD):
                        await asyncio.sleep(0)
            except LedgerError as error:
                tail = None
                if not self._stopping.is_set():
                    await self._recover(error, pause)
                    pause = min(pause * 2, LONGEST_PAUSE_S)
        if self._ledger.repeats != self._seen_repeats:  # as when a waiting claim was cut short
            # Else what it took is somebody's once its leases have run out.
            with suppress(LedgerError, TimeoutError):
                async with asyncio.timeout(LAST_RESYNC_S):
                    await self._decline(await self._ledger.resync(self._in_hand))

    async def _claim(self, room: int, tail: bytes | None) -> bytes | None:
        """Take what there is room for, waiting for news after ``tail`` if there is one.

        Returns:
            After what to wait the next time; None if there is more.
        """
        started = time.perf_counter()
        claim = await self._ledger.claim(room, after=tail, wait_ms=self._wait_ms)
        repeats = self._ledger.repeats
        if tail is None:
            self._metrics.stage("claim", time.perf_counter() - started)
        self._health.set("redis", ok=True, detail="answers")
        self._health.set("group", ok=True, detail="exists")
        if claim.vanished:
            self._metrics.vanished(claim.vanished)
            log.warning("entries_vanished", count=claim.vanished)
        if self._stopping.is_set():
            await self._decline(claim.deliveries)
            return None
        self._metrics.claimed(len(claim.deliveries))
        self.take(claim.deliveries)
        if repeats != self._seen_repeats:
            # After the claim, which learns whether a primary took over that may lack writes.
            self.take(await self._ledger.resync(self._in_hand))
            self._seen_repeats = repeats
        if not claim.more:
            return claim.tail
        if not claim.deliveries:
            # Everything new waits behind the heads of its groups: room comes with their commits.
            await self._clock.sleep(0.01)
        return None

    async def _decline(self, deliveries: Iterable[Delivery]) -> None:
        """Hand back at once what came after stopping was asked for."""
        self._abandoned += [Lease(one.entry_id, one.token, one.lease_mono_ms) for one in deliveries]
        await self._hand_back()

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

    # -- one entry -----------------------------------------------------------------------------

    async def _work(self, delivery: Delivery, lease: Lease) -> None:
        """One entry, then the entries of its group that are handed on."""
        conclude = self._conclude if self._tracing is None else self._traced
        while True:
            following: Delivery | None = None
            try:
                if lease.doubt_until_mono_ms:
                    delivery = await self._outlast_doubt(delivery, lease.doubt_until_mono_ms)
                following = await conclude(delivery, lease)
            except asyncio.CancelledError:
                self._abandoned.append(lease)
                raise
            except InvariantError as error:
                self._fail(error)
                return
            except LedgerUnavailableError as error:
                # Redis's trouble is not the signal's: it counts towards no dead letter.
                log.warning("delivery_interrupted", entry_id=delivery.entry_id, error=str(error))
                await self._give_back(lease, RETRY_HOLD_MS, died=False)
            except Exception:
                log.exception("delivery_failed", entry_id=delivery.entry_id)
                self._metrics.delivery_failed()
                await self._give_back(lease, RETRY_HOLD_MS, died=True)
            finally:
                self._in_hand.let_go(lease)
            if following is None or self._in_hand.knows(following):
                break  # known: a resync was faster than the commit's reply
            self._metrics.claimed(1)
            bind_ids()  # the next entry's, once it is read
            delivery, lease = following, self._in_hand.take(following)
        self._room.set()

    async def _outlast_doubt(self, delivery: Delivery, until_mono_ms: float) -> Delivery:
        """Wait until no earlier request of this worker can arrive, as for another's lease to end.

        An entry can come back before that where Redis was away when it was to be held back: a
        resync hands it out under the same lease.
        """
        await self._clock.sleep(max(until_mono_ms - self._clock.monotonic_ms(), 0.0) / 1000)
        received_mono_ms = max(delivery.received_mono_ms, until_mono_ms)
        return msgspec.structs.replace(delivery, received_mono_ms=received_mono_ms, overdue_ms=0)

    async def _traced(self, delivery: Delivery, lease: Lease) -> Delivery | None:
        """As :meth:`_conclude`, as a trace."""
        assert self._tracing is not None  # noqa: S101 (asked by the caller)
        with self._tracing.signal(delivery.entry_id, delivery.fields, delivery.deliveries):
            return await self._conclude(delivery, lease)

    async def _conclude(self, delivery: Delivery, lease: Lease) -> Delivery | None:
        """Take one entry as far as it goes now; returns the entry handed on."""
        end = await self._pipeline.run(delivery, lease)
        if isinstance(end, Ending):
            return await self._commit(delivery, lease, end)
        if isinstance(end, Unresolved):
            await self._park(lease, end)
        elif isinstance(end, Postponed):
            log.info("signal_postponed", entry_id=delivery.entry_id, reason=end.reason)
            await self._give_back(lease, RETRY_HOLD_MS, died=False)
        else:
            self._note_lost(lease)
        return None

    async def _commit(self, delivery: Delivery, lease: Lease, end: Ending) -> Delivery | None:
        answer = await self._write(lease, end.item)
        if answer is not None and answer.status is _CONFLICT:
            end = self._scribe.conflict(end.item.signal, lease, delivery.deliveries)
            answer = await self._write(lease, end.item)
        if answer is None or answer.status is _FENCED:
            self._note_lost(lease)
            return None
        outcome = "duplicate" if answer.status is _DUPLICATE else end.outcome
        elapsed_s = (self._clock.monotonic_ms() - delivery.received_mono_ms) / 1000
        self._metrics.ended(outcome, end, elapsed_s)
        line = {
            "signal_id": end.item.signal,
            "entry_id": delivery.entry_id,
            "outcome": outcome,
            "deliveries": delivery.deliveries,
            "duration_ms": round(elapsed_s * 1000, 2),
            **end.fields,
        }
        self._tell("signal_ended", line)
        if self._tracing is not None:
            self._tracing.ended(outcome, end.item.signal, end.fields)
        return answer.following

    async def _write(self, lease: Lease, item: CommitItem) -> Committed | None:
        """Commit, however long Redis takes; None once the lease is certainly another's."""
        if self._tracing is not None:
            item = msgspec.structs.replace(item, traceparent=self._tracing.traceparent())
        while True:
            if self._stopping.is_set():
                item = msgspec.structs.replace(item, take_next=False)
            try:
                return await self._ledger.commit(item)
            except LedgerUnavailableError:
                if lease.lost:
                    return None
                await self._clock.sleep(FIRST_PAUSE_S)

    async def _park(self, lease: Lease, end: Unresolved) -> None:
        order = end.order
        log.error(
            "order_unresolved",
            signal_id=order.signal.signal_id,
            client_order_id=order.request.client_order_id,
            exchange=order.adapter.name,
            reason=end.reason,
        )
        # Whoever adopts it takes "not found" for proof: not while a request of ours may arrive.
        doubt_ms = lease.doubt_ms(self._clock.monotonic_ms())
        try:
            parked = await self._ledger.park(
                lease.entry_id,
                lease.token,
                order.signal.signal_id,
                max(UNRESOLVED_RETRY_MS, doubt_ms),
                self._scribe.unresolved(end),
            )
        except LedgerUnavailableError:
            return  # the lease runs out and the next worker looks the order up
        if parked:
            self._metrics.parked()
        else:
            self._note_lost(lease)

    async def _give_back(self, lease: Lease, hold_ms: int, *, died: bool) -> None:
        hold_ms = max(hold_ms, lease.doubt_ms(self._clock.monotonic_ms()))
        try:
            await self._ledger.release([(lease.entry_id, lease.token, hold_ms, died)])
        except LedgerError as error:
            log.warning("release_failed", entry_id=lease.entry_id, error=str(error))

    def _note_lost(self, lease: Lease) -> None:
        log.warning("lease_lost", entry_id=lease.entry_id, token=lease.token)
        self._metrics.fenced()

    def _fail(self, error: BaseException) -> None:
        log.critical("invariant_broken", error=str(error), exc_info=error)
        self._fatal = error
        self.stop()
        self._hurry.set()

    # -- leases --------------------------------------------------------------------------------

    async def _beat(self) -> None:
        """Renew every lease three times in its life."""
        while True:
            await self._renew()
            await self._clock.sleep(self._ledger.lease_ms / 3000)

    async def _renew(self) -> None:
        held = list(self._in_hand.values())
        self._in_hand.forget_doubts(self._clock.monotonic_ms())
        try:
            lost, state, expires = await self._ledger.heartbeat(
                [(lease.entry_id, lease.token) for lease in held], self._status(self)
            )
        except LedgerError as error:
            self._health.set("redis", ok=False, detail=str(error))
            return  # leases run out by themselves; nothing is sent under one that has
        for lease in held:
            if lease.entry_id in lost:
                lease.lost = True
            else:
                lease.renew(expires)
        if state is not self.trading_state:
            log.warning("trading_state", state=state.value, before=self.trading_state.value)
            self.trading_state = state
        self._metrics.trading_state(state.value)
        self._metrics.leases(len(held))

    # -- stopping ------------------------------------------------------------------------------

    async def _drain(self) -> None:
        """Let what is in hand finish, then hand the rest back."""
        log.info("draining", in_flight=len(self._tasks), drain_s=self._drain_s)
        deadline = self._clock.monotonic_ms() + self._drain_s * 1000
        hurry = asyncio.get_running_loop().create_task(self._hurry.wait())
        while self._tasks and not self._hurry.is_set():
            left_s = (deadline - self._clock.monotonic_ms()) / 1000
            if left_s <= 0:
                break
            await asyncio.wait(
                {hurry, *self._tasks}, timeout=left_s, return_when=asyncio.FIRST_COMPLETED
            )
        hurry.cancel()
        await cancel_all(self._tasks)
        log.info("drained", handed_back=await self._hand_back())

    async def _hand_back(self) -> int:
        """Release what is nobody's here any more; how many entries were still ours."""
        if not self._abandoned:
            return 0
        now = self._clock.monotonic_ms()
        entries = [
            (lease.entry_id, lease.token, lease.doubt_ms(now), False) for lease in self._abandoned
        ]
        try:
            released = await self._ledger.release(entries)
        except LedgerError as error:
            log.warning("release_failed", count=len(entries), error=str(error))
            return 0
        self._abandoned = []
        return released

    async def _leave(self) -> None:
        try:
            await self._ledger.leave()
        except LedgerError as error:
            log.warning("leave_failed", error=str(error))
