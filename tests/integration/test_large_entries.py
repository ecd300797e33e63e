"""Entries that are too large, on a real server: each is read once, buried, and stops nobody."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from redis.asyncio import Redis

from tests.integration.fleets import (
    GROUP,
    SIGNALS,
    Fleet,
    admit,
    commit,
    fleet_on,
    outcome,
    take,
    until,
)
from worker.config.keys import Config, RedisConfig, Secret
from worker.ledger.errors import LedgerUnavailableError
from worker.ledger.limits import ENTRY_BYTES, ENTRY_FIELDS, MAX_REPLY_BYTES, REPLY_BYTES
from worker.ledger.replies import Delivery
from worker.ledger.script_source import assemble
from worker.operator.attention import needs_attention
from worker.operator.dead_letters import DeadLetterError
from worker.operator.reader import AccountReader
from worker.runtime.clock import rfc3339
from worker.runtime.embedded_server import EmbeddedServer

ROOT = Path(__file__).parents[2]
#: As a hosted Redis has it, but for the one limit that made every claim's reply fail.
HOSTED = ("--client-output-buffer-limit", "normal 64mb 16mb 30")
#: As much as a worker may ever be sent of one entry, with its name, its key and what else it has.
LARGEST = json.dumps({"exchange": "x", "symbol": "A/B", "m": "y" * 65_480}).encode()
MIB = 2**20


def shipped() -> tuple[str, ...]:
    """The limits of deploy/redis/redis.conf as options."""
    text = (ROOT / "deploy/redis/redis.conf").read_text()
    wanted = "proto-max-bulk-len|client-query-buffer-limit|client-output-buffer-limit normal"
    lines = re.findall(rf"^((?:{wanted}) .+)$", text, re.MULTILINE)
    assert len(lines) == 3
    found = []
    for line in lines:
        name, _, value = line.partition(" ")
        found += [f"--{name}", value]
    return tuple(found)


@pytest.fixture(params=["shipped", "hosted"])
def limited(request: pytest.FixtureRequest, server: EmbeddedServer) -> Iterator[EmbeddedServer]:
    """A server of its own with the settings of this project, or those that others have."""
    options = shipped() if request.param == "shipped" else HOSTED
    with EmbeddedServer(binary=server._binary, arguments=options) as own:
        yield own


@pytest.fixture
async def fleet(limited: EmbeddedServer) -> AsyncIterator[Fleet]:
    async with fleet_on(limited.url, timeout_s=20.0) as made:
        yield made


@pytest.fixture
async def plain(server: EmbeddedServer) -> AsyncIterator[Fleet]:
    async with fleet_on(server.url) as made:
        yield made


async def send_large(fleet: Fleet, mebibytes: int) -> str:
    """An entry of so many MiB, in fields as large as the server takes."""
    largest = int((await fleet.redis.config_get("proto-max-bulk-len"))["proto-max-bulk-len"])
    size = min(largest, mebibytes * MIB)
    fields = {f"f{n}": b"x" * size for n in range(mebibytes * MIB // size)}
    return str((await fleet.redis.xadd(SIGNALS, fields)).decode())


async def make_large(fleet: Fleet, mebibytes: int) -> None:
    """An entry of one field, which need not travel to the server."""
    patient: Any = Redis.from_url(fleet.url, socket_timeout=60)
    await patient.setrange("text", mebibytes * MIB - 1, "x")
    script = "return redis.call('XADD', KEYS[1], '*', 'data', redis.call('GETDEL', 'text'))"
    await patient.eval(script, 1, SIGNALS)
    await patient.aclose()


async def send_many_fields(fleet: Fleet, count: int) -> str:
    command = ["XADD", SIGNALS, "*", *(["name", "1"] * count)]
    return str((await fleet.redis.execute_command(*command)).decode())


async def reads(fleet: Fleet) -> int:
    """How many entries the group has been given."""
    (group,) = await fleet.redis.xinfo_groups(SIGNALS)
    return int(group["entries-read"])


async def letters(fleet: Fleet) -> list[dict[bytes, bytes]]:
    found = await fleet.stream("dead")
    for letter in found:
        assert sum(map(len, (*letter, *letter.values()))) < 8 * 1024
    return found


async def claim_all(fleet: Fleet, room: int = 64) -> tuple[list[Delivery], int]:
    """Claim until there is nothing more; what came, and how many claims it took."""
    found: list[Delivery] = []
    for claims in range(1, 200):
        claim = await fleet["w1"].claim(room)
        found += claim.deliveries
        if not claim.more:
            return found, claims
    raise AssertionError("there is always more")


async def kept_small(fleet: Fleet) -> None:
    """Nothing of a large entry is left: not in the group, the index, the stream."""
    assert await fleet.pending() == {}
    assert await fleet.redis.exists(fleet.key("entries")) == 0
    length = await fleet.redis.xlen(SIGNALS)
    assert (await fleet.redis.memory_usage(SIGNALS, samples=0)) < 64 * 1024 + 2_000 * length


# --- one after the other ---


@pytest.mark.parametrize("mebibytes", [2, 80])
async def test_a_large_entry_is_read_once_and_buried(fleet: Fleet, mebibytes: int) -> None:
    """With its beginning, its size and the bound; the signals around it are traded at once."""
    first = await fleet.send("a")
    large = await send_large(fleet, mebibytes)
    last = await fleet.send("b")
    found, _ = await claim_all(fleet)
    assert [one.entry_id for one in found] == [first, last]
    (letter,) = await letters(fleet)
    assert (letter[b"reason"], letter[b"entry_id"]) == (b"malformed", large.encode())
    assert (letter[b"worker"], letter[b"deliveries"]) == (b"w1", b"1")
    assert re.fullmatch(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", letter[b"at"])
    assert str(ENTRY_BYTES).encode() in letter[b"error"]
    assert int(re.search(rb"(\d+) bytes in", letter[b"error"])[1]) >= mebibytes * MIB  # type: ignore[index]
    assert next(iter(letter)).startswith(b"f0")
    assert await reads(fleet) == 3
    for number, delivery in enumerate(found):
        await commit(fleet["w1"], outcome(delivery, f"s-{number}"))
    await kept_small(fleet)
    assert (await fleet["w2"].claim(5)).deliveries == []
    assert await reads(fleet) == 3
    assert len(await letters(fleet)) == 1


async def test_a_million_fields_are_read_once(fleet: Fleet) -> None:
    """No limit of a server refuses them; the letter has as many as an entry may have."""
    await send_many_fields(fleet, 1_000_000)
    entry_id = await fleet.send("a")
    found, _ = await claim_all(fleet)
    assert [one.entry_id for one in found] == [entry_id]
    (letter,) = await letters(fleet)
    assert b"in 1000000 fields" in letter[b"error"]
    await commit(fleet["w1"], outcome(found[0]))
    await kept_small(fleet)


async def test_many_large_entries_at_once_stop_nobody(fleet: Fleet) -> None:
    """Sixty-four of 1.3 MiB, honest signals between them; the others are one by one in the end."""
    ids = []
    for number in range(64):
        await fleet.redis.xadd(SIGNALS, {"a": b"x" * 700_000, "b": b"y" * 700_000})
        ids.append(await fleet.send(f"honest {number}"))
    found, claims = await claim_all(fleet)
    assert [one.entry_id for one in found] == ids
    assert claims <= 66
    assert len(await letters(fleet)) == 64
    assert await reads(fleet) == 128


async def test_a_quarter_of_a_gibibyte_is_read_once(server: EmbeddedServer) -> None:
    """On a server without any limit: the cost is one read, and its memory is given back."""
    with EmbeddedServer(binary=server._binary) as own:
        async with fleet_on(own.url, timeout_s=20.0) as fleet:
            await make_large(fleet, 250)
            entry_id = await fleet.send("a")
            found, _ = await claim_all(fleet)
            assert [one.entry_id for one in found] == [entry_id]
            assert len(await letters(fleet)) == 1
            memory = await fleet.redis.info("memory")
            assert memory["used_memory"] < 16 * MIB
            assert memory["used_memory_vm_total"] < 4 * MIB


async def test_the_shipped_settings_refuse_a_large_value(server: EmbeddedServer) -> None:
    """At the door, and the largest legal entry and command pass."""
    with EmbeddedServer(binary=server._binary, arguments=shipped()) as own:
        redis: Any = Redis.from_url(own.url)
        with pytest.raises(Exception, match=r"bulk length|closed|reset|lost"):
            await redis.xadd(SIGNALS, {"data": b"x" * (MIB + 1)})
        await redis.connection_pool.disconnect()  # it was hung up on
        await redis.xadd(SIGNALS, {"data": LARGEST})
        # A commit of a whole batch with events for many fills, many times what one ever was.
        script = "return #ARGV"
        assert await redis.eval(script, 0, *[b"x" * 64_000] * 500) == 500
        pipeline = redis.pipeline(transaction=False)
        for _ in range(500):
            pipeline.xadd(SIGNALS, {"data": LARGEST})
        assert len(await pipeline.execute()) == 500
        await redis.aclose()


# --- waiting on the server ---


@pytest.mark.parametrize("mebibytes", [80, 250])
async def test_a_large_entry_rings_and_only_costs_a_connection(
    server: EmbeddedServer, mebibytes: int
) -> None:
    """The wait brings its body: a worker does not read it to the end, though the server would."""
    with EmbeddedServer(binary=server._binary) as own:
        async with fleet_on(own.url, timeout_s=20.0) as fleet:
            tail = (await fleet["w1"].claim(5)).tail
            waiting = asyncio.create_task(fleet["w1"].claim(5, after=tail, wait_ms=30_000))

            async def waits() -> bool:
                return bool((await fleet.redis.info("clients"))["blocked_clients"])

            await until(waits, what="the claim waits")
            await make_large(fleet, mebibytes)
            with pytest.raises(LedgerUnavailableError, match=str(MAX_REPLY_BYTES)):
                await asyncio.wait_for(waiting, 30)
            entry_id = await fleet.send("a")
            claim = await fleet["w1"].claim(5)
            again = await fleet["w1"].resync(one.entry_id for one in claim.deliveries)
            assert [one.entry_id for one in (*claim.deliveries, *again)] == [entry_id]
            assert len(await letters(fleet)) == 1
            assert fleet["w1"].lost_replies == 1


async def test_the_status_can_be_read_before_a_large_entry_is(fleet: Fleet) -> None:
    """No worker runs, and the server does not send its body: its age is all that is missing."""
    await send_large(fleet, 80)
    async with AccountReader(Config(redis=RedisConfig(url=Secret(fleet.url)))) as reader:
        status = await reader.status()
    assert (status.lag, status.oldest_unseen_age_ms) == (1, None)
    (gravest, *_) = needs_attention(status)
    assert gravest.text == "no worker is alive and 1 signal waits"


# --- entries that came in by other doors ---


async def test_an_orphan_that_is_too_large_is_buried(plain: Fleet) -> None:
    """Read by a stranger, and never by a claim: the sweep finds it, and those behind it."""
    fleet = plain
    await fleet.redis.xadd(SIGNALS, {"data": b"x" * (2 * MIB)})
    await send_many_fields(fleet, 5_000)
    entry_id = await fleet.send("a")
    await fleet.redis.xreadgroup(GROUP, "stranger", {SIGNALS: ">"})
    ids = list(await fleet.pending())
    await fleet.redis.xclaim(SIGNALS, GROUP, "stranger", 0, ids, idle=60_000)
    swept = [await fleet["w1"].sweep(3_600_000) for _ in range(2)]
    assert [len(one.oversize) for one in swept] == [2, 0]
    assert [one.orphans for one in swept] == [3, 0]
    assert [one.entry_id for one in await take(fleet["w2"])] == [entry_id]
    first, second = await letters(fleet)
    assert b"in 5000 fields" in second[b"error"]
    assert first[b"worker"] == second[b"worker"] == b"stranger"


async def test_an_entry_claimed_by_an_earlier_version_is_buried(plain: Fleet) -> None:
    """It has a lease and stands in its group: what stopped the account before the upgrade."""
    fleet = plain
    entry_id, behind = await fleet.send_all("aa")
    await take(fleet["w1"])
    await fleet.redis.xdel(SIGNALS, entry_id)
    # A body cannot be replaced under its id: the stream is made anew with the group as it stood.
    await fleet.redis.delete(SIGNALS)
    await fleet.redis.xadd(SIGNALS, {"data": b"x" * (2 * MIB)}, id=entry_id)
    await fleet.redis.xadd(SIGNALS, {"data": "{}", "key": "a"}, id=behind)
    await fleet.redis.xgroup_create(SIGNALS, GROUP, "0")
    await fleet.redis.xreadgroup(GROUP, "w1", {SIGNALS: ">"})
    assert await fleet["w1"].resync([]) == []
    await fleet.expire(entry_id)
    claim = await fleet["w2"].claim(5)
    assert [one.entry_id for one in claim.deliveries] == [behind]
    assert [one for one, _ in claim.oversize] == [entry_id]
    assert claim.vanished == 0
    assert len(await letters(fleet)) == 1


async def test_a_dead_letter_that_was_cut_is_not_replayed(plain: Fleet) -> None:
    """Its payload is whole by chance; replayed it would be another entry than was sent."""
    fleet = plain
    data = json.dumps({"signal_id": "s-1"})
    await fleet.redis.xadd(SIGNALS, {"data": data, "junk": b"x" * MIB})
    await take(fleet["w1"])
    async with AccountReader(Config(redis=RedisConfig(url=Secret(fleet.url)))) as reader:
        (letter,) = await reader.dead.latest(5)
        assert (letter.signal_id, (letter.cut_from_bytes or 0) > MIB) == ("s-1", True)
        with pytest.raises(DeadLetterError, match="only the beginning"):
            await reader.dead.replay(letter.id)
        assert await reader.dead.latest(5) == [letter]
    assert await fleet.redis.xlen(SIGNALS) == 0


async def test_times_in_scripts_are_those_of_python(plain: Fleet) -> None:
    """Over two hundred years, leap days included."""
    body = (
        '--- @include "oversize"\n'
        "now_ms = tonumber(ARGV[1])\n"
        "bury_oversize('1-1', {'data', 'x'}, 1, 'w')\n"
        "local letter = redis.call('XREVRANGE', P .. 'dead', '+', '-', 'COUNT', 1)[1][2]\n"
        "return letter[#letter]\n"
    )
    text = assemble("times", body)
    random = Random(1)
    days = [951_782_400_000, 1_709_164_800_000, 4_107_542_399_999, 0, 86_399_999]
    for ms in [*days, *(random.randrange(8_000_000_000_000) for _ in range(300))]:
        told = await plain.redis.eval(text, 1, SIGNALS, ms)
        assert told.decode() == rfc3339(ms)


async def test_claims_go_on_when_memory_is_full(plain: Fleet) -> None:
    """Burying an entry frees more than it takes."""
    fleet = plain
    await take(fleet["w1"])
    await fleet.redis.xadd(SIGNALS, {"data": b"x" * (20 * MIB)})
    entry_id = await fleet.send("a")
    await fleet.redis.config_set("maxmemory", 10 * MIB)
    try:
        found, _ = await claim_all(fleet)
        assert [one.entry_id for one in found] == [entry_id]
        assert len(await letters(fleet)) == 1
    finally:
        await fleet.redis.config_set("maxmemory", 0)


# --- replies ---


async def send_legal(fleet: Fleet, count: int, group: str = "{}") -> list[str]:
    pipeline = fleet.redis.pipeline(transaction=False)
    for number in range(count):
        pipeline.xadd(SIGNALS, {"data": LARGEST, "key": group.format(number)})
    return [one.decode() for one in await pipeline.execute()]


def bytes_of(deliveries: list[Delivery]) -> int:
    return sum(len(value) for one in deliveries for value in one.fields.values())


async def test_a_claim_of_many_large_signals_comes_in_parts(plain: Fleet) -> None:
    """A thousand legal ones with room for all: each reply within its bound, each entry once."""
    fleet = plain
    ids = await send_legal(fleet, 1_000)
    found: list[str] = []
    more = True
    while more:
        claim = await fleet["w1"].claim(1_024)
        assert bytes_of(claim.deliveries) <= REPLY_BYTES + 9 * ENTRY_BYTES
        found += [one.entry_id for one in claim.deliveries]
        more = claim.more
    assert found == ids


async def test_expired_and_released_entries_come_in_parts(plain: Fleet) -> None:
    """What does not fit stays where it is, and the next claim gets it."""
    fleet = plain
    ids = await send_legal(fleet, 200)
    found, _ = await claim_all(fleet, 1_024)
    await fleet["w1"].release([(one.entry_id, one.token, 0, False) for one in found[:100]])
    for one in found[100:]:
        await fleet.expire(one.entry_id)
    again: list[Delivery] = []
    more = True
    while more:
        claim = await fleet["w2"].claim(1_024)
        assert bytes_of(claim.deliveries) <= REPLY_BYTES + ENTRY_BYTES
        again += claim.deliveries
        more = claim.more
    assert sorted(one.entry_id for one in again) == sorted(ids)
    assert len(again) == 200


async def test_a_resync_of_many_large_signals_is_whole(plain: Fleet) -> None:
    """It asks until it has all of them; each of its replies is within the bound."""
    fleet = plain
    ids = await send_legal(fleet, 200)
    await claim_all(fleet, 1_024)
    replies: list[int] = []
    ledger = fleet["w1"]
    run = ledger._scripts.run

    async def watched(name: str, *arguments: Any) -> Any:
        reply = await run(name, *arguments)
        replies.append(len(reply[0]) // 2)
        return reply

    ledger._scripts.run = watched  # type: ignore[method-assign]
    found = await ledger.resync([])
    assert sorted(one.entry_id for one in found) == sorted(ids)
    assert len(replies) > 2
    assert max(replies) * len(LARGEST) <= REPLY_BYTES + ENTRY_BYTES


async def test_a_commit_hands_on_only_what_fits(plain: Fleet) -> None:
    """Of the entries behind a whole batch the rest are left to the next claim."""
    fleet = plain
    heads = await send_legal(fleet, 100)
    behind = await send_legal(fleet, 100)
    found, _ = await claim_all(fleet, 1_024)
    assert [one.entry_id for one in found] == heads
    answers = await fleet["w1"].commit(
        [outcome(one, f"s-{number}") for number, one in enumerate(found)]
    )
    handed = [one.following for one in answers if one.following is not None]
    assert bytes_of(handed) <= REPLY_BYTES + ENTRY_BYTES
    rest, _ = await claim_all(fleet, 1_024)
    assert sorted(one.entry_id for one in (*handed, *rest)) == sorted(behind)


async def test_an_admitted_entry_is_granted_with_its_record(plain: Fleet) -> None:
    """Records count in a reply as bodies do."""
    fleet = plain
    await send_legal(fleet, 100)
    found, _ = await claim_all(fleet, 1_024)
    for number, one in enumerate(found):
        await admit(fleet["w1"], one, f"s-{number}", plan="p" * 60_000, max_positions=1_000)
        await fleet.expire(one.entry_id)
    claim = await fleet["w2"].claim(1_024)
    assert claim.more
    assert bytes_of(claim.deliveries) <= REPLY_BYTES // 2 + 2 * ENTRY_BYTES
    assert {len(one.record.plan) for one in claim.deliveries if one.record} == {60_000}


@pytest.mark.parametrize(
    ("fields", "is_legal"),
    [
        ({f"f{n}": "1" for n in range(ENTRY_FIELDS)}, True),
        ({f"f{n}": "1" for n in range(ENTRY_FIELDS + 1)}, False),
        ({"data": b"x" * (ENTRY_BYTES - 4)}, True),
        ({"data": b"x" * (ENTRY_BYTES - 3)}, False),
        ({"data": b"x", "n" * (ENTRY_BYTES - 5): ""}, True),
        ({"data": b"x", "n" * (ENTRY_BYTES - 4): ""}, False),
    ],
)
async def test_the_bounds_are_exact(plain: Fleet, fields: Any, *, is_legal: bool) -> None:
    """Names count as values do."""
    await plain.redis.xadd(SIGNALS, fields)
    claim = await plain["w1"].claim(5)
    assert (len(claim.deliveries), len(claim.oversize)) == ((1, 0) if is_legal else (0, 1))
    assert len(await letters(plain)) == len(claim.oversize)
