"""Markets, prices and balances from memory, kept fresh in the background."""

import asyncio
from collections.abc import Callable, Container, Iterable, Mapping
from decimal import Decimal

import msgspec

from worker.domain.market import Balance, MarketKind, SymbolInfo, Ticker
from worker.exchanges.errors import ExchangeError
from worker.exchanges.ports import ExchangeAdapter
from worker.market.prices import PriceSource, QuotedPrices
from worker.market.refresh import interval_s, spent
from worker.market.wallets import Wallet, wallets_of
from worker.runtime.clock import Clock


class MarketView(msgspec.Struct, frozen=True, gc=False):
    """One market as a decision sees it: all of it from memory, any of it possibly absent.

    ``balance`` is that of the wallet that pays for the market, in its quote currency.
    """

    exchange: str
    symbol: str
    info: SymbolInfo | None
    ticker: Ticker | None
    balance: Balance | None
    #: False until the exchange was reached: nothing is known, not even whether it lists the market.
    started: bool = True
    #: True if ``ticker`` is the exchange's own quote, by which an order can be judged.
    is_quoted: bool = True


class _Feed(msgspec.Struct, frozen=True):
    """One exchange with its prices and its wallets by the kind of market they pay for."""

    adapter: ExchangeAdapter
    prices: PriceSource
    wallets: dict[MarketKind, Wallet]
    started: asyncio.Event


class MarketData:
    """Prices no older than ``max_price_age_ms``, balances no older than ``max_balance_age_ms``.

    Args:
        adapters: by exchange name.
        clock: for ages.
        max_price_age_ms: an older price counts as none.
        max_balance_age_ms: an older balance counts as none.
        on_error: called for every failed refresh, with the exchange's name.
        prices: by exchange name, where prices come from; the exchange's own quotes if absent.
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
        prices: Mapping[str, PriceSource] | None = None,
        starting: Container[str] = (),
    ) -> None:
        self._clock = clock
        self._feeds: dict[str, _Feed] = {}
        for name, adapter in adapters.items():
            source = prices.get(name) if prices else None
            feed = self._feeds[name] = _Feed(
                adapter=adapter,
                prices=source
                or QuotedPrices(
                    adapter, clock=clock, max_age_ms=max_price_age_ms, on_error=on_error
                ),
                wallets=wallets_of(
                    adapter, clock=clock, max_age_ms=max_balance_age_ms, on_error=on_error
                ),
                started=asyncio.Event(),
            )
            if name not in starting:
                feed.started.set()

    def assume_price(self, exchange: str, symbol: str, price: Decimal) -> None:
        """Take ``price``, stated by a signal or a position, where the exchange quotes none.

        Args:
            exchange: its configured name.
            symbol: CCXT unified; an unknown one is ignored.
            price: positive, in quote units.
        """
        feed = self._feeds.get(exchange)
        if feed is None or feed.prices.is_quoted or not feed.started.is_set():
            return
        if feed.adapter.get_symbol_info(symbol) is not None:
            feed.prices.assume(symbol, price)

    def known(self, exchange: str, symbol: str, stated: Decimal | None = None) -> MarketView:
        """Return what memory has of one market; never waits.

        Args:
            exchange: its configured name.
            symbol: CCXT unified.
            stated: a price that a signal states, taken as :meth:`assume_price` takes it.
        """
        feed = self._feeds.get(exchange)
        if feed is None:
            return MarketView(exchange, symbol, None, None, None)
        if not feed.started.is_set():
            return MarketView(exchange, symbol, None, None, None, started=False)
        info = feed.adapter.get_symbol_info(symbol)
        if info is None:
            return MarketView(exchange, symbol, None, None, None)
        is_quoted = feed.prices.is_quoted
        if stated is not None and not is_quoted:
            feed.prices.assume(symbol, stated)
        now = self._clock.monotonic_ms()
        ticker = feed.prices.known(symbol, now)
        balance = feed.wallets[info.kind].known(info.settle, now)
        return MarketView(exchange, symbol, info, ticker, balance, is_quoted=is_quoted)

    def is_lacking(self, view: MarketView) -> bool:
        """Return whether the exchange may tell a price or a balance that ``view`` lacks."""
        if view.info is None:
            return False
        if view.ticker is None:
            return view.is_quoted
        return view.balance is None  # without a price the balance is of no use

    async def complete(self, view: MarketView) -> MarketView:
        """Ask the exchange for what ``view`` lacks; what it does not tell stays absent."""
        feed, info = self._feeds.get(view.exchange), view.info
        if feed is None or info is None:
            return view
        ticker, balance = view.ticker, view.balance
        if ticker is None:
            ticker = await feed.prices.ask(view.symbol)
        if balance is None and ticker is not None:
            balance = await feed.wallets[info.kind].ask(info.settle)
        return msgspec.structs.replace(view, ticker=ticker, balance=balance)

    async def holdings(self, exchange: str) -> dict[MarketKind, Mapping[str, Balance]]:
        """Return the balances of each wallet, asking for what memory lacks; without those unknown.

        Args:
            exchange: its configured name; it has started.
        """
        feed = self._feeds[exchange]
        found = {kind: await feed.wallets[kind].holdings() for kind in feed.adapter.wallets}
        return {kind: held for kind, held in found.items() if held is not None}

    async def marks(self, exchange: str, symbols: Iterable[str]) -> dict[str, Decimal]:
        """Return the prices that positions are valued by, without those unknown.

        The middle of bid and ask, of an exchange that has started.
        """
        prices = self._feeds[exchange].prices
        found: dict[str, Decimal] = {}
        for symbol in symbols:
            ticker = prices.known(symbol, self._clock.monotonic_ms())
            if ticker is None and prices.is_quoted:
                ticker = await prices.ask(symbol)
            if ticker is not None:
                found[symbol] = (ticker.bid + ticker.ask) / 2
        return found

    def begin(self, exchange: str) -> None:
        """Let an exchange be asked: it has started."""
        self._feeds[exchange].started.set()

    async def until_started(self, exchange: str) -> None:
        """Wait until an exchange has started."""
        await self._feeds[exchange].started.wait()

    def is_quoted(self, exchange: str) -> bool:
        """Return True if the exchange quotes its own prices, which must be kept fresh."""
        return self._feeds[exchange].prices.is_quoted

    async def refresh_balance(self, exchange: str) -> None:
        """Read the balances of one exchange, wallet by wallet, even where one fails."""
        feed = self._feeds[exchange]
        for kind in feed.adapter.wallets:
            await feed.wallets[kind].refresh()

    async def follow_balance(self, exchange: str, every_s: float) -> None:
        """Keep the balances in use of one exchange fresh, from its start and for ever."""
        await self.until_started(exchange)
        feed = self._feeds[exchange]
        while True:
            before = spent(feed.adapter, "get_balance")
            for kind in feed.adapter.wallets:
                if feed.wallets[kind].is_in_use(self._clock.monotonic_ms()):
                    await feed.wallets[kind].refresh()
            rarely_s = interval_s(feed.adapter, "get_balance", before)
            await self._clock.sleep(max(every_s, rarely_s))

    async def follow_prices(self, exchange: str, every_s: float) -> None:
        """Keep the prices of the symbols in use fresh, from the exchange's start on."""
        await self.until_started(exchange)
        await self._feeds[exchange].prices.follow(every_s)
