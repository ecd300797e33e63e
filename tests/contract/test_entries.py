"""Entries: who gets which, in what order, under what right, and what becomes of a grant."""

import asyncio
import json
from typing import Any

import pytest

from tests.contract.benches import Bench, send
from tests.integration.fleets import admit, commit, commit_one, filled, outcome, take, take_one
from worker.ledger.errors import LedgerUnavailableError
from worker.ledger.limits import ENTRY_BYTES, ENTRY_FIELDS, REPLY_BYTES
from worker.ledger.replies import CommitStatus, Delivery

UNRESOLVED = ("OrderUnresolved", "e-unresolved", "{}")


async def run_out(bench: Bench, delivery: Delivery | None) -> list[str]:
    """Commit an entry and whatever is handed on; the ids in that order."""
    found = []
    while delivery is not None:
        found.append(delivery.entry_id)
        item = outcome(delivery, f"s-{delivery.entry_id}")
        delivery = (await commit(bench.ledger("w1"), item)).following
    return found


# --- claim ---


async def test_an_entry_comes_as_it_was_sent(bench: Bench) -> None:
    """Its fields byte for byte, a first delivery under token 1."""
    (entry_id,) = await send(bench, "a", extra=b"\xff\x00")
    delivery = await take_one(bench.ledger("w1"))
    assert delivery.entry_id == entry_id
    assert delivery.fields[b"extra"] == b"\xff\x00"
    assert list(delivery.fields) == [b"data", b"key", b"extra"]
    assert (delivery.token, delivery.deliveries, delivery.overdue_ms) == (1, 1, 0)
    assert delivery.record is None
    assert not delivery.is_surplus


async def test_no_more_is_taken_than_there_is_room_for(bench: Bench) -> None:
    """The claim says whether there is more, and after what to wait if not."""
    ids = await send(bench, *"abc")
    first = await bench.ledger("w1").claim(2)
    assert [one.entry_id for one in first.deliveries] == ids[:2]
    assert first.more
    rest = await bench.ledger("w2").claim(2)
    assert [one.entry_id for one in rest.deliveries] == ids[2:]
    assert (rest.more, rest.tail) == (False, ids[2].encode())


async def test_a_group_runs_in_the_order_of_the_stream(bench: Bench) -> None:
    """Only its head is granted; each next one comes with the end of the one before it."""
    ids = await send(bench, "a", "a", "b", "a")
    first, other = await take(bench.ledger("w1"))
    assert [first.entry_id, other.entry_id] == [ids[0], ids[2]]
    assert await take(bench.ledger("w2")) == []
    assert await run_out(bench, first) == [ids[0], ids[1], ids[3]]
    numbers = await bench.ledger("w1").account()
    assert (numbers.pending, numbers.leases, numbers.lag) == (1, 1, 0)


async def test_without_room_the_next_of_a_group_is_left_to_anybody(bench: Bench) -> None:
    """It is offered to the whole fleet."""
    ids = await send(bench, "a", "a")
    first = await take_one(bench.ledger("w1"))
    done = await commit(bench.ledger("w1"), outcome(first, take_next=False))
    assert done.following is None
    following = await take_one(bench.ledger("w2"))
    assert (following.entry_id, following.token, following.deliveries) == (ids[1], 1, 1)


@pytest.mark.parametrize("later", [{}, {"key": ""}])
async def test_exchange_and_symbol_are_the_group_where_there_is_no_key(
    bench: Bench, later: dict[str, str]
) -> None:
    """Entries that are no signals are groups of their own."""
    same = json.dumps({"symbol": "A/B", "exchange": "x"})
    other = json.dumps({"symbol": "A/C", "exchange": "x"})
    for data in (same, same, other, "no signal", "no signal", "[1]"):
        await bench.add({"data": data} | later)
    assert len(await take(bench.ledger("w1"))) == 5


async def test_a_claim_that_waits_takes_what_rings(bench: Bench) -> None:
    """A new signal wakes it, and so does one that is given back."""
    ledger = bench.ledger("w1")
    tail = (await ledger.claim(1)).tail
    waiting = asyncio.create_task(ledger.claim(1, after=tail, wait_ms=30_000))
    await asyncio.sleep(0.05)
    (entry_id,) = await send(bench, "a")
    (delivery,) = (await asyncio.wait_for(waiting, 5)).deliveries
    assert delivery.entry_id == entry_id
    waiting = asyncio.create_task(
        bench.ledger("w2").claim(1, after=entry_id.encode(), wait_ms=30_000)
    )
    await asyncio.sleep(0.05)
    await ledger.release([(entry_id, 1, 0, False)])
    (again,) = (await asyncio.wait_for(waiting, 5)).deliveries
    assert (again.entry_id, again.token, again.deliveries) == (entry_id, 2, 1)


async def test_hanging_up_ends_the_wait(bench: Bench) -> None:
    """The claim fails at once, and takes nothing."""
    ledger = bench.ledger("w1")
    tail = (await ledger.claim(1)).tail
    waiting = asyncio.create_task(ledger.claim(1, after=tail, wait_ms=30_000))
    await asyncio.sleep(0.05)
    ledger.hang_up()
    with pytest.raises(LedgerUnavailableError):
        await asyncio.wait_for(waiting, 5)
    await send(bench, "a")
    assert len(await take(bench.ledger("w2"))) == 1


async def test_the_wait_has_an_end(bench: Bench) -> None:
    """Without news the claim comes back empty."""
    ledger = bench.ledger("w1")
    tail = (await ledger.claim(1)).tail
    claim = await asyncio.wait_for(ledger.claim(1, after=tail, wait_ms=20), 5)
    assert claim.deliveries == []
    assert not claim.more


# --- lines ---

OPENING = {"exchange": "x", "symbol": "A/B"}


@pytest.mark.parametrize(
    ("data", "is_opening"),
    [
        (OPENING, True),
        (OPENING | {"action": "open"}, True),
        (OPENING | {"action": "sideways"}, True),
        (OPENING | {"metadata": {"action": "close"}}, True),
        (OPENING | {"action": "close", "metadata": {"action": "open"}}, False),
        (OPENING | {"action": "cancel"}, False),
        (OPENING | {"action": "protect"}, False),
        ('{"action" : "close"}', False),
        ('{"action": "cl\\u006fse"}', False),
        ('{"action": ["close"]}', True),
        ('{"action": null}', True),
        ('["action", "close"]', True),
        ('no json: "action": "close"', True),
        ("", True),
    ],
)
async def test_openings_that_a_group_has_no_room_for_are_granted_apart(
    bench: Bench, data: Any, *, is_opening: bool
) -> None:
    """Each kind has a bound of its own; what cannot be read counts as an opening."""
    ledger = bench.ledger("w1", max_group_waiting=1)
    text = data if isinstance(data, str) else json.dumps(data)
    ids = [await bench.add({"data": json.dumps(OPENING), "key": "a"}) for _ in range(2)]
    ids.append(await bench.add({"data": text, "key": "a"}))
    found = await take(ledger)
    surplus = [one.entry_id for one in found if one.is_surplus]
    assert surplus == ([ids[2]] if is_opening else [])
    assert found[0].entry_id == ids[0]


async def test_the_ceiling_is_for_openings_of_all_groups_together(bench: Bench) -> None:
    """What waits in one group leaves less room in others."""
    ledger = bench.ledger("w1", max_waiting=2)
    ids = await send(bench, "a", "a", "b", "b", "c", "c")
    found = await take(ledger)
    assert [one.entry_id for one in found if one.is_surplus] == ids[5:]
    numbers = await ledger.account()
    assert numbers.waiting_part == 1
    assert numbers.fullest_part == 0.01
    await commit(ledger, outcome(found[0]))
    assert (await ledger.account()).waiting_part == 0.5


async def test_the_surplus_stays_what_it_is(bench: Bench) -> None:
    """A successor is told too."""
    ledger = bench.ledger("w1", max_group_waiting=1)
    ids = await send(bench, *"aaa")
    await take(ledger)
    await bench.expire(ids[2])
    (again,) = await take(bench.ledger("w2"))
    assert (again.entry_id, again.is_surplus, again.token) == (ids[2], True, 2)


# --- large entries ---


async def test_an_entry_that_is_too_large_is_buried_at_once(bench: Bench) -> None:
    """Its beginning is kept; the claim says what became of it, and goes on."""
    await bench.add({"data": b"x" * (ENTRY_BYTES + 1), "key": "a"})
    await bench.add({str(n): "" for n in range(ENTRY_FIELDS + 1)})
    (small,) = await send(bench, "a")
    claim = await bench.ledger("w1").claim(10)
    assert [one.entry_id for one in claim.deliveries] == [small]
    assert [error for _, error in claim.oversize] == [
        "entry too large: 73737 bytes in 2 fields; it may have 73728 bytes in 64 fields",
        "entry too large: 120 bytes in 65 fields; it may have 73728 bytes in 64 fields",
    ]
    large, many = await bench.stream("dead")
    assert large[b"data"] == b"x" * 4_092
    assert large[b"cut_from_bytes"] == b"73737"
    assert (large[b"reason"], large[b"worker"]) == (b"malformed", b"w1")
    assert many[b"cut_from_bytes"] == b"120"
    assert (await bench.ledger("w1").account()).pending == 1


async def test_a_claim_brings_no_more_than_fits(bench: Bench) -> None:
    """The rest comes with the next one."""
    count = REPLY_BYTES // 65_536 + 20
    for number in range(count):
        await bench.add({"data": b"x" * 65_500, "key": f"g{number}"})
    first = await bench.ledger("w1").claim(count)
    assert first.more
    assert len(first.deliveries) < count
    rest = await bench.ledger("w1").claim(count)
    assert len(first.deliveries) + len(rest.deliveries) == count


# --- leases ---


async def test_an_expired_lease_is_taken_over_under_a_higher_token(bench: Bench) -> None:
    """The first holder is fenced from then on, and told by its heartbeat."""
    (entry_id,) = await send(bench, "a")
    mine = await take_one(bench.ledger("w1"))
    assert await take(bench.ledger("w2")) == []
    await bench.expire(entry_id)
    theirs = await take_one(bench.ledger("w2"))
    assert (theirs.token, theirs.deliveries) == (2, 2)
    assert theirs.overdue_ms > 0
    beat = await bench.ledger("w1").heartbeat([(entry_id, mine.token)], b"{}")
    assert beat.lost == {entry_id}
    assert (await commit_one(bench.ledger("w1"), outcome(mine))).status is CommitStatus.FENCED
    assert not (await bench.ledger("w1").authorize(entry_id, mine.token, "x")).held
    assert await run_out(bench, None) == []
    await commit(bench.ledger("w2"), outcome(theirs))


async def test_a_heartbeat_keeps_what_is_held(bench: Bench) -> None:
    """A renewed lease is not taken over."""
    (entry_id,) = await send(bench, "a")
    mine = await take_one(bench.ledger("w1"))
    await bench.expire(entry_id)
    beat = await bench.ledger("w1").heartbeat([(entry_id, mine.token)], b"{}")
    assert beat.lost == set()
    assert await take(bench.ledger("w2")) == []


async def test_expired_leases_come_first_then_released_then_new(bench: Bench) -> None:
    """The older work is, the sooner it is done."""
    a, b = await send(bench, *"ab")
    first, second = await take(bench.ledger("w1"))
    await bench.ledger("w1").release([(a, first.token, 0, False)])
    await bench.expire(b)
    (c,) = await send(bench, "c")
    assert [one.entry_id for one in await take(bench.ledger("w2"))] == [b, a, c]
    assert second.token == 1


async def test_a_takeover_brings_the_record(bench: Bench) -> None:
    """Whoever goes on knows what was meant to be done."""
    (entry_id,) = await send(bench, "a")
    await admit(bench.ledger("w1"), await take_one(bench.ledger("w1")), plan='{"n": 7}')
    await bench.expire(entry_id)
    again = await take_one(bench.ledger("w2"))
    assert again.record is not None
    assert (again.record.plan, again.record.state) == ('{"n": 7}', "ADMITTED")
    assert again.record == await bench.record("s-1")


# --- release ---


@pytest.mark.parametrize(("died", "deliveries"), [(False, 1), (True, 2)])
async def test_a_released_entry_can_be_taken_at_once(
    bench: Bench, *, died: bool, deliveries: int
) -> None:
    """A delivery counts only if it died."""
    (entry_id,) = await send(bench, "a")
    mine = await take_one(bench.ledger("w1"))
    entries = [(entry_id, mine.token, 0, died)]
    assert await bench.ledger("w2").release(entries) == 0
    assert await bench.ledger("w1").release(entries) == 1
    assert await bench.ledger("w1").release(entries) == 0
    again = await take_one(bench.ledger("w2"))
    assert (again.token, again.deliveries) == (2, deliveries)


async def test_an_entry_on_hold_waits_for_its_time(bench: Bench) -> None:
    """Nobody gets it before, and its group waits."""
    ids = await send(bench, "a", "a")
    mine = await take_one(bench.ledger("w1"))
    await bench.ledger("w1").release([(ids[0], mine.token, 60_000, False)])
    assert await take(bench.ledger("w2")) == []
    await bench.expire(ids[0])
    assert (await take_one(bench.ledger("w2"))).entry_id == ids[0]


# --- park, adopt, resync ---


async def park(bench: Bench, delivery: Delivery, retry_ms: int) -> bool:
    """Leave an order to the keeper."""
    entry_id, token = delivery.entry_id, delivery.token
    return await bench.ledger("w1").park(entry_id, token, "s-1", retry_ms, UNRESOLVED)


async def test_a_parked_order_is_nobodys_until_its_time(bench: Bench) -> None:
    """It has no lease and cannot be claimed; its group waits, and one event tells of it."""
    await send(bench, *"aa")
    delivery = await take_one(bench.ledger("w1"))
    await admit(bench.ledger("w1"), delivery)
    for _ in range(2):  # the second call as if the first reply had been lost
        assert await park(bench, delivery, 60_000)
    assert await take(bench.ledger("w2")) == []
    assert await bench.ledger("w2").adopt(8) == []
    assert [one[b"id"] for one in await bench.stream("system")] == [b"e-unresolved"]
    numbers = await bench.ledger("w1").account()
    assert (numbers.unresolved, numbers.leases, numbers.pending) == (1, 0, 2)


async def test_the_keeper_adopts_what_is_due(bench: Bench) -> None:
    """With its record, under a new token, not counted as a death, and only once at a time."""
    await send(bench, "a", "a")
    delivery = await take_one(bench.ledger("w1"))
    await admit(bench.ledger("w1"), delivery, plan="meant")
    await park(bench, delivery, 0)
    (adopted,) = await bench.ledger("w2").adopt(8)
    assert (adopted.token, adopted.deliveries) == (2, 1)
    assert adopted.record is not None
    assert adopted.record.plan == "meant"
    assert adopted.record.unresolved_since > 0
    assert await bench.ledger("w3").adopt(8) == []
    done = await commit(bench.ledger("w2"), filled(adopted))
    assert done.following is not None
    numbers = await bench.ledger("w2").account()
    assert (numbers.unresolved, numbers.leases, numbers.pending) == (0, 1, 1)


async def test_what_is_not_held_cannot_be_parked(bench: Bench) -> None:
    """The keeper gets nothing that another worker is working on."""
    (entry_id,) = await send(bench, "a")
    mine = await take_one(bench.ledger("w1"))
    await bench.expire(entry_id)
    await take_one(bench.ledger("w2"))
    assert not await park(bench, mine, 0)
    assert await bench.stream("system") == []


async def test_a_resync_finds_what_a_lost_reply_granted(bench: Bench) -> None:
    """Under the token it was granted with; what is known or another's is left out."""
    ids = await send(bench, *"abc")
    await bench.ledger("w1").claim(2)
    await bench.ledger("w2").claim(1)
    (found,) = await bench.ledger("w1").resync([ids[0]])
    assert (found.entry_id, found.token) == (ids[1], 1)
    assert await bench.ledger("w1").resync(ids) == []
