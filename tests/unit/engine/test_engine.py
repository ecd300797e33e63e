"""The engine on a ledger and a pipeline of straw: what is taken, written, given back, and when."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any, cast
from unittest import mock

import pytest

from tests.unit.parts import (
    ENTRY_ID,
    SPOT,
    START_MS,
    D,
    ManualClock,
    ScriptedExchange,
    signal,
)
from worker.config.keys import RiskConfig
from worker.domain.order import OrderRequest, Role, Side
from worker.domain.signal import OrderType
from worker.domain.trading_state import TradingState
from worker.engine.engine import (
    FIRST_PAUSE_S,
    LONGEST_PAUSE_S,
    RETRY_HOLD_MS,
    TURNS_AHEAD,
    UNRESOLVED_RETRY_MS,
    ExecutionEngine,
)
from worker.ledger.calls import Ledger
from worker.ledger.errors import (
    GroupMissingError,
    LedgerError,
    LedgerRefusedError,
    LedgerUnavailableError,
)
from worker.ledger.items import CommitItem
from worker.ledger.lease import Lease
from worker.ledger.replies import Claim, CommitStatus, Committed, Delivery
from worker.observe.health import Health
from worker.observe.metrics import Metrics
from worker.pipeline.flow import AdmittedOrder, Lost, Postponed, Unresolved
from worker.pipeline.orders import OrderManager
from worker.pipeline.pipeline import ExecutionPipeline
from worker.pipeline.settlement import Ending, Scribe
from worker.pipeline.sizing import Sizing
from worker.runtime.clock import SystemClock
from worker.runtime.errors import InvariantError
from worker.runtime.logger import bind_ids, bound_ids

AWAY = LedgerUnavailableError("away", kind="connection")


def delivery(number: int = 0, *, token: int = 1, deliveries: int = 1) -> Delivery:
    return Delivery(
        entry_id=f"{START_MS + number}-0",
        fields={},
        token=token,
        deliveries=deliveries,
        record=None,
        lease_mono_ms=SystemClock().monotonic_ms() + 15_000,
        received_mono_ms=SystemClock().monotonic_ms(),
    )


class Straw:
    """A ledger that hands out what a test puts in, and notes what it is told."""

    lease_ms = 15_000

    def __init__(self) -> None:
        self.repeats = 0
        self.waiting: list[Delivery] = []
        self.claims: list[Any] = []
        self.rooms: list[int] = []
        self.answers: list[Any] = []
        self.committed: list[CommitItem] = []
        self.released: list[tuple[str, int, int, bool]] = []
        self.parked: list[tuple[Any, ...]] = []
        self.resynced: list[Delivery] = []
        self.claims_before_resync = 0
        self.beats: list[Any] = []
        self.groups = 0
        self.hung_up = 0
        self.waits_ms: list[int] = []
        self.left = 0
        self.bell = asyncio.Event()

    def give(self, *deliveries: Delivery) -> None:
        self.waiting += deliveries
        self.bell.set()

    async def ensure_group(self) -> None:
        self.groups += 1

    async def claim(self, room: int, *, after: bytes | None = None, wait_ms: int = 0) -> Claim:
        self.waits_ms.append(wait_ms)
        if after is not None:
            await self.bell.wait()
            self.bell.clear()
        self.rooms.append(room)
        if self.claims:
            raise self.claims.pop(0)
        taken, self.waiting = self.waiting[:room], self.waiting[room:]
        return Claim(deliveries=taken, tail=b"0-0", more=bool(self.waiting), vanished=0)

    def hang_up(self) -> None:
        self.hung_up += 1

    async def commit(self, item: CommitItem) -> Committed:
        self.committed.append(item)
        answer = self.answers.pop(0) if self.answers else CommitStatus.COMMITTED
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, Committed) else Committed(answer, None)

    async def heartbeat(
        self, held: Iterable[tuple[str, int]], status: bytes
    ) -> tuple[set[str], TradingState, float]:
        self.beats.append(list(held))
        return set(), TradingState.ACTIVE, SystemClock().monotonic_ms() + 15_000

    async def release(self, entries: Iterable[tuple[str, int, int, bool]]) -> int:
        self.released += list(entries)
        return len(self.released)

    async def park(self, *arguments: Any) -> bool:
        self.parked.append(arguments)
        return True

    async def resync(self, known: Iterable[str]) -> list[Delivery]:
        self.claims_before_resync = len(self.rooms)
        return self.resynced

    async def leave(self) -> int:
        self.left += 1
        return 0


Run = Callable[[Delivery, Lease], Awaitable[Any]]


class Line:
    """A pipeline that does what a test says; by default every delivery is an end to commit."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.under_way = 0
        self.most = 0
        self.act: Run = self.end

    async def run(self, one: Delivery, lease: Lease) -> Any:
        self.seen.append(one.entry_id)
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            return await self.act(one, lease)
        finally:
            self.under_way -= 1

    async def end(self, one: Delivery, lease: Lease) -> Ending:
        item = CommitItem(entry=one.entry_id, token=lease.token, signal="s-1")
        return Ending(item=item, outcome="filled", fields={})


class BriskClock(SystemClock):
    """Pauses are a twentieth of what they are."""

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds / 20)


class Bench:
    """An engine between the two."""

    def __init__(self, *, concurrency: int = 4, drain_s: float = 5.0) -> None:
        self.ledger = Straw()
        self.line = Line()
        self.clock = BriskClock()
        self.scribe = Scribe(
            account="main",
            worker="w-1",
            sizing=Sizing(RiskConfig(), account="main"),
            max_slippage_pct=D(1),
            clock=self.clock,
        )
        self.engine = ExecutionEngine(
            ledger=cast("Ledger", self.ledger),
            pipeline=cast("ExecutionPipeline", self.line),
            scribe=self.scribe,
            metrics=Metrics(version="0", mode="paper"),
            health=Health(self.clock),
            clock=self.clock,
            concurrency=concurrency,
            drain_s=drain_s,
            status=lambda engine: b"{}",
        )

    def stop(self) -> None:
        self.engine.stop()
        self.ledger.bell.set()

    async def settle(self, check: Callable[[], object]) -> None:
        """Let the loop turn until something is so."""
        async with asyncio.timeout(5):
            while not check():  # noqa: ASYNC110 (the straw has no event for everything)
                await asyncio.sleep(0)


@asynccontextmanager
async def running(bench: Bench, **options: Any) -> AsyncIterator[Bench]:
    """The engine at work; at the end it is stopped and must return."""
    task = asyncio.create_task(bench.engine.run(**options))
    try:
        yield bench
    finally:
        if not bench.engine.draining:
            bench.stop()
        await asyncio.wait_for(task, 10)


def never() -> Run:
    """A pipeline step that does not come back by itself."""

    async def stuck(_: Delivery, __: Lease) -> Any:
        await asyncio.Event().wait()

    return stuck


# --- taking and writing ---


async def test_what_is_claimed_is_run_and_committed() -> None:
    """Each once; nothing stays in hand."""
    async with running(Bench()) as bench:
        bench.ledger.give(*map(delivery, range(10)))
        await bench.settle(lambda: len(bench.ledger.committed) == 10)
    assert sorted(bench.line.seen) == sorted(one.entry for one in bench.ledger.committed)
    assert bench.engine.in_flight == 0
    assert bench.ledger.left == 1


async def test_what_was_taken_goes_on_before_the_next_claim_waits() -> None:
    """Its admission is sent first: a turn for itself, one for the batch, one for the sending."""
    bench = Bench()
    begun: list[int] = []

    async def act(one: Delivery, lease: Lease) -> Ending:
        for _ in range(TURNS_AHEAD):
            begun.append(len(bench.ledger.waits_ms))
            await asyncio.sleep(0)
        return await bench.line.end(one, lease)

    bench.line.act = act
    async with running(bench):
        await bench.settle(lambda: len(bench.ledger.waits_ms) > 1)
        bench.ledger.give(delivery())
        await bench.settle(lambda: bench.ledger.committed)
    assert begun == [2, 2, 2]


async def test_no_more_is_in_hand_than_allowed() -> None:
    """The room asked for shrinks with what is in hand; a full worker asks for nothing."""
    bench = Bench(concurrency=3)
    gate = asyncio.Event()

    async def wait(one: Delivery, lease: Lease) -> Any:
        await gate.wait()
        return await bench.line.end(one, lease)

    bench.line.act = wait
    async with running(bench):
        bench.ledger.give(*map(delivery, range(9)))
        await bench.settle(lambda: bench.line.under_way == 3)
        asked = len(bench.ledger.rooms)
        for _ in range(20):
            await asyncio.sleep(0)
        assert len(bench.ledger.rooms) == asked
        gate.set()
        await bench.settle(lambda: len(bench.ledger.committed) == 9)
    assert bench.line.most == 3
    assert max(bench.ledger.rooms) <= 3


async def test_an_entry_handed_on_is_run_next() -> None:
    """By the same task, without a claim."""
    bench = Bench()
    bench.ledger.answers = [Committed(CommitStatus.COMMITTED, delivery(7))]
    async with running(bench):
        bench.ledger.give(delivery(0))
        await bench.settle(lambda: len(bench.ledger.committed) == 2)
    assert bench.line.seen == [delivery(0).entry_id, delivery(7).entry_id]


async def test_the_next_entry_of_a_task_does_not_carry_the_ids_of_the_one_before() -> None:
    """Nothing that is logged of it before it is read can name another signal."""
    bench = Bench()
    bench.ledger.answers = [Committed(CommitStatus.COMMITTED, delivery(7))]
    bound: list[dict[str, Any]] = []

    async def act(one: Delivery, lease: Lease) -> Any:
        bound.append(bound_ids())
        bind_ids(entry_id=one.entry_id)
        return await bench.line.end(one, lease)

    bench.line.act = act
    async with running(bench):
        bench.ledger.give(delivery(0))
        await bench.settle(lambda: len(bench.ledger.committed) == 2)
    assert bound == [{}, {}]


async def test_a_grant_in_hand_is_not_started_twice() -> None:
    """Whether it comes by a resync or by a slower commit's reply; nor is one that is older."""
    bench = Bench()
    bench.line.act = never()
    bench.engine.take([delivery(1, token=3)])
    bench.engine.take([delivery(1, token=3), delivery(1, token=2)])
    await bench.settle(lambda: bench.line.seen)
    assert bench.line.seen == [delivery(1).entry_id]

    bench.line.act = bench.line.end
    bench.ledger.answers = [Committed(CommitStatus.COMMITTED, delivery(1, token=3))]
    bench.engine.take([delivery(2)])
    await bench.settle(lambda: bench.ledger.committed)
    await asyncio.sleep(0)
    assert bench.line.seen == [delivery(1).entry_id, delivery(2).entry_id]
    for task in bench.engine._tasks:
        task.cancel()
    await asyncio.gather(*bench.engine._tasks, return_exceptions=True)


async def test_an_entry_granted_anew_is_begun_anew() -> None:
    """What runs under the older grant is lost: it knows nothing of who had it in between."""
    bench = Bench()
    bench.line.act = never()
    bench.engine.take([delivery(1)])
    older = bench.engine._in_hand[delivery(1).entry_id]
    bench.engine.take([delivery(1, token=3)])
    await bench.settle(lambda: len(bench.line.seen) == 2)
    assert bench.line.seen == [delivery(1).entry_id] * 2
    assert (older.lost, older.token) == (True, delivery(1).token)
    newer = bench.engine._in_hand[delivery(1).entry_id]
    assert (newer.lost, newer.token) == (False, 3)
    for task in bench.engine._tasks:
        task.cancel()
    await asyncio.gather(*bench.engine._tasks, return_exceptions=True)


async def test_lost_replies_are_looked_for() -> None:
    """After a repeated call the ledger is asked what this worker holds without knowing.

    Not before a claim, which alone learns that a primary took over that may lack writes.
    """
    bench = Bench()
    bench.ledger.resynced = [delivery(5)]
    async with running(bench):
        await bench.settle(lambda: bench.ledger.rooms)
        claims = len(bench.ledger.rooms)
        bench.ledger.repeats = 1
        bench.ledger.bell.set()
        await bench.settle(lambda: bench.ledger.committed)
    assert bench.line.seen == [delivery(5).entry_id]
    assert bench.ledger.claims_before_resync > claims


async def test_a_conflict_is_written_again_as_a_dead_letter() -> None:
    """The commit said so; the second one carries the letter."""
    bench = Bench()
    bench.ledger.answers = [CommitStatus.CONFLICT]
    async with running(bench):
        bench.ledger.give(delivery())
        await bench.settle(lambda: len(bench.ledger.committed) == 2)
    first, second = bench.ledger.committed
    assert first.dead is None
    assert second.dead is not None
    assert "conflict" in second.dead
    assert second.duplicate


async def test_a_commit_is_repeated_for_as_long_as_redis_takes() -> None:
    """The outcome is known; only the certainty that another has the entry ends it."""
    bench = Bench()
    bench.ledger.answers = [AWAY, AWAY, CommitStatus.COMMITTED]
    async with running(bench):
        bench.ledger.give(delivery())
        await bench.settle(lambda: len(bench.ledger.committed) == 3)
        assert bench.ledger.released == []

        async def lose(one: Delivery, lease: Lease) -> Any:
            lease.lost = True
            return await bench.line.end(one, lease)

        bench.line.act = lose
        bench.ledger.answers = [AWAY]
        bench.ledger.give(delivery(1))
        await bench.settle(lambda: len(bench.ledger.committed) == 4)
        await bench.settle(lambda: bench.engine.in_flight == 0)
    assert len(bench.ledger.committed) == 4


# --- giving back ---


@pytest.mark.parametrize(
    ("ends", "died"),
    [
        (RuntimeError("a bug"), True),
        (AWAY, False),
        (Postponed(reason="not now"), False),
    ],
)
async def test_what_did_not_end_is_given_back_after_a_while(ends: Any, died: bool) -> None:
    """A bug counts as a death; Redis's trouble and a postponement do not."""
    bench = Bench()

    async def act(_: Delivery, __: Lease) -> Any:
        if isinstance(ends, Exception):
            raise ends
        return ends

    bench.line.act = act
    async with running(bench):
        bench.ledger.give(delivery())
        await bench.settle(lambda: bench.ledger.released)
    assert bench.ledger.released == [(delivery().entry_id, 1, RETRY_HOLD_MS, died)]
    assert bench.ledger.committed == []


async def test_what_is_lost_is_left_alone() -> None:
    """It is another worker's."""
    bench = Bench()

    async def act(_: Delivery, __: Lease) -> Any:
        return Lost()

    bench.line.act = act
    async with running(bench):
        bench.ledger.give(delivery())
        await bench.settle(lambda: bench.line.seen and not bench.engine.in_flight)
    assert bench.ledger.released == []
    assert bench.ledger.committed == []


@pytest.mark.parametrize("doubt_ms", [0, 2_000, 60_000])
async def test_an_entry_in_doubt_is_held_back_until_the_doubt_is_over(doubt_ms: int) -> None:
    """Nobody may take "not found" for proof while a request may still arrive."""
    bench = Bench()

    async def act(_: Delivery, lease: Lease) -> Any:
        lease.doubt_until_mono_ms = bench.clock.monotonic_ms() + doubt_ms
        raise RuntimeError("while a request was under way")

    bench.line.act = act
    async with running(bench):
        bench.ledger.give(delivery())
        await bench.settle(lambda: bench.ledger.released)
    ((_, _, hold_ms, _),) = bench.ledger.released
    assert max(RETRY_HOLD_MS, doubt_ms - 500) <= hold_ms <= max(RETRY_HOLD_MS, doubt_ms + 1)


async def test_an_entry_that_could_not_be_held_back_waits_for_its_doubt_here() -> None:
    """A resync may hand it out under the same lease while a request for it may still arrive.

    Its "not found" is proof as if the lease had ended with the doubt; then the doubt is forgotten.
    """
    bench = Bench()
    until = bench.clock.monotonic_ms() + 200
    runs: list[tuple[float, float]] = []

    async def away(entries: Any) -> int:
        raise AWAY

    async def act(one: Delivery, lease: Lease) -> Any:
        runs.append((one.received_mono_ms, lease.doubt_until_mono_ms))
        if len(runs) == 1:
            lease.doubt_until_mono_ms = until
            raise AWAY
        return await bench.line.end(one, lease)

    bench.ledger.release = away  # type: ignore[method-assign]
    bench.line.act = act
    bench.engine.take([delivery()])
    await bench.settle(lambda: runs and not bench.engine.in_flight)
    bench.engine.take([delivery(), delivery(1)])
    await bench.engine._renew()
    assert len(bench.ledger.beats[-1]) == 2
    await bench.settle(lambda: len(bench.ledger.committed) == 2)
    assert [item.entry for item in bench.ledger.committed] == [
        delivery(1).entry_id,
        delivery().entry_id,
    ]
    assert runs[-1] == (until, until)
    bench.engine._in_hand._doubts = {ENTRY_ID: bench.clock.monotonic_ms()}
    await bench.engine._renew()
    assert bench.engine._in_hand._doubts == {}


async def test_a_newer_grant_waits_for_the_doubt_of_the_older_one() -> None:
    """Which may still be in hand, in the middle of a request."""
    bench = Bench()
    bench.line.act = never()
    bench.engine.take([delivery()])
    await bench.settle(lambda: bench.line.seen)
    until = bench.clock.monotonic_ms() + 60_000
    bench.engine._in_hand[delivery().entry_id].doubt_until_mono_ms = until
    bench.engine.take([delivery(token=3)])
    assert bench.engine._in_hand[delivery().entry_id].doubt_until_mono_ms == until
    for _ in range(10):
        await asyncio.sleep(0)
    assert len(bench.line.seen) == 1
    tasks = list(bench.engine._tasks)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.parametrize("doubt_ms", [0, 60_000])
async def test_an_unresolved_order_is_parked_until_the_doubt_is_over(doubt_ms: int) -> None:
    """With the event that says so; the keeper looks again after that."""
    bench = Bench()
    one = signal()
    request = OrderRequest(
        client_order_id="c1",
        exchange="paper",
        symbol=one.symbol,
        role=Role.ENTRY,
        side=Side.BUY,
        order_type=OrderType.MARKET,
        quantity=D(1),
    )

    async def act(_: Delivery, lease: Lease) -> Any:
        lease.doubt_until_mono_ms = bench.clock.monotonic_ms() + doubt_ms
        order = AdmittedOrder(
            signal=one,
            digest="d",
            lease=lease,
            adapter=ScriptedExchange(ManualClock()),
            info=SPOT,
            request=request,
            reference=None,
            position=None,
            reserved=0,
            managed=OrderManager().begin(request, one.signal_id),
            not_before_ms=0,
            created_ms=0.0,
            expires_ms=0.0,
            admitted_at=0,
            admitted_mono_ms=0.0,
        )
        return Unresolved(order=order, reason="silence")

    bench.line.act = act
    async with running(bench):
        bench.ledger.give(delivery())
        await bench.settle(lambda: bench.ledger.parked)
    entry_id, token, signal_id, retry_ms, event = bench.ledger.parked[0]
    assert (entry_id, token, signal_id) == (delivery().entry_id, 1, "s-1")
    assert max(UNRESOLVED_RETRY_MS, doubt_ms - 500) <= retry_ms
    assert retry_ms <= max(UNRESOLVED_RETRY_MS, doubt_ms + 1)
    assert event[0] == "SystemError"
    assert bench.ledger.released == []


# --- stopping ---


async def test_stopping_waits_for_what_is_in_hand_and_begins_nothing_new() -> None:
    """Commits after the stop take nothing over."""
    bench = Bench()
    gate = asyncio.Event()

    async def wait(one: Delivery, lease: Lease) -> Any:
        await gate.wait()
        return await bench.line.end(one, lease)

    bench.line.act = wait
    async with running(bench):
        bench.ledger.give(delivery(0))
        await bench.settle(lambda: bench.line.under_way)
        bench.stop()
        bench.ledger.give(delivery(1))
        assert bench.engine.draining
        gate.set()
    assert bench.line.seen == [delivery(0).entry_id]
    assert [item.take_next for item in bench.ledger.committed] == [False]


async def test_what_a_waiting_claim_brings_after_the_stop_is_handed_back() -> None:
    """At once, and not as a delivery that died: another worker has it next."""
    bench = Bench()
    async with running(bench):
        await bench.settle(lambda: len(bench.ledger.waits_ms) > 1)
        bench.engine.stop()
        bench.ledger.give(delivery(7))
    assert bench.ledger.hung_up == 1
    assert bench.line.seen == []
    assert bench.ledger.released == [(delivery(7).entry_id, delivery(7).token, 0, False)]


async def test_what_a_claim_took_that_was_cut_short_by_the_stop_is_handed_back() -> None:
    """Its reply is lost: a resync tells what it was."""
    bench = Bench()
    async with running(bench):
        await bench.settle(lambda: len(bench.ledger.waits_ms) > 1)
        bench.ledger.claims = [AWAY]
        bench.ledger.repeats = 1
        bench.ledger.resynced = [delivery(7)]
        bench.stop()
    assert bench.line.seen == []
    assert bench.ledger.released == [(delivery(7).entry_id, delivery(7).token, 0, False)]


async def test_a_claim_waits_for_a_small_part_of_a_lease_only() -> None:
    """The lease counts from before the waiting, and must last for a request."""
    bench = Bench()
    async with running(bench):
        await bench.settle(lambda: bench.ledger.waits_ms)
    assert set(bench.ledger.waits_ms) == {500}
    with mock.patch.object(Straw, "lease_ms", 1_800):
        short = Bench()
        async with running(short):
            await short.settle(lambda: short.ledger.waits_ms)
    assert set(short.ledger.waits_ms) == {60}


@pytest.mark.parametrize("how", ["second stop", "time is up"])
async def test_what_does_not_finish_is_handed_back(how: str) -> None:
    """At once where nothing was sent, after its doubt where something was; no death is counted."""
    bench = Bench(drain_s=0.05 if how == "time is up" else 60.0)
    stuck = never()

    async def act(one: Delivery, lease: Lease) -> Any:
        if one.entry_id == delivery(1).entry_id:
            lease.doubt_until_mono_ms = bench.clock.monotonic_ms() + 9_000
        return await stuck(one, lease)

    bench.line.act = act
    async with running(bench):
        bench.ledger.give(delivery(0), delivery(1))
        await bench.settle(lambda: bench.line.under_way == 2)
        bench.stop()
        if how == "second stop":
            bench.stop()
    (clean, doubtful) = sorted(bench.ledger.released)
    assert clean == (delivery(0).entry_id, 1, 0, False)
    assert 8_000 < doubtful[2] <= 9_001
    assert doubtful[3] is False
    assert bench.ledger.left == 1


async def test_a_broken_invariant_stops_the_worker() -> None:
    """The others in hand are handed back; the error is the process's end."""
    bench = Bench()
    stuck = never()

    async def act(one: Delivery, lease: Lease) -> Any:
        if one.entry_id == delivery(1).entry_id:
            raise InvariantError("two and two make five")
        return await stuck(one, lease)

    bench.line.act = act
    task = asyncio.create_task(bench.engine.run())
    bench.ledger.give(delivery(0), delivery(1))
    await bench.settle(lambda: bench.engine.draining)
    bench.ledger.bell.set()
    with pytest.raises(InvariantError, match="two and two"):
        await asyncio.wait_for(task, 5)
    assert [entry for entry, *_ in bench.ledger.released] == [delivery(0).entry_id]
    assert bench.ledger.committed == []


async def test_a_side_task_that_dies_takes_the_worker_with_it() -> None:
    """A worker without its keeper or its prices must not look healthy."""

    async def die() -> None:
        raise RuntimeError("the feed is gone")

    bench = Bench()
    with pytest.raises(ExceptionGroup) as caught:
        await asyncio.wait_for(bench.engine.run([("feed", die)]), 5)
    assert caught.group_contains(RuntimeError, match="the feed is gone")


# --- trouble and leases ---


async def test_a_missing_group_is_created_again() -> None:
    """And the next claim brings what there is."""
    bench = Bench()
    bench.ledger.claims = [GroupMissingError("NOGROUP")]
    async with running(bench):
        bench.ledger.give(delivery())
        await bench.settle(lambda: bench.ledger.committed)
    assert bench.ledger.groups == 1


async def test_an_introduction_makes_the_group_and_takes_nothing() -> None:
    """While the exchanges start: so that a primary lost meanwhile is noticed."""
    bench = Bench()
    bench.ledger.give(delivery())
    await bench.engine.introduce()
    assert bench.ledger.groups == 1
    assert bench.ledger.rooms == [0]
    assert bench.engine.in_flight == 0


async def test_an_introduction_that_fails_stops_nobody() -> None:
    """Redis may come later; the claim loop says so and goes on trying."""
    bench = Bench()
    bench.ledger.claims = [LedgerUnavailableError("away", kind="connection")]
    await bench.engine.introduce()
    assert bench.ledger.rooms == [0]


async def test_a_claim_that_fails_is_tried_again() -> None:
    """With a pause that doubles up to the longest, for ever; a claim that succeeds forgets it."""
    bench = Bench()
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    bench.clock.sleep = sleep  # type: ignore[method-assign]
    bench.ledger.claims = [AWAY, LedgerRefusedError("no"), LedgerError("odd")] * 20
    bench.ledger.give(delivery())
    claiming = asyncio.create_task(bench.engine._claim_until_stopped())
    await bench.settle(lambda: bench.ledger.committed)
    grown = [min(FIRST_PAUSE_S * 2**n, LONGEST_PAUSE_S) for n in range(60)]
    assert pauses == grown

    bench.ledger.claims = [AWAY, AWAY]
    bench.ledger.give(delivery(1))
    await bench.settle(lambda: len(bench.ledger.committed) == 2)
    assert pauses == [*grown, FIRST_PAUSE_S, FIRST_PAUSE_S * 2]
    bench.stop()
    await asyncio.wait_for(claiming, 5)


async def test_a_heartbeat_extends_what_is_held_and_marks_what_is_lost() -> None:
    """By entry; an expiry never moves backwards."""
    bench = Bench()
    bench.line.act = never()
    kept, gone = delivery(0), delivery(1)
    bench.engine.take([kept, gone])

    async def heartbeat(held: Any, status: bytes) -> Any:
        return {gone.entry_id}, TradingState.HALTED, kept.lease_mono_ms + 5_000

    bench.ledger.heartbeat = heartbeat  # type: ignore[method-assign]
    await bench.engine._renew()
    leases = bench.engine._in_hand
    assert leases[kept.entry_id].expires_mono_ms == kept.lease_mono_ms + 5_000
    assert not leases[kept.entry_id].lost
    assert leases[gone.entry_id].lost
    assert leases[gone.entry_id].expires_mono_ms == gone.lease_mono_ms
    assert bench.engine.trading_state is TradingState.HALTED

    async def earlier(held: Any, status: bytes) -> Any:
        return set(), TradingState.HALTED, kept.lease_mono_ms

    bench.ledger.heartbeat = earlier  # type: ignore[method-assign]
    await bench.engine._renew()
    assert leases[kept.entry_id].expires_mono_ms == kept.lease_mono_ms + 5_000
    for task in bench.engine._tasks:
        task.cancel()
    await asyncio.gather(*bench.engine._tasks, return_exceptions=True)


async def test_a_heartbeat_that_fails_leaves_the_leases_to_run_out() -> None:
    """Nothing is sent under a lease that has."""
    bench = Bench()
    bench.line.act = never()
    bench.engine.take([delivery()])

    async def fail(held: Any, status: bytes) -> Any:
        raise AWAY

    bench.ledger.heartbeat = fail  # type: ignore[method-assign]
    lease = bench.engine._in_hand[delivery().entry_id]
    before = lease.expires_mono_ms
    await bench.engine._renew()
    assert (lease.lost, lease.expires_mono_ms) == (False, before)
    assert ENTRY_ID not in bench.engine._in_hand
    for task in bench.engine._tasks:
        task.cancel()
    await asyncio.gather(*bench.engine._tasks, return_exceptions=True)
