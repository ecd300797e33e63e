"""The line of private requests, and nonces."""

import asyncio
from collections.abc import Callable

import pytest

from worker.exchanges.kraken.client import SEATS, Nonces
from worker.exchanges.kraken.turns import RequestTurns
from worker.runtime.clock import SystemClock


class Hands(SystemClock):
    """A monotonic clock that is set by hand."""

    ms = 0.0

    def monotonic_ms(self) -> float:
        return self.ms


async def test_one_at_a_time_in_the_order_of_asking() -> None:
    """Whoever is cancelled while waiting loses its place, and nobody else's."""
    turns, order = RequestTurns(SystemClock()), []

    async def one(name: int) -> None:
        turn = await turns.take()
        order.append(name)
        await asyncio.sleep(0.001)
        turn.end()
        turn.end()

    tasks = [asyncio.create_task(one(number)) for number in range(6)]
    await asyncio.sleep(0)
    tasks[2].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert order == [0, 1, 3, 4, 5]
    (await asyncio.wait_for(turns.take(), 1)).end()


async def test_a_turn_that_is_handed_over_to_somebody_who_has_gone_is_passed_on() -> None:
    """Cancelled between being called and going."""
    turns = RequestTurns(SystemClock())
    first = await turns.take()
    gone, waits = (asyncio.create_task(turns.take()) for _ in range(2))
    await asyncio.sleep(0)
    first.end()
    gone.cancel()
    (await asyncio.wait_for(waits, 1)).end()
    assert gone.cancelled()


async def test_a_request_without_a_reply_does_not_hold_the_others_up_for_long() -> None:
    """Once it was written it has arrived after a while; one not written keeps its turn."""
    turns = RequestTurns(SystemClock(), arrived_s=0.02)
    hung = await turns.take()
    following = asyncio.create_task(turns.take())
    await asyncio.sleep(0.05)
    assert not following.done()
    hung.writing()
    (await asyncio.wait_for(following, 1)).end()
    hung.end()


async def test_a_long_line_is_waited_for_before_an_order_is_sent() -> None:
    """As long as turns have lasted lately; the first few orders go at once."""
    clock = Hands()
    turns = RequestTurns(clock)
    for _ in range(200):
        turn = await turns.take()
        clock.ms += 50
        turn.end()
    waits = [turns.reserve(10_000) for _ in range(8)]
    assert waits[:4] == [0, 0, 0, 0]
    assert waits[4:] == pytest.approx([50, 100, 150, 200], abs=0.1)
    assert turns.reserve(100) > 100  # not reserved
    assert turns.reserve(10_000) == pytest.approx(250, abs=0.1)


async def test_an_order_that_asks_again_keeps_its_place() -> None:
    """It stands behind nobody who came later, and takes no second place."""
    clock = Hands()
    turns = RequestTurns(clock)
    for _ in range(200):
        turn = await turns.take()
        clock.ms += 50
        turn.end()
    first = [turns.reserve(10_000, f"order {number}") for number in range(6)]
    assert first[4:] == pytest.approx([50, 100], abs=0.1)
    clock.ms += 40
    assert turns.reserve(10_000, "order 5") == pytest.approx(60, abs=0.1)
    clock.ms += 70
    assert turns.reserve(10_000, "order 4") == turns.reserve(10_000, "order 5") == 0
    assert turns.reserve(10_000, "order 6") == pytest.approx(40, abs=0.1)


@pytest.mark.parametrize("times", [lambda n: 1_000, lambda n: 1_000 + n, lambda n: 1_000 - n])
def test_nonces_rise_whatever_the_clock_does(times: Callable[[int], int]) -> None:
    """Also when it stands or is set back; the seat changes nothing about that."""
    now = [0]

    def now_ms() -> int:
        now[0] += 1
        return times(now[0])

    for seats in (1, SEATS):
        nonces = Nonces(now_ms, seats)
        taken = [nonces.take() for _ in range(20)]
        nonces.seat = 3
        taken += [nonces.take() for _ in range(20)]
        assert taken == sorted(set(taken))
        if seats > 1:
            assert {nonce % seats for nonce in taken[20:]} == {3}
