"""A consumer built on the client survives a lost connection without harm."""

from collections import Counter
from contextlib import aclosing
from typing import Any

from redis.asyncio import Redis

from tests.tcp_proxy import TcpProxy
from worker.client import ReceivedEvent, unique_events
from worker.runtime.embedded_server import EmbeddedServer


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
