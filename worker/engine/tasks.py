"""The engine's running tasks: every one is known, and none fails unnoticed."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any


class Tasks:
    """Starts tasks and keeps them until they are done.

    Args:
        on_fatal: called with the exception of a task that failed: every failure that concerns one
            entry only is dealt with inside.
    """

    def __init__(self, on_fatal: Callable[[BaseException], None]) -> None:
        self._on_fatal = on_fatal
        #: In the order in which they were started.
        self._running: dict[asyncio.Task[None], None] = {}

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

    def _done(self, task: "asyncio.Task[None]") -> None:
        del self._running[task]
        if not task.cancelled() and (error := task.exception()) is not None:
            self._on_fatal(error)
