"""Sweeping on a real server: orphans are registered, nothing unread is trimmed, owners stay."""

from collections.abc import AsyncIterator

import pytest

from tests.integration.fleets import (
    GROUP,
    SIGNALS,
    Fleet,
    commit,
    fleet_on,
    outcome,
    take,
    take_one,
)
from worker.keeper.duties import sweep as duty_module
from worker.observe.metrics import Metrics
from worker.runtime.embedded_server import EmbeddedServer

#: An entry as old as this has been acknowledged for longer than any retention in these tests.
HOUR_MS = 3_600_000


@pytest.fixture
async def fleet(server: EmbeddedServer) -> AsyncIterator[Fleet]:
    async with fleet_on(server.url, lease_ms=1) as made:
        yield made


async def old_entries(fleet: Fleet, count: int, *, age_ms: int = HOUR_MS) -> list[str]:
    """Entries sent an hour ago, each a group of its own; enough of them to fill stream nodes."""
    then = await fleet.now_ms() - age_ms
    pipe = fleet.redis.pipeline(transaction=False)
    for n in range(count):
        pipe.xadd(SIGNALS, {"key": f"g{n}"}, id=f"{then}-{n}")
    return [entry.decode() for entry in await pipe.execute()]


async def finish_all(fleet: Fleet, worker: str = "w1") -> None:
    ledger = fleet.join(worker, lease_ms=15_000)
    for delivery in await take(ledger, 10_000):
        await commit(ledger, outcome(delivery, f"s-{delivery.entry_id}"))


# --- orphans ---


async def test_an_entry_nobody_registered_comes_home(fleet: Fleet) -> None:
    """Pending for a stranger, unknown to the ledger: registered, offered, claimable."""
    entry_id = await fleet.send("a")
    await fleet.redis.xreadgroup(GROUP, "stranger", {SIGNALS: ">"})
    await fleet.redis.xclaim(SIGNALS, GROUP, "stranger", 0, [entry_id], idle=60_000)
    assert await take(fleet["w1"]) == []
    assert (await fleet["w1"].sweep(HOUR_MS))[0] == 1
    assert (await fleet["w1"].sweep(HOUR_MS))[0] == 0
    delivery = await take_one(fleet.join("w2", lease_ms=15_000))
    assert (delivery.entry_id, delivery.token, delivery.deliveries) == (entry_id, 1, 1)
    assert await fleet.group(entry_id) == "a"
    assert await fleet.pending() == {entry_id: "w2"}


async def test_orphans_of_one_group_keep_their_order(fleet: Fleet) -> None:
    """Only the head is offered; the next follows its commit."""
    ids = await fleet.send_all("aaa")
    await fleet.redis.xreadgroup(GROUP, "stranger", {SIGNALS: ">"})
    await fleet.redis.xclaim(SIGNALS, GROUP, "stranger", 0, ids, idle=60_000)
    assert (await fleet["w1"].sweep(HOUR_MS))[0] == 3
    worker = fleet.join("w2", lease_ms=15_000)
    delivery = await take_one(worker)
    seen = [delivery.entry_id]
    for number in range(2):
        following = (await commit(worker, outcome(delivery, f"s-{number}"))).following
        assert following is not None
        delivery = following
        seen.append(delivery.entry_id)
    assert seen == ids


async def test_orphans_of_several_strangers_keep_their_owners(fleet: Fleet) -> None:
    """Until somebody takes them: whose they are decides what a taker has to claim."""
    ids = await fleet.send_all("abab")
    for n, entry_id in enumerate(ids):
        stranger = f"stranger-{n % 3}"
        await fleet.redis.xreadgroup(GROUP, stranger, {SIGNALS: ">"}, count=1)
        await fleet.redis.xclaim(SIGNALS, GROUP, stranger, 0, [entry_id], idle=60_000)
    assert (await fleet["w1"].sweep(HOUR_MS))[0] == 4
    owners = [(await fleet.entry(entry_id))["owner"] for entry_id in ids]
    assert owners == ["stranger-0", "stranger-1", "stranger-2", "stranger-0"]
    heads = await take(fleet.join("w2", lease_ms=15_000))
    assert [one.entry_id for one in heads] == ids[:2]


async def test_an_orphan_without_a_body_is_acknowledged(fleet: Fleet) -> None:
    """A pending entry whose body is gone is acknowledged."""
    entry_id = await fleet.send("a")
    await fleet.redis.xreadgroup(GROUP, "stranger", {SIGNALS: ">"})
    await fleet.redis.xclaim(SIGNALS, GROUP, "stranger", 0, [entry_id], idle=60_000)
    await fleet.redis.xdel(SIGNALS, entry_id)
    assert (await fleet["w1"].sweep(HOUR_MS))[0] == 1
    assert await fleet.pending() == {}


async def test_orphans_behind_many_pending_entries_come_home_too(fleet: Fleet) -> None:
    """A sweep looks at so many and says where to go on; in the end it says that nothing is left."""
    mine = await fleet.send_all(["a"] * 25)
    await take(fleet["w1"], 100)
    await fleet.redis.xclaim(SIGNALS, GROUP, "w1", 0, mine, idle=60_000, justid=True)
    lost = await fleet.send_all("bcbcbcb")
    await fleet.redis.xreadgroup(GROUP, "stranger", {SIGNALS: ">"})
    await fleet.redis.xclaim(SIGNALS, GROUP, "stranger", 0, lost, idle=60_000)
    found, start, calls = 0, b"-", 0
    while start:
        swept = await fleet["w1"].sweep(HOUR_MS, start, 10)
        found, start, calls = found + swept.orphans, swept.next, calls + 1
    assert (found, calls) == (7, 4)
    assert [await fleet.group(entry_id) for entry_id in lost] == list("bcbcbcb")
    heads = await take(fleet.join("w2", lease_ms=15_000))
    assert [one.entry_id for one in heads] == [mine[0], *lost[:2]]


async def test_a_run_of_the_duty_looks_at_every_pending_entry(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many there are; where one run stops the next goes on, at the end from the start."""
    monkeypatch.setattr(duty_module, "MAX_CALLS", 2)
    lost = await fleet.send_all("abcdefg" * 360)
    await fleet.redis.xreadgroup(GROUP, "stranger", {SIGNALS: ">"})
    for n in range(0, len(lost), 500):
        await fleet.redis.xclaim(SIGNALS, GROUP, "stranger", 0, lost[n : n + 500], idle=60_000)
    duty = duty_module.Sweep(fleet["w1"], HOUR_MS, Metrics(version="0", mode="paper"))
    known = []
    for _ in range(2):
        await duty.run()
        known.append(sum(b"-" in name for name in await fleet.redis.hkeys(fleet.key("entries"))))
    assert known == [2_000, 2_520]
    assert duty._start == b"-"


async def test_what_is_in_hand_is_no_orphan(fleet: Fleet) -> None:
    """An entry under a lease is never registered anew, however long it takes."""
    await fleet.send_all("aab")
    ledger = fleet.join("w1", lease_ms=15_000)
    deliveries = await take(ledger)
    ids = list(await fleet.pending())
    await fleet.redis.xclaim(SIGNALS, GROUP, "w1", 0, ids, idle=HOUR_MS, justid=True)
    before = [await fleet.entry(entry_id) for entry_id in ids]
    assert (await fleet["w9"].sweep(HOUR_MS))[0] == 0
    assert [await fleet.entry(entry_id) for entry_id in ids] == before
    assert len(deliveries) == 2


# --- trimming ---


async def test_finished_entries_are_trimmed_after_their_retention(fleet: Fleet) -> None:
    """The last one read stays, as a floor; young ones stay for their time."""
    old = await old_entries(fleet, 500)
    await fleet.send("young")
    await finish_all(fleet)
    trimmed = (await fleet["w1"].sweep(HOUR_MS // 2))[1]
    left = [entry.decode() for entry, _ in await fleet.redis.xrange(SIGNALS)]
    assert trimmed > 300  # whole nodes of the stream
    assert trimmed == 501 - len(left)
    assert left[:-1] == old[trimmed:]


async def test_nothing_is_trimmed_within_its_retention(fleet: Fleet) -> None:
    """A finished signal stays on the stream until its retention is over."""
    await old_entries(fleet, 500)
    await finish_all(fleet)
    assert (await fleet["w1"].sweep(2 * HOUR_MS))[1] == 0


@pytest.mark.parametrize("unfinished", [0, 250, 499])
async def test_nothing_is_trimmed_that_is_not_acknowledged(fleet: Fleet, unfinished: int) -> None:
    """One entry in hand holds everything after it; retention does not matter."""
    old = await old_entries(fleet, 500)
    ledger = fleet.join("w1", lease_ms=15_000)
    for delivery in await take(ledger, 10_000):
        if delivery.entry_id != old[unfinished]:
            await commit(ledger, outcome(delivery, f"s-{delivery.entry_id}"))
    await fleet["w1"].sweep(0)
    left = [entry.decode() for entry, _ in await fleet.redis.xrange(SIGNALS)]
    assert set(old[unfinished:]) <= set(left)
    assert await fleet.pending() == {old[unfinished]: "w1"}


async def test_nothing_is_trimmed_that_was_never_read(fleet: Fleet) -> None:
    """Undelivered entries are as safe as pending ones, however old."""
    old = await old_entries(fleet, 500)
    ledger = fleet.join("w1", lease_ms=15_000)
    for delivery in await take(ledger, 200):
        await commit(ledger, outcome(delivery, f"s-{delivery.entry_id}"))
    await fleet["w1"].sweep(0)
    left = [entry.decode() for entry, _ in await fleet.redis.xrange(SIGNALS)]
    assert set(old[200:]) <= set(left)
    assert [d.entry_id for d in await take(ledger, 1)] == [old[200]]


@pytest.mark.parametrize("read", [0, 100])
async def test_another_groups_entries_are_respected(fleet: Fleet, read: int) -> None:
    """Entries that another consumer group has not acknowledged are not trimmed."""
    old = await old_entries(fleet, 500)
    await fleet.redis.xgroup_create(SIGNALS, "archive", "0")
    if read:
        await fleet.redis.xreadgroup("archive", "a", {SIGNALS: ">"}, count=read)
    await finish_all(fleet)
    await fleet["w1"].sweep(0)
    left = [entry.decode() for entry, _ in await fleet.redis.xrange(SIGNALS)]
    assert left == old  # what it has read is pending there


# --- ids that tell no time ---

LARGEST = "18446744073709551615-18446744073709551615"


async def absurd_entries(fleet: Fleet, count: int, first: str) -> list[str]:
    """An entry under an id ahead of the clock, and more behind it."""
    pipe = fleet.redis.pipeline(transaction=False)
    pipe.xadd(SIGNALS, {"key": "h0"}, id=first)
    for n in range(1, count):
        pipe.xadd(SIGNALS, {"key": f"h{n}"})
    return [entry.decode() for entry in await pipe.execute()]


@pytest.mark.parametrize("first", ["18446744073709551615-1", "99999999999999-0"])
async def test_ids_ahead_of_the_clock_do_not_stop_the_trimming(fleet: Fleet, first: str) -> None:
    """What all groups have acknowledged goes, once no younger entry before it has to stay."""
    await old_entries(fleet, 100)
    await absurd_entries(fleet, 500, first)
    await finish_all(fleet)
    await fleet["w1"].sweep(HOUR_MS // 2)
    assert await fleet.redis.xlen(SIGNALS) <= 100  # whole nodes of the stream
    assert await fleet.send("more")


async def test_what_is_young_is_kept_before_ids_ahead_of_the_clock(fleet: Fleet) -> None:
    """The retention holds for every entry whose age can be told."""
    young = await fleet.send("young")
    await absurd_entries(fleet, 500, "99999999999999-0")
    await finish_all(fleet)
    assert (await fleet["w1"].sweep(HOUR_MS))[1] == 0
    assert (await fleet.redis.xrange(SIGNALS, count=1))[0][0].decode() == young


@pytest.mark.parametrize("read", [0, 300])
async def test_nothing_unread_or_in_hand_is_trimmed_whatever_its_id(
    fleet: Fleet, read: int
) -> None:
    """One entry in hand, or those that nobody has read, hold everything after them."""
    ids = await absurd_entries(fleet, 500, "18446744073709551615-18446744073709550000")
    ledger = fleet.join("w1", lease_ms=15_000)
    for delivery in await take(ledger, read):
        if delivery.entry_id != ids[250]:
            await commit(ledger, outcome(delivery, f"s-{delivery.entry_id}"))
    await fleet["w1"].sweep(0)
    left = {entry.decode() for entry, _ in await fleet.redis.xrange(SIGNALS)}
    assert set(ids[250 if read else 0 :]) <= left
    assert (len(left) < 500) == bool(read)


async def test_ids_that_differ_in_their_last_digits_are_told_apart(fleet: Fleet) -> None:
    """A script's numbers hold 53 bits; what the slower of two groups has not read stays."""
    ids = await absurd_entries(fleet, 500, "18446744073709551615-18446744073709550000")
    await fleet.redis.xgroup_create(SIGNALS, "warehouse", ids[100])
    await finish_all(fleet)
    await fleet["w1"].sweep(0)
    left = [entry.decode() for entry, _ in await fleet.redis.xrange(SIGNALS)]
    assert set(ids[101:]) <= set(left)


async def test_a_last_delivered_id_ahead_of_the_clock_changes_nothing(fleet: Fleet) -> None:
    """Everything was read up to the largest id, and what is old and acknowledged goes."""
    await old_entries(fleet, 500)
    await fleet.redis.xadd(SIGNALS, {"key": "last"}, id=LARGEST)
    await finish_all(fleet)
    assert (await fleet["w1"].sweep(HOUR_MS // 2))[1] >= 400


# --- consumers ---


async def test_the_dead_who_own_nothing_are_removed(fleet: Fleet) -> None:
    """Silent for a minute and without entries; announcements of the silent go too."""
    await fleet.redis.xgroup_createconsumer(SIGNALS, GROUP, "ghost")
    now = await fleet.now_ms()
    await fleet.redis.hset(fleet.key("workers"), "ghost", f"{now - 60_001} {{}}")
    await fleet.redis.hset(fleet.key("workers"), "w1", f"{now - 50_000} {{}}")
    await fleet["w1"].sweep(HOUR_MS)
    assert set(await fleet.hash("workers")) == {"w1"}


async def test_the_dead_who_own_entries_are_kept(fleet: Fleet) -> None:
    """Their entries would be lost to the group with them."""
    entry_id = await fleet.send("a")
    await take(fleet.join("dead", lease_ms=15_000))
    removed = (await fleet["w1"].sweep(HOUR_MS))[2]
    assert removed == 0
    assert await fleet.pending() == {entry_id: "dead"}


async def test_the_young_are_kept(fleet: Fleet) -> None:
    """A consumer that has just been made is kept although it owns nothing."""
    await fleet.redis.xgroup_createconsumer(SIGNALS, GROUP, "w2")
    assert (await fleet["w1"].sweep(HOUR_MS))[2] == 0
    names = [one["name"] for one in await fleet.redis.xinfo_consumers(SIGNALS, GROUP)]
    assert names == [b"w2"]
