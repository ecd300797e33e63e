"""Claiming on a real server: room, groups, order, expired leases, and what has vanished."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from tests.integration.fleets import (
    GROUP,
    SIGNALS,
    Fleet,
    admit,
    commit,
    commit_one,
    filled,
    fleet_on,
    outcome,
    take,
    take_one,
    until,
)
from worker.ledger.errors import LedgerError, LedgerUnavailableError
from worker.ledger.replies import Claim, Delivery
from worker.runtime.clock import SystemClock
from worker.runtime.embedded_server import EmbeddedServer


@pytest.fixture
async def fleet(server: EmbeddedServer) -> AsyncIterator[Fleet]:
    async with fleet_on(server.url) as made:
        yield made


async def _nobody_is_blocked(fleet: Fleet) -> bool:
    return bool((await fleet.redis.info("clients"))["blocked_clients"] == 0)


async def blocked(fleet: Fleet, waiting: "asyncio.Task[Claim]") -> None:
    """Wait until the claim waits on the server."""

    async def waits() -> bool:
        return waiting.done() or not await _nobody_is_blocked(fleet)

    await until(waits, what="the claim waits")
    assert not waiting.done()


# --- new entries ---


async def test_a_claim_brings_entries_as_they_were_sent(fleet: Fleet) -> None:
    """Fields byte for byte, the first token, the first delivery, no record."""
    raw = {"data": b"\xff\x00{", "any": "thing"}
    entry_id = (await fleet.redis.xadd(SIGNALS, raw)).decode()
    delivery = await take_one(fleet["w1"])
    assert delivery.entry_id == entry_id
    assert delivery.fields == {b"data": b"\xff\x00{", b"any": b"thing"}
    assert (delivery.token, delivery.deliveries, delivery.record) == (1, 1, None)
    assert (delivery.overdue_ms, delivery.data_loss_ms) == (0, 0)
    lease = (await fleet.leases())[entry_id]
    assert 14_000 < lease - await fleet.now_ms() <= 15_000
    # Our own lease is reckoned from the question, others' from the answer.
    assert 14_000 < delivery.lease_mono_ms - delivery.received_mono_ms <= 15_000


@pytest.mark.parametrize(
    "raw",
    [
        {"data": ""},
        {"data": "admitted"},
        {"data": "{"},
        {"foo": "bar"},
        {"foo": "1", "data": "2"},
    ],
)
async def test_an_entry_is_what_its_fields_say(fleet: Fleet, raw: dict[str, str]) -> None:
    """With nothing but ``data``, without it, or with something beside it."""
    await fleet.redis.xadd(SIGNALS, raw)
    delivery = await take_one(fleet["w1"])
    assert delivery.fields == {name.encode(): value.encode() for name, value in raw.items()}


async def test_no_more_is_taken_than_there_is_room_for(fleet: Fleet) -> None:
    """``more`` says whether to come back at once; the tail says where to wait if not."""
    ids = await fleet.send_all("abcde")
    first = await fleet["w1"].claim(2)
    assert [d.entry_id for d in first.deliveries] == ids[:2]
    assert first.more
    rest = await fleet["w2"].claim(10)
    assert [d.entry_id for d in rest.deliveries] == ids[2:]
    assert not rest.more
    assert rest.tail.decode() == ids[-1]
    assert (await fleet["w1"].claim(10)).deliveries == []


async def test_a_claim_that_waits_takes_what_rings(fleet: Fleet) -> None:
    """In one call, also where the server has forgotten the script; without news it ends empty.

    Its lease counts from before the waiting: the reply may be long on its way.
    """
    tail = (await fleet["w1"].claim(5)).tail
    assert (await fleet["w1"].claim(5, after=tail, wait_ms=1)).deliveries == []
    await fleet.redis.script_flush()
    waiting = asyncio.create_task(fleet["w1"].claim(5, after=tail, wait_ms=30_000))
    await blocked(fleet, waiting)
    waits_mono_ms = SystemClock().monotonic_ms()
    entry_id = await fleet.send("a")
    claim = await asyncio.wait_for(waiting, 2)
    assert [delivery.entry_id for delivery in claim.deliveries] == [entry_id]
    assert claim.deliveries[0].lease_mono_ms < waits_mono_ms + 15_000


async def test_a_cancelled_waiting_claim_takes_nothing(fleet: Fleet) -> None:
    """Its connection is closed, and Redis drops the script that waits on it."""
    tail = (await fleet["w1"].claim(5)).tail
    waiting = asyncio.create_task(fleet["w1"].claim(5, after=tail, wait_ms=30_000))
    await blocked(fleet, waiting)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await until(lambda: _nobody_is_blocked(fleet), what="the connection is closed")
    await fleet.send("a")
    assert await fleet.leases() == {}
    assert len((await fleet["w1"].claim(5)).deliveries) == 1


async def test_a_ring_wakes_a_worker_once(fleet: Fleet) -> None:
    """The next waiting claim knows how far the bell has been heard."""
    await fleet.send_all("aa")
    head = await take_one(fleet["w1"])
    tail = (await fleet["w2"].claim(1)).tail
    await commit(fleet["w1"], outcome(head, take_next=False))  # rings
    heard = await asyncio.wait_for(fleet["w2"].claim(5, after=tail, wait_ms=30_000), 5)
    assert len(heard.deliveries) == 1
    waiting = asyncio.create_task(fleet["w2"].claim(5, after=tail, wait_ms=30_000))
    await blocked(fleet, waiting)
    waiting.cancel()


async def test_a_waiting_claim_whose_reply_is_lost_counts_as_repeated(fleet: Fleet) -> None:
    """It may have taken something, so that a resync is due."""
    ledger = fleet.join("w1", patience_s=0.0)
    tail = (await ledger.claim(5)).tail
    waiting = asyncio.create_task(ledger.claim(5, after=tail, wait_ms=30_000))
    await blocked(fleet, waiting)
    await fleet.redis.client_kill_filter(_type="normal", skipme=True)
    with pytest.raises(LedgerUnavailableError):
        await asyncio.wait_for(waiting, 2)
    assert ledger.lost_replies == 1


async def test_a_waiting_claim_counts_as_repeated_where_only_the_waiting_failed(
    fleet: Fleet,
) -> None:
    """The script behind it ran all the same: a resync finds what it took."""
    await fleet["w1"].claim(0)
    entry_id = await fleet.send("a")
    await fleet.redis.set(SIGNALS.replace("signals", "bell"), "no stream")
    with pytest.raises(LedgerError, match="WRONGTYPE"):
        await fleet["w1"].claim(5, after=b"0-0", wait_ms=3_000)
    assert fleet["w1"].lost_replies == 1
    assert [one.entry_id for one in await fleet["w1"].resync([])] == [entry_id]


async def test_an_entry_is_taken_once(fleet: Fleet) -> None:
    """Ten workers at the same moment, thirty entries: none twice, none left."""
    ids = await fleet.send_all(str(n) for n in range(30))
    taken = await asyncio.gather(*(take(fleet[f"w{n}"], 5) for n in range(10)))
    assert sorted(d.entry_id for one in taken for d in one) == sorted(ids)


# --- message groups ---


@pytest.mark.parametrize(
    ("entry", "group"),
    [
        ({"key": "mine"}, "mine"),
        ({}, "x:A/B"),
        ({"key": ""}, "x:A/B"),
        ({"data": '{"symbol": "A/B", "exchange": "x", "n": NaN}'}, "x:A/B"),
        ({"data": '{"m": {"symbol": "z"}, "exchange": "x", "symbol": "A/B"}'}, "x:A/B"),
        ({"data": '{"symb\\u006fl": "A/B", "exchange": "x", "m": {"symbol": "z"}}'}, "x:A/B"),
        ({"data": "no json"}, None),
        ({"data": '{"exchange": 5, "symbol": "A/B"}'}, None),
        ({"data": "[1, 2]"}, None),
        ({"data": "[" * 5_000}, None),
        ({"data": json.dumps({"exchange": "x", "symbol": "A/B", "m": "y" * 70_000})}, None),
        ({"key": "k" * 128}, "k" * 128),
    ],
)
async def test_the_group_is_the_key_or_exchange_and_symbol(
    fleet: Fleet, entry: dict[str, str], group: str | None
) -> None:
    """An entry that names neither is a group of its own, so that it cannot hold up others."""
    await fleet.send(**entry)
    delivery = await take_one(fleet["w1"])
    assert await fleet.group(delivery.entry_id) == (group or f"!{delivery.entry_id}")


async def test_a_long_key_is_shortened_but_stays_one_group(fleet: Fleet) -> None:
    """By its hash: keys in memory have a size."""
    await fleet.send("k" * 129)
    await fleet.send("k" * 129)
    delivery = await take_one(fleet["w1"])
    assert len(await fleet.group(delivery.entry_id)) == 40


async def test_a_key_that_looks_like_something_else_is_only_a_group(fleet: Fleet) -> None:
    """Like another entry's id, like the name of an entry's own group, like nothing at all."""
    first = await fleet.send("a")
    names = [first, f"!{first}", ":", f":{first}"]
    sent = [first, *await fleet.send_all(names)]
    claim = await fleet["w1"].claim(10)
    assert [d.entry_id for d in claim.deliveries] == sent
    assert [await fleet.group(entry_id) for entry_id in sent] == ["a", *names]
    for number, delivery in enumerate(claim.deliveries):
        await commit(fleet["w1"], outcome(delivery, f"s-{number}"))
    assert await fleet.redis.exists(fleet.key("entries")) == 0


async def test_only_the_head_of_a_group_runs(fleet: Fleet) -> None:
    """The others of the group are claimed but wait; another group is not held up."""
    first, _, _, other = await fleet.send_all("aaab")
    claim = await fleet["w1"].claim(10)
    assert [d.entry_id for d in claim.deliveries] == [first, other]
    assert set(await fleet.leases()) == {first, other}
    assert len(await fleet.pending()) == 4
    assert (await fleet["w2"].claim(10)).deliveries == []


async def test_the_next_of_a_group_comes_with_the_commit(fleet: Fleet) -> None:
    """Handed to the same worker with its payload; in stream order to the end."""
    ids = await fleet.send_all("aaa")
    delivery = await take_one(fleet["w1"])
    seen = [delivery.entry_id]
    for number in range(3):
        following = (await commit(fleet["w1"], outcome(delivery, f"s-{number}"))).following
        if following is None:
            break
        assert (following.token, following.deliveries) == (1, 1)
        assert following.fields[b"key"] == b"a"
        delivery = following
        seen.append(delivery.entry_id)
    assert seen == ids
    assert await fleet.pending() == {}


async def test_what_is_known_of_an_entry_stays_whole(fleet: Fleet) -> None:
    """Whatever changes first: the signal admitted under it, the entry behind it, both, neither."""
    worker = fleet["w1"]
    ids = [await fleet.send("a")]
    head = await take_one(worker)
    for batch in ("a", "aa", "a"):
        if len(ids) == 2:
            await admit(worker, head, "s-1")
        ids += await fleet.send_all(batch)
        assert await take(worker) == []
    known = [await fleet.entry(entry_id) for entry_id in ids]
    assert [one["following"] for one in known] == [*ids[1:], ""]
    assert [one["signal"] for one in known] == ["s-1", "", "", "", ""]
    assert [(one["worker"], one["token"]) for one in known] == [("w1", 1)] + 4 * [("", 0)]
    assert {one["owner"] for one in known} == {"w1"}
    assert [await fleet.group(entry_id) for entry_id in ids] == 5 * ["a"]


async def test_an_admitted_head_gets_a_follower(fleet: Fleet) -> None:
    """The entry behind it is noted beside its signal."""
    first = await fleet.send("a")
    await admit(fleet["w1"], await take_one(fleet["w1"]), "s-1")
    second = await fleet.send("a")
    assert await take(fleet["w1"]) == []
    known = await fleet.entry(first)
    assert (known["signal"], known["following"]) == ("s-1", second)


async def test_without_room_the_next_is_left_to_anybody(fleet: Fleet) -> None:
    """A draining worker takes nothing over; released entries come before new ones."""
    _, second, third = *await fleet.send_all("aa"), await fleet.send("b")
    (head,) = await take(fleet["w1"], 2)
    done = await commit(fleet["w1"], outcome(head, take_next=False))
    assert done.following is None
    assert [d.entry_id for d in await take(fleet["w2"], 1)] == [second]
    assert [d.entry_id for d in await take(fleet["w2"], 1)] == [third]


async def test_waiting_entries_have_a_ceiling(fleet: Fleet) -> None:
    """A hot group cannot fill memory, nor hold up others: its surplus comes to its end at once."""
    ids = await fleet.send_all("a" * 10)
    other = await fleet.send("b")
    ledger = fleet.join("w1", max_waiting=4)
    head = (await ledger.claim(5)).deliveries[0]
    rest = await take(ledger, 10)
    assert [one.entry_id for one in rest] == [*ids[5:], other]
    assert [one.is_surplus for one in rest] == [True] * 5 + [False]
    await commit(ledger, outcome(head))  # hands one on
    more = await fleet.send_all("aa")
    assert [(one.entry_id, one.is_surplus) for one in await take(ledger)] == [(more[1], True)]


# --- expired leases ---


async def test_an_expired_lease_is_taken_over_with_a_higher_token(fleet: Fleet) -> None:
    """The successor learns for how long it had been over; the old owner is fenced."""
    entry_id = await fleet.send("a")
    old = await take_one(fleet["w1"])
    assert await take(fleet["w2"]) == []
    await fleet.expire(entry_id, ago_ms=300)
    new = await take_one(fleet["w2"])
    assert (new.token, new.deliveries) == (2, 2)
    assert 300 <= new.overdue_ms < 5_000
    assert await fleet.pending() == {entry_id: "w2"}
    late = await commit_one(fleet["w1"], outcome(old))
    assert late.status == "fenced"
    assert await fleet.stream("orders") == []


async def test_a_takeover_brings_the_record(fleet: Fleet) -> None:
    """What was admitted before: intent and position as they were written down."""
    entry_id = await fleet.send("a")
    await admit(fleet["w1"], await take_one(fleet["w1"]), plan="what was meant")
    await fleet.expire(entry_id)
    delivery = await take_one(fleet["w2"])
    assert delivery.record is not None
    assert (delivery.record.signal, delivery.record.state) == ("s-1", "ADMITTED")
    assert delivery.record.plan == "what was meant"
    assert (delivery.record.position, delivery.record.unresolved_since) == ("", 0)


async def test_expired_leases_come_before_released_and_new_entries(fleet: Fleet) -> None:
    """The oldest trouble first."""
    first, second, third = await fleet.send_all("abc")
    a, b = await take(fleet["w1"], 2)
    await fleet["w1"].release([(b.entry_id, b.token, 0, False)])
    await fleet.expire(a.entry_id)
    order = [(await take(fleet["w2"], 1))[0].entry_id for _ in range(3)]
    assert order == [first, second, third]


# --- what has vanished ---


async def test_an_entry_whose_body_is_gone_is_let_go(fleet: Fleet) -> None:
    """It never traded, so nothing is lost but the entry; its group goes on."""
    first, second = await fleet.send_all("aa")
    await take(fleet["w1"])
    await fleet.redis.xdel(SIGNALS, first)
    await fleet.expire(first)
    claim = await fleet["w2"].claim(5)
    assert claim.vanished == 1
    assert [d.entry_id for d in claim.deliveries] == [second]
    assert await fleet.pending() == {second: "w2"}
    assert await fleet.entry(first) == {}


async def test_an_entry_whose_body_is_gone_but_that_may_have_traded_is_kept(fleet: Fleet) -> None:
    """The record has all that is needed to find out."""
    entry_id = await fleet.send("a")
    await admit(fleet["w1"], await take_one(fleet["w1"]))
    await fleet.redis.xtrim(SIGNALS, maxlen=0, approximate=False)
    await fleet.expire(entry_id)
    claim = await fleet["w2"].claim(5)
    assert claim.vanished == 0
    (delivery,) = claim.deliveries
    assert delivery.fields == {}
    assert delivery.record is not None
    await commit(fleet["w2"], filled(delivery))
    assert await fleet.leases() == {}


async def test_thousands_of_vanished_entries_do_not_stop_a_claim(fleet: Fleet) -> None:
    """A stream that was trimmed by hand, with a hot group as long as it may get."""
    pipe = fleet.redis.pipeline(transaction=False)
    for _ in range(9_000):
        pipe.xadd(SIGNALS, {"key": "hot"})
    await pipe.execute()
    (head,) = await take(fleet.join("w1", max_group_waiting=10_000, timeout_s=10.0), 9_000)
    await fleet.redis.xtrim(SIGNALS, maxlen=0, approximate=False)
    await fleet.expire(head.entry_id)
    last = await fleet.send("hot")
    claim = await fleet["w2"].claim(5)
    assert claim.vanished == 9_000
    assert [d.entry_id for d in [*claim.deliveries, *await take(fleet["w2"])]] == [last]
    assert await fleet.pending() == {last: "w2"}


# --- groups destroyed and created again ---


async def test_a_recreated_group_repeats_nothing_that_is_in_hand(fleet: Fleet) -> None:
    """Granted entries stay granted; finished ones are recognised by their records."""
    done, _, _ = ids = await fleet.send_all("aab")
    first, other = await take(fleet["w1"])
    second = (await commit(fleet["w1"], outcome(first))).following
    assert second is not None
    assert {done, second.entry_id, other.entry_id} == set(ids)
    await fleet.redis.xgroup_destroy(SIGNALS, GROUP)
    await fleet["w2"].ensure_group()
    assert await take(fleet["w2"]) == []  # the finished one waits its turn behind its group's head
    again = (await commit(fleet["w1"], outcome(second, "s-2"))).following
    assert again is not None
    assert again.entry_id == done
    assert (await commit_one(fleet["w1"], outcome(again))).status == "duplicate"
    await commit(fleet["w1"], outcome(other, "s-3"))
    assert await fleet.pending() == {}
    assert await fleet.leases() == {}
    assert len(await fleet.stream("orders")) == 3


# --- a primary that may lack writes ---


async def test_a_primary_seen_before_has_lost_nothing(fleet: Fleet) -> None:
    """The first claim on a fresh account does not cry wolf, nor does any later one."""
    assert (await fleet["w1"].claim(1)).deliveries == []
    await fleet.send("a")
    assert (await take_one(fleet["w1"])).data_loss_ms == 0


async def test_a_primary_not_seen_before_is_suspect_for_everybody(fleet: Fleet) -> None:
    """From the moment it was noticed; leases from before it run out a lease later."""
    await fleet["w1"].claim(1)
    await fleet.redis.hset(fleet.key("epoch"), "primary", "f" * 40)
    before = await fleet.now_ms()
    await fleet.send_all("ab")
    (first,) = await take(fleet["w1"], 1)
    assert before <= first.data_loss_ms <= await fleet.now_ms()
    assert 14_000 < first.settled_mono_ms - first.received_mono_ms <= 15_000
    (second,) = await take(fleet["w2"], 1)
    assert second.data_loss_ms == first.data_loss_ms
    assert second.settled_mono_ms - second.received_mono_ms <= 15_000


async def test_an_empty_primary_is_suspect_to_those_who_knew_another(fleet: Fleet) -> None:
    """Also where a worker that cannot know was there first."""
    await fleet["old"].claim(1)
    fleet["old"]._primary = b"e" * 40  # the server it knew has come back without its data
    await fleet.redis.flushall()
    await fleet["new"].ensure_group()
    await fleet.send_all("abc")
    assert (await take(fleet["new"], 1))[0].data_loss_ms == 0
    (warned,) = await take(fleet["old"], 1)
    assert warned.data_loss_ms > 0
    assert (await take(fleet["new"], 1))[0].data_loss_ms == warned.data_loss_ms


async def test_an_account_emptied_by_hand_has_lost_data_too(fleet: Fleet) -> None:
    """The same server, but what it knew is gone."""
    await fleet["w1"].claim(1)
    await fleet.redis.flushall()
    await fleet["w1"].ensure_group()
    await fleet.send("a")
    assert (await take_one(fleet["w1"])).data_loss_ms > 0


# --- lost replies ---


async def test_a_claim_whose_reply_was_lost_is_found_again(fleet: Fleet) -> None:
    """Claiming again takes other entries; what the lost reply held is in the resync."""
    ids = await fleet.send_all("abcd")
    lost = await take(fleet["w1"], 2)
    known = await take(fleet["w1"], 2)
    missed = await fleet["w1"].resync([d.entry_id for d in known])
    found = [one for one in missed if isinstance(one, Delivery)]
    assert [d.entry_id for d in found] == ids[:2]
    assert [(d.token, d.fields) for d in found] == [(d.token, d.fields) for d in lost]
    assert await fleet["w1"].resync(ids) == []
    assert await fleet["w2"].resync([]) == []


async def test_a_resync_brings_the_record_of_what_was_admitted_meanwhile(fleet: Fleet) -> None:
    """Its first delivery, yet not as new as a first delivery usually is."""
    await fleet.send("a")
    await admit(fleet["w1"], await take_one(fleet["w1"]), plan="what was meant")
    (found,) = await fleet["w1"].resync([])
    assert isinstance(found, Delivery)
    assert (found.token, found.deliveries) == (1, 1)
    assert found.record is not None
    assert found.record.plan == "what was meant"
