"""Two people ask in the same millisecond, each from a process of their own: neither is lost."""

from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from tests.integration.fleets import SIGNALS, Fleet, fleet_on
from tests.integration.test_decisions import ABSENT, in_doubt
from tests.integration.test_mend_stream import mend, poison
from tests.unit.parts import ManualClock
from worker.config.keys import Config, RedisConfig, Secret
from worker.domain.trading_state import TradingState
from worker.operator.reader import AccountReader
from worker.runtime.embedded_server import EmbeddedServer


@pytest.fixture
async def fleet(server: EmbeddedServer) -> AsyncIterator[Fleet]:
    async with fleet_on(server.url, lease_ms=15_000) as made:
        yield made


@pytest.fixture
async def people(fleet: Fleet) -> AsyncIterator[tuple[AccountReader, AccountReader]]:
    """Two processes whose clocks stand at the same millisecond."""
    config, clock = Config(redis=RedisConfig(url=Secret(fleet.url))), ManualClock()
    async with (
        AccountReader(config, clock=clock) as first,
        AccountReader(config, clock=clock) as second,
    ):
        yield first, second


async def told(fleet: Fleet) -> list[dict[str, Any]]:
    """The events on ``system``, oldest first."""
    return [msgspec.json.decode(event[b"data"]) for event in await fleet.stream("system")]


async def test_two_halts_are_two_requests(
    fleet: Fleet, people: tuple[AccountReader, AccountReader]
) -> None:
    """The second is carried out and told, not taken for the first one asked again."""
    await fleet.send("a")
    for person, reason in zip(people, ("storm", "flood"), strict=True):
        await person.trading.ask(TradingState.HALTED, reason=reason, actor="me@here")
    events = await told(fleet)
    assert [event["reason"] for event in events] == ["storm", "flood"]
    assert len({event["event_id"] for event in events}) == 2
    control = await fleet.redis.hgetall(fleet.key("control"))
    assert b"flood" in control[b"asks"]


async def test_two_decisions_are_two_requests(
    fleet: Fleet, people: tuple[AccountReader, AccountReader]
) -> None:
    """The later one replaces the first, and both are told under ids of their own."""
    await in_doubt(fleet)
    for person, actor in zip(people, ("ann@desk", "bob@desk"), strict=True):
        await person.decisions.decide("s-1", msgspec.structs.replace(ABSENT, actor=actor))
    events = await told(fleet)
    decided = [event for event in events if event.get("code") == "ORDER_DECIDED"]
    assert len(decided) == 2
    assert len({event["event_id"] for event in decided}) == 2


async def test_two_mendings_are_two_requests(
    fleet: Fleet, people: tuple[AccountReader, AccountReader]
) -> None:
    """A second call finds nothing to do, and what is broken and mended again is told again."""
    first, second = people
    await poison(fleet, "b")
    assert (await mend(first))["signals"].mended
    assert not (await mend(second))["signals"].mended
    await fleet.redis.xdel(SIGNALS, await poison(fleet, "c"))
    assert (await mend(second))["signals"].mended
    events = await told(fleet)
    assert [event["code"] for event in events] == ["STREAM_MENDED"] * 2
    assert len({event["event_id"] for event in events}) == 2


async def test_two_tries_are_two_events(
    fleet: Fleet, people: tuple[AccountReader, AccountReader]
) -> None:
    """What an operator tried is told of each try, from whichever process."""
    for person in people:
        async with person.journal.attempt("dead discard", "1-0", actor="me@here"):
            pass
    events = await told(fleet)
    assert [event["type"] for event in events] == ["OperatorAction"] * 2
    assert len({event["event_id"] for event in events}) == 2
