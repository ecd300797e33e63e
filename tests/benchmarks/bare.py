"""The yardstick: loops that read a message, write one event, acknowledge, and do nothing else.

``python -m tests.benchmarks.bare MODE URL``, all of them blocking and none decoding the message, so
that no worker can be faster on the same library:

- ``batched``: plain redis-py, up to a hundred messages read, then one pipeline for all of them;
- ``scripted``: the same with one Lua call a message that writes and acknowledges;
- ``wire``: the same as ``batched`` on hiredis and a socket, without redis-py;
- ``single``: plain redis-py, one message at a time.
"""

import sys
from typing import Any, Final

from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.benchmarks.signals import GROUP, ORDERS, SIGNALS
from tests.benchmarks.wire import Wire, pack

BATCH: Final = 100
_BLOCK_MS: Final = 1_000
_EVENT: Final = "OrderFilled"
_SCRIPT: Final = """
redis.call('XADD', KEYS[2], '*', 'type', 'OrderFilled', 'data', ARGV[3])
return redis.call('XACK', KEYS[1], ARGV[1], ARGV[2])
"""


def _loop(redis: Any, count: int, *, digest: str = "") -> None:
    while True:
        reply = redis.xreadgroup(GROUP, "bare", {SIGNALS: ">"}, count=count, block=_BLOCK_MS)
        if not reply:
            continue
        entries = reply[0][1]
        pipeline = redis.pipeline(transaction=False)
        if digest:
            for entry_id, fields in entries:
                pipeline.evalsha(digest, 2, SIGNALS, ORDERS, GROUP, entry_id, fields[b"data"])
        else:
            for _, fields in entries:
                pipeline.xadd(ORDERS, {"type": _EVENT, "data": fields[b"data"]})
            pipeline.xack(SIGNALS, GROUP, *[entry_id for entry_id, _ in entries])
        pipeline.execute()


def _wire_loop(wire: Wire) -> None:
    read = pack(
        *("XREADGROUP", "GROUP", GROUP, "bare", "COUNT", BATCH, "BLOCK", _BLOCK_MS),
        *("STREAMS", SIGNALS, ">"),
    )
    while True:
        wire.send(read)
        reply = wire.receive()
        if not reply:
            continue
        entries = reply[0][1]
        commands = [
            pack("XADD", ORDERS, "*", "type", _EVENT, "data", fields[1]) for _, fields in entries
        ]
        commands.append(pack("XACK", SIGNALS, GROUP, *[entry_id for entry_id, _ in entries]))
        wire.send(b"".join(commands))
        for _ in commands:
            wire.receive()


def main(mode: str, url: str) -> None:
    """Run one loop until killed."""
    redis: Any = Redis.from_url(url, retry=Retry(NoBackoff(), 0), protocol=2)
    redis.set("bare:ready", 1)
    if mode == "wire":
        _wire_loop(Wire(redis.connection_pool.connection_kwargs["port"]))
    elif mode == "scripted":
        _loop(redis, BATCH, digest=redis.script_load(_SCRIPT))
    else:
        _loop(redis, {"batched": BATCH, "single": 1}[mode])


if __name__ == "__main__":
    main(*sys.argv[1:])
