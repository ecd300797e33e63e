"""An event loop on virtual time, and the processes that live on it: they can be paused or killed.

Nothing ever waits: when no callback is ready the clock jumps to the next timer. Every callback
belongs to the process in whose context it was scheduled. A paused process's callbacks are kept
until it goes on, a dead one's for ever, so neither sees, does nor cleans up anything meanwhile,
just as under SIGSTOP and SIGKILL.
"""

import asyncio
import heapq
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from contextlib import contextmanager
from contextvars import Context, ContextVar, copy_context
from typing import Any, TypeVar

T = TypeVar("T")


class Stuck(AssertionError):  # noqa: N818 (it reads as what it says)
    """Nothing is left to run, yet what was waited for has not come."""


class Process:
    """One operating-system process: alive, stopped or dead.

    Args:
        name: shown in traces.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_alive = True
        self.paused_until: float | None = None
        self.kept: list[asyncio.Handle] = []

    @property
    def runs(self) -> bool:
        """Whether its callbacks are executed now."""
        return self.is_alive and self.paused_until is None

    def __repr__(self) -> str:
        state = "runs" if self.runs else "stopped" if self.is_alive else "dead"
        return f"<Process {self.name}: {state}>"


_process: ContextVar[Process | None] = ContextVar("process", default=None)
_OUTSIDE = Context()


class VirtualLoop(asyncio.AbstractEventLoop):
    """The few methods of an event loop that asyncio's own primitives call.

    Args:
        on_error: told of every exception nobody caught.
    """

    def __init__(self, on_error: Callable[[dict[str, Any]], None]) -> None:
        self._now = 0.0
        self._ready: deque[asyncio.Handle] = deque()
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._count = 0
        self._on_error = on_error
        self._tasks: list[asyncio.Task[Any]] = []
        self.handled = 0

    # -- what asyncio calls --------------------------------------------------------------------

    def time(self) -> float:
        """Virtual seconds since the start."""
        return self._now

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self._on_error(context)

    def create_future(self) -> "asyncio.Future[Any]":
        return asyncio.Future(loop=self)

    def create_task(  # type: ignore[override]
        self,
        coro: Coroutine[Any, Any, T],
        *,
        name: str | None = None,
        context: Context | None = None,
    ) -> "asyncio.Task[T]":
        task = asyncio.Task(coro, loop=self, name=name, context=context)
        self._tasks.append(task)
        return task

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def call_later(  # type: ignore[override]
        self,
        delay: float,
        callback: Callable[..., object],
        *args: Any,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        return self.call_at(self._now + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self,
        when: float,
        callback: Callable[..., object],
        *args: Any,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        self._count += 1
        heapq.heappush(self._timers, (when, self._count, handle))
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Cancelled timers are skipped when their time comes."""

    # -- processes -----------------------------------------------------------------------------

    def outside(self, delay: float, callback: Callable[..., object], *args: Any) -> None:
        """Call something that belongs to no process (a server, the network) after ``delay``."""
        self.call_later(delay, callback, *args, context=_OUTSIDE.copy())

    def spawn(self, process: Process, main: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        """Start a process with ``main`` as its first task."""
        context = copy_context()
        context.run(_process.set, process)
        return self.create_task(main, name=process.name, context=context)

    def pause(self, process: Process, seconds: float) -> None:
        """Stop a process; a longer pause in force stays."""
        until = self._now + seconds
        if process.is_alive and (process.paused_until or 0.0) < until:
            process.paused_until = until
            self.outside(seconds, self._go_on, process)

    def _go_on(self, process: Process) -> None:
        if process.is_alive and process.paused_until is not None:
            if process.paused_until > self._now:
                return
            process.paused_until = None
            self._ready.extend(process.kept)
            process.kept.clear()

    def kill(self, process: Process) -> None:
        """End a process without any clean-up."""
        process.is_alive = False

    # -- running -------------------------------------------------------------------------------

    def run_until(self, is_done: Callable[[], bool], *, limit_s: float) -> None:
        """Run until ``is_done``, asked after every callback.

        Raises:
            Stuck: that did not come within ``limit_s`` of virtual time.
        """
        with _running(self):
            while not is_done():
                if not self._ready:
                    self._jump(limit_s)
                self._step()

    def _jump(self, limit_s: float) -> None:
        while self._timers and self._timers[0][2].cancelled():
            heapq.heappop(self._timers)
        if not self._timers or self._timers[0][0] > limit_s:
            raise Stuck(f"not finished at {self._now:.3f} s of virtual time")
        self._now = max(self._now, self._timers[0][0])
        while self._timers and self._timers[0][0] <= self._now:
            self._ready.append(heapq.heappop(self._timers)[2])

    def _step(self) -> None:
        if not self._ready:
            return
        handle = self._ready.popleft()
        if handle.cancelled():
            return
        process = handle._context.get(_process)  # type: ignore[attr-defined]
        if process is not None and not process.runs:
            process.kept.append(handle)
            return
        self.handled += 1
        handle._run()

    def finish(self, processes: list[Process]) -> None:
        """Cancel everything and let it end, so that no task is destroyed while pending."""
        with _running(self):
            for process in processes:
                process.is_alive, process.paused_until = True, None
                self._ready.extend(process.kept)
                process.kept.clear()
            for _ in range(8):
                pending = [task for task in self._tasks if not task.done()]
                if not pending:
                    return
                for task in pending:
                    task.cancel()
                while self._ready:
                    self._step()
        for task in self._tasks:
            task._log_destroy_pending = False  # type: ignore[attr-defined]


@contextmanager
def _running(loop: VirtualLoop) -> Generator[None, None, None]:
    before = asyncio._get_running_loop()
    asyncio._set_running_loop(loop)
    try:
        yield
    finally:
        asyncio._set_running_loop(before)


def current_process() -> Process | None:
    """The process that is running now."""
    return _process.get()
