"""The keeper: who is ready when, what a slow or silent exchange holds up, and how it resigns."""

import asyncio
import heapq
import json
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping
from decimal import Decimal
from functools import partial
from typing import Any, cast

import msgspec
import pytest

from tests.unit.parts import (
    PERPETUAL,
    START_MS,
    SYMBOL,
    ManualClock,
    ScriptedExchange,
    position,
    trouble,
)
from worker.domain.market import ExchangePosition
from worker.domain.position import Position
from worker.exchanges.errors import Outcome, RateLimitError
from worker.exchanges.ports import ExchangeAdapter
from worker.keeper.comparison import RETRY_MS, ROUND_EVERY_MS, Comparison
from worker.keeper.duties.adopt import AdoptUnresolved
from worker.keeper.duties.compare import CompareBooks
from worker.keeper.duties.publish import PublishAccount
from worker.keeper.duties.sweep import Sweep
from worker.keeper.office import TERM_MS, Keeper
from worker.keeper.readiness import Readiness
from worker.ledger.errors import LedgerRefusedError, LedgerUnavailableError
from worker.ledger.ports import Ledger
from worker.ledger.replies import Account, Book, Delivery, Election, Swept
from worker.observe.health import Health
from worker.observe.metrics import Metrics

D = Decimal
AWAY = LedgerUnavailableError("Redis is away", kind="connection")
NOBODY = Account(
    exposure={}, realized={}, open_positions=0, unresolved=0, dead_letters=0, lag=0, pending=0,
    oldest_pending_ms=0, leases=0,
)  # fmt: skip
HELD = position(symbol=PERPETUAL.symbol)
THERE = ExchangePosition(
    symbol=HELD.symbol,
    direction=HELD.direction,
    quantity=HELD.quantity,
    entry_price=HELD.entry_price,
)


class Time:
    """Moves only when a test says so, stopping at every sleeper on its way."""

    def __init__(self) -> None:
        self.ms = 0.0
        self._count = 0
        self._sleepers: list[tuple[float, int, asyncio.Event]] = []

    def now_ms(self) -> int:
        return START_MS + int(self.ms)

    def monotonic_ms(self) -> float:
        return self.ms

    async def sleep(self, seconds: float) -> None:
        woken = asyncio.Event()
        self._count += 1
        heapq.heappush(self._sleepers, (self.ms + seconds * 1000, self._count, woken))
        await woken.wait()

    async def settle(self) -> None:
        """Let everybody do what can be done without waiting."""
        for _ in range(30):
            await asyncio.sleep(0)

    async def advance(self, ms: float) -> None:
        """Let time pass."""
        until = self.ms + ms
        await self.settle()
        while self._sleepers and self._sleepers[0][0] <= until:
            at_ms, _, woken = heapq.heappop(self._sleepers)
            self.ms = max(self.ms, at_ms)
            woken.set()
            await self.settle()
        self.ms = until


class Redis:
    """The election as ``elect.lua`` decides it, and the rest that all workers share."""

    def __init__(self, clock: Time) -> None:
        self.clock = clock
        self.keeper, self.note, self.ends_ms = "", "", 0.0
        self.book: dict[str, Position] = {}
        self.busy: set[str] = set()
        self.announced: list[dict[str, Any]] = []
        self.away: Exception | None = None
        #: Calls that fail although Redis is there.
        self.failing: set[str] = set()
        #: How many announcements are taken without a reply.
        self.deaf = 0

    def elect(self, worker: str, term_ms: int, say: str) -> Election:
        if self.clock.ms >= self.ends_ms:
            self.keeper, self.note = "", ""
        if self.keeper not in {"", worker}:
            return Election(elected=False, readiness_note=self.note)
        self.keeper, self.note = (worker, say) if term_ms else ("", "")
        self.ends_ms = self.clock.ms + term_ms
        return Election(elected=bool(term_ms), readiness_note=say)


class FakeLedger:
    """One worker's ledger; ``calls`` lists the calls it made, in order."""

    def __init__(self, redis: Redis, worker: str) -> None:
        self.redis = redis
        self.worker = worker
        self.calls: list[str] = []
        self.on_elect: Callable[[], None] = lambda: None

    def _call(self, name: str) -> None:
        self.calls.append(name)
        if self.redis.away is not None:
            raise self.redis.away
        if name in self.redis.failing:
            raise AWAY

    async def elect(self, term_ms: int, say: str = "") -> Election:
        self._call("elect")
        self.on_elect()
        return self.redis.elect(self.worker, term_ms, say)

    async def resign(self) -> None:
        self._call("resign")
        self.redis.elect(self.worker, 0, "")

    async def adopt(self, count: int) -> list[Delivery]:
        self._call("adopt")
        return []

    async def account(self) -> Account:
        self._call("account")
        return NOBODY

    async def sweep(self, retention_ms: int, start: bytes) -> Swept:
        self._call("sweep")
        return Swept(0, 0, 0, 0, [])

    async def book(self) -> Book:
        self._call("book")
        return Book(positions=dict(self.redis.book), busy=frozenset(self.redis.busy))

    async def announce(self, event: tuple[str, str, str]) -> None:
        self._call("announce")
        self.redis.announced.append(json.loads(event[2]))
        if self.redis.deaf:
            self.redis.deaf -= 1
            raise AWAY


class Engine:
    """Takes nothing; stops when told to."""

    def __init__(self) -> None:
        self._stopping = asyncio.Event()
        self.taken = 0

    @property
    def draining(self) -> bool:
        return self._stopping.is_set()

    def stop(self) -> None:
        self._stopping.set()

    def take(self, deliveries: Iterable[Delivery]) -> None:
        self.taken += 1

    async def stopping(self) -> None:
        await self._stopping.wait()


class Venue(ScriptedExchange):
    """Says which positions are there once it may, or what keeps it from that."""

    def __init__(self, name: str, clock: Time) -> None:
        super().__init__(ManualClock())
        self.name = name
        self.clock_of_test = clock
        self.open = asyncio.Event()
        self.open.set()
        self.fails: Exception | None = None
        self.there: list[ExchangePosition] = []
        self.asked_ms: list[float] = []

    async def get_positions(self) -> list[ExchangePosition]:
        self.asked_ms.append(self.clock_of_test.ms)
        await self.open.wait()
        if self.fails is not None:
            raise self.fails
        return self.there


class Worker:
    """A keeper with everything around it."""

    def __init__(
        self, redis: Redis, name: str, adapters: Mapping[str, Venue], exchanges: Collection[str]
    ) -> None:
        self.ledger = FakeLedger(redis, name)
        self.engine = Engine()
        self.health = Health(redis.clock, ["reconciliation"])
        self.metrics = Metrics(version="0", mode="paper")
        ledger = cast("Ledger", self.ledger)
        compare = CompareBooks(
            partial(
                Comparison,
                ledger=ledger,
                exchanges=exchanges,
                adapters=cast("Mapping[str, ExchangeAdapter]", adapters),
                metrics=self.metrics,
                clock=redis.clock,
                account="main",
            )
        )
        self.keeper = Keeper(
            ledger=ledger,
            duties=[
                compare,
                AdoptUnresolved(ledger, self.engine),
                PublishAccount(ledger, self.metrics),
                Sweep(ledger, 1_000, self.metrics),
            ],
            readiness=Readiness(compare, self.health),
            drain=self.engine,
            metrics=self.metrics,
            clock=redis.clock,
        )

    def is_keeper(self) -> bool:
        return self.keeper.is_keeper

    def check(self) -> tuple[bool, str]:
        said = self.health.report()["checks"]["reconciliation"]
        return said["ok"], said["detail"]

    @property
    def drift(self) -> float | None:
        self.metrics.account(**msgspec.structs.asdict(NOBODY))
        return self.metrics.registry.get_sample_value("execution_worker_drift")


class Shared:
    """An account with workers on it."""

    def __init__(self) -> None:
        self.clock = Time()
        self.redis = Redis(self.clock)
        self.venues = {name: Venue(name, self.clock) for name in ("one", "two")}
        #: Those of them that every worker has started.
        self.started = dict(self.venues)
        self._running: dict[str, asyncio.Task[None]] = {}

    def join(self, name: str) -> Worker:
        return Worker(self.redis, name, self.started, self.venues)

    async def start(self, name: str) -> Worker:
        """Start a worker and let it do what it can at once."""
        worker = self.join(name)
        self._running[name] = asyncio.create_task(worker.keeper.run())
        await self.clock.settle()
        return worker

    async def kill(self, name: str) -> None:
        """It does nothing any more."""
        task = self._running.pop(name)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    def has_ended(self, name: str) -> bool:
        return self._running[name].done()


@pytest.fixture
async def account() -> AsyncIterator[Shared]:
    made = Shared()
    yield made
    for name in list(made._running):
        await made.kill(name)


# --- readiness ---


async def test_the_keeper_is_ready_once_it_has_compared_and_not_before(account: Shared) -> None:
    """The keeper is ready, and says so to the others, once the last exchange has answered."""
    account.venues["two"].open.clear()
    worker = await account.start("w1")
    assert worker.is_keeper()
    assert worker.check()[0] is False
    account.venues["two"].open.set()
    await account.clock.settle()
    assert account.clock.ms == 0
    assert worker.check() == (True, "the books were compared")
    assert account.redis.note == "done"


async def test_an_exchange_that_cannot_be_asked_is_named_and_asked_again_soon(
    account: Shared,
) -> None:
    """Readiness names the silent exchange and why; only that one is asked again this round."""
    one, two = account.venues.values()
    two.fails = trouble(Outcome.NOT_SENT)
    worker = await account.start("w1")
    assert worker.check() == (False, "two: it was not_sent")
    await account.clock.advance(RETRY_MS - 1)
    assert (len(one.asked_ms), len(two.asked_ms)) == (1, 1)
    await account.clock.advance(1_000)
    assert (len(one.asked_ms), len(two.asked_ms)) == (1, 2)
    assert worker.check()[0] is False
    two.fails = None
    await account.clock.advance(RETRY_MS + 1_000)
    assert worker.check()[0] is True
    assert account.clock.ms < ROUND_EVERY_MS / 4
    await account.clock.advance(ROUND_EVERY_MS)
    assert (len(one.asked_ms), len(two.asked_ms)) == (2, 4)


async def test_an_exchange_that_starts_later_is_compared_as_soon_as_it_has(
    account: Shared,
) -> None:
    """Until the last exchange has started nobody is ready, and readiness names it."""
    late = account.started.pop("two")
    worker = await account.start("w1")
    await account.clock.advance(2 * ROUND_EVERY_MS)
    assert worker.check() == (False, "two: has not started")
    assert account.redis.announced == []
    account.started["two"] = late
    await account.clock.advance(1_000)
    assert worker.check()[0] is True
    assert len(late.asked_ms) == 1


async def test_an_exchange_is_not_asked_before_it_allows(account: Shared) -> None:
    """A throttled exchange is asked again only after the pause it asked for."""
    two = account.venues["two"]
    two.fails = RateLimitError("banned", outcome=Outcome.THROTTLED, retry_after_s=20)
    worker = await account.start("w1")
    two.fails = None
    await account.clock.advance(19_000)
    assert len(two.asked_ms) == 1
    assert worker.check() == (False, "two: banned")
    await account.clock.advance(2_000)
    assert worker.check()[0] is True


async def test_others_are_ready_once_the_keeper_says_so_and_ask_nothing_more(
    account: Shared,
) -> None:
    """They learn it, and what is still missing, from the election they stand for anyway."""
    one, two = account.venues.values()
    two.fails = trouble(Outcome.NOT_SENT)
    await account.start("w1")
    other = await account.start("w2")
    asked = len(one.asked_ms) + len(two.asked_ms)
    assert other.check() == (False, "the keeper says: two: it was not_sent")
    two.fails = None
    await account.clock.advance(RETRY_MS + 2_000)
    assert other.check()[0] is True
    assert len(one.asked_ms) + len(two.asked_ms) == asked + 1
    assert set(other.ledger.calls) == {"elect"}
    assert len(other.ledger.calls) <= account.clock.ms / 1_000 + 1
    late = await account.start("w3")
    assert late.check()[0] is True
    assert late.ledger.calls == ["elect"]


async def test_a_keeper_that_dies_before_it_has_compared_is_succeeded(account: Shared) -> None:
    """The next one compares; nothing that the dead one said counts."""
    account.venues["one"].open.clear()
    await account.start("w1")
    other, third = await account.start("w2"), await account.start("w3")
    await account.kill("w1")
    account.venues["one"].open.set()
    await account.clock.advance(TERM_MS - 1_000)
    assert other.check() == third.check() == (False, "the keeper has not compared the books yet")
    await account.clock.advance(3_000)
    assert [other.is_keeper(), third.is_keeper()].count(True) == 1
    assert other.check()[0] is third.check()[0] is True


async def test_ready_is_for_good(account: Shared) -> None:
    """A worker that was ready stays so when a later keeper cannot compare; a new worker waits."""
    await account.start("w1")
    other = await account.start("w2")
    assert other.check()[0] is True
    account.venues["two"].fails = trouble(Outcome.NOT_SENT)
    await account.kill("w1")
    await account.clock.advance(TERM_MS + 2_000)
    assert other.is_keeper()
    assert other.check() == (True, "the books were compared")
    late = await account.start("w3")
    assert late.check() == (False, "the keeper says: two: it was not_sent")


async def test_an_office_that_ran_out_unnoticed_begins_anew(account: Shared) -> None:
    """A keeper that was stopped for longer than its term has not compared in the new one."""
    worker = await account.start("w1")
    account.venues["one"].open.clear()
    account.clock.ms += TERM_MS  # nobody wakes it: the process is stopped
    await account.clock.advance(1)
    assert worker.is_keeper()
    late = await account.start("w2")
    assert late.check()[0] is False
    account.venues["one"].open.set()
    await account.clock.advance(2_000)
    assert late.check()[0] is True


async def test_a_comparison_of_a_lost_office_makes_nobody_ready(account: Shared) -> None:
    """A comparison begun in an earlier term never counts for a later one."""
    account.venues["one"].open.clear()
    worker = await account.start("w1")
    account.redis.keeper, account.redis.note = "somebody", ""
    account.redis.ends_ms = account.clock.ms + 60_000
    await account.clock.advance(1_000)
    assert not worker.is_keeper()
    account.venues["one"].open.set()
    await account.clock.settle()
    assert worker.check() == (False, "the keeper has not compared the books yet")
    assert worker.ledger.calls[-1] == "elect", "another's duties are not done"
    account.venues["one"].open.clear()
    account.redis.ends_ms = account.clock.ms
    await account.clock.advance(1_000)
    assert worker.is_keeper()
    assert worker.check()[0] is False


@pytest.mark.parametrize("error", [AWAY, LedgerRefusedError("no permission")])
async def test_redis_may_come_later(account: Shared, error: Exception) -> None:
    """Of two workers waiting for Redis, one becomes keeper and both become ready."""
    account.redis.away = error
    first, second = await account.start("w1"), await account.start("w2")
    await account.clock.advance(5_000)
    assert first.check() == second.check() == (False, "not yet")
    account.redis.away = None
    await account.clock.advance(2_000)
    assert first.check()[0] is second.check()[0] is True
    assert [first.is_keeper(), second.is_keeper()].count(True) == 1


async def test_redis_may_fail_while_books_are_compared(account: Shared) -> None:
    """A comparison that Redis interrupts is repeated within seconds."""
    one = account.venues["one"]
    worker = await account.start("w1")
    await account.clock.advance(ROUND_EVERY_MS - 500)
    account.redis.away = AWAY
    await account.clock.advance(2_000)
    assert not worker.is_keeper()
    account.redis.away = None
    await account.clock.advance(RETRY_MS + 1_000)
    assert worker.is_keeper()
    assert len(one.asked_ms) == 2


async def test_a_book_that_cannot_be_read_is_not_asked_for_every_second(account: Shared) -> None:
    """An unreadable book is retried with the pause of a silent exchange; other duties go on."""
    account.redis.failing = {"book"}
    worker = await account.start("w1")
    await account.clock.advance(4 * RETRY_MS)
    assert worker.is_keeper()
    assert 3 <= worker.ledger.calls.count("book") <= 5
    assert worker.check() == (False, "one: has not answered yet; two: has not answered yet")
    account.redis.failing = set()
    await account.clock.advance(RETRY_MS)
    assert worker.check()[0] is True


async def test_what_could_not_be_said_of_a_round_is_said_on_the_next_turn(
    account: Shared,
) -> None:
    """Events that Redis did not take are written next turn, once each, with no new question."""
    account.redis.book = {f"one:{HELD.symbol}": _of("one")}
    account.redis.failing = {"announce"}
    await account.start("w1")
    await account.clock.advance(5_000)
    assert account.redis.announced == []
    account.redis.failing = set()
    await account.clock.advance(1_000)
    assert [event["type"] for event in account.redis.announced] == ["ReconciliationCompleted"]

    account.redis.failing = {"announce"}
    await account.clock.advance(ROUND_EVERY_MS)
    account.redis.failing, account.redis.deaf = set(), 1
    await account.clock.advance(5_000)
    first, *others = account.redis.announced[1:]
    assert [event["type"] for event in others] == ["ReconciliationCompleted", "SystemError"]
    assert first == others[0]
    assert [len(venue.asked_ms) for venue in account.venues.values()] == [2, 2]


async def test_what_a_round_could_not_say_is_the_next_ones_to_say(account: Shared) -> None:
    """Events that Redis does not take do not pile up: those of the latest round are written."""
    account.redis.failing = {"announce"}
    await account.start("w1")
    await account.clock.advance(3 * ROUND_EVERY_MS)
    account.redis.failing = set()
    await account.clock.advance(1_000)
    assert [event["type"] for event in account.redis.announced] == ["ReconciliationCompleted"]


# --- duties ---


async def test_a_slow_exchange_holds_up_no_other_duty(account: Shared) -> None:
    """While an exchange is slow to answer, the term is renewed and unresolved orders adopted."""
    account.venues["one"].open.clear()
    worker = await account.start("w1")
    await account.clock.advance(2 * TERM_MS)
    assert account.redis.keeper == "w1"
    assert worker.ledger.calls.count("adopt") >= 2 * TERM_MS / 1_000
    assert len(account.venues["one"].asked_ms) == 1


async def test_a_difference_counts_when_it_is_seen_twice(account: Shared) -> None:
    """A difference counts in the second round of the same exchange, whatever others answer."""
    account.redis.book = {f"one:{HELD.symbol}": _of("one")}
    one, two = account.venues.values()
    worker = await account.start("w1")
    two.fails = trouble(Outcome.NOT_SENT)
    assert [event["type"] for event in account.redis.announced] == ["ReconciliationCompleted"]
    assert worker.drift == 0
    await account.clock.advance(ROUND_EVERY_MS + 10_000)
    assert [event["type"] for event in account.redis.announced[1:]] == ["SystemError"]
    (drift,) = account.redis.announced[1:]
    assert drift["code"] == "POSITION_DRIFT"
    assert drift["reason"] == f"one {HELD.symbol}: the book's long 1 is not there"
    assert worker.drift == 1
    two.fails = None
    await account.clock.advance(RETRY_MS + 1_000)
    done = account.redis.announced[-1]
    assert (done["type"], done["drift"]) == ("ReconciliationCompleted", [drift["reason"]])
    one.there = [THERE]
    await account.clock.advance(ROUND_EVERY_MS)
    assert worker.drift == 0
    assert account.redis.announced[-1]["drift"] == []


async def test_an_exchange_that_falls_silent_takes_no_difference_back(account: Shared) -> None:
    """A confirmed difference is shown until its exchange answers otherwise."""
    account.redis.book = {f"one:{HELD.symbol}": _of("one")}
    worker = await account.start("w1")
    await account.clock.advance(ROUND_EVERY_MS + 1_000)
    assert worker.drift == 1
    account.venues["one"].fails = trouble(Outcome.NOT_SENT)
    await account.clock.advance(3 * ROUND_EVERY_MS)
    assert worker.drift == 1


@pytest.mark.parametrize("symbol", [HELD.symbol, SYMBOL], ids=["linear", "spot"])
async def test_what_a_signal_is_changing_is_left_alone(account: Shared, symbol: str) -> None:
    """A position that a signal has reserved is not compared before its commit."""
    account.redis.book = {f"one:{symbol}": _of("one", symbol)}
    account.redis.busy = {f"one:{symbol}"}
    worker = await account.start("w1")
    await account.clock.advance(2 * ROUND_EVERY_MS)
    assert worker.drift == 0
    account.redis.busy = set()
    await account.clock.advance(2 * ROUND_EVERY_MS)
    assert worker.drift == 1


def _of(exchange: str, symbol: str = HELD.symbol) -> Position:
    return position(symbol=symbol, exchange=exchange)


# --- leaving ---


async def test_a_draining_keeper_resigns_at_once_and_adopts_nothing(account: Shared) -> None:
    """A draining keeper ends its term, so that the next worker is elected at once."""
    leaving = await account.start("w1")
    other = await account.start("w2")
    adopted = leaving.ledger.calls.count("adopt")
    leaving.engine.stop()
    await account.clock.settle()
    assert account.has_ended("w1")
    assert not leaving.is_keeper()
    assert leaving.metrics.registry.get_sample_value("execution_worker_keeper") == 0
    assert account.redis.keeper == ""
    await account.clock.advance(1_000)
    assert other.is_keeper()
    assert leaving.ledger.calls.count("adopt") == adopted


async def test_stopping_in_the_middle_of_a_turn_adopts_nothing(account: Shared) -> None:
    """A worker that stops during a turn adopts no order, which it would have to give back."""
    worker = account.join("w1")
    worker.ledger.on_elect = worker.engine.stop
    await worker.keeper.run()
    assert "adopt" not in worker.ledger.calls
    assert worker.engine.taken == 0
    assert account.redis.keeper == ""


async def test_a_worker_that_is_not_the_keeper_takes_no_office_along(account: Shared) -> None:
    """The resignation of another worker leaves the keeper in office."""
    await account.start("w1")
    leaving = await account.start("w2")
    leaving.engine.stop()
    await account.clock.settle()
    assert account.has_ended("w2")
    assert account.redis.keeper == "w1"


async def test_draining_without_redis_ends_too(account: Shared) -> None:
    """Draining ends without Redis; the term then runs out by itself."""
    leaving = await account.start("w1")
    account.redis.away = AWAY
    leaving.engine.stop()
    await account.clock.settle()
    assert account.has_ended("w1")
    assert not leaving.is_keeper()


async def test_a_slow_exchange_does_not_hold_up_leaving(account: Shared) -> None:
    """A comparison under way is cancelled when the keeper drains."""
    account.venues["one"].open.clear()
    leaving = await account.start("w1")
    leaving.engine.stop()
    await account.clock.settle()
    assert account.has_ended("w1")
    assert account.redis.keeper == ""


async def test_a_bug_in_a_comparison_ends_the_worker(account: Shared) -> None:
    """An unexpected exception in a background comparison stops the worker."""
    account.venues["one"].fails = ZeroDivisionError("a bug")
    worker = account.join("w1")
    with pytest.raises(ZeroDivisionError):
        await worker.keeper.run()


async def test_a_worker_that_does_not_stand_leaves_the_office_to_others(account: Shared) -> None:
    """It resigns, reads the others' note all the same, and stands again when it may."""
    one = await account.start("one")
    assert one.is_keeper()
    may_stand = [False]
    one.keeper._stands = lambda: may_stand[0]
    two = await account.start("two")
    await account.clock.advance(3_000)
    assert (one.is_keeper(), two.is_keeper()) == (False, True)
    assert one.check()[0]
    await account.kill("two")
    await account.clock.advance(2 * TERM_MS)
    assert not one.is_keeper()
    may_stand[0] = True
    await account.clock.advance(2_000)
    assert one.is_keeper()
