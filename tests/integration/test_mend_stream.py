"""A stream with an id ahead of the clock is mended; what waits or is under way in it goes on."""

from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

import pytest
from redis.exceptions import ResponseError

from tests.integration.fleets import (
    EVENT,
    GROUP,
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
from worker.config.keys import Config, RedisConfig, Secret
from worker.domain.verdict import Verdict
from worker.ledger.errors import LedgerError
from worker.ledger.items import NO_RECORD
from worker.ledger.layouts import DeadLetterTail
from worker.ledger.replies import CommitStatus, Duplicate
from worker.operator.mending import MendedStream
from worker.operator.reader import AccountReader
from worker.runtime.embedded_server import EmbeddedServer

LARGEST: Final = "18446744073709551615-18446744073709551615"
YEAR_MS: Final = 31_536_000_000


@pytest.fixture
async def fleet(server: EmbeddedServer) -> AsyncIterator[Fleet]:
    async with fleet_on(server.url, lease_ms=15_000) as made:
        yield made


@pytest.fixture
async def reader(fleet: Fleet) -> AsyncIterator[AccountReader]:
    async with AccountReader(Config(redis=RedisConfig(url=Secret(fleet.url)))) as made:
        yield made


async def mend(reader: AccountReader, *names: str, portion: int = 2_000) -> dict[str, MendedStream]:
    """Mend, and return what became of each stream."""
    names = names or ("signals",)
    return {one.name: one async for one in reader.mending.mend(names, actor="t", portion=portion)}


async def poison(fleet: Fleet, key: str, entry_id: str = LARGEST) -> str:
    """Add a signal under an id of the attacker's choice."""
    entry = {"data": '{"exchange": "x", "symbol": "A/B"}', "key": key}
    return str((await fleet.redis.xadd(SIGNALS, entry, id=entry_id)).decode())


async def ahead(fleet: Fleet, ms: int = YEAR_MS) -> str:
    """An id so many milliseconds ahead of the server's clock."""
    return f"{await fleet.now_ms() + ms}-0"


async def group(fleet: Fleet) -> dict[str, Any]:
    (found,) = await fleet.redis.xinfo_groups(SIGNALS)
    return dict(found)


async def run_all(fleet: Fleet, worker: str, *, room: int = 100) -> list[str]:
    """Take and end whatever there is, each handed on to the same worker; the keys, in order."""
    ledger, ended = fleet.join(worker), []
    waiting = await take(ledger, room)
    while waiting:
        delivery = waiting.pop(0)
        ended.append(delivery.fields[b"key"].decode() + ":" + delivery.fields[b"n"].decode())
        done = await commit(ledger, outcome(delivery, f"s-{delivery.entry_id}"))
        if done.following is not None:
            waiting.append(done.following)
        if not waiting:
            waiting = await take(ledger, room)
    return ended


async def test_after_the_largest_id_producers_can_add_again(
    fleet: Fleet, reader: AccountReader
) -> None:
    """Nobody can add before; after mending, ids are of now, and everything waiting is taken."""
    first = await fleet.send("a", n="1")
    await poison(fleet, "b")
    with pytest.raises(ResponseError, match="exhausted"):
        await fleet.send("c")
    (mended,) = (await mend(reader)).values()
    assert mended == MendedStream(name="signals", mended=True, entries=2, renamed=1)
    third = await fleet.send("c")
    assert [d.entry_id for d in await take(fleet["w"])][::2] == [first, third]
    assert max((await reader.streams_ahead()).values()) == 0


async def test_a_stream_that_is_sound_is_left_alone(fleet: Fleet, reader: AccountReader) -> None:
    """Nothing of it changes, not even where the last id is ahead as clocks may be."""
    await fleet.send("a")
    await poison(fleet, "b", await ahead(fleet, 30_000))
    before = await fleet.redis.execute_command("XINFO", "STREAM", SIGNALS, "FULL")
    assert not (await mend(reader))["signals"].mended
    assert await fleet.redis.execute_command("XINFO", "STREAM", SIGNALS, "FULL") == before
    assert await fleet.stream("system") == []


async def test_a_stream_that_is_mended_is_sound(fleet: Fleet, reader: AccountReader) -> None:
    """A second call finds nothing to do, and nothing is left of the first."""
    await poison(fleet, "b")
    assert (await mend(reader))["signals"].mended
    assert not (await mend(reader))["signals"].mended
    assert not [key async for key in fleet.redis.scan_iter("*mending*")]
    (event,) = await fleet.stream("system")
    assert b"STREAM_MENDED" in event[b"data"]


async def test_a_deleted_entry_leaves_its_id_behind_and_is_mended_too(
    fleet: Fleet, reader: AccountReader
) -> None:
    """Deleting the entry with the largest id helps nobody; mending does, and the lag is known."""
    await fleet.send("a", n="1")
    await fleet.redis.xdel(SIGNALS, await poison(fleet, "b"))
    with pytest.raises(ResponseError, match="exhausted"):
        await fleet.send("c")
    assert (await reader.streams_ahead())["signals"] > YEAR_MS
    assert (await mend(reader))["signals"].renamed == 0
    assert (await group(fleet))["lag"] == 1
    await fleet.send("a", n="2")
    assert await run_all(fleet, "w") == ["a:1", "a:2"]


async def test_a_stream_without_an_entry_or_a_group_is_mended(
    fleet: Fleet, reader: AccountReader
) -> None:
    """The output streams have no groups; an empty one with a bad last id starts over."""
    key = fleet.key("positions")
    await fleet.redis.xadd(key, {"a": "b"}, id=LARGEST)
    await fleet.redis.xdel(key, LARGEST)
    await mend(reader, "positions")
    assert (await reader.streams_ahead())["positions"] == 0
    await fleet.redis.xdel(SIGNALS, await poison(fleet, "b"))
    await mend(reader, "signals")
    assert (await group(fleet))["name"] == GROUP.encode()
    assert await fleet.send("a")


@pytest.mark.parametrize("portion", [1, 16, 50, 10_000])
async def test_the_order_of_groups_and_every_signal_survive(
    fleet: Fleet, reader: AccountReader, portion: int
) -> None:
    """Sound and absurd ids, taken and untaken: each runs exactly once, in its group's order."""
    sent: list[tuple[str, str]] = []

    async def send(key: str, entry_id: str = "*") -> None:
        sent.append((key, str(len(sent))))
        await fleet.redis.xadd(SIGNALS, {"data": "{}", "key": key, "n": sent[-1][1]}, id=entry_id)

    for key in "abcab" * 8:
        await send(key)
    taken = fleet.join("dead", lease_ms=1)
    await take(taken, 30)  # three heads in hand, 27 wait behind them
    await send("a", await ahead(fleet))
    for key in "bacab" * 3:
        await send(key)  # ids that follow the one ahead
    await take(taken, 20)  # some of those wait in their groups, the rest is unread
    await send("c", LARGEST)
    await mend(reader, portion=portion)
    for key in "cba":
        await send(key)
    ended = await run_all(fleet, "w")
    assert len(ended) == len(sent) == len(set(ended))
    for key in "abc":
        assert [one for one in ended if one[0] == key] == [
            f"{each}:{n}" for each, n in sent if each == key
        ]
    assert await fleet.pending() == {}
    assert await fleet.hash("entries") == {}
    found = await group(fleet)
    assert (found["lag"], found["pending"]) == (0, 0)


async def test_what_is_in_hand_under_a_sound_id_goes_on_undisturbed(
    fleet: Fleet, reader: AccountReader
) -> None:
    """Its worker keeps its token, and its commit counts."""
    await fleet.send("a")
    delivery = await take_one(fleet["w"])
    await admit(fleet["w"], delivery)
    await poison(fleet, "b")
    await mend(reader)
    assert not (await fleet["w"].heartbeat([(delivery.entry_id, delivery.token)], b"{}")).lost
    await commit(fleet["w"], filled(delivery))
    assert delivery.entry_id not in await fleet.pending()
    assert len(await fleet.stream("orders")) == 1


async def test_an_admitted_order_under_a_new_id_gets_exactly_one_end(
    fleet: Fleet, reader: AccountReader
) -> None:
    """Its worker is fenced, and whoever takes it over finds its record under the new id."""
    await poison(fleet, "b")
    delivery = await take_one(fleet["w"])
    await admit(fleet["w"], delivery)
    await mend(reader)
    assert await fleet["w"].resync([]) == [], "not even its own worker gets it back early"
    assert await take(fleet["w2"]) == []
    held = (delivery.entry_id, delivery.token)
    assert (await fleet["w"].heartbeat([held], b"{}")).lost == {delivery.entry_id}
    assert not (await fleet["w"].authorize(*held, "x")).held
    assert (await commit_one(fleet["w"], filled(delivery))).status is CommitStatus.FENCED
    (new_id,) = await fleet.leases()
    await fleet.expire(new_id)
    again = await take_one(fleet["w2"])
    assert again.entry_id == new_id != delivery.entry_id
    assert again.record is not None
    assert (again.record.signal, again.record.entry) == ("s-1", new_id)
    assert again.token > delivery.token
    await commit(fleet["w2"], filled(again))
    assert len(await fleet.stream("orders")) == 1
    assert await fleet.pending() == {}
    copy = await poison(fleet, "b", "*")
    (repeated,) = await take(fleet["w2"])
    assert repeated.entry_id == copy
    assert await admit_one(fleet["w2"], admission(repeated)) == Duplicate(conflict=False)


async def test_the_lease_of_a_worker_that_is_fenced_runs_on(
    fleet: Fleet, reader: AccountReader
) -> None:
    """Nobody else gets its order while it may still believe that it holds it."""
    await poison(fleet, "b")
    await take_one(fleet["w"])
    (before,) = (await fleet.leases()).values()
    await mend(reader)
    (after,) = (await fleet.leases()).values()
    assert after == before


async def test_an_unresolved_order_stays_unresolved_with_its_verdict(
    fleet: Fleet, reader: AccountReader
) -> None:
    """The keeper adopts it under the new id, and gets what a person said."""
    await poison(fleet, "b")
    delivery = await take_one(fleet["w"])
    await admit(fleet["w"], delivery)
    event = ("SystemError", "e", "{}")
    await fleet["w"].park(delivery.entry_id, delivery.token, "s-1", 0, event)
    verdict = Verdict(actor="o", reason="test")
    await reader.decisions.decide("s-1", verdict)
    await mend(reader)
    (unresolved,) = (await reader.status()).unresolved
    assert (unresolved.signal_id, unresolved.entry_id != delivery.entry_id) == ("s-1", True)
    assert await take(fleet["w"]) == []
    await reader.decisions.decide("s-1", verdict)
    (adopted,) = await fleet["keeper"].adopt(5)
    assert (adopted.entry_id, adopted.verdict) == (unresolved.entry_id, verdict)
    await commit(fleet["keeper"], filled(adopted))
    assert (await reader.status()).unresolved_count == 0
    assert await fleet.hash("verdicts") == {}


async def test_an_entry_given_back_is_taken_under_its_new_id(
    fleet: Fleet, reader: AccountReader
) -> None:
    """It is offered once, and the old id is offered no more."""
    await poison(fleet, "b")
    delivery = await take_one(fleet["w"])
    await fleet["w"].release([(delivery.entry_id, delivery.token, 0, False)])
    await mend(reader)
    (offered,) = await fleet.redis.lrange(fleet.key("released"), 0, -1)
    assert [d.entry_id for d in await take(fleet["w2"])] == [offered.decode()]
    assert await take(fleet["w2"]) == []


async def test_the_pending_entries_of_all_groups_keep_owner_and_count(
    fleet: Fleet, reader: AccountReader
) -> None:
    """A group of another tool goes on where it was."""
    ids = [await fleet.send("a"), await fleet.send("b"), await poison(fleet, "c")]
    await fleet.redis.xgroup_create(SIGNALS, "archive", "0")
    await fleet.redis.xreadgroup("archive", "one", {SIGNALS: ">"}, count=1)
    await take(fleet["w"], 2)
    await mend(reader)
    archive, own = await fleet.redis.xinfo_groups(SIGNALS)
    assert (archive["name"], archive["lag"], archive["pending"]) == (b"archive", 2, 1)
    assert (own["lag"], own["pending"], own["entries-read"]) == (1, 2, 2)
    (row,) = await fleet.redis.xpending_range(SIGNALS, "archive", "-", "+", 10)
    assert (row["message_id"], row["consumer"], row["times_delivered"]) == (
        ids[0].encode(), b"one", 1,
    )  # fmt: skip
    read = await fleet.redis.xreadgroup("archive", "one", {SIGNALS: ">"})
    assert read[0][1][0][0].decode() == ids[1]


async def test_hostile_letters_stay_as_they_are(fleet: Fleet, reader: AccountReader) -> None:
    """The stream of dead letters is not touched by mending the signals, nor the signals by it."""
    bad = await fleet.send("a", data=b"\xff\x00")
    delivery = await take_one(fleet["w"])
    tail = DeadLetterTail("malformed", "e", bad, "1", "w", "now")
    await commit(fleet["w"], outcome(delivery, "", record=NO_RECORD, events=(), dead=tail))
    before = await fleet.stream("dead")
    await poison(fleet, "b")
    await mend(reader)
    assert await fleet.stream("dead") == before
    assert before[0][b"data"] == b"\xff\x00"


@pytest.mark.parametrize("name", ["orders", "positions", "system", "dead"])
@pytest.mark.parametrize("bad", [LARGEST, "18446744073709551615-7"])
async def test_a_commit_that_cannot_write_its_events_writes_nothing(
    fleet: Fleet, reader: AccountReader, name: str, bad: str
) -> None:
    """All or nothing; once the stream is mended the same commit goes through, whole and once."""
    await fleet.send("a")
    delivery = await take_one(fleet["w"])
    await admit(fleet["w"], delivery)
    await fleet.redis.xadd(fleet.key(name), {"type": "x", "data": "{}"}, id=bad)
    events = (EVENT, ("positions", "PositionOpened", "e-2", "{}"), ("system", "S", "e-3", "{}"))
    tail = DeadLetterTail("exhausted", "e", delivery.entry_id, "1", "w", "now")
    item = filled(delivery, events=events, dead=tail if name == "dead" else None)
    if bad == LARGEST:
        with pytest.raises(LedgerError, match="mend-stream"):
            await fleet["w"].commit([item])
        for other in {"orders", "positions", "system"} - {name}:
            assert await fleet.stream(other) == []
    await mend(reader, name)
    await commit(fleet["w"], item)
    for other in ("orders", "positions"):
        assert len(await fleet.stream(other)) == (2 if other == name else 1)
    ids = [entry_id for entry_id, _ in await fleet.redis.xrange(fleet.key(name))]
    latest_ms = await fleet.now_ms()
    assert all(int(entry_id.split(b"-")[0]) <= latest_ms for entry_id in ids)


async def test_an_interrupted_mending_is_taken_up(fleet: Fleet, reader: AccountReader) -> None:
    """Steps may be hours apart, and the stream may grow between them."""
    ids: Sequence[str] = [await fleet.send("a", n=str(n)) for n in range(40)]
    await poison(fleet, "a", await ahead(fleet))
    calls = reader.mending._calls
    assert (await calls.mend_stream("signals", 16, "c")).status == "copying"
    await fleet.redis.xadd(SIGNALS, {"data": "{}", "key": "a", "n": "41"})
    assert (await mend(reader))["signals"] == MendedStream(
        name="signals", mended=True, entries=42, renamed=2
    )
    found = [entry_id.decode() for entry_id, _ in await fleet.redis.xrange(SIGNALS)]
    assert found[:40] == ids
    assert len(found) == 42


async def test_a_step_whose_reply_was_lost_is_answered_again(
    fleet: Fleet, reader: AccountReader
) -> None:
    """The same call hears what it has done; another one finds the stream sound."""
    await fleet.send("a")
    await poison(fleet, "b")
    calls = reader.mending._calls
    first = await calls.mend_stream("signals", 100, "one 1")
    ids = [entry_id for entry_id, _ in await fleet.redis.xrange(SIGNALS)]
    assert (first.status, first.entries, first.renamed) == ("mended", 2, 1)
    assert await calls.mend_stream("signals", 100, "one 1") == first
    assert (await calls.mend_stream("signals", 100, "one 2")).status == "sound"
    assert [entry_id for entry_id, _ in await fleet.redis.xrange(SIGNALS)] == ids


async def test_a_bell_that_takes_nothing_is_made_anew(fleet: Fleet) -> None:
    """Giving an entry back does not fail half-way because of it, and the sweep mends it."""
    await fleet.redis.xadd(fleet.key("bell"), {"r": "1"}, id=LARGEST)
    await fleet.send("a")
    delivery = await take_one(fleet["w"])
    assert await fleet["w"].release([(delivery.entry_id, delivery.token, 0, False)]) == 1
    (again,) = await take(fleet["w"])
    await fleet["w"].sweep(0)
    assert await fleet["w"].release([(again.entry_id, again.token, 0, False)]) == 1
    (rung,) = await fleet.redis.xrange(fleet.key("bell"))
    assert int(rung[0].split(b"-")[0]) <= await fleet.now_ms()
