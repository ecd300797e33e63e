"""The real exchanges, through ccxt: one adapter, with what differs between them in small methods.

ccxt knows every exchange's dialect (symbols, signatures, parsers); everything that decides whether
an order is sent once is ours: deadlines, outcomes, rounding, budgets, connections.
"""

import asyncio
import contextlib
import logging
import ssl
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any, ClassVar, Final

import aiohttp
import certifi

from worker.config.keys import ExchangeConfig
from worker.domain.market import Balance, ExchangePosition, MarketKind, SymbolInfo, Ticker
from worker.domain.order import Fill, OrderReport, OrderRequest, Role
from worker.exchanges.ccxt import listing, readings
from worker.exchanges.ccxt.budget import OrderBudget
from worker.exchanges.ccxt.codes import ANY_CODES, CODE_BOOKS
from worker.exchanges.ccxt.http_session import open_session, target
from worker.exchanges.ccxt.loading import exact, exchange_class
from worker.exchanges.ccxt.outcomes import (
    Call,
    IncompleteReplyError,
    LocalRefusalError,
    current_call,
    map_exceptions,
    redactor,
)
from worker.exchanges.ccxt.rounding import WireOrder, wire_order
from worker.exchanges.ccxt.timekeeping import ExchangeTime
from worker.exchanges.ports import (
    ExchangeAdapter,
    ExchangeClock,
    ExchangeError,
    OrderNotFoundError,
    Outcome,
    Resend,
    SendWindow,
)
from worker.runtime.clock import Clock
from worker.runtime.errors import ConfigError
from worker.runtime.logger import get_logger

#: An RSA signature costs 29 ms of the event loop; ccxt takes longer keys than this for RSA.
_RSA_KEY_CHARS: Final = 120

_log = get_logger()


class CCXTAdapter(ExchangeAdapter):
    """Any ccxt exchange. Without knowledge of its deadlines nothing is ever sent twice.

    Args:
        name: the exchange's name in configuration and in signals.
        config: where it is and who we are; without ``api_key`` only public data can be had.
        clock: this machine's clocks.
    """

    resend = Resend.NEVER
    #: The grain of the exchange's own clock as ``_fetch_time`` tells it.
    clock_grain_ms: ClassVar[float] = 1.0

    def __init__(self, name: str, config: ExchangeConfig, clock: Clock) -> None:
        self.name = name
        self.clock = ExchangeClock()
        self.ccxt_id = config.ccxt_id or name
        self._config = config
        self._time = clock
        self._exchange_time = ExchangeTime(clock, self.clock_grain_ms)
        self._book = CODE_BOOKS.get(self.ccxt_id, ANY_CODES)
        self._budget = OrderBudget(config.max_orders_per_second, clock)
        self._rest = target(f"exchanges.{name}.base_url", config.base_url)
        self._websocket = target(f"exchanges.{name}.ws_base_url", config.ws_base_url)
        self._redact = redactor(
            config.api_key.reveal(), config.secret.reveal(), config.password.reveal()
        )
        self._session: aiohttp.ClientSession | None = None
        self._ccxt: Any = None
        self._infos: dict[str, SymbolInfo] = {}

    def __repr__(self) -> str:
        state = "closed" if self._ccxt is None else f"{len(self._infos)} markets"
        return f"<{type(self).__name__} {self.name}: {self.ccxt_id}, {state}>"

    # ---- life -------------------------------------------------------------------------------

    async def start(self) -> None:
        """Load markets, measure the clock, check the credentials, make what orders go over.

        Closes itself on failure.
        """
        try:
            if self._ccxt is None:
                self._open()
            await self.measure_clock()
            await self._load_markets()
            if self._config.api_key:
                for kind in self.wallets:
                    await self.get_balance(kind)
                await self._connect()
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Give back every connection; idempotent."""
        exchange, self._ccxt = self._ccxt, None
        session, self._session = self._session, None
        if exchange is not None:
            with contextlib.suppress(Exception):
                await exchange.close()
        if session is not None:
            await session.close()

    def _open(self) -> None:
        config, key = self._config, f"exchanges.{self.name}"
        try:
            base = self._ccxt_class()
        except KeyError:
            raise ConfigError(f"{key}.ccxt_id", f"ccxt has no {self.ccxt_id!r}") from None
        secret = config.secret.reveal()
        if "PRIVATE KEY" in secret and len(secret) > _RSA_KEY_CHARS and "EC " not in secret:
            _log.warning("rsa_key_blocks_loop", exchange=self.name, advice="use Ed25519 or HMAC")
        trust = ssl.create_default_context(cafile=certifi.where())
        session = open_session(self._rest, self._websocket, trust)
        self._session = session
        self._ccxt = exact(base, self._exchange_ms)(
            {
                "apiKey": config.api_key.reveal() or None,
                "secret": secret or None,
                "password": config.password.reveal() or None,
                "session": session,
                "ssl_context": trust,
                "timeout": config.timeout_ms,
                "enableRateLimit": False,  # 200 ms an order; see budget.py
                "timeout_on_exit": 0,
                "maxRetriesOnFailure": 0,
                "enableLastHttpResponse": False,
                "enableLastJsonResponse": False,
                "enableLastResponseHeaders": False,
                "options": {"maxRetriesOnFailure": 0} | self._options(),
            }
        )
        # At DEBUG ccxt logs every request with its key and signature.
        self._ccxt.logger.setLevel(logging.INFO)
        # Nothing here needs currencies, and some exchanges want a signed call for them.
        self._ccxt.has["fetchCurrencies"] = False
        if config.sandbox:
            try:
                self._use_sandbox()
            except Exception as error:
                raise ConfigError(f"{key}.sandbox", f"not there: {type(error).__name__}") from None

    def _ccxt_class(self) -> type[Any]:
        """The class of ccxt that talks to the exchange."""
        return exchange_class(self.ccxt_id)

    async def _connect(self) -> None:
        """Make the connections of its own that orders go over, where there are any."""

    def _use_sandbox(self) -> None:
        self._ccxt.set_sandbox_mode(True)

    async def _load_markets(self) -> None:
        with self._boundary("load_markets"):
            await self._ccxt.load_markets()
            self._infos = listing.read(self._ccxt, self._config.market_types)

    async def refresh_markets(self) -> None:
        """Load the markets anew; where that fails all stays as it is."""
        with self._boundary("load_markets"):
            exchange, before = self._ccxt, self._infos
            infos = await listing.reload(exchange, self._config.market_types, before)
            if exchange is not self._ccxt:
                return  # closed meanwhile
            self._infos = infos
        if changed := listing.changes(before, infos):
            _log.info("markets_changed", exchange=self.name, **changed)

    # ---- time -------------------------------------------------------------------------------

    def _exchange_ms(self) -> int:
        """What ccxt stamps requests with: now, or the window's time while an order is created."""
        call = current_call.get()
        if call is not None and call.stamp_ms is not None:
            return call.stamp_ms
        return self._exchange_time.now_ms()

    async def measure_clock(self) -> ExchangeClock:
        """Measure the exchange's clock against ours and remember it."""
        self.clock = await self._exchange_time.measure(self._ask_time)
        return self.clock

    async def _ask_time(self) -> float:
        with self._boundary("fetch_time"):
            stamp = float(readings.decimal(await self._fetch_time()))
            if stamp <= 0:
                raise IncompleteReplyError("the reply holds no time")
            return stamp

    async def _fetch_time(self) -> Any:
        """The exchange's time, Unix milliseconds."""
        return await self._ccxt.fetch_time()

    def now_ms(self) -> int:
        """The exchange's time by the last measurement."""
        return self._exchange_time.now_ms()

    def open_window(self) -> SendWindow:
        """Fix the time in which the exchange may accept the next create request."""
        return self._exchange_time.window(self._config.recv_window_ms)

    # ---- orders -----------------------------------------------------------------------------

    def take_turn(self, within_ms: float) -> float:
        """Take this process's next turn to send an order: ``max_orders_per_second``."""
        return self._budget.take(within_ms)

    async def place_order(self, request: OrderRequest, window: SendWindow) -> OrderReport:
        """Send ``request`` once and now, carrying ``window``; never retried inside."""
        headers = self._deadline_headers(window)
        with self._boundary("create_order", creating=True, window=window, headers=headers):
            info = self._info(request.symbol)
            order = wire_order(request, info)
            params = self._order_params(request, info) | self._deadline_params(window)
            if order.stop_price is not None:
                params |= self._trigger_params(request, info, order.stop_price)
            await self._reach(info)
            if self._time.monotonic_ms() >= window.expires_mono_ms:
                raise ExchangeError(
                    f"{self.name} create_order: the send window is over",
                    outcome=Outcome.NOT_SENT,
                    code="window_over",
                )
            reply = await self._create(request, order, params)
            report = readings.order_report(reply, info, client_order_id=request.client_order_id)
            return _ours(report, request)

    async def _create(
        self, request: OrderRequest, order: WireOrder, params: dict[str, Any]
    ) -> Mapping[str, Any]:
        reply: Mapping[str, Any] = await self._ccxt.create_order(
            request.symbol, order.kind, request.side.value, order.amount, order.price, params
        )
        return reply

    async def _reach(self, info: SymbolInfo) -> None:
        """Wait a moment for the connection an order of this market goes over.

        Only where that is made beforehand: REST connects while it sends.
        """

    def _options(self) -> dict[str, Any]:
        """The exchange's ``options`` of ccxt."""
        return {}

    def _order_params(self, request: OrderRequest, info: SymbolInfo) -> dict[str, Any]:
        """Client order id, time in force, reduce-only, as ccxt's unified parameters."""
        params: dict[str, Any] = {"clientOrderId": request.client_order_id}
        if request.time_in_force is not None and request.order_type.needs_price:
            params["timeInForce"] = request.time_in_force.value
        if request.reduce_only and info.kind is MarketKind.LINEAR:
            params["reduceOnly"] = True
        return params

    def _deadline_params(self, window: SendWindow) -> dict[str, Any]:
        """Parameters with which the exchange enforces ``window``."""
        return {}

    def _deadline_headers(self, window: SendWindow) -> dict[str, str]:
        """Headers with which the exchange enforces ``window``."""
        return {}

    def _trigger_params(
        self,
        request: OrderRequest,
        info: SymbolInfo,
        stop_price: str,
    ) -> dict[str, Any]:
        """The trigger of a stop order, which for a take-profit lies on the other side."""
        name = "takeProfitPrice" if request.role is Role.TAKE_PROFIT else "stopLossPrice"
        return {name: stop_price}

    async def cancel_order(self, request: OrderRequest, exchange_order_id: str = "") -> None:
        """Ask for cancellation by client id (or exchange id where only that works)."""
        with self._boundary("cancel_order"):
            await self._cancel(request, exchange_order_id)

    async def _cancel(self, request: OrderRequest, exchange_order_id: str) -> None:
        params: dict[str, Any] = {"clientOrderId": request.client_order_id}
        if not self._is_conditional(request):
            await self._ccxt.cancel_order(None, request.symbol, params)
            return
        params["trigger"] = True
        with self._boundary("get_order"):
            order = await self._ccxt.fetch_order(None, request.symbol, dict(params))
        if child := self._child_id(order):
            await self._ccxt.cancel_order(child, request.symbol)
        elif order.get("status") == "open":
            await self._ccxt.cancel_order(None, request.symbol, params)
        else:
            raise OrderNotFoundError(
                f"{self.name} cancel_order: the order is not open any more",
                outcome=Outcome.REFUSED,
                code="not_open",
            )

    async def get_order(self, request: OrderRequest, exchange_order_id: str = "") -> OrderReport:
        """Look one order up by its client id, or by the exchange's id where given and better."""
        with self._boundary("get_order"):
            info = self._info(request.symbol)
            order = await self._look_up(request, exchange_order_id)
            report = readings.order_report(order, info, client_order_id=request.client_order_id)
            return _ours(report, request)

    async def _look_up(self, request: OrderRequest, exchange_order_id: str) -> Mapping[str, Any]:
        """By client id: exchange ids of ordinary and conditional orders are different spaces."""
        params: dict[str, Any] = {"clientOrderId": request.client_order_id}
        if not self._is_conditional(request):
            found: Mapping[str, Any] = await self._ccxt.fetch_order(None, request.symbol, params)
            return found
        order = await self._ccxt.fetch_order(None, request.symbol, params | {"trigger": True})
        # Some exchanges answer for conditional orders without our id's usual name.
        return await self._follow(request, {**order, "clientOrderId": request.client_order_id})

    def _is_conditional(self, request: OrderRequest) -> bool:
        """Whether the order lives in a book of conditional orders, apart from the ordinary ones."""
        return False

    def _child_id(self, order: Mapping[str, Any]) -> str:
        """The ordinary order that a triggered conditional order placed, if it did."""
        return ""

    async def _follow(self, request: OrderRequest, order: Mapping[str, Any]) -> Mapping[str, Any]:
        """The triggered order's progress, under the conditional order's name and time."""
        if child := self._child_id(order):
            # A child that is not visible yet must not read as "your order is not there".
            with contextlib.suppress(OrderNotFoundError), self._boundary("get_order"):
                placed = await self._ccxt.fetch_order(child, request.symbol)
                kept = {name: order.get(name) for name in ("clientOrderId", "timestamp")}
                return {**placed, **kept}
        if order.get("status") == "closed":  # triggered, and what it places is not there yet
            return {**order, "status": "open"}
        return order

    async def get_open_orders(self, symbol: str | None = None) -> list[OrderReport]:
        """All open orders of the account, or of one symbol, in the configured markets."""
        with self._boundary("get_open_orders"):
            found: dict[str, OrderReport] = {}
            async for order in self._open_orders(symbol):
                info = self._infos.get(str(order.get("symbol")))
                if info is not None:  # a market that is not ours to trade is not ours to watch
                    report = readings.order_report(order, info)
                    found[report.exchange_order_id] = report
            return list(found.values())

    async def _open_orders(self, symbol: str | None) -> AsyncIterator[Mapping[str, Any]]:
        for order in await self._ccxt.fetch_open_orders(symbol):
            yield order

    async def get_trades(self, request: OrderRequest, report: OrderReport) -> tuple[Fill, ...]:
        """The fills of one order with their fees, oldest first."""
        with self._boundary("get_trades"):
            trades = await self._trades(request, report)
            mine = (t for t in trades if t.get("order") in {None, report.exchange_order_id})
            return readings.fills(mine, self._info(request.symbol))

    async def _trades(
        self, request: OrderRequest, report: OrderReport
    ) -> Iterable[Mapping[str, Any]]:
        found: Iterable[Mapping[str, Any]] = await self._ccxt.fetch_my_trades(
            request.symbol, report.created_ms or None
        )
        return found

    # ---- account and market -------------------------------------------------------------------

    async def get_balance(self, kind: MarketKind = MarketKind.SPOT) -> Mapping[str, Balance]:
        """Holdings by currency in the wallet that pays for ``kind``."""
        with self._boundary("get_balance"):
            return readings.balances(await self._ccxt.fetch_balance(self._wallet_params(kind)))

    def _wallet_params(self, kind: MarketKind) -> dict[str, Any]:
        """Which wallet, where the exchange has several; one account pays for everything here."""
        return {}

    async def get_positions(self) -> list[ExchangePosition]:
        """Open derivative positions; spot holdings are balances, not positions."""
        if MarketKind.LINEAR not in self._config.market_types:
            return []
        with self._boundary("get_positions"):
            found = []
            for params in self._positions_params():
                for row in await self._ccxt.fetch_positions(None, params):
                    info = self._infos.get(str(row.get("symbol")))
                    if info is not None and (held := readings.position(row, info)) is not None:
                        found.append(held)
            return found

    def _positions_params(self) -> Iterable[dict[str, Any]]:
        """The parameters of each question it takes to hear of all positions."""
        return ({},)

    async def get_ticker(self, symbol: str) -> Ticker:
        """The market's price now."""
        with self._boundary("get_ticker"):
            self._info(symbol)
            row = await self._ccxt.fetch_ticker(symbol)
            return readings.ticker(row, symbol, self._time.now_ms())

    async def get_tickers(self, symbols: Iterable[str]) -> dict[str, Ticker]:
        """Prices of several symbols; an exchange with one call for all overrides this."""
        wanted = [symbol for symbol in symbols if symbol in self._infos]
        answers = await asyncio.gather(
            *(self.get_ticker(symbol) for symbol in wanted), return_exceptions=True
        )
        found: dict[str, Ticker] = {}
        failures: list[BaseException] = []
        for symbol, answer in zip(wanted, answers, strict=True):
            if isinstance(answer, BaseException):
                failures.append(answer)
            else:
                found[symbol] = answer
        for failure in failures:
            if not found or not isinstance(failure, ExchangeError):
                raise failure
        return found

    def get_symbol_info(self, symbol: str) -> SymbolInfo | None:
        """The market's rules from memory, or None for an unknown symbol."""
        return self._infos.get(symbol)

    def symbols(self) -> Iterable[str]:
        """Every symbol of the configured market types."""
        return self._infos.keys()

    # ---- inside -----------------------------------------------------------------------------

    def _info(self, symbol: str) -> SymbolInfo:
        info = self._infos.get(symbol)
        if info is None:
            raise LocalRefusalError(f"{self.name} has no market {symbol}")
        return info

    def _boundary(
        self,
        operation: str,
        *,
        creating: bool = False,
        window: SendWindow | None = None,
        headers: dict[str, str] | None = None,
    ) -> contextlib.AbstractContextManager[Call]:
        if self._ccxt is None:
            raise ExchangeError(
                f"{self.name} {operation}: not started", outcome=Outcome.NOT_SENT, code="closed"
            )
        stamp = None if window is None else window.timestamp_ms
        call = Call(operation, creating=creating, stamp_ms=stamp, headers=headers or {})
        return map_exceptions(self.name, self._book, call, self._redact)


def _ours(report: OrderReport, request: OrderRequest) -> OrderReport:
    """Refuse to take another order's report for ours."""
    if report.client_order_id != request.client_order_id:
        raise IncompleteReplyError("the reply is about another client order id")
    return report
