"""Resting orders in memory: of one process, or of several instances in a test."""

from collections import OrderedDict, defaultdict
from collections.abc import Container, Sequence
from decimal import Decimal
from typing import Final

import msgspec

from worker.ledger.resting import RestingOrder, SeenPrice
from worker.ledger.resting_layouts import RestingRow
from worker.paper.resting import is_open, meet
from worker.runtime.clock import Clock

#: Markets of one exchange where orders rest, and how many do so in one market.
MAX_MARKETS: Final = 100_000
MAX_IN_MARKET: Final = 1_000
#: Orders that are over and still known; open ones are all known.
MAX_OVER: Final = 10_000


class LocalOrders:
    """The orders that rest at the simulated exchanges that share this memory.

    Args:
        clock: tells when an order was accepted and when a price was seen.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._open: defaultdict[str, dict[str, dict[str, RestingRow]]] = defaultdict(dict)
        self._over: OrderedDict[str, RestingRow] = OrderedDict()

    def markets(self, exchange: str) -> Container[str]:
        """Return the symbols of an exchange where orders rest; it follows what happens."""
        return self._open[exchange]

    def see(self, exchange: str, symbol: str, for_buys: Decimal, for_sells: Decimal) -> None:
        """Let the orders of a market meet a price."""
        seen = SeenPrice(self._clock.now_ms(), f"{for_buys:f}", f"{for_sells:f}")
        self._see(exchange, symbol, (seen,))

    async def look(
        self,
        exchange: str,
        symbol: str,
        client_order_id: str,
        prices: Sequence[SeenPrice] = (),
    ) -> RestingOrder:
        """Return an order as it is after ``prices``."""
        self._see(exchange, symbol, prices)
        row = self._find(exchange, symbol, client_order_id)
        return RestingOrder(row, False, self._clock.now_ms())

    async def rest(
        self, exchange: str, symbol: str, client_order_id: str, row: RestingRow
    ) -> RestingOrder:
        """Let an order rest from now on; one that is known by its id stays as it is."""
        now_ms = self._clock.now_ms()
        known = self._find(exchange, symbol, client_order_id)
        if known is not None:
            return RestingOrder(known, False, now_ms)
        if len(self._open[exchange]) >= MAX_MARKETS and symbol not in self._open[exchange]:
            return RestingOrder(None, False, now_ms)
        if len(self._open[exchange].get(symbol, ())) >= MAX_IN_MARKET:
            return RestingOrder(None, False, now_ms)
        row = msgspec.structs.replace(row, since=now_ms)
        self._keep(exchange, symbol, client_order_id, row)
        return RestingOrder(row, True, now_ms)

    async def cancel(self, exchange: str, symbol: str, client_order_id: str) -> RestingOrder:
        """Cancel an order that is open; any other stays as it is."""
        now_ms = self._clock.now_ms()
        row = self._find(exchange, symbol, client_order_id)
        if row is None or not is_open(row):
            return RestingOrder(row, False, now_ms)
        row = msgspec.structs.replace(row, cancelled=now_ms)
        self._keep(exchange, symbol, client_order_id, row)
        return RestingOrder(row, True, now_ms)

    async def open(self, exchange: str, symbol: str = "") -> tuple[list[RestingRow], int]:
        """Return the open orders of one symbol or of all, and the time, Unix milliseconds."""
        markets = self._open[exchange]
        names = [symbol] if symbol else list(markets)
        rows = [row for name in names for row in markets.get(name, {}).values()]
        return rows, self._clock.now_ms()

    def _see(self, exchange: str, symbol: str, prices: Sequence[SeenPrice]) -> None:
        rows = self._open[exchange].get(symbol, {})
        now_ms = self._clock.now_ms()
        for client_order_id, row in list(rows.items()):
            after = row
            for seen in prices:
                at_ms = seen.at if seen.at > 0 else now_ms + seen.at
                after = meet(after, at_ms, Decimal(seen.for_buys if row.buys else seen.for_sells))
            if after is not row:
                self._keep(exchange, symbol, client_order_id, after)

    def _find(self, exchange: str, symbol: str, client_order_id: str) -> RestingRow | None:
        row = self._open[exchange].get(symbol, {}).get(client_order_id)
        return row if row is not None else self._over.get(client_order_id)

    def _keep(self, exchange: str, symbol: str, client_order_id: str, row: RestingRow) -> None:
        markets = self._open[exchange]
        if is_open(row):
            markets.setdefault(symbol, {})[client_order_id] = row
            return
        rows = markets.get(symbol)
        if rows is not None:
            rows.pop(client_order_id, None)
            if not rows:
                del markets[symbol]
        self._over[client_order_id] = row
        if len(self._over) > MAX_OVER:
            self._over.popitem(last=False)
