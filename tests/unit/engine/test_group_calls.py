"""One call for a whole batch: each item gets its own answer, and a bad one harms only itself."""

from collections.abc import Sequence

from worker.engine.group_calls import call_for_all
from worker.ledger.errors import LedgerUnavailableError

GONE = LedgerUnavailableError("gone", kind="connection")


class Recorder:
    """A call that notes its batches, and fails where a batch has a bad item."""

    def __init__(self, problem: Exception | None = None) -> None:
        self.batches: list[list[int]] = []
        self.problem = problem

    async def __call__(self, items: Sequence[int]) -> list[str]:
        self.batches.append(list(items))
        if self.problem is not None:
            raise self.problem
        if any(item < 0 for item in items):
            raise ValueError(f"bad item in {items}")
        return [f"reply {item}" for item in items]


async def test_a_batch_travels_in_one_call() -> None:
    """Each gets the reply to its own item."""
    call = Recorder()
    assert await call_for_all(call, range(10)) == [f"reply {n}" for n in range(10)]
    assert call.batches == [list(range(10))]


async def test_a_bad_item_harms_only_itself() -> None:
    """The batch is repeated item by item; the others get their replies, in order."""
    call = Recorder()
    first, bad, last = await call_for_all(call, [1, -2, 3])
    assert (first, last) == ("reply 1", "reply 3")
    assert isinstance(bad, ValueError)
    assert call.batches == [[1, -2, 3], [1], [-2], [3]]


async def test_a_lone_bad_item_is_not_sent_twice() -> None:
    """A failed batch of one item is not repeated item by item."""
    call = Recorder()
    (bad,) = await call_for_all(call, [-1])
    assert isinstance(bad, ValueError)
    assert call.batches == [[-1]]


async def test_an_unavailable_ledger_fails_all_at_once() -> None:
    """It is not asked again item by item: Redis being away is no item's fault."""
    call = Recorder(GONE)
    assert await call_for_all(call, [1, 2, 3]) == [GONE] * 3
    assert call.batches == [[1, 2, 3]]


async def test_a_ledger_that_goes_away_meanwhile_fails_the_rest_one_by_one() -> None:
    """Items answered before the outage keep their answers; each later one fails."""

    class Leaving(Recorder):
        async def __call__(self, items: Sequence[int]) -> list[str]:
            if len(self.batches) == 2:
                self.problem = GONE
            return await super().__call__(items)

    call = Leaving()
    first, *rest = await call_for_all(call, [1, -2, 3])
    assert first == "reply 1"
    assert rest == [GONE, GONE]


async def test_it_goes_on_after_a_failure() -> None:
    """A failed batch leaves nothing behind for the next one."""
    call = Recorder()
    await call_for_all(call, [-1, -2])
    assert await call_for_all(call, [2, 3]) == ["reply 2", "reply 3"]
