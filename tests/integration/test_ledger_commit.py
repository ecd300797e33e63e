"""Committing on a real server: all in one step, once, and only by whoever holds the entry."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.integration.fleets import (
    SIGNALS,
    Fleet,
    admission,
    admit,
    admit_one,
    commit,
    commit_one,
    filled,
    fleet_on,
    outcome,
    take,
    take_one,
)
from worker.domain.refusal import Code
from worker.ledger.errors import LedgerError
from worker.ledger.items import VALUES_A_PART, CommitItem
from worker.ledger.layouts import DeadLetterTail
from worker.ledger.replies import CommitStatus, Delivery
from worker.runtime.embedded_server import EmbeddedServer

DAY_MS = 86_400_000
DEAD = DeadLetterTail(
    reason="malformed", error="data: no", entry_id="1-1", deliveries="1", worker="w1", at="now"
)


@pytest.fixture
async def fleet(server: EmbeddedServer) -> AsyncIterator[Fleet]:
    async with fleet_on(server.url) as made:
        yield made


async def held_one(fleet: Fleet, key: str = "a") -> Delivery:
    await fleet.send(key)
    return await take_one(fleet["w1"])


async def everything(fleet: Fleet) -> dict[bytes, Any]:
    """All keys and values of the server, to see that nothing changed."""
    kinds: dict[bytes, Any] = {
        b"string": fleet.redis.get,
        b"hash": fleet.redis.hgetall,
        b"list": lambda key: fleet.redis.lrange(key, 0, -1),
        b"zset": lambda key: fleet.redis.zrange(key, 0, -1, withscores=True),
        b"stream": fleet.redis.xrange,
    }
    keys = sorted(await fleet.redis.keys("*"))
    return {key: await kinds[await fleet.redis.type(key)](key) for key in keys}


# --- one step ---


async def test_a_commit_writes_everything_at_once(fleet: Fleet) -> None:
    """One script writes events, book, exposure, profit, record and acknowledgement."""
    delivery = await held_one(fleet)
    await admit(fleet["w1"], delivery)
    events = (
        ("orders", "OrderPlaced", "e-1", '{"n": 1}'),
        ("orders", "OrderFilled", "e-2", '{"n": 2}'),
        ("positions", "PositionOpened", "e-3", '{"n": 3}'),
    )
    done = await commit(
        fleet["w1"], filled(delivery, events=events, exposure=-30, realized=-7, outcome='{"o": 1}')
    )
    assert done.following is None
    orders = await fleet.stream("orders")
    assert orders[0] == {
        b"type": b"OrderPlaced",
        b"id": b"e-1",
        b"subject": b"s-1",
        b"data": b'{"n": 1}',
    }
    assert [one[b"id"] for one in orders] == [b"e-1", b"e-2"]
    assert [one[b"id"] for one in await fleet.stream("positions")] == [b"e-3"]
    assert await fleet.hash("book") == {"x:s-1": '{"held": 1}'}
    assert await fleet.reserved("opening") == {}
    assert await fleet.hash("totals") == {"USDT": "70"}
    assert await fleet.hash("realized") == {"USDT": "-7"}
    day = f"day:{await fleet.now_ms() // DAY_MS}"
    assert await fleet.hash(day) == {"USDT": "-7"}
    assert await fleet.redis.ttl(fleet.key(day)) > 172_800
    record = await fleet.record("s-1")
    assert record is not None
    assert (record.state, record.outcome, record.token) == ("FILLED", '{"o": 1}', 1)
    assert 0 < await fleet.redis.pttl(fleet.key("record:s-1")) <= 604_800_000
    assert await fleet.pending() == {}
    assert await fleet.leases() == {}
    assert await fleet.entry(delivery.entry_id) == {}
    assert await fleet.redis.hexists(fleet.key("entries"), ":a") == 0


async def test_committing_again_changes_nothing(fleet: Fleet) -> None:
    """A repeated commit answers the same and changes no key."""
    delivery = await held_one(fleet)
    await admit(fleet["w1"], delivery)
    item = filled(delivery, realized=5)
    first = await commit(fleet["w1"], item)
    before = await everything(fleet)
    assert await commit_one(fleet["w1"], item) == first
    assert await everything(fleet) == before


@pytest.mark.parametrize("kind", ["dead", "duplicate"])
async def test_a_repeated_end_without_a_record_writes_nothing_twice(
    fleet: Fleet, kind: str
) -> None:
    """A repeated commit that left no record is fenced and writes nothing."""
    delivery = await held_one(fleet)
    item = CommitItem(
        entry=delivery.entry_id,
        token=delivery.token,
        duplicate=True,
        dead=DEAD if kind == "dead" else None,
    )
    await commit(fleet["w1"], item)
    before = await everything(fleet)
    assert (await commit_one(fleet["w1"], item)).status is CommitStatus.FENCED
    assert await everything(fleet) == before


@pytest.mark.parametrize("change", [{"token": 2}, {"token": 0}, {"entry": "1-1"}])
async def test_a_fenced_commit_changes_nothing(fleet: Fleet, change: dict[str, Any]) -> None:
    """A fenced commit writes neither events nor book."""
    delivery = await held_one(fleet)
    await admit(fleet["w1"], delivery)
    before = await everything(fleet)
    for worker in ("w1", "w2"):
        item = filled(delivery, **(change if worker == "w1" else {}))
        assert (await commit_one(fleet[worker], item)).status is CommitStatus.FENCED
    assert await everything(fleet) == before


async def test_a_successors_commit_is_not_taken_for_ones_own(fleet: Fleet) -> None:
    """The old worker learns that it was fenced although the same signal has been committed."""
    delivery = await held_one(fleet)
    await admit(fleet["w1"], delivery)
    await fleet.expire(delivery.entry_id)
    await commit(fleet["w2"], filled(await take_one(fleet["w2"])))
    before = await everything(fleet)
    assert (await commit_one(fleet["w1"], filled(delivery))).status is CommitStatus.FENCED
    assert await everything(fleet) == before


async def test_a_released_entry_cannot_be_committed(fleet: Fleet) -> None:
    """A worker that gave its entry back is fenced."""
    delivery = await held_one(fleet)
    await fleet["w1"].release([(delivery.entry_id, delivery.token, 0, False)])
    assert (await commit_one(fleet["w1"], outcome(delivery))).status is CommitStatus.FENCED


# --- the book ---


@pytest.mark.parametrize(
    ("position", "book"), [(None, '{"before": 1}'), ("", None), ('{"after": 1}', '{"after": 1}')]
)
async def test_the_book_is_left_emptied_or_written(
    fleet: Fleet, position: str | None, book: str | None
) -> None:
    """A position of None leaves the book as it is, an empty text removes the row."""
    await fleet.redis.hset(fleet.key("book"), "x:P", '{"before": 1}')
    delivery = await held_one(fleet)
    await admit(fleet["w1"], delivery, action="close", position_key="x:P", notional=0)
    await commit(
        fleet["w1"],
        filled(delivery, reservation="closing", position_key="x:P", position=position),
    )
    assert await fleet.hash("book") == ({} if book is None else {"x:P": book})
    assert await fleet.reserved("closing") == {}


async def test_without_a_reservation_the_book_is_nobodys_business(fleet: Fleet) -> None:
    """The ending of a refused signal does not free what another signal has reserved."""
    first, second = [(await fleet.send(key)) for key in "ab"]
    a, b = await take(fleet["w1"])
    assert [a.entry_id, b.entry_id] == [first, second]
    await admit(fleet["w1"], a, "s-1", position_key="x:P")
    await commit(fleet["w1"], outcome(b, "s-2", position_key="x:P"))
    assert await fleet.reserved("opening") == {"x:P": "s-1"}


async def test_an_order_whose_admission_was_lost_joins_what_another_has_reserved(
    fleet: Fleet,
) -> None:
    """It traded, so its position counts; the reservation stays the other's until that one ends."""
    await fleet.send_all("ab")
    lost, other = await take(fleet["w1"])
    await admit(fleet["w1"], other, "s-2", position_key="x:P")
    for position in ('{"held": 1}', "", '{"held": 3}', None):
        await commit_one(fleet["w1"], filled(lost, "s-1", position_key="x:P", position=position))
        await fleet.send("c")
        lost = await take_one(fleet["w1"])
        assert await fleet.reserved("opening") == {"x:P": "s-2"}
        await fleet.redis.delete(fleet.key("record:s-1"))
    assert await fleet.hash("book") == {"x:P": 'opening s-2 {"held": 3}'}
    assert (await fleet["w1"].account()).open_positions == 1
    await commit(fleet["w1"], filled(other, "s-2", position_key="x:P", position=None))
    assert await fleet.hash("book") == {"x:P": '{"held": 3}'}


async def test_a_place_that_two_orders_of_one_batch_leave_empty_is_free(fleet: Fleet) -> None:
    """One was admitted, the other's admission was lost with a primary; neither traded."""
    await fleet.send_all("abc")
    other, lost, third = await take(fleet["w1"])
    await admit(fleet["w1"], other, "s-2", position_key="x:P")
    unfilled = {"state": "CANCELLED", "position_key": "x:P", "position": None}
    answers = await fleet["w1"].commit(
        [
            filled(other, "s-2", reserved=100, exposure=-100, **unfilled),
            filled(lost, "s-1", **unfilled),
        ]
    )
    assert [answer.status for answer in answers] == [CommitStatus.COMMITTED] * 2
    assert await fleet.hash("book") == {}
    assert (await fleet["w1"].book()).positions == {}
    await admit(fleet["w1"], third, "s-3", position_key="x:P")


async def test_a_place_somebody_changes_is_taken_even_without_a_position(fleet: Fleet) -> None:
    """An order whose admission was lost has closed what another was about to close."""
    await fleet.redis.hset(fleet.key("book"), "x:P", '{"held": 1}')
    await fleet.send_all("abc")
    lost, other, third = await take(fleet["w1"])
    close = {"position_key": "x:P", "action": "close", "notional": 0}
    await admit(fleet["w1"], other, "s-2", **close)
    closed = filled(lost, "s-1", reservation="closing", position_key="x:P", position="")
    await commit(fleet["w1"], closed)
    assert await fleet.hash("book") == {"x:P": "closing s-2"}
    refused = await admit_one(fleet["w1"], admission(third, "s-3", position_key="x:P"))
    assert refused is Code.POSITION_EXISTS


# --- ids used before ---


async def test_the_same_signal_on_two_entries_has_one_outcome(fleet: Fleet) -> None:
    """The second ending of a signal refused twice is a duplicate without an event."""
    await fleet.send_all("ab")
    one, two = await take(fleet["w1"])
    await commit(fleet["w1"], outcome(one))
    done = await commit_one(fleet["w1"], outcome(two))
    assert done.status is CommitStatus.DUPLICATE
    assert len(await fleet.stream("orders")) == 1
    assert await fleet.pending() == {}


async def test_the_same_signal_twice_in_one_call_has_one_outcome(fleet: Fleet) -> None:
    """Within one commit the second ending of a signal is a duplicate."""
    await fleet.send_all("abc")
    one, two, three = await take(fleet["w1"])
    items = [outcome(one), outcome(two), outcome(three, digest="another")]
    answers = await fleet["w1"].commit(items)
    assert [answer.status for answer in answers] == [
        CommitStatus.COMMITTED,
        CommitStatus.DUPLICATE,
        CommitStatus.CONFLICT,
    ]
    assert len(await fleet.stream("orders")) == 1


async def test_other_content_under_a_used_id_is_a_conflict(fleet: Fleet) -> None:
    """Nothing is written and nothing acknowledged until it comes again as a dead letter."""
    await fleet.send_all("ab")
    one, two = await take(fleet["w1"])
    await commit(fleet["w1"], outcome(one))
    before = await everything(fleet)
    other = outcome(two, digest="another")
    assert (await commit_one(fleet["w1"], other)).status is CommitStatus.CONFLICT
    assert await everything(fleet) == before
    letter = CommitItem(
        entry=two.entry_id, token=two.token, signal="s-1", duplicate=True, dead=DEAD
    )
    await commit(fleet["w1"], letter)
    assert len(await fleet.stream("dead")) == 1
    assert len(await fleet.stream("orders")) == 1
    record = await fleet.record("s-1")
    assert record is not None
    assert record.digest == "digest of s-1"


# --- dead letters ---


async def test_a_dead_letter_keeps_the_entry_byte_for_byte(fleet: Fleet) -> None:
    """Its own fields in their order, binary as they were, then why it is dead."""
    raw = {b"data": b"\xff\xfe\x00{", b"\x80key": b"", b"z": b"last"}
    await fleet.redis.xadd(SIGNALS, raw)
    delivery = await take_one(fleet["w1"])
    await commit(
        fleet["w1"],
        CommitItem(entry=delivery.entry_id, token=1, duplicate=True, dead=DEAD),
    )
    (letter,) = await fleet.stream("dead")
    assert list(letter.items())[:3] == list(raw.items())
    assert letter[b"reason"] == b"malformed"
    assert letter[b"error"] == b"data: no"
    assert await fleet.stream("orders") == []
    assert await fleet.pending() == {}


async def test_a_dead_letter_of_a_vanished_body_says_why_at_least(fleet: Fleet) -> None:
    """The stream was trimmed while the entry was in hand."""
    delivery = await held_one(fleet)
    await fleet.redis.xtrim(SIGNALS, maxlen=0, approximate=False)
    await commit(
        fleet["w1"], CommitItem(entry=delivery.entry_id, token=1, duplicate=True, dead=DEAD)
    )
    (letter,) = await fleet.stream("dead")
    assert letter[b"entry_id"] == b"1-1"


async def test_an_exhausted_signal_ends_with_event_and_dead_letter(fleet: Fleet) -> None:
    """An exhausted signal gets its event and its dead letter in one step."""
    delivery = await held_one(fleet)
    await commit(fleet["w1"], outcome(delivery, dead=DEAD))
    assert len(await fleet.stream("orders")) == len(await fleet.stream("dead")) == 1


# --- handing on ---


async def test_the_next_of_the_group_is_handed_over_with_its_record(fleet: Fleet) -> None:
    """One that an earlier worker admitted and lost brings what was written down then."""
    await fleet.send_all("aa")
    head = await take_one(fleet["w1"])
    following = (await commit(fleet["w1"], outcome(head))).following
    assert following is not None
    await admit(fleet["w1"], following, "s-2", plan="meant")
    await fleet.expire(following.entry_id)
    again = await take_one(fleet["w2"])
    assert again.record is not None
    assert again.record.plan == "meant"
    assert (again.token, again.deliveries) == (2, 2)


async def test_the_next_of_the_group_comes_with_what_is_known_of_lost_writes(fleet: Fleet) -> None:
    """A primary took over since the claim: whoever is handed an entry must look it up first."""
    await fleet.send_all("aa")
    head = await take_one(fleet["w1"])
    await fleet.redis.hset(fleet.key("epoch"), "primary", "f" * 40)
    before = await fleet.now_ms()
    following = (await commit(fleet["w1"], outcome(head))).following
    assert following is not None
    assert before <= following.data_loss_ms <= await fleet.now_ms()
    assert 14_000 < following.settled_mono_ms - following.received_mono_ms <= 15_000


async def test_a_following_entry_that_vanished_is_not_handed_over(fleet: Fleet) -> None:
    """The next claim finds out and goes on to the one after it."""
    head_id, second, third = await fleet.send_all("aaa")
    head = await take_one(fleet["w1"])
    assert head.entry_id == head_id
    await fleet.redis.xdel(SIGNALS, second)
    assert (await commit(fleet["w1"], outcome(head))).following is None
    claim = await fleet["w2"].claim(5)
    assert claim.vanished == 1
    assert [d.entry_id for d in claim.deliveries] == [third]


async def test_an_offered_entry_rings_the_bell(fleet: Fleet) -> None:
    """Waiting workers hear of it at once instead of by their own clock."""
    await fleet.send_all("aa")
    head = await take_one(fleet["w1"])
    tail = (await fleet["w2"].claim(1)).tail
    waiting = asyncio.create_task(fleet["w2"].claim(5, after=tail, wait_ms=30_000))
    await commit(fleet["w1"], outcome(head, take_next=False))
    assert len((await asyncio.wait_for(waiting, 5)).deliveries) == 1


# --- batches ---


async def test_a_batch_of_commits_is_judged_one_by_one(fleet: Fleet) -> None:
    """A batch may have committed, fenced and conflicting items; profit and exposure add up."""
    await fleet.send_all("abcd")
    a, b, c, d = await take(fleet["w1"])
    await admit(fleet["w1"], a, "s-1")
    await admit(fleet["w1"], b, "s-2")
    items = [
        filled(a, "s-1", realized=5, exposure=-10),
        filled(b, "s-2", realized=-2, exposure=+4),
        outcome(c, "s-3", token=9),
        outcome(d, "s-1", digest="another"),
    ]
    answers = await fleet["w1"].commit(items)
    assert [answer.status for answer in answers] == [
        CommitStatus.COMMITTED,
        CommitStatus.COMMITTED,
        CommitStatus.FENCED,
        CommitStatus.CONFLICT,
    ]
    assert await fleet.hash("totals") == {"USDT": "194"}
    assert await fleet.hash("realized") == {"USDT": "3"}
    assert set(await fleet.pending()) == {c.entry_id, d.entry_id}


async def test_each_of_a_batch_gets_its_own_record_and_events(fleet: Fleet) -> None:
    """Every item of a batch gets its own record and its own events, or none."""
    await fleet.send_all("abcd")
    deliveries = await take(fleet["w1"])
    counts = (2, 0, 3, 1)
    items = [
        outcome(
            delivery,
            f"s-{n}",
            outcome=f'{{"end": {n}}}',
            events=tuple(
                ("orders", f"Kind{k}", f"e-{n}-{k}", f'{{"event": "{n}-{k}"}}')
                for k in range(counts[n])
            ),
        )
        for n, delivery in enumerate(deliveries)
    ]
    answers = await fleet["w1"].commit(items)
    assert [answer.status for answer in answers] == [CommitStatus.COMMITTED] * 4
    written = [
        tuple(one[field].decode() for field in (b"subject", b"type", b"id", b"data"))
        for one in await fleet.stream("orders")
    ]
    assert written == [
        (f"s-{n}", f"Kind{k}", f"e-{n}-{k}", f'{{"event": "{n}-{k}"}}')
        for n, count in enumerate(counts)
        for k in range(count)
    ]
    for n, delivery in enumerate(deliveries):
        record = await fleet.record(f"s-{n}")
        assert record is not None
        assert (record.entry, record.outcome) == (delivery.entry_id, f'{{"end": {n}}}')


async def test_more_events_than_fit_into_one_part_are_all_written_in_order(fleet: Fleet) -> None:
    """An order with hundreds of fills has every event once and in order."""
    delivery = await held_one(fleet)
    count = VALUES_A_PART + 1
    events = tuple(("orders", "OrderPartiallyFilled", f"e-{n}", "{}") for n in range(count))
    await commit(fleet["w1"], outcome(delivery, events=events))
    written = [one[b"id"].decode() for one in await fleet.stream("orders")]
    assert written == [f"e-{n}" for n in range(count)]


async def test_output_streams_have_a_length(fleet: Fleet) -> None:
    """Output streams are trimmed to about the configured length."""
    ledger = fleet.join("w1", output_length=1_000)
    delivery = await held_one(fleet)
    events = tuple(("orders", "OrderFilled", f"e-{n}", "{}") for n in range(3_000))
    await commit(ledger, outcome(delivery, events=events))
    assert 1_000 <= await fleet.redis.xlen(fleet.key("orders")) <= 1_200


async def test_retention_is_the_records_only(fleet: Fleet) -> None:
    """A record goes after its time; until then the id cannot be used again."""
    ledger = fleet.join("w1", retention_ms=60_000)
    await fleet.send_all("ab")
    one, two = await take(ledger)
    await commit(ledger, outcome(one))
    assert 50_000 < await fleet.redis.pttl(fleet.key("record:s-1")) <= 60_000
    await fleet.redis.delete(fleet.key("record:s-1"))  # its time has come
    await commit(ledger, outcome(two))
    assert len(await fleet.stream("orders")) == 2


async def test_a_record_outlives_its_signal(fleet: Fleet) -> None:
    """A signal that may be traded for longer than records are kept must be known to have ended."""
    ledger = fleet.join("w1", retention_ms=60_000)
    await fleet.send_all("abc")
    one, two, three = await take(ledger)
    now_ms = await fleet.now_ms()
    await commit(ledger, outcome(one, "s-1", expires_ms=now_ms + 86_400_000))
    await commit(ledger, outcome(two, "s-2", expires_ms=now_ms - 86_400_000))
    await commit(ledger, outcome(three, "s-3", expires_ms=253_402_300_799_000))
    ttl = {n: await fleet.redis.pttl(fleet.key(f"record:s-{n}")) for n in (1, 2, 3)}
    assert 86_400_000 < ttl[1] <= 86_400_000 + 60_000
    assert 50_000 < ttl[2] <= 60_000
    assert ttl[3] > 7_000 * 365 * 86_400_000, "a year 9999 is a time like any other"


async def test_a_commit_without_the_reservation_cannot_end_an_admitted_entry(fleet: Fleet) -> None:
    """An item without a reservation is fenced, or the reservation would be left behind."""
    delivery = await held_one(fleet)
    await admit(fleet["w1"], delivery)
    for ignorant in (outcome(delivery), outcome(delivery, duplicate=True)):
        assert (await commit_one(fleet["w1"], ignorant)).status is CommitStatus.FENCED
    assert await fleet.reserved("opening") == {"x:s-1": "s-1"}
    await commit(fleet["w1"], filled(delivery))
    assert await fleet.reserved("opening") == {}


async def test_a_record_that_cannot_be_read_stops_a_commit_before_it_writes(fleet: Fleet) -> None:
    """Whatever stands where the record should: no event of any item in the batch is written."""
    await fleet.send_all("ab")
    first, second = await take(fleet["w1"])
    await fleet.redis.hset(fleet.key("record:s-2"), "state", "FILLED")
    items = [outcome(first, "s-1"), outcome(second, "s-2")]
    with pytest.raises(LedgerError, match="WRONGTYPE"):
        await fleet["w1"].commit(items)
    assert await fleet.stream("orders") == []
    assert set(await fleet.pending()) == {first.entry_id, second.entry_id}


async def test_a_follower_without_an_entry_is_not_handed_on(fleet: Fleet) -> None:
    """Where the group was lost and made again, the next entry may be unknown: none is handed on."""
    await fleet.send_all("aa")
    delivery = await take_one(fleet["w1"])
    (waiting,) = set(await fleet.pending()) - {delivery.entry_id}
    await fleet.redis.hdel(fleet.key("entries"), waiting)
    answer = await commit(fleet["w1"], outcome(delivery))
    assert answer.following is None
    assert await fleet.leases() == {}
