"""Producers and consumers built on the client survive lost replies without harm."""

import asyncio
from collections import Counter
from contextlib import aclosing
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from redis.asyncio import Redis

from tests.tcp_proxy import TcpProxy
from worker.client import (
    AsyncSignalProducer,
    MalformedSignalError,
    ReceivedEvent,
    Signal,
    SignalProducer,
    new_signal,
    unique_events,
)
from worker.domain.signal import decode_signal
from worker.ledger.errors import LedgerError
from worker.runtime.embedded_server import EmbeddedServer
from worker.runtime.errors import ConfigError


def _signal(signal_id: str = "s1", **fields: Any) -> Signal:
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


async def _stored(server: EmbeddedServer) -> list[tuple[bytes, dict[bytes, bytes]]]:
    client: Any = Redis.from_url(server.url)
    async with client:
        return list(await client.xrange("{main}:signals"))


async def test_what_is_sent_is_what_the_worker_decodes(server: EmbeddedServer) -> None:
    """A signal comes back from the stream equal, decimals to the digit, metadata untouched."""
    signal = _signal(metadata={"why": [1, 2.50]}, size_pct=Decimal("1.5"))
    async with AsyncSignalProducer(server.url) as producer:
        entry_id = await producer.send(signal, key="g")
    ((stored_id, fields),) = await _stored(server)
    assert stored_id.decode() == entry_id
    assert fields[b"key"] == b"g"
    assert decode_signal(fields[b"data"]).digest() == signal.digest()


async def test_a_lost_reply_repeats_the_signal_under_its_id(one_server: EmbeddedServer) -> None:
    """When the reply to XADD is lost, sending again returns an id; both entries share one id."""
    async with (
        TcpProxy("127.0.0.1", one_server.port) as proxy,
        AsyncSignalProducer(f"redis://127.0.0.1:{proxy.port}/0") as producer,
    ):
        await proxy.swallow(request_contains="XADD")
        entry_id = await producer.send(_signal())
    stored = await _stored(one_server)
    assert len(stored) == 2
    assert stored[-1][0].decode() == entry_id
    assert stored[0][1] == stored[1][1]


def test_the_blocking_producer_does_the_same(one_server: EmbeddedServer) -> None:
    """Without an event loop a signal is sent, and many in order."""
    with SignalProducer(one_server.url, account="other") as producer:
        first = producer.send(_signal())
        ids = producer.send_many([_signal(f"m{n}") for n in range(3)])
    assert [first, *ids] == sorted([first, *ids], key=lambda i: [int(p) for p in i.split("-")])
    assert len({first, *ids}) == 4


def test_a_signal_the_worker_would_refuse_is_not_sent() -> None:
    """Field and rule are named before anything is sent: there is no server to send to."""
    broken = msgspec.structs.replace(_signal(), entry_price=Decimal("NaN"))
    with SignalProducer("redis://127.0.0.1:1/0", patience_s=0.1) as producer:
        with pytest.raises(MalformedSignalError, match=r"entry_price: .*finite"):
            producer.send(broken)
        with pytest.raises(LedgerError, match="cannot be reached"):
            producer.send(_signal())


def test_a_wrong_account_is_refused_at_once() -> None:
    """An account's id that no worker can have is refused before any connection."""
    with pytest.raises(ConfigError, match="account"):
        SignalProducer(account="Not An Account")


async def test_a_consumer_sees_each_event_once(one_server: EmbeddedServer) -> None:
    """An event written twice under one id arrives once; a lost connection loses none."""
    client: Any = Redis.from_url(one_server.url)
    received: list[ReceivedEvent] = []
    async with client, TcpProxy("127.0.0.1", one_server.port) as proxy:
        for number in (1, 1, 2):
            await _write(client, number)
        url = f"redis://127.0.0.1:{proxy.port}/0"
        async with aclosing(unique_events(url, from_id="0")) as events:
            async for event in events:
                received.append(event)
                if len(received) == 2:
                    await proxy.cut()
                    for number in (2, 3):
                        await _write(client, number)
                if event.event_id == "e3":
                    break
    assert Counter(event.event_id for event in received) == {"e1": 1, "e2": 1, "e3": 1}
    assert received[0].data == {"n": 1}
    assert received[0].signal_id == "s"


async def _write(client: Any, number: int) -> None:
    await client.xadd(
        "{main}:orders",
        {"type": "OrderFilled", "id": f"e{number}", "subject": "s", "data": f'{{"n":{number}}}'},
    )


async def test_memory_of_seen_events_is_bounded(one_server: EmbeddedServer) -> None:
    """With room for one id, an id seen two events ago is new again."""
    client: Any = Redis.from_url(one_server.url)
    async with client:
        for number in (1, 1, 2, 1):
            await _write(client, number)
    seen: list[str] = []
    async with aclosing(unique_events(one_server.url, from_id="0", memory=1)) as events:
        async with asyncio.timeout(10):
            async for event in events:
                seen.append(event.event_id)
                if len(seen) == 3:
                    break
    assert seen == ["e1", "e2", "e1"]
