"""A peer's processes: ``python -m tests.benchmarks.peers work|produce NAME URL``.

The producer obeys the list ``peers:go``: ``load N`` puts N messages on the queue, ``one N`` sends
N one at a time and answers with the nanoseconds from each to its event. Answers are on
``peers:done``.
"""

import asyncio
import logging
import sys
import time
from itertools import count
from typing import Any, Final

import msgspec
import redis
import uvloop

from tests.benchmarks.peers.apps import PEERS, Peer, Send
from tests.benchmarks.peers.message import EVENTS, payload

_AT_ONCE: Final = 50
_REST_S: Final = 0.001
_PATIENCE_MS: Final = 20_000


async def _load(send: Send, numbers: "count[int]", wanted: int) -> None:
    for first in range(0, wanted, _AT_ONCE):
        size = min(_AT_ONCE, wanted - first)
        await asyncio.gather(*(send(payload(next(numbers))) for _ in range(size)))


async def _one_by_one(control: Any, send: Send, numbers: "count[int]", wanted: int) -> list[int]:
    times = []
    rows = control.xrevrange(EVENTS, count=1)
    last = rows[0][0] if rows else "0-0"
    for _ in range(wanted):
        data = payload(next(numbers))
        await asyncio.sleep(_REST_S)
        started = time.monotonic_ns()
        await send(data)
        reply = control.xread({EVENTS: last}, block=_PATIENCE_MS)
        times.append(time.monotonic_ns() - started)
        last = reply[0][1][-1][0]
    return times


async def _produce(peer: Peer) -> None:
    # The blocking client stops the loop while it waits: nothing else has to run then.
    control: Any = redis.Redis.from_url(peer.url, socket_timeout=None, protocol=2)
    send = await peer.sender()
    numbers = count()
    control.set("bare:ready", 1)
    while True:
        what, wanted = control.blpop("peers:go", 0)[1].decode().split()
        times: list[int] = []
        if what == "load":
            await _load(send, numbers, int(wanted))
        else:
            times = await _one_by_one(control, send, numbers, int(wanted))
        control.lpush("peers:done", msgspec.msgpack.encode(times))


def main(role: str, name: str, url: str) -> None:
    """Run one process until killed."""
    logging.disable(logging.CRITICAL)
    peer = PEERS[name](url)
    if role == "produce":
        uvloop.run(_produce(peer))
    elif name in {"celery", "dramatiq"}:
        asyncio.run(peer.work())
    else:
        uvloop.run(peer.work())


if __name__ == "__main__":
    main(*sys.argv[1:])
