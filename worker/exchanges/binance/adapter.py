"""Binance spot and USDⓈ-M perpetuals behind one adapter.

Deadlines: a request is refused once ``timestamp + recvWindow`` has passed, and the matching engine
checks again (https://developers.binance.com/docs/binance-spot-api-docs/rest-api/request-security).
Client order ids are unique among open orders only, so an order found must also be young enough.
With ``order_transport = "websocket"`` orders are created over one WebSocket for each market kind;
everything else stays on REST.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Mapping
from decimal import Decimal
from typing import Any, Final

import msgspec

from worker.config.keys import ExchangeConfig
from worker.domain.market import MarketKind, SymbolInfo, Ticker
from worker.domain.order import OrderReport, OrderRequest
from worker.domain.plausibility import ImplausibleError
from worker.exchanges.binance import account
from worker.exchanges.binance.codes import BinanceCodes
from worker.exchanges.binance.frames import over_sockets
from worker.exchanges.binance.limits import BinanceLimits
from worker.exchanges.binance.order_socket import OrderSocket, running_call
from worker.exchanges.budget.classes import RequestClass
from worker.exchanges.ccxt import readings
from worker.exchanges.ccxt.absence import listed_rows
from worker.exchanges.ccxt.adapter import CCXTAdapter
from worker.exchanges.ccxt.loading import exchange_class
from worker.exchanges.ccxt.outcomes import IncompleteReplyError
from worker.exchanges.ccxt.paging import Page, Row, read_pages
from worker.exchanges.ccxt.rounding import WireOrder
from worker.exchanges.errors import ExchangeError, InvalidOrderError, RateLimitError
from worker.exchanges.findings import AccountFinding, key_exposure
from worker.exchanges.ports import Resend, SendWindow
from worker.runtime.clock import Clock

#: The longest an order waits for a connection: halt and expiry were checked before.
LONGEST_REACH_MS: Final = 250.0
#: The most trades one reply can hold.
_TRADES: Final = 1_000
#: ccxt parameters that select the wallet and the API of a call without a symbol.
_SCOPES: Final[Mapping[MarketKind, dict[str, str]]] = {
    MarketKind.SPOT: {"type": "spot"},
    MarketKind.LINEAR: {"type": "swap", "subType": "linear"},
}


#: Statuses of orders that can still trade and that ccxt passes on untranslated. ``PENDING_NEW``:
#: part of an order list, waiting for the order before it.
_WORKING: Final = frozenset({"PENDING_NEW", "NEW_INSURANCE", "NEW_ADL"})


class BinanceCCXTAdapter(CCXTAdapter):
    """Binance; ``BTC/USDT`` is spot, ``BTC/USDT:USDT`` the USDⓈ-M perpetual.

    Futures stop orders live in a book of their own (``/fapi/v1/algoOrder``, ``clientAlgoId``) and
    place an ordinary order when triggered; they are followed through to that order.
    """

    resend = Resend.AFTER_DEADLINE
    _codes = BinanceCodes()
    _balances_at = (("balances",), ("assets",))
    _positions_at = ()
    _limits = BinanceLimits

    def __init__(self, name: str, config: ExchangeConfig, clock: Clock) -> None:
        super().__init__(name, config, clock)
        # Money in one wallet cannot pay in the other.
        self.wallets = config.market_types
        self.keeps_order_connection = config.order_transport == "websocket"
        self._sockets: dict[str, OrderSocket] = {}

    def _ccxt_class(self) -> type[Any]:
        if not self.keeps_order_connection:
            return super()._ccxt_class()
        return over_sockets(exchange_class(self.ccxt_id, pro=True), self._sockets)

    async def _connect(self) -> None:
        if not self.keeps_order_connection or self._session is None:
            return
        timeout_ms = self._config.timeout_ms
        for url in map(self._socket_url, self._config.market_types):
            if url not in self._sockets:  # a second start keeps what there is
                socket = OrderSocket(
                    self.name, url, self._session, timeout_ms, self._clock, self.request_gate
                )
                self._sockets[url] = socket
        await asyncio.gather(*(socket.settled(timeout_ms) for socket in self._sockets.values()))

    async def close(self) -> None:
        """Close every connection; idempotent."""
        sockets = list(self._sockets.values())
        self._sockets.clear()
        await asyncio.gather(*(socket.close() for socket in sockets))
        await super().close()

    def _socket_url(self, kind: MarketKind) -> str:
        return str(self._ccxt.urls["api"]["ws"]["ws-api"][str(kind)])

    def _options(self) -> dict[str, Any]:
        return {
            "fetchMarkets": {"types": [str(kind) for kind in self._config.market_types]},
            "fetchCurrencies": False,
            "fetchMargins": False,
            "warnOnFetchOpenOrdersWithoutSymbol": False,
            "recvWindow": self._config.recv_window_ms,
        }

    def _symbol_info(
        self, market: Mapping[str, Any], kind: MarketKind, precision_mode: int
    ) -> SymbolInfo:
        if not market["info"].get("baseAsset"):
            raise IncompleteReplyError("it has no baseAsset")  # ccxt takes the symbol for it
        return super()._symbol_info(market, kind, precision_mode)

    def _use_sandbox(self) -> None:
        # The futures testnet is closed to ccxt; demo trading serves spot and futures alike.
        if MarketKind.LINEAR in self._config.market_types:
            self._ccxt.enable_demo_trading(True)
        else:
            self._ccxt.set_sandbox_mode(True)

    async def _fetch_time(self) -> Any:
        return await self._ccxt.fetch_time(dict(_SCOPES[self._config.market_types[0]]))

    # ---- orders -----------------------------------------------------------------------------

    def _deadline_params(self, window: SendWindow) -> dict[str, Any]:
        return {"timestamp": window.timestamp_ms, "recvWindow": window.valid_ms}

    async def _create(
        self, request: OrderRequest, order: WireOrder, params: dict[str, Any]
    ) -> Mapping[str, Any]:
        if self.keeps_order_connection:
            result = await self._ccxt.create_order_ws(
                request.symbol, order.kind, request.side.value, order.amount, order.price, params
            )
            reply = self._ccxt.parse_order(result, self._ccxt.market(request.symbol))
        else:
            reply = await super()._create(request, order, params)
        # A stop order's ``workingTime`` is -1 until it triggers, and ccxt prefers it.
        accepted = (reply.get("info") or {}).get("transactTime") or reply.get("timestamp")
        return {**reply, "timestamp": accepted}

    async def _reach(self, info: SymbolInfo) -> None:
        if self._sockets:
            await self._sockets[self._socket_url(info.kind)].settled(LONGEST_REACH_MS)

    @property
    def obstacle(self) -> str:
        """The WebSockets that are not connected, and why; empty if all are."""
        return "; ".join(filter(None, (socket.obstacle for socket in self._sockets.values())))

    def _is_conditional(self, request: OrderRequest) -> bool:
        info = self._infos.get(request.symbol)
        linear = info is not None and info.kind is MarketKind.LINEAR
        return linear and request.order_type.needs_stop_price

    def _child_id(self, order: Mapping[str, Any]) -> str:
        child = str((order.get("info") or {}).get("actualOrderId") or "")
        return "" if child == "0" else child

    async def _open_orders(self, symbol: str | None) -> AsyncIterator[Mapping[str, Any]]:
        for kind in self._kinds(symbol):
            scopes = [_scope(kind)]
            if kind is MarketKind.LINEAR:
                scopes.append(_scope(kind) | {"trigger": True})
            for scope in scopes:
                orders = await self._ccxt.fetch_open_orders(symbol, None, None, scope)
                # ccxt takes whatever is no list for none.
                listed_rows(msgspec.json.decode(running_call().body or b"null"))
                for order in orders:
                    yield order

    def _kinds(self, symbol: str | None) -> Iterable[MarketKind]:
        return self._config.market_types if symbol is None else (self._info(symbol).kind,)

    async def _trades(self, request: OrderRequest, report: OrderReport) -> Iterable[Row]:
        async def ask(from_id: str) -> Page:
            params = {"orderId": report.exchange_order_id}
            if from_id:
                params["fromId"] = from_id
            rows = await self._ccxt.fetch_my_trades(request.symbol, None, _TRADES, params)
            if not from_id:
                return Page(rows, "0")  # the newest there are: if not all, begin with the oldest
            return Page(rows, str(1 + max((int(row["id"]) for row in rows), default=0)))

        return await read_pages(f"{self.name} get_trades", _TRADES, ask)

    def _corrected(self, order: Mapping[str, Any]) -> Mapping[str, Any]:
        raw = (order.get("info") or {}).get("status")
        return {**order, "status": "open"} if raw in _WORKING else order

    # ---- account and market -------------------------------------------------------------------

    async def _read_account(self) -> AsyncIterator[AccountFinding]:
        api, kinds = self._ccxt, self._config.market_types
        found: list[Iterable[AccountFinding]] = []

        async def ask(name: str, call: Any, read: Any, *more: Any, **query: Any) -> None:
            reply = await self._setting(name, call, **query)
            found.append([reply] if isinstance(reply, AccountFinding) else read(reply, *more))

        if MarketKind.LINEAR in kinds:
            ids = {
                str(api.market(info.symbol)["id"])
                for info in self._infos.values()
                if info.kind is MarketKind.LINEAR and info.active
            }
            mode = api.fapiPrivateGetPositionSideDual
            await ask("position mode", mode, account.position_mode)
            config = api.fapiPrivateGetAccountConfig
            await ask("futures account", config, account.futures_account)
            settings = api.fapiPrivateGetSymbolConfig
            await ask("leverage", settings, account.symbol_settings, ids)
        if MarketKind.SPOT in kinds:
            query = {"omitZeroBalances": "true"}
            await ask("permissions", api.privateGetAccount, account.spot_account, **query)
        if self._config.sandbox:  # has no /sapi
            found.append(key_exposure(may_withdraw=None, is_bound=None))
        else:
            rights = api.sapiGetAccountApiRestrictions
            await ask("permissions", rights, account.key_rights, kinds)
        for findings in found:
            for finding in findings:
                yield finding

    def _wallet_params(self, kind: MarketKind) -> dict[str, Any]:
        return _scope(kind)

    def _positions_params(self) -> Iterable[dict[str, Any]]:
        return ({"subType": "linear"},)

    async def get_ticker(self, symbol: str) -> Ticker:
        """Return best bid and ask, and their mean as ``last`` (one light call on both markets).

        Where that call fails, the price comes from the day's statistics.
        """
        try:
            with self._boundary("get_ticker", RequestClass.MARKET):
                info = self._info(symbol)
                market_id = self._ccxt.market(symbol)["id"]
                row = await self._book_tickers(info.kind, {"symbol": market_id})
                return self._quote(row, info)
        except RateLimitError:
            raise
        except ExchangeError:
            return await super().get_ticker(symbol)

    async def get_tickers(self, symbols: Iterable[str]) -> dict[str, Ticker]:
        """Return prices as :meth:`get_ticker` does, in one call for each market kind."""
        wanted: dict[MarketKind, list[str]] = {}
        for symbol in symbols:
            info = self._infos.get(symbol)
            if info is not None:
                wanted.setdefault(info.kind, []).append(symbol)
        return await self._groups(*wanted.items())

    async def _groups(self, *groups: tuple[MarketKind, list[str]]) -> dict[str, Ticker]:
        """Return the prices of all groups that can be read; a failed group does not hide others."""
        tickers: dict[str, Ticker] = {}
        failure: ExchangeError | None = None
        for kind, group in groups:
            try:
                tickers |= await self._tickers(kind, group)
            except RateLimitError:
                raise
            except ExchangeError as error:
                failure = error
        if failure is not None and not tickers:
            raise failure
        return tickers

    async def _tickers(self, kind: MarketKind, group: list[str]) -> dict[str, Ticker]:
        if len(group) == 1:
            return {group[0]: await self.get_ticker(group[0])}
        tickers: dict[str, Ticker] = {}
        try:
            tickers = await self._quotes(kind, group)
        except RateLimitError:
            raise
        except InvalidOrderError:
            # The list is refused for a symbol in it that is not listed any more: -1121.
            half = len(group) // 2
            return await self._groups((kind, group[:half]), (kind, group[half:]))
        except ExchangeError:
            pass
        missing = [symbol for symbol in group if symbol not in tickers]
        if not missing:
            return tickers
        try:
            return tickers | await self._day_tickers(missing)
        except ExchangeError:
            if not tickers:
                raise
            return tickers

    async def _quotes(self, kind: MarketKind, group: list[str]) -> dict[str, Ticker]:
        with self._boundary("get_ticker", RequestClass.MARKET):
            ids = {self._ccxt.market(symbol)["id"]: symbol for symbol in group}
            spot = kind is MarketKind.SPOT
            params = {"symbols": msgspec.json.encode(list(ids)).decode()} if spot else {}
            tickers: dict[str, Ticker] = {}
            for row in await self._book_tickers(kind, params):
                known = ids.get(row.get("symbol"))
                if known is not None:
                    # Nobody quotes it now, or not with a price that can be one.
                    with contextlib.suppress(IncompleteReplyError, ImplausibleError):
                        tickers[known] = self._quote(row, self._infos[known])
            return tickers

    async def _day_tickers(self, group: list[str]) -> dict[str, Ticker]:
        with self._boundary("get_ticker", RequestClass.MARKET):
            rows = await self._ccxt.fetch_tickers(group)
            tickers: dict[str, Ticker] = {}
            for symbol in rows:
                with contextlib.suppress(IncompleteReplyError, ImplausibleError):
                    tickers[symbol] = self._price(rows[symbol], symbol)
            return tickers

    async def _book_tickers(self, kind: MarketKind, params: dict[str, str]) -> Any:
        if kind is MarketKind.SPOT:
            return await self._ccxt.publicGetTickerBookTicker(params)
        return await self._ccxt.fapiPublicGetTickerBookTicker(params)

    def _quote(self, row: Any, info: SymbolInfo) -> Ticker:
        if not isinstance(row, dict):
            raise IncompleteReplyError(f"no quote for {info.symbol}")
        sides: dict[str, Decimal] = {
            "bid": readings.decimal(row.get("bidPrice"), "bidPrice"),
            "ask": readings.decimal(row.get("askPrice"), "askPrice"),
        }
        return self._price(sides, info.symbol)


def _scope(kind: MarketKind) -> dict[str, Any]:
    return dict(_SCOPES[kind])


ADAPTER: Final = BinanceCCXTAdapter
