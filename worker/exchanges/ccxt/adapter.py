"""The real exchanges, through ccxt: one adapter, with what differs between them in small methods.

ccxt knows every exchange's dialect (symbols, signatures, parsers); everything that decides whether
an order is sent once is ours: deadlines, outcomes, rounding, budgets, connections.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from http import HTTPStatus
from typing import Any, ClassVar, Final

import msgspec

from worker.config.keys import ExchangeConfig
from worker.domain.market import Balance, ExchangePosition, MarketKind, SymbolInfo, Ticker
from worker.domain.order import Fill, OrderReport, OrderRequest, Role
from worker.domain.plausibility import check_fills, check_names, check_report
from worker.exchanges.budget.classes import RequestClass, class_of, look_up_class, wished
from worker.exchanges.ccxt import readings
from worker.exchanges.ccxt.absence import check_holds, listed_rows
from worker.exchanges.ccxt.connection import CCXTConnection
from worker.exchanges.ccxt.outcomes import IncompleteReplyError, LocalRefusalError
from worker.exchanges.ccxt.paging import Row
from worker.exchanges.ccxt.polling import Polls
from worker.exchanges.ccxt.rounding import WireOrder, wire_order
from worker.exchanges.errors import ExchangeError, OrderNotFoundError, Outcome
from worker.exchanges.findings import AccountFinding, refuse_unusable, warn
from worker.exchanges.ports import ExchangeAdapter, Resend, SendWindow
from worker.runtime.clock import Clock

#: What is unknown of an order that a triggered conditional order has placed out of sight.
_PROGRESS: Final = ("filled", "remaining", "average", "cost", "trades")


class CCXTAdapter(CCXTConnection, ExchangeAdapter):
    """Any ccxt exchange. Without knowledge of its deadlines nothing is ever sent twice.

    A look-up says "not found" only where the exchange does: by a code, or by a reply without rows.
    Rows that cannot be read leave the answer open.

    An exchange's own adapter overrides the methods whose names begin with one underscore and that
    have a default here or in :class:`CCXTConnection`.

    Args:
        name: the exchange's name in configuration and in signals.
        config: where it is and who we are; without ``api_key`` only public data can be had.
        clock: this machine's clocks.
    """

    resend = Resend.NEVER
    #: Where a reply lists positions; None if that is not known.
    _positions_at: ClassVar[tuple[str, ...] | None] = None
    #: Where a reply has balances, at one of these places; none if that is not known.
    _balances_at: ClassVar[tuple[tuple[str, ...], ...]] = ()
    #: Whether many live orders of a symbol are polled by one listing of its open orders.
    lists_polls: ClassVar[bool] = True

    def __init__(self, name: str, config: ExchangeConfig, clock: Clock) -> None:
        super().__init__(name, config, clock)
        self._polls = Polls(self._list_open, clock)

    async def start(self) -> None:
        """Load markets, measure the clock, check the account, connect what orders go over.

        Closes itself on failure; ``findings`` stay.

        Raises:
            ExchangeError: the exchange cannot be used, or not with the account's settings.
        """
        self.findings = ()
        try:
            if self._ccxt is None:
                self._open()
            await self.measure_clock()
            await self._load_markets()
            if self._config.api_key:
                for kind in self.wallets:
                    await self.get_balance(kind)
                await self.refresh_findings()
                refuse_unusable(self.name, self.findings)
                await self._connect()
        except BaseException:
            await self.close()
            raise

    async def _connect(self) -> None:
        """Open the connections that only orders go over, where there are any."""

    # ---- the account's settings ---------------------------------------------------------------

    async def refresh_findings(self) -> tuple[AccountFinding, ...]:
        """Read the account's settings again, and return ``findings``; a failed one only shows."""
        if self._config.api_key:
            with self._boundary("account_settings"):
                self.findings = tuple([one async for one in self._read_account()])
        return self.findings

    async def _read_account(self) -> AsyncIterator[AccountFinding]:
        """Yield what the exchange says of the settings that orders depend on."""
        none: tuple[AccountFinding, ...] = ()
        for finding in none:
            yield finding

    async def _setting(
        self, name: str, ask: Callable[[dict[str, Any]], Awaitable[Any]], **query: Any
    ) -> Any:
        """Return the reply to a question about the account; a finding if it is not answered.

        Sandboxes leave some calls out (HTTP 404), and a key may not be allowed to ask. Orders are
        then refused as they would be without having asked: that keeps no exchange from starting.
        """
        boundary = self._boundary("account_settings")
        call = None
        try:
            with boundary as call:
                return await ask(query)
        except ExchangeError as error:
            is_missing = call is not None and call.status == HTTPStatus.NOT_FOUND
            if not is_missing and (error.outcome is not Outcome.REFUSED or error.transient):
                raise
            return warn(name, f"cannot be read here: {error}")

    # ---- orders -----------------------------------------------------------------------------

    def open_window(self) -> SendWindow:
        """Fix the time in which the exchange may accept the next create request."""
        return self._exchange_time.window(self._config.recv_window_ms)

    def take_turn(self, within_ms: float, request: OrderRequest | None = None) -> float:
        """Take an order's turn by the exchange's limits and ``max_orders_per_second``."""
        if request is None:
            return self.request_gate.take_turn("", RequestClass.ENTRY, (), within_ms)
        info = self._infos.get(request.symbol)
        charges = self.table.order(request, info)
        request_class = class_of(request)
        is_entry = request_class is RequestClass.ENTRY
        cover = self.table.cover(request, info) if is_entry else ()
        key = request.client_order_id
        return self.request_gate.take_turn(key, request_class, charges, within_ms, cover)

    async def place_order(self, request: OrderRequest, window: SendWindow) -> OrderReport:
        """Send ``request`` once and now, carrying ``window``; never retried inside."""
        headers = self._deadline_headers(window)
        with self._boundary(
            "create_order", class_of(request), creating=True, window=window, headers=headers
        ) as call:
            info = self._info(request.symbol)
            if info.limit_only and not request.order_type.needs_price:
                raise LocalRefusalError(
                    f"{info.symbol} takes no {request.order_type} orders now: {info.restriction}"
                )
            order = wire_order(request, info)
            params = self._order_params(request, info) | self._deadline_params(window)
            if order.stop_price is not None:
                params |= self._trigger_params(request, info, order.stop_price)
            await self._reach(info)
            if self._clock.monotonic_ms() >= window.expires_mono_ms:
                raise ExchangeError(
                    f"{self.name} create_order: the send window is over",
                    outcome=Outcome.NOT_SENT,
                    code="window_over",
                )
            self.request_gate.send_order(
                request.client_order_id, call.request_class, self.table.order(request, info)
            )
            call.prepaid = 1
            reply = await self._create(request, order, params)
            return self._ours(reply, info, request)

    def _ours(self, order: Row, info: SymbolInfo, request: OrderRequest) -> OrderReport:
        """Return the report of a ccxt order; raises if it is about another, or cannot be true."""
        report = readings.order_report(self._corrected(order), info, request)
        if report.client_order_id != request.client_order_id:
            raise IncompleteReplyError("the reply is about another client order id")
        check_names(order, request, self._infos)
        return report

    def _corrected(self, order: Row) -> Row:
        """Return a ccxt order with what ccxt loses of the exchange's own row."""
        return order

    async def _create(
        self, request: OrderRequest, order: WireOrder, params: dict[str, Any]
    ) -> Mapping[str, Any]:
        reply: Mapping[str, Any] = await self._ccxt.create_order(
            request.symbol, order.kind, request.side.value, order.amount, order.price, params
        )
        return reply

    async def _reach(self, info: SymbolInfo) -> None:
        """Wait a moment for the connection an order of this market goes over.

        Only exchanges that keep one override this: REST connects while it sends.
        """

    def _order_params(self, request: OrderRequest, info: SymbolInfo) -> dict[str, Any]:
        """Return id, time in force, post-only and reduce-only as ccxt's unified parameters."""
        params: dict[str, Any] = {"clientOrderId": request.client_order_id}
        if request.post_only:  # ccxt writes a kind of order, or a time in force, of its own
            params["postOnly"] = True
        elif request.time_in_force is not None and request.order_type.needs_price:
            params["timeInForce"] = request.time_in_force.value
        if request.reduce_only and info.kind is MarketKind.LINEAR:
            params["reduceOnly"] = True
        return params

    def _deadline_params(self, window: SendWindow) -> dict[str, Any]:
        """Return the parameters with which the exchange enforces ``window``."""
        return {}

    def _deadline_headers(self, window: SendWindow) -> dict[str, str]:
        """Return the headers with which the exchange enforces ``window``."""
        return {}

    def _trigger_params(
        self,
        request: OrderRequest,
        info: SymbolInfo,
        stop_price: str,
    ) -> dict[str, Any]:
        """Return the trigger of a stop order; a take-profit's lies on the other side."""
        name = "takeProfitPrice" if request.role is Role.TAKE_PROFIT else "stopLossPrice"
        return {name: stop_price}

    async def cancel_order(self, request: OrderRequest, exchange_order_id: str = "") -> None:
        """Ask for cancellation by client id (or exchange id where only that works)."""
        with self._boundary("cancel_order", RequestClass.CLOSING):
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
        wish = wished()
        if wish is not None and wish.request_class is RequestClass.POLL and self.lists_polls:
            listed = await self._polls.find(request)
            if listed is not None:
                with self._boundary("get_order", RequestClass.POLL):
                    check_report(listed, request, self._info(request.symbol))
                return listed
        with self._boundary("get_order", look_up_class()):
            info = self._info(request.symbol)
            order = await self._look_up(request, exchange_order_id)
            return self._ours(order, info, request)

    async def _look_up(self, request: OrderRequest, exchange_order_id: str) -> Mapping[str, Any]:
        """Return the order by client id: conditional orders have exchange ids of their own."""
        params: dict[str, Any] = {"clientOrderId": request.client_order_id}
        if not self._is_conditional(request):
            plain: Mapping[str, Any] = await self._ccxt.fetch_order(None, request.symbol, params)
            return plain
        order = await self._ccxt.fetch_order(None, request.symbol, params | {"trigger": True})
        order = self._corrected(order)
        # Some exchanges answer for conditional orders without our id.
        named = order.get("clientOrderId") or request.client_order_id
        return await self._follow(request, {**order, "clientOrderId": named})

    def _is_conditional(self, request: OrderRequest) -> bool:
        """Return True if the exchange keeps the order apart from ordinary ones, as conditional."""
        return False

    def _child_id(self, order: Mapping[str, Any]) -> str:
        """Return the id of the order that a triggered conditional order placed; empty if none."""
        return ""

    async def _follow(self, request: OrderRequest, order: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the triggered order's progress under the conditional order's id and time."""
        if child := self._child_id(order):
            # A child that is not visible yet must not read as "your order is not there".
            with contextlib.suppress(OrderNotFoundError), self._boundary("get_order"):
                placed = self._corrected(await self._ccxt.fetch_order(child, request.symbol))
                kept = {name: order.get(name) for name in ("clientOrderId", "timestamp")}
                return {**placed, **kept}
        if order.get("status") == "closed":  # triggered, and what it places is not there yet
            # ccxt takes "closed" without a filled quantity for filled; nothing is known to be.
            return {**order, "status": "open"} | dict.fromkeys(_PROGRESS)
        return order

    async def get_open_orders(self, symbol: str | None = None) -> list[OrderReport]:
        """Return all open orders of the account, or of one symbol, in the configured markets."""
        with self._boundary("get_open_orders"):
            reports: dict[str, OrderReport] = {}
            async for order in self._open_orders(symbol):
                if not order.get("symbol"):
                    raise IncompleteReplyError("an open order is listed without its market")
                info = self._infos.get(str(order["symbol"]))
                if info is not None:  # other markets are not configured
                    report = readings.order_report(self._corrected(order), info)
                    reports[report.exchange_order_id] = report
            return list(reports.values())

    async def _list_open(self, symbol: str) -> Mapping[str, OrderReport]:
        """Return a symbol's open orders by client order id."""
        with self._boundary("get_order", RequestClass.POLL):
            found = await self.get_open_orders(symbol)
        return {report.client_order_id: report for report in found if report.client_order_id}

    async def _open_orders(self, symbol: str | None) -> AsyncIterator[Mapping[str, Any]]:
        for order in await self._ccxt.fetch_open_orders(symbol):
            yield order

    async def get_trades(self, request: OrderRequest, report: OrderReport) -> tuple[Fill, ...]:
        """Return the fills of one order with their fees, oldest first."""
        with self._boundary("get_trades", RequestClass.POLL):
            trades = await self._trades(request, report)
            mine = [t for t in trades if t.get("order") in {None, report.exchange_order_id}]
            for trade in mine:
                check_names(trade, request, self._infos)
            info = self._info(request.symbol)
            check_fills(fills := readings.fills(mine, info), request, info)
            return fills

    async def _trades(self, request: OrderRequest, report: OrderReport) -> Iterable[Row]:
        rows: Iterable[Row] = await self._ccxt.fetch_my_trades(
            request.symbol, report.created_ms or None
        )
        return rows

    async def get_balance(self, kind: MarketKind = MarketKind.SPOT) -> Mapping[str, Balance]:
        """Return the holdings by currency in the wallet that pays for ``kind``."""
        with self._boundary("get_balance", RequestClass.MARKET) as call:
            reply = await self._ccxt.fetch_balance(self._wallet_params(kind))
            check_holds(call.body, *self._balances_at)
            return readings.balances(reply)

    def _wallet_params(self, kind: MarketKind) -> dict[str, Any]:
        """Return the parameters that select the wallet; none where one wallet pays for all."""
        return {}

    async def get_positions(self) -> list[ExchangePosition]:
        """Return the open derivative positions; spot holdings are balances, not positions."""
        if MarketKind.LINEAR not in self._config.market_types:
            return []
        with self._boundary("get_positions") as call:
            positions = []
            for params in self._positions_params():
                rows = await self._ccxt.fetch_positions(None, params)
                if self._positions_at is not None:  # ccxt takes whatever is no list for none
                    listed_rows(msgspec.json.decode(call.body or b"null"), *self._positions_at)
                for row in rows:
                    if not row.get("symbol") or row.get("contracts") is None:
                        raise IncompleteReplyError("a position is listed without market or size")
                    info = self._infos.get(str(row["symbol"]))
                    if info is not None and (held := readings.position(row, info)) is not None:
                        positions.append(held)
            return positions

    def _positions_params(self) -> Iterable[dict[str, Any]]:
        """Return the parameters of every request that all positions together take."""
        return ({},)

    async def get_ticker(self, symbol: str) -> Ticker:
        """Return the market's price now."""
        with self._boundary("get_ticker", RequestClass.MARKET):
            self._info(symbol)
            row = await self._ccxt.fetch_ticker(symbol)
            return self._price(row, symbol)

    def _price(self, row: Mapping[str, Any], symbol: str) -> Ticker:
        return readings.ticker(row, symbol, self._clock.now_ms(), self.now_ms())

    async def get_tickers(self, symbols: Iterable[str]) -> dict[str, Ticker]:
        """Return the prices of several symbols, one call each."""
        wanted = [symbol for symbol in symbols if symbol in self._infos]
        answers = await asyncio.gather(
            *(self.get_ticker(symbol) for symbol in wanted), return_exceptions=True
        )
        tickers: dict[str, Ticker] = {}
        failures: list[BaseException] = []
        for symbol, answer in zip(wanted, answers, strict=True):
            if isinstance(answer, BaseException):
                failures.append(answer)
            else:
                tickers[symbol] = answer
        for failure in failures:
            if not tickers or not isinstance(failure, ExchangeError):
                raise failure
        return tickers


#: The adapter of every exchange without a folder of its own.
ADAPTER: Final = CCXTAdapter
