"""Joins stages into one step whose types fit; the first early end is the whole chain's."""

from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar

from worker.stages.flow import ENDS, Ended

Start = TypeVar("Start")
Now = TypeVar("Now")
Next = TypeVar("Next")

#: A stage takes one value and returns the next, or one that ends the chain.
Stage = Callable[[Now], Awaitable[Next | Ended]]


class Chain(Generic[Start, Now]):
    """Stages in order; immutable, so that a longer chain can share a shorter one."""

    def __init__(self, *stages: Callable[[Any], Awaitable[Any]]) -> None:
        self._stages = stages

    @classmethod
    def of(cls, stage: Callable[[Start], Awaitable[Now | Ended]]) -> "Chain[Start, Now]":
        """A chain of one."""
        return Chain(stage)

    def then(self, stage: Callable[[Now], Awaitable[Next | Ended]]) -> "Chain[Start, Next]":
        """The chain with one more stage, which must take what the last one returns."""
        return Chain(*self._stages, stage)

    async def run(self, value: Start) -> Now | Ended:
        """Run the stages until one ends the chain."""
        current: Any = value
        for stage in self._stages:
            current = await stage(current)
            if isinstance(current, ENDS):
                break
        return current  # type: ignore[no-any-return]
