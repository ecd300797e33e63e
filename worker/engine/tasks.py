"""The engine's running tasks: every one is known, and none fails unnoticed."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from worker.runtime.cancellation import cancel_all
from worker.runtime.errors import InvariantError


class Tasks:
    """Starts tasks and keeps them until they are done.

    Args:
        on_fatal: called with the exception of a task that failed, or was cancelled from elsewhere:
            every failure that concerns one entry only is dealt with inside.
    """

    def __init__(self, on_fatal: Callable[[BaseException], None]) -> None:
        self._on_fatal = on_fatal
        #: In the order in which they were started.
        self._running: dict[asyncio.Task[None], None] = {}
        #: Whether :meth:`end` cancels the tasks.
        self.are_ending = False

    def __len__(self) -> int:
        return len(self._running)

    def running(self) -> list["asyncio.Task[None]"]:
        """Return the tasks that are not done."""
        return list(self._running)

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        """Start a task."""
        task = asyncio.get_running_loop().create_task(coroutine)
        self._running[task] = None
        task.add_done_callback(self._done)
        return task

    async def end(self) -> None:
        """Cancel every task, and those that they start meanwhile; return when none runs."""
        self.are_ending = True
        while self._running:
            await cancel_all(self.running())
            await asyncio.sleep(0)  # for the callbacks of those that have ended

    def _done(self, task: "asyncio.Task[None]") -> None:
        del self._running[task]
        if task.cancelled():
            if not self.are_ending:
                self._on_fatal(InvariantError(f"{task!r} was cancelled while the worker runs"))
        elif (error := task.exception()) is not None:
            self._on_fatal(error)
