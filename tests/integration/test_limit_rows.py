"""Limits as rows, on a real server with a clock of its own, against a model in Python."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Final

import pytest

from tests.integration.fleets import (
    Fleet,
    admission,
    admit,
    admit_one,
    commit,
    filled,
    fleet_on,
    outcome,
    take,
)
from worker.domain.refusal import Code
from worker.ledger import scripts
from worker.ledger.errors import LedgerError
from worker.ledger.items import AdmitItem
from worker.ledger.limit_rows import LimitRow, limits_of
from worker.ledger.replies import Admission, Admitted, Delivery
from worker.ledger.script_source import read_file, source
from worker.runtime.embedded_server import EmbeddedServer

DAY_MS: Final = 86_400_000
MINUTE_MS: Final = 60_000
#: A second before midnight and so before the edge of a clock minute.
START_MS: Final = 20_000 * DAY_MS - 1_000
#: What a mutant has in a library instead of what is there.
Change = tuple[str, str, str]


class ClockedFleet(Fleet):
    """A fleet whose scripts read the time from a key."""

    at_ms = START_MS

    async def go_on(self, ms: int) -> None:
        """Let time pass."""
        self.at_ms += ms
        await self.redis.set(self.key("clock"), self.at_ms)

    async def delivery(self, worker: str = "w1") -> Delivery:
        """One entry of a group of its own, in a worker's hands."""
        (delivery,) = await self.deliveries(worker, 1)
        return delivery

    async def deliveries(self, worker: str, count: int) -> list[Delivery]:
        """Entries of groups of their own, in a worker's hands."""
        self.sent = getattr(self, "sent", 0) + count
        await self.send_all(f"group {self.sent - n}" for n in range(count))
        return await take(self[worker], count)


@asynccontextmanager
async def clocked_fleet(
    monkeypatch: pytest.MonkeyPatch, url: str, change: Change = ("", "", "")
) -> AsyncIterator[ClockedFleet]:
    """A fleet with a clock of its own, and with one change to a library of its scripts."""
    library, there, instead = change

    def read(name: str) -> str:
        text = read_file(name)
        if name == "lib/clock.lua":
            before = text.index("local time")
            return text[:before] + "local now_ms = tonumber(call('GET', P .. 'clock'))\n"
        if name == f"lib/{library}.lua":
            assert there in text
            return text.replace(there, instead)
        return text

    monkeypatch.setattr(scripts, "source", lambda name: source(name, read))
    async with fleet_on(url) as plain:
        await plain.redis.flushall()
        fleet = ClockedFleet(url, plain.redis, lease_ms=10 * DAY_MS)  # time is not what ends them
        await fleet.go_on(0)
        await fleet["observer"].ensure_group()
        try:
            yield fleet
        finally:
            for connections in fleet.connections:
                await connections.close()


@pytest.fixture
async def fleet(
    server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[ClockedFleet]:
    async with clocked_fleet(monkeypatch, server.url) as made:
        yield made


# --- the rolling minute ---


async def test_no_sixty_seconds_have_more_than_the_limit(fleet: ClockedFleet) -> None:
    """Neither across a clock minute's edge; a millisecond earlier is refused, and not counted."""

    async def passes(signal: str) -> bool:
        answer = await admit_one(
            fleet["w1"], admission(await fleet.delivery(), signal, max_positions=99, max_rate=2)
        )
        assert isinstance(answer, Admitted) or answer is Code.ORDER_RATE_LIMIT
        return isinstance(answer, Admitted)

    assert [await passes("s-1"), await passes("s-2"), await passes("s-3")] == [True, True, False]
    await fleet.go_on(1_000)  # the next clock minute
    assert not await passes("s-4")
    await fleet.go_on(MINUTE_MS - 1_001)
    assert not await passes("s-5")
    await fleet.go_on(1)
    assert await passes("s-6")
    await fleet.go_on(10)
    assert await passes("s-7")
    await fleet.go_on(MINUTE_MS - 11)
    assert not await passes("s-8")
    await fleet.go_on(1)
    assert [await passes("s-9"), await passes("s-10")] == [True, False]


async def test_admission_times_are_kept_for_a_minute_only(fleet: ClockedFleet) -> None:
    """Those of more than a minute ago go with the next admission, the last ones by themselves."""
    for n in range(12):
        item = admission(await fleet.delivery(), f"s-{n}", max_positions=99, max_rate=50)
        assert isinstance(await admit_one(fleet["w1"], item), Admitted)
        await fleet.go_on(20_000)
    assert await fleet.redis.zcard(fleet.key("rate")) == 3
    assert 0 < await fleet.redis.pttl(fleet.key("rate")) <= MINUTE_MS


async def test_a_worker_with_a_higher_limit_finds_all_admissions(fleet: ClockedFleet) -> None:
    """One with a lower limit forgets none that the other one counts."""
    for n, rate in enumerate((3, 3, 2, 1, 3)):
        item = admission(
            await fleet.delivery(f"w{rate}"), f"s-{n}", max_positions=99, max_rate=rate
        )
        answer = await admit_one(fleet[f"w{rate}"], item)
        assert isinstance(answer, Admitted) == (n in {0, 1, 4}), n
    item = admission(await fleet.delivery("w3"), "s-9", max_positions=99, max_rate=3)
    assert await admit_one(fleet["w3"], item) is Code.ORDER_RATE_LIMIT


async def test_an_admission_asked_for_again_counts_once(fleet: ClockedFleet) -> None:
    """The first reply may have been lost; its place in the minute is that of the first time."""
    item = admission(await fleet.delivery(), "s-1", max_positions=99, max_rate=1)
    assert isinstance(await admit_one(fleet["w1"], item), Admitted)
    await fleet.go_on(500)
    assert isinstance(await admit_one(fleet["w1"], item), Admitted)
    await fleet.go_on(MINUTE_MS - 500)
    other = admission(await fleet.delivery(), "s-2", max_positions=99, max_rate=1)
    assert isinstance(await admit_one(fleet["w1"], other), Admitted)


async def test_a_close_is_neither_limited_nor_counted(fleet: ClockedFleet) -> None:
    """Not even where the minute is used up."""
    one = await fleet.delivery()
    await admit(fleet["w1"], one, "s-1", max_rate=1)
    await commit(fleet["w1"], filled(one, "s-1"))
    close = admission(await fleet.delivery(), "s-2", action="close", position_key="x:s-1")
    assert isinstance(await admit_one(fleet["w1"], close), Admitted)
    assert await fleet.redis.zcard(fleet.key("rate")) == 1


async def test_rows_of_an_unknown_kind_admit_nothing(fleet: ClockedFleet) -> None:
    """A limit that the script does not know must not be passed over in silence."""
    row = LimitRow("x", "tide", 1, 5, Code.MAX_POSITIONS)  # type: ignore[arg-type]
    item = admission(await fleet.delivery(), limits=limits_of(row))
    with pytest.raises(LedgerError, match="no kind of limit is tide"):
        await admit_one(fleet["w1"], item)
    assert await fleet.hash("book") == {}


# --- what is left of the counts ---


def full(delivery: Delivery, signal: str) -> AdmitItem:
    """An order that alone brings exposure, positions and rate to their limits."""
    return admission(delivery, signal, max_positions=1, max_exposure=100, max_loss=5, max_rate=1)


async def test_a_new_worker_counts_on(fleet: ClockedFleet) -> None:
    """A limit that one worker has used up is used up for one that starts after it."""
    await admit(fleet["w1"], await fleet.delivery(), "s-1", max_rate=1)
    item = admission(await fleet.delivery("w2"), "s-2", max_rate=1)
    assert await admit_one(fleet["w2"], item) is Code.ORDER_RATE_LIMIT


async def test_lost_counts_begin_at_nothing(fleet: ClockedFleet) -> None:
    """Whatever of them a primary lost: orders are admitted as if none had been before."""
    day = f"day:{fleet.at_ms // DAY_MS}"
    await fleet.redis.hset(fleet.key(day), "USDT", -4)
    assert isinstance(await admit_one(fleet["w1"], full(await fleet.delivery(), "s-1")), Admitted)
    await fleet.redis.hset(fleet.key(day), "USDT", -5)
    lost = ("book", "totals", day, "rate")
    codes = []
    for number, key in enumerate(lost, start=2):
        codes.append(await admit_one(fleet["w1"], full(await fleet.delivery(), f"s-{number}")))
        await fleet.redis.delete(fleet.key(key))
    assert codes == [
        Code.MAX_POSITIONS,
        Code.MAX_EXPOSURE,
        Code.DAILY_LOSS_LIMIT,
        Code.ORDER_RATE_LIMIT,
    ]
    assert isinstance(await admit_one(fleet["w1"], full(await fleet.delivery(), "s-9")), Admitted)


# --- every kind, against a model ---


@dataclass
class Limits:
    """What a worker is configured with; 0 is off."""

    positions: int
    exposure: int
    loss: int
    rate: int


@dataclass
class Model:
    """The account in Python: what each kind of limit counts."""

    held: dict[str, tuple[str, int]] = field(default_factory=dict)  # key: quote, notional
    exposure: dict[str, int] = field(default_factory=dict)
    profit: dict[tuple[int, str], int] = field(default_factory=dict)  # by day and quote
    times_ms: list[int] = field(default_factory=list)

    def admit(self, key: str, quote: str, notional: int, limits: Limits, at_ms: int) -> Code | None:
        """Return the code of the limit that an opening breaks, or count it."""
        profit = self.profit.get((at_ms // DAY_MS, quote), 0)
        recent = sum(at_ms - one < MINUTE_MS for one in self.times_ms)
        if limits.positions and len(self.held) >= limits.positions:
            return Code.MAX_POSITIONS
        if limits.exposure and self.exposure.get(quote, 0) + notional > limits.exposure:
            return Code.MAX_EXPOSURE
        if limits.loss and -profit >= limits.loss:
            return Code.DAILY_LOSS_LIMIT
        if limits.rate and recent >= limits.rate:
            return Code.ORDER_RATE_LIMIT
        self.held[key] = quote, notional
        self.exposure[quote] = self.exposure.get(quote, 0) + notional
        if limits.rate:
            self.times_ms.append(at_ms)
        return None

    def end(self, key: str, realized: int, at_ms: int) -> None:
        """Take a position, or the place reserved for it, out of the account."""
        quote, notional = self.held.pop(key)
        self.exposure[quote] -= notional
        day = at_ms // DAY_MS
        self.profit[day, quote] = self.profit.get((day, quote), 0) + realized


class Run:
    """Orders of three workers by dice, each answer compared with the model's."""

    def __init__(self, fleet: ClockedFleet, seed: int) -> None:
        self._fleet = fleet
        self._dice = Random(seed)
        self._model = Model()
        self._number = 0
        dice = self._dice
        #: Workers may be configured differently: each order is held to what its own worker says.
        self._limits = {
            worker: Limits(
                positions=dice.choice((4, 6, 20)),
                exposure=dice.choice((0, 300, 700)),
                loss=dice.choice((0, 40, 90)),
                rate=dice.choice((0, 3, 5, 8)),
            )
            for worker in ("w1", "w2", "w3")
        }
        self.codes: set[Code | None] = set()
        self.differences: list[str] = []

    async def go(self, steps: int) -> None:
        """Take some steps, as the dice say."""
        for _ in range(steps):
            await self._open(self._dice.choice(list(self._limits)))
            for key in [key for key in self._model.held if self._dice.random() < 0.3]:
                await self._close(key)
            await self._fleet.go_on(
                self._dice.choice((0, 1, 700, 9_000, 19_999, 30_000, 59_999, 60_000, DAY_MS // 3))
            )

    async def _open(self, worker: str) -> None:
        """Have one batch of openings admitted, and end each of them."""
        dice, model, now_ms = self._dice, self._model, self._fleet.at_ms
        limits = self._limits[worker]
        deliveries = await self._fleet.deliveries(worker, dice.randint(1, 5))
        items: list[AdmitItem] = []
        expected: list[Code | None] = []
        for delivery in deliveries:
            self._number += 1
            quote, notional = dice.choice(("USDT", "EUR")), dice.choice((1, 50, 100))
            signal = f"s-{self._number}"
            items.append(
                admission(
                    delivery,
                    signal,
                    notional=notional,
                    quote=quote,
                    max_positions=limits.positions,
                    max_exposure=limits.exposure,
                    max_loss=limits.loss,
                    max_rate=limits.rate,
                )
            )
            expected.append(model.admit(f"x:{signal}", quote, notional, limits, now_ms))
        answers = await self._fleet[worker].admit(items)
        self._compare(items, expected, answers)
        for delivery, item, code in zip(deliveries, items, expected, strict=True):
            if code is None and not self.differences:
                await self._settle(worker, delivery, item)

    def _compare(
        self, items: list[AdmitItem], expected: list[Code | None], answers: list[Admission]
    ) -> None:
        for item, code, answer in zip(items, expected, answers, strict=True):
            self.codes.add(code)
            told = None if isinstance(answer, Admitted) else answer
            if told is not code:
                self.differences.append(f"{item.signal}: {told}, not {code}")

    async def _settle(self, worker: str, delivery: Delivery, item: AdmitItem) -> None:
        """Fill an opening, or let it fail and give back what it had reserved."""
        key = item.position_key
        quote, notional = self._model.held[key]
        if self._dice.random() < 0.7:
            await commit(self._fleet[worker], filled(delivery, item.signal, quote=quote))
            return
        failed = outcome(
            delivery,
            item.signal,
            reservation="opening",
            position_key=key,
            quote=quote,
            exposure=-notional,
        )
        await commit(self._fleet[worker], failed)
        self._model.end(key, 0, self._fleet.at_ms)

    async def _close(self, key: str) -> None:
        """Close a position with a profit or a loss; no limit may hold it up."""
        if self.differences:
            return
        self._number += 1
        signal, (quote, notional) = f"s-{self._number}", self._model.held[key]
        realized = self._dice.choice((-60, -20, -10, 0, 10))
        delivery = await self._fleet.delivery()
        await admit(self._fleet["w1"], delivery, signal, action="close", position_key=key)
        closed = filled(
            delivery,
            signal,
            reservation="closing",
            position_key=key,
            position="",
            quote=quote,
            exposure=-notional,
            realized=realized,
        )
        await commit(self._fleet["w1"], closed)
        self._model.end(key, realized, self._fleet.at_ms)

    async def finish(self) -> None:
        """Compare what is stored at the end."""
        stored = {key: int(value) for key, value in (await self._fleet.hash("totals")).items()}
        model = {quote: value for quote, value in self._model.exposure.items() if value}
        assert {quote: value for quote, value in stored.items() if value} == model
        assert len(await self._fleet.hash("book")) == len(self._model.held)


async def test_every_kind_of_limit_does_what_its_model_does(
    server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever admissions, ends, losses and time do: each refusal has the model's code."""
    codes: set[Code | None] = set()
    for seed in range(12):
        async with clocked_fleet(monkeypatch, server.url) as fleet:
            run = Run(fleet, seed)
            await run.go(40)
            assert run.differences == [], seed
            await run.finish()
            codes |= run.codes
    assert codes == {
        None,
        Code.MAX_POSITIONS,
        Code.MAX_EXPOSURE,
        Code.DAILY_LOSS_LIMIT,
        Code.ORDER_RATE_LIMIT,
    }


#: Each safeguard taken out.
MUTANTS: Final[dict[str, Change]] = {
    "positions of this call": ("reserve", "numbers.book + 1", "numbers.book"),
    "positions": ("account_limits", "held = call('HLEN', P .. counter)", "held = 0"),
    "exposure of this call": ("account_limits", "KIND.SUM and exposures or", "KIND.SUM and {} or"),
    "exposure is added": ("reserve", "if kind == KIND.SUM then", "if false then"),
    "the comparison": ("account_limits", "if held + add > most then", "if false then"),
    "the order itself": ("account_limits", "if held + add > most then", "if held > most then"),
    "loss": ("account_limits", "if held >= most then", "if held > most + 1e9 then"),
    "loss at its limit": ("account_limits", "if held >= most then", "if held > most then"),
    "day": ("account_limits", "now_ms / 86400000", "now_ms / 86400000 + 1"),
    "times are written": ("write_admission_times", "call_many('ZADD', key, times)", ""),
    "times of this call": ("reserve", "times, #times / 2", "times, 0"),
    "a minute of times": ("account_limits", "LIMIT.WINDOW_MS + 1", "LIMIT.WINDOW_MS + 2"),
    "no more than a minute": ("account_limits", "LIMIT.WINDOW_MS + 1", "LIMIT.WINDOW_MS"),
    "times are forgotten in time": (
        "write_admission_times",
        "now_ms - LIMIT.WINDOW_MS",
        "now_ms - LIMIT.WINDOW_MS / 2",
    ),
}


@pytest.mark.parametrize("change", MUTANTS.values(), ids=MUTANTS)
async def test_a_limit_that_is_switched_off_is_noticed(
    server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch, change: Change
) -> None:
    """The model disagrees with scripts that lack any one part of the check."""
    for seed in range(12):
        async with clocked_fleet(monkeypatch, server.url, change) as fleet:
            run = Run(fleet, seed)
            try:
                await run.go(40)
            except AssertionError:
                return  # what the model holds is not there
            if run.differences:
                return
    pytest.fail("no seed notices it")
