"""Many workers at random on a real server: order within a group and exactly one end, always."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from random import Random
from typing import Generic, TypeVar

import pytest

from tests.integration.fleets import Fleet, admission, filled, fleet_on, outcome
from worker.ledger.calls import RedisLedger
from worker.ledger.replies import Admitted, CommitStatus, Delivery, Fenced
from worker.runtime.embedded_server import EmbeddedServer

Item = TypeVar("Item")
Answer = TypeVar("Answer")

WORKERS, GROUPS, SIGNALS = 5, 7, 140


@pytest.fixture
async def fleet(server: EmbeddedServer) -> AsyncIterator[Fleet]:
    async with fleet_on(server.url) as made:
        yield made


class Together(Generic[Item, Answer]):
    """Sends what is asked in one turn of the loop as one call, as the engine does.

    Args:
        call: of the ledger, for a batch.
    """

    def __init__(self, call: Callable[[Sequence[Item]], Awaitable[Sequence[Answer]]]) -> None:
        self._call = call
        self._waiting: list[tuple[Item, asyncio.Future[Answer]]] = []

    async def __call__(self, item: Item) -> Answer:
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if len(self._waiting) == 1:
            await asyncio.sleep(0)
            waiting, self._waiting = self._waiting, []
            answers = await self._call([one for one, _ in waiting])
            for (_, asked), answer in zip(waiting, answers, strict=True):
                asked.set_result(answer)
        return await future


class Clumsy:
    """A worker that forgets, repeats, gives back, dies and takes over, as its dice say.

    What it does to an entry depends on the dice alone; what comes of it must not.
    """

    def __init__(self, fleet: Fleet, name: str, dice: Random) -> None:
        self.fleet = fleet
        self.ledger: RedisLedger = fleet[name]
        self.ask = Together(self.ledger.admit)
        self.commit = Together(self.ledger.commit)
        self.dice = dice

    async def turn(self) -> None:
        """Claim something and do something to each of it."""
        claim = await self.ledger.claim(self.dice.randint(1, 6))
        await asyncio.gather(*(self.treat(delivery) for delivery in claim.deliveries))

    async def treat(self, delivery: Delivery | None) -> None:
        """One entry, and those of its group that are handed on after it."""
        while delivery is not None:
            fate = self.dice.random()
            if fate < 0.1:
                return await self.die(delivery)
            if fate < 0.2:
                entry = (delivery.entry_id, delivery.token, 0, self.dice.random() < 0.5)
                await self.ledger.release([entry])
                return None
            delivery = await self.finish(delivery)
        return None

    async def die(self, delivery: Delivery) -> None:
        """Stop without a word; sometimes only after the admission, sometimes to come back late."""
        admitted = self.dice.random() < 0.5 and await self.admit(delivery)
        await self.fleet.expire(delivery.entry_id)
        if self.dice.random() < 0.3:
            # Whoever is faster: one of the two is fenced.
            await self.treat(await self.finish(delivery, admitted=admitted))

    async def admit(self, delivery: Delivery) -> bool:
        signal = delivery.fields[b"signal"].decode()
        item = admission(delivery, signal, max_positions=10_000, notional=7)
        answers = [await self.ask(item) for _ in range(self.dice.choice((1, 1, 2)))]
        assert all(isinstance(answer, Admitted | Fenced) for answer in answers), answers
        return isinstance(answers[-1], Admitted)

    async def finish(self, delivery: Delivery, *, admitted: bool = False) -> Delivery | None:
        """Admit and commit, each sometimes twice as after a lost reply."""
        signal = delivery.fields[b"signal"].decode()
        admitted = admitted or delivery.record is not None
        fails = not admitted and self.dice.random() < 0.3
        if not fails and not admitted and not await self.admit(delivery):
            return None
        item = outcome(delivery, signal) if fails else filled(delivery, signal)
        answer = await self.commit(item)
        if self.dice.random() < 0.2:
            again = await self.commit(item)
            assert again.status is answer.status
            assert again.following is None
        assert answer.status in {CommitStatus.COMMITTED, CommitStatus.FENCED}
        return answer.following


@pytest.mark.parametrize("seed", range(3))
async def test_whatever_workers_do_each_signal_ends_once_and_in_order(
    fleet: Fleet, seed: int
) -> None:
    """Deaths, takeovers, late returns, repeated calls: the streams look as if there were none."""
    dice = Random(seed)
    sent: dict[str, list[str]] = defaultdict(list)
    for number in range(SIGNALS):
        group = f"g{dice.randrange(GROUPS)}"
        await fleet.send(group, signal=f"s-{number}")
        sent[group].append(f"s-{number}")
    workers = [Clumsy(fleet, f"w{n}", Random(f"{seed} {n}")) for n in range(WORKERS)]
    async with asyncio.timeout(30):
        while await fleet.redis.xlen(fleet.key("orders")) < SIGNALS:
            await asyncio.gather(*(worker.turn() for worker in workers))
            for entry_id in await fleet.leases():
                if dice.random() < 0.05:
                    await fleet.expire(entry_id)  # stolen from under somebody's hands

    ended = [fields[b"subject"].decode() for fields in await fleet.stream("orders")]
    assert sorted(ended) == sorted(signal for group in sent.values() for signal in group)
    for signals in sent.values():
        assert [signal for signal in ended if signal in set(signals)] == signals
    assert await fleet.pending() == {}
    assert await fleet.leases() == {}
    assert await fleet.reserved("opening") == {}
    book = await fleet.hash("book")
    totals = await fleet.hash("totals")
    assert totals.get("USDT", "0") == str(7 * len(book))
    assert await fleet.redis.exists(fleet.key("entries")) == 0
