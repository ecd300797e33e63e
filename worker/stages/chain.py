"""Joins stages into one step whose types fit; the first early end is the whole chain's."""

from collections.abc import Awaitable, Callable
from time import perf_counter
from typing import Any, Generic, TypeVar

from worker.stages.flow import ENDS, Ended

#: Told how long each stage of a signal took: its name and seconds.
Watch = Callable[[str, float], None]

Start = TypeVar("Start")
Now = TypeVar("Now")
Next = TypeVar("Next")

#: A stage takes one value and returns the next, or one that ends the chain.
Stage = Callable[[Now], Awaitable[Next | Ended]]


class Chain(Generic[Start, Now]):
    """Named stages in order; immutable, so that a longer chain can share a shorter one.

    Args:
        watch: told how long each stage took.
        stages: names and stages; use :meth:`of` and :meth:`then`, which check that they fit.
    """

    def __init__(self, watch: Watch, *stages: tuple[str, Callable[[Any], Awaitable[Any]]]) -> None:
        self._watch = watch
        self._stages = stages

    @classmethod
    def of(
        cls, watch: Watch, name: str, stage: Callable[[Start], Awaitable[Now | Ended]]
    ) -> "Chain[Start, Now]":
        """A chain of one."""
        return Chain(watch, (name, stage))

    def then(
        self, name: str, stage: Callable[[Now], Awaitable[Next | Ended]]
    ) -> "Chain[Start, Next]":
        """The chain with one more stage, which must take what the last one returns."""
        return Chain(self._watch, *self._stages, (name, stage))

    async def run(self, value: Start) -> Now | Ended:
        """Run the stages until one ends the chain."""
        current: Any = value
        started = perf_counter()
        for name, stage in self._stages:
            current = await stage(current)
            ended = perf_counter()
            self._watch(name, ended - started)
            started = ended
            if isinstance(current, ENDS):
                break
        return current  # type: ignore[no-any-return]
