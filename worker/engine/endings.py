"""The ends of entries: settle all that ended together, commit once; or give back, park, let go."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, assert_never

import msgspec

from worker.engine.counting import count_end
from worker.engine.grants import Grants
from worker.engine.group_calls import MAX_BATCH, call_for_all
from worker.engine.leases import Leases
from worker.engine.tasks import Tasks
from worker.engine.work import Work
from worker.ledger.errors import LedgerUnavailableError
from worker.ledger.items import CommitItem
from worker.ledger.ports import Ledger
from worker.ledger.replies import CONFLICT, DUPLICATE, FENCED, Committed, Delivery
from worker.observe.metrics import Metrics
from worker.observe.tracing import Trace
from worker.pipeline.flow import EarlyEnd, Lost, Postponed, Resting, Settlement, Unresolved
from worker.pipeline.pipeline import ExecutionPipeline
from worker.pipeline.settlement import Ending
from worker.pipeline.worker_state import WorkerState
from worker.runtime.clock import Clock
from worker.runtime.errors import InvariantError
from worker.runtime.logger import LogSignal, bind_ids, get_logger

log = get_logger()

#: A postponed or failed delivery comes again after this.
RETRY_HOLD_MS: Final = 1_000
#: An unresolved order is looked up again after this.
UNRESOLVED_RETRY_MS: Final = 5_000
#: A commit that Redis could not take is repeated after this.
COMMIT_PAUSE_S: Final = 0.1


class Endings:
    """Brings deliveries out of this worker's hands, each in exactly one way.

    Args:
        ledger: the Redis side.
        pipeline: writes ends down.
        grants: what is in hand.
        leases: gives entries back.
        tasks: the engine's.
        state: of the worker; nothing is handed on while it drains.
        metrics: counts it all.
        clock: time.
        hand_on: called with the next entries of the groups whose entries have ended.
        on_room: called when an entry is no longer in hand.
        on_fatal: called with a broken invariant.
        log_signal: logs the one line of every signal.
    """

    def __init__(
        self,
        *,
        ledger: Ledger,
        pipeline: ExecutionPipeline,
        grants: Grants,
        leases: Leases,
        tasks: Tasks,
        state: WorkerState,
        metrics: Metrics,
        clock: Clock,
        hand_on: Callable[[Sequence[Delivery]], None],
        on_room: Callable[[], None],
        on_fatal: Callable[[BaseException], None],
        log_signal: LogSignal,
    ) -> None:
        self._ledger = ledger
        self._pipeline = pipeline
        self._grants = grants
        self._leases = leases
        self._tasks = tasks
        self._state = state
        self._metrics = metrics
        self._clock = clock
        self._hand_on = hand_on
        self._on_room = on_room
        self._on_fatal = on_fatal
        self._log_signal = log_signal
        #: What has ended in this turn of the event loop; None while nothing has.
        self._ended: list[tuple[Work, Settlement | Resting | EarlyEnd]] | None = None
        #: Endings that wait for the commit under way to return.
        self._waiting: list[tuple[Work, Ending]] = []
        self._is_committing = False
        #: Traces of the deliveries in hand.
        self._traces: set[Trace] = set()

    def opened(self, trace: Trace) -> None:
        """Close ``trace`` when its delivery is no longer in hand."""
        self._traces.add(trace)

    def close_traces(self) -> None:
        """Close the traces of all deliveries that are in hand, at the end of a drain."""
        for trace in self._traces:
            trace.close()
        self._traces.clear()

    def end(self, work: Work, end: Settlement | Resting | EarlyEnd) -> None:
        """Have an entry's end written together with all others of this turn of the loop."""
        if self.add(work, end):
            self._tasks.spawn(self.finish())

    def add(self, work: Work, end: Settlement | Resting | EarlyEnd) -> bool:
        """Keep an entry's end until :meth:`finish`; return whether nobody is to call that yet."""
        if self._ended is not None:
            self._ended.append((work, end))
            return False
        self._ended = [(work, end)]
        return True

    async def finish(self) -> None:
        """Settle what has ended, then commit it, or leave it to the commit under way."""
        bind_ids()
        ended, self._ended = self._ended or [], None
        for work, end in ended:
            try:
                ending = self._pipeline.write(end, work.delivery, work.custody)
            except Exception as error:
                self.fail(work, error)
                continue
            match ending:
                case Ending():
                    self._waiting.append((work, ending))
                case Unresolved():
                    self._tasks.spawn(self._park(work, ending))
                case Postponed():
                    log.info("signal_postponed", **_ids(work), reason=ending.reason)
                    self._tasks.spawn(self._give_back(work, died=False))
                case Lost():
                    self._lost(work)
                case _:
                    assert_never(ending)
        if self._is_committing:
            return
        self._is_committing = True
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[:MAX_BATCH], self._waiting[MAX_BATCH:]
                await self._commit(batch)
        finally:
            self._is_committing = False

    async def _commit(self, batch: list[tuple[Work, Ending]]) -> None:
        """Commit endings, however long Redis takes; those whose lease is lost are another's."""
        while batch:
            items = [self._item(work, ending) for work, ending in batch]
            answers = await call_for_all(self._ledger.commit, items)
            answered_mono_ms = self._clock.monotonic_ms()
            again: list[tuple[Work, Ending]] = []
            handed_on: list[Delivery] = []
            pause_s = 0.0
            for (work, ending), answer in zip(batch, answers, strict=True):
                if not isinstance(answer, Committed):
                    if not isinstance(answer, LedgerUnavailableError):
                        self.fail(work, answer)
                    elif work.custody.is_lost:
                        self._lost(work)
                    else:
                        again.append((work, ending))
                        pause_s = COMMIT_PAUSE_S
                elif answer.status is CONFLICT:
                    signal_id = ending.item.signal
                    dead = self._pipeline.conflict(signal_id, work.delivery, work.custody)
                    again.append((work, dead))
                elif answer.status is FENCED:
                    self._lost(work)
                else:
                    try:
                        self._committed(work, ending, answer, answered_mono_ms)
                    except Exception as error:
                        self.fail(work, error)
                    if answer.following is not None:
                        handed_on.append(answer.following)
            if handed_on:
                self._hand_on(handed_on)
            if pause_s:
                await self._clock.sleep(pause_s)
            batch = again

    def _item(self, work: Work, ending: Ending) -> CommitItem:
        item = ending.item
        if work.trace is not None:
            item = msgspec.structs.replace(item, traceparent=work.trace.traceparent())
        if self._state.draining:
            item = msgspec.structs.replace(item, take_next=False)
        return item

    def _committed(
        self, work: Work, ending: Ending, answer: Committed, answered_mono_ms: float
    ) -> None:
        """Count and log one signal's end."""
        delivery = work.delivery
        is_duplicate = answer.status is DUPLICATE
        outcome = "duplicate" if is_duplicate else ending.outcome
        elapsed_s = (answered_mono_ms - delivery.received_mono_ms) / 1000
        rests = ending.rests
        if rests:
            self._metrics.order_rests()
        else:
            count_end(self._metrics, outcome, ending, elapsed_s)
        line = {
            "signal_id": ending.item.signal,
            "entry_id": delivery.entry_id,
            "outcome": outcome,
            "deliveries": delivery.deliveries,
            "duration_ms": round(elapsed_s * 100_000) / 100,
            **ending.fields,
        }
        self._log_signal("order_rests" if rests else "signal_ended", line)
        if work.trace is not None:
            work.trace.committed(outcome, ending.item.signal, ending.fields)
        self._let_go(work)

    # -- other ways out ------------------------------------------------------------------------

    async def _park(self, work: Work, end: Unresolved) -> None:
        """Leave an order in doubt to the keeper, saying so once."""
        bind_ids()
        order, custody = end.order, work.custody
        log.error(
            "order_unresolved",
            **_ids(work),
            client_order_id=order.request.client_order_id,
            exchange=order.signal.exchange,
            reason=end.reason,
        )
        # Whoever adopts it takes "not found" for proof: not while a request of ours may arrive.
        doubt_ms = custody.doubt_ms(self._clock.monotonic_ms())
        try:
            parked = await self._ledger.park(
                custody.entry_id,
                custody.token,
                order.signal.signal_id,
                max(UNRESOLVED_RETRY_MS, doubt_ms),
                self._pipeline.unresolved(end),
            )
        except LedgerUnavailableError:
            self._let_go(work)  # the lease runs out and the next worker looks the order up
        except Exception as error:
            self.fail(work, error)
        else:
            if parked:
                self._metrics.parked()
                self._let_go(work)
            else:
                self._lost(work)

    async def _give_back(self, work: Work, *, died: bool) -> None:
        try:
            await self._leases.give_back([work.custody], hold_ms=RETRY_HOLD_MS, died=died)
        except asyncio.CancelledError:
            if died:  # left to its lease: given back by the drain it would not count as died
                self._let_go(work)
            raise
        self._let_go(work)

    def _lost(self, work: Work) -> None:
        log.warning("lease_lost", **_ids(work), token=work.custody.token)
        self._metrics.fenced()
        self._let_go(work)

    def _let_go(self, work: Work, error: Exception | None = None) -> None:
        if work.trace is not None:
            self._close_trace(work.trace, error)
        self._grants.let_go(work.custody)
        self._on_room()

    def fail(self, work: Work, error: Exception) -> None:
        """Give back a delivery that an exception ended; a broken invariant stops the worker."""
        if isinstance(error, InvariantError):
            self._let_go(work, error)
            self._on_fatal(error)
            return
        if work.trace is not None:
            self._close_trace(work.trace, error)
        is_redis = isinstance(error, LedgerUnavailableError)
        if is_redis:
            # Redis's trouble is not the signal's: it counts towards no dead letter.
            log.warning("delivery_interrupted", **_ids(work), error=str(error))
        else:
            log.error("delivery_failed", **_ids(work), exc_info=error)
            self._metrics.delivery_failed()
        self._tasks.spawn(self._give_back(work, died=not is_redis))

    def _close_trace(self, trace: Trace, error: Exception | None) -> None:
        trace.close(error)
        self._traces.discard(trace)


def _ids(work: Work) -> dict[str, str]:
    """Return the ids of a delivery for a log line; the signal's is missing until it is read."""
    ids = {"entry_id": work.custody.entry_id}
    return ids | {"signal_id": work.custody.signal_id} if work.custody.signal_id else ids
