"""Markets, prices and balances from memory, kept fresh in the background."""

import asyncio
from collections.abc import Callable, Collection, Container, Mapping
from decimal import Decimal
from typing import Final

import msgspec

from worker.domain.market import Balance, MarketKind, SymbolInfo, Ticker
from worker.exchanges.ports import ExchangeAdapter, ExchangeError, Outcome
from worker.runtime.clock import Clock

#: A symbol nobody asked for in this long is no longer refreshed.
ACTIVE_FOR_S: Final = 60.0
#: At most this many symbols an exchange are followed; the least recently used go first.
MAX_FOLLOWED: Final = 5_000
#: What could not be had is not asked for again for this long, milliseconds, ...
FAILED_FOR_MS: Final = 1_000.0
#: ... if finding that out took at least this long, or the exchange wants fewer questions.
COSTLY_MS: Final = 250.0
#: And nobody waits while another tries again, for this long after such a failure, milliseconds:
#: signals that wait for an exchange that does not answer keep others from being worked on. Less
#: than ``ACTIVE_FOR_S``, in which the background finds out that it answers again.
OUTAGE_MS: Final = 30_000.0
#: The background does without a symbol that has no price for this long, milliseconds: an exchange
#: that refuses a whole list for one such symbol is asked dozens of times to find it.
LEFT_OUT_MS: Final = 60_000.0
_NEVER: Final = float("-inf")


class MarketView(msgspec.Struct, frozen=True, gc=False):
    """What a decision needs to know: all of it from memory, any of it possibly absent.

    ``balance`` is that of the wallet that pays for the market, in its quote currency.
    """

    adapter: ExchangeAdapter | None
    info: SymbolInfo | None
    ticker: Ticker | None
    balance: Balance | None
    #: False while the exchange could not be reached yet: nothing is known of it, not even no.
    started: bool = True


class _Refresh:
    """One question to an exchange at a time; its answer serves all who wait for it.

    Attributes:
        lock: held while the exchange is asked; whoever gets it next looks into memory first.
        failures: how many questions have failed, so that who waited for one knows.
    """

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.failures = 0
        #: When the last question failed at a cost; -inf once one is answered.
        self._failed_mono_ms = _NEVER

    def is_vain(self, now_mono_ms: float) -> bool:
        """Whether to do without: asking would take long, and most likely for nothing."""
        age_ms = now_mono_ms - self._failed_mono_ms
        return age_ms < FAILED_FOR_MS or (self.lock.locked() and age_ms < OUTAGE_MS)

    def succeed(self) -> None:
        """Forget any failure."""
        self._failed_mono_ms = _NEVER

    def fail(self, asked_mono_ms: float, now_mono_ms: float, *, throttled: bool = False) -> None:
        """Remember one."""
        self.failures += 1
        if throttled or now_mono_ms - asked_mono_ms >= COSTLY_MS:
            self._failed_mono_ms = now_mono_ms


class _Wallet:
    """One wallet's balances with the time they were read.

    Args:
        kind: of market, by which the exchange is asked for it.
    """

    def __init__(self, kind: MarketKind) -> None:
        self.kind = kind
        self.refresh = _Refresh()
        self.held: Mapping[str, Balance] = {}
        self.mono_ms = _NEVER


class _Feed:
    """One exchange's prices and balances with the times they were read."""

    def __init__(self, adapter: ExchangeAdapter) -> None:
        self.adapter = adapter
        self.started = asyncio.Event()
        self.pricing = _Refresh()
        self.tickers: dict[str, tuple[Ticker, float]] = {}
        self.wanted: dict[str, float] = {}
        #: Symbols the exchange was asked for and gave no price of, and when.
        self.priceless: dict[str, float] = {}
        #: Those of them that never had one, or were asked for twice; the background waits.
        self.left_out: dict[str, float] = {}
        first, *others = adapter.wallets
        wallet = _Wallet(first)
        #: What pays for each kind of market.
        self.wallets = dict.fromkeys(MarketKind, wallet) | {kind: _Wallet(kind) for kind in others}

    def forget(self, symbol: str) -> None:
        """Follow ``symbol`` no longer."""
        del self.wanted[symbol]
        self.tickers.pop(symbol, None)
        self.priceless.pop(symbol, None)
        self.left_out.pop(symbol, None)

    def learn(self, symbol: str, ticker: Ticker | None, asked: float, now: float) -> None:
        """Take what the exchange said of a followed symbol; None if it gave no price."""
        if ticker is not None:
            self.tickers[symbol] = (ticker, asked)
            self.priceless.pop(symbol, None)
            self.left_out.pop(symbol, None)
            return
        # What had a price a moment ago may lack it for a call that failed beside others.
        if symbol in self.priceless or symbol not in self.tickers:
            self.left_out[symbol] = now
        self.priceless[symbol] = now

    def is_left_out(self, symbol: str, now: float) -> bool:
        """Whether only a signal's own question asks for this symbol."""
        info = self.adapter.get_symbol_info(symbol)
        is_closed = info is not None and not info.active
        return is_closed or now - self.left_out.get(symbol, _NEVER) < LEFT_OUT_MS


class MarketData:
    """Prices no older than ``max_price_age_ms``, balances no older than ``max_balance_age_ms``.

    Args:
        adapters: by exchange name.
        clock: for ages.
        max_price_age_ms: an older price counts as none.
        max_balance_age_ms: an older balance counts as none.
        on_error: told of every failed refresh, with the exchange's name.
        starting: exchanges that are asked nothing before :meth:`begin`.
    """

    def __init__(
        self,
        adapters: Mapping[str, ExchangeAdapter],
        *,
        clock: Clock,
        max_price_age_ms: float,
        max_balance_age_ms: float,
        on_error: Callable[[str, ExchangeError], None],
        starting: Container[str] = (),
    ) -> None:
        self._feeds = {name: _Feed(adapter) for name, adapter in adapters.items()}
        for name, feed in self._feeds.items():
            if name not in starting:
                feed.started.set()
        self._clock = clock
        self._max_price_age_ms = max_price_age_ms
        self._max_balance_age_ms = max_balance_age_ms
        self._on_error = on_error

    async def view(
        self, exchange: str, symbol: str, assumed: Decimal | None, *, ask: bool = True
    ) -> MarketView:
        """What is known of one market; asks the exchange only where memory has nothing fresh.

        Args:
            exchange: its configured name.
            symbol: CCXT unified.
            assumed: the price the signal assumes, for a simulated exchange.
            ask: False for what needs neither price nor balance: never waits for the exchange.
        """
        feed = self._feeds.get(exchange)
        if feed is None:
            return MarketView(None, None, None, None)
        adapter = feed.adapter
        if not feed.started.is_set():
            return MarketView(adapter, None, None, None, started=False)
        info = adapter.get_symbol_info(symbol)
        if info is None:
            return MarketView(adapter, None, None, None)
        if assumed is not None and adapter.simulated:
            adapter.assume_price(symbol, assumed)
        now = self._clock.monotonic_ms()
        if adapter.prices_in_memory:
            price = adapter.last_price(symbol)
            ticker = None if price is None else _ticker_at(symbol, price)
        else:
            feed.wanted.pop(symbol, None)
            feed.wanted[symbol] = now
            ticker = self._fresh(feed, symbol, now)
            if ticker is None and ask:
                ticker = await self._ask_ticker(feed, symbol)
        balance: Balance | None = None
        wallet = feed.wallets[info.kind]
        if now - wallet.mono_ms <= self._max_balance_age_ms:
            balance = wallet.held.get(info.settle, _NOTHING)
        elif ask and ticker is not None:  # without a price the balance is of no use
            balance = await self._ask_balance(feed, wallet, info.settle)
        return MarketView(adapter, info, ticker, balance)

    def begin(self, exchange: str) -> None:
        """Say that an exchange has started."""
        self._feeds[exchange].started.set()

    async def until_started(self, exchange: str) -> None:
        """Wait for that."""
        await self._feeds[exchange].started.wait()

    def _fresh(self, feed: _Feed, symbol: str, now: float) -> Ticker | None:
        found = feed.tickers.get(symbol)
        return found[0] if found and now - found[1] <= self._max_price_age_ms else None

    async def _ask_ticker(self, feed: _Feed, symbol: str) -> Ticker | None:
        now = self._clock.monotonic_ms()
        priceless, failures = feed.priceless.get(symbol, _NEVER), feed.pricing.failures
        if now - priceless < FAILED_FOR_MS or feed.pricing.is_vain(now):
            return None
        async with feed.pricing.lock:
            # Whoever had the lock may have brought this price too, or learnt that there is none.
            ticker = self._fresh(feed, symbol, self._clock.monotonic_ms())
            if ticker is not None or feed.pricing.failures != failures:
                return ticker
            if feed.priceless.get(symbol, _NEVER) != priceless:
                return None
            is_alone = feed.is_left_out(symbol, self._clock.monotonic_ms())
            others = [] if is_alone else self._wanted(feed)
            await self._refresh_tickers(feed, list(dict.fromkeys((symbol, *others))))
        return self._fresh(feed, symbol, self._clock.monotonic_ms())

    def _wanted(self, feed: _Feed) -> list[str]:
        now = self._clock.monotonic_ms()
        oldest = now - ACTIVE_FOR_S * 1000
        while feed.wanted and len(feed.wanted) > MAX_FOLLOWED:
            feed.forget(next(iter(feed.wanted)))
        for symbol in [symbol for symbol, at in feed.wanted.items() if at < oldest]:
            feed.forget(symbol)
        return [symbol for symbol in feed.wanted if not feed.is_left_out(symbol, now)]

    async def _refresh_tickers(self, feed: _Feed, symbols: Collection[str]) -> None:
        """Ask for prices; to be called under the lock."""
        asked = self._clock.monotonic_ms()
        try:
            found = await feed.adapter.get_tickers(symbols)
        except ExchangeError as error:
            self._on_error(feed.adapter.name, error)
            if len(symbols) > 1 or not _says_no_price(error):
                throttled = error.outcome is Outcome.THROTTLED
                feed.pricing.fail(asked, self._clock.monotonic_ms(), throttled=throttled)
                return
            found = {}  # said of this symbol: whoever waits for another goes on to ask
        now = self._clock.monotonic_ms()
        if now - asked > self._max_price_age_ms:
            feed.pricing.fail(asked, now)  # whoever waited would only wait again
        else:
            feed.pricing.succeed()
        for symbol in symbols:
            if symbol in feed.wanted:  # else forgotten meanwhile
                feed.learn(symbol, found.get(symbol), asked, now)

    async def _ask_balance(self, feed: _Feed, wallet: _Wallet, currency: str) -> Balance | None:
        failures = wallet.refresh.failures
        if wallet.refresh.is_vain(self._clock.monotonic_ms()):
            return None
        async with wallet.refresh.lock:
            age_ms = self._clock.monotonic_ms() - wallet.mono_ms
            if age_ms > self._max_balance_age_ms and (
                wallet.refresh.failures != failures or not await self._refresh_wallet(feed, wallet)
            ):
                return None
            return wallet.held.get(currency, _NOTHING)

    async def refresh_balance(self, exchange: str) -> None:
        """Read the balances of one exchange, every wallet's, whatever becomes of the others."""
        feed = self._feeds[exchange]
        for kind in feed.adapter.wallets:
            wallet = feed.wallets[kind]
            async with wallet.refresh.lock:
                await self._refresh_wallet(feed, wallet)

    async def _refresh_wallet(self, feed: _Feed, wallet: _Wallet) -> bool:
        """Read the balances, and tell whether that worked; to be called under the lock."""
        asked = self._clock.monotonic_ms()
        try:
            held = await feed.adapter.get_balance(wallet.kind)
        except ExchangeError as error:
            throttled = error.outcome is Outcome.THROTTLED
            wallet.refresh.fail(asked, self._clock.monotonic_ms(), throttled=throttled)
            self._on_error(feed.adapter.name, error)
            return False
        wallet.refresh.succeed()
        wallet.held, wallet.mono_ms = held, asked
        return True

    async def follow_balance(self, exchange: str, every_s: float) -> None:
        """Keep one exchange's balances fresh, from its start and for ever."""
        await self.until_started(exchange)
        while True:
            await self.refresh_balance(exchange)
            await self._clock.sleep(every_s)

    async def follow_prices(self, exchange: str, every_s: float) -> None:
        """Keep the prices of the symbols in use fresh, from the exchange's start and for ever."""
        await self.until_started(exchange)
        feed = self._feeds[exchange]
        while not feed.adapter.prices_in_memory:
            symbols = self._wanted(feed)
            if symbols:
                async with feed.pricing.lock:
                    await self._refresh_tickers(feed, symbols)
            await self._clock.sleep(every_s)


def _says_no_price(error: ExchangeError) -> bool:
    """Whether a question for one symbol was answered: not listed any more, or quoted by nobody."""
    is_refused = error.outcome is Outcome.REFUSED and not error.transient
    return is_refused or error.code == "incomplete_reply"


def _ticker_at(symbol: str, price: Decimal) -> Ticker:
    """A price without a book around it: decisions look at nothing else."""
    return Ticker(symbol=symbol, bid=price, ask=price, last=price, at_ms=0)


_NOTHING: Final = Balance(free=Decimal(0), total=Decimal(0))
