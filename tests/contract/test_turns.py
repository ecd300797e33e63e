"""Live orders and turns, and orders that rest at a simulated exchange."""

import asyncio

import msgspec
import pytest

from tests.contract.benches import Bench, send
from tests.integration.fleets import (
    admission,
    admit,
    admit_one,
    commit,
    commit_one,
    outcome,
    take_one,
)
from worker.domain.refusal import CancelCode, Code
from worker.domain.trading_state import TradingState
from worker.ledger.items import AdmitItem
from worker.ledger.ports import Ledger
from worker.ledger.replies import Admitted, Blocked, CommitStatus, Delivery, EndedFirst, Waits
from worker.ledger.resting import Asked, SeenPrice
from worker.ledger.resting_layouts import RestingRow
from worker.ledger.stored import (
    BookRow,
    EndedPart,
    OrderRow,
    Reservation,
    encode_order,
    encode_record,
)
from worker.ledger.turn_layouts import Rests
from worker.ledger.turns import ApplyItem, CancelMark, Turn
from worker.ledger.words import Status

KEY = "x:A"
HELD = '{"held": 1}'
LATER_MS = 600_000


def row_of(delivery: Delivery, signal: str = "s-1") -> OrderRow:
    """An order that rests for the position."""
    return OrderRow(
        client_order_id=f"c-{signal}",
        signal=signal,
        entry=delivery.entry_id,
        role="entry",
        position_key=KEY,
        state="ACTIVE",
        exchange_order_id=f"e-{signal}",
        request="{}",
        attempts=1,
        placed_ms=7,
    )


async def rest(
    bench: Bench,
    *,
    due_ms: int = 0,
    position: str | None = None,
    group: str = "a",
    signal: str = "s-1",
    key: str = KEY,
) -> tuple[Delivery, OrderRow]:
    """An entry whose order goes on without it."""
    ledger = bench.ledger("w1")
    await send(bench, group)
    delivery = await take_one(ledger)
    await admit(ledger, delivery, signal, position_key=key)
    row = msgspec.structs.replace(row_of(delivery, signal), position_key=key)
    rests = Rests(row.client_order_id, row.exchange_key, encode_order(row), due_ms)
    item = outcome(
        delivery,
        signal,
        reservation="opening",
        position_key=key,
        rests=rests,
        position=position,
        events=(),
    )
    await commit(ledger, item)
    return delivery, row


async def take_turn(ledger: Ledger) -> Turn:
    """The one turn there is."""
    (turn,) = (await ledger.claim(0, turns=4)).turns
    return turn


def finding(turn: Turn, row: OrderRow | None, **fields: object) -> ApplyItem:
    """What a turn has found out about the order."""
    item = ApplyItem(
        turn=turn.entry_id,
        token=turn.token,
        book=turn.book,
        position="",
        signal="s-1",
        client_order_id="c-s-1",
        exchange_key="x:e-s-1",
        row=row,
        quote="USDT",
    )
    return msgspec.structs.replace(item, **fields)


def over(turn: Turn, **fields: object) -> ApplyItem:
    """The order is over."""
    record = EndedPart(entry="1-1", signal="s-1", state="FILLED", digest="digest of s-1")
    whole = {"record": encode_record(record), "keep_ms": 60_000} | fields
    return finding(turn, None, **whole)


# --- an order that goes on without its entry ---


async def test_an_order_that_rests_keeps_its_position_and_frees_its_group(bench: Bench) -> None:
    """The entry is acknowledged; reservation, exposure and plan stay the order's."""
    await send(bench, "a", "a")
    ledger = bench.ledger("w1")
    delivery = await take_one(ledger)
    await admit(ledger, delivery, position_key=KEY, plan="meant")
    row = row_of(delivery)
    rests = Rests(row.client_order_id, row.exchange_key, encode_order(row), LATER_MS)
    item = outcome(delivery, reservation="opening", position_key=KEY, rests=rests, position=HELD)
    assert (await commit(ledger, item)).following is not None
    assert await bench.rows() == {KEY: BookRow(HELD.encode(), Reservation.RESTING, "s-1")}
    record = await bench.record("s-1")
    assert record is not None
    assert (record.state, record.plan, record.ended_at) == ("RESTING", "meant", 0)
    assert (await ledger.account()).exposure["USDT"] > 0
    assert (await ledger.claim(0, turns=4)).turns == []


async def test_an_order_that_was_not_admitted_cannot_rest(bench: Bench) -> None:
    """It is admitted anew."""
    await send(bench, "a")
    delivery = await take_one(bench.ledger("w1"))
    rests = Rests("c-1", "", encode_order(row_of(delivery)), 0)
    item = outcome(delivery, reservation="opening", position_key=KEY, rests=rests)
    assert (await commit_one(bench.ledger("w1"), item)).status is CommitStatus.FENCED
    assert await bench.rows() == {}


# --- turns ---


async def test_a_turn_brings_all_that_lives(bench: Bench) -> None:
    """Only when it is due, and to one worker; its token is higher than any before."""
    _, row = await rest(bench, position=HELD)
    turn = await take_turn(bench.ledger("w2"))
    assert (turn.entry_id, turn.position_key, turn.deliveries) == (f"@{KEY}", KEY, 1)
    assert turn.book == b"resting s-1 " + HELD.encode()
    (live,) = turn.orders
    assert (live.row, live.record.signal, live.cancel) == (row, "s-1", None)
    assert (await bench.ledger("w1").claim(0, turns=4)).turns == []
    found = await bench.ledger("w2").resync([])
    assert [(one.entry_id, one.token) for one in found] == [(turn.entry_id, turn.token)]
    held = [(turn.entry_id, turn.token)]
    assert (await bench.ledger("w2").heartbeat(held, b"{}")).lost == set()
    assert (await bench.ledger("w1").heartbeat(held, b"{}")).lost == {turn.entry_id}
    assert await bench.ledger("w2").release([(turn.entry_id, turn.token, 0, False)]) == 1
    assert (await take_turn(bench.ledger("w1"))).token > turn.token


async def test_a_turn_whose_holder_died_is_granted_again(bench: Bench) -> None:
    """Counted, and the first holder is fenced."""
    _, row = await rest(bench)
    first = await take_turn(bench.ledger("w1"))
    await bench.expire(first.entry_id)
    second = await take_turn(bench.ledger("w2"))
    assert (second.deliveries, second.overdue_ms > 0) == (2, True)
    assert second.token > first.token
    assert await bench.ledger("w1").apply(finding(first, row)) is Status.FENCED
    assert await bench.ledger("w2").apply(finding(second, row)) is Status.COMMITTED


async def test_what_a_turn_finds_out_is_written_at_once(bench: Bench) -> None:
    """Row, position, exposure, profit and events; asked again, it changes nothing."""
    _, row = await rest(bench)
    ledger = bench.ledger("w1")
    turn = await take_turn(ledger)
    filled = msgspec.structs.replace(row, filled="1")
    events = (
        ("orders", "OrderPartiallyFilled", "e-1", "{}"),
        ("positions", "PositionOpened", "e-2", "{}"),
    )
    item = finding(turn, filled, position=HELD, exposure=-30, realized=4, events=events)
    for _ in range(2):
        assert await ledger.apply(item) is Status.COMMITTED
    assert await bench.rows() == {KEY: BookRow(HELD.encode(), Reservation.RESTING, "s-1")}
    numbers = await ledger.account()
    assert [int(numbers.exposure["USDT"] * 10**6), int(numbers.realized["USDT"] * 10**6)] == [70, 4]
    assert [one[b"id"] for one in await bench.stream("orders")] == [b"e-1"]
    assert [one[b"subject"] for one in await bench.stream("positions")] == [b"s-1"]
    turn = await take_turn(ledger)
    assert turn.orders[0].row == filled


async def test_nothing_is_written_over_a_book_that_has_changed(bench: Bench) -> None:
    """The turn is told, and decides anew."""
    _, row = await rest(bench)
    turn = await take_turn(bench.ledger("w1"))
    stale = finding(turn, row, book=b"resting s-0", position=HELD)
    assert await bench.ledger("w1").apply(stale) is Status.CHANGED
    assert await bench.rows() == {KEY: BookRow(b"", Reservation.RESTING, "s-1")}


@pytest.mark.parametrize("position", ["", HELD])
async def test_the_end_of_an_order_gives_its_position_back(bench: Bench, position: str) -> None:
    """The signal's record has ended, nothing is due any more, and the id is used."""
    await rest(bench)
    ledger = bench.ledger("w1")
    assert await ledger.apply(over(await take_turn(ledger), position=position)) is Status.COMMITTED
    assert await bench.rows() == ({KEY: BookRow(HELD.encode())} if position else {})
    record = await bench.record("s-1")
    assert record is not None
    assert record.state == "FILLED"
    assert record.ended_at > 0
    assert (await ledger.claim(0, turns=4)).turns == []
    assert (await ledger.sweep(60_000)).stranded == 0


async def test_an_order_is_due_at_its_time_or_when_the_account_is_halted(bench: Bench) -> None:
    """What rests is to be cancelled then; a heartbeat sees to that."""
    await rest(bench, due_ms=LATER_MS)
    ledger = bench.ledger("w1")
    assert (await ledger.claim(0, turns=4)).turns == []
    await bench.set_state(TradingState.REDUCING)
    await ledger.heartbeat([], b"{}")
    assert (await take_turn(ledger)).position_key == KEY


async def rest_at(bench: Bench, number: int, key: str) -> OrderRow:
    """A position whose resting order is due now."""
    _, row = await rest(bench, group=key, signal=f"s-{number}", key=key)
    return row


async def halted_heartbeat(bench: Bench) -> None:
    """Makes every position due, those whose turn runs included, a millisecond later at least."""
    await asyncio.sleep(0.002)
    await bench.set_state(TradingState.HALTED)
    await bench.ledger("w1").heartbeat([], b"{}")
    await bench.set_state(TradingState.ACTIVE)


async def test_a_hint_for_a_turn_that_runs_takes_no_room_from_others(bench: Bench) -> None:
    """It is due before the other position, and cannot be granted yet."""
    await rest_at(bench, 1, "x:A")
    await take_turn(bench.ledger("w1"))
    await halted_heartbeat(bench)
    await rest_at(bench, 2, "x:B")
    (turn,) = (await bench.ledger("w2").claim(0, turns=1)).turns
    assert turn.position_key == "x:B"
    assert (await bench.ledger("w3").claim(0, turns=1)).turns == []


async def test_a_heartbeat_does_not_put_one_that_was_due_behind_another(bench: Bench) -> None:
    """The first position has had its turn; the second, due as long, comes before its next one."""
    rows = [await rest_at(bench, number, key) for number, key in ((1, "x:A"), (2, "x:B"))]
    (turn,) = (await bench.ledger("w1").claim(0, turns=1)).turns
    assert turn.position_key == "x:A"
    await halted_heartbeat(bench)
    await bench.ledger("w1").apply(finding(turn, rows[0], due_ms=LATER_MS))
    (turn,) = (await bench.ledger("w1").claim(0, turns=1)).turns
    assert turn.position_key == "x:B"


async def test_no_live_order_is_forgotten(bench: Bench) -> None:
    """A sweep makes due what neither the agenda nor a turn has, and counts it."""
    _, row = await rest(bench)
    ledger = bench.ledger("w1")
    turn = await take_turn(ledger)
    assert (await ledger.sweep(60_000)).stranded == 0
    await ledger.apply(finding(turn, row, due_ms=LATER_MS))
    assert (await ledger.sweep(60_000)).stranded == 0
    await bench.forget_due(KEY)
    assert (await ledger.sweep(60_000)).stranded == 1
    await take_turn(ledger)


# --- others that want the position ---


def close(delivery: Delivery, signal: str, **fields: object) -> AdmitItem:
    """An admission that closes the position."""
    whole = {"action": "close", "position_key": KEY, "notional": 0} | fields
    return admission(delivery, signal, **whole)


async def test_an_opening_is_blocked_by_what_rests(bench: Bench) -> None:
    """And told by which signal."""
    await rest(bench)
    await send(bench, "b")
    delivery = await take_one(bench.ledger("w1"))
    answer = await admit_one(bench.ledger("w1"), admission(delivery, "s-2", position_key=KEY))
    assert answer == Blocked("s-1")


@pytest.mark.parametrize("position", ["", HELD])
async def test_a_close_waits_until_what_rests_is_cancelled(bench: Bench, position: str) -> None:
    """It asks for that, and closes what the entry had traded; of nothing it is the end."""
    await rest(bench, due_ms=LATER_MS)
    ledger = bench.ledger("w1")
    await send(bench, "b")
    delivery = await take_one(ledger)
    for _ in range(2):
        assert await admit_one(ledger, close(delivery, "s-2")) == Waits()
    turn = await take_turn(ledger)
    assert turn.orders[0].cancel == CancelMark(CancelCode.CLOSED, "s-2")
    await ledger.apply(over(turn, position=position))
    answer = await admit_one(ledger, close(delivery, "s-2"))
    if position:
        assert isinstance(answer, Admitted)
        assert answer.position == HELD.encode()
    else:
        assert answer == EndedFirst("s-1")


async def test_what_may_have_been_sent_is_not_kept_waiting(bench: Bench) -> None:
    """It is busy: whoever looks for it comes again."""
    await rest(bench)
    await send(bench, "b")
    delivery = await take_one(bench.ledger("w1"))
    look = close(delivery, "s-2", only_look=True)
    assert await admit_one(bench.ledger("w1"), look) == Blocked("s-1")
    assert await admit_one(bench.ledger("w1"), look) is Code.POSITION_BUSY


# --- orders at a simulated exchange ---

MARKET = ("paper", "A/B")
LIMIT = RestingRow(request="{}", buys=True, conditions=((False, "90"),))


async def test_an_order_rests_until_a_price_meets_it(bench: Bench) -> None:
    """Each worker learns where orders rest; the price that mattered is kept."""
    resting = bench.resting()
    rested = await resting.ask(Asked.REST, MARKET, "c-1", row=LIMIT)
    assert rested.row is not None
    assert (rested.is_changed, rested.row.since) == (True, rested.now_ms)
    again = await resting.ask(Asked.REST, MARKET, "c-1", row=LIMIT)
    assert (again.row, again.is_changed) == (rested.row, False)
    learnt = await resting.send_prices(0, [(*MARKET, [SeenPrice(0, "91", "80")])])
    assert (learnt.joined, learnt.gone) == (("paper A/B",), ())
    for symbol in ("A/B", ""):
        assert (await resting.list("paper", symbol))[0] == [rested.row]
    assert (await resting.list("paper", "A/C"))[0] == []
    seen = [SeenPrice(0, "90", "80"), SeenPrice(0, "70", "70")]
    met = await resting.ask(Asked.LOOK, MARKET, "c-1", prices=seen)
    assert met.row is not None
    assert (met.row.conditions, [price for _, price in met.row.touches]) == ((), ["90"])
    learnt = await resting.send_prices(learnt.last, [(*MARKET, [])])
    assert (learnt.joined, learnt.gone) == ((), ("paper A/B",))
    assert (await resting.ask(Asked.LOOK, MARKET, "c-1")).row == met.row


async def test_conditions_come_one_after_the_other(bench: Bench) -> None:
    """A price from before the order counts for nothing; one may meet several conditions."""
    resting = bench.resting()
    stop = RestingRow(request="{}", buys=False, conditions=((False, "95"), (True, "97")))
    await resting.ask(Asked.REST, MARKET, "c-1", row=stop)
    early = await resting.ask(Asked.LOOK, MARKET, "c-1", prices=[SeenPrice(-60_000, "1", "1")])
    assert early.row is not None
    assert early.row.touches == ()
    both = [SeenPrice(0, "0", "98"), SeenPrice(0, "0", "94"), SeenPrice(0, "0", "96")]
    half = await resting.ask(Asked.LOOK, MARKET, "c-1", prices=both)
    assert half.row is not None
    assert half.row.conditions == ((True, "97"),)
    assert [price for _, price in half.row.touches] == ["94"]
    once = msgspec.structs.replace(stop, immediate=True)
    await resting.ask(Asked.REST, MARKET, "c-2", row=once)
    met = await resting.ask(Asked.LOOK, MARKET, "c-2", prices=[SeenPrice(0, "0", "94")])
    assert met.row is not None
    assert met.row.conditions == ()


async def test_an_open_order_is_cancelled_once(bench: Bench) -> None:
    """Whatever is over stays as it is; what nobody knows cannot be cancelled."""
    resting = bench.resting()
    assert (await resting.ask(Asked.CANCEL, MARKET, "c-1")).row is None
    part = msgspec.structs.replace(LIMIT, conditions=(), stays=True)
    await resting.ask(Asked.REST, MARKET, "c-1", row=part)
    cancelled = await resting.ask(Asked.CANCEL, MARKET, "c-1")
    assert cancelled.row is not None
    assert (cancelled.is_changed, cancelled.row.cancelled) == (True, cancelled.now_ms)
    again = await resting.ask(Asked.CANCEL, MARKET, "c-1")
    assert (again.is_changed, again.row) == (False, cancelled.row)
    assert (await resting.list("paper"))[0] == []
