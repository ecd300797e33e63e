"""What a person decides, on real servers: an order in doubt, a position traded by hand."""

import json
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from tests.integration.fleets import Fleet, admit, commit, filled, fleet_on, take_one
from tests.unit.parts import position
from worker.config.keys import Config, RedisConfig, Secret
from worker.domain.money import rounded_text
from worker.domain.position import Position
from worker.domain.verdict import Verdict
from worker.ledger.inspection import StoredPosition
from worker.ledger.replies import Delivery
from worker.operator.decisions import DecisionError, Decisions
from worker.operator.reader import AccountReader
from worker.runtime.embedded_server import EmbeddedServer

D = Decimal
ABSENT = Verdict(actor="ann@desk", reason="not in the exchange's list")
UNRESOLVED = ("SystemError", "e-unresolved", "{}")
KEY = "x:B/USDT:USDT"


@pytest.fixture
async def fleet(server: EmbeddedServer) -> AsyncIterator[Fleet]:
    async with fleet_on(server.url) as made:
        yield made


@pytest.fixture
async def decisions(fleet: Fleet) -> AsyncIterator[Decisions]:
    config = Config(redis=RedisConfig(url=Secret(fleet.url)))
    async with AccountReader(config) as reader:
        yield reader.decisions


async def admitted(fleet: Fleet) -> Delivery:
    await fleet.send("a")
    delivery = await take_one(fleet["w1"])
    await admit(fleet["w1"], delivery)
    return delivery


async def in_doubt(fleet: Fleet) -> Delivery:
    delivery = await admitted(fleet)
    assert await fleet["w1"].park(delivery.entry_id, delivery.token, "s-1", 0, UNRESOLVED)
    return delivery


async def said(fleet: Fleet, code: str) -> list[dict[str, Any]]:
    """The system events of a code."""
    events = [json.loads(fields[b"data"]) for fields in await fleet.stream("system")]
    return [event for event in events if event.get("code") == code]


# --- an order in doubt ---


async def test_a_decision_comes_with_the_keepers_next_look(
    fleet: Fleet, decisions: Decisions
) -> None:
    """The last one counts; it is written down with who and why, and gone with the entry."""
    await in_doubt(fleet)
    await decisions.decide("s-1", ABSENT)
    verdict = msgspec.structs.replace(ABSENT, filled=D("0.5"), price=D("10.1"))
    await decisions.decide("s-1", verdict)
    (adopted,) = await fleet["w2"].adopt(8)
    assert adopted.verdict == verdict
    told = await said(fleet, "ORDER_DECIDED")
    assert [one["signal_id"] for one in told] == ["s-1", "s-1"]
    assert told[0]["reason"] == (
        "ann@desk decided that the order of s-1 is not there: not in the exchange's list"
    )
    assert "filled 0.5 at 10.1" in told[1]["reason"]
    await commit(fleet["w2"], filled(adopted))
    assert await fleet.hash("verdicts") == {}


async def test_without_a_decision_the_keeper_hears_of_none(fleet: Fleet) -> None:
    """And another entry's is not this one's."""
    await in_doubt(fleet)
    (adopted,) = await fleet["w2"].adopt(8)
    assert adopted.verdict is None


async def test_a_decision_asked_for_again_is_one(fleet: Fleet, decisions: Decisions) -> None:
    """A lost reply writes nothing twice."""
    await in_doubt(fleet)
    for _ in range(2):
        await decisions.decide("s-1", ABSENT)
    assert len(await said(fleet, "ORDER_DECIDED")) == 1


async def test_a_decision_survives_a_keeper_that_dies_with_it(
    fleet: Fleet, decisions: Decisions
) -> None:
    """Whoever adopts the order next has it too."""
    delivery = await in_doubt(fleet)
    await decisions.decide("s-1", ABSENT)
    await fleet["w2"].adopt(8)
    await fleet.expire(delivery.entry_id)
    taken = await take_one(fleet["w3"])
    assert taken.verdict == ABSENT
    (found,) = await fleet["w3"].resync([])
    assert isinstance(found, Delivery)
    assert found.verdict == ABSENT
    assert await fleet["w3"].release([(found.entry_id, found.token, 0, False)]) == 1
    await fleet.redis.zadd(fleet.key("unresolved"), {delivery.entry_id: 0})  # it is due
    (again,) = await fleet["w2"].adopt(8)
    assert again.verdict == ABSENT


async def test_an_order_whose_admission_was_lost_says_why_it_cannot_be_decided(
    fleet: Fleet, decisions: Decisions
) -> None:
    """It is on the list of unresolved orders all the same."""
    await fleet.send("a")
    delivery = await take_one(fleet["w1"])
    await fleet["w1"].park(delivery.entry_id, delivery.token, "s-1", 0, UNRESOLVED)
    with pytest.raises(DecisionError, match="was lost with a primary"):
        await decisions.decide("s-1", ABSENT)


async def test_only_an_unresolved_order_can_be_decided(fleet: Fleet, decisions: Decisions) -> None:
    """None that is unknown, on its way, or over."""
    with pytest.raises(DecisionError, match="no order of signal s-1 is known"):
        await decisions.decide("s-1", ABSENT)
    delivery = await admitted(fleet)
    with pytest.raises(DecisionError, match="s-1 is not unresolved: it is ADMITTED"):
        await decisions.decide("s-1", ABSENT)
    await commit(fleet["w1"], filled(delivery))
    with pytest.raises(DecisionError, match="s-1 is not unresolved: it is FILLED"):
        await decisions.decide("s-1", ABSENT)
    assert await fleet.hash("verdicts") == {}
    assert await fleet.stream("system") == []


# --- a position ---

SYMBOL = "B/USDT:USDT"
HELD = position(exchange="x", symbol=SYMBOL)


async def taken(fleet: Fleet) -> Delivery:
    """A signal about the position's place."""
    await fleet.send("a")
    return await take_one(fleet["w1"])


async def hold(fleet: Fleet, signal: str = "s-1") -> None:
    """Let the book have 1 at 100, worth a hundred million millionths."""
    delivery = await taken(fleet)
    await admit(fleet["w1"], delivery, signal, position_key=KEY)
    text = msgspec.json.encode(HELD).decode()
    item = filled(
        delivery,
        signal,
        position_key=KEY,
        position=text,
        exposure=100_000_000 - 100,
        reserved=100,
    )
    await commit(fleet["w1"], item)


async def correct(decisions: Decisions, quantity: str) -> tuple[Position, Position]:
    return await decisions.correct(
        "x", SYMBOL, quantity=D(quantity), price=D(90), actor="ann@desk", reason="by hand"
    )


async def told(fleet: Fleet) -> list[dict[str, Any]]:
    """What the stream of positions says, each event under the signal that opened it."""
    entries = await fleet.stream("positions")
    assert {fields[b"subject"] for fields in entries} <= {b"s-0"}
    return [json.loads(fields[b"data"]) for fields in entries]


async def test_a_position_closed_by_hand_leaves_the_book(
    fleet: Fleet, decisions: Decisions
) -> None:
    """Its exposure is free, its loss counts towards the day's limit, and both streams tell it."""
    await hold(fleet)
    before, after = await correct(decisions, "0")
    assert (before.quantity, after.quantity, after.realized_pnl) == (D(1), D(0), D(-10))
    assert await fleet.hash("book") == {}
    assert await fleet.hash("totals") == {"USDT": "0"}
    assert await fleet.hash("realized") == {"USDT": "-10000000"}
    (day,) = [key async for key in fleet.redis.scan_iter("{main}:day:*")]
    assert await fleet.redis.hgetall(day) == {b"USDT": b"-10000000"}
    assert 0 < await fleet.redis.ttl(day) <= 259_200
    (event,) = await told(fleet)
    assert (event["type"], event["close_reason"]) == ("PositionClosed", "external")
    assert (event["exit_price"], event["realized_pnl"]) == ("90", "-10")
    (audit,) = await said(fleet, "POSITION_CORRECTED")
    assert audit["reason"] == (
        "ann@desk corrected B/USDT:USDT on x from 1 to 0, traded at 90: by hand"
    )


@pytest.mark.parametrize(
    ("quantity", "entry_price", "millionths", "realized"),
    [("0.25", "100", "25000000", "-7.5"), ("3", "93.333333333333333333", "280000000", "0")],
    ids=["less", "more"],
)
async def test_a_position_changed_by_hand_is_what_it_is_now(
    fleet: Fleet,
    decisions: Decisions,
    quantity: str,
    entry_price: str,
    millionths: str,
    realized: str,
) -> None:
    """Book, exposure, profit and event agree."""
    await hold(fleet)
    _, after = await correct(decisions, quantity)
    (raw,) = (await fleet.hash("book")).values()
    assert msgspec.json.decode(raw, type=Position) == after
    assert (str(after.quantity), rounded_text(after.entry_price)) == (quantity, entry_price)
    assert await fleet.hash("totals") == {"USDT": millionths}
    (event,) = await told(fleet)
    assert (event["type"], event["quantity"], event["realized_pnl"]) == (
        "PositionChanged",
        quantity,
        realized,
    )
    assert event["reason"] == "corrected by ann@desk: by hand"


async def test_a_position_a_signal_works_on_is_left_alone(
    fleet: Fleet, decisions: Decisions
) -> None:
    """What comes of the signal would be written over it."""
    await hold(fleet)
    closing = await taken(fleet)
    await admit(fleet["w1"], closing, "s-2", position_key=KEY, action="close")
    before = await fleet.hash("book")
    with pytest.raises(DecisionError, match="a signal is working on"):
        await correct(decisions, "0")
    assert await fleet.hash("book") == before
    assert await fleet.stream("positions") == []


async def test_a_position_that_changes_meanwhile_is_looked_at_again(
    fleet: Fleet, decisions: Decisions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two people at once: the second one's arithmetic is of a position that is no more."""
    await hold(fleet)
    seen = await decisions._held("x", SYMBOL)
    await correct(decisions, "0.5")
    totals = await fleet.hash("totals")

    async def as_seen(_exchange: str, _symbol: str) -> StoredPosition | None:
        return seen

    monkeypatch.setattr(decisions, "_held", as_seen)
    with pytest.raises(DecisionError, match="has just changed"):
        await correct(decisions, "0")
    assert await fleet.hash("totals") == totals
    assert len(await told(fleet)) == 1


async def test_a_correction_asked_for_again_is_one(
    fleet: Fleet, decisions: Decisions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lost reply books nothing twice."""
    await hold(fleet)
    scripts = decisions._calls._scripts
    run = scripts.run

    async def twice(name: str, *arguments: Any) -> Any:
        await run(name, *arguments)
        return await run(name, *arguments)

    monkeypatch.setattr(scripts, "run", twice)
    await correct(decisions, "0")
    assert await fleet.hash("totals") == {"USDT": "0"}
    assert await fleet.hash("realized") == {"USDT": "-10000000"}
    assert len(await told(fleet)) == len(await said(fleet, "POSITION_CORRECTED")) == 1


async def test_there_must_be_something_to_correct(fleet: Fleet, decisions: Decisions) -> None:
    """No position, or none that is otherwise."""
    with pytest.raises(DecisionError, match="the book has no position x B/USDT:USDT"):
        await correct(decisions, "0")
    delivery = await taken(fleet)
    await admit(fleet["w1"], delivery, position_key=KEY)
    with pytest.raises(DecisionError, match="the book has no position x B/USDT:USDT"):
        await correct(decisions, "0")
    await commit(fleet["w1"], filled(delivery, position_key=KEY, position=None))
    await hold(fleet, "s-2")
    with pytest.raises(DecisionError, match="the book has 1 of B/USDT:USDT on x already"):
        await correct(decisions, "1")
