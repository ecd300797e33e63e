"""Joins stages into one step whose types fit; the first early end is the whole chain's."""

from collections.abc import Awaitable, Callable, Generator, Sized
from time import perf_counter
from types import coroutine
from typing import Any, Generic, TypeVar

from worker.pipeline.flow import ENDS, Ended

#: Asked for a stage by its name; what it returns is told the seconds each signal took.
Watch = Callable[[str], Callable[[float], None]]

Start = TypeVar("Start")
Now = TypeVar("Now")
Next = TypeVar("Next")

#: The signals that are in hand at this moment; only their number is asked for.
Crowd = Sized


@coroutine
def others_first() -> Generator[None, None, None]:
    """Let every signal that is ready come as far as this one before it goes on.

    Signals come in batches. Taking all of them through one stage, then through the next, keeps the
    processor on the same code and data (measured: docs/performance.md, "signals not in step"). A
    lone signal has nobody to wait for, so callers look at the crowd first.
    """
    yield


class Chain(Generic[Start, Now]):
    """Named stages in order; immutable, so that a longer chain can share a shorter one.

    Args:
        watch: who is told how long each stage took.
        crowd: the signals that are in hand now.
        stages: who is told of each, and the stages; use :meth:`of` and :meth:`then`, which check
            that they fit.
    """

    def __init__(
        self,
        watch: Watch,
        crowd: Crowd,
        *stages: tuple[Callable[[float], None], Callable[[Any], Awaitable[Any]]],
    ) -> None:
        self._watch = watch
        self._crowd = crowd
        self._stages = stages

    @classmethod
    def of(
        cls, watch: Watch, crowd: Crowd, name: str, stage: Callable[[Start], Awaitable[Now | Ended]]
    ) -> "Chain[Start, Now]":
        """A chain of one."""
        return Chain(watch, crowd, (watch(name), stage))

    def then(
        self, name: str, stage: Callable[[Now], Awaitable[Next | Ended]]
    ) -> "Chain[Start, Next]":
        """The chain with one more stage, which must take what the last one returns."""
        return Chain(self._watch, self._crowd, *self._stages, (self._watch(name), stage))

    async def run(self, value: Start) -> Now | Ended:
        """Run the stages until one ends the chain."""
        current: Any = value
        for observe, stage in self._stages:
            if len(self._crowd) > 1:
                await others_first()
            started = perf_counter()
            current = await stage(current)
            observe(perf_counter() - started)
            if type(current) in ENDS:
                break
        return current  # type: ignore[no-any-return]
