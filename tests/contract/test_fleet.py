"""The fleet and its people: elections, seats, budgets, house-keeping, corrections, states."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal

import msgspec
import pytest

from tests.contract.benches import Bench, send
from tests.integration.fleets import admission, admit_one, commit, filled, outcome, take, take_one
from worker.domain.position import Position, correct_position
from worker.domain.position_key import position_key
from worker.domain.refusal import Code
from worker.domain.signal import Direction
from worker.domain.trading_asks import Ask, control_of
from worker.domain.trading_state import TradingState
from worker.ledger.items import CommitItem
from worker.ledger.layouts import DeadLetterTail
from worker.ledger.operator_calls import Corrected

KEY = position_key("x", "A/B")
POSITION = Position(
    position_id="p-1",
    exchange="x",
    symbol="A/B",
    direction=Direction.LONG,
    quantity=Decimal(2),
    entry_quantity=Decimal(2),
    entry_value=Decimal(100),
    opened_at=datetime(2026, 1, 1, tzinfo=UTC),
    signal_id="s-1",
)
CHANGED = ("positions", "PositionChanged", "e-changed", "{}")
AUDIT = ("system", "OperatorAction", "e-audit", "{}")


# --- elections and seats ---


async def test_there_is_one_keeper_at_a_time(bench: Bench) -> None:
    """Others hear its note; only its own resignation makes room."""
    w1, w2 = bench.ledger("w1"), bench.ledger("w2")
    mine = await w1.elect(60_000, "books agree")
    assert (mine.elected, mine.readiness_note) == (True, "books agree")
    theirs = await w2.elect(60_000, "unheard")
    assert (theirs.elected, theirs.readiness_note) == (False, "books agree")
    await w2.resign()
    assert (await w1.elect(60_000, "still")).elected
    await w1.resign()
    assert (await w2.elect(60_000)).elected


async def test_a_term_ends_by_itself(bench: Bench) -> None:
    """A keeper that is gone is succeeded."""
    await bench.ledger("w1").elect(20)
    await asyncio.sleep(0.05)
    assert (await bench.ledger("w2").elect(60_000)).elected


async def test_seats_at_a_key_are_counted(bench: Bench) -> None:
    """Whoever has one keeps it; whoever has none learns who holds the first."""
    w1, w2, w3 = (bench.ledger(name) for name in ("w1", "w2", "w3"))
    assert await w1.take_seat("x", "digest", 2, 60_000) == (0, "w1:x")
    assert await w2.take_seat("x", "digest", 2, 60_000) == (1, "w2:x")
    assert await w3.take_seat("x", "digest", 2, 60_000) == (-1, "w1:x")
    assert await w1.take_seat("x", "digest", 2, 60_000) == (0, "w1:x")
    assert await w1.take_seat("x", "digest", 2, 0) == (-1, "")
    assert await w3.take_seat("x", "digest", 2, 60_000) == (0, "w3:x")
    assert await w3.take_seat("x", "another", 1, 20) == (0, "w3:x")
    await asyncio.sleep(0.05)
    assert await w1.take_seat("x", "another", 1, 60_000) == (0, "w1:x")


# --- budgets ---


class Noted:
    """A worker's budgets that keep what the ledger tells."""

    def __init__(self, *names: str) -> None:
        self._names = names
        self.shares: dict[str, tuple[int, int]] = {}
        self.holds: dict[str, float] = {}

    def names(self) -> Sequence[str]:
        return self._names

    def learn_shares(self, shares: Mapping[str, tuple[int, int]]) -> None:
        self.shares = dict(shares)

    def learn_holds(self, holds: Mapping[str, float]) -> None:
        self.holds = dict(holds)


async def test_workers_of_one_key_divide_its_budget(bench: Bench) -> None:
    """Each heartbeat tells how many there are now, and which of them this one is."""
    budgets = {"w1": Noted("x", "x:a"), "w2": Noted("x", "x:a"), "w3": Noted("x", "x:b")}
    ledgers = {name: bench.ledger(name, budgets=one) for name, one in budgets.items()}
    for name in ("w1", "w2", "w3", "w1", "w2"):
        await ledgers[name].heartbeat([], b"{}")
    assert budgets["w1"].shares == {"x": (3, 0), "x:a": (2, 0)}
    assert budgets["w2"].shares == {"x": (3, 1), "x:a": (2, 1)}
    assert budgets["w3"].shares == {"x": (3, 2), "x:b": (1, 0)}


async def test_a_hold_reaches_every_worker(bench: Bench) -> None:
    """One that waits for signals is woken for it; others learn it with their next call."""
    waits, beats = Noted(), Noted("x")
    waiting = bench.ledger("w2", budgets=waits)
    tail = (await waiting.claim(1)).tail
    claim = asyncio.create_task(waiting.claim(1, after=tail, wait_ms=30_000))
    await asyncio.sleep(0.05)
    assert await bench.ledger("w1").throttle("x:a", 20_000) == 20_000
    await asyncio.wait_for(claim, 5)
    await bench.ledger("w3", budgets=beats).heartbeat([], b"{}")
    for one in (waits, beats):
        assert 15_000 < one.holds["x:a"] <= 20_000


# --- house-keeping ---


async def test_an_announcement_is_written_once(bench: Bench) -> None:
    """Repeated after a lost reply, it changes nothing."""
    for _ in range(2):
        await bench.ledger("w1").announce(("SystemError", "e-1", "{}"))
    (event,) = await bench.stream("system")
    assert (event[b"type"], event[b"subject"]) == (b"SystemError", b"")


async def test_nothing_unfinished_or_young_is_swept(bench: Bench) -> None:
    """What is acknowledged goes once its time is over, but for the last that was read."""
    ledger = bench.ledger("w1")
    await send(bench, *"abc")
    one, two, three = await take(ledger)
    await commit(ledger, outcome(one))
    assert (await ledger.sweep(60_000)).trimmed == 0
    await asyncio.sleep(0.01)
    await ledger.sweep(0)
    assert {two.entry_id, three.entry_id} <= {
        delivery.entry_id for delivery in await bench.ledger("w1").resync([])
    }
    assert len(await bench.stream("signals")) >= 2


async def test_the_oldest_dead_letters_go(bench: Bench) -> None:
    """So that no more than so many are kept."""
    ledger = bench.ledger("w1")
    await send(bench, *"abc")
    for number, one in enumerate(await take(ledger)):
        tail = DeadLetterTail("malformed", str(number), one.entry_id, "1", "w1", "")
        await commit(
            ledger, CommitItem(entry=one.entry_id, token=one.token, duplicate=True, dead=tail)
        )
    trimmed = await ledger.trim_letters(2, 10**9)
    assert (trimmed.letters, trimmed.more) == (1, 0)
    assert trimmed.bytes > 0
    assert [one[b"error"] for one in await bench.stream("dead")] == [b"1", b"2"]
    assert (await ledger.account()).dead_letters == 2


async def test_leaving_gives_up_the_office(bench: Bench) -> None:
    """And says how many entries are still owned."""
    await send(bench, "a")
    ledger = bench.ledger("w1")
    delivery = await take_one(ledger)
    await ledger.elect(60_000)
    assert await ledger.leave() == 1
    assert (await bench.ledger("w2").elect(60_000)).elected
    await commit(ledger, outcome(delivery))
    assert await ledger.leave() == 0


# --- people ---


async def test_who_asks_for_which_state_is_changed_by_comparison(bench: Bench) -> None:
    """Whoever read an older state changes nothing; repeated, it is one change."""
    trading = bench.trading()
    stored = await trading.read_control()
    assert stored.control.trading_state is TradingState.ACTIVE
    asks = (Ask(asker="me", state=TradingState.HALTED, reasons=("why",), at="now"),)
    control = control_of(asks, actor="me", reason="why", at="now")
    event = ("system", "TradingStateChanged", "e-1", "{}")
    for _ in range(2):
        assert await trading.change_control(stored.raw, asks, control, event)
    assert len(await bench.stream("system")) == 1
    assert not await trading.change_control(stored.raw, (), control, (*event[:2], "e-2", "{}"))
    stored = await trading.read_control()
    assert (stored.asks, stored.control) == (asks, control)
    await send(bench, "a")
    delivery = await take_one(bench.ledger("w1"))
    answer = await admit_one(bench.ledger("w1"), admission(delivery))
    assert answer is Code.TRADING_HALTED


async def test_heartbeats_can_be_read(bench: Bench) -> None:
    """Each with its time and what it says."""
    await bench.ledger("w1").heartbeat([], b'{"room": 3}')
    at_ms, beats = await bench.trading().read_heartbeats()
    assert beats["w1"].status == {"room": 3}
    assert 0 <= at_ms - beats["w1"].at_ms < 5_000


async def hold_position(bench: Bench) -> None:
    """A position of the book, through the front door."""
    await send(bench, "a")
    delivery = await take_one(bench.ledger("w1"))
    ledger, text = bench.ledger("w1"), msgspec.json.encode(POSITION).decode()
    await admit_one(ledger, admission(delivery, position_key=KEY, notional=100_000_000))
    await commit(ledger, filled(delivery, position_key=KEY, position=text))


async def test_the_book_lists_positions_and_what_is_being_changed(bench: Bench) -> None:
    """Busy keys are those a signal is opening or closing."""
    await hold_position(bench)
    await send(bench, "b")
    delivery = await take_one(bench.ledger("w1"))
    await admit_one(bench.ledger("w1"), admission(delivery, "s-2", position_key="x:Q"))
    book = await bench.ledger("w1").book()
    assert book.positions == {KEY: POSITION}
    assert book.busy == {"x:Q"}


@pytest.mark.parametrize("left", [Decimal(1), Decimal(0)])
async def test_a_correction_changes_book_exposure_and_profit(bench: Bench, left: Decimal) -> None:
    """At once, with its events, and with the answer to whoever asked."""
    await hold_position(bench)
    calls = bench.corrections()
    held = await calls.held(KEY)
    assert held is not None
    assert held.position == POSITION
    await bench.ask_for_correction("r-1", b"{}")
    assert await calls.requested_corrections() == {"r-1": b"{}"}
    after, realized = correct_position(POSITION, left, Decimal(45))

    async def correct(request: str, valid_until_ms: int = 0) -> Corrected:
        return await calls.correct(
            held,
            after,
            realized,
            quote="USDT",
            event=CHANGED,
            audit=AUDIT,
            request=request,
            answer=b"{}",
            valid_until_ms=valid_until_ms,
        )

    assert await correct("absent") is Corrected.WITHDRAWN
    assert await correct("r-1", valid_until_ms=1) is Corrected.LATE
    assert await correct("") is Corrected.DONE
    assert await correct("") is Corrected.DONE, "repeated"
    positions = (await bench.ledger("w1").book()).positions
    assert positions == ({KEY: after} if left else {})
    numbers = await bench.ledger("w1").account()
    assert numbers.exposure["USDT"] == left * 50
    assert numbers.realized["USDT"] == realized
    assert [one[b"id"] for one in await bench.stream("positions")] == [b"e-changed"]
    assert [one[b"subject"] for one in await bench.stream("system")] == [b"s-1"]
    await calls.refuse_correction("r-1", b"{}")
    assert await calls.requested_corrections() == {}


async def test_a_correction_waits_for_signals_and_needs_what_was_seen(bench: Bench) -> None:
    """A position that is being changed, or has changed, is left alone."""
    await hold_position(bench)
    calls = bench.corrections()
    held = await calls.held(KEY)
    assert held is not None
    after = msgspec.structs.replace(POSITION, quantity=Decimal(1))
    told = {"quote": "USDT", "event": CHANGED, "audit": AUDIT}
    await send(bench, "b")
    delivery = await take_one(bench.ledger("w1"))
    close = {"position_key": KEY, "action": "close", "notional": 0}
    await admit_one(bench.ledger("w1"), admission(delivery, "s-2", **close))
    busy = await calls.correct(held, after, Decimal(0), **told)  # type: ignore[arg-type]
    assert busy is Corrected.BUSY
    closed = filled(delivery, "s-2", position_key=KEY, position="", reservation="closing")
    await commit(bench.ledger("w1"), closed)
    gone = await calls.correct(held, after, Decimal(0), **told)  # type: ignore[arg-type]
    assert gone is Corrected.CHANGED
