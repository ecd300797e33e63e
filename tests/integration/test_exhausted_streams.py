"""What a script does about an output stream that can take no entry, on real servers."""

from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any, Final

import msgspec
import pytest

from tests.integration.fleets import Fleet, admit, filled, fleet_on, take, take_one
from tests.integration.test_ledger_commit import DEAD, everything
from tests.unit.parts import ManualClock, position
from worker.config.keys import Config, RedisConfig, Secret
from worker.domain.trading_state import TradingState
from worker.domain.verdict import Verdict
from worker.engine.group_calls import call_for_all
from worker.ledger.errors import LedgerError, ScriptsMissingError
from worker.ledger.operator_calls import OperatorCalls
from worker.ledger.replies import CommitStatus, Committed
from worker.operator.reader import AccountReader
from worker.runtime.embedded_server import EmbeddedServer

OUTPUT: Final = ("orders", "positions")
LARGEST: Final = "18446744073709551615-18446744073709551615"


@pytest.fixture
async def fleet(server: EmbeddedServer) -> AsyncIterator[Fleet]:
    async with fleet_on(server.url, lease_ms=15_000) as made:
        yield made


@pytest.fixture
async def reader(fleet: Fleet) -> AsyncIterator[AccountReader]:
    async with AccountReader(Config(redis=RedisConfig(url=Secret(fleet.url)))) as made:
        yield made


async def _kept(fleet: Fleet) -> dict[bytes, Any]:
    """Every key of the account with all that is in it."""
    kept = {}
    async for key in fleet.redis.scan_iter("{main}:*"):
        is_hash = await fleet.redis.type(key) == b"hash"  # a dump has its fields in any order
        kept[key] = await (fleet.redis.hgetall(key) if is_hash else fleet.redis.dump(key))
    return kept


@pytest.mark.parametrize("deleted", [False, True], ids=["there", "deleted"])
@pytest.mark.parametrize(
    ("script", "stream"),
    [
        ("park", "system"), ("decide", "system"), ("control", "system"), ("announce", "system"),
        ("correct", "system"), ("correct", "positions"),
    ],
)  # fmt: skip
async def test_a_script_that_cannot_write_its_event_writes_nothing(
    fleet: Fleet, reader: AccountReader, script: str, stream: str, deleted: bool
) -> None:
    """All or nothing, also where the entry with the largest id is gone; mended, it goes through."""
    await fleet.send("a")
    delivery = await take_one(fleet["w"])
    await admit(fleet["w"], delivery)
    event, worker = ("SystemError", "e", "{}"), fleet["w"]
    if script == "decide":
        await worker.park(delivery.entry_id, delivery.token, "s-1", 0, event)
    if script == "control":
        await reader.trading.ask(TradingState.HALTED, actor="o", reason="test")
    held = position(exchange="x", symbol="B/USDT")
    await fleet.redis.hset(fleet.key("book"), "x:B/USDT", msgspec.json.encode(held))

    async def act() -> Any:
        if script == "park":
            return await worker.park(delivery.entry_id, delivery.token, "s-1", 0, event)
        if script == "decide":
            return await reader.decisions.decide("s-1", Verdict(actor="o", reason="test"))
        if script == "control":
            return await reader.trading.resume(actor="o", reason="test")
        if script == "announce":
            return await reader.decisions._calls.announce(("system", *event))
        return await reader.decisions.correct(
            "x", "B/USDT", quantity=Decimal(0), price=Decimal(90), actor="o", reason="test"
        )

    await fleet.redis.xadd(fleet.key(stream), {"type": "x", "data": "{}"}, id=LARGEST)
    if deleted:
        await fleet.redis.xdel(fleet.key(stream), LARGEST)
    before, written = await _kept(fleet), len(await fleet.stream(stream))
    with pytest.raises(LedgerError, match=r"exhausted .*mend-stream"):
        await act()
    assert await _kept(fleet) == before
    assert [one.mended async for one in reader.mending.mend((stream,), actor="t")] == [True]
    await act()
    said = len(await fleet.stream(stream)) - written
    assert said == (2 if stream == "system" else 1), "the mending says so too"


@pytest.mark.parametrize("deleted", [False, True], ids=["there", "deleted"])
@pytest.mark.parametrize("stream", ["orders", "positions", "dead"])
async def test_a_commit_that_cannot_write_writes_nothing_of_that_item(
    fleet: Fleet, reader: AccountReader, stream: str, deleted: bool
) -> None:
    """Those before it are committed, with what follows them; it errs; mended, it goes through."""
    await fleet.send_all("aabc")
    worker = fleet["w"]
    first, second, third = await take(worker)
    for number, one in enumerate((first, second, third), 1):
        await admit(worker, one, f"s-{number}")
    items = [filled(first, "s-1", events=())]
    items += [
        filled(
            one, signal, events=tuple((to, "T", f"{signal}-{to}", "{}") for to in OUTPUT), dead=DEAD
        )
        for signal, one in (("s-2", second), ("s-3", third))
    ]
    await fleet.redis.xadd(fleet.key(stream), {"type": "x", "data": "{}"}, id=LARGEST)
    if deleted:
        await fleet.redis.xdel(fleet.key(stream), LARGEST)
    before = await _shown(fleet)
    for call in (items[1:], items[2:]):
        with pytest.raises(LedgerError, match=r"exhausted .*mend-stream"):
            await worker.commit(call)
        assert await _shown(fleet) == before
    done, *errors = await call_for_all(worker.commit, items)
    assert isinstance(done, Committed)
    assert done.status is CommitStatus.COMMITTED
    assert done.following is not None
    assert [type(error) for error in errors] == [LedgerError] * 2
    after = await _shown(fleet)
    changed = {key.decode() for key in before | after if after.get(key) != before.get(key)}
    assert changed - {fleet.key("totals")} == {
        fleet.key(name) for name in ("entries", "leases", "lines", "book", "record:s-1")
    }, "of the first one, and nothing of the others"
    assert [one.mended async for one in reader.mending.mend((stream,), actor="t")] == [True]
    answers = await worker.commit(items[1:])
    assert [one.status for one in answers] == [CommitStatus.COMMITTED] * 2
    for name in (*OUTPUT, "dead"):
        kept = [
            one for one in await fleet.stream(name) if b"type" not in one or one[b"type"] == b"T"
        ]
        assert len(kept) == 2, name


async def _shown(fleet: Fleet) -> dict[bytes, Any]:
    """What is in every key; a stream without an entry may be there or not."""
    return {key: value for key, value in (await everything(fleet)).items() if value}


@pytest.mark.parametrize("deleted", [False, True], ids=["there", "deleted"])
@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "none"])
async def test_trading_can_be_stopped_where_no_event_can_be_written(
    fleet: Fleet,
    reader: AccountReader,
    monkeypatch: pytest.MonkeyPatch,
    scripts: bool,
    deleted: bool,
) -> None:
    """The halt is in force, workers are woken, and the error says that its event is missing.

    It cannot be lifted, though; also where Redis was restarted and has no scripts.
    """
    if not scripts:
        await _forget_scripts(fleet, monkeypatch)
    await fleet.redis.xadd(fleet.key("system"), {"type": "x", "data": "{}"}, id=LARGEST)
    if deleted:
        await fleet.redis.xdel(fleet.key("system"), LARGEST)
    with pytest.raises(LedgerError, match=r"is HALTED now, but without an event.*mend-stream"):
        await reader.trading.ask(TradingState.HALTED, actor="o", reason="test")
    assert (await reader.trading.read()).control.trading_state is TradingState.HALTED
    assert len(await fleet.stream("bell")) == 1
    with pytest.raises(LedgerError, match=r"exhausted .*mend-stream") as caught:
        await reader.trading.resume(actor="o", reason="test")
    assert "ACTIVE now" not in str(caught.value)
    assert (await reader.trading.read()).control.trading_state is TradingState.HALTED


async def test_a_change_without_scripts_says_of_any_event_that_it_is_missing(
    fleet: Fleet, reader: AccountReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key of another type is in its place: halted and said; not resumed and said."""
    await _forget_scripts(fleet, monkeypatch)
    change = await reader.trading.ask(TradingState.REDUCING, actor="o", reason="test")
    assert change.control.trading_state is TradingState.REDUCING
    await reader.trading.resume(actor="o", reason="test")
    assert len(await fleet.stream("system")) == 2
    await fleet.redis.set(fleet.key("system"), "no stream")
    with pytest.raises(LedgerError, match=r"is HALTED now, but without an event: .*WRONGTYPE"):
        await reader.trading.ask(TradingState.HALTED, actor="o", reason="test")
    with pytest.raises(LedgerError, match="WRONGTYPE"):
        await reader.trading.resume(actor="o", reason="test")
    assert (await reader.trading.read()).control.trading_state is TradingState.HALTED


async def _forget_scripts(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this Redis have no scripts, and its user not load them."""

    async def refused(*_arguments: object) -> bool:
        raise ScriptsMissingError("control")

    await fleet.redis.script_flush()
    monkeypatch.setattr(OperatorCalls, "change_control", refused)


async def test_events_of_two_processes_have_ids_of_their_own(fleet: Fleet) -> None:
    """Also where one actor's requests come in the same millisecond, as his first each."""
    clock = ManualClock()
    for _ in range(3):
        async with AccountReader(
            Config(redis=RedisConfig(url=Secret(fleet.url))), clock=clock
        ) as one:
            await one.trading.ask(TradingState.HALTED, actor="o", reason="test")
    ids = [event[b"id"] for event in await fleet.stream("system")]
    assert len(set(ids)) == len(ids) == 3


async def test_a_script_of_several_events_sees_that_there_is_room_for_one_only(
    fleet: Fleet, reader: AccountReader
) -> None:
    """The first would get the largest id, and the second none, the rest written already."""
    one_left = LARGEST.removesuffix("5") + "4"
    held = position(exchange="x", symbol="B/USDT")
    await fleet.redis.hset(fleet.key("book"), "x:B/USDT", msgspec.json.encode(held))
    await fleet.redis.xadd(fleet.key("positions"), {"type": "x", "data": "{}"}, id=one_left)
    before = await _kept(fleet)
    with pytest.raises(LedgerError, match=r"exhausted .*mend-stream"):
        await reader.decisions.correct(
            "x", "B/USDT", quantity=Decimal(0), price=Decimal(90), actor="o", reason="test"
        )
    assert await _kept(fleet) == before
