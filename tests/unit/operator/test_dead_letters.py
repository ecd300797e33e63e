"""Listing dead letters: what each says, in which order, and one taken away."""

from collections.abc import AsyncIterator

import pytest

from tests.unit.fake_redis import FakeRedis
from worker.config.keys import Config, RedisConfig
from worker.operator.dead_letters import DeadLetterError, DeadLetters
from worker.operator.reader import AccountReader
from worker.runtime.secret import Secret

ADDED = {
    "reason": "malformed",
    "error": "data: why",
    "entry_id": "7-0",
    "deliveries": "3",
    "worker": "w1",
    "at": "2026-01-01T00:00:00Z",
}


@pytest.fixture
async def dead(fake_redis: FakeRedis) -> AsyncIterator[DeadLetters]:
    async with AccountReader(Config(redis=RedisConfig(url=Secret(fake_redis.url)))) as reader:
        yield reader.dead


async def test_the_entrys_own_fields_stand_apart_from_what_was_added(
    dead: DeadLetters, fake_redis: FakeRedis
) -> None:
    """Own fields come back byte for byte; reason, origin and deliveries are attributes."""
    own: dict[str, str | bytes] = {"data": b'{"signal_id":"s1"}\r\n\xff', "key": b"g"}
    letter_id = fake_redis.add("dead", own | ADDED)
    letter = await dead.get(letter_id)
    assert letter.fields == own
    assert letter.data == '{"signal_id":"s1"}\r\n\N{REPLACEMENT CHARACTER}'
    assert (letter.reason, letter.error, letter.entry_id) == ("malformed", "data: why", "7-0")
    assert (letter.deliveries, letter.worker, letter.at) == (3, "w1", "2026-01-01T00:00:00Z")


@pytest.mark.parametrize(
    ("data", "signal_id"), [('{"signal_id":"s1","n":1}', "s1"), ("{", None), ("[]", None)]
)
async def test_a_letter_names_its_signal_where_the_payload_does(
    dead: DeadLetters, fake_redis: FakeRedis, data: str, signal_id: str | None
) -> None:
    """The id is read from the payload; a payload that has none gives None, not an error."""
    letter = await dead.get(fake_redis.add("dead", {"data": data} | ADDED))
    assert letter.signal_id == signal_id


async def test_letters_are_listed_page_by_page_from_the_newest(
    dead: DeadLetters, fake_redis: FakeRedis
) -> None:
    """Up to the count asked for; ``before`` is where the next page begins, itself included."""
    ids = [fake_redis.add("dead", {"data": "{"} | ADDED, f"{number}-0") for number in range(1, 6)]
    first = [letter.id for letter in await dead.latest(2)]
    assert first == [ids[4], ids[3]]
    rest = [letter.id for letter in await dead.latest(10, before=first[-1])]
    assert rest == [ids[3], ids[2], ids[1], ids[0]]


async def test_no_dead_letters_is_an_empty_list(dead: DeadLetters) -> None:
    """A stream that nobody has written is listed as empty."""
    assert await dead.latest(10) == []


async def test_a_discarded_letter_is_gone_and_the_others_stay(
    dead: DeadLetters, fake_redis: FakeRedis
) -> None:
    """Getting or discarding it again is refused with its id."""
    first, second = (fake_redis.add("dead", {"data": "{"} | ADDED) for _ in range(2))
    await dead.discard(first)
    assert [letter.id for letter in await dead.latest(10)] == [second]
    for again in (dead.get, dead.discard):
        with pytest.raises(DeadLetterError, match=f"no dead letter {first}"):
            await again(first)
