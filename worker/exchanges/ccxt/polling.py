"""Polls of many live orders of one symbol, answered by one listing of its open orders."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from worker.domain.order import OrderReport, OrderRequest
from worker.exchanges.budget.batching import Batcher
from worker.runtime.clock import Clock

#: From so many live orders of a symbol on a listing costs less than asking for each.
LISTED_FROM: Final = 3
#: An order that was polled this long ago counts as live, milliseconds.
_LIVE_MS: Final = 5_000.0
_MOST_SYMBOLS: Final = 1_000

Listing = Mapping[str, OrderReport]


class Polls:
    """The live orders of one exchange, as far as they are polled.

    Args:
        list_open: returns the open orders of a symbol by client order id.
        clock: time.
    """

    def __init__(self, list_open: Callable[[str], Awaitable[Listing]], clock: Clock) -> None:
        self._list_open = list_open
        self._clock = clock
        #: By symbol, when each client order id was polled last.
        self._live: dict[str, dict[str, float]] = {}
        self._listings: Batcher[str, Listing] = Batcher(self._ask, most=1)

    async def find(self, request: OrderRequest) -> OrderReport | None:
        """Return an order's report from a listing; None if it is to be asked for by itself.

        That is so while few orders of its symbol are live, and once it is not open any more.
        """
        now_ms = self._clock.monotonic_ms()
        live = self._live.setdefault(request.symbol, {})
        live[request.client_order_id] = now_ms
        for name in [one for one, at_ms in live.items() if now_ms - at_ms > _LIVE_MS]:
            del live[name]
        while len(self._live) > _MOST_SYMBOLS:
            del self._live[next(iter(self._live))]
        if len(live) < LISTED_FROM:
            return None
        listing = await self._listings.get(request.symbol)
        return listing.get(request.client_order_id) if listing else None

    async def _ask(self, take: Callable[[], list[str]]) -> Mapping[str, Listing]:
        return {symbol: await self._list_open(symbol) for symbol in take()}
