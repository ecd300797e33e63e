"""What each user of Redis has to be able to do, done through the project's own calls."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from decimal import Decimal
from typing import Any, Final

import msgspec
import pytest
from redis.asyncio import Redis

from tests.integration.fleets import admit_one, commit_one, limit_rows
from worker.assembly.backing import RedisBacking
from worker.assembly.people import duties_to_people
from worker.config.keys import Config
from worker.domain.position_key import position_key
from worker.domain.sheet import Sheet
from worker.domain.trading_state import TradingState
from worker.domain.verdict import Verdict
from worker.ledger.access import STREAMS, Access
from worker.ledger.calls import RedisLedger
from worker.ledger.connection import Connections, Purpose
from worker.ledger.conversion import bring_up_to_date
from worker.ledger.errors import LedgerUnavailableError
from worker.ledger.items import NO_RECORD, AdmitItem, CommitItem, RecordEnd
from worker.ledger.layouts import DeadLetterTail
from worker.ledger.limit_rows import NO_LIMITS
from worker.ledger.operator_calls import OperatorCalls
from worker.ledger.replies import Admitted, CommitStatus, Delivery
from worker.ledger.resting import Asked, SeenPrice, ask_resting, list_resting, send_prices
from worker.ledger.resting_layouts import RestingRow
from worker.ledger.scripts import RedisScripts
from worker.ledger.stored import EndedPart, OrderRow, encode_order, encode_record
from worker.ledger.streams import submit
from worker.ledger.trading_calls import RedisTrading
from worker.ledger.turn_layouts import Rests
from worker.ledger.turns import ApplyItem
from worker.ledger.wire import Argument
from worker.ledger.words import Status
from worker.operator.reader import AccountReader
from worker.operator.trading import Trading
from worker.runtime.clock import SystemClock

SIGNALS: Final = "{main}:signals"
LEASE_MS: Final = 60_000


class Recorded(RedisScripts):
    """The scripts, with a note of which were run."""

    ran: set[str]

    async def run(self, name: str, *arguments: Argument) -> Any:
        """Run one and note it."""
        self.ran.add(name)
        return await super().run(name, *arguments)

    async def run_durably(self, name: str, *arguments: Argument) -> Any:
        """Run one and note it."""
        self.ran.add(name)
        return await super().run_durably(name, *arguments)


class OneBudget:
    """A budget of requests that a worker shares with nobody."""

    def names(self) -> Sequence[str]:
        """Return its name."""
        return ["paper"]

    def learn_shares(self, shares: Mapping[str, tuple[int, int]]) -> None:
        """Check that it is the worker's alone."""
        assert dict(shares) == {"paper": (1, 0)}

    def learn_holds(self, holds: Mapping[str, float]) -> None:
        """Check which one is held."""
        assert set(holds) == {"paper"}


@asynccontextmanager
async def ledger_of(
    config: Config, name: str, *, lease_ms: int = LEASE_MS, replicas: int = 0
) -> AsyncIterator[tuple[RedisLedger, Recorded]]:
    """A worker's ledger, signed in as the configuration says."""
    connections = Connections(config.redis, key=SIGNALS, name=name, timeout_s=2.0)
    scripts = Recorded(
        connections,
        signals=SIGNALS,
        replicas=replicas,
        replicas_timeout_ms=10,
        patience_s=0.01,
    )
    scripts.ran = set()
    try:
        ledger = RedisLedger(
            scripts, clock=SystemClock(), worker=name, lease_ms=lease_ms, budgets=OneBudget()
        )
        yield ledger, scripts
    finally:
        await connections.close()


def admission(delivery: Delivery, signal: str, **changes: Any) -> AdmitItem:
    """An admission of one entry."""
    item = AdmitItem(
        entry=delivery.entry_id,
        token=delivery.token,
        signal=signal,
        digest=signal,
        exchange="paper",
        position_key=f"paper:{signal}",
        action="open",
        plan="{}",
        notional=1_000_000,
        limits=limit_rows(positions=100, exposure=10**12, loss=10**12, rate=1_000),
    )
    if changes.get("action", "open") != "open":
        changes["limits"] = NO_LIMITS
    return msgspec.structs.replace(item, **changes)


def outcome(delivery: Delivery, signal: str, **changes: Any) -> CommitItem:
    """The end of one entry, with an event on each output stream."""
    item = CommitItem(
        entry=delivery.entry_id,
        token=delivery.token,
        signal=signal,
        digest=signal,
        record=RecordEnd(state="FILLED", outcome="{}"),
        events=(
            ("orders", "OrderFilled", f"{signal}-1", "{}"),
            ("positions", "PositionOpened", f"{signal}-2", "{}"),
        ),
    )
    return msgspec.structs.replace(item, **changes)


POSITION: Final = (
    '{"position_id":"p","exchange":"paper","symbol":"BTC/USDT","direction":"long",'
    '"quantity":"1","entry_quantity":"1","entry_value":"1","opened_at":"2026-01-01T00:00:00Z"}'
)


async def produce(config: Config, groups: tuple[str, ...]) -> list[str]:
    """The producer's job: append a signal of each group."""
    connections = Connections(config.redis, key=SIGNALS, name="producer", timeout_s=2.0)
    entries = [{"data": b"{}", "key": group.encode()} for group in groups]
    try:
        return await submit(Access(connections, "main"), entries)
    finally:
        await connections.close()


async def bury_large(ledger: RedisLedger, config: Config, producer: Config) -> None:
    """Claim an entry that is too large: it becomes a dead letter and leaves the stream."""
    connections = Connections(config.redis, key=SIGNALS, name="watcher", timeout_s=2.0)
    try:
        access = Access(connections, "main")
        before = await access.ask_one("XLEN", SIGNALS)
        await produce(producer, ("k" * 100_000,))
        assert len((await ledger.claim(50)).oversize) == 1
        assert await access.ask_one("XLEN", SIGNALS) == before, "it is off the stream"
    finally:
        await connections.close()


async def work(config: Config, producer: Config) -> set[str]:
    """The worker's job, every script of it and every branch that writes; which scripts it ran."""
    async with ledger_of(config, "w0-1-0000", replicas=1) as (durable, ran_durably):
        await durable.ensure_group()
        await produce(producer, ("a", "a", "a", "b", "c", "c", "d"))
        first = {d.fields[b"key"].decode(): d for d in (await durable.claim(10)).deliveries}
        with pytest.raises(LedgerUnavailableError, match="0 of 1 replicas"):
            await durable.admit([admission(first["b"], "sb")])
        await durable.release([(d.entry_id, d.token, 0, False) for d in first.values()])
        await durable.leave()
        ran = set(ran_durably.ran)
    async with ledger_of(config, "w1-1-0000") as (ledger, scripts):
        await _work(ledger, scripts, first["b"].entry_id)
        ran |= scripts.ran
    async with ledger_of(config, "w2-1-0000", lease_ms=1) as (hasty, _):
        await produce(producer, ("e",))
        await hasty.claim(1)
    async with ledger_of(config, "w3-1-0000") as (ledger, scripts):
        await ledger.claim(0, after=b"$", wait_ms=5)
        again = (await ledger.claim(1)).deliveries
        assert [d.deliveries for d in again] == [2], "an expired lease is taken over"
        await ledger.sweep(0)
        assert await ledger.leave() == 1
        ran |= scripts.ran
    async with ledger_of(config, "w4-1-0000") as (idle, _):
        assert await idle.leave() == 0
    async with ledger_of(config, "w5-1-0000") as (ledger, _):
        await bury_large(ledger, config, producer)
    return ran


async def _let_rest(ledger: RedisLedger, delivery: Delivery) -> None:
    """Leave an order to turns, take some, and write that it is over."""
    key, row = "paper:sd", OrderRow(
        client_order_id="c-1", signal="sd", entry=delivery.entry_id, role="entry",
        position_key="paper:sd", state="ACTIVE", exchange_order_id="x-1", request="{}",
        attempts=1, placed_ms=0,
    )  # fmt: skip
    assert isinstance(
        await admit_one(ledger, admission(delivery, "sd", position_key=key)), Admitted
    )
    rests = Rests(row.client_order_id, row.exchange_key, encode_order(row), 0)
    rested = outcome(delivery, "sd", reservation="opening", position_key=key, rests=rests)
    assert (await commit_one(ledger, rested)).status is CommitStatus.COMMITTED
    (turn,) = (await ledger.claim(0, turns=4)).turns
    assert (await ledger.heartbeat([(turn.entry_id, turn.token)], b"{}")).lost == set()
    assert turn.entry_id in {one.entry_id for one in await ledger.resync([])}
    item = ApplyItem(
        turn=turn.entry_id, token=turn.token, book=turn.book, position="", signal="sd",
        client_order_id="c-1", exchange_key=row.exchange_key, row=row, quote="USDT",
    )  # fmt: skip
    assert await ledger.apply(item) is Status.COMMITTED
    assert await ledger.apply(item) is Status.COMMITTED, "asked again"
    (turn,) = (await ledger.claim(0, turns=4)).turns
    assert await ledger.release([(turn.entry_id, turn.token, 0, False)]) == 1
    (turn,) = (await ledger.claim(0, turns=4)).turns
    over = msgspec.structs.replace(
        item, token=turn.token, row=None, keep_ms=60_000, realized=5, exposure=1,
        record=encode_record(EndedPart(entry=delivery.entry_id, signal="sd", state="FILLED")),
        events=(("orders", "OrderFilled", "e-d", "{}"),),
    )  # fmt: skip
    assert await ledger.apply(over) is Status.COMMITTED
    assert not (await ledger.claim(0, turns=4)).turns


async def _correct(scripts: RedisScripts) -> None:
    """A position is made another one, and what it was."""
    other = POSITION.replace('"quantity":"1"', '"quantity":"2"')
    texts = [f"text{n}" for n in range(7)]
    for before, after in ((POSITION, other), (other, POSITION)):
        values: tuple[Argument, ...] = (
            "paper:sa",
            before,
            after,
            "USDT",
            5,
            5,
            *texts,
            1_000,
            "",
            "",
            0,
        )
        assert await scripts.run("correct", *values) == b"corrected"
    gone: tuple[Argument, ...] = (
        "paper:sa",
        POSITION,
        "",
        "USDT",
        5,
        5,
        *texts,
        1_000,
        "absent",
        "{}",
        0,
    )
    assert await scripts.run("correct", *gone) == b"withdrawn"


async def _serve_people(ledger: RedisLedger, scripts: RedisScripts) -> None:
    """The keeper carries corrections out, refuses others, watches, and ends a flatten."""
    calls = OperatorCalls(scripts, output_length=1_000)
    assert await calls.requested_corrections() == {}
    await calls.refuse_correction("absent", b"{}")
    assert await calls.held(position_key("paper", "absent")) is None
    requests = ("bad", "{}", "long", "x" * 9_000)
    await scripts._call(Purpose.SCRIPTS, "HSET", "{main}:corrections", *requests)
    access = Access(scripts._connections, "main")
    trading = Trading(RedisTrading(access, calls), clock=SystemClock(), silent_after_ms=1_000)
    await trading.begin_flatten(reason="r", actor="a", lasts_ms=0)
    backing = RedisBacking(access, scripts, ledger, output_length=1_000)
    people = duties_to_people(Config(), backing, SystemClock())
    carry_out, watch, end_flatten = people
    for _ in range(2):
        await carry_out.run()
        await watch.run()
    assert await calls.requested_corrections() == {}, "each was refused or removed"
    await end_flatten.run()
    assert not await trading.is_flattening("a")
    await trading.resume(reason="r", actor="a")


async def _work(ledger: RedisLedger, scripts: RedisScripts, entry_b: str) -> None:
    """One worker's hour, in short."""
    assert await bring_up_to_date(scripts, worker=ledger.worker, lease_ms=LEASE_MS) == 0
    await ledger.elect(10_000, "done")
    await ledger.resign()
    assert (await ledger.elect(10_000)).elected
    await ledger.claim(0, after=b"0-0", wait_ms=10)
    held = {d.fields[b"key"].decode(): d for d in (await ledger.claim(10)).deliveries}
    assert set(held) == {"a", "b", "c", "d"}
    assert held["b"].entry_id == entry_b
    assert isinstance(await admit_one(ledger, admission(held["a"], "sa")), Admitted)
    await ledger.throttle("paper", 1)
    assert (await ledger.authorize(held["a"].entry_id, held["a"].token, "paper")).held
    lost, state, _ = await ledger.heartbeat([(d.entry_id, d.token) for d in held.values()], b"{}")
    assert not lost
    assert state is TradingState.ACTIVE
    assert not await ledger.resync(held_id.entry_id for held_id in held.values())
    assert len(await ledger.resync([])) == 4
    done = await commit_one(ledger,
        outcome(
            held["a"], "sa", position_key="paper:sa", position=POSITION, quote="USDT",
            exposure=-100_000, realized=5, reservation="opening",
        )
    )  # fmt: skip
    assert done.status is CommitStatus.COMMITTED
    assert done.following is not None, "the group's next entry is handed on"
    await _correct(scripts)
    closing = done.following
    assert isinstance(
        await admit_one(ledger, admission(closing, "sa2", position_key="paper:sa", action="close")),
        Admitted,
    )
    closed = await commit_one(
        ledger,
        outcome(
            closing,
            "sa2",
            reservation="closing",
            position_key="paper:sa",
            position="",
            quote="USDT",
            take_next=False,
        ),
    )
    assert closed.status is CommitStatus.COMMITTED
    await ledger.park(held["b"].entry_id, held["b"].token, "sb", 0, ("SystemError", "park-1", "{}"))
    adopted = await ledger.adopt(5)
    assert [d.entry_id for d in adopted] == [entry_b]
    next_c = await _bury(ledger, held["c"])
    assert next_c is not None
    assert (await ledger.trim_letters(0, 0)).letters == 1
    await _bury(ledger, next_c)
    await _let_rest(ledger, held["d"])
    await ledger.release([(adopted[0].entry_id, adopted[0].token, 1_000, False)])
    await ledger.announce(("SystemError", "said-1", "{}"))
    assert (await ledger.take_seat("x", "d1", 1, 60_000)).number == 0
    assert (await ledger.take_seat("x", "d1", 1, 0)).number == -1
    await ledger.elect(60_000, "")
    assert await ledger.publish(Sheet(), 60_000)
    account = await ledger.account()
    assert account.dead_letters == 1
    await _serve_people(ledger, scripts)
    assert not (await ledger.book()).positions
    await ledger.sweep(0)
    await _rest(scripts)
    assert await ledger.leave() > 0


async def _rest(scripts: RedisScripts) -> None:
    """Orders rest at a simulated exchange: one is cancelled, one is met by a price."""
    row, market = RestingRow(request="{}", buys=True, conditions=((False, "90"),)), ("paper", "A/B")
    for order in ("one", "two"):
        await ask_resting(scripts, Asked.REST, market, order, row=row)
    assert (await ask_resting(scripts, Asked.CANCEL, market, "one")).is_changed
    assert (await send_prices(scripts, 0, [])).joined == ("paper A/B",)
    for symbol in ("A/B", ""):
        assert len((await list_resting(scripts, "paper", symbol))[0]) == 1
    seen = [("paper", "A/B", [SeenPrice(0, "89", "89")])]
    assert (await send_prices(scripts, 0, seen)).gone == ("paper A/B",)


async def _bury(ledger: RedisLedger, delivery: Delivery) -> Delivery | None:
    """End an entry as a dead letter; the group's next one."""
    tail = DeadLetterTail("malformed", "e", delivery.entry_id, "1", "w", "now")
    item = outcome(delivery, "", record=NO_RECORD, events=(), dead=tail)
    buried = await commit_one(ledger, item)
    assert buried.status is CommitStatus.COMMITTED
    return buried.following


@asynccontextmanager
async def keeping(ledger: RedisLedger, scripts: RedisScripts) -> AsyncIterator[None]:
    """The keeper's duties towards people, done all the time."""
    access = Access(scripts._connections, "main")
    backing = RedisBacking(access, scripts, ledger, output_length=1_000)
    duties = duties_to_people(Config(), backing, SystemClock())

    async def keep() -> None:
        while True:
            await ledger.elect(10_000, "")
            for duty in duties:
                await duty.run()
            await asyncio.sleep(0.01)

    task = asyncio.create_task(keep())
    try:
        yield
        assert not task.done(), "no duty failed"
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def read(config: Config) -> None:
    """The reader's job: status, positions, a signal's story, dead letters, the streams."""
    async with AccountReader(config) as reader:
        status = await reader.status()
        assert status.group_exists
        await reader.positions()
        await reader.pnl()
        await reader.signals(10, wanted=lambda row: True)
        for live in (True, False):
            await reader.orders(10, live=live, wanted=lambda row: True)
        assert (await reader.order("sa")).is_known
        assert await reader.dead.latest(10)
        (letter,) = await reader.dead.latest(1)
        assert (await reader.dead.get(letter.id)).id == letter.id
        tail = reader.tail(("signals", "orders", "positions", "system", "dead"), "0")
        assert await tail.read(1)
        await reader.tail().read(1)


async def autoscale(client: Redis) -> None:
    """What KEDA asks: the group's lag, its pending entries, the stream's length."""
    assert await client.execute_command("XINFO GROUPS", SIGNALS)
    await client.execute_command("XPENDING", SIGNALS, "execution")
    await client.execute_command("XLEN", SIGNALS)


async def operate(config: Config) -> None:
    """The operator's job: all a reader may, and what changes something."""
    await read(config)
    async with AccountReader(config) as reader:
        await reader.server()
        await reader.submit([{"data": b"{}"}])
        change = await reader.trading.ask(TradingState.HALTED, reason="test", actor="o")
        assert change.before is TradingState.ACTIVE
        await reader.trading.resume(reason="test", actor="o")
        letter = (await reader.dead.latest(10))[-1]
        assert await reader.dead.replay(letter.id)


async def decide(worker: Config, producer: Config, operator: Config) -> None:
    """The operator decides an order in doubt, halves a position and ends another."""
    whole = msgspec.json.decode(POSITION) | {"signal_id": "held"}
    async with ledger_of(worker, "w5-1-0000") as (ledger, scripts):
        await produce(producer, ("x", "y", "z"))
        doubted, *held = (await ledger.claim(3)).deliveries
        await admit_one(ledger, admission(doubted, "doubted"))
        event = ("SystemError", "e", "{}")
        await ledger.park(doubted.entry_id, doubted.token, "doubted", 0, event)
        for number, delivery in enumerate(held):
            signal, symbol = f"held{number}", f"H{number}/USDT"
            item = {"position_key": f"paper:{symbol}", "reservation": "opening", "quote": "USDT"}
            await admit_one(ledger, admission(delivery, signal, position_key=f"paper:{symbol}"))
            position = msgspec.json.encode(whole | {"symbol": symbol}).decode()
            await commit_one(ledger, outcome(delivery, signal, position=position, **item))
        async with AccountReader(operator) as reader, keeping(ledger, scripts):
            verdict = Verdict(actor="o", reason="test")
            await reader.decisions.decide("doubted", verdict)
            for symbol, quantity in (("H0/USDT", "0.5"), ("H1/USDT", "0")):
                await reader.decisions.correct(
                    "paper", symbol, quantity=Decimal(quantity), price=Decimal(2),
                    actor="o", reason="test",
                )  # fmt: skip
        (adopted,) = [one for one in await ledger.adopt(8) if one.verdict is not None]
        assert (adopted.entry_id, adopted.verdict) == (doubted.entry_id, verdict)
        book = (await ledger.book()).positions
        assert book["paper:H0/USDT"].quantity == Decimal("0.5")
        assert "paper:H1/USDT" not in book


async def mend(worker: Config, producer: Config, admin: Config) -> None:
    """The administrator mends streams that the producer and others gave an id of the future."""
    largest = "18446744073709551615-18446744073709551615"
    async with ledger_of(worker, "w6-1-0000") as (ledger, _):
        connections = Connections(producer.redis, key=SIGNALS, name="producer", timeout_s=2.0)
        access = Access(connections, "main")
        for entry_id in ("18446744073709551615-1", "*", "*", largest):
            await access.ask_one("XADD", SIGNALS, entry_id, "data", "{}", "key", "x")
        await connections.close()
        deliveries = (await ledger.claim(10)).deliveries
        first = next(one for one in deliveries if one.entry_id.startswith("18446"))
        item = admission(first, "ahead", position_key="paper:ahead")
        assert isinstance(await admit_one(ledger, item), Admitted)
        event = ("SystemError", "ahead-1", "{}")
        await ledger.park(first.entry_id, first.token, "ahead", 0, event)
        async with AccountReader(admin) as reader:
            found = [one async for one in reader.mending.mend(STREAMS, actor="a")]
            assert [one.renamed for one in found if one.mended] == [4]
        (adopted,) = await ledger.adopt(5)
        assert adopted.record is not None
        assert (adopted.record.signal, adopted.record.entry) == ("ahead", adopted.entry_id)


async def discard(config: Config) -> None:
    """The operator throws a dead letter away."""
    async with AccountReader(config) as reader:
        letter = (await reader.dead.latest(10))[-1]
        await reader.dead.discard(letter.id)
