"""The book of simulated exchanges: orders that are open there, and those that are over."""

from typing import Final

from worker.ledger.resting_layouts import RestingRow

#: For how long an order that is over is remembered.
KEPT_MS: Final = 604_800_000


class RestingBook:
    """Orders by market (exchange and symbol) and client order id.

    Attributes:
        markets: the open orders of each market where there are any.
        numbers: of these markets, in the order in which they got them.
        joined: the last number given to a market.
    """

    def __init__(self) -> None:
        self.markets: dict[tuple[str, str], dict[str, RestingRow]] = {}
        self.numbers: dict[tuple[str, str], int] = {}
        self.joined = 0
        #: Orders that are over, and until when they are remembered.
        self._over: dict[str, tuple[RestingRow, int]] = {}

    def find(self, market: tuple[str, str], client_order_id: str, now_ms: int) -> RestingRow | None:
        """Return an order, open or over; None if none is known by that id."""
        row = self.markets.get(market, {}).get(client_order_id)
        if row is not None:
            return row
        row, until_ms = self._over.get(client_order_id, (None, 0))
        return row if until_ms > now_ms else None

    def keep(
        self, market: tuple[str, str], client_order_id: str, row: RestingRow, now_ms: int
    ) -> None:
        """Write an order where it belongs now: in its market, or among those that are over."""
        if row.is_open:
            if market not in self.markets:
                self.joined = max(self.joined + 1, now_ms)
                self.markets[market], self.numbers[market] = {}, self.joined
            self.markets[market][client_order_id] = row
            return
        self._over[client_order_id] = (row, now_ms + KEPT_MS)
        orders = self.markets.get(market, {})
        orders.pop(client_order_id, None)
        if not orders:
            self.markets.pop(market, None)
            self.numbers.pop(market, None)
