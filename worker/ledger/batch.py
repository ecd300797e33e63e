"""Group commit: what is ready together travels in one call."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence, Sized
from functools import cached_property
from typing import Generic, TypeVar

Item = TypeVar("Item")
Reply = TypeVar("Reply")


class Batch(Generic[Item, Reply]):
    """Collects the items of concurrent callers and sends them together.

    While one call is under way the next batch gathers; nothing ever waits for a timer. A call that
    fails for a whole batch is repeated item by item, so that one bad item cannot stop the rest. A
    caller who is alone sends for itself: a task and two turns of the loop less.

    Args:
        send: takes at most ``limit`` items, returns one reply for each, in order.
        limit: the largest batch.
        lanes: how many calls may be under way at once.
        divisible: the errors after which the items are sent one by one.
        crowd: whoever may call at this moment; only their number is asked for.
    """

    def __init__(
        self,
        send: Callable[[Sequence[Item]], Awaitable[Sequence[Reply]]],
        *,
        limit: int = 64,
        lanes: int = 1,
        divisible: Callable[[Exception], bool] = lambda _error: False,
        crowd: Sized = (),
    ) -> None:
        self._send = send
        self._limit = limit
        self._lanes = lanes
        self._divisible = divisible
        self._crowd = crowd
        self._queue: list[tuple[Item, asyncio.Future[Reply]]] = []
        self._busy = 0
        self._scheduled = False
        self._tasks: set[asyncio.Task[None]] = set()

    def __call__(self, item: Item) -> Awaitable[Reply]:
        """Send one item with others; whoever awaits it gets its reply or the call's exception."""
        if len(self._crowd) == 1 and not self._busy and not self._queue:
            return self._alone(item)
        future: asyncio.Future[Reply] = self._loop.create_future()
        self._queue.append((item, future))
        if not self._scheduled and self._busy < self._lanes:
            self._schedule()
        return future

    async def _alone(self, item: Item) -> Reply:
        self._busy += 1
        try:
            (reply,) = await self._send([item])
        finally:
            self._free()
        return reply

    @cached_property
    def _loop(self) -> asyncio.AbstractEventLoop:
        """The loop of the first caller, and so of all: asking anew is a call to the kernel."""
        return asyncio.get_running_loop()

    def _schedule(self) -> None:
        """Have a batch sent: in the loop's next turn, so that all who are ready now get into it."""
        self._scheduled = True
        task = self._loop.create_task(self._flush())
        self._tasks.add(task)
        task.add_done_callback(self._flushed)

    def _flushed(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled():  # perhaps before it began: nobody may wait for it
            self._scheduled = False
            for _, future in self._queue:
                future.cancel()
            self._queue = []

    async def _flush(self) -> None:
        batch, self._queue = self._queue[: self._limit], self._queue[self._limit :]
        self._busy += 1
        self._scheduled = False
        if self._queue and self._busy < self._lanes:
            self._schedule()
        try:
            await self._deliver(batch)
        finally:
            self._free()

    def _free(self) -> None:
        """A lane is free again."""
        self._busy -= 1
        if self._queue and not self._scheduled:
            self._schedule()

    async def _deliver(self, batch: list[tuple[Item, "asyncio.Future[Reply]"]]) -> None:
        try:
            replies = await self._send([item for item, _ in batch])
            answered = list(zip(batch, replies, strict=True))
        except Exception as error:
            if len(batch) > 1 and self._divisible(error):
                for single in batch:
                    await self._deliver([single])
                return
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
        except asyncio.CancelledError:
            for _, future in batch:
                future.cancel()
            raise
        else:
            for (_, future), reply in answered:
                if not future.done():
                    future.set_result(reply)
