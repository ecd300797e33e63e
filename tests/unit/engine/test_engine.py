"""The engine on a ledger and a pipeline of straw: what is taken, written, given back, and when."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, cast
from unittest import mock

import msgspec
import pytest

from tests.unit.parts import (
    ENTRY_ID,
    SPOT,
    START_MS,
    D,
    signal,
)
from worker.config.keys import RiskConfig
from worker.domain.order import OrderRequest, Role, Side
from worker.domain.signal import OrderType
from worker.domain.trading_state import TradingState
from worker.engine.endings import RETRY_HOLD_MS, UNRESOLVED_RETRY_MS
from worker.engine.engine import (
    FIRST_PAUSE_S,
    LONGEST_PAUSE_S,
    ExecutionEngine,
)
from worker.engine.group_calls import MAX_BATCH
from worker.ledger.errors import (
    GroupMissingError,
    LedgerError,
    LedgerRefusedError,
    LedgerUnavailableError,
)
from worker.ledger.items import CommitItem
from worker.ledger.ports import Ledger
from worker.ledger.replies import Claim, CommitStatus, Committed, Delivery
from worker.observe.health import Health
from worker.observe.metrics import Metrics
from worker.pipeline.custody import Custody
from worker.pipeline.flow import (
    AdmittedOrder,
    Arrival,
    Lifetime,
    Lost,
    NeverSent,
    Plan,
    Postponed,
    Proposal,
    Unresolved,
)
from worker.pipeline.pipeline import ExecutionPipeline
from worker.pipeline.settlement import Ending, SettlementWriter
from worker.pipeline.sizing import Sizing
from worker.pipeline.worker_state import WorkerState
from worker.runtime.clock import SystemClock
from worker.runtime.errors import InvariantError
from worker.runtime.logger import bind_ids, bound_ids, structlog
from worker.turns.follow import FollowOrders

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
        self.lost_replies = 0
        self.waiting: list[Delivery] = []
        self.claims: list[Any] = []
        self.rooms: list[int] = []
        self.answers: list[Any] = []
        self.committed: list[CommitItem] = []
        #: How many items each commit call had.
        self.commits: list[int] = []
        self.commit_gate: asyncio.Event | None = None
        #: How many items each admission had.
        self.admitted: list[int] = []
        self.gate: asyncio.Event | None = None
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

    async def claim(
        self, room: int, *, turns: int = 0, after: bytes | None = None, wait_ms: int = 0
    ) -> Claim:
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

    async def admit(self, items: Sequence[Any]) -> list[Any]:
        self.admitted.append(len(items))
        if self.gate is not None:
            await self.gate.wait()
        return [ORDER] * len(items)

    async def commit(self, items: Sequence[CommitItem]) -> list[Committed]:
        self.commits.append(len(items))
        if self.commit_gate is not None:
            await self.commit_gate.wait()
        return [self._commit(item) for item in items]

    def _commit(self, item: CommitItem) -> Committed:
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


Run = Callable[[Delivery, Custody], Awaitable[Any]]

REQUEST = OrderRequest(
    client_order_id="c1",
    exchange="paper",
    symbol=SPOT.symbol,
    role=Role.ENTRY,
    side=Side.BUY,
    order_type=OrderType.MARKET,
    quantity=D(1),
)
ORDER = AdmittedOrder(
    signal=signal(),
    digest="d",
    lifetime=Lifetime(0.0, 0.0),
    info=SPOT,
    request=REQUEST,
    position=None,
    plan=Plan(request=REQUEST, reference=None, reserved=0, not_before_ms=0),
    admitted_at=0,
    sent_before=NeverSent(),
)


PROPOSAL = Proposal(valid=cast("Any", None), plan=ORDER.plan, item=cast("Any", None))
ARRIVAL = Arrival(
    signal=signal(),
    written=b"",
    digest="d",
    view=cast("Any", None),
    lifetime=Lifetime(0.0, 0.0),
    seen_ms=0,
)


class Line:
    """A pipeline whose sending does what a test says; by default it ends with an end to commit."""

    def __init__(self, writer: SettlementWriter) -> None:
        self.seen: list[str] = []
        self.under_way = 0
        self.most = 0
        self.act: Run = self.end
        self.writer = writer
        #: What a delivery is at first.
        self.first: Any = ORDER
        #: Entries whose market has to be asked for, and when it answers.
        self.lacking: set[str] = set()
        self.market = asyncio.Event()
        self._deliveries: dict[Custody, Delivery] = {}

    def begin(self, one: Delivery, custody: Custody) -> Any:
        self.seen.append(one.entry_id)
        self._deliveries[custody] = one
        if self.first is ARRIVAL:
            return msgspec.structs.replace(ARRIVAL, digest=one.entry_id)
        return self.first

    def needs_market(self, arrival: Arrival) -> bool:
        return arrival.digest in self.lacking

    async def ask_market(self, arrival: Arrival) -> Arrival:
        await self.market.wait()
        return arrival

    def validate(self, _: Arrival, __: Custody) -> Any:
        return PROPOSAL

    def decide(self, _: Any, answer: Any, __: float, ___: Custody) -> Any:
        return answer

    async def send(self, _: AdmittedOrder, custody: Custody) -> Any:
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            return await self.act(self._deliveries[custody], custody)
        finally:
            self.under_way -= 1

    def write(self, end: Any, _: Delivery, __: Custody) -> Any:
        return end

    def conflict(self, signal_id: str, one: Delivery, custody: Custody) -> Ending:
        return self.writer.conflict(signal_id, custody, one.deliveries)

    def unresolved(self, end: Unresolved) -> tuple[str, str, str]:
        return self.writer.unresolved(end)

    async def end(self, one: Delivery, custody: Custody) -> Ending:
        item = CommitItem(entry=one.entry_id, token=custody.token, signal="s-1")
        return Ending(item=item, outcome="filled", fields={})


class BriskClock(SystemClock):
    """Pauses are a twentieth of what they are."""

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds / 20)


class Bench:
    """An engine between the two."""

    def __init__(self, *, concurrency: int = 4, drain_s: float = 5.0) -> None:
        self.ledger = Straw()
        self.clock = BriskClock()
        self.state = WorkerState()
        self.line = Line(
            SettlementWriter(
                account="main",
                worker="w-1",
                sizing=Sizing(RiskConfig(), account="main"),
                max_slippage_pct=D(1),
                max_life_ms=86_400_000,
                clock=self.clock,
            )
        )
        self.engine = ExecutionEngine(
            ledger=cast("Ledger", self.ledger),
            pipeline=cast("ExecutionPipeline", self.line),
            follow=cast("FollowOrders", None),
            state=self.state,
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


def held(bench: Bench, one: Delivery) -> Custody:
    """The grant under which the engine has an entry now."""
    (custody,) = (one_ for one_ in bench.engine._grants.held() if one_.entry_id == one.entry_id)
    return custody


def never() -> Run:
    """A pipeline step that does not come back by itself."""

    async def stuck(_: Delivery, __: Custody) -> Any:
        await asyncio.Event().wait()

    return stuck


# --- taking and writing ---


async def test_what_is_claimed_is_run_and_committed() -> None:
    """Every claimed entry is run and committed once, and nothing stays in hand."""
    async with running(Bench()) as bench:
        bench.ledger.give(*map(delivery, range(10)))
        await bench.settle(lambda: len(bench.ledger.committed) == 10)
    assert sorted(bench.line.seen) == sorted(one.entry for one in bench.ledger.committed)
    assert bench.engine.in_flight == 0
    assert bench.ledger.left == 1


async def test_the_next_claim_waits_until_the_admission_is_answered() -> None:
    """A claim that waits on the server for new entries must not be sent before it."""
    bench = Bench()
    gate = asyncio.Event()
    bench.ledger.gate = gate
    bench.line.first = PROPOSAL
    async with running(bench):
        await bench.settle(lambda: len(bench.ledger.waits_ms) > 1)
        claims = len(bench.ledger.waits_ms)
        bench.ledger.give(delivery())
        await bench.settle(lambda: bench.ledger.admitted)
        for _ in range(20):
            await asyncio.sleep(0)
        assert len(bench.ledger.waits_ms) == claims
        gate.set()
        await bench.settle(lambda: len(bench.ledger.waits_ms) > claims)


async def test_a_stop_does_not_wait_for_an_admission() -> None:
    """The claim loop ends at once; the admission is part of what drains."""
    bench = Bench()
    bench.ledger.gate = asyncio.Event()
    bench.line.first = PROPOSAL
    async with running(bench):
        bench.ledger.give(delivery())
        await bench.settle(lambda: bench.ledger.admitted)
        bench.stop()
        bench.stop()  # hands back what is in hand
    assert bench.ledger.released == [(delivery().entry_id, 1, 0, False)]


async def test_a_batch_is_admitted_in_one_call() -> None:
    """Entries that were claimed together are admitted together."""
    bench = Bench(concurrency=40)
    bench.line.first = PROPOSAL
    async with running(bench):
        bench.ledger.give(*map(delivery, range(40)))
        await bench.settle(lambda: len(bench.ledger.committed) == 40)
    assert bench.ledger.admitted == [MAX_BATCH, 40 - MAX_BATCH]


async def test_what_ends_together_is_committed_in_one_call() -> None:
    """Endings during a commit are committed together by the next one."""
    bench = Bench(concurrency=40)
    gate = bench.ledger.commit_gate = asyncio.Event()
    async with running(bench):
        bench.ledger.give(*map(delivery, range(10)))
        await bench.settle(lambda: bench.ledger.commits == [10])
        bench.ledger.give(delivery(10))
        await bench.settle(lambda: len(bench.line.seen) == 11)
        bench.ledger.give(*map(delivery, range(11, 15)))
        await bench.settle(lambda: len(bench.engine._endings._waiting) == 5)
        assert bench.ledger.commits == [10]
        gate.set()
        await bench.settle(lambda: bench.engine.in_flight == 0)
    assert bench.ledger.commits == [10, 5]


async def test_a_bad_entry_does_not_stop_the_others_of_its_batch() -> None:
    """An entry that a bug makes unreadable is given back; a bad commit item is sent by itself."""
    bench = Bench(concurrency=10)
    begin = bench.line.begin

    def broken(one: Delivery, custody: Custody) -> Any:
        if one.entry_id == delivery(1).entry_id:
            raise RuntimeError("a bug")
        return begin(one, custody)

    bench.line.begin = broken  # type: ignore[method-assign]
    bench.ledger.answers = [LedgerError("odd")]  # of the whole batch; then each is sent alone
    async with running(bench):
        bench.ledger.give(*map(delivery, range(4)))
        await bench.settle(lambda: bench.engine.in_flight == 0 and bench.ledger.released)
    assert bench.ledger.released == [(delivery(1).entry_id, 1, RETRY_HOLD_MS, True)]
    assert bench.ledger.commits == [3, 1, 1, 1]


async def test_an_entry_that_waits_for_a_price_holds_nobody_up() -> None:
    """The others of its batch are admitted; it is admitted when the exchange has answered."""
    bench = Bench(concurrency=10)
    bench.line.lacking = {delivery(0).entry_id}
    bench.line.first = ARRIVAL
    async with running(bench):
        bench.ledger.give(*map(delivery, range(3)))
        await bench.settle(lambda: len(bench.ledger.committed) == 2)
        assert bench.ledger.admitted == [2]
        bench.line.market.set()
        await bench.settle(lambda: len(bench.ledger.committed) == 3)
    assert bench.ledger.admitted == [2, 1]


async def test_no_more_is_in_hand_than_allowed() -> None:
    """The room asked for shrinks with what is in hand; a full worker asks for nothing."""
    bench = Bench(concurrency=3)
    gate = asyncio.Event()

    async def wait(one: Delivery, custody: Custody) -> Any:
        await gate.wait()
        return await bench.line.end(one, custody)

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
    """The next entry of a group, handed on by a commit, runs without another claim."""
    bench = Bench()
    bench.ledger.answers = [Committed(CommitStatus.COMMITTED, delivery(7))]
    async with running(bench):
        bench.ledger.give(delivery(0))
        await bench.settle(lambda: len(bench.ledger.committed) == 2)
    assert bench.line.seen == [delivery(0).entry_id, delivery(7).entry_id]


async def test_an_entry_handed_on_does_not_carry_the_ids_of_the_one_before() -> None:
    """A log line about an entry never has the ids of the entry before it."""
    bench = Bench()
    bench.ledger.answers = [Committed(CommitStatus.COMMITTED, delivery(7))]
    bound: list[dict[str, Any]] = []

    begin = bench.line.begin

    def bind(one: Delivery, custody: Custody) -> Any:
        bound.append(bound_ids())
        bind_ids(entry_id=one.entry_id)
        return begin(one, custody)

    bench.line.begin = bind  # type: ignore[method-assign]
    async with running(bench):
        bench.ledger.give(delivery(0))
        await bench.settle(lambda: len(bench.ledger.committed) == 2)
    assert bound == [{}, {}]


async def test_what_is_logged_while_an_order_is_sent_names_its_signal() -> None:
    """Whatever the stages and the adapter log: each entry of a batch has its own ids there."""
    bench = Bench()
    seen: list[dict[str, Any]] = []

    async def act(one: Delivery, custody: Custody) -> Any:
        seen.append(bound_ids())
        return await bench.line.end(one, custody)

    bench.line.act = act
    async with running(bench):
        bench.ledger.give(delivery(0), delivery(1))
        await bench.settle(lambda: len(bench.ledger.committed) == 2)
    assert seen == [
        {"entry_id": delivery(number).entry_id, "signal_id": ORDER.signal.signal_id}
        for number in (0, 1)
    ]


async def test_a_grant_in_hand_is_not_started_twice() -> None:
    """A resync or a late commit reply may repeat a grant, or an older one; neither starts work."""
    bench = Bench()
    bench.line.act = never()
    bench.engine.take([delivery(1, token=3)])
    bench.engine.take([delivery(1, token=3), delivery(1, token=2)])
    await bench.settle(lambda: bench.line.under_way)
    assert bench.line.seen == [delivery(1).entry_id]

    bench.line.act = bench.line.end
    bench.ledger.answers = [Committed(CommitStatus.COMMITTED, delivery(1, token=3))]
    bench.engine.take([delivery(2)])
    await bench.settle(lambda: bench.ledger.committed)
    await asyncio.sleep(0)
    assert bench.line.seen == [delivery(1).entry_id, delivery(2).entry_id]
    await bench.engine._tasks.end()


async def test_an_entry_granted_anew_is_begun_anew() -> None:
    """A newer grant starts work, and the work under the older grant is lost."""
    bench = Bench()
    bench.line.act = never()
    bench.engine.take([delivery(1)])
    older = held(bench, delivery(1))
    bench.engine.take([delivery(1, token=3)])
    await bench.settle(lambda: len(bench.line.seen) == 2)
    assert bench.line.seen == [delivery(1).entry_id] * 2
    assert (older.is_lost, older.token) == (True, delivery(1).token)
    newer = held(bench, delivery(1))
    assert (newer.is_lost, newer.token) == (False, 3)
    await bench.engine._tasks.end()


async def test_lost_replies_are_looked_for() -> None:
    """After a repeated call the ledger is asked what this worker holds without knowing.

    Not before a claim, which alone learns that a primary took over that may lack writes.
    """
    bench = Bench()
    bench.ledger.resynced = [delivery(5)]
    async with running(bench):
        await bench.settle(lambda: bench.ledger.rooms)
        claims = len(bench.ledger.rooms)
        bench.ledger.lost_replies = 1
        bench.ledger.bell.set()
        await bench.settle(lambda: bench.ledger.committed)
    assert bench.line.seen == [delivery(5).entry_id]
    assert bench.ledger.claims_before_resync > claims


async def test_a_conflict_is_written_again_as_a_dead_letter() -> None:
    """A commit answered with `conflict` is followed by one that carries the dead letter."""
    bench = Bench()
    bench.ledger.answers = [CommitStatus.CONFLICT]
    async with running(bench):
        bench.ledger.give(delivery())
        await bench.settle(lambda: len(bench.ledger.committed) == 2)
    first, second = bench.ledger.committed
    assert first.dead is None
    assert second.dead is not None
    assert second.dead.reason == "conflict"
    assert second.duplicate


async def test_a_commit_is_repeated_for_as_long_as_redis_takes() -> None:
    """A commit is repeated until Redis takes it or the lease is lost to another worker."""
    bench = Bench()
    bench.ledger.answers = [AWAY, AWAY, CommitStatus.COMMITTED]
    async with running(bench):
        bench.ledger.give(delivery())
        await bench.settle(lambda: len(bench.ledger.committed) == 3)
        assert bench.ledger.released == []

        async def lose(one: Delivery, custody: Custody) -> Any:
            custody.lose()
            return await bench.line.end(one, custody)

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

    async def act(_: Delivery, __: Custody) -> Any:
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
    """An entry that another worker has taken is neither committed nor given back."""
    bench = Bench()

    async def act(_: Delivery, __: Custody) -> Any:
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

    async def act(_: Delivery, custody: Custody) -> Any:
        custody.doubt(bench.clock.monotonic_ms() + doubt_ms)
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
    runs: list[tuple[float, float | None]] = []

    async def away(entries: Any) -> int:
        raise AWAY

    async def act(one: Delivery, custody: Custody) -> Any:
        runs.append((one.received_mono_ms, custody.doubt_until_mono_ms))
        if len(runs) == 1:
            custody.doubt(until)
            raise AWAY
        return await bench.line.end(one, custody)

    bench.ledger.release = away  # type: ignore[method-assign]
    bench.line.act = act
    bench.engine.take([delivery()])
    await bench.settle(lambda: runs and not bench.engine.in_flight)
    bench.engine.take([delivery(), delivery(1)])
    await bench.engine._leases.renew()
    assert len(bench.ledger.beats[-1]) == 2
    await bench.settle(lambda: len(bench.ledger.committed) == 2)
    assert [item.entry for item in bench.ledger.committed] == [
        delivery(1).entry_id,
        delivery().entry_id,
    ]
    assert runs[-1] == (until, until)
    bench.engine._grants._doubts = {ENTRY_ID: bench.clock.monotonic_ms()}
    await bench.engine._leases.renew()
    assert bench.engine._grants._doubts == {}


async def test_a_newer_grant_waits_for_the_doubt_of_the_older_one() -> None:
    """A new grant of an entry begins once no request under the older one can still arrive."""
    bench = Bench()
    bench.line.act = never()
    bench.engine.take([delivery()])
    await bench.settle(lambda: bench.line.seen)
    until = bench.clock.monotonic_ms() + 60_000
    held(bench, delivery()).doubt_until_mono_ms = until
    bench.engine.take([delivery(token=3)])
    assert held(bench, delivery()).doubt_until_mono_ms == until
    for _ in range(10):
        await asyncio.sleep(0)
    assert len(bench.line.seen) == 1
    await bench.engine._tasks.end()


@pytest.mark.parametrize("doubt_ms", [0, 60_000])
async def test_an_unresolved_order_is_parked_until_the_doubt_is_over(doubt_ms: int) -> None:
    """An order is parked with its event, to be looked up no earlier than its doubt is over."""
    bench = Bench()

    async def act(_: Delivery, custody: Custody) -> Any:
        custody.doubt(bench.clock.monotonic_ms() + doubt_ms)
        return Unresolved(order=ORDER, reason="silence")

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
    """A stopping worker finishes its entries, and its commits take no further ones over."""
    bench = Bench()
    gate = asyncio.Event()

    async def wait(one: Delivery, custody: Custody) -> Any:
        await gate.wait()
        return await bench.line.end(one, custody)

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


async def test_a_lone_order_at_its_exchange_holds_up_no_claim() -> None:
    """It is sent by the task that had it admitted, and the next claim waits for the admission only.

    What ends beside it is committed together with it.
    """
    bench = Bench()
    gate = asyncio.Event()

    async def wait(one: Delivery, custody: Custody) -> Any:
        await gate.wait()
        return await bench.line.end(one, custody)

    bench.line.act = wait
    async with running(bench):
        bench.ledger.give(delivery(0))
        await bench.settle(lambda: bench.line.under_way == 1)
        bench.ledger.give(delivery(1))
        await bench.settle(lambda: bench.line.under_way == 2)
        assert len(bench.engine._tasks) == 2
        gate.set()
        await bench.settle(lambda: bench.ledger.commits)
    assert bench.ledger.commits == [2]
    assert [item.entry for item in bench.ledger.committed] == bench.line.seen


async def test_what_a_waiting_claim_brings_after_the_stop_is_handed_back() -> None:
    """Entries that arrive after the stop are given back at once, without counting as died."""
    bench = Bench()
    async with running(bench):
        await bench.settle(lambda: len(bench.ledger.waits_ms) > 1)
        bench.engine.stop()
        bench.ledger.give(delivery(7))
    assert bench.ledger.hung_up == 1
    assert bench.line.seen == []
    assert bench.ledger.released == [(delivery(7).entry_id, delivery(7).token, 0, False)]


async def test_what_a_claim_took_that_was_cut_short_by_the_stop_is_handed_back() -> None:
    """A resync finds the entries of a claim whose reply the stop cut off, and gives them back."""
    bench = Bench()
    async with running(bench):
        await bench.settle(lambda: len(bench.ledger.waits_ms) > 1)
        bench.ledger.claims = [AWAY]
        bench.ledger.lost_replies = 1
        bench.ledger.resynced = [delivery(7)]
        bench.stop()
    assert bench.line.seen == []
    assert bench.ledger.released == [(delivery(7).entry_id, delivery(7).token, 0, False)]


async def test_a_stop_does_not_give_back_what_a_commit_has_just_handed_on() -> None:
    """The resync after a stop may list a grant that is worked on: another worker must not get it.

    Its order could be sent here after it was given back, and once more by whoever has it then.
    """
    bench = Bench()
    asked, answered = asyncio.Event(), asyncio.Event()
    bench.ledger.answers = [Committed(CommitStatus.COMMITTED, delivery(7))]
    first = bench.ledger.commit_gate = asyncio.Event()
    second = asyncio.Event()

    async def resync(known: Iterable[str]) -> list[Delivery]:
        asked.set()
        await answered.wait()
        asyncio.get_running_loop().call_soon(second.set)  # it ends once this reply was looked at
        return [delivery(7)]

    bench.ledger.resync = resync  # type: ignore[method-assign]
    async with running(bench):
        bench.ledger.give(delivery(0))
        await bench.settle(lambda: bench.ledger.commits)
        bench.ledger.lost_replies = 1  # the waiting claim was cut short
        bench.stop()
        await asyncio.wait_for(asked.wait(), 5)
        bench.ledger.commit_gate = second
        first.set()
        await bench.settle(lambda: len(bench.ledger.commits) == 2)
        answered.set()
    assert bench.ledger.released == []
    assert [item.entry for item in bench.ledger.committed] == bench.line.seen


async def test_a_failed_delivery_counts_as_died_though_the_drain_cuts_its_release_off() -> None:
    """It is left to its lease; the drain would give it back as one that did not die."""
    bench = Bench()
    releases: list[Any] = []

    async def act(_: Delivery, __: Custody) -> Any:
        raise RuntimeError("a bug")

    async def release(entries: Iterable[tuple[str, int, int, bool]]) -> int:
        releases.extend(entries)
        await asyncio.Event().wait()
        raise AssertionError

    bench.line.act = act
    bench.ledger.release = release  # type: ignore[method-assign]
    async with running(bench):
        bench.ledger.give(delivery())
        await bench.settle(lambda: releases)
        bench.stop()
        bench.stop()
    assert releases == [(delivery().entry_id, 1, RETRY_HOLD_MS, True)]


async def test_a_cancellation_from_elsewhere_fails_one_delivery() -> None:
    """Something it waited for was cancelled: the entry goes back, and the others go on."""
    bench = Bench()

    async def act(one: Delivery, custody: Custody) -> Any:
        if one.entry_id == delivery(0).entry_id:
            future = asyncio.get_running_loop().create_future()
            future.cancel()
            await future
        return await bench.line.end(one, custody)

    bench.line.act = act
    async with running(bench):
        bench.ledger.give(delivery(0), delivery(1))
        await bench.settle(lambda: bench.ledger.released and bench.engine.in_flight == 0)
    assert bench.ledger.released == [(delivery(0).entry_id, 1, RETRY_HOLD_MS, True)]
    assert [item.entry for item in bench.ledger.committed] == [delivery(1).entry_id]


async def test_nothing_runs_after_the_drain() -> None:
    """A task that drops a cancellation, and what it starts then, is cancelled too."""
    bench = Bench()

    async def stubborn(one: Delivery, custody: Custody) -> Any:
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        bench.engine._tasks.spawn(asyncio.sleep(3_600))
        return await bench.line.end(one, custody)

    bench.line.act = stubborn
    async with running(bench):
        bench.ledger.give(delivery())
        await bench.settle(lambda: bench.line.under_way)
        bench.stop()
        bench.stop()
    assert len(bench.engine._tasks) == 0
    assert bench.engine.in_flight == 0 or bench.ledger.released


@pytest.mark.parametrize("ends", ["postponed", "lost", "failed"])
async def test_a_log_line_about_a_delivery_names_its_own_signal(ends: str) -> None:
    """Also where several entries go through in one batch, and where one cannot be read."""
    bench = Bench()
    begin = bench.line.begin

    def read(one: Delivery, custody: Custody) -> Any:
        if one.entry_id == delivery(1).entry_id:
            raise RuntimeError("cannot be read")
        custody.signal_id = f"signal-of-{one.entry_id}"
        return begin(one, custody)

    async def act(_: Delivery, __: Custody) -> Any:
        if ends == "failed":
            raise RuntimeError("a bug")
        return Postponed(reason="not now") if ends == "postponed" else Lost()

    bench.line.begin = read  # type: ignore[method-assign]
    bench.line.act = act
    with structlog.testing.capture_logs(processors=[_with_bound_ids]) as lines:
        async with running(bench):
            bench.ledger.give(delivery(0), delivery(1))
            await bench.settle(lambda: bench.ledger.released and bench.engine.in_flight == 0)
    about = [line for line in lines if "entry_id" in line]
    assert {line["entry_id"] for line in about} == {delivery(0).entry_id, delivery(1).entry_id}
    for line in about:
        known = line["entry_id"] == delivery(0).entry_id
        assert line.get("signal_id") == (f"signal-of-{line['entry_id']}" if known else None)


def _with_bound_ids(_: Any, __: str, event: Any) -> Any:
    return {**bound_ids(), **event}


async def test_the_trace_of_a_delivery_that_is_handed_back_ends() -> None:
    """As one that did not end, when the drain gives it back."""
    bench = Bench()
    tracing = Traces()
    bench.engine._batches._tracing = tracing
    bench.line.act = never()
    async with running(bench):
        bench.ledger.give(delivery())
        await bench.settle(lambda: bench.line.under_way)
        bench.stop()
        bench.stop()
    assert [trace.closed for trace in tracing.begun] == [1]


class Traces:
    """Tracing that counts how often each trace is closed."""

    def __init__(self) -> None:
        self.begun: list[CountedTrace] = []

    def begin(self, *_: Any) -> "CountedTrace":
        self.begun.append(CountedTrace())
        return self.begun[-1]

    def close(self) -> None: ...


class CountedTrace:
    """A trace of nothing."""

    closed = 0

    def step(self, name: str, seconds: float) -> None: ...

    def traceparent(self) -> str:
        return ""

    def committed(self, *_: Any) -> None: ...

    def close(self, error: BaseException | None = None) -> None:
        self.closed += 1


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

    async def act(one: Delivery, custody: Custody) -> Any:
        if one.entry_id == delivery(1).entry_id:
            custody.doubt(bench.clock.monotonic_ms() + 9_000)
        return await stuck(one, custody)

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
    """A broken invariant ends the process with its error; other entries are given back first."""
    bench = Bench()
    stuck = never()

    async def act(one: Delivery, custody: Custody) -> Any:
        if one.entry_id == delivery(1).entry_id:
            raise InvariantError("two and two make five")
        return await stuck(one, custody)

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
    """A claim that finds no consumer group creates it, and the next claim takes entries."""
    bench = Bench()
    bench.ledger.claims = [GroupMissingError("NOGROUP")]
    async with running(bench):
        bench.ledger.give(delivery())
        await bench.settle(lambda: bench.ledger.committed)
    assert bench.ledger.groups == 1


async def test_an_introduction_makes_the_group_and_takes_nothing() -> None:
    """The first contact creates the group and learns the primary, without taking entries."""
    bench = Bench()
    bench.ledger.give(delivery())
    await bench.engine.introduce()
    assert bench.ledger.groups == 1
    assert bench.ledger.rooms == [0]
    assert bench.engine.in_flight == 0


async def test_an_introduction_that_fails_stops_nobody() -> None:
    """A first contact that Redis does not answer leaves the retry to the claim loop."""
    bench = Bench()
    bench.ledger.claims = [LedgerUnavailableError("away", kind="connection")]
    await bench.engine.introduce()
    assert bench.ledger.rooms == [0]


async def test_a_claim_that_fails_is_tried_again() -> None:
    """The pause between failed claims doubles up to the longest; a success resets it."""
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
    """A heartbeat renews or loses each entry by itself; an expiry never moves backwards."""
    bench = Bench()
    bench.line.act = never()
    kept, gone = delivery(0), delivery(1)
    bench.engine.take([kept, gone])

    async def heartbeat(held: Any, status: bytes) -> Any:
        return {gone.entry_id}, TradingState.HALTED, kept.lease_mono_ms + 5_000

    bench.ledger.heartbeat = heartbeat  # type: ignore[method-assign]
    await bench.engine._leases.renew()
    assert held(bench, kept).expires_mono_ms == kept.lease_mono_ms + 5_000
    assert not held(bench, kept).is_lost
    assert held(bench, gone).is_lost
    assert held(bench, gone).expires_mono_ms == gone.lease_mono_ms
    assert bench.state.trading_state is TradingState.HALTED

    async def earlier(held: Any, status: bytes) -> Any:
        return set(), TradingState.HALTED, kept.lease_mono_ms

    bench.ledger.heartbeat = earlier  # type: ignore[method-assign]
    await bench.engine._leases.renew()
    assert held(bench, kept).expires_mono_ms == kept.lease_mono_ms + 5_000
    await bench.engine._tasks.end()


async def test_a_heartbeat_that_fails_leaves_the_leases_to_run_out() -> None:
    """After failed heartbeats the leases run out, and no order is sent under them."""
    bench = Bench()
    bench.line.act = never()
    bench.engine.take([delivery()])

    async def fail(held: Any, status: bytes) -> Any:
        raise AWAY

    bench.ledger.heartbeat = fail  # type: ignore[method-assign]
    custody = held(bench, delivery())
    before = custody.expires_mono_ms
    await bench.engine._leases.renew()
    assert (custody.is_lost, custody.expires_mono_ms) == (False, before)
    assert ENTRY_ID not in list(bench.engine._grants)
    await bench.engine._tasks.end()
