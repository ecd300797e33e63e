"""The lines of message groups on a real server: bounded each for itself, whatever else happens."""

import json
from collections.abc import AsyncIterator, Iterable
from typing import Any

import pytest

from tests.integration.fleets import (
    GROUP,
    SIGNALS,
    Fleet,
    admit,
    commit,
    fleet_on,
    outcome,
    take,
    take_one,
)
from worker.ledger.calls import RedisLedger
from worker.ledger.replies import Delivery
from worker.runtime.embedded_server import EmbeddedServer

OPENING: dict[str, Any] = {"exchange": "x", "symbol": "A/B"}
CLOSE = OPENING | {"action": "close"}
BOUND = 3


@pytest.fixture
async def fleet(server: EmbeddedServer) -> AsyncIterator[Fleet]:
    async with fleet_on(server.url, max_group_waiting=BOUND) as made:
        yield made


async def send(fleet: Fleet, *signals: Any, key: str = "a") -> list[str]:
    return [
        await fleet.send(key, data=one if isinstance(one, str) else json.dumps(one))
        for one in signals
    ]


async def lines(fleet: Fleet) -> dict[str, int]:
    rows = await fleet.redis.zrange(fleet.key("lines"), 0, -1, withscores=True)
    return {name.decode(): int(length) for name, length in rows}


def surplus(deliveries: Iterable[Delivery]) -> list[str]:
    return [one.entry_id for one in deliveries if one.is_surplus]


async def run_out(ledger: RedisLedger, deliveries: Iterable[Delivery]) -> list[str]:
    """Commit deliveries and whatever is handed on; the ids in that order."""
    found = []
    for delivery in deliveries:
        one: Delivery | None = delivery
        while one is not None:
            found.append(one.entry_id)
            one = (await commit(ledger, outcome(one, f"s-{one.entry_id}"))).following
    return found


async def test_a_groups_surplus_of_openings_is_granted_apart(fleet: Fleet) -> None:
    """Its line stays in order; when room comes, the next waits again."""
    ids = await send(fleet, *[OPENING] * 6)
    found = await take(fleet["w1"])
    assert [one.entry_id for one in found] == [ids[0], *ids[4:]]
    assert surplus(found) == ids[4:]
    assert [(one.token, one.deliveries) for one in found] == [(1, 1)] * 3
    assert await lines(fleet) == {":a": BOUND}
    head, *apart = found
    assert await run_out(fleet["w1"], apart) == ids[4:]
    assert await lines(fleet) == {":a": BOUND}
    second = (await commit(fleet["w1"], outcome(head))).following
    assert second is not None
    assert not second.is_surplus
    (late,) = await send(fleet, OPENING)
    assert await take(fleet["w1"]) == []
    assert await run_out(fleet["w1"], [second]) == [*ids[1:4], late]
    assert await lines(fleet) == {}
    assert await fleet.redis.exists(fleet.key("entries"), fleet.key("leases")) == 0
    assert await fleet.pending() == {}


@pytest.mark.parametrize("action", ["close", "cancel", "protect"])
async def test_closes_have_a_bound_of_their_own(fleet: Fleet, action: str) -> None:
    """A line full of openings takes closes, one full of closes takes openings."""
    other = OPENING | {"action": action}
    ids = await send(fleet, *[OPENING] * 5, *[other] * 5, OPENING)
    found = await take(fleet["w1"], 20)
    assert surplus(found) == [ids[4], *ids[8:]]
    assert await lines(fleet) == {":a": BOUND, "-:a": BOUND}
    order = await run_out(fleet["w1"], found[:1])
    assert order == [*ids[:4], *ids[5:8]]
    assert await lines(fleet) == {}


async def test_many_closes_do_not_keep_an_opening_out(fleet: Fleet) -> None:
    """They are not counted among the openings, wherever their mark stands."""
    ids = await send(fleet, OPENING, CLOSE, CLOSE, CLOSE, OPENING)
    assert [one.entry_id for one in await take(fleet["w1"])] == ids[:1]


@pytest.mark.parametrize(
    ("data", "is_opening"),
    [
        (OPENING, True),
        (OPENING | {"action": "open"}, True),
        (OPENING | {"action": "sideways"}, True),
        (OPENING | {"metadata": {"action": "close"}}, True),
        (OPENING | {"action": "close", "metadata": {"action": "open"}}, False),
        (OPENING | {"metadata": {"action": "open"}, "action": "close"}, False),
        ('{"action" : "close"}', False),
        ('{"\\u0061ction": "close"}', False),
        ('{"action": "cl\\u006fse"}', False),
        ('{"action": "open", "\\u0061ction": "close"}', False),
        ('{"action": ["close"]}', True),
        ('{"action": null}', True),
        ('["action", "close"]', True),
        ('no json: "action": "close"', True),
        ("", True),
    ],
)
async def test_what_an_entry_counts_as(fleet: Fleet, data: Any, *, is_opening: bool) -> None:
    """Its own ``action`` decides; what cannot be read is an opening."""
    await send(fleet, OPENING, data)
    await take(fleet["w1"])
    assert await lines(fleet) == {":a" if is_opening else "-:a": 1}


async def test_the_surplus_stays_what_it_is(fleet: Fleet) -> None:
    """After a takeover, after it was given back, and for a resync."""
    await send(fleet, *[OPENING] * 5)
    mark = surplus(await take(fleet["w1"]))
    missed = [one for one in await fleet["w1"].resync([]) if isinstance(one, Delivery)]
    assert surplus(missed) == mark
    await fleet.expire(mark[0])
    (taken,) = await take(fleet["w2"])
    assert (taken.entry_id, taken.is_surplus, taken.deliveries) == (mark[0], True, 2)
    await fleet["w2"].release([(taken.entry_id, taken.token, 0, False)])
    (again,) = await take(fleet["w3"])
    assert (again.entry_id, again.is_surplus) == (mark[0], True)
    await commit(fleet["w3"], outcome(again))
    assert await fleet.entry(mark[0]) == {}


async def test_a_head_that_dies_keeps_its_line(fleet: Fleet) -> None:
    """Whoever takes it over, the counts are right to the end."""
    ids = await send(fleet, *[OPENING] * 4, CLOSE)
    await take(fleet["w1"])
    for number in range(2, 4):
        await fleet.expire(ids[0])
        (head,) = await take(fleet[f"w{number}"])
        assert await lines(fleet) == {":a": BOUND, "-:a": 1}
    following = (await commit(fleet["w3"], outcome(head, take_next=False))).following
    assert following is None
    assert await lines(fleet) == {":a": BOUND - 1, "-:a": 1}
    assert await run_out(fleet["w4"], await take(fleet["w4"])) == ids[1:]
    assert await lines(fleet) == {}


async def test_a_vanished_head_leaves_the_count_right(fleet: Fleet) -> None:
    """The next heads the group in its place."""
    ids = await send(fleet, *[OPENING] * 3)
    await take(fleet["w1"])
    await fleet.redis.xdel(SIGNALS, ids[0], ids[1])
    await fleet.expire(ids[0])
    claim = await fleet["w2"].claim(5)
    assert ([one.entry_id for one in claim.deliveries], claim.vanished) == ([ids[2]], 2)
    assert await lines(fleet) == {}


async def test_a_recreated_group_counts_nobody_twice(fleet: Fleet) -> None:
    """It repeats what waits: that waits already."""
    ids = await send(fleet, *[OPENING] * 4)
    await take(fleet["w1"])
    await fleet.redis.xgroup_destroy(SIGNALS, GROUP)
    await fleet["w1"].ensure_group()
    assert await take(fleet["w1"]) == []
    assert await lines(fleet) == {":a": BOUND}
    (late,) = await send(fleet, OPENING)
    assert surplus(await take(fleet["w1"])) == [late]
    assert len(await fleet.pending()) == len(ids) + 1


async def test_an_orphan_waits_whatever_the_bound(fleet: Fleet) -> None:
    """It was read before, and is counted; so the surplus behind it is one."""
    await send(fleet, *[OPENING] * 6)
    await fleet.redis.xreadgroup(GROUP, "stranger", {SIGNALS: ">"})
    ids = list(await fleet.pending())
    await fleet.redis.xclaim(SIGNALS, GROUP, "stranger", 0, ids, idle=60_000)
    await fleet["w1"].sweep(3_600_000)
    assert await lines(fleet) == {":a": 5}
    (late,) = await send(fleet, OPENING)
    found = await take(fleet["w1"])
    assert [one.entry_id for one in found] == [ids[0], late]
    assert surplus(found) == [late]


async def test_a_line_of_a_group_that_is_gone_is_forgotten(fleet: Fleet) -> None:
    """A worker of an earlier version hands on without counting."""
    await fleet.redis.zadd(fleet.key("lines"), {":gone": 99, "-:gone": 98, ":a": 1})
    await send(fleet, OPENING)
    await take_one(fleet["w1"])
    await fleet["w1"].sweep(3_600_000)
    assert await lines(fleet) == {":a": 1}


async def test_an_entry_that_waited_uncounted_leaves_uncounted(fleet: Fleet) -> None:
    """One that a worker of an earlier version has put into its line."""
    ids = await send(fleet, OPENING, OPENING)
    (head,) = await take(fleet["w1"])
    raw = await fleet.redis.hget(fleet.key("entries"), ids[1])
    old = raw.replace(b"\xa7opening", b"\xa0")
    assert old != raw
    await fleet.redis.hset(fleet.key("entries"), ids[1], old)
    await fleet.redis.delete(fleet.key("lines"))
    assert await run_out(fleet["w1"], [head]) == ids
    assert await lines(fleet) == {}


async def test_the_ceiling_holds_no_empty_group_up(fleet: Fleet) -> None:
    """At the ceiling openings that would wait are surplus, closes wait, and other groups run."""
    ledger = fleet.join("w1", max_waiting=2)
    ids = await send(fleet, OPENING, OPENING, OPENING, OPENING, CLOSE)
    others = [*await send(fleet, OPENING, key="b"), *await send(fleet, OPENING, key="b")]
    found = await take(ledger)
    assert [one.entry_id for one in found] == [ids[0], ids[3], *others]
    assert surplus(found) == [ids[3], others[1]]
    assert await lines(fleet) == {":a": 2, "-:a": 1}


async def test_the_account_names_its_fullest_group(fleet: Fleet) -> None:
    """As a short printable text: the name may be any bytes."""
    assert (await fleet["w1"].account()).fullest_part == 0
    name = "\x1b[31mb\x9b\u202e" + "n" * 200
    await send(fleet, OPENING, OPENING, OPENING, key=name[:100])
    await send(fleet, OPENING, OPENING)
    await take(fleet["w1"])
    account = await fleet["w1"].account()
    assert account.fullest_part == 2 / BOUND
    assert account.fullest_group.startswith("?[31mb")
    assert account.fullest_group.isprintable()
    assert len(account.fullest_group) == 64
    assert account.waiting_part == 3 / 10_000


async def test_an_admitted_head_is_never_surplus(fleet: Fleet) -> None:
    """Nor does the line's being full change what is in hand."""
    await send(fleet, *[OPENING] * 9)
    head = (await take(fleet["w1"]))[0]
    await admit(fleet["w1"], head)
    await fleet.expire(head.entry_id)
    (again,) = await take(fleet["w2"])
    assert (again.is_surplus, again.record is None) == (False, False)
