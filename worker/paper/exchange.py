"""A simulated exchange whose answers depend on the order alone, so that every worker gives them.

Many worker processes each have their own instance, and an order sent by a worker that died may be
sent again through another one. What an order leads to is therefore a pure function of the seed,
the client order id, the request and the market's price: the same order fills the same way, with
the same ids, on any instance. Nothing depends on what an instance has seen before, which is also
why funds are not checked (paper lends) and a reduce-only order is taken at its word: the position
it reduces may have been opened through another process.
"""

from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from decimal import Decimal
from typing import Final

import msgspec

from worker.config.keys import ExchangeConfig
from worker.domain.market import Balance, ExchangePosition, MarketKind, SymbolInfo, Ticker
from worker.domain.money import ONE, ZERO, ceil_to, floor_to, tidy
from worker.domain.order import (
    BUY,
    ENTRY,
    PARTIALLY_FILLED,
    Fill,
    OrderReport,
    OrderRequest,
    OrderState,
    Side,
)
from worker.exchanges.ports import (
    ClockSkewError,
    ExchangeAdapter,
    ExchangeClock,
    ExchangeError,
    InvalidOrderError,
    OrderNotFoundError,
    Outcome,
    Resend,
    SendWindow,
)
from worker.paper.markets import PRICE_TICK, PaperMarkets
from worker.paper.matching import PaperMatching, PaperOrder, cancelled, misfit
from worker.runtime.clock import Clock
from worker.runtime.errors import ConfigError

#: Finished orders an instance remembers; open ones are all remembered, up to ``MAX_OPEN_ORDERS``.
MAX_FINISHED_ORDERS: Final = 10_000
MAX_OPEN_ORDERS: Final = 100_000
#: Symbols whose last assumed price is remembered.
MAX_ASSUMED_PRICES: Final = 20_000
#: A simulated exchange answers at once, so a request need not stay valid for long; short windows
#: let short leases work.
WINDOW_MS: Final = 500


class PaperExchange(ExchangeAdapter):
    """A deterministic simulated exchange.

    Args:
        name: the exchange's name in configuration and signals.
        config: its section; ``config.paper`` says how it behaves.
        clock: time and waiting; waited on only when ``paper.latency_ms`` is not 0.
        price_source: a real exchange that lends its markets and, with ``paper.prices = "live"``,
            its prices; started and closed together with this one.
        holdings: the signed change of every currency since the start over all workers together;
            none without it.
        positions: open derivative positions over all workers together; none without it.

    Raises:
        ConfigError: for ``prices = "live"`` without a source, or a malformed ``paper.symbols``.
    """

    resend = Resend.IDEMPOTENT
    simulated = True
    visibility_ms = 0

    def __init__(
        self,
        name: str,
        config: ExchangeConfig,
        clock: Clock,
        *,
        price_source: ExchangeAdapter | None = None,
        holdings: Callable[[str], Awaitable[Mapping[str, Decimal]]] | None = None,
        positions: Callable[[str], Awaitable[list[ExchangePosition]]] | None = None,
    ) -> None:
        paper = config.paper
        if paper.prices == "live" and price_source is None:
            raise ConfigError(f"exchanges.{name}.paper.prices", '"live" needs a source of prices')
        self.name = name
        self.clock = ExchangeClock()
        self._time = clock
        self._source = price_source
        #: Where live prices come from; None while prices are assumed.
        self._live = price_source if paper.prices == "live" else None
        self._holdings = holdings
        self.prices_in_memory = self._live is None
        self._positions = positions
        self._balance = paper.balance
        self._matching = PaperMatching(paper, has_book=self._live is not None)
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
        #: The last report of every known order, and those of the open ones among them.
        self._reports: dict[str, OrderReport] = {}
        self._open: dict[str, OrderReport] = {}
        self._finished: deque[str] = deque()
        #: Open orders a later price may fill or trigger, by symbol.
        self._waiting: dict[str, dict[str, PaperOrder]] = {}

    def __repr__(self) -> str:
        return f"<PaperExchange {self.name}: {len(self._open)} open, {len(self._reports)} known>"

    async def start(self) -> None:
        """Start the source of prices, if there is one."""
        if self._source is not None:
            await self._source.start()

    async def close(self) -> None:
        """Close the source of prices; idempotent."""
        if self._source is not None:
            await self._source.close()

    async def refresh_markets(self) -> None:
        """Load the source's markets anew, if there is one."""
        if self._source is not None:
            await self._source.refresh_markets()

    def now_ms(self) -> int:
        """The machine's own time."""
        return self._time.now_ms()

    def open_window(self) -> SendWindow:
        """Half a second, and the simulated latency, from now."""
        return SendWindow(
            self._time.now_ms(), self._window_ms, self._time.monotonic_ms() + self._window_ms
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
        await self._time.sleep(self._half_latency_s)
        report = self._accept(request, window, reference)
        await self._time.sleep(self._half_latency_s)
        return report

    async def cancel_order(self, request: OrderRequest, exchange_order_id: str = "") -> None:
        """Cancel what is open of the order.

        Raises:
            OrderNotFoundError: this instance has no such open order.
        """
        await self._travel()
        report = self._open.get(_id_of(request, exchange_order_id))
        if report is None:
            raise _not_found(request, "open order")
        self._settle(cancelled(report, ""))

    async def get_order(self, request: OrderRequest, exchange_order_id: str = "") -> OrderReport:
        """The order as it is now.

        Raises:
            OrderNotFoundError: this instance does not know it; sending it again is safe.
        """
        await self._travel()
        client_id = _id_of(request, exchange_order_id)
        if client_id not in self._reports:
            raise _not_found(request)
        if self._live is not None and request.symbol in self._waiting:
            self._match(await self._live.get_ticker(request.symbol))
        return self._reports[client_id]

    async def get_open_orders(self, symbol: str | None = None) -> list[OrderReport]:
        """Open orders this instance accepted, of one symbol or of all."""
        await self._travel()
        if self._live is not None and self._waiting:
            wanted = [name for name in self._waiting if symbol in {None, name}]
            for ticker in (await self._live.get_tickers(wanted)).values():
                self._match(ticker)
        return [report for report in self._open.values() if symbol in {None, report.symbol}]

    async def get_trades(self, request: OrderRequest, report: OrderReport) -> tuple[Fill, ...]:
        """The order's fills: from memory, else the ones ``report`` carries.

        Raises:
            OrderNotFoundError: neither has any, and the order is not known.
        """
        await self._travel()
        known = self._reports.get(_id_of(request, report.exchange_order_id))
        if known is None and not report.fills:
            raise _not_found(request)
        return report.fills if known is None else known.fills

    # --- account and market ---

    async def get_balance(self, kind: MarketKind = MarketKind.SPOT) -> Mapping[str, Balance]:
        """Every quote currency starts at ``paper.balance``; others hold what trading left there."""
        await self._travel()
        change = await self._holdings(self.name) if self._holdings is not None else {}
        amounts = dict.fromkeys(self._markets.quotes, self._balance)
        for currency, amount in change.items():
            amounts[currency] = amounts.get(currency, ZERO) + amount
        return {name: Balance(free=amount, total=amount) for name, amount in amounts.items()}

    async def get_positions(self) -> list[ExchangePosition]:
        """Open linear positions; spot trades are holdings."""
        await self._travel()
        return await self._positions(self.name) if self._positions is not None else []

    async def get_ticker(self, symbol: str) -> Ticker:
        """The assumed price with its made-up spread, or the source's ticker.

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
            bid=tidy(floor_to(price * (ONE - half), PRICE_TICK)) or PRICE_TICK,
            ask=tidy(ceil_to(price * (ONE + half), PRICE_TICK)),
            last=price,
            at_ms=self._time.now_ms(),
        )

    def last_price(self, symbol: str) -> Decimal | None:
        """The assumed price."""
        return self._prices.get(symbol)

    async def get_tickers(self, symbols: Iterable[str]) -> dict[str, Ticker]:
        """Prices of several symbols; those without an assumed price are left out."""
        if self._live is not None:
            return await self._live.get_tickers(symbols)
        return {name: await self.get_ticker(name) for name in symbols if name in self._prices}

    def get_symbol_info(self, symbol: str) -> SymbolInfo | None:
        """The market's rules, from the source where there is one; every market can be shorted."""
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
        """The source's symbols, else every one but the numbered test assets."""
        return self._markets.symbols() if self._source is None else self._source.symbols()

    def assume_price(self, symbol: str, price: Decimal) -> None:
        """Take ``price`` (positive, in quote units) as the market's, and let it fill what waits.

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
        if symbol in self._waiting:
            for order in list(self._waiting[symbol].values()):
                self._trade(order, price)

    # --- inside ---

    async def _travel(self) -> None:
        if self._half_latency_s:
            await self._time.sleep(2 * self._half_latency_s)

    async def _live_reference(self, source: ExchangeAdapter, request: OrderRequest) -> Decimal:
        try:
            return _reference(request.side, await source.get_ticker(request.symbol))
        except ExchangeError as error:
            # Whatever became of the price request, the order itself went nowhere.
            raise ExchangeError(
                f"no price for {request.symbol}: {error}", outcome=Outcome.NOT_SENT, code="NO_PRICE"
            ) from error

    def _accept(
        self, request: OrderRequest, window: SendWindow, reference: Decimal | None
    ) -> OrderReport:
        client_id = request.client_order_id
        known = self._reports.get(client_id)
        if known is not None:
            return known
        info = self._admit(request, window, reference)
        order = PaperOrder(request, info, self._time.now_ms())
        report = self._matching.trade(order, reference, order.accepted_ms)
        if report is not None:
            self._settle(report)
            return report
        report = self._open[client_id] = self._reports[client_id] = order.report(OrderState.ACTIVE)
        self._waiting.setdefault(request.symbol, {})[client_id] = order
        return report

    def _admit(
        self, request: OrderRequest, window: SendWindow, reference: Decimal | None
    ) -> SymbolInfo:
        """Refuse what an exchange would refuse; return the market."""
        if self._time.monotonic_ms() > window.expires_mono_ms:
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
        if len(self._open) >= MAX_OPEN_ORDERS:
            raise _invalid("TOO_MANY_ORDERS", f"{MAX_OPEN_ORDERS} orders are open", transient=True)
        return info

    def _match(self, ticker: Ticker) -> None:
        for order in list(self._waiting.get(ticker.symbol, {}).values()):
            self._trade(order, _reference(order.request.side, ticker))

    def _trade(self, order: PaperOrder, reference: Decimal) -> None:
        """Let a waiting order meet the market."""
        report = self._matching.trade(order, reference, self._time.now_ms())
        if report is not None:
            self._settle(report)

    def _settle(self, report: OrderReport) -> None:
        """Remember an order that no longer waits: as finished, or open for the rest of it."""
        client_id = report.client_order_id
        self._reports[client_id] = report
        waiting = self._waiting.get(report.symbol)
        if waiting is not None:
            waiting.pop(client_id, None)
            if not waiting:
                del self._waiting[report.symbol]
        if report.state is PARTIALLY_FILLED:
            self._open[client_id] = report
            return
        self._open.pop(client_id, None)
        self._finished.append(client_id)
        if len(self._finished) > MAX_FINISHED_ORDERS:
            del self._reports[self._finished.popleft()]


def _id_of(request: OrderRequest, exchange_order_id: str) -> str:
    return request.client_order_id or exchange_order_id.removeprefix("P")


def _reference(side: Side, ticker: Ticker) -> Decimal:
    """The price a taker meets; some exchanges leave the book out of the ticker."""
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
