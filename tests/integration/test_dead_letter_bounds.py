"""Dead letters are bounded one by one and together, and what goes is told."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.integration.accounts import Account, configuration, working
from tests.integration.fleets import (
    SIGNALS,
    Fleet,
    commit,
    fleet_on,
    outcome,
    take,
    take_one,
    until,
)
from worker.config.keys import Config, RedisConfig, Secret
from worker.ledger.items import NO_RECORD
from worker.ledger.layouts import DeadLetterTail
from worker.ledger.limits import ENTRY_BYTES, KEPT_BYTES
from worker.ledger.words import CUT_FIELD
from worker.operator.attention import needs_attention
from worker.operator.dead_letters import DeadLetterError
from worker.operator.reader import AccountReader
from worker.runtime.embedded_server import EmbeddedServer

MIB = 2**20


@pytest.fixture
async def fleet(server: EmbeddedServer) -> AsyncIterator[Fleet]:
    async with fleet_on(server.url) as made:
        yield made


@pytest.fixture
async def reader(fleet: Fleet) -> AsyncIterator[AccountReader]:
    async with AccountReader(Config(redis=RedisConfig(url=Secret(fleet.url)))) as made:
        yield made


async def bury(fleet: Fleet, fields: dict[Any, Any]) -> dict[bytes, bytes]:
    """Send an entry and end it as a dead letter; what the letter has."""
    entry_id = (await fleet.redis.xadd(SIGNALS, fields)).decode()
    delivery = await take_one(fleet["w"])
    tail = DeadLetterTail("malformed", "why", entry_id, "1", "w", "now")
    await commit(fleet["w"], outcome(delivery, "", record=NO_RECORD, events=(), dead=tail))
    return (await fleet.stream("dead"))[-1]


async def fill(fleet: Fleet, count: int, size: int) -> list[str]:
    """So many letters of a size."""
    pipe = fleet.redis.pipeline(transaction=False)
    for _ in range(count):
        pipe.xadd(fleet.key("dead"), {"data": b"x" * size, "reason": "malformed"})
    return [entry.decode() for entry in await pipe.execute()]


async def test_a_letter_within_its_bound_is_whole(fleet: Fleet, reader: AccountReader) -> None:
    """Byte for byte, up to the last."""
    data = b"\xff" * (ENTRY_BYTES - 4)
    letter = await bury(fleet, {"data": data})
    assert letter[b"data"] == data
    assert CUT_FIELD.encode() not in letter
    (kept,) = await reader.dead.latest(1)
    assert (kept.size, kept.cut_from_bytes) == (ENTRY_BYTES, None)
    assert await reader.dead.replay(kept.id)


@pytest.mark.parametrize(
    ("fields", "size"),
    [
        ({"data": b"a" * ENTRY_BYTES}, ENTRY_BYTES + 4),
        ({"data": b"a" * 5 * MIB, "key": "k"}, 5 * MIB + 8),
        ({"key": "k", b"n" * 3 * MIB: "v", "data": "{}"}, 3 * MIB + 11),
        ({f"f{n}": "v" for n in range(3_001)}, 16_896),
    ],
)
async def test_a_letter_beyond_its_bound_is_cut_and_says_from_what(
    fleet: Fleet, reader: AccountReader, fields: dict[Any, Any], size: int
) -> None:
    """It has the beginning, in order; it is refused at replay, and can be discarded."""
    await fleet.redis.xadd(SIGNALS, fields)
    assert await take(fleet["w"]) == []
    letter = (await fleet.stream("dead"))[-1]
    assert int(letter.pop(CUT_FIELD.encode())) == size
    own = {k: v for k, v in letter.items() if k.decode() not in DeadLetterTail._fields}
    kept = b"".join(part for pair in own.items() for part in pair)
    sent = b"".join(
        part if isinstance(part, bytes) else part.encode()
        for pair in fields.items()
        for part in pair
    )
    assert sent.startswith(kept)
    assert len(kept) <= KEPT_BYTES
    (found,) = await reader.dead.latest(1)
    assert (found.size, found.cut_from_bytes) == (len(kept), size)
    with pytest.raises(DeadLetterError, match="only the beginning"):
        await reader.dead.replay(found.id)
    await reader.dead.discard(found.id)
    assert await reader.dead.length() == 0


async def test_more_letters_than_allowed_lose_the_oldest(fleet: Fleet) -> None:
    """Exactly as many as are too many."""
    ids = await fill(fleet, 150, 10)
    trimmed = await fleet["w"].trim_letters(100, 64 * MIB)
    assert (trimmed.letters, trimmed.more) == (50, 0)
    left = [entry.decode() for entry, _ in await fleet.redis.xrange(fleet.key("dead"))]
    assert left == ids[50:]
    assert (await fleet["w"].trim_letters(100, 64 * MIB)).letters == 0


async def test_more_bytes_than_allowed_lose_the_oldest(fleet: Fleet) -> None:
    """In portions that are small for the server; no more than is needed, no fewer."""
    await fill(fleet, 100, MIB - 100)
    calls, letters = 0, 0
    while True:
        trimmed = await fleet["w"].trim_letters(10_000, 64 * MIB)
        calls, letters = calls + 1, letters + trimmed.letters
        assert trimmed.bytes <= 17 * MIB
        if not trimmed.more:
            break
    assert await fleet.redis.xlen(fleet.key("dead")) == 100 - letters
    assert 36 <= letters <= 40
    assert calls >= 3
    used = await fleet.redis.memory_usage(fleet.key("dead"), samples=0)
    assert 60 * MIB <= used <= 64 * MIB


async def test_what_was_trimmed_is_told_for_a_day(fleet: Fleet, reader: AccountReader) -> None:
    """By status, beside the letters there are."""
    await fill(fleet, 12, 10)
    await fleet["w"].trim_letters(10, 64 * MIB)
    await fleet["w"].trim_letters(7, 64 * MIB)
    status = await reader.status()
    assert (status.dead_letters, status.dead_letters_trimmed) == (7, 5)
    said = [one.text for one in needs_attention(status)]
    assert any("5 of the oldest dead letters were removed" in text for text in said)
    assert 0 < await fleet.redis.ttl(fleet.key("letters-trimmed")) <= 86_400


async def test_a_flood_of_letters_is_held_by_a_real_worker(server: EmbeddedServer) -> None:
    """The keeper removes the surplus within seconds, counts it, and says it as an event once."""
    redis = RedisConfig(url=Secret(server.url), dead_max_length=50)
    account = Account(server.url)
    async with working(configuration(server.url, redis=redis)) as worker:
        for number in range(120):
            await account.send_raw(b"{", key=f"g{number}")
        await account.quiet()

        async def is_bounded() -> bool:
            return int(await account.redis.xlen("{main}:dead")) == 50

        await until(is_bounded, what="the surplus is gone")

        async def said() -> list[dict[str, Any]]:
            return [
                e for e in await account.events("system") if e.get("code") == "DEAD_LETTERS_TRIMMED"
            ]

        await until(said, what="it is announced")
        (event,) = await said()
        assert event["severity"] == "warning"
        assert "redis.dead_max_length is 50" in event["reason"]
        shown = worker.metrics.render().decode()
        assert "execution_worker_trimmed_dead_letters_total" in shown
    await account.close()
    assert json.dumps(event)
