"""Resting orders in the ledger, so that every worker gives the same answer about each."""

from collections import defaultdict
from collections.abc import Container, Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from typing import Final

from worker.exchanges.errors import ExchangeError, Outcome
from worker.ledger.errors import LedgerError
from worker.ledger.ports import RestingCalls
from worker.ledger.resting import Asked, RestingOrder, SeenPrice
from worker.ledger.resting_layouts import RestingRow
from worker.runtime.clock import Clock

#: How often the prices that this worker has seen are sent.
SEND_EVERY_S: Final = 1.0
#: Prices of one market that are kept until they are sent; of more the latest replaces the last.
MAX_UNSENT: Final = 100
#: Markets whose prices are sent in one call, so that none keeps Redis from others for long.
MAX_SENT: Final = 200


class FleetOrders:
    """The orders that rest at the simulated exchanges of an account.

    A price is kept for the ledger only where an order rests, and sent once a second, or with the
    next question about an order of that market. Which markets those are is learnt at the same
    time: a worker begins to keep a market's prices within a second of another worker's order.

    Args:
        calls: the ledger's.
        clock: for how long ago a price was seen.
    """

    def __init__(self, calls: RestingCalls, clock: Clock) -> None:
        self._calls = calls
        self._clock = clock
        self._markets: defaultdict[str, set[str]] = defaultdict(set)
        #: Monotonic time, price for buys and for sells, by exchange and symbol.
        self._unsent: dict[tuple[str, str], list[tuple[float, Decimal, Decimal]]] = {}
        self._last = 0

    def markets(self, exchange: str) -> Container[str]:
        """Return the symbols of an exchange where orders rest; it follows what happens."""
        return self._markets[exchange]

    def see(self, exchange: str, symbol: str, for_buys: Decimal, for_sells: Decimal) -> None:
        """Keep a price seen now until it is sent."""
        unsent = self._unsent.setdefault((exchange, symbol), [])
        if len(unsent) >= MAX_UNSENT:
            unsent.pop()
        unsent.append((self._clock.monotonic_ms(), for_buys, for_sells))

    async def look(
        self,
        exchange: str,
        symbol: str,
        client_order_id: str,
        prices: Sequence[SeenPrice] = (),
    ) -> RestingOrder:
        """Return an order as it is after ``prices``.

        Raises:
            ExchangeError: the ledger does not answer.
        """
        seen = (*self._take(exchange, symbol), *prices)
        with _ledger_asked():
            return self._learn(
                (exchange, symbol),
                await self._calls.ask(Asked.LOOK, (exchange, symbol), client_order_id, prices=seen),
            )

    async def rest(
        self, exchange: str, symbol: str, client_order_id: str, row: RestingRow
    ) -> RestingOrder:
        """Let an order rest from now on; one that is known by its id stays as it is.

        Raises:
            ExchangeError: the ledger does not answer; whether the order rests is unknown.
        """
        return await self._change(Asked.REST, (exchange, symbol), client_order_id, row)

    async def cancel(self, exchange: str, symbol: str, client_order_id: str) -> RestingOrder:
        """Cancel an order that is open; any other stays as it is.

        Raises:
            ExchangeError: the ledger does not answer; whether it is cancelled is unknown.
        """
        return await self._change(Asked.CANCEL, (exchange, symbol), client_order_id, None)

    async def open(self, exchange: str, symbol: str = "") -> tuple[list[RestingRow], int]:
        """Return the open orders of one symbol or of all, and Redis's time, Unix milliseconds.

        Raises:
            ExchangeError: the ledger does not answer.
        """
        with _ledger_asked():
            await self.send()
            return await self._calls.list(exchange, symbol)

    async def run(self) -> None:
        """Send prices and learn of markets, for ever; what Redis does not take is forgotten."""
        while True:
            try:
                await self.send()
            except LedgerError:
                self._last = 0  # whatever comes back may have been restored: learn all markets anew
            await self._clock.sleep(SEND_EVERY_S)

    async def send(self) -> None:
        """Send the prices seen since the last time, and learn where orders rest.

        Raises:
            LedgerError: Redis cannot be asked.
        """
        waiting = list(self._unsent)
        while True:
            part, waiting = waiting[:MAX_SENT], waiting[MAX_SENT:]
            seen = [(*market, self._take(*market)) for market in part]
            markets = await self._calls.send_prices(self._last, seen)
            for market in markets.gone:
                exchange, _, symbol = market.partition(" ")
                self._markets[exchange].discard(symbol)
            for market in markets.joined:
                exchange, _, symbol = market.partition(" ")
                self._markets[exchange].add(symbol)
            self._last = markets.last
            if not waiting:
                return

    async def _change(
        self, asked: Asked, market: tuple[str, str], client_order_id: str, row: RestingRow | None
    ) -> RestingOrder:
        prices = self._take(*market)
        with _ledger_asked():
            return self._learn(
                market,
                await self._calls.ask(asked, market, client_order_id, row=row, prices=prices),
            )

    def _learn(self, market: tuple[str, str], found: RestingOrder) -> RestingOrder:
        if found.row is not None and (found.row.conditions or found.row.stays):
            self._markets[market[0]].add(market[1])
        return found

    def _take(self, exchange: str, symbol: str) -> tuple[SeenPrice, ...]:
        unsent = self._unsent.pop((exchange, symbol), ())
        now = self._clock.monotonic_ms()
        return tuple(
            SeenPrice(min(int(at - now), 0), f"{for_buys:f}", f"{for_sells:f}")
            for at, for_buys, for_sells in unsent
        )


@contextmanager
def _ledger_asked() -> Iterator[None]:
    """Raise an :class:`ExchangeError` for whatever the ledger raises inside."""
    try:
        yield
    except LedgerError as error:
        raise ExchangeError(
            str(error), outcome=Outcome.UNKNOWN, code="ledger", transient=True
        ) from error
