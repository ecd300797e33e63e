"""Prices of a simulated exchange whose market stands where signals say it does."""

from decimal import Decimal

from worker.domain.market import Ticker
from worker.paper.exchange import PaperExchange


class SignalPrices:
    """The price source of a :class:`PaperExchange` with ``paper.prices = "signal"``.

    An order cannot be judged by such a price: it is what the signal itself states.
    """

    is_quoted = False

    def __init__(self, exchange: PaperExchange) -> None:
        self._exchange = exchange

    def assume(self, symbol: str, price: Decimal) -> None:
        """Move the simulated market to ``price``."""
        self._exchange.assume_price(symbol, price)

    def known(self, symbol: str, _now_mono_ms: float) -> Ticker | None:
        """Return the last assumed price, without a spread around it; it never grows old."""
        price = self._exchange.last_price(symbol)
        if price is None:
            return None
        return Ticker(symbol=symbol, bid=price, ask=price, last=price, at_ms=0)

    async def ask(self, _symbol: str) -> Ticker | None:
        """Return None: what no signal has stated, nobody knows."""
        return None

    async def follow(self, _every_s: float) -> None:
        """Return at once: there is nothing to keep fresh."""
