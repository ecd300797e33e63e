"""What a person does with the operator's rights is logged by the keeper, on a real server."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, MutableMapping
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from structlog.testing import capture_logs

from tests.integration.fleets import SIGNALS, Fleet, fleet_on
from tests.unit.parts import position
from worker.assembly.backing import RedisBacking
from worker.assembly.people import duties_to_people
from worker.config.keys import Config, RedisConfig, Secret
from worker.domain.trading_state import TradingState
from worker.domain.verdict import Correction
from worker.keeper.duty import Duty
from worker.ledger.access import Access
from worker.ledger.connection import Connections
from worker.ledger.errors import LedgerError
from worker.ledger.scripts import RedisScripts
from worker.operator.audit import DecisionError
from worker.operator.corrections import ask_for_correction
from worker.operator.reader import AccountReader
from worker.runtime.clock import SystemClock
from worker.runtime.embedded_server import EmbeddedServer

Lines = list[MutableMapping[str, Any]]


@pytest.fixture
async def fleet(server: EmbeddedServer) -> AsyncIterator[Fleet]:
    async with fleet_on(server.url) as made:
        yield made


class Keeper:
    """The duties of one keeper that people see."""

    def __init__(self, fleet: Fleet) -> None:
        config = Config(redis=RedisConfig(url=Secret(fleet.url)))
        connections = Connections(config.redis, key=SIGNALS, name="keeper", timeout_s=2.0)
        fleet.connections.append(connections)
        scripts = RedisScripts(connections, signals=SIGNALS, loads=True)
        access = Access(connections, config.account)
        backing = RedisBacking(access, scripts, fleet["keeper"], output_length=1_000_000)
        people = duties_to_people(config, backing, SystemClock())
        carry_out, watch, end_flatten = people
        self.carry_out: Duty = carry_out
        self.watch: Duty = watch
        self.end_flatten: Duty = end_flatten

    async def look(self, times: int = 2) -> Lines:
        """Look a few times; what was logged."""
        with capture_logs() as lines:
            for _ in range(times):
                await self.watch.run()
        return [line for line in lines if line["log_level"] in {"warning", "error"}]


@pytest.fixture
async def keeper(fleet: Fleet) -> Keeper:
    made = Keeper(fleet)
    assert await made.look() == []
    return made


@pytest.fixture
async def reader(fleet: Fleet) -> AsyncIterator[AccountReader]:
    async with AccountReader(Config(redis=RedisConfig(url=Secret(fleet.url)))) as made:
        yield made


async def codes(fleet: Fleet) -> list[str]:
    """The codes of what the keeper has raised."""
    events = [json.loads(fields[b"data"]) for fields in await fleet.stream("system")]
    return [event["code"] for event in events if event.get("component") == "keeper"]


async def halt(reader: AccountReader, state: TradingState = TradingState.HALTED) -> None:
    if state is TradingState.ACTIVE:
        await reader.trading.resume(reason="storm", actor="ann@desk")
    else:
        await reader.trading.ask(state, reason="storm", actor="ann@desk")


async def test_a_halt_is_logged_with_its_author(
    fleet: Fleet, keeper: Keeper, reader: AccountReader
) -> None:
    """Once, with its event; nothing is raised, for nothing was hidden."""
    await halt(reader)
    lines = await keeper.look()
    assert [line["event"] for line in lines] == ["operator_action", "trading_state_set"]
    assert lines[0]["data"]["actor"] == lines[1]["actor"] == "ann@desk"
    assert (lines[1]["trading_state"], lines[1]["reason"]) == ("HALTED", "storm")
    assert await keeper.look() == []
    assert await codes(fleet) == []


@pytest.mark.parametrize("hidden", [True, False])
async def test_a_state_set_by_hand_is_raised(fleet: Fleet, keeper: Keeper, hidden: bool) -> None:
    """Without an event, or with an event that is not about it."""
    await fleet.redis.hset("{main}:control", mapping={"trading_state": "REDUCING", "actor": "x"})
    if not hidden:
        await fleet.redis.xadd("{main}:system", {"type": "SystemError", "id": "1", "data": "{}"})
    lines = await keeper.look(3)
    assert [line["event"] for line in lines] == ["unannounced_change", "trading_state_set"]
    assert "REDUCING" in lines[0]["reason"]
    assert await codes(fleet) == ["TRADING_STATE_UNANNOUNCED"]


@pytest.mark.parametrize("trim", [True, False], ids=["trimmed", "deleted"])
async def test_removed_events_are_raised(
    fleet: Fleet, keeper: Keeper, reader: AccountReader, trim: bool
) -> None:
    """XADD with a length, or XDEL: how many are missing is logged and told on the stream."""
    for state in (TradingState.HALTED, TradingState.ACTIVE):
        await halt(reader, state)
    await keeper.look()
    if trim:
        await fleet.redis.xadd(
            "{main}:system", {"type": "x", "data": "{}"}, maxlen=1, approximate=False
        )
    else:
        rows = await fleet.redis.xrange("{main}:system")
        await fleet.redis.xdel("{main}:system", *(row[0] for row in rows))
    lines = await keeper.look(3)
    assert [line["event"] for line in lines] == ["unannounced_change"]
    assert lines[0]["reason"].startswith("2 events were removed")
    assert await codes(fleet) == ["EVENTS_REMOVED"]


async def test_what_workers_trim_is_no_removal(fleet: Fleet) -> None:
    """The stream at its configured length, trimmed exactly or a little late."""
    config = Config(redis=RedisConfig(url=Secret(fleet.url), output_max_length=100))
    connections = Connections(config.redis, key=SIGNALS, name="keeper", timeout_s=2.0)
    fleet.connections.append(connections)
    scripts = RedisScripts(connections, signals=SIGNALS)
    access = Access(connections, config.account)
    backing = RedisBacking(access, scripts, fleet["keeper"], output_length=100)
    _, watch, _ = duties_to_people(config, backing, SystemClock())
    with capture_logs() as lines:
        for length in (100, 100, 102):
            for _ in range(150):
                await fleet.redis.xadd("{main}:system", {"type": "x", "id": "1", "data": "{}"})
            await fleet.redis.xtrim("{main}:system", maxlen=length, approximate=False)
            for _ in range(12):
                await watch.run()
    assert [line["event"] for line in lines if line["log_level"] == "error"] == []


@pytest.mark.parametrize("halted", [True, False])
async def test_a_flatten_that_died_holds_nothing_back_for_long(
    fleet: Fleet, keeper: Keeper, reader: AccountReader, halted: bool
) -> None:
    """Its command was killed: when its time is up the keeper lets the halt before it count."""
    if halted:
        await halt(reader)
    await reader.trading.begin_flatten(reason="out", actor="bob@desk", lasts_ms=60_000)
    await keeper.end_flatten.run()
    assert await reader.trading.is_flattening("bob@desk")
    await reader.trading.begin_flatten(reason="out", actor="bob@desk", lasts_ms=0)
    await keeper.end_flatten.run()
    stored = await reader.trading.read()
    state, askers = ("HALTED", ["ann@desk", "bob@desk"]) if halted else ("REDUCING", ["bob@desk"])
    assert (stored.control.trading_state, [one.asker for one in stored.asks]) == (state, askers)
    last = (await fleet.stream("system"))[-1]
    event = json.loads(last[b"data"])
    assert (event["actor"], event["after"]) == ("keeper", state)
    assert event["reason"] == "the flatten of bob@desk did not end in its time"
    length = len(await fleet.stream("system"))
    await keeper.end_flatten.run()
    assert len(await fleet.stream("system")) == length, "told once"


async def test_a_keeper_that_cannot_read_the_state_stays_in_office(
    fleet: Fleet, keeper: Keeper
) -> None:
    """Redis refuses: the duty logs it and is run again later."""
    await fleet.redis.set("{main}:control", "no hash")
    with capture_logs() as lines:
        await keeper.end_flatten.run()
    assert [line["event"] for line in lines] == ["flatten_not_ended"]


async def test_removed_dead_letters_are_counted(fleet: Fleet, keeper: Keeper) -> None:
    """Whoever discards or replays them."""
    ids = [await fleet.redis.xadd("{main}:dead", {"data": "x"}) for _ in range(3)]
    assert await keeper.look() == []
    await fleet.redis.xdel("{main}:dead", *ids[:2])
    (line,) = await keeper.look()
    assert (line["event"], line["count"]) == ("dead_letters_removed", 2)


async def test_another_keeper_goes_on_where_the_last_one_stopped(
    fleet: Fleet, keeper: Keeper, reader: AccountReader
) -> None:
    """Nothing twice, and what happened in between is not missed."""
    await halt(reader)
    assert len(await keeper.look()) == 2
    await halt(reader, TradingState.ACTIVE)
    await fleet.redis.hset("{main}:control", "trading_state", "HALTED")
    lines = await Keeper(fleet).look(3)
    assert [line["event"] for line in lines] == [
        "operator_action", "unannounced_change", "trading_state_set",
    ]  # fmt: skip
    assert await Keeper(fleet).look() == []


async def test_a_mended_stream_is_watched_from_where_it_ends(
    fleet: Fleet, keeper: Keeper, reader: AccountReader
) -> None:
    """Its ids were ahead of the clock, up to the largest; then they are below the keeper's mark."""
    largest = "18446744073709551615-18446744073709551615"
    for entry_id in ("18446744073709551615-1", largest):
        await fleet.redis.xadd("{main}:system", {"type": "x", "data": "{}"}, id=entry_id)
    assert await keeper.look() == []
    async for _ in reader.mending.mend(("system",), actor="ann"):
        pass
    lines = await keeper.look()
    assert [line["event"] for line in lines] == ["events_renamed"]
    await halt(reader)
    lines = await keeper.look()
    assert [line["event"] for line in lines] == ["operator_action", "trading_state_set"]
    assert await codes(fleet) == []


@pytest.mark.parametrize(
    "data", ['{"a":' + "[" * 4_000, "{", '{"trading_state":1e999999999}', "\x00", "[]", "null"]
)
async def test_a_hostile_event_ends_no_keeper(fleet: Fleet, keeper: Keeper, data: str) -> None:
    """Whoever may write to `system` may write anything: it is looked at once, and passed."""
    for kind in ("x", "TradingStateChanged", "OperatorAction"):
        await fleet.redis.xadd(fleet.key("system"), {"type": kind, "id": "y", "data": data})
    await keeper.look()
    assert await keeper.look() == []


async def test_a_flood_is_read_in_turns(fleet: Fleet, keeper: Keeper) -> None:
    """Large and malformed events are logged, cut, and no judgement overtakes them."""
    for number in range(40):
        data = "{" if number % 2 else json.dumps({"component": "operator", "x": "y" * 5_000})
        event = {"type": "OperatorAction", "id": str(number), "data": data}
        await fleet.redis.xadd("{main}:system", event)
    await fleet.redis.xadd(
        "{main}:system", {"type": "TradingStateChanged", "data": '{"trading_state":"HALTED"}'}
    )
    await fleet.redis.hset("{main}:control", "trading_state", "HALTED")
    lines = await keeper.look(5)
    ids = [line["event_id"] for line in lines if line["event"] == "operator_action"]
    assert ids == [*(str(number) for number in range(40)), ""]
    assert len(lines) == 42, "and that the state was set: nothing was raised"


async def test_a_flooded_trading_state_is_read_cut(fleet: Fleet, keeper: Keeper) -> None:
    """Whoever may set it may write as much as Redis takes."""
    fields = {f"f{number}": "x" * 100 for number in range(10_000)} | {"reason": "y" * 1_000_000}
    await fleet.redis.hset("{main}:control", mapping=fields)
    (line,) = await keeper.look()
    assert line["event"] == "trading_state_set"
    assert len(line["reason"]) == 4_096
    assert "f1" not in line


# --- corrections that are asked for ---


def correction(**fields: Any) -> Correction:
    whole: dict[str, Any] = {
        "exchange": "x",
        "symbol": "B/USDT",
        "quantity": Decimal(0),
        "price": Decimal(90),
    }
    return Correction(**(whole | {"actor": "ann@desk", "reason": "by hand"} | fields))


async def hold(fleet: Fleet) -> None:
    """Let the book have a position."""
    await fleet.redis.hset("{main}:book", "x:B/USDT", msgspec.json.encode(SEEN))


SEEN = position(exchange="x", symbol="B/USDT", quantity=Decimal(1), entry_price=Decimal(100))


async def request(fleet: Fleet, **fields: Any) -> None:
    """Ask as somebody does who saw the position and waits."""
    whole = msgspec.structs.asdict(correction()) | {
        "position_id": SEEN.position_id,
        "seen_quantity": SEEN.quantity,
        "valid_until_ms": await fleet.now_ms() + 20_000,
    }
    raw = msgspec.json.encode({k: v for k, v in (whole | fields).items() if v is not None})
    await fleet.redis.hset("{main}:corrections", "r", raw)


async def answered(keeper: Keeper, asking: "asyncio.Task[Any]") -> None:
    while not asking.done():
        await keeper.carry_out.run()
        await asyncio.sleep(0.01)


async def test_the_keeper_corrects_and_answers(
    fleet: Fleet, keeper: Keeper, reader: AccountReader
) -> None:
    """The one who asked sees the position before and after; nothing of the request is left."""
    await hold(fleet)
    asking = asyncio.create_task(
        ask_for_correction(reader.access, correction(), SEEN, clock=SystemClock())
    )
    await answered(keeper, asking)
    before, after = asking.result()
    assert (before.quantity, after.quantity) == (Decimal(1), Decimal(0))
    assert await fleet.hash("book") == {}
    assert await fleet.hash("corrections") == {}
    assert (await keeper.look())[0]["data"]["code"] == "POSITION_CORRECTED"


async def test_a_correction_that_does_not_fit_is_refused_in_a_sentence(
    fleet: Fleet, keeper: Keeper, reader: AccountReader
) -> None:
    """As if it had been carried out where it was asked for."""
    asking = asyncio.create_task(
        ask_for_correction(reader.access, correction(), SEEN, clock=SystemClock())
    )
    await answered(keeper, asking)
    with pytest.raises(DecisionError, match="the book has no position x B/USDT"):
        asking.result()


async def test_a_correction_that_nobody_carries_out_is_withdrawn(
    fleet: Fleet, reader: AccountReader, keeper: Keeper
) -> None:
    """It must not be carried out hours later."""
    await hold(fleet)
    with pytest.raises(DecisionError, match="withdrawn, nothing was changed"):
        await ask_for_correction(
            reader.access, correction(), SEEN, clock=SystemClock(), patience_s=0.2
        )
    assert await fleet.hash("corrections") == {}
    await keeper.carry_out.run()
    assert len(await fleet.hash("book")) == 1


@pytest.mark.parametrize("error", [KeyboardInterrupt, LedgerError, asyncio.CancelledError])
async def test_who_stops_waiting_takes_the_request_back(
    fleet: Fleet, reader: AccountReader, error: type[BaseException]
) -> None:
    """Ctrl-C, or Redis that fails while the answer is looked for."""
    await hold(fleet)
    open_requests: list[int] = []

    async def break_off(_seconds: float) -> None:
        open_requests.append(await fleet.redis.hlen("{main}:corrections"))
        raise error("broken off")

    with pytest.raises(error):
        await ask_for_correction(
            reader.access, correction(), SEEN, clock=SystemClock(), sleep=break_off
        )
    assert open_requests == [1]
    assert await fleet.hash("corrections") == {}


@pytest.mark.parametrize(
    ("fields", "refusal"),
    [
        ({"valid_until_ms": 1}, "too late"),
        ({"position_id": "p-0"}, "has changed since"),
        ({"seen_quantity": Decimal(2)}, r"has changed since .*\(2 then, 1 now\)"),
        ({"valid_until_ms": None}, "missing required field `valid_until_ms`"),
        ({"position_id": None}, "missing required field `position_id`"),
        ({"seen_quantity": None}, "missing required field `seen_quantity`"),
        ({"seen_quantity": "1e999999999"}, "is not an amount"),
    ],
)
async def test_a_request_left_behind_corrects_no_other_position(
    fleet: Fleet, keeper: Keeper, fields: dict[str, Any], refusal: str
) -> None:
    """One that is over, one about what is no more, one of an earlier version that says neither."""
    await hold(fleet)
    book = await fleet.hash("book")
    await request(fleet, **fields)
    await keeper.carry_out.run()
    assert await fleet.hash("corrections") == {}
    assert await fleet.hash("book") == book
    answer = msgspec.json.decode(await fleet.redis.get("{main}:corrected:r"))
    assert re.search(refusal, answer["refusal"])
    await request(fleet)
    await keeper.carry_out.run()
    assert await fleet.hash("book") == {}, "as the others would have done"


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"{", b"null", b"\xff\xfe", b"[" * 5_000, b"x" * 100_000,
        b'{"exchange":"x","symbol":"B/USDT","quantity":"NaN","price":"1","actor":"","reason":""}',
        b'{"exchange":"x","symbol":"B/USDT","quantity":"1e999","price":"1","actor":"","reason":""}',
        b'{"exchange":"x","symbol":"B/USDT","quantity":"-1","price":"1","actor":"","reason":""}',
        b'{"exchange":"x","symbol":"B/USDT","quantity":"0","price":"0","actor":"","reason":""}',
        b'{"exchange":"x","symbol":"B/USDT","quantity":"1","price":"1E-400","actor":"","reason":""}',
    ],
)  # fmt: skip
async def test_a_hostile_request_harms_nobody(fleet: Fleet, keeper: Keeper, raw: bytes) -> None:
    """It is gone after one turn, the keeper goes on, the book is as it was."""
    await hold(fleet)
    book = await fleet.hash("book")
    await fleet.redis.hset("{main}:corrections", mapping={"r": raw, "n" * 100: "x"})
    await keeper.carry_out.run()
    assert await fleet.hash("corrections") == {}
    assert await fleet.hash("book") == book


async def test_a_flood_of_requests_is_taken_in_turns(fleet: Fleet, keeper: Keeper) -> None:
    """Some a turn, so that the keeper's other duties are not held up."""
    await fleet.redis.hset("{main}:corrections", mapping={f"r{n}": "{}" for n in range(50)})
    await keeper.carry_out.run()
    assert await fleet.redis.hlen("{main}:corrections") == 50 - 16
