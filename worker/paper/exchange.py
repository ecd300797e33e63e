"""A simulated exchange whose answers depend on the order alone, so that every worker gives them.

Many worker processes each have their own instance, and an order sent by a worker that died may be
sent again through another one. What an order leads to is therefore a pure function of the seed,
the client order id, the request and the market's price: the same order fills the same way, with
the same ids, on any instance. Nothing depends on what an instance has seen before, which is also
why funds are not checked (paper lends) and a reduce-only order is taken at its word: the position
it reduces may have been opened through another process. What all instances have in common are the
orders that rest, and the prices seen since that matter to these (:mod:`worker.paper.resting`).
"""

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Final, Protocol

import msgspec

from worker.config.keys import ExchangeConfig, PaperConfig
from worker.domain.market import Balance, ExchangePosition, MarketKind, SymbolInfo, Ticker
from worker.domain.money import ZERO
from worker.domain.order import (
    ENTRY,
    TERMINAL,
    Fill,
    OrderReport,
    OrderRequest,
)
from worker.exchanges.budget.requests import RequestGate
from worker.exchanges.errors import ClockSkewError, Outcome
from worker.exchanges.ports import ClockOffset, ExchangeAdapter, Resend, SendWindow
from worker.paper.local_orders import LocalOrders
from worker.paper.markets import PaperMarkets
from worker.paper.matching import PaperMatching, PaperOrder, misfit
from worker.paper.open_orders import OpenOrders
from worker.paper.orders import FinishedOrders
from worker.paper.quotes import LiveQuotes, Quotes, WalkQuotes, ticker_around
from worker.paper.refusals import invalid, no_price, not_found
from worker.paper.resting import RestingOrders, may_rest
from worker.paper.walk import PriceWalk, middles_of
from worker.runtime.clock import Clock
from worker.runtime.errors import ConfigError

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
        resting: the orders that rest here, for all workers; of this instance alone without it.

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
        resting: RestingOrders | None = None,
    ) -> None:
        paper = config.paper
        if paper.prices == "live" and price_source is None:
            raise ConfigError(f"exchanges.{name}.paper.prices", '"live" needs a source of prices')
        self.name = name
        self.clock_offset = ClockOffset()
        self._clock = clock
        self._source = price_source
        self._account = account
        self._balance = paper.balance
        self._matching = PaperMatching(paper, has_quotes=paper.prices == "live")
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
        self._finished = FinishedOrders()
        self._resting: RestingOrders = LocalOrders(clock) if resting is None else resting
        self._resting_markets = self._resting.markets(name)
        #: Where prices come from; None while they are assumed.
        self._quotes = self._quotes_of(paper)
        self._open = OpenOrders(
            name,
            resting=self._resting,
            matching=self._matching,
            quotes=self._quotes,
            info_of=self.get_symbol_info,
            finished=self._finished,
        )

    def __repr__(self) -> str:
        return f"<PaperExchange {self.name}: {len(self._finished)} finished>"

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
            ExchangeError: NOT_SENT: there is no price to fill a market order at; UNKNOWN: the
                orders that rest do not answer.
        """
        # Read before the latency: an assumed price belongs to the order it was assumed for.
        if self._quotes is None:
            reference = self._prices.get(request.symbol)
        else:
            reference = await self._quotes.reference(request)
        if self._half_latency_s:
            await self._clock.sleep(self._half_latency_s)
        report = self._finished.get(request.client_order_id)
        if report is None:
            order = PaperOrder(
                request, self._admit(request, window, reference), self._clock.now_ms()
            )
            report = self._matching.trade(order, reference, order.accepted_ms)
            if report is None or report.state not in TERMINAL or may_rest(request):
                report = await self._open.rest(order, report, reference)
            if report.state in TERMINAL:
                self._finished.add(report)
        if self._half_latency_s:
            await self._clock.sleep(self._half_latency_s)
        return report

    async def cancel_order(self, request: OrderRequest, exchange_order_id: str = "") -> None:
        """Cancel the open rest of the order.

        Raises:
            OrderNotFoundError: there is no such open order.
            ExchangeError: the orders that rest do not answer.
        """
        await self._travel()
        client_id = _id_of(request, exchange_order_id)
        if not await self._open.cancel(request, client_id, was_accepted=bool(exchange_order_id)):
            raise not_found(request, "open order")

    async def get_order(self, request: OrderRequest, exchange_order_id: str = "") -> OrderReport:
        """Return the order as it is now.

        An order that nobody knows rests from now on, if ``exchange_order_id`` is given: only one
        that was accepted has such an id.

        Raises:
            OrderNotFoundError: nobody knows it; sending it again is safe.
            ExchangeError: the orders that rest do not answer, or their market has no rules now.
        """
        await self._travel()
        client_id = _id_of(request, exchange_order_id)
        report = await self._open.look(request, client_id, was_accepted=bool(exchange_order_id))
        if report is None:
            raise not_found(request)
        return report

    async def get_open_orders(self, symbol: str | None = None) -> list[OrderReport]:
        """Return the open orders of all workers, of one symbol or of all.

        With prices of its own the exchange first looks at each order that still waits.

        Raises:
            ExchangeError: the orders that rest do not answer.
        """
        await self._travel()
        return await self._open.all(symbol or "")

    async def get_trades(self, request: OrderRequest, report: OrderReport) -> tuple[Fill, ...]:
        """Return the order's fills, else the ones ``report`` carries.

        Raises:
            OrderNotFoundError: neither has any, and nobody knows the order.
            ExchangeError: the orders that rest do not answer.
        """
        if report.fills:
            await self._travel()
            known = self._finished.get(_id_of(request, report.exchange_order_id))
            return report.fills if known is None else known.fills
        return (await self.get_order(request, report.exchange_order_id)).fills

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
        if self._quotes is not None:
            return await self._quotes.ticker(symbol)
        price = self._prices.get(symbol)
        if price is None:
            raise no_price(self.name, symbol, Outcome.REFUSED)
        return ticker_around(symbol, price, self._matching.half_spread, self._clock.now_ms())

    def last_price(self, symbol: str) -> Decimal | None:
        """Return the price last assumed, None if none was."""
        return self._prices.get(symbol)

    async def get_tickers(self, symbols: Iterable[str]) -> dict[str, Ticker]:
        """Return the prices of several symbols; those without an assumed price are left out."""
        if self._quotes is not None:
            return await self._quotes.tickers(symbols)
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
        """Take ``price`` (positive, in quote units) as the market's; orders that rest see it too.

        With prices of its own there is nothing to assume: the call does nothing.
        """
        if self._quotes is not None:
            return
        if not price > ZERO:
            raise ValueError(f"a price must be positive, not {price}")
        prices = self._prices
        prices[symbol] = price
        prices.move_to_end(symbol)
        if len(prices) > MAX_ASSUMED_PRICES:
            prices.popitem(last=False)
        if symbol in self._resting_markets:
            self._resting.see(self.name, symbol, price, price)

    # --- inside ---

    def _quotes_of(self, paper: PaperConfig) -> Quotes | None:
        if paper.prices == "walk":
            walk = PriceWalk(
                paper.seed,
                middle=paper.walk_middle,
                middles=middles_of(paper.walk_middles),
                swing_pct=paper.walk_swing_pct,
            )
            return WalkQuotes(walk, self._matching.half_spread, self._clock)
        if paper.prices == "live" and self._source is not None:
            return LiveQuotes(self.name, self._source, self._resting)
        return None

    def _is_linear(self, symbol: str) -> bool:
        info = self.get_symbol_info(symbol)
        return info is not None and info.kind is MarketKind.LINEAR

    async def _travel(self) -> None:
        if self._half_latency_s:
            await self._clock.sleep(2 * self._half_latency_s)

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
            raise invalid("UNKNOWN_SYMBOL", f"{self.name} lists no market {request.symbol}")
        problem = misfit(request, info)
        if problem:
            raise invalid("INVALID_ORDER", problem)
        price = request.price or request.stop_price or reference
        if price is None:
            raise no_price(self.name, request.symbol, Outcome.NOT_SENT)
        # A position may always be closed, however small it has become.
        if request.role is ENTRY and not request.reduce_only:
            value = request.quantity * price
            if value < info.min_notional:
                text = f"{value:f} {info.quote} is less than the minimum of {info.min_notional:f}"
                raise invalid("MIN_NOTIONAL", text)
        if request.post_only and self._matching.would_take(request, reference):
            raise invalid("POST_ONLY", "it would trade at once, which post_only forbids")
        if self._matching.is_rejected(request):
            raise invalid("PAPER_REJECTED", "refused at random, as paper.reject_rate asks")
        return info


def _id_of(request: OrderRequest, exchange_order_id: str) -> str:
    return request.client_order_id or exchange_order_id.removeprefix("P")
