"""Cancellation that is repeated until every task has ended."""

import asyncio
from collections.abc import Iterable
from typing import Any, Final

CANCEL_AGAIN_S: Final = 0.5


async def cancel_all(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel ``tasks`` and wait until all have ended; their results and exceptions are ignored.

    Cancelling once is not enough: ``asyncio.wait_for`` of Python 3.11, which the Redis library
    sends with, drops a cancellation that arrives together with its result (CPython issue 86296).
    """
    waiting = [task for task in tasks if not task.done()]
    while waiting:
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting, timeout=CANCEL_AGAIN_S)
        waiting = [task for task in waiting if not task.done()]
