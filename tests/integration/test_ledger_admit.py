"""Admission on a real server: each limit exactly at its edge, and never exceeded together."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from tests.integration.fleets import (
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
from worker.domain.trading_state import TradingState
from worker.ledger.calls import RedisLedger
from worker.ledger.items import AdmitItem
from worker.ledger.replies import Admitted, Delivery, Duplicate, Fenced
from worker.runtime.embedded_server import EmbeddedServer

DAY_MS, MINUTE_MS = 86_400_000, 60_000


@pytest.fixture
async def fleet(server: EmbeddedServer) -> AsyncIterator[Fleet]:
    async with fleet_on(server.url) as made:
        yield made


async def held(fleet: Fleet, count: int, worker: str = "w1") -> list[Delivery]:
    """Some entries of different groups, in one worker's hands."""
    await fleet.send_all(f"group {n}" for n in range(count))
    return await take(fleet[worker], count)


async def open_position(fleet: Fleet, signal: str = "s-0", notional: int = 100) -> None:
    """One position in the book, through the front door."""
    await fleet.send(f"group of {signal}")
    delivery = await take_one(fleet["w1"])
    await admit(fleet["w1"], delivery, signal, notional=notional)
    await commit(fleet["w1"], filled(delivery, signal))


# --- what an admission writes ---


async def test_an_admission_writes_record_reservation_and_exposure(fleet: Fleet) -> None:
    """One script writes record, reservation and exposure, before anything is sent."""
    (delivery,) = await held(fleet, 1)
    answer = await admit(fleet["w1"], delivery, notional=250)
    record = await fleet.record("s-1")
    assert record is not None
    assert record.entry == delivery.entry_id
    assert (record.state, record.plan) == ("ADMITTED", '{"intent": 1}')
    assert (record.digest, record.worker) == ("digest of s-1", "w1")
    assert abs(record.admitted_at - await fleet.now_ms()) < 5_000
    assert answer == Admitted(b"", 0.0, record.admitted_at)
    assert await fleet.reserved("opening") == {"x:s-1": "s-1"}
    assert await fleet.hash("totals") == {"USDT": "250"}
    assert (await fleet.entry(delivery.entry_id))["signal"] == "s-1"
    assert await fleet.redis.ttl(fleet.key("record:s-1")) == -1


async def test_a_refusal_writes_nothing(fleet: Fleet) -> None:
    """A refusal leaves no record, no reservation and no exposure."""
    (delivery,) = await held(fleet, 1)
    await fleet.redis.hset(fleet.key("control"), "trading_state", "HALTED")
    assert await admit_one(fleet["w1"], admission(delivery)) is Code.TRADING_HALTED
    assert await fleet.record("s-1") is None
    for name in ("book", "totals"):
        assert await fleet.hash(name) == {}


async def test_asking_again_gives_the_same_answer_and_reserves_once(fleet: Fleet) -> None:
    """The first reply may have been lost; limits must not count the order twice."""
    (delivery,) = await held(fleet, 1)
    ledger = fleet["w1"]
    item = admission(delivery, max_positions=1, max_exposure=100, max_rate=1)
    first = await admit_one(ledger, item)
    assert isinstance(first, Admitted)
    assert await admit_one(ledger, item) == first == Admitted(b"", 0.0, first.at_ms)
    assert await fleet.hash("totals") == {"USDT": "100"}


async def test_an_admission_whose_record_is_gone_leaves_its_entry_whole(fleet: Fleet) -> None:
    """An entry whose record is gone is admitted again under the signal it has already."""
    await fleet.send("a")
    (delivery,) = await take(fleet["w1"])
    await admit(fleet["w1"], delivery)
    whole = await fleet.entry(delivery.entry_id)
    await fleet.redis.delete(fleet.key("record:s-1"), fleet.key("book"))
    await admit(fleet["w1"], delivery)
    assert await fleet.entry(delivery.entry_id) == whole


async def test_a_close_brings_the_position_as_it_is(fleet: Fleet) -> None:
    """Admitting a close returns the stored position, and the same one when repeated."""
    await open_position(fleet)
    (delivery,) = await held(fleet, 1)
    item = admission(delivery, action="close", position_key="x:s-0", notional=0)
    for _ in range(2):
        answer = await admit_one(fleet["w1"], item)
        assert isinstance(answer, Admitted)
        assert answer.position == b'{"held": 1}'
    assert await fleet.reserved("closing") == {"x:s-0": "s-1"}
    assert await fleet.reserved("opening") == {}


STRATEGIES = {
    '{"strategy_id":"alpha"}': "alpha",
    '{"strategy_id":"al\\u0070ha"}': "alpha",
    '{"strategy_id":"\u00e9t\u00e9 \\"1\\""}': '\u00e9t\u00e9 "1"',
    '{"strategy_id":null}': "",
    '{"held":1}': "",
}


@pytest.mark.parametrize(("position", "opener"), STRATEGIES.items())
async def test_a_close_bound_to_the_opener_needs_its_strategy(
    fleet: Fleet, position: str, opener: str
) -> None:
    """Judged in the step that reserves the position; a refused close reserves nothing."""
    ledger = fleet["w1"]
    first, *rest = await held(fleet, 4)
    await admit(ledger, first, "s-0")
    await commit(ledger, filled(first, "s-0", position=position))

    def close(delivery: Delivery, signal: str, **fields: Any) -> AdmitItem:
        whole = {"action": "close", "position_key": "x:s-0", "notional": 0} | fields
        return admission(delivery, signal, **whole)

    stranger = close(rest[0], "s-1", opener="beta")
    assert await admit_one(ledger, stranger) is Code.NOT_THE_OPENER
    assert await admit_one(ledger, stranger) is Code.NOT_THE_OPENER, "asked again"
    assert await fleet.record("s-1") is None
    assert await fleet.reserved("closing") == {}
    # What may have been sent before the limits were asked is found, whoever asked for it.
    answer = await admit_one(ledger, close(rest[1], "s-2", opener="beta", only_look=True))
    assert isinstance(answer, Admitted)
    await commit(
        ledger,
        outcome(rest[1], "s-2", reservation="closing", position_key="x:s-0", quote="USDT"),
    )
    answer = await admit_one(ledger, close(rest[2], "s-3", opener=opener))
    assert isinstance(answer, Admitted)
    assert answer.position.decode() == position


# --- limits at their edges ---


@pytest.mark.parametrize("places", [1, 2, 5])
async def test_positions_open_and_reserved_count_together(fleet: Fleet, places: int) -> None:
    """The limit on positions counts filled and reserved ones alike."""
    await open_position(fleet)
    deliveries = await held(fleet, places)
    answers = [
        await admit_one(fleet["w1"], admission(one, f"s-{n}", max_positions=places))
        for n, one in enumerate(deliveries, start=1)
    ]
    assert [isinstance(answer, Admitted) for answer in answers[:-1]] == [True] * (places - 1)
    assert answers[-1] is Code.MAX_POSITIONS


@pytest.mark.parametrize(
    ("notional", "limit", "passes"),
    [(100, 200, True), (101, 200, False), (10**9, 0, True), (1, 100, False), (1, 101, True)],
)
async def test_exposure_may_reach_its_limit_but_not_pass_it(
    fleet: Fleet, notional: int, limit: int, passes: bool
) -> None:
    """An order that reaches the exposure limit exactly passes; a limit of zero is none."""
    await open_position(fleet, notional=100)
    (delivery,) = await held(fleet, 1)
    answer = await admit_one(
        fleet["w1"], admission(delivery, notional=notional, max_exposure=limit)
    )
    assert isinstance(answer, Admitted) if passes else answer is Code.MAX_EXPOSURE


async def test_exposure_is_counted_by_quote_currency(fleet: Fleet) -> None:
    """The exposure in USDT does not count towards the limit in EUR."""
    one, two = await held(fleet, 2)
    await admit(fleet["w1"], one, "s-1", max_exposure=100)
    await admit(fleet["w1"], two, "s-2", max_exposure=100, quote="EUR")
    assert await fleet.hash("totals") == {"USDT": "100", "EUR": "100"}


@pytest.mark.parametrize(
    ("realized", "limit", "passes"),
    [(-99, 100, True), (-100, 100, False), (50, 100, True), (-(10**9), 0, True)],
)
async def test_todays_loss_stops_new_positions_at_its_limit(
    fleet: Fleet, realized: int, limit: int, passes: bool
) -> None:
    """A loss of the server's UTC day stops openings at the limit, never closes."""
    day = await fleet.now_ms() // DAY_MS
    await open_position(fleet)
    await fleet.redis.hset(fleet.key(f"day:{day}"), "USDT", realized)
    await fleet.redis.hset(fleet.key(f"day:{day - 1}"), "USDT", -(10**12))
    one, two = await held(fleet, 2)
    answer = await admit_one(fleet["w1"], admission(one, max_loss=limit))
    assert isinstance(answer, Admitted) if passes else answer is Code.DAILY_LOSS_LIMIT
    close = admission(two, "s-2", action="close", position_key="x:s-0", max_loss=limit)
    assert isinstance(await admit_one(fleet["w1"], close), Admitted)


async def test_orders_a_minute_have_a_limit(fleet: Fleet) -> None:
    """The opening past the limit is refused, and the times of admissions expire by themselves."""
    now_ms = await fleet.now_ms()
    earlier = {f"earlier {n}": now_ms - 30_000 for n in range(5)}
    await fleet.redis.zadd(fleet.key("rate"), earlier | {"long ago": now_ms - MINUTE_MS})
    one, two, three = await held(fleet, 3)
    limits = {"max_rate": 7, "max_positions": 9}
    await admit(fleet["w1"], one, "s-1", **limits)
    await admit(fleet["w1"], two, "s-2", **limits)
    assert await admit_one(fleet["w1"], admission(three, "s-3", **limits)) is Code.ORDER_RATE_LIMIT
    assert 0 < await fleet.redis.pttl(fleet.key("rate")) <= MINUTE_MS
    assert await fleet.redis.zcard(fleet.key("rate")) == 7


async def test_an_order_refused_for_another_reason_uses_up_no_rate(fleet: Fleet) -> None:
    """An opening refused before the rate check is not counted towards the rate."""
    one, two, three = await held(fleet, 3)
    await admit(fleet["w1"], one, "s-1", max_positions=1, max_rate=2)
    answer = await admit_one(fleet["w1"], admission(two, "s-2", max_positions=1, max_rate=2))
    assert answer is Code.MAX_POSITIONS
    await admit(fleet["w1"], three, "s-3", max_positions=2, max_rate=2)


# --- one position a symbol ---


async def test_a_symbol_has_one_position_and_one_change_at_a_time(fleet: Fleet) -> None:
    """A position key is busy while reserved, taken while held, and free after the close."""
    opening, closing, *others = await held(fleet, 9)
    ledger = fleet["w1"]
    tried = iter(others)

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
    await admit(ledger, closing, "s-2", action="close", position_key="x:P", notional=0)
    assert await refused("close") is Code.POSITION_BUSY
    closed = {"position_key": "x:P", "position": "", "reservation": "closing", "exposure": -100}
    await commit(ledger, filled(closing, "s-2", **closed))
    assert await refused("close") is Code.NO_POSITION
    await admit(ledger, next(tried), "s-3", position_key="x:P")


async def test_a_refusal_stands_until_the_entry_changes_hands(fleet: Fleet) -> None:
    """The same worker asking again may have lost the reply, and may have said so already."""
    (delivery,) = await held(fleet, 1)
    await fleet.redis.hset(fleet.key("control"), "trading_state", "HALTED")
    assert await admit_one(fleet["w1"], admission(delivery)) is Code.TRADING_HALTED
    await fleet.redis.delete(fleet.key("control"))
    assert await admit_one(fleet["w1"], admission(delivery)) is Code.TRADING_HALTED
    await fleet.expire(delivery.entry_id)
    await admit(fleet["w2"], await take_one(fleet["w2"]))


# --- trading states ---


@pytest.mark.parametrize(
    ("state", "opens", "closes"),
    [
        (None, None, None),
        ("ACTIVE", None, None),
        ("REDUCING", Code.TRADING_REDUCING, None),
        ("HALTED", Code.TRADING_HALTED, Code.TRADING_HALTED),
        ("", Code.TRADING_HALTED, Code.TRADING_HALTED),
        ("active", Code.TRADING_HALTED, Code.TRADING_HALTED),
        ("\xff garbage", Code.TRADING_HALTED, Code.TRADING_HALTED),
    ],
)
async def test_what_the_trading_state_lets_through(
    fleet: Fleet, state: str | None, opens: Code | None, closes: Code | None
) -> None:
    """Absent means active; anything unknown means halted, in the heartbeat's words too."""
    await open_position(fleet)
    if state is not None:
        await fleet.redis.hset(fleet.key("control"), "trading_state", state)
    one, two = await held(fleet, 2)
    opening = await admit_one(fleet["w1"], admission(one))
    closing = await admit_one(
        fleet["w1"], admission(two, "s-2", action="close", position_key="x:s-0")
    )
    assert opening is opens if opens else isinstance(opening, Admitted)
    assert closing is closes if closes else isinstance(closing, Admitted)
    state = (await fleet["w1"].heartbeat([], b"{}")).trading_state
    expected = {Code.TRADING_HALTED: "HALTED", Code.TRADING_REDUCING: "REDUCING"}
    assert state is TradingState(expected.get(opens, "ACTIVE") if opens else "ACTIVE")
    assert (await fleet["w1"].authorize(one.entry_id, one.token, "x")).trading_state is state


# --- used ids and fences ---


async def test_a_used_id_is_a_duplicate_or_a_conflict(fleet: Fleet) -> None:
    """The content tells a duplicate from a conflict, before the first one's end and after."""
    first, second = await held(fleet, 2)
    await admit(fleet["w1"], first)
    same = admission(second)
    other = admission(second, digest="another")
    for _ in range(2):
        assert await admit_one(fleet["w1"], same) == Duplicate(conflict=False)
        assert await admit_one(fleet["w1"], other) == Duplicate(conflict=True)
        await commit_one(fleet["w1"], filled(first))
    assert await fleet.hash("totals") == {"USDT": "100"}


async def test_a_used_id_is_recognised_within_one_call(fleet: Fleet) -> None:
    """The same signal on three entries, asked for at the same moment: one order."""
    one, two, three = await held(fleet, 3)
    asked = [
        admission(one, position_key="x:P"),
        admission(two, position_key="x:Q"),
        admission(three, position_key="x:R", digest="another"),
    ]
    first, second, third = await fleet["w1"].admit(asked)
    assert isinstance(first, Admitted)
    assert second == Duplicate(conflict=False)
    assert third == Duplicate(conflict=True)
    assert await fleet.reserved("opening") == {"x:P": "s-1"}


@pytest.mark.parametrize("change", [{"token": 9}, {"token": 0}, {"entry": "1-1"}])
async def test_without_the_lease_nothing_is_admitted(fleet: Fleet, change: dict[str, Any]) -> None:
    """A wrong token, an unknown entry and another worker are fenced."""
    (delivery,) = await held(fleet, 1)
    assert await admit_one(fleet["w1"], admission(delivery, **change)) == Fenced()
    assert await admit_one(fleet["w2"], admission(delivery)) == Fenced()
    assert await fleet.reserved("opening") == {}


async def test_a_successor_fences_even_what_was_admitted(fleet: Fleet) -> None:
    """The old worker's repetition of its own admission is refused once another has the entry."""
    (delivery,) = await held(fleet, 1)
    await admit(fleet["w1"], delivery)
    await fleet.expire(delivery.entry_id)
    await take_one(fleet["w2"])
    assert await admit_one(fleet["w1"], admission(delivery)) == Fenced()


async def test_a_pause_of_the_fleet_comes_with_the_admission(fleet: Fleet) -> None:
    """An admission carries the pause of its own exchange and of no other."""
    await fleet["w2"].throttle("x", 5_000)
    one, two = await held(fleet, 2)
    assert 4_000 < (await admit(fleet["w1"], one, "s-1")).pause_ms <= 5_000
    assert (await admit(fleet["w1"], two, "s-2", exchange="y")).pause_ms == 0


# --- together ---


@pytest.mark.parametrize(
    ("limits", "code", "admitted"),
    [
        ({"max_positions": 7}, Code.MAX_POSITIONS, 7),
        ({"max_positions": 99, "max_exposure": 1_199}, Code.MAX_EXPOSURE, 11),
        ({"max_positions": 99, "max_rate": 5}, Code.ORDER_RATE_LIMIT, 5),
    ],
)
async def test_many_workers_never_exceed_a_limit_together(
    fleet: Fleet, limits: dict[str, int], code: Code, admitted: int
) -> None:
    """Thirty admissions by six workers at the same moment: exactly as many as fit."""
    await fleet.send_all(f"g{n}" for n in range(30))
    hands = [(f"w{n}", await take(fleet[f"w{n}"], 5)) for n in range(6)]
    tries = [
        fleet[worker].admit(
            [
                admission(one, f"s-{one.entry_id}", position_key=one.entry_id, **limits)
                for one in deliveries
            ]
        )
        for worker, deliveries in hands
    ]
    answers = [answer for batch in await asyncio.gather(*tries) for answer in batch]
    assert sum(isinstance(answer, Admitted) for answer in answers) == admitted
    assert answers.count(code) == 30 - admitted
    assert await fleet.hash("totals") == {"USDT": str(100 * admitted)}


async def test_a_place_given_back_can_be_taken_again(fleet: Fleet) -> None:
    """A failure after admission frees position, exposure and symbol."""
    one, two = await held(fleet, 2)
    limits = {"max_positions": 1, "max_exposure": 100}
    await admit(fleet["w1"], one, "s-1", position_key="x:P", **limits)
    await commit(
        fleet["w1"],
        outcome(one, reservation="opening", position_key="x:P", quote="USDT", exposure=-100),
    )
    await admit(fleet["w1"], two, "s-2", position_key="x:P", **limits)
    assert await fleet.hash("totals") == {"USDT": "100"}


@pytest.mark.parametrize("exponent", [15, 16, 17, 18])
async def test_very_large_amounts_are_counted_not_broken(fleet: Fleet, exponent: int) -> None:
    """A trillion of a small currency: within what a number can hold, and given back whole."""
    (delivery,) = await held(fleet, 1)
    amount = 10**exponent
    await admit(fleet["w1"], delivery, notional=amount, max_exposure=2 * amount)
    account = await fleet["w1"].account()
    assert account.exposure["USDT"] == amount // 1_000_000
    back = outcome(delivery, reservation="opening", position_key="x:s-1", quote="USDT",
                   exposure=-amount, realized=-amount)  # fmt: skip
    await commit(fleet["w1"], back)
    account = await fleet["w1"].account()
    assert account.exposure["USDT"] == 0
    assert account.realized["USDT"] == -amount // 1_000_000


async def test_each_item_of_a_batch_is_judged_after_the_ones_before_it(fleet: Fleet) -> None:
    """Items admitted in one call are answered as if each had been sent by itself, in order."""
    deliveries = await held(fleet, 5)
    ledger: RedisLedger = fleet["w1"]
    items = [
        admission(one, f"s-{n}", max_positions=3, position_key=f"x:{min(n, 1)}")
        for n, one in enumerate(deliveries)
    ]
    answers = await ledger.admit(items)
    assert [isinstance(answer, Admitted) for answer in answers[:2]] == [True, True]
    assert answers[2:] == [Code.POSITION_BUSY] * 3


async def test_an_order_only_looked_for_may_join_a_position(fleet: Fleet) -> None:
    """It may have traded before its record was lost: then it is part of what is there."""
    await open_position(fleet)
    (delivery,) = await held(fleet, 1)
    item = admission(delivery, position_key="x:s-0", only_look=True)
    answer = await admit_one(fleet["w1"], item)
    assert isinstance(answer, Admitted)
    assert answer.position == b'{"held": 1}'
    assert await fleet.reserved("closing") == {"x:s-0": "s-1"}
    assert await fleet.reserved("opening") == {}
    again = msgspec.structs.replace(item, only_look=False)
    assert await admit_one(fleet["w1"], again) == answer  # asked again: the record speaks


async def test_an_order_only_looked_for_waits_while_the_position_is_changed(fleet: Fleet) -> None:
    """Two changes of one position at a time would lose one of them."""
    await open_position(fleet)
    first, second = await held(fleet, 2)
    await admit(fleet["w1"], first, "s-1", action="close", position_key="x:s-0", notional=0)
    item = admission(second, "s-2", position_key="x:s-0", only_look=True)
    assert await admit_one(fleet["w1"], item) is Code.POSITION_BUSY


async def test_asking_again_tells_of_the_fleets_pause_again(fleet: Fleet) -> None:
    """The first reply, which said so, was lost."""
    (delivery,) = await held(fleet, 1)
    await fleet["w1"].throttle("x", 60_000)
    for _ in range(2):
        answer = await admit_one(fleet["w1"], admission(delivery))
        assert isinstance(answer, Admitted)
        assert 50_000 < answer.pause_ms <= 60_000
