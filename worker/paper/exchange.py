"""A simulated exchange whose answers depend on the order alone, so that every worker gives them.

Many worker processes each have their own instance, and an order sent by a worker that died may be
sent again through another one. What an order leads to is therefore a pure function of the seed,
the client order id, the request and the market's price: the same order fills the same way, with
the same ids, on any instance. Nothing depends on what an instance has seen before, which is also
why funds are not checked (paper lends) and a reduce-only order is taken at its word: the position
it reduces may have been opened through another process.
"""

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Final, Protocol

import msgspec

from worker.config.keys import ExchangeConfig
from worker.domain.market import Balance, ExchangePosition, MarketKind, SymbolInfo, Ticker
from worker.domain.money import ONE, ZERO
from worker.domain.order import (
    BUY,
    ENTRY,
    Fill,
    OrderReport,
    OrderRequest,
    Side,
)
from worker.exchanges.budget.requests import RequestGate
from worker.exchanges.errors import (
    ClockSkewError,
    ExchangeError,
    InvalidOrderError,
    OrderNotFoundError,
    Outcome,
)
from worker.exchanges.ports import ClockOffset, ExchangeAdapter, Resend, SendWindow
from worker.paper.markets import PaperMarkets
from worker.paper.matching import PaperMatching, PaperOrder, cancelled, misfit, simulated_price
from worker.paper.orders import PaperOrders
from worker.runtime.clock import Clock
from worker.runtime.errors import ConfigError

MAX_OPEN_ORDERS: Final = 100_000
#: Symbols whose last assumed price is remembered.
MAX_ASSUMED_PRICES: Final = 20_000
#: A simulated exchange answers at once, so a request need not stay valid for long; short windows
#: let short leases work.
WINDOW_MS: Final = 500


class FleetAccount(Protocol):
    """Everything all workers together have traded on simulated exchanges."""

    async def holdings(self, exchange: str) -> Mapping[str, Decimal]:
        """Return each currency's signed change since the start, on all exchanges together."""

    async def positions(self, exchange: str) -> list[ExchangePosition]:
        """Return the open positions, spot ones among them."""


class PaperExchange(ExchangeAdapter):
    """A deterministic simulated exchange.

    Args:
        name: the exchange's name in configuration and signals.
        config: its section; ``config.paper`` says how it behaves.
        clock: time and waiting; waited on only when ``paper.latency_ms`` is not 0.
        price_source: a real exchange that lends its markets and, with ``paper.prices = "live"``,
            its prices; started and closed together with this one.
        account: what all workers together have traded here; nothing without it.

    Raises:
        ConfigError: for ``prices = "live"`` without a source, or a malformed ``paper.symbols``.
    """

    resend = Resend.IDEMPOTENT
    visibility_ms = 0
    has_own_clock = False
    balances_show_spot_positions = False

    def __init__(
        self,
        name: str,
        config: ExchangeConfig,
        clock: Clock,
        *,
        price_source: ExchangeAdapter | None = None,
        account: FleetAccount | None = None,
    ) -> None:
        paper = config.paper
        if paper.prices == "live" and price_source is None:
            raise ConfigError(f"exchanges.{name}.paper.prices", '"live" needs a source of prices')
        self.name = name
        self.clock_offset = ClockOffset()
        self._clock = clock
        self._source = price_source
        #: Where live prices come from; None while prices are assumed.
        self._live = price_source if paper.prices == "live" else None
        self._account = account
        self._balance = paper.balance
        self._matching = PaperMatching(paper, has_quotes=self._live is not None)
        self._markets = PaperMarkets(
            kinds=config.market_types,
            extra=paper.symbols,
            fee=self._matching.fee,
            where=f"exchanges.{name}.paper.symbols",
        )
        self._lent_markets: dict[str, tuple[SymbolInfo, SymbolInfo]] = {}
        self._half_latency_s = paper.latency_ms / 2_000
        self._window_ms = min(config.recv_window_ms, WINDOW_MS + int(paper.latency_ms))
        self._prices: OrderedDict[str, Decimal] = OrderedDict()
        self._orders = PaperOrders()

    def __repr__(self) -> str:
        return f"<PaperExchange {self.name}: {self._orders!r}>"

    @property
    def request_gate(self) -> RequestGate | None:
        """The budget of the real exchange that lends markets and prices, if there is one."""
        return None if self._source is None else self._source.request_gate

    async def start(self) -> None:
        """Start the source of prices, if there is one."""
        if self._source is not None:
            await self._source.start()

    async def close(self) -> None:
        """Close the source of prices; idempotent."""
        if self._source is not None:
            await self._source.close()

    async def refresh_markets(self) -> bool:
        """Load the source's markets again, if there is a source."""
        return False if self._source is None else await self._source.refresh_markets()

    def now_ms(self) -> int:
        """Return this machine's time."""
        return self._clock.now_ms()

    def open_window(self) -> SendWindow:
        """Open a window of half a second and the simulated latency."""
        return SendWindow(
            self._clock.now_ms(), self._window_ms, self._clock.monotonic_ms() + self._window_ms
        )

    # --- orders ---

    async def place_order(self, request: OrderRequest, window: SendWindow) -> OrderReport:
        """Execute ``request``; a client order id seen before returns the first order as it is now.

        Raises:
            InvalidOrderError: unknown market, off-grid values, too small, or drawn by
                ``paper.reject_rate``; REFUSED.
            ClockSkewError: the window closed before the request arrived; REFUSED, transient.
            ExchangeError: NOT_SENT: there is no price to fill a market order at.
        """
        # Read before the latency: an assumed price belongs to the order it was assumed for.
        if self._live is None:
            reference = self._prices.get(request.symbol)
        else:
            reference = await self._live_reference(self._live, request)
        if not self._half_latency_s:
            return self._accept(request, window, reference)
        await self._clock.sleep(self._half_latency_s)
        report = self._accept(request, window, reference)
        await self._clock.sleep(self._half_latency_s)
        return report

    async def cancel_order(self, request: OrderRequest, exchange_order_id: str = "") -> None:
        """Cancel the open rest of the order.

        Raises:
            OrderNotFoundError: this instance has no such open order.
        """
        await self._travel()
        report = self._orders.open(_id_of(request, exchange_order_id))
        if report is None:
            raise _not_found(request, "open order")
        self._orders.settle(cancelled(report, ""))

    async def get_order(self, request: OrderRequest, exchange_order_id: str = "") -> OrderReport:
        """Return the order as it is now.

        Raises:
            OrderNotFoundError: this instance does not know it; sending it again is safe.
        """
        await self._travel()
        client_id = _id_of(request, exchange_order_id)
        report = self._orders.known(client_id)
        if report is None:
            raise _not_found(request)
        if self._live is not None and self._orders.waiting(request.symbol):
            self._match(await self._live.get_ticker(request.symbol))
        return self._orders.known(client_id) or report

    async def get_open_orders(self, symbol: str | None = None) -> list[OrderReport]:
        """Return the open orders this instance accepted, of one symbol or of all."""
        await self._travel()
        wanted = self._orders.waiting_symbols(symbol)
        if self._live is not None and wanted:
            for ticker in (await self._live.get_tickers(wanted)).values():
                self._match(ticker)
        return self._orders.all_open(symbol)

    async def get_trades(self, request: OrderRequest, report: OrderReport) -> tuple[Fill, ...]:
        """Return the order's fills: from memory, else the ones ``report`` carries.

        Raises:
            OrderNotFoundError: neither has any, and the order is not known.
        """
        await self._travel()
        known = self._orders.known(_id_of(request, report.exchange_order_id))
        if known is None and not report.fills:
            raise _not_found(request)
        return report.fills if known is None else known.fills

    # --- account and market ---

    async def get_balance(self, kind: MarketKind = MarketKind.SPOT) -> Mapping[str, Balance]:
        """Return ``paper.balance`` of every quote currency, changed by what was traded."""
        await self._travel()
        change = {} if self._account is None else await self._account.holdings(self.name)
        amounts = dict.fromkeys(self._markets.quotes, self._balance)
        for currency, amount in change.items():
            amounts[currency] = amounts.get(currency, ZERO) + amount
        return {name: Balance(free=amount, total=amount) for name, amount in amounts.items()}

    async def get_positions(self) -> list[ExchangePosition]:
        """Return the open linear positions; spot trades are holdings."""
        await self._travel()
        held = [] if self._account is None else await self._account.positions(self.name)
        return [position for position in held if self._is_linear(position.symbol)]

    async def get_ticker(self, symbol: str) -> Ticker:
        """Return the assumed price with its made-up spread, or the source's ticker.

        Raises:
            ExchangeError: REFUSED with code ``NO_PRICE``: no price was assumed yet.
        """
        if self._live is not None:
            return await self._live.get_ticker(symbol)
        price = self._prices.get(symbol)
        if price is None:
            raise _no_price(self.name, symbol, Outcome.REFUSED)
        half = self._matching.half_spread
        return Ticker(
            symbol=symbol,
            bid=simulated_price(price * (ONE - half), up=False),
            ask=simulated_price(price * (ONE + half), up=True),
            last=price,
            at_ms=self._clock.now_ms(),
        )

    def last_price(self, symbol: str) -> Decimal | None:
        """Return the price last assumed, None if none was."""
        return self._prices.get(symbol)

    async def get_tickers(self, symbols: Iterable[str]) -> dict[str, Ticker]:
        """Return the prices of several symbols; those without an assumed price are left out."""
        if self._live is not None:
            return await self._live.get_tickers(symbols)
        return {name: await self.get_ticker(name) for name in symbols if name in self._prices}

    def get_symbol_info(self, symbol: str) -> SymbolInfo | None:
        """Return the market's rules, the source's if there is one; all can be sold short."""
        if self._source is None:
            return self._markets.get(symbol)
        theirs = self._source.get_symbol_info(symbol)
        if theirs is None:
            return None
        lent = self._lent_markets.get(symbol)
        if lent is None or lent[0] is not theirs:  # the source may have loaded its markets anew
            fee = self._matching.fee
            ours = msgspec.structs.replace(theirs, shortable=True, taker_fee=fee, maker_fee=fee)
            self._lent_markets[symbol] = lent = (theirs, ours)
        return lent[1]

    def symbols(self) -> Iterable[str]:
        """Return the source's symbols, else every one but the numbered test assets."""
        return self._markets.symbols() if self._source is None else self._source.symbols()

    def assume_price(self, symbol: str, price: Decimal) -> None:
        """Take ``price`` (positive, in quote units) as the market's, and match waiting orders.

        With live prices there is nothing to assume: the call does nothing.
        """
        if self._live is not None:
            return
        if not price > ZERO:
            raise ValueError(f"a price must be positive, not {price}")
        prices = self._prices
        prices[symbol] = price
        prices.move_to_end(symbol)
        if len(prices) > MAX_ASSUMED_PRICES:
            prices.popitem(last=False)
        for order in self._orders.waiting(symbol):
            self._trade(order, price)

    # --- inside ---

    def _is_linear(self, symbol: str) -> bool:
        info = self.get_symbol_info(symbol)
        return info is not None and info.kind is MarketKind.LINEAR

    async def _travel(self) -> None:
        if self._half_latency_s:
            await self._clock.sleep(2 * self._half_latency_s)

    async def _live_reference(self, source: ExchangeAdapter, request: OrderRequest) -> Decimal:
        try:
            return _reference(request.side, await source.get_ticker(request.symbol))
        except ExchangeError as error:
            # Whatever happened to the price request, the order itself was not sent.
            raise ExchangeError(
                f"no price for {request.symbol}: {error}", outcome=Outcome.NOT_SENT, code="NO_PRICE"
            ) from error

    def _accept(
        self, request: OrderRequest, window: SendWindow, reference: Decimal | None
    ) -> OrderReport:
        known = self._orders.known(request.client_order_id)
        if known is not None:
            return known
        info = self._admit(request, window, reference)
        order = PaperOrder(request, info, self._clock.now_ms())
        report = self._matching.trade(order, reference, order.accepted_ms)
        if report is not None:
            self._orders.settle(report)
            return report
        return self._orders.wait(order)

    def _admit(
        self, request: OrderRequest, window: SendWindow, reference: Decimal | None
    ) -> SymbolInfo:
        """Refuse what an exchange would refuse; return the market."""
        if self._clock.monotonic_ms() > window.expires_mono_ms:
            raise ClockSkewError(
                "the request arrived after its window had closed",
                outcome=Outcome.REFUSED,
                code="WINDOW_CLOSED",
                transient=True,
            )
        info = self.get_symbol_info(request.symbol)
        if info is None:
            raise _invalid("UNKNOWN_SYMBOL", f"{self.name} lists no market {request.symbol}")
        problem = misfit(request, info)
        if problem:
            raise _invalid("INVALID_ORDER", problem)
        price = request.price or request.stop_price or reference
        if price is None:
            raise _no_price(self.name, request.symbol, Outcome.NOT_SENT)
        # A position may always be closed, however small it has become.
        if request.role is ENTRY and not request.reduce_only:
            value = request.quantity * price
            if value < info.min_notional:
                text = f"{value:f} {info.quote} is less than the minimum of {info.min_notional:f}"
                raise _invalid("MIN_NOTIONAL", text)
        if self._matching.is_rejected(request):
            raise _invalid("PAPER_REJECTED", "refused at random, as paper.reject_rate asks")
        if self._orders.open_count >= MAX_OPEN_ORDERS:
            raise _invalid("TOO_MANY_ORDERS", f"{MAX_OPEN_ORDERS} orders are open", transient=True)
        return info

    def _match(self, ticker: Ticker) -> None:
        for order in self._orders.waiting(ticker.symbol):
            self._trade(order, _reference(order.request.side, ticker))

    def _trade(self, order: PaperOrder, reference: Decimal) -> None:
        """Match a waiting order with the market."""
        report = self._matching.trade(order, reference, self._clock.now_ms())
        if report is not None:
            self._orders.settle(report)


def _id_of(request: OrderRequest, exchange_order_id: str) -> str:
    return request.client_order_id or exchange_order_id.removeprefix("P")


def _reference(side: Side, ticker: Ticker) -> Decimal:
    """Return the price a taker meets; some exchanges leave bid and ask out of the ticker."""
    return (ticker.ask if side is BUY else ticker.bid) or ticker.last


def _no_price(name: str, symbol: str, outcome: Outcome) -> ExchangeError:
    text = f"{name} has no price for {symbol} yet"
    return ExchangeError(text, outcome=outcome, code="NO_PRICE", transient=True)


def _invalid(code: str, problem: str, *, transient: bool = False) -> InvalidOrderError:
    return InvalidOrderError(problem, outcome=Outcome.REFUSED, code=code, transient=transient)


def _not_found(request: OrderRequest, what: str = "order") -> OrderNotFoundError:
    return OrderNotFoundError(
        f"no {what} {request.client_order_id}", outcome=Outcome.REFUSED, code="NOT_FOUND"
    )
