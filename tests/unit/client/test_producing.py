"""What a producer sends is on the stream whole and in order, or it says that it may not be."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from tests.tcp_proxy import TcpProxy
from tests.unit.fake_redis import FakeRedis
from worker.client import (
    AsyncSignalProducer,
    MalformedSignalError,
    Signal,
    SignalProducer,
    new_signal,
)
from worker.config.keys import Config, RedisConfig
from worker.domain.signal import decode_signal
from worker.domain.signature import Signatures, SigningKey
from worker.ledger.errors import LedgerError
from worker.ledger.streams import SUBMIT_BATCH
from worker.operator.reader import AccountReader
from worker.runtime.errors import ConfigError
from worker.runtime.secret import Secret

SECRET = "0123456789abcdef" * 2
NOBODY = "redis://127.0.0.1:1/0"
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def a_signal(signal_id: str = "s1", **fields: Any) -> Signal:
    """Return a signal to open a long position."""
    return new_signal(
        signal_id,
        "paper",
        "BTC/USDT",
        direction="long",
        strength=0.8,
        confluence_score=7,
        entry_price="65000.10",
        **fields,
    )


def signals_of(fake_redis: FakeRedis) -> list[Signal]:
    """Return the signals on the stream, decoded as the worker decodes them."""
    return [decode_signal(fields[b"data"]) for _, fields in fake_redis.stored("signals")]


async def test_an_entry_that_is_too_large_as_a_whole_is_not_sent(fake_redis: FakeRedis) -> None:
    """Its data is small enough; with a long group it would be a dead letter. Nothing is sent."""
    async with AsyncSignalProducer(fake_redis.url) as producer:
        with pytest.raises(MalformedSignalError, match="signal 1 of 1: entry too large: 80"):
            await producer.send(a_signal(), key="k" * 80_000)
        assert signals_of(fake_redis) == []
        await producer.send(a_signal(), key="k" * 72_000)
    assert len(signals_of(fake_redis)) == 1


@pytest.fixture
async def producer(fake_redis: FakeRedis) -> AsyncIterator[AsyncSignalProducer]:
    async with AsyncSignalProducer(fake_redis.url) as producer:
        yield producer


async def test_what_is_sent_is_what_the_worker_decodes(
    producer: AsyncSignalProducer, fake_redis: FakeRedis
) -> None:
    """A signal comes back from the stream equal, decimals to the digit, metadata untouched."""
    signal = a_signal(metadata={"why": [1, 2.50]}, size_pct=Decimal("1.50"))
    entry_id = await producer.send(signal)
    ((stored_id, fields),) = fake_redis.stored("signals")
    assert stored_id == entry_id
    assert list(fields) == [b"data"]
    (decoded,) = signals_of(fake_redis)
    assert decoded.digest() == signal.digest()
    assert (str(decoded.entry_price), str(decoded.size_pct)) == ("65000.10", "1.50")


async def test_fields_at_their_default_are_not_sent(
    producer: AsyncSignalProducer, fake_redis: FakeRedis
) -> None:
    """The payload holds what was given and no more."""
    await producer.send(new_signal("s1", "paper", "BTC/USDT", action="close"))
    ((_, fields),) = fake_redis.stored("signals")
    payload = msgspec.json.decode(fields[b"data"])
    assert set(payload) == {"signal_id", "created_at", "exchange", "symbol", "action"}


async def test_several_signals_keep_their_order(
    producer: AsyncSignalProducer, fake_redis: FakeRedis
) -> None:
    """A batch longer than one pipeline is on the stream in order, each under the id returned."""
    names = [f"s{number}" for number in range(SUBMIT_BATCH + 20)]
    created_at = datetime(2026, 1, 1, tzinfo=UTC)
    ids = await producer.send_many([a_signal(name, created_at=created_at) for name in names])
    assert [entry_id for entry_id, _ in fake_redis.stored("signals")] == ids
    assert [signal.signal_id for signal in signals_of(fake_redis)] == names


async def test_nothing_to_send_is_no_error(
    producer: AsyncSignalProducer, fake_redis: FakeRedis
) -> None:
    """An empty batch returns no ids and makes no stream."""
    assert await producer.send_many([]) == []
    assert fake_redis.client.exists("{main}:signals") == 0


async def test_key_and_traceparent_go_beside_every_payload(
    producer: AsyncSignalProducer, fake_redis: FakeRedis
) -> None:
    """Message group and trace context are stream fields of their own, on each entry of a batch."""
    batch = [a_signal("s1"), a_signal("s2")]
    await producer.send_many(batch, key="group", traceparent=TRACEPARENT)
    beside = [
        {name: value for name, value in fields.items() if name != b"data"}
        for _, fields in fake_redis.stored("signals")
    ]
    assert beside == [{b"key": b"group", b"traceparent": TRACEPARENT.encode()}] * 2


FIELDS: dict[str, Any] = {
    "signal_id": "s1",
    "created_at": datetime(2026, 1, 1, tzinfo=UTC),
    "exchange": "paper",
    "symbol": "BTC/USDT",
    "direction": "long",
    "strength": 0.8,
    "confluence_score": 7,
    "stop_loss": Decimal("64000.10"),
}


async def test_a_mapping_is_a_signal_too(
    producer: AsyncSignalProducer, fake_redis: FakeRedis
) -> None:
    """The contract's fields by name, as a decision engine has them; both forms in one batch."""
    await producer.send(FIELDS)
    await producer.send_many([FIELDS | {"signal_id": "s2"}, a_signal("s3")])
    first, second, third = signals_of(fake_redis)
    assert (first.created_at, str(first.stop_loss)) == (FIELDS["created_at"], "64000.10")
    assert [first.signal_id, second.signal_id, third.signal_id] == ["s1", "s2", "s3"]


MISTAKES: list[tuple[Any, str]] = [
    ({"stop_los": 1}, "stop_los: there is no such field; did you mean stop_loss?"),
    ({"strength": "high"}, 'strength: "high" is not a number from 0 to 1'),
    ({"direction": "up"}, 'direction: "up" is not one of long, short'),
    ({"created_at": datetime(2026, 1, 1)}, "created_at: "),  # noqa: DTZ001 (the mistake)
    ({"stop_loss": float("nan")}, "stop_loss: nan is not a finite number"),
    ({"stop_loss": Decimal("NaN")}, "stop_loss: NaN is not a finite decimal number"),
    ({"strength": float("inf")}, "strength: inf is not a finite number"),
    ({"symbol": object()}, "symbol: a value of type object cannot be written as JSON"),
    ({"metadata": {1: object()}}, "metadata: a value of type dict cannot be written as JSON"),
    ({"symbol": None}, "symbol: null is not text of 1 to 64 characters"),
]


@pytest.mark.parametrize(("wrong", "sentence"), MISTAKES, ids=range(len(MISTAKES)))
def test_what_is_wrong_with_a_mapping_is_one_sentence(
    wrong: dict[str, Any], sentence: str, fake_redis: FakeRedis
) -> None:
    """It names field and rule, from both producers, and nothing is sent."""
    with SignalProducer(fake_redis.url) as producer:
        with pytest.raises(MalformedSignalError) as caught:
            producer.send(FIELDS | wrong)
        assert str(caught.value).startswith(sentence)
        assert str(caught.value).count("\n") == 0
        with pytest.raises(MalformedSignalError, match=r"^signal 2 of 2: "):
            producer.send_many([FIELDS, FIELDS | wrong])
    assert fake_redis.stored("signals") == []


def test_what_is_no_signal_at_all_is_said_likewise(fake_redis: FakeRedis) -> None:
    """Neither mapping nor Signal; and a float that is no number is none for ``new_signal`` too."""
    with SignalProducer(fake_redis.url) as producer:
        with pytest.raises(MalformedSignalError, match="data: a signal is a mapping"):
            producer.send("buy!")  # type: ignore[arg-type]
        with pytest.raises(MalformedSignalError, match="signal_id: it is missing"):
            producer.send({})
    with pytest.raises(MalformedSignalError, match="stop_loss: nan is not a finite number"):
        new_signal("s1", "paper", "BTC/USDT", stop_loss=float("nan"))


@pytest.mark.parametrize("key", [None, "group"])
async def test_a_signature_is_good_for_the_entry_as_stored(
    fake_redis: FakeRedis, key: str | None
) -> None:
    """The worker's own check finds the key, for this account and for no other."""
    async with AsyncSignalProducer(
        fake_redis.url, account="other", key_id="trend", secret=SECRET
    ) as producer:
        await producer.send(a_signal(), key=key)
    ((_, fields),) = fake_redis.stored("signals", "other")
    known = SigningKey(key_id="trend", secret=SECRET.encode(), strategies=("*",))

    def checked(account: str) -> SigningKey | None:
        return Signatures(
            account=account, keys=[known], required=True, now=lambda: datetime.now(UTC)
        ).key_of(fields)

    assert checked("other") == known
    with pytest.raises(ValueError, match="not made with key 'trend'"):
        checked("main")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"key_id": "k"}, "come together"),
        ({"secret": SECRET}, "come together"),
        ({"key_id": "No Good", "secret": SECRET}, "not a key id"),
        ({"key_id": "k", "secret": "short"}, "fewer than 32"),
    ],
)
def test_half_a_key_is_refused_at_once(options: dict[str, Any], says: str) -> None:
    """Before there is a connection, and without showing the secret."""
    with pytest.raises(ConfigError, match=says) as caught:
        AsyncSignalProducer(**options)
    assert SECRET not in str(caught.value)


def test_a_wrong_account_is_refused_at_once() -> None:
    """An account's id that no worker can have is refused before any connection."""
    with pytest.raises(ConfigError, match="account"):
        SignalProducer(account="Not An Account")


async def test_accounts_do_not_mix(fake_redis: FakeRedis) -> None:
    """Each account has a stream of its own on one server."""
    for account in ("one", "two"):
        async with AsyncSignalProducer(fake_redis.url, account=account) as producer:
            await producer.send(a_signal(account))
    for account in ("one", "two"):
        ((_, fields),) = fake_redis.stored("signals", account)
        assert decode_signal(fields[b"data"]).signal_id == account


def test_the_blocking_producer_does_the_same(fake_redis: FakeRedis) -> None:
    """Without an event loop one signal is sent, then several in order, with their fields."""
    with SignalProducer(fake_redis.url) as producer:
        first = producer.send(a_signal("m0"), key="g", traceparent=TRACEPARENT)
        ids = producer.send_many([a_signal(f"m{n}") for n in range(1, 4)])
    assert [entry_id for entry_id, _ in fake_redis.stored("signals")] == [first, *ids]
    assert [signal.signal_id for signal in signals_of(fake_redis)] == ["m0", "m1", "m2", "m3"]
    assert set(fake_redis.stored("signals")[0][1]) == {b"data", b"key", b"traceparent"}


async def test_one_malformed_signal_keeps_the_whole_batch_back(
    producer: AsyncSignalProducer, fake_redis: FakeRedis
) -> None:
    """Field and rule are named, and nothing of the batch is sent."""
    broken = msgspec.structs.replace(a_signal("s2"), entry_price=Decimal("NaN"))
    with pytest.raises(MalformedSignalError, match=r"entry_price: .*finite"):
        await producer.send_many([a_signal("s1"), broken])
    assert fake_redis.stored("signals") == []


async def test_a_lost_reply_repeats_the_batch_under_the_same_signal_ids(
    fake_redis: FakeRedis,
) -> None:
    """An unknown outcome is sent again: each signal is there twice, the last ids are returned."""
    async with (
        TcpProxy("127.0.0.1", fake_redis.port) as proxy,
        AsyncSignalProducer(f"redis://127.0.0.1:{proxy.port}/0") as producer,
    ):
        await proxy.swallow(request_contains="XADD")
        ids = await producer.send_many([a_signal("s1"), a_signal("s2")])
    stored = fake_redis.stored("signals")
    assert [entry_id for entry_id, _ in stored[2:]] == ids
    assert [fields for _, fields in stored[:2]] == [fields for _, fields in stored[2:]]
    assert [one.signal_id for one in signals_of(fake_redis)] == ["s1", "s2", "s1", "s2"]


async def test_an_outage_that_outlasts_the_producers_patience_is_reported() -> None:
    """The error says how much is known to be sent, and that sending again is safe."""
    async with AsyncSignalProducer(NOBODY, patience_s=0) as producer:
        with pytest.raises(LedgerError, match=r"cannot be reached.*0 of 1 signals.*again is safe"):
            await producer.send(a_signal())


async def test_raw_entries_are_stored_byte_for_byte(fake_redis: FakeRedis) -> None:
    """The commands' way in keeps order and changes no byte, not even of what is no signal."""
    config = Config(redis=RedisConfig(url=Secret(fake_redis.url)))
    entries = [
        {"data": b'{"n": %d,  "p": 1.10}\r\n\xff' % number, "key": b"g"}
        for number in range(SUBMIT_BATCH * 2 + 20)
    ]
    async with AccountReader(config) as reader:
        ids = await reader.submit(entries)
    assert fake_redis.stored("signals") == [
        (entry_id, {name.encode(): value for name, value in entry.items()})
        for entry_id, entry in zip(ids, entries, strict=True)
    ]
