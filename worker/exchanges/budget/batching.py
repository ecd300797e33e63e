"""Answers many questions of one kind with one request, as soon as that has its turn."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, Generic, TypeVar

from worker.exchanges.budget.classes import asking, wished
from worker.exchanges.budget.requests import BUDGET_CODE
from worker.exchanges.errors import Outcome, RateLimitError

#: The longest that a request for many waits for its turn, seconds.
LONGEST_TURN_S: Final = 60.0

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
        """Return the answer for ``key``, None if the reply has none; raises what asking raised.

        Raises:
            RateLimitError: no request has its turn within the caller's own time (``asking``).
        """
        answer = self._waiting.get(key)
        if answer is None:
            answer = asyncio.get_running_loop().create_future()
            answer.add_done_callback(_retrieve)
            self._waiting[key] = answer
        if self._runner is None or self._runner.done():
            self._runner = asyncio.get_running_loop().create_task(self._run(), name="batcher")
        wish = wished()
        try:
            async with asyncio.timeout(wish.within_s if wish is not None else None):
                return await asyncio.shield(answer)
        except TimeoutError:
            if self._waiting.get(key) is answer:
                raise RateLimitError(
                    "nothing was sent, the request budget had no room in time",
                    outcome=Outcome.THROTTLED,
                    code=BUDGET_CODE,
                ) from None
        return await asyncio.shield(answer)  # the request is under way

    def _take(self) -> list[K]:
        keys = list(self._waiting)[: self._most]
        self._taken = {key: self._waiting.pop(key) for key in keys}
        return keys

    async def _run(self) -> None:
        wish = wished()  # of whoever came first: each that waits has a time of its own
        while self._waiting:
            self._taken = {}
            try:
                if wish is None or wish.within_s is None:
                    answers = await self._ask(self._take)
                else:
                    with asking(wish.request_class, LONGEST_TURN_S):
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
