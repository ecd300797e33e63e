"""Keeping, giving back and leaving entries on a real server; the keeper; trading states."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import msgspec
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
)
from tests.unit.parts import position
from worker.domain.trading_state import TradingState
from worker.ledger.errors import GroupMissingError
from worker.ledger.replies import Delivery, Election
from worker.runtime.embedded_server import EmbeddedServer

UNRESOLVED = ("SystemError", "e-unresolved", "{}")


@pytest.fixture
async def fleet(server: EmbeddedServer) -> AsyncIterator[Fleet]:
    async with fleet_on(server.url) as made:
        yield made


async def held_one(fleet: Fleet, key: str = "a") -> Delivery:
    await fleet.send(key)
    return await take_one(fleet["w1"])


async def test_a_parked_order_without_a_record_can_still_be_admitted(fleet: Fleet) -> None:
    """Its admission was lost with a primary: what parking wrote is no record of one."""
    delivery = await held_one(fleet)
    await fleet["w1"].park(delivery.entry_id, delivery.token, "s-1", 0, UNRESOLVED)
    (adopted,) = await fleet["w2"].adopt(8)
    assert adopted.record is None
    await admit(fleet["w2"], adopted)
    record = await fleet.record("s-1")
    assert record is not None
    assert (record.entry, record.state) == (delivery.entry_id, "ADMITTED")
    assert record.unresolved_since > 0
    await commit(fleet["w2"], filled(adopted, unresolved_since=record.unresolved_since))
    ended = await fleet.record("s-1")
    assert ended is not None
    assert (ended.state, ended.unresolved_since) == ("FILLED", record.unresolved_since)


# --- heartbeat ---


async def test_a_heartbeat_renews_what_is_held(fleet: Fleet) -> None:
    """A heartbeat renews each entry held under its token and returns the others as lost."""
    await fleet.send_all("abc")
    a, b, c = await take(fleet["w1"])
    await fleet.expire(a.entry_id)
    await fleet.expire(b.entry_id)
    ((stolen,),) = [await take(fleet["w2"], 1)]
    kept = b if stolen.entry_id == a.entry_id else a
    held = [(one.entry_id, one.token) for one in (a, b)] + [(c.entry_id, 7), ("1-1", 1)]
    lost, state, expires = await fleet["w1"].heartbeat(held, b'{"x": 1}')
    assert lost == {stolen.entry_id, c.entry_id, "1-1"}
    assert state is TradingState.ACTIVE
    leases = await fleet.leases()
    assert leases[kept.entry_id] - await fleet.now_ms() > 14_000
    assert expires > 0
    said = (await fleet.hash("workers"))["w1"]
    assert said.endswith(' {"x": 1}')
    assert abs(int(said.split()[0]) - await fleet.now_ms()) < 1_000


async def test_a_heartbeat_brings_nothing_back_to_life(fleet: Fleet) -> None:
    """A finished or released entry gets no lease."""
    await fleet.send_all("ab")
    done, released = await take(fleet["w1"])
    await commit(fleet["w1"], outcome(done))
    await fleet["w1"].release([(released.entry_id, released.token, 0, False)])
    held = [(one.entry_id, one.token) for one in (done, released)]
    for _ in range(2):
        assert (await fleet["w1"].heartbeat(held, b"{}"))[0] == {e for e, _ in held}
    assert await fleet.leases() == {}


# --- release ---


async def test_a_released_entry_can_be_taken_at_once(fleet: Fleet) -> None:
    """By anybody, with the bell rung; a delivery that did not die is not counted."""
    delivery = await held_one(fleet)
    assert await fleet["w1"].release([(delivery.entry_id, delivery.token, 0, False)]) == 1
    again = await take_one(fleet["w2"])
    assert (again.token, again.deliveries, again.overdue_ms) == (2, 1, 0)
    assert await fleet.redis.xlen(fleet.key("bell")) == 1


async def test_a_delivery_that_died_is_counted(fleet: Fleet) -> None:
    """A delivery given back as died counts towards `worker.max_deliveries`."""
    delivery = await held_one(fleet)
    await fleet["w1"].release([(delivery.entry_id, delivery.token, 0, True)])
    assert (await take_one(fleet["w2"])).deliveries == 2


async def test_a_held_back_entry_waits_for_its_time(fleet: Fleet) -> None:
    """While an order of it may still arrive nobody gets it; its group waits with it."""
    await fleet.send_all("aa")
    delivery = await take_one(fleet["w1"])
    await fleet["w1"].release([(delivery.entry_id, delivery.token, 5_000, False)])
    assert await take(fleet["w2"]) == []
    assert 4_000 < (await fleet.leases())[delivery.entry_id] - await fleet.now_ms() <= 5_000
    assert (await fleet.entry(delivery.entry_id))["worker"] == ""
    await fleet.expire(delivery.entry_id, ago_ms=100)
    again = await take_one(fleet["w2"])
    assert again.entry_id == delivery.entry_id
    assert again.overdue_ms >= 100


async def test_releasing_again_or_what_is_not_held_does_nothing(fleet: Fleet) -> None:
    """A repeated call offers the entry only once."""
    delivery = await held_one(fleet)
    entries = [(delivery.entry_id, delivery.token, 0, False)]
    assert await fleet["w2"].release(entries) == 0
    assert await fleet["w1"].release(entries) == 1
    assert await fleet["w1"].release(entries) == 0
    assert await fleet.redis.llen(fleet.key("released")) == 1
    assert await fleet["w1"].release([]) == 0


# --- park and adopt ---


async def park(fleet: Fleet, delivery: Delivery, *, retry_ms: int = 5_000) -> bool:
    return await fleet["w1"].park(delivery.entry_id, delivery.token, "s-1", retry_ms, UNRESOLVED)


async def test_a_parked_order_is_nobodys_until_its_time(fleet: Fleet) -> None:
    """A parked order has no lease and cannot be claimed; its group waits."""
    await fleet.send_all("aa")
    delivery = await take_one(fleet["w1"])
    await admit(fleet["w1"], delivery)
    for _ in range(2):  # the second call as if the first reply had been lost
        assert await park(fleet, delivery)
    assert await fleet.leases() == {}
    assert await take(fleet["w2"]) == []
    assert await fleet["w2"].adopt(8) == []
    assert len(await fleet.stream("system")) == 1
    assert (await commit_one(fleet["w1"], outcome(delivery))).status == "fenced"
    assert (await fleet["w1"].account()).unresolved == 1
    assert len(await fleet.pending()) == 2


async def test_the_keeper_adopts_what_is_due(fleet: Fleet) -> None:
    """With its record, a new token, and not counted as a death; only once at a time."""
    delivery = await held_one(fleet)
    await admit(fleet["w1"], delivery, plan="meant")
    await park(fleet, delivery, retry_ms=0)
    (adopted,) = await fleet["w2"].adopt(8)
    assert (adopted.token, adopted.deliveries) == (2, 1)
    assert adopted.record is not None
    assert adopted.record.plan == "meant"
    assert adopted.record.unresolved_since > 0
    assert await fleet["w2"].adopt(8) == []
    assert await fleet["w3"].adopt(8) == []
    await commit(fleet["w2"], filled(adopted))
    account = await fleet["w2"].account()
    assert (account.unresolved, account.leases, account.pending) == (0, 0, 0)


async def test_an_adopted_order_still_unresolved_is_parked_without_another_event(
    fleet: Fleet,
) -> None:
    """It was said once; somebody has been paged."""
    delivery = await held_one(fleet)
    await admit(fleet["w1"], delivery)
    await park(fleet, delivery, retry_ms=0)
    (adopted,) = await fleet["w1"].adopt(8)
    assert await park(fleet, adopted, retry_ms=0)
    assert len(await fleet.stream("system")) == 1
    assert len(await fleet["w2"].adopt(8)) == 1


async def test_a_keeper_that_dies_with_an_adopted_order_is_succeeded(fleet: Fleet) -> None:
    """Any worker's claim takes the lease over, exactly as with any other entry."""
    delivery = await held_one(fleet)
    await admit(fleet["w1"], delivery)
    await park(fleet, delivery, retry_ms=0)
    await fleet["w2"].adopt(8)
    await fleet.expire(delivery.entry_id)
    (successor,) = await take(fleet["w3"])
    assert successor.token == 3
    assert await fleet["w4"].adopt(8) == []


async def test_parking_what_is_not_held_is_refused(fleet: Fleet) -> None:
    """A fenced worker must not take an order out of its successor's hands."""
    delivery = await held_one(fleet)
    await fleet.expire(delivery.entry_id)
    await take(fleet["w2"])
    assert not await park(fleet, delivery)
    assert await fleet.stream("system") == []
    assert (await fleet["w2"].account()).unresolved == 0


# --- keeper, leaving, throttling ---


async def test_there_is_one_keeper_at_a_time(fleet: Fleet) -> None:
    """A keeper that stands again stays; another is elected when the term has run out."""
    names = [f"w{n}" for n in range(5)]

    async def stand(*candidates: str) -> list[bool]:
        return [
            election.elected
            for election in await asyncio.gather(*(fleet[one].elect(60_000) for one in candidates))
        ]

    elected = await stand(*names)
    assert elected.count(True) == 1
    keeper = names[elected.index(True)]
    assert await stand(keeper) == [True]
    others = [name for name in names if name != keeper]
    assert await stand(*others) == [False] * 4
    await fleet.redis.delete(fleet.key("keeper"))
    assert await stand(others[0]) == [True]
    assert 0 < await fleet.redis.pttl(fleet.key("keeper")) <= 60_000


async def test_what_the_keeper_says_is_heard_by_all_for_its_term(fleet: Fleet) -> None:
    """By who stands after it; what one keeper said is never taken for the next one's word."""
    assert await fleet["w1"].elect(60_000, "binance: away") == Election(
        elected=True, readiness_note="binance: away"
    )
    heard = Election(elected=False, readiness_note="binance: away")
    assert [await fleet[name].elect(60_000, "I say") for name in ("w2", "w3")] == [heard] * 2
    await fleet["w1"].elect(60_000, "done")
    assert (await fleet["w2"].elect(60_000)).readiness_note == "done"
    assert 0 < await fleet.redis.pttl(fleet.key("said")) <= 60_000
    # Its term ends; the other key may outlive it by a moment.
    await fleet.redis.delete(fleet.key("keeper"))
    assert await fleet["w2"].elect(60_000) == Election(elected=True, readiness_note="")
    assert await fleet["w1"].elect(60_000, "done") == Election(elected=False, readiness_note="")


async def test_a_resignation_is_the_keepers_own(fleet: Fleet) -> None:
    """The next one that stands is elected at once; said twice or by another it changes nothing."""
    await fleet["w1"].elect(60_000, "done")
    await fleet["w2"].resign()
    assert (await fleet["w2"].elect(60_000)).readiness_note == "done"
    await fleet["w1"].resign()
    assert await fleet.redis.exists(fleet.key("keeper"), fleet.key("said")) == 0
    assert (await fleet["w2"].elect(60_000)).elected
    await fleet["w1"].resign()
    assert await fleet.redis.get(fleet.key("keeper")) == b"w2"


async def test_leaving_takes_announcement_term_and_consumer_along(fleet: Fleet) -> None:
    """Once; a second call is harmless."""
    await fleet["w1"].claim(1)
    await fleet["w1"].heartbeat([], b"{}")
    await fleet["w1"].elect(60_000)
    for _ in range(2):
        assert await fleet["w1"].leave() == 0
    assert await fleet.hash("workers") == {}
    assert await fleet.redis.exists(fleet.key("keeper"), fleet.key("said")) == 0
    assert await fleet.redis.xinfo_consumers(SIGNALS, GROUP) == []


async def test_leaving_keeps_a_consumer_that_owns_entries(fleet: Fleet) -> None:
    """Removing it would remove its entries from the group's books."""
    delivery = await held_one(fleet)
    await fleet["w2"].elect(60_000)
    assert await fleet["w1"].leave() == 1
    assert await fleet.pending() == {delivery.entry_id: "w1"}
    assert await fleet.redis.get(fleet.key("keeper")) == b"w2"


async def test_a_pause_is_never_shortened(fleet: Fleet) -> None:
    """The longest that anybody asked for counts, for that exchange alone."""
    assert await fleet["w1"].throttle("x", 5_000) == 5_000
    assert 4_000 < await fleet["w2"].throttle("x", 1_000) <= 5_000
    assert await fleet["w2"].throttle("x", 9_000) == 9_000
    delivery = await held_one(fleet)
    asked = await fleet["w1"].authorize(delivery.entry_id, delivery.token, "x")
    assert not asked.held  # not without an admission: a primary may have taken it with it
    await admit(fleet["w1"], delivery)
    asked = await fleet["w1"].authorize(delivery.entry_id, delivery.token, "x")
    assert asked.held
    assert 8_000 < asked.pause_ms <= 9_000
    assert (await fleet["w1"].authorize(delivery.entry_id, 9, "y")).held is False
    assert (await fleet["w1"].authorize(delivery.entry_id, delivery.token, "y")).pause_ms == 0


# --- reading ---


async def test_the_account_in_numbers(fleet: Fleet) -> None:
    """Lag, pending, oldest, leases, and amounts in their currency."""
    await fleet.send_all("aab")
    a, b = await take(fleet["w1"])
    await admit(fleet["w1"], a, "s-1", notional=2_500_000)
    await fleet.send("c")
    account = await fleet["w1"].account()
    assert (account.lag, account.pending, account.leases) == (1, 3, 2)
    assert account.exposure == {"USDT": pytest.approx(2.5)}
    assert 0 <= account.oldest_pending_ms < 5_000
    assert (account.open_positions, account.dead_letters, account.unresolved) == (0, 0, 0)
    assert b.entry_id in await fleet.pending()


async def test_an_account_without_anything_is_all_zeros(fleet: Fleet) -> None:
    """An empty group has nothing pending."""
    account = await fleet["w1"].account()
    assert (account.lag, account.pending, account.oldest_pending_ms) == (0, 0, 0)
    assert account.exposure == account.realized == {}


async def test_an_account_that_does_not_exist_yet_is_an_error(fleet: Fleet) -> None:
    """Not zeros: the difference matters to whoever looks."""
    await fleet.redis.flushall()
    with pytest.raises(GroupMissingError):
        await fleet["w1"].account()


async def test_the_book_lists_positions_and_what_is_being_changed(fleet: Fleet) -> None:
    """Busy keys are those a signal is opening or closing."""
    await fleet.send_all("ab")
    a, b = await take(fleet["w1"])
    one = position()
    await fleet.redis.hset(fleet.key("book"), "x:P", msgspec.json.encode(one))
    await admit(fleet["w1"], a, "s-1", action="close", position_key="x:P", notional=0)
    await admit(fleet["w1"], b, "s-2", position_key="x:Q")
    book = await fleet["w1"].book()
    assert book.positions == {"x:P": one}
    assert book.busy == {"x:P", "x:Q"}


@pytest.mark.parametrize("call", ["heartbeat", "claim", "sweep", "leave", "adopt"])
async def test_repeating_a_call_after_a_lost_reply_is_harmless(fleet: Fleet, call: str) -> None:
    """Called twice with nothing in between, each leaves the account as one call does."""
    delivery = await held_one(fleet)
    ledger = fleet["w1"]
    calls: dict[str, Any] = {
        "heartbeat": lambda: ledger.heartbeat([(delivery.entry_id, delivery.token)], b"{}"),
        "claim": lambda: ledger.claim(5),
        "sweep": lambda: ledger.sweep(0),
        "leave": ledger.leave,
        "adopt": lambda: ledger.adopt(5),
    }
    await calls[call]()
    before = (await fleet.pending(), await fleet.entry(delivery.entry_id))
    await calls[call]()
    assert (await fleet.pending(), await fleet.entry(delivery.entry_id)) == before


# --- a primary that took over ---


async def test_whoever_grants_tells_of_a_primary_that_took_over(fleet: Fleet) -> None:
    """Not the claim alone: the keeper's adoption, a resync and a commit's next entry as well."""
    await fleet.send_all("abcc")
    a, b, c = await take(fleet["w1"])
    await admit(fleet["w1"], a)
    await fleet["w1"].park(a.entry_id, a.token, "s-1", 0, UNRESOLVED)
    keeper = fleet["w2"]
    assert await take(keeper) == []
    await fleet.redis.hset(fleet.key("epoch"), "primary", "f" * 40)  # another than this one
    (adopted,) = await keeper.adopt(8)
    (found,) = await fleet["w1"].resync([c.entry_id])
    assert isinstance(found, Delivery)
    assert found.entry_id == b.entry_id
    following = (await commit_one(fleet["w1"], outcome(c, "s-3"))).following
    assert following is not None
    for one in (adopted, found, following):
        assert one.data_loss_ms > 0
        assert one.settled_mono_ms > one.received_mono_ms


async def test_an_unresolved_order_given_back_is_the_keepers_alone(fleet: Fleet) -> None:
    """A draining keeper offers it to all; no claim takes it, and the next keeper does."""
    delivery = await held_one(fleet)
    await admit(fleet["w1"], delivery)
    await park(fleet, delivery, retry_ms=0)
    (adopted,) = await fleet["w1"].adopt(8)
    await fleet["w1"].release([(adopted.entry_id, adopted.token, 0, False)])
    assert await take(fleet["w2"]) == []
    await fleet.redis.zadd(fleet.key("unresolved"), {adopted.entry_id: 0})  # it is due
    (again,) = await fleet["w2"].adopt(8)
    assert again.entry_id == delivery.entry_id


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


async def test_workers_of_one_key_divide_its_budget_and_others_do_not(fleet: Fleet) -> None:
    """Each heartbeat tells how many there are now; a part that is not renewed lapses."""
    budgets = {"w1": Noted("x", "x:a"), "w2": Noted("x", "x:a"), "w3": Noted("x", "x:b")}
    ledgers = {name: fleet.join(name, budgets=one, lease_ms=400) for name, one in budgets.items()}
    for ledger in (*ledgers.values(), ledgers["w1"], ledgers["w2"]):
        await ledger.heartbeat([], b"{}")
    assert budgets["w1"].shares == {"x": (3, 0), "x:a": (2, 0)}
    assert budgets["w2"].shares == {"x": (3, 1), "x:a": (2, 1)}
    assert budgets["w3"].shares == {"x": (3, 2), "x:b": (1, 0)}
    await asyncio.sleep(0.5)
    await ledgers["w2"].heartbeat([], b"{}")
    assert budgets["w2"].shares == {"x": (1, 0), "x:a": (1, 0)}
    await asyncio.sleep(0.5)
    assert await fleet.redis.exists(fleet.key("budget:x"), fleet.key("budget:x:a")) == 0


async def test_a_hold_reaches_every_worker_with_its_next_reply(fleet: Fleet) -> None:
    """A worker that waits for signals is woken for it; a new one learns it first of all."""
    waits, claims, beats = Noted(), Noted(), Noted("x")
    waiting = fleet.join("w2", budgets=waits)
    tail = (await waiting.claim(1)).tail
    (delivery,) = [await held_one(fleet)]
    claim = asyncio.create_task(waiting.claim(1, after=tail, wait_ms=100))
    await claim
    claim = asyncio.create_task(waiting.claim(1, after=delivery.entry_id.encode(), wait_ms=30_000))
    await asyncio.sleep(0.1)
    assert await fleet["w1"].throttle("x:a", 20_000) == 20_000
    await asyncio.wait_for(claim, 5)
    await fleet.join("w3", budgets=beats).heartbeat([], b"{}")
    await fleet.join("w4", budgets=claims).claim(0)
    for one in (waits, claims, beats):
        assert 15_000 < one.holds["x:a"] <= 20_000
    await fleet["w1"].throttle("y", 1)
    await asyncio.sleep(0.01)
    await fleet["w1"].throttle("z", 1)
    assert set(await fleet.hash("throttle")) == {"x:a", "z"}  # what is over is forgotten
