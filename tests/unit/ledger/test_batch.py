"""Group commit: ready together, sent together; answers to whom they belong."""

import asyncio
from collections.abc import Coroutine, Sequence

import pytest

from worker.ledger.batch import Batch


class Recorder:
    """A ``send`` that notes its batches, and waits for a gate while that is closed."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.open = asyncio.Event()
        self.open.set()
        self.under_way = 0
        self.most_under_way = 0

    async def __call__(self, items: Sequence[int]) -> list[str]:
        self.batches.append(list(items))
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            await self.open.wait()
        finally:
            self.under_way -= 1
        if any(item < 0 for item in items):
            raise ValueError(f"bad item in {items}")
        return [f"reply {item}" for item in items]


async def test_what_is_ready_in_one_turn_travels_together() -> None:
    """Ten callers, one call; each gets the reply to its own item."""
    send = Recorder()
    batch = Batch(send)
    assert await asyncio.gather(*map(batch, range(10))) == [f"reply {n}" for n in range(10)]
    assert send.batches == [list(range(10))]


async def test_while_a_call_is_under_way_the_next_batch_gathers() -> None:
    """No timer: what arrives meanwhile goes with the next call, in order."""
    send = Recorder()
    batch = Batch(send, lanes=1)
    send.open.clear()
    first = batch(0)
    await asyncio.sleep(0)
    rest = [batch(n) for n in range(1, 4)]
    await asyncio.sleep(0)
    assert send.batches == [[0]]
    send.open.set()
    assert await asyncio.gather(first, *rest) == [f"reply {n}" for n in range(4)]
    assert send.batches == [[0], [1, 2, 3]]


@pytest.mark.parametrize(("limit", "lanes"), [(1, 1), (3, 2), (64, 4)])
async def test_limits_hold_and_order_is_kept(limit: int, lanes: int) -> None:
    """No call is larger than the limit, no more are under way than there are lanes."""
    send = Recorder()
    batch = Batch(send, limit=limit, lanes=lanes)
    send.open.clear()
    futures = [batch(n) for n in range(20)]
    await asyncio.sleep(0)
    send.open.set()
    assert await asyncio.gather(*futures) == [f"reply {n}" for n in range(20)]
    assert max(map(len, send.batches)) <= limit
    assert send.most_under_way <= lanes
    assert [item for one in send.batches for item in one] == list(range(20))


async def test_a_bad_item_harms_only_itself() -> None:
    """A divisible failure is repeated item by item; the others get their replies."""
    batch = Batch(Recorder(), divisible=lambda error: isinstance(error, ValueError))
    results = await asyncio.gather(*map(batch, [1, -2, 3]), return_exceptions=True)
    assert results[0] == "reply 1"
    assert isinstance(results[1], ValueError)
    assert results[2] == "reply 3"


async def test_a_failure_of_the_call_itself_is_everybodys() -> None:
    """It is not repeated item by item: Redis being away is nobody's fault."""
    send = Recorder()
    batch = Batch(send)
    results = await asyncio.gather(*map(batch, [1, -2, 3]), return_exceptions=True)
    assert [type(result) for result in results] == [ValueError] * 3
    assert send.batches == [[1, -2, 3]]


async def test_it_goes_on_after_a_failure() -> None:
    """A failed call frees its lane."""
    batch = Batch(Recorder(), lanes=1)
    with pytest.raises(ValueError, match="bad item"):
        await batch(-1)
    assert await batch(2) == "reply 2"


async def test_a_caller_that_gave_up_does_not_take_the_others_along() -> None:
    """Its item still travels, for it may have been sent already; its reply goes nowhere."""
    send = Recorder()
    batch = Batch(send)
    send.open.clear()
    impatient, patient = map(asyncio.ensure_future, (batch(1), batch(2)))
    await asyncio.sleep(0)
    impatient.cancel()
    send.open.set()
    assert await patient == "reply 2"
    assert impatient.cancelled()
    assert send.batches == [[1, 2]]


async def test_a_batch_cancelled_before_it_set_off_leaves_nobody_waiting() -> None:
    """As when the loop ends: its callers are told, and the next item is sent."""
    send = Recorder()
    batch = Batch(send)
    waiting = batch(1)
    (sending,) = asyncio.all_tasks() - {asyncio.current_task()}
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(waiting, 5)
    assert await asyncio.wait_for(batch(2), 5) == "reply 2"


async def test_a_caller_who_is_alone_sends_for_itself() -> None:
    """In its own task, without a turn of the loop; who comes meanwhile has the other lane."""
    send = Recorder()
    crowd = ["me"]
    batch = Batch(send, lanes=2, crowd=crowd)
    send.open.clear()
    alone = batch(1)
    assert isinstance(alone, Coroutine)
    alone.send(None)
    assert send.batches == [[1]]
    crowd += ["another", "a third"]
    others = asyncio.gather(*map(batch, (2, 3)))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert send.batches == [[1], [2, 3]]
    send.open.set()
    assert await others == ["reply 2", "reply 3"]
    with pytest.raises(StopIteration, match="reply 1"):
        alone.send(None)


async def test_a_crowd_travels_together_though_one_of_it_comes_first() -> None:
    """Alone is who is alone in hand, not who finds nobody waiting."""
    send = Recorder()
    batch = Batch(send, crowd=["one", "two"])
    assert await asyncio.gather(*map(batch, (1, 2))) == ["reply 1", "reply 2"]
    assert send.batches == [[1, 2]]


async def test_alone_is_nobody_whose_lane_is_taken_or_whom_others_wait_before() -> None:
    """A crowd may have shrunk to one while its items wait: that one queues up behind them."""
    send = Recorder()
    crowd = ["one", "two"]
    batch = Batch(send, lanes=1, crowd=crowd)
    send.open.clear()
    first = batch(1)
    await asyncio.sleep(0)
    crowd.pop()
    behind = batch(2)
    assert isinstance(behind, asyncio.Future)
    await asyncio.sleep(0)
    assert send.batches == [[1]]
    send.open.set()
    assert [await first, await behind] == ["reply 1", "reply 2"]
    crowd.append("another")
    queued = batch(3)
    crowd.pop()
    another = batch(4)
    assert [await queued, await another] == ["reply 3", "reply 4"]
    assert send.batches == [[1], [2], [3, 4]]


@pytest.mark.parametrize("failing", [False, True])
async def test_a_lone_callers_lane_is_free_afterwards(failing: bool) -> None:
    """Whether its call failed or it gave up; what gathered meanwhile is sent."""
    send = Recorder()
    crowd = ["me"]
    batch = Batch(send, lanes=1, crowd=crowd)
    send.open.clear()
    alone = asyncio.ensure_future(batch(-1 if failing else 1))
    await asyncio.sleep(0)
    crowd.append("another")
    other = batch(2)
    if failing:
        send.open.set()
    else:
        alone.cancel()
    result = (await asyncio.gather(alone, return_exceptions=True))[0]
    assert type(result) is (ValueError if failing else asyncio.CancelledError)
    send.open.set()
    assert await asyncio.wait_for(other, 5) == "reply 2"


@pytest.mark.parametrize("missing", [0, 2])
async def test_replies_that_do_not_match_the_items_are_an_error(missing: int) -> None:
    """Nobody may get another's reply, and nobody may wait for ever."""

    async def send(items: Sequence[int]) -> list[str]:
        return ["reply"] * missing

    with pytest.raises(ValueError, match="zip"):
        await asyncio.wait_for(Batch(send)(1), 5)
