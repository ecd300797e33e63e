"""What a script does about an output stream that can take no entry, on real servers."""

from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any, Final

import msgspec
import pytest

from tests.integration.fleets import Fleet, admit, fleet_on, take_one
from tests.unit.parts import position
from worker.config.keys import Config, RedisConfig, Secret
from worker.domain.trading_state import TradingState
from worker.domain.verdict import Verdict
from worker.ledger.errors import LedgerError
from worker.operator.reader import AccountReader
from worker.runtime.embedded_server import EmbeddedServer

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


async def test_trading_can_be_stopped_where_no_event_can_be_written(
    fleet: Fleet, reader: AccountReader
) -> None:
    """The halt is in force, workers are woken, and the error says that its event is missing."""
    await fleet.redis.xadd(fleet.key("system"), {"type": "x", "data": "{}"}, id=LARGEST)
    with pytest.raises(LedgerError, match=r"is HALTED now, but without an event.*mend-stream"):
        await reader.trading.ask(TradingState.HALTED, actor="o", reason="test")
    assert (await reader.trading.read()).control.trading_state is TradingState.HALTED
    assert len(await fleet.stream("bell")) == 1
