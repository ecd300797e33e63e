"""Markets, prices and balances from memory, kept fresh in the background."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from decimal import Decimal
from typing import Final, TypeVar

import msgspec

from worker.clock import Clock
from worker.domain.market import Balance, SymbolInfo, Ticker
from worker.exchanges.base import ExchangeAdapter, ExchangeError

T = TypeVar("T")

#: A symbol nobody asked for in this long is no longer refreshed.
ACTIVE_FOR_S: Final = 60.0
#: At most this many symbols an exchange are followed; the least recently used go first.
MAX_FOLLOWED: Final = 5_000


class MarketView(msgspec.Struct, frozen=True):
    """What a decision needs to know: all of it from memory, any of it possibly absent.

    ``balance`` is in the market's quote currency.
    """

    adapter: ExchangeAdapter | None
    info: SymbolInfo | None
    ticker: Ticker | None
    balance: Balance | None


class _Feed:
    """One exchange's prices and balances with the times they were read."""

    def __init__(self, adapter: ExchangeAdapter) -> None:
        self.adapter = adapter
        self.tickers: dict[str, tuple[Ticker, float]] = {}
        self.wanted: dict[str, float] = {}
        self.balances: Mapping[str, Balance] = {}
        self.balances_mono_ms = float("-inf")
        self.lock = asyncio.Lock()


class MarketData:
    """Prices no older than ``max_price_age_ms``, balances no older than ``max_balance_age_ms``.

    Args:
        adapters: by exchange name.
        clock: for ages.
        max_price_age_ms: an older price counts as none.
        max_balance_age_ms: an older balance counts as none.
        on_error: told of every failed refresh, with the exchange's name.
    """

    def __init__(
        self,
        adapters: Mapping[str, ExchangeAdapter],
        *,
        clock: Clock,
        max_price_age_ms: float,
        max_balance_age_ms: float,
        on_error: Callable[[str, ExchangeError], None],
    ) -> None:
        self._feeds = {name: _Feed(adapter) for name, adapter in adapters.items()}
        self._clock = clock
        self._max_price_age_ms = max_price_age_ms
        self._max_balance_age_ms = max_balance_age_ms
        self._on_error = on_error

    async def view(self, exchange: str, symbol: str, assumed: Decimal | None) -> MarketView:
        """What is known of one market; asks the exchange only where memory has nothing fresh.

        Args:
            exchange: its configured name.
            symbol: CCXT unified.
            assumed: the price the signal assumes, for a simulated exchange.
        """
        feed = self._feeds.get(exchange)
        if feed is None:
            return MarketView(None, None, None, None)
        adapter = feed.adapter
        info = adapter.get_symbol_info(symbol)
        if info is None:
            return MarketView(adapter, None, None, None)
        if assumed is not None and adapter.simulated:
            adapter.assume_price(symbol, assumed)
        ticker = await self._ticker(feed, symbol)
        if self._clock.monotonic_ms() - feed.balances_mono_ms > self._max_balance_age_ms:
            await self.refresh_balance(exchange)
        return MarketView(adapter, info, ticker, self._balance(feed, info.settle))

    def adapter(self, exchange: str) -> ExchangeAdapter | None:
        """The adapter of an exchange, None if there is no such."""
        feed = self._feeds.get(exchange)
        return feed.adapter if feed else None

    def _balance(self, feed: _Feed, currency: str) -> Balance | None:
        if self._clock.monotonic_ms() - feed.balances_mono_ms > self._max_balance_age_ms:
            return None
        return feed.balances.get(currency, _NOTHING)

    async def _ticker(self, feed: _Feed, symbol: str) -> Ticker | None:
        if feed.adapter.prices_in_memory:
            return await self._try(feed, lambda: feed.adapter.get_ticker(symbol))
        known = self._fresh(feed, symbol)
        if known is not None:
            return known
        async with feed.lock:
            known = self._fresh(feed, symbol)
            if known is not None:
                return known
            await self._refresh_tickers(feed, [symbol, *self._wanted(feed)])
        return self._fresh(feed, symbol)

    def _fresh(self, feed: _Feed, symbol: str) -> Ticker | None:
        now = self._clock.monotonic_ms()
        feed.wanted.pop(symbol, None)
        feed.wanted[symbol] = now
        found = feed.tickers.get(symbol)
        return found[0] if found and now - found[1] <= self._max_price_age_ms else None

    def _wanted(self, feed: _Feed) -> list[str]:
        oldest = self._clock.monotonic_ms() - ACTIVE_FOR_S * 1000
        while feed.wanted and len(feed.wanted) > MAX_FOLLOWED:
            feed.tickers.pop(symbol := next(iter(feed.wanted)), None)
            del feed.wanted[symbol]
        for symbol in [symbol for symbol, at in feed.wanted.items() if at < oldest]:
            feed.tickers.pop(symbol, None)
            del feed.wanted[symbol]
        return list(feed.wanted)

    async def _refresh_tickers(self, feed: _Feed, symbols: list[str]) -> None:
        asked = self._clock.monotonic_ms()
        found = await self._try(feed, lambda: feed.adapter.get_tickers(dict.fromkeys(symbols)))
        for symbol, ticker in (found or {}).items():
            feed.tickers[symbol] = (ticker, asked)

    async def refresh_balance(self, exchange: str) -> bool:
        """Read the balances of one exchange; whether that worked."""
        feed = self._feeds[exchange]
        asked = self._clock.monotonic_ms()
        balances = await self._try(feed, feed.adapter.get_balance)
        if balances is None:
            return False
        feed.balances, feed.balances_mono_ms = balances, asked
        return True

    async def follow_balance(self, exchange: str, every_s: float) -> None:
        """Keep one exchange's balances fresh, for ever."""
        while True:
            await self.refresh_balance(exchange)
            await self._clock.sleep(every_s)

    async def follow_prices(self, exchange: str, every_s: float) -> None:
        """Keep the prices of the symbols in use fresh, for ever."""
        feed = self._feeds[exchange]
        while not feed.adapter.prices_in_memory:
            symbols = self._wanted(feed)
            if symbols:
                await self._refresh_tickers(feed, symbols)
            await self._clock.sleep(every_s)

    async def _try(self, feed: _Feed, ask: Callable[[], Awaitable[T]]) -> T | None:
        try:
            return await ask()
        except ExchangeError as error:
            self._on_error(feed.adapter.name, error)
            return None


_NOTHING: Final = Balance(free=Decimal(0), total=Decimal(0))
