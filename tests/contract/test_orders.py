"""Orders: what admission lets through and reserves, what a commit writes at once."""

from collections.abc import Sequence
from typing import Any

import pytest

from tests.contract.benches import Bench, send
from tests.integration.fleets import (
    admission,
    admit,
    admit_one,
    commit,
    commit_one,
    filled,
    outcome,
    take,
    take_one,
)
from worker.domain.refusal import Code
from worker.domain.trading_state import TradingState
from worker.ledger.items import CommitItem
from worker.ledger.layouts import DeadLetterTail
from worker.ledger.replies import Admitted, CommitStatus, Delivery, Duplicate, Fenced
from worker.ledger.stored import BookRow, Reservation

HELD = '{"held": 1}'
DEAD = DeadLetterTail("malformed", "no JSON", "1-1", "1", "w1", "2026-01-01T00:00:00Z")


async def held(bench: Bench, count: int) -> list[Delivery]:
    """Some entries of different groups, in one worker's hands."""
    await send(bench, *(f"group {n}" for n in range(count)))
    return await take(bench.ledger("w1"), count)


async def open_position(bench: Bench, signal: str = "s-0", **fields: Any) -> None:
    """One position in the book, through the front door."""
    (delivery,) = await held(bench, 1)
    await admit(bench.ledger("w1"), delivery, signal, notional=100)
    await commit(bench.ledger("w1"), filled(delivery, signal, **fields))


def closing(delivery: Delivery, signal: str, **fields: Any) -> Any:
    """An admission that closes the position of ``s-0``."""
    whole = {"action": "close", "position_key": "x:s-0", "notional": 0} | fields
    return admission(delivery, signal, **whole)


async def exposure(bench: Bench) -> dict[str, int]:
    """The account's exposure in millionths."""
    found = (await bench.ledger("w1").account()).exposure
    return {quote: int(amount * 1_000_000) for quote, amount in found.items()}


# --- what an admission writes ---


async def test_an_admission_writes_record_reservation_and_exposure(bench: Bench) -> None:
    """All in one step, before anything is sent."""
    (delivery,) = await held(bench, 1)
    answer = await admit(bench.ledger("w1"), delivery, notional=250)
    record = await bench.record("s-1")
    assert record is not None
    assert (record.entry, record.state) == (delivery.entry_id, "ADMITTED")
    assert (record.digest, record.worker) == ("digest of s-1", "w1")
    assert answer == Admitted(b"", 0.0, record.admitted_at)
    assert await bench.rows() == {"x:s-1": BookRow(b"", Reservation.OPENING, "s-1")}
    assert await exposure(bench) == {"USDT": 250}


async def test_a_refusal_writes_nothing_and_stands(bench: Bench) -> None:
    """Asked again by the same worker, the answer is the same; a successor asks anew."""
    (delivery,) = await held(bench, 1)
    await bench.set_state(TradingState.HALTED)
    for state in (TradingState.HALTED, TradingState.ACTIVE):
        await bench.set_state(state)
        assert await admit_one(bench.ledger("w1"), admission(delivery)) is Code.TRADING_HALTED
    assert await bench.record("s-1") is None
    assert await bench.rows() == {}
    await bench.expire(delivery.entry_id)
    await admit(bench.ledger("w2"), await take_one(bench.ledger("w2")))


async def test_asking_again_gives_the_same_answer_and_reserves_once(bench: Bench) -> None:
    """The first reply may have been lost; limits must not count the order twice."""
    (delivery,) = await held(bench, 1)
    item = admission(delivery, max_positions=1, max_exposure=100, max_rate=1)
    first = await admit_one(bench.ledger("w1"), item)
    assert isinstance(first, Admitted)
    assert await admit_one(bench.ledger("w1"), item) == first
    assert await exposure(bench) == {"USDT": 100}


async def test_a_close_brings_the_position_as_it_is(bench: Bench) -> None:
    """It is reserved for the close."""
    await open_position(bench, position=HELD)
    (delivery,) = await held(bench, 1)
    answer = await admit_one(bench.ledger("w1"), closing(delivery, "s-1"))
    assert isinstance(answer, Admitted)
    assert answer.position == HELD.encode()
    row = BookRow(HELD.encode(), Reservation.CLOSING, "s-1")
    assert await bench.rows() == {"x:s-0": row}


async def test_without_the_grant_nothing_is_admitted(bench: Bench) -> None:
    """Another worker, another token, or an entry that is nobody's."""
    (delivery,) = await held(bench, 1)
    for item in (admission(delivery, token=2), admission(delivery, entry="1-1")):
        assert await admit_one(bench.ledger("w1"), item) == Fenced()
    assert await admit_one(bench.ledger("w2"), admission(delivery)) == Fenced()
    assert await bench.rows() == {}


async def test_a_used_id_is_a_duplicate_or_a_conflict(bench: Bench) -> None:
    """By the content under it, also within one call."""
    one, two, three = await held(bench, 3)
    answers = await bench.ledger("w1").admit(
        [admission(one), admission(two), admission(three, digest="another")]
    )
    assert isinstance(answers[0], Admitted)
    assert answers[1:] == [Duplicate(conflict=False), Duplicate(conflict=True)]


# --- rules ---


@pytest.mark.parametrize("places", [1, 3])
async def test_positions_open_and_reserved_count_together(bench: Bench, places: int) -> None:
    """Filled and reserved ones alike."""
    await open_position(bench)
    deliveries = await held(bench, places)
    answers = [
        await admit_one(bench.ledger("w1"), admission(one, f"s-{n}", max_positions=places))
        for n, one in enumerate(deliveries, start=1)
    ]
    assert [isinstance(answer, Admitted) for answer in answers[:-1]] == [True] * (places - 1)
    assert answers[-1] is Code.MAX_POSITIONS


@pytest.mark.parametrize(
    ("notional", "limit", "passes"),
    [(100, 200, True), (101, 200, False), (10**9, 0, True), (1, 100, False), (1, 101, True)],
)
async def test_exposure_may_reach_its_limit_but_not_pass_it(
    bench: Bench, notional: int, limit: int, *, passes: bool
) -> None:
    """A limit of zero is none; another currency does not count."""
    await open_position(bench)
    one, other = await held(bench, 2)
    answer = await admit_one(
        bench.ledger("w1"), admission(one, notional=notional, max_exposure=limit)
    )
    assert isinstance(answer, Admitted) if passes else answer is Code.MAX_EXPOSURE
    await admit(bench.ledger("w1"), other, "s-2", max_exposure=100, quote="EUR")


@pytest.mark.parametrize(
    ("realized", "limit", "passes"),
    [(-99, 100, True), (-100, 100, False), (50, 100, True), (-(10**9), 0, True)],
)
async def test_todays_loss_stops_new_positions_at_its_limit(
    bench: Bench, realized: int, limit: int, *, passes: bool
) -> None:
    """Openings, never closes."""
    await open_position(bench, realized=realized)
    one, two = await held(bench, 2)
    answer = await admit_one(bench.ledger("w1"), admission(one, max_loss=limit))
    assert isinstance(answer, Admitted) if passes else answer is Code.DAILY_LOSS_LIMIT
    assert isinstance(
        await admit_one(bench.ledger("w1"), closing(two, "s-2", max_loss=limit)), Admitted
    )


async def test_openings_have_a_rate(bench: Bench) -> None:
    """One that an earlier rule refuses uses up none of it."""
    one, two, three, four = await held(bench, 4)
    few, many = {"max_positions": 1, "max_rate": 2}, {"max_positions": 9, "max_rate": 2}
    await admit(bench.ledger("w1"), one, "s-1", **few)
    refused = await admit_one(bench.ledger("w1"), admission(two, "s-2", **few))
    assert refused is Code.MAX_POSITIONS
    await admit(bench.ledger("w1"), three, "s-3", **many)
    refused = await admit_one(bench.ledger("w1"), admission(four, "s-4", **many))
    assert refused is Code.ORDER_RATE_LIMIT


async def test_a_position_has_one_change_at_a_time(bench: Bench) -> None:
    """A position key is busy while reserved, taken while held, and free after the close."""
    opening, second, *others = await held(bench, 9)
    ledger, tried = bench.ledger("w1"), iter(others)

    async def refused(action: str) -> Any:
        one = next(tried)
        return await admit_one(
            ledger, admission(one, one.entry_id, action=action, position_key="x:P")
        )

    assert await refused("close") is Code.NO_POSITION
    await admit(ledger, opening, "s-1", position_key="x:P")
    assert await refused("open") is Code.POSITION_BUSY
    assert await refused("close") is Code.POSITION_BUSY
    await commit(ledger, filled(opening, "s-1", position_key="x:P"))
    assert await refused("open") is Code.POSITION_EXISTS
    await admit(ledger, second, "s-2", action="close", position_key="x:P", notional=0)
    assert await refused("close") is Code.POSITION_BUSY
    closed = {"position_key": "x:P", "position": "", "reservation": "closing", "exposure": -100}
    await commit(ledger, filled(second, "s-2", **closed))
    assert await bench.rows() == {}
    assert await exposure(bench) == {"USDT": 0}


@pytest.mark.parametrize(
    ("state", "opens", "closes"),
    [
        (TradingState.ACTIVE, None, None),
        (TradingState.REDUCING, Code.TRADING_REDUCING, None),
        (TradingState.HALTED, Code.TRADING_HALTED, Code.TRADING_HALTED),
    ],
)
async def test_what_the_trading_state_lets_through(
    bench: Bench, state: TradingState, opens: Code | None, closes: Code | None
) -> None:
    """In the words of heartbeat and authorization too; what is only looked for always passes."""
    await open_position(bench)
    await bench.set_state(state)
    one, two, three = await held(bench, 3)
    ledger = bench.ledger("w1")
    answer = await admit_one(ledger, admission(one, "s-1"))
    assert answer is opens if opens else isinstance(answer, Admitted)
    answer = await admit_one(ledger, closing(two, "s-2"))
    assert answer is closes if closes else isinstance(answer, Admitted)
    look = admission(three, "s-3", only_look=True)
    assert isinstance(await admit_one(ledger, look), Admitted)
    assert (await ledger.heartbeat([], b"{}")).trading_state is state
    told = await ledger.authorize(three.entry_id, three.token, "x")
    assert told.trading_state is state


@pytest.mark.parametrize(
    ("strategy", "opener", "passes"),
    [
        ('"alpha"', "alpha", True),
        ('"al\\u0070ha"', "alpha", True),
        ('"alpha"', "beta", False),
        ("null", "", True),
        ("null", "beta", False),
        ('"alpha"', False, True),
    ],
)
async def test_a_close_may_be_the_openers_alone(
    bench: Bench, strategy: str, opener: str | bool, *, passes: bool
) -> None:
    """Judged in the step that reserves; what is only looked for is anybody's."""
    await open_position(bench, position=f'{{"strategy_id":{strategy}}}')
    (delivery,) = await held(bench, 1)
    answer = await admit_one(bench.ledger("w1"), closing(delivery, "s-1", opener=opener))
    assert isinstance(answer, Admitted) if passes else answer is Code.NOT_THE_OPENER
    looked = closing(delivery, "s-1", opener=opener, only_look=True)
    assert isinstance(await admit_one(bench.ledger("w1"), looked), Admitted)


async def test_what_is_only_looked_for_joins_a_position(bench: Bench) -> None:
    """No limit stops it, but it waits while the position is changed."""
    await open_position(bench)
    one, two = await held(bench, 2)
    look = {"position_key": "x:s-0", "only_look": True, "max_positions": 0}
    await admit(bench.ledger("w1"), one, "s-1", **look)
    busy = await admit_one(bench.ledger("w1"), admission(two, "s-2", **look))
    assert busy is Code.POSITION_BUSY


async def test_a_pause_comes_with_admission_and_authorization(bench: Bench) -> None:
    """It is of one exchange, and never shortened."""
    one, two = await held(bench, 2)
    ledger = bench.ledger("w1")
    assert await ledger.throttle("x", 60_000) == 60_000
    assert 59_000 < await ledger.throttle("x", 10) <= 60_000
    answer = await admit(ledger, one)
    assert 55_000 < answer.pause_ms <= 60_000
    assert (await admit(ledger, two, "s-2", exchange="y")).pause_ms == 0
    told = await ledger.authorize(one.entry_id, one.token, "x")
    assert told.held
    assert 55_000 < told.pause_ms <= 60_000
    assert (await ledger.authorize(one.entry_id, one.token, "y")).pause_ms == 0


async def test_only_what_was_admitted_is_authorized(bench: Bench) -> None:
    """Nothing is sent for an entry without a record."""
    (delivery,) = await held(bench, 1)
    told = await bench.ledger("w1").authorize(delivery.entry_id, delivery.token, "x")
    assert not told.held


# --- what a commit writes ---


async def test_a_commit_writes_everything_at_once(bench: Bench) -> None:
    """Events, book, exposure, profit, record and acknowledgement."""
    (delivery,) = await held(bench, 1)
    await admit(bench.ledger("w1"), delivery)
    events = (
        ("orders", "OrderPlaced", "e-1", '{"n": 1}'),
        ("orders", "OrderFilled", "e-2", '{"n": 2}'),
        ("positions", "PositionOpened", "e-3", '{"n": 3}'),
    )
    item = filled(
        delivery, events=events, exposure=-30, realized=-7, outcome="{}", traceparent="00-1-2-01"
    )
    assert (await commit(bench.ledger("w1"), item)).following is None
    placed, done = await bench.stream("orders")
    assert placed == {
        b"type": b"OrderPlaced",
        b"id": b"e-1",
        b"subject": b"s-1",
        b"data": b'{"n": 1}',
        b"traceparent": b"00-1-2-01",
    }
    assert done[b"id"] == b"e-2"
    assert [one[b"id"] for one in await bench.stream("positions")] == [b"e-3"]
    assert await bench.rows() == {"x:s-1": BookRow(HELD.encode())}
    numbers = await bench.ledger("w1").account()
    assert int(numbers.exposure["USDT"] * 10**6) == 70
    assert int(numbers.realized["USDT"] * 10**6) == -7
    assert (numbers.pending, numbers.leases, numbers.open_positions) == (0, 0, 1)
    record = await bench.record("s-1")
    assert record is not None
    assert (record.state, record.outcome, record.token) == ("FILLED", "{}", 1)
    assert record.ended_at > 0


async def test_committing_again_changes_nothing(bench: Bench) -> None:
    """The answer is the same; without a record a repetition is fenced."""
    one, two = await held(bench, 2)
    await admit(bench.ledger("w1"), one)
    item = filled(one, realized=5)
    first = await commit(bench.ledger("w1"), item)
    assert await commit_one(bench.ledger("w1"), item) == first
    assert len(await bench.stream("orders")) == 1
    gone = CommitItem(entry=two.entry_id, token=two.token, duplicate=True)
    await commit(bench.ledger("w1"), gone)
    assert (await commit_one(bench.ledger("w1"), gone)).status is CommitStatus.FENCED


async def test_an_admitted_entry_ends_with_its_reservation_only(bench: Bench) -> None:
    """Two tasks of one worker may hold one grant; the one that knows less is fenced."""
    (delivery,) = await held(bench, 1)
    await admit(bench.ledger("w1"), delivery)
    assert (await commit_one(bench.ledger("w1"), outcome(delivery))).status == "fenced"
    await commit(bench.ledger("w1"), filled(delivery))


async def test_a_used_id_has_one_outcome(bench: Bench) -> None:
    """The same content is a duplicate, other content a conflict that ends nothing."""
    one, two, three = await held(bench, 3)
    items = [outcome(one), outcome(two), outcome(three, digest="another")]
    answers = await bench.ledger("w1").commit(items)
    assert [answer.status for answer in answers] == ["committed", "duplicate", "conflict"]
    assert len(await bench.stream("orders")) == 1
    assert (await bench.ledger("w1").account()).pending == 1
    letter = CommitItem(
        entry=three.entry_id, token=three.token, signal="s-1", duplicate=True, dead=DEAD
    )
    await commit(bench.ledger("w1"), letter)
    (buried,) = await bench.stream("dead")
    assert list(buried)[:2] == [b"data", b"key"]
    assert list(buried)[2:] == [name.encode() for name in DeadLetterTail._fields]
    assert buried[b"error"] == b"no JSON"


async def test_an_order_whose_admission_is_unknown_joins_what_another_has_reserved(
    bench: Bench,
) -> None:
    """It traded, so its position and exposure count; the reservation stays the other's."""
    lost, other = await held(bench, 2)
    await admit(bench.ledger("w1"), other, "s-2", position_key="x:P")
    late = filled(lost, "s-1", position_key="x:P", position=HELD, reserved=40, exposure=2)
    await commit(bench.ledger("w1"), late)
    row = BookRow(HELD.encode(), Reservation.OPENING, "s-2")
    assert await bench.rows() == {"x:P": row}
    assert await exposure(bench) == {"USDT": 142}
    await commit(bench.ledger("w1"), filled(other, "s-2", position_key="x:P", position=None))
    assert await bench.rows() == {"x:P": BookRow(HELD.encode())}


async def test_output_streams_have_a_length(bench: Bench) -> None:
    """About so many events are kept."""
    ledger = bench.ledger("w1", output_length=10)
    (delivery,) = await held(bench, 1)
    events: Sequence[tuple[str, str, str, str]] = [
        ("orders", "OrderFailed", f"e-{n}", "{}") for n in range(500)
    ]
    await commit(ledger, outcome(delivery, events=tuple(events)))
    assert 10 <= len(await bench.stream("orders")) <= 200


async def test_a_record_is_kept_for_its_time(bench: Bench) -> None:
    """For the retention, or a minute longer than the signal lives."""
    ledger = bench.ledger("w1", retention_ms=1)
    one, two, again = await held(bench, 3)
    record = {"expires_ms": 1}
    await commit(ledger, outcome(one, "s-1", **record))
    far = 4_000_000_000_000
    await commit(ledger, outcome(two, "s-2", expires_ms=far))
    assert await bench.record("s-2") is not None
    done = await commit_one(ledger, outcome(again, "s-2"))
    assert done.status is CommitStatus.DUPLICATE
