"""Takes entries through the pipeline a batch at a time; only what waits is a task of its own.

Validate all, size all, ask the ledger once, send, settle all that ended, commit once.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from time import perf_counter
from typing import assert_never

import msgspec

from worker.engine.endings import Endings
from worker.engine.grants import Grants
from worker.engine.group_calls import MAX_BATCH, call_for_all
from worker.engine.tasks import Tasks
from worker.engine.work import Work
from worker.ledger.ports import Ledger
from worker.ledger.replies import Delivery
from worker.observe.metrics import Metrics
from worker.observe.tracing import Tracing
from worker.pipeline.custody import Custody
from worker.pipeline.flow import (
    AdmittedOrder,
    Arrival,
    Completed,
    EarlyEnd,
    Failed,
    Lost,
    Malformed,
    Postponed,
    Proposal,
    Repeated,
    Resting,
    Settlement,
    Submission,
    Unresolved,
    ValidSignal,
)
from worker.pipeline.pipeline import ExecutionPipeline
from worker.runtime.clock import Clock
from worker.runtime.logger import bind_ids

#: Takes the order of an entry that came by itself: the task it was read in sends it, too.
_Alone = list[tuple[Work, AdmittedOrder]]


class Batches:
    """Runs deliveries, each to its end or until it is given back.

    Args:
        ledger: asked for admissions.
        pipeline: the stages.
        grants: what is in hand.
        endings: where every delivery ends.
        tasks: the engine's.
        metrics: counts it all.
        clock: time.
        tracing: makes a trace of every signal; None where nobody asked for it.
    """

    def __init__(
        self,
        *,
        ledger: Ledger,
        pipeline: ExecutionPipeline,
        grants: Grants,
        endings: Endings,
        tasks: Tasks,
        metrics: Metrics,
        clock: Clock,
        tracing: Tracing | None,
    ) -> None:
        self._ledger = ledger
        self._pipeline = pipeline
        self._grants = grants
        self._endings = endings
        self._tasks = tasks
        self._metrics = metrics
        self._observe_execution = metrics.watch("execution")
        self._observe_reconciliation = metrics.watch("reconciliation")
        self._clock = clock
        self._tracing = tracing

    # -- taking --------------------------------------------------------------------------------

    def take(
        self, deliveries: Iterable[Delivery], on_admitted: Callable[[], None] | None = None
    ) -> bool:
        """Start work on granted entries, but for grants that are in hand already.

        Args:
            deliveries: the entries.
            on_admitted: called once the ledger has been asked for their admission.

        Returns:
            Whether it will be called.
        """
        new = [one for one in deliveries if not self._grants.knows(one)]
        for one in new:
            if one.deliveries > 1:
                self._metrics.takeover()
        return self._start(new, on_admitted)

    def hand_on(self, following: Sequence[Delivery]) -> None:
        """Start the next entries of the groups whose entries have just ended."""
        # Known: a resync was faster than the commit's reply.
        new = [one for one in following if not self._grants.knows(one)]
        for _ in new:
            self._metrics.claimed(1)
        self._start(new)

    def _start(
        self, deliveries: Sequence[Delivery], on_admitted: Callable[[], None] | None = None
    ) -> bool:
        works: list[Work] = []
        for delivery in deliveries:
            custody = self._grants.take(delivery)
            if custody.doubt_until_mono_ms is not None:
                self._tasks.spawn(
                    self._outlast_doubt(delivery, custody, custody.doubt_until_mono_ms)
                )
            else:
                works.append(self._work(delivery, custody))
        if works:
            self._tasks.spawn(self._run(works, on_admitted))
        return bool(works)

    def _work(self, delivery: Delivery, custody: Custody) -> Work:
        if self._tracing is None:
            return Work(delivery, custody, None)
        trace = self._tracing.begin(delivery.entry_id, delivery.fields, delivery.deliveries)
        self._endings.opened(trace)
        return Work(delivery, custody, trace)

    async def _outlast_doubt(
        self, delivery: Delivery, custody: Custody, until_mono_ms: float
    ) -> None:
        """Wait until no earlier request of this worker can arrive, as for another's lease to end.

        An entry can come back before that where Redis was away when it was to be held back: a
        resync hands it out under the same lease.
        """
        await self._clock.sleep(max(until_mono_ms - self._clock.monotonic_ms(), 0.0) / 1000)
        received_mono_ms = max(delivery.received_mono_ms, until_mono_ms)
        delivery = msgspec.structs.replace(
            delivery, received_mono_ms=received_mono_ms, overdue_ms=0
        )
        await self._run([self._work(delivery, custody)])

    # -- before sending ------------------------------------------------------------------------

    async def _run(
        self, works: Sequence[Work], on_admitted: Callable[[], None] | None = None
    ) -> None:
        """Have entries admitted, then trade: a lone order in this task, others each in its own."""
        bind_ids()  # what started this task may have been another signal's
        alone: _Alone | None = [] if len(works) == 1 else None
        for start in range(0, len(works), MAX_BATCH):
            await self._run_batch(works[start : start + MAX_BATCH], alone)
        if on_admitted is not None:
            # In the loop's next turn: first come the orders, and what ends at once.
            asyncio.get_running_loop().call_soon(on_admitted)
        for work, order in alone or ():
            await self._trade(work, order)

    async def _run_batch(self, works: Sequence[Work], alone: "_Alone | None") -> None:
        """Have a batch admitted; ``alone`` gets the order of an entry that is all of it."""
        arrivals: list[tuple[Work, Arrival]] = []
        proposals: list[tuple[Work, Proposal]] = []
        for work in works:
            try:
                step = self._pipeline.begin(work.delivery, work.custody)
            except Exception as error:
                self._endings.fail(work, error)
                continue
            if not isinstance(step, Arrival):
                self._go_on(work, step, proposals, alone)
            elif self._pipeline.needs_market(step):
                self._tasks.spawn(self._ask_market(work, step))
            else:
                arrivals.append((work, step))
        await self._judge(arrivals, proposals, alone)

    async def _ask_market(self, work: Work, arrival: Arrival) -> None:
        """Wait for the exchange's price or balance; nobody else waits for that."""
        bind_ids(entry_id=work.delivery.entry_id, signal_id=arrival.signal.signal_id)
        try:
            arrival = await self._pipeline.ask_market(arrival)
        except (Exception, asyncio.CancelledError) as error:
            self._interrupted(work, error)
            return
        alone: _Alone = []
        await self._judge([(work, arrival)], [], alone)
        for _, order in alone:
            await self._trade(work, order)

    async def _judge(
        self,
        arrivals: list[tuple[Work, Arrival]],
        proposals: list[tuple[Work, Proposal]],
        alone: "_Alone | None",
    ) -> None:
        """Validate and size all, then have all admitted."""
        started = perf_counter()
        valid: list[tuple[Work, ValidSignal]] = []
        for work, arrival in arrivals:
            try:
                checked = self._pipeline.validate(arrival, work.custody)
            except Exception as error:
                self._endings.fail(work, error)
                continue
            if isinstance(checked, ValidSignal):
                valid.append((work, checked))
            else:
                self._go_on(work, checked, proposals, alone)
        if arrivals:
            share_s = (perf_counter() - started) / len(arrivals)
            self._observe("validation", share_s, [work for work, _ in arrivals])
        started = perf_counter()
        for work, signal in valid:
            try:
                proposed = self._pipeline.propose(signal, work.custody)
            except Exception as error:
                self._endings.fail(work, error)
                continue
            if isinstance(proposed, Proposal):
                proposals.append((work, proposed))  # its step ends with the admission
            else:
                self._observe("risk", perf_counter() - started, [work])
                self._go_on(work, proposed, proposals, alone)
        while proposals:
            proposals = await self._admit(proposals, started, alone)

    async def _admit(
        self,
        proposals: list[tuple[Work, Proposal]],
        started: float,
        alone: "_Alone | None",
    ) -> list[tuple[Work, Proposal]]:
        """Ask the ledger once; returns what it has to be asked about again."""
        asked_mono_ms = self._clock.monotonic_ms()
        answers = await call_for_all(self._ledger.admit, [one.item for _, one in proposals])
        sized = [work for work, proposal in proposals if proposal.plan.refusal is None]
        self._observe("risk", perf_counter() - started, sized)
        again: list[tuple[Work, Proposal]] = []
        for (work, proposal), answer in zip(proposals, answers, strict=True):
            if isinstance(answer, Exception):
                self._endings.fail(work, answer)
                continue
            try:
                decided = self._pipeline.decide(proposal, answer, asked_mono_ms, work.custody)
            except Exception as error:
                self._endings.fail(work, error)
                continue
            self._go_on(work, decided, again, alone)
        return again

    def _go_on(
        self,
        work: Work,
        step: Proposal | AdmittedOrder | EarlyEnd,
        proposals: list[tuple[Work, Proposal]],
        alone: "_Alone | None",
    ) -> None:
        """Let one entry take its next step: be admitted with the batch, be sent, or end."""
        match step:
            case AdmittedOrder():
                if alone is None:
                    self._tasks.spawn(self._trade(work, step))
                else:
                    alone.append((work, step))
            case Proposal():
                proposals.append((work, step))
            case (
                Failed()
                | Repeated()
                | Completed()
                | Malformed()
                | Lost()
                | Postponed()
                | Unresolved()
            ):
                self._endings.end(work, step)
            case _:
                assert_never(step)

    # -- sending -------------------------------------------------------------------------------

    async def _trade(self, work: Work, order: AdmittedOrder) -> None:
        """Send one order and follow it to its end."""
        bind_ids(entry_id=work.delivery.entry_id, signal_id=order.signal.signal_id)
        started = perf_counter()
        try:
            sent = await self._pipeline.send(order, work.custody)
            now = perf_counter()
            self._observe_execution(now - started)
            if work.trace is not None:
                work.trace.step("execution", now - started)
            end: Settlement | Resting | EarlyEnd
            if isinstance(sent, Submission):
                end = await self._pipeline.follow(sent, work.custody)
                followed_s = perf_counter() - now
                self._observe_reconciliation(followed_s)
                if work.trace is not None:
                    work.trace.step("reconciliation", followed_s)
            else:
                end = sent
        except (Exception, asyncio.CancelledError) as error:
            self._interrupted(work, error)
            return
        if self._endings.add(work, end):
            if len(self._grants) > 1:
                await asyncio.sleep(0)  # what else ends in this turn of the loop is written with it
            await self._endings.finish()

    def _interrupted(self, work: Work, error: Exception | asyncio.CancelledError) -> None:
        """Give back one delivery; a cancellation by the drain is left to the drain.

        Any other one is of a future that the delivery waited for, and that somebody cancelled.
        """
        if isinstance(error, Exception):
            self._endings.fail(work, error)
        elif self._tasks.are_ending:
            raise error
        else:
            self._endings.fail(work, RuntimeError(f"what it waited for was cancelled: {error!r}"))

    def _observe(self, step: str, seconds: float, works: Sequence[Work]) -> None:
        """Note that a step took each of ``works`` so long."""
        self._metrics.stage(step, seconds, len(works))
        if self._tracing is not None:
            for work in works:
                if work.trace is not None:
                    work.trace.step(step, seconds)
