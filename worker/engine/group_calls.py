"""Calls that carry the items of a whole batch to the ledger."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar

from worker.ledger.errors import LedgerUnavailableError

#: Items in one call: half of the default concurrency, so that the server works on one batch while
#: the worker is at the next.
MAX_BATCH: Final = 32

Item = TypeVar("Item")
Answer = TypeVar("Answer")


async def call_for_all(
    call: Callable[[Sequence[Item]], Awaitable[Sequence[Answer]]], items: Sequence[Item]
) -> Sequence[Answer | Exception]:
    """Call the ledger for a batch; one bad item does not stop the rest.

    A call may answer for the first items only; the rest is sent again.

    Returns:
        An answer for each item, or the exception that it met when it was sent by itself.
    """
    try:
        answers = await call(items)
    except LedgerUnavailableError as error:
        return [error] * len(items)
    except Exception as error:
        if len(items) == 1:
            return [error]
    else:
        done = len(answers)
        if done == len(items) or not done:
            return answers
        return [*answers, *await call_for_all(call, items[done:])]
    return [answer for item in items for answer in await call_for_all(call, [item])]
