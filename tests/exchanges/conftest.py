"""A worker and a simulator an exchange, shared by its cards, several of which run at a time."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial

import pytest
import pytest_asyncio

from tests.exchanges.bench import Bench, at_work
from tests.exchanges.seats import Seat, list_markets
from tests.exchanges.venues import VENUES

#: Cards that run at a time: most of their time is waiting for deadlines and polls.
AT_A_TIME = 40


class Session:
    """The cards of one exchange on their way.

    Args:
        bench: what they share.
        waiting: those this session is to run, in its order.
    """

    def __init__(self, bench: Bench, waiting: list[Seat]) -> None:
        self._bench = bench
        self._waiting = waiting
        self._running: dict[str, asyncio.Task[None]] = {}

    async def play(self, seat: Seat) -> None:
        """Wait for a card; those after it are started along with it."""
        first = self._waiting.index(seat)
        for one in self._waiting[first : first + AT_A_TIME]:
            if one.name not in self._running:
                run = one.card.run(self._bench, one.kind)
                self._running[one.name] = asyncio.create_task(run, name=one.name)
        await self._running[seat.name]

    async def close(self) -> None:
        """Wait for those that were started and that another process asks about."""
        await asyncio.gather(*self._running.values(), return_exceptions=True)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def session(request: pytest.FixtureRequest) -> AsyncIterator[Session]:
    """The exchange of the test, with its worker."""
    venue = VENUES[request.param]
    specs = (getattr(item, "callspec", None) for item in request.session.items)
    seats = [spec.params["seat"] for spec in specs if spec is not None and "seat" in spec.params]
    async with at_work(venue, partial(list_markets, venue=venue)) as bench:
        await bench.until_ready()
        session = Session(bench, [seat for seat in seats if seat.venue is venue])
        yield session
        await session.close()
