"""Answers many questions of one kind with one request, as soon as that has its turn."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Batcher(Generic[K, V]):
    """Collects keys while a request waits for its turn, and asks about all of them together.

    Args:
        ask: waits for the turn, then calls its argument for the keys, then asks; answers by key.
        most: keys one request may have.
    """

    def __init__(
        self,
        ask: Callable[[Callable[[], list[K]]], Awaitable[Mapping[K, V]]],
        most: int,
    ) -> None:
        self._ask = ask
        self._most = most
        self._waiting: dict[K, asyncio.Future[V | None]] = {}
        self._taken: dict[K, asyncio.Future[V | None]] = {}
        self._runner: asyncio.Task[None] | None = None

    async def get(self, key: K) -> V | None:
        """Return the answer for ``key``, None if the reply has none; raises what asking raised."""
        answer = self._waiting.get(key)
        if answer is None:
            answer = asyncio.get_running_loop().create_future()
            answer.add_done_callback(_retrieve)
            self._waiting[key] = answer
        if self._runner is None or self._runner.done():
            self._runner = asyncio.get_running_loop().create_task(self._run(), name="batcher")
        return await asyncio.shield(answer)

    def _take(self) -> list[K]:
        keys = list(self._waiting)[: self._most]
        self._taken = {key: self._waiting.pop(key) for key in keys}
        return keys

    async def _run(self) -> None:
        while self._waiting:
            self._taken = {}
            try:
                answers = await self._ask(self._take)
            except BaseException as error:
                # Before the turn came nobody was taken: then it came for nobody who waits.
                for key in () if self._taken else list(self._waiting):
                    self._taken[key] = self._waiting.pop(key)
                for waiting in self._taken.values():
                    if not waiting.done():
                        waiting.set_exception(error)
                if not isinstance(error, Exception):
                    raise
            else:
                for key, waiting in self._taken.items():
                    if not waiting.done():
                        waiting.set_result(answers.get(key))


def _retrieve(answer: "asyncio.Future[Any]") -> None:
    if not answer.cancelled():
        answer.exception()
