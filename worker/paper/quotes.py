"""The sources of a simulated exchange's prices, other than the prices that signals state."""

from collections.abc import Iterable
from decimal import Decimal
from typing import Protocol

from worker.domain.market import Ticker
from worker.domain.money import ONE
from worker.domain.order import BUY, OrderRequest, Side
from worker.exchanges.errors import ExchangeError, Outcome
from worker.exchanges.ports import ExchangeAdapter
from worker.ledger.resting import SeenPrice
from worker.ledger.resting_layouts import RestingRow
from worker.paper.matching import simulated_price
from worker.paper.resting import RestingOrders, meet
from worker.paper.walk import PriceWalk
from worker.runtime.clock import Clock


class Quotes(Protocol):
    """The prices of one simulated exchange's markets.

    Every method that waits raises only :class:`~worker.exchanges.errors.ExchangeError`.
    """

    async def reference(self, request: OrderRequest) -> Decimal:
        """Return the price that an order meets now."""

    async def ticker(self, symbol: str) -> Ticker:
        """Return a market's price now."""

    async def tickers(self, symbols: Iterable[str]) -> dict[str, Ticker]:
        """Return several markets' prices, without those that have none."""

    async def show(self, symbols: Iterable[str]) -> bool:
        """Show the prices of several markets to all orders that rest there, if it can be done."""

    async def since(self, symbol: str, row: RestingRow, now_ms: int) -> tuple[SeenPrice, ...]:
        """Return the prices that may matter to a resting order and that it has not met.

        Args:
            symbol: of its market.
            row: the order.
            now_ms: the ledger's time.
        """


class LiveQuotes:
    """The prices of a real exchange; those of markets where orders rest are shown to them.

    Args:
        name: of the simulated exchange.
        source: the real one.
        resting: the orders that rest.
    """

    def __init__(self, name: str, source: ExchangeAdapter, resting: RestingOrders) -> None:
        self._name = name
        self._source = source
        self._resting = resting
        self._markets = resting.markets(name)

    async def reference(self, request: OrderRequest) -> Decimal:
        """Return the price that an order meets now.

        Raises:
            ExchangeError: NOT_SENT: it is not to be had.
        """
        try:
            return met_by(request.side, await self.ticker(request.symbol))
        except ExchangeError as error:
            # Whatever happened to the price request, the order itself was not sent.
            raise ExchangeError(
                f"no price for {request.symbol}: {error}", outcome=Outcome.NOT_SENT, code="NO_PRICE"
            ) from error

    async def ticker(self, symbol: str) -> Ticker:
        """Return a market's price now."""
        ticker = await self._source.get_ticker(symbol)
        self._see(ticker)
        return ticker

    async def tickers(self, symbols: Iterable[str]) -> dict[str, Ticker]:
        """Return several markets' prices, without those that have none."""
        tickers = await self._source.get_tickers(symbols)
        for ticker in tickers.values():
            self._see(ticker)
        return tickers

    async def show(self, symbols: Iterable[str]) -> bool:
        """Show the prices of several markets to all orders that rest there."""
        await self.tickers(symbols)
        return True

    async def since(self, symbol: str, row: RestingRow, now_ms: int) -> tuple[SeenPrice, ...]:
        """Return the price now; the earlier ones were shown as they came."""
        ticker = await self._source.get_ticker(symbol)
        for_buys, for_sells = (met_by(side, ticker) for side in (Side.BUY, Side.SELL))
        return (SeenPrice(0, f"{for_buys:f}", f"{for_sells:f}"),)

    def _see(self, ticker: Ticker) -> None:
        if ticker.symbol in self._markets:
            self._resting.see(
                self._name, ticker.symbol, met_by(Side.BUY, ticker), met_by(Side.SELL, ticker)
            )


class WalkQuotes:
    """The prices of a seeded path, with a spread around them.

    Args:
        walk: the path.
        half_spread: bid and ask lie this far from it, a fraction.
        clock: tells where on the path the market is.
    """

    def __init__(self, walk: PriceWalk, half_spread: Decimal, clock: Clock) -> None:
        self._walk = walk
        self._half_spread = half_spread
        self._clock = clock

    async def reference(self, request: OrderRequest) -> Decimal:
        """Return the path's price now."""
        return self._walk.price(request.symbol, self._clock.now_ms())

    async def ticker(self, symbol: str) -> Ticker:
        """Return the path's price now, with the spread around it."""
        now_ms = self._clock.now_ms()
        return ticker_around(symbol, self._walk.price(symbol, now_ms), self._half_spread, now_ms)

    async def tickers(self, symbols: Iterable[str]) -> dict[str, Ticker]:
        """Return the path's prices now, with the spread around them."""
        return {symbol: await self.ticker(symbol) for symbol in symbols}

    async def show(self, symbols: Iterable[str]) -> bool:
        """Show nothing: since when an order waits differs from one to the other."""
        return False

    async def since(self, symbol: str, row: RestingRow, now_ms: int) -> tuple[SeenPrice, ...]:
        """Return the path's first price that meets each condition of the order, until now."""
        found: list[SeenPrice] = []
        while row.conditions:
            rises, level = row.conditions[0]
            hit = self._walk.first_through(
                symbol,
                Decimal(level),
                rises=rises,
                after_ms=row.touches[-1][0] if row.touches else row.since,
                until_ms=now_ms,
            )
            if hit is None:
                break
            at_ms, price = hit
            found.append(SeenPrice(at_ms, f"{price:f}", f"{price:f}"))
            row = meet(row, at_ms, price)
        return tuple(found)


def met_by(side: Side, ticker: Ticker) -> Decimal:
    """Return the price a taker meets; some exchanges leave bid and ask out of the ticker."""
    return (ticker.ask if side is BUY else ticker.bid) or ticker.last


def ticker_around(symbol: str, price: Decimal, half_spread: Decimal, at_ms: int) -> Ticker:
    """Return a ticker with a made-up spread around a price."""
    return Ticker(
        symbol=symbol,
        bid=simulated_price(price * (ONE - half_spread), up=False),
        ask=simulated_price(price * (ONE + half_spread), up=True),
        last=price,
        at_ms=at_ms,
    )
