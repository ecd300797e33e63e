"""Prices of one exchange's markets: where they come from, and the quotes kept fresh in memory."""

from collections.abc import Callable, Collection
from decimal import Decimal
from typing import Final, Protocol

from worker.domain.market import Ticker
from worker.exchanges.errors import ExchangeError, Outcome
from worker.exchanges.ports import ExchangeAdapter
from worker.market.refresh import (
    ACTIVE_FOR_S,
    FAILED_FOR_MS,
    NEVER,
    Refresh,
    interval_s,
    spent,
)
from worker.runtime.clock import Clock

#: At most this many symbols an exchange are followed; the least recently used go first.
MAX_FOLLOWED: Final = 5_000
#: The background does without a symbol that has no price for this long, milliseconds: an exchange
#: that refuses a whole list for one such symbol is asked dozens of times to find it.
LEFT_OUT_MS: Final = 60_000.0


class PriceSource(Protocol):
    """A source of the prices of one exchange's markets."""

    #: True for the exchange's own quotes, which grow old and by which an order can be judged.
    is_quoted: bool

    def assume(self, symbol: str, price: Decimal) -> None:
        """Take the price stated by a signal, or by a position that is to be closed."""

    def known(self, symbol: str, now_mono_ms: float) -> Ticker | None:
        """Return the price in memory, or None if there is none that counts; marks it as in use."""

    async def ask(self, symbol: str) -> Ticker | None:
        """Ask the exchange where memory has no price; None if it has none either."""

    async def follow(self, every_s: float) -> None:
        """Keep the prices in use fresh for ever; return if there is nothing to keep fresh."""


class QuotedPrices:
    """The exchange's own quotes, none older than ``max_age_ms``.

    Args:
        adapter: the exchange.
        clock: for ages.
        max_age_ms: an older price counts as none.
        on_error: called for every failed refresh, with the exchange's name.
    """

    is_quoted = True

    def __init__(
        self,
        adapter: ExchangeAdapter,
        *,
        clock: Clock,
        max_age_ms: float,
        on_error: Callable[[str, ExchangeError], None],
    ) -> None:
        self._adapter = adapter
        self._clock = clock
        self._max_age_ms = max_age_ms
        self._on_error = on_error
        self._refresh = Refresh()
        self._tickers: dict[str, tuple[Ticker, float]] = {}
        #: Symbols in use and when each was last wanted, the least recently wanted first.
        self._wanted: dict[str, float] = {}
        #: Symbols the exchange was asked for and gave no price of, and when.
        self._priceless: dict[str, float] = {}
        #: Those of them that the background no longer asks for: never priced, or asked for twice.
        self._left_out: dict[str, float] = {}

    def assume(self, symbol: str, price: Decimal) -> None:
        """Ignore the stated price: the exchange quotes its own."""

    def known(self, symbol: str, now_mono_ms: float) -> Ticker | None:
        """Return the quote in memory, or None if it is too old; from now on it is kept fresh."""
        self._wanted.pop(symbol, None)
        self._wanted[symbol] = now_mono_ms
        return self._fresh(symbol, now_mono_ms)

    async def ask(self, symbol: str) -> Ticker | None:
        """Ask the exchange, together with all other symbols in use; None if it gives no price."""
        now = self._clock.monotonic_ms()
        priceless, failures = self._priceless.get(symbol, NEVER), self._refresh.failures
        if now - priceless < FAILED_FOR_MS or self._refresh.is_pointless(now):
            return None
        async with self._refresh.lock:
            # An earlier holder may have brought this price too, or learnt that there is none.
            ticker = self._fresh(symbol, self._clock.monotonic_ms())
            if ticker is not None or self._refresh.failures != failures:
                return ticker
            if self._priceless.get(symbol, NEVER) != priceless:
                return None
            is_alone = self._is_left_out(symbol, self._clock.monotonic_ms())
            others = [] if is_alone else self._followed()
            await self._read(list(dict.fromkeys((symbol, *others))))
        return self._fresh(symbol, self._clock.monotonic_ms())

    async def follow(self, every_s: float) -> None:
        """Keep the quotes of all symbols in use fresh, for ever."""
        while True:
            symbols = self._followed()
            before = spent(self._adapter, "get_ticker")
            if symbols:
                async with self._refresh.lock:
                    await self._read(symbols)
            rarely_s = interval_s(self._adapter, "get_ticker", before)
            await self._clock.sleep(max(every_s, rarely_s))

    def _fresh(self, symbol: str, now: float) -> Ticker | None:
        kept = self._tickers.get(symbol)
        return kept[0] if kept and now - kept[1] <= self._max_age_ms else None

    def _followed(self) -> list[str]:
        """Return the symbols to refresh; forgets those that nobody wanted for long."""
        now = self._clock.monotonic_ms()
        oldest = now - ACTIVE_FOR_S * 1000
        while self._wanted and len(self._wanted) > MAX_FOLLOWED:
            self._forget(next(iter(self._wanted)))
        for symbol in [symbol for symbol, at in self._wanted.items() if at < oldest]:
            self._forget(symbol)
        return [symbol for symbol in self._wanted if not self._is_left_out(symbol, now)]

    async def _read(self, symbols: Collection[str]) -> None:
        """Ask the exchange for these prices; the caller holds the lock."""
        asked = self._clock.monotonic_ms()
        try:
            tickers = await self._adapter.get_tickers(symbols)
        except ExchangeError as error:
            self._on_error(self._adapter.name, error)
            if len(symbols) > 1 or not _says_no_price(error):
                throttled = error.outcome is Outcome.THROTTLED
                self._refresh.fail(asked, self._clock.monotonic_ms(), throttled=throttled)
                return
            tickers = {}  # said of this symbol: whoever waits for another goes on to ask
        now = self._clock.monotonic_ms()
        if now - asked > self._max_age_ms:
            self._refresh.fail(asked, now)  # whoever waited would only wait again
        else:
            self._refresh.succeed()
        for symbol in symbols:
            if symbol in self._wanted:  # else forgotten meanwhile
                self._learn(symbol, tickers.get(symbol), asked, now)

    def _learn(self, symbol: str, ticker: Ticker | None, asked: float, now: float) -> None:
        """Note what the exchange said of a followed symbol; None if it gave no price."""
        if ticker is not None:
            self._tickers[symbol] = (ticker, asked)
            self._priceless.pop(symbol, None)
            self._left_out.pop(symbol, None)
            return
        # What had a price a moment ago may lack it for a call that failed beside others.
        if symbol in self._priceless or symbol not in self._tickers:
            self._left_out[symbol] = now
        self._priceless[symbol] = now

    def _forget(self, symbol: str) -> None:
        del self._wanted[symbol]
        self._tickers.pop(symbol, None)
        self._priceless.pop(symbol, None)
        self._left_out.pop(symbol, None)

    def _is_left_out(self, symbol: str, now: float) -> bool:
        """Return True if only a signal's own question asks for this symbol."""
        info = self._adapter.get_symbol_info(symbol)
        is_closed = info is not None and not info.active
        return is_closed or now - self._left_out.get(symbol, NEVER) < LEFT_OUT_MS


def _says_no_price(error: ExchangeError) -> bool:
    """Return True if the error answers a question for one symbol: not listed, or not quoted."""
    is_refused = error.outcome is Outcome.REFUSED and not error.transient
    return is_refused or error.code == "incomplete_reply"
