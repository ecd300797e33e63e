"""A reader gets every entry after its place, in order over all streams, and each event once."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest

from tests.unit.fake_redis import FakeRedis
from worker.client import ReceivedEvent, unique_events
from worker.config.keys import Config, RedisConfig
from worker.ledger.access import StreamEntry
from worker.ledger.errors import LedgerUnavailableError
from worker.ledger.streams import READ_COUNT
from worker.operator.reader import AccountReader
from worker.runtime.errors import ConfigError
from worker.runtime.secret import Secret

#: Longer than any test may take: a read that has to wait for it fails the test.
LIMIT_S = 10
#: No wait for what is not going to come: the shortest that Redis knows.
AT_ONCE_MS = 1


def reader_of(url: str) -> AccountReader:
    """Return a reader of account ``main`` on the server at ``url``."""
    return AccountReader(Config(redis=RedisConfig(url=Secret(url))))


@pytest.fixture
async def reader(fake_redis: FakeRedis) -> AsyncIterator[AccountReader]:
    async with reader_of(fake_redis.url) as reader:
        yield reader


async def first_events(count: int, url: str, **options: Any) -> list[ReceivedEvent]:
    """Return the first events that the client yields."""
    events: list[ReceivedEvent] = []
    async with asyncio.timeout(LIMIT_S), aclosing(unique_events(url, **options)) as received:
        while len(events) < count:
            events.append(await anext(received))
    return events


def numbers(entries: list[StreamEntry]) -> list[str]:
    """Return the field ``n`` of each entry."""
    return [entry.text("n") for entry in entries]


# --- a place in several streams ---


async def test_entries_of_several_streams_come_in_the_order_of_their_ids(
    reader: AccountReader, fake_redis: FakeRedis
) -> None:
    """Ids decide, over all streams; of the same millisecond, the order in which they were named."""
    for stream, entry_id in [
        ("orders", "1-0"),
        ("orders", "3-1"),
        ("system", "2-0"),
        ("system", "3-0"),
        ("positions", "3-0"),
        ("positions", "10-0"),
    ]:
        fake_redis.add(stream, {"n": entry_id}, entry_id)
    read = await reader.tail(("orders", "positions", "system"), "0").read(AT_ONCE_MS)
    assert [(entry.stream, entry.id) for entry in read] == [
        ("orders", "1-0"),
        ("system", "2-0"),
        ("orders", "3-1"),
        ("positions", "3-0"),
        ("system", "3-0"),
        ("positions", "10-0"),
    ]


async def test_reading_starts_after_the_id_given(
    reader: AccountReader, fake_redis: FakeRedis
) -> None:
    """The entry of that id is left out, in every stream; what follows is not."""
    for number in (1, 2, 3):
        for stream in ("orders", "system"):
            fake_redis.add(stream, {"n": str(number)}, f"{number}-0")
    read = await reader.tail(("orders", "system"), "2-0").read(AT_ONCE_MS)
    assert numbers(read) == ["3", "3"]


async def test_new_means_from_the_start_of_following(
    reader: AccountReader, fake_redis: FakeRedis
) -> None:
    """With ``$`` what was there is left out, and nothing between two reads is missed."""
    fake_redis.add("orders", {"n": "old"})
    tail = reader.tail(("orders", "system"))
    await tail.start()
    fake_redis.add("orders", {"n": "1"})
    first = await tail.read()
    fake_redis.add("system", {"n": "2"})
    second = await tail.read()
    assert numbers(first + second) == ["1", "2"]


async def test_streams_longer_than_a_read_are_merged_in_order(
    reader: AccountReader, fake_redis: FakeRedis
) -> None:
    """However uneven the streams are, every entry comes once and none before an earlier one."""
    pipeline = fake_redis.client.pipeline(transaction=False)
    for number in range(1, READ_COUNT * 3):
        for stream in ("orders", "system")[: 1 + number % 2]:
            pipeline.xadd(f"{{main}}:{stream}", {"n": str(number)}, id=f"{number}-1")
    written = len(pipeline.execute())
    found: list[StreamEntry] = []
    async for entry in reader.follow(("orders", "system"), "0"):
        found.append(entry)
        if len(found) == written:
            break
    assert [entry.order for entry in found] == sorted(entry.order for entry in found)
    assert len({(entry.stream, entry.id) for entry in found}) == written


async def test_a_deleted_entry_leaves_no_gap_that_stops_reading(
    reader: AccountReader, fake_redis: FakeRedis
) -> None:
    """The place may be an entry that is gone: what follows it is read all the same."""
    ids = [fake_redis.add("orders", {"n": str(number)}) for number in range(4)]
    tail = reader.tail(("orders",), ids[0])
    fake_redis.client.xdel("{main}:orders", ids[0], ids[2])
    assert numbers(await tail.read(AT_ONCE_MS)) == ["1", "3"]


async def test_a_deleted_stream_is_waited_for(reader: AccountReader, fake_redis: FakeRedis) -> None:
    """After DEL the other streams go on, and so does this one once it is written again."""
    tail = reader.tail(("orders", "system"), "0")
    fake_redis.add("orders", {"n": "1"}, "1-0")
    assert numbers(await tail.read(AT_ONCE_MS)) == ["1"]
    fake_redis.client.delete("{main}:orders")
    fake_redis.add("system", {"n": "2"}, "2-0")
    assert numbers(await tail.read(AT_ONCE_MS)) == ["2"]
    fake_redis.add("orders", {"n": "3"}, "3-0")
    assert numbers(await tail.read(AT_ONCE_MS)) == ["3"]


async def test_no_server_is_an_outage() -> None:
    """A closed port is reported as unreachable, at once."""
    async with asyncio.timeout(LIMIT_S), reader_of("redis://127.0.0.1:1/0") as reader:
        with pytest.raises(LedgerUnavailableError, match="cannot be reached"):
            await reader.status()


def test_a_command_cannot_look_into_an_embedded_server() -> None:
    """``embedded`` lives inside one worker, so a command names the key and says why not."""
    with pytest.raises(ConfigError, match=r"^redis\.url: .*embedded"):
        reader_of("embedded")


# --- events, each once ---


async def test_an_event_comes_as_it_was_written(fake_redis: FakeRedis) -> None:
    """Type, ids, signal, trace context and the decoded JSON are those of the entry."""
    entry_id = fake_redis.add_event(
        "e1", stream="positions", data='{"quantity":"0.10"}', traceparent="00-a-b-01"
    )
    (event,) = await first_events(1, fake_redis.url, from_id="0")
    assert event == ReceivedEvent(
        stream="positions",
        entry_id=entry_id,
        type="OrderFilled",
        event_id="e1",
        signal_id="s",
        data={"quantity": "0.10"},
        traceparent="00-a-b-01",
    )


async def test_an_event_written_twice_arrives_once(fake_redis: FakeRedis) -> None:
    """A second entry with the same event id is dropped, on whichever stream it is."""
    fake_redis.add_event("e1")
    fake_redis.add_event("e1", stream="system")
    fake_redis.add_event("e2")
    events = await first_events(2, fake_redis.url, from_id="0")
    assert [event.event_id for event in events] == ["e1", "e2"]


async def test_a_consumer_goes_on_from_the_last_entry_it_handled(fake_redis: FakeRedis) -> None:
    """After a restart from an entry's id, the next event is the one after it."""
    for event_id in ("e1", "e2", "e3"):
        fake_redis.add_event(event_id)
    first, second = await first_events(2, fake_redis.url, from_id="0")
    assert (first.event_id, second.event_id) == ("e1", "e2")
    (third,) = await first_events(1, fake_redis.url, from_id=second.entry_id)
    assert third.event_id == "e3"


async def test_a_consumer_reads_only_the_streams_it_names(fake_redis: FakeRedis) -> None:
    """Events of other streams are not seen."""
    fake_redis.add_event("e1", stream="orders")
    fake_redis.add_event("e2", stream="positions")
    (event,) = await first_events(1, fake_redis.url, from_id="0", streams=["positions"])
    assert event.event_id == "e2"


async def test_memory_of_seen_events_is_bounded(fake_redis: FakeRedis) -> None:
    """With room for one id, an id seen two events ago is new again."""
    for event_id in ("e1", "e1", "e2", "e1"):
        fake_redis.add_event(event_id)
    events = await first_events(3, fake_redis.url, from_id="0", memory=1)
    assert [event.event_id for event in events] == ["e1", "e2", "e1"]
