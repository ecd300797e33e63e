"""The yardstick: loops that read a message, write one event, acknowledge, and do nothing else.

``python -m tests.benchmarks.bare batched|single URL``. Both are plain redis-py with hiredis:
``batched`` reads up to a hundred and writes and acknowledges them in one pipeline, ``single``
takes one at a time. Neither decodes the message, so no worker can be faster on the same library.
"""

import sys
from typing import Any, Final

from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.benchmarks.signals import GROUP, ORDERS, SIGNALS

BATCH: Final = 100
_BLOCK_MS: Final = 1_000


def main(mode: str, url: str) -> None:
    """Run one loop until killed."""
    redis = Redis.from_url(url, retry=Retry(NoBackoff(), 0), protocol=2)
    redis.set("bare:ready", 1)
    count = {"batched": BATCH, "single": 1}[mode]
    while True:
        reply: Any = redis.xreadgroup(GROUP, "bare", {SIGNALS: ">"}, count=count, block=_BLOCK_MS)
        if not reply:
            continue
        entries = reply[0][1]
        pipeline = redis.pipeline(transaction=False)
        for _, fields in entries:
            pipeline.xadd(ORDERS, {"type": "OrderFilled", "data": fields[b"data"]})
        pipeline.xack(SIGNALS, GROUP, *[entry_id for entry_id, _ in entries])
        pipeline.execute()


if __name__ == "__main__":
    main(*sys.argv[1:])
