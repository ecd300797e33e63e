"""Bybit v5 (unified account): spot, and perpetuals settled in USDT and USDC.

A request is refused once ``recv_window`` has passed since its timestamp
(https://bybit-exchange.github.io/docs/v5/guide#parameters-for-authenticated-endpoints), and a
repeated ``orderLinkId`` is refused. A create reply holds ids only and does not mean that the
matching engine took the order.
"""

from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any, Final

import msgspec

from worker.domain.market import MarketKind, SymbolInfo
from worker.domain.order import OrderReport, OrderRequest, Role, Side
from worker.exchanges.bybit.account import key_findings, margin_findings, position_findings
from worker.exchanges.bybit.codes import BybitCodes
from worker.exchanges.bybit.limits import BybitLimits
from worker.exchanges.ccxt import readings
from worker.exchanges.ccxt.absence import listed_rows, pick
from worker.exchanges.ccxt.adapter import CCXTAdapter
from worker.exchanges.ccxt.codes import field
from worker.exchanges.ccxt.paging import Page, Row, read_pages
from worker.exchanges.errors import OrderNotFoundError, Outcome
from worker.exchanges.findings import AccountFinding
from worker.exchanges.ports import Resend

_PAGE = 50
_REASONS: Final[Mapping[str, str]] = {"CancelByUser": readings.OWN_REQUEST}
_NO_REASON: Final = frozenset({"", "EC_NoError", "UNKNOWN"})
#: The most executions one reply can hold.
_EXECUTIONS: Final = 100


class BybitCCXTAdapter(CCXTAdapter):
    """Bybit; look-ups go through the lists of open, then of closed orders."""

    resend = Resend.AFTER_DEADLINE
    _codes = BybitCodes()
    _balances_at = (("result", "list"),)
    _limits = BybitLimits
    _positions_at = ("result", "list")

    def _options(self) -> dict[str, Any]:
        return {
            "fetchMarkets": {"types": [str(kind) for kind in self._config.market_types]},
            # ccxt signs with this option and with the window's time, see ``_exchange_ms``.
            "recvWindow": self._config.recv_window_ms,
        }

    async def _load_markets(self) -> None:
        await super()._load_markets()
        if self._config.api_key:
            # Otherwise the first order asks for the kind of account, inside its window.
            with self._boundary("account_kind"):
                await self._ccxt.is_unified_enabled()

    def _trigger_params(
        self, request: OrderRequest, info: SymbolInfo, stop_price: str
    ) -> dict[str, Any]:
        """Return a plain trigger: ccxt's ``stopLossPrice`` makes every stop order reduce-only."""
        params = {"triggerPrice": stop_price}
        if info.kind is MarketKind.LINEAR:
            rising = (request.side is Side.BUY) != (request.role is Role.TAKE_PROFIT)
            params["triggerDirection"] = "ascending" if rising else "descending"
        return params

    def _named(self, request: OrderRequest) -> dict[str, Any]:
        params: dict[str, Any] = {"orderLinkId": request.client_order_id}
        info = self._infos.get(request.symbol)
        if info and info.kind is MarketKind.SPOT and request.order_type.needs_stop_price:
            params["trigger"] = True  # spot lists conditional orders apart until they trigger
        return params

    async def _read_account(self) -> AsyncIterator[AccountFinding]:
        kinds, api = self._config.market_types, self._ccxt
        key = await self._setting("permissions", api.privateGetV5UserQueryApi)
        account = await self._setting("margin mode", api.privateGetV5AccountInfo)
        replies = [(key, key_findings(key, kinds)), (account, margin_findings(account))]
        if (symbol := self._probe()) is not None:
            query = {"category": "linear", "symbol": api.market(symbol)["id"]}
            held = await self._setting("position mode", api.privateGetV5PositionList, **query)
            replies.append((held, position_findings(held, symbol)))
        for reply, found in replies:
            for finding in [reply] if isinstance(reply, AccountFinding) else found:
                yield finding

    def _probe(self) -> str | None:
        """Return the perpetual whose position mode is read: every coin's can be set, for USDT."""
        linear = [info for info in self._infos.values() if info.kind is MarketKind.LINEAR]
        usual = [info.symbol for info in linear if info.settle == "USDT" and info.active]
        return "BTC/USDT:USDT" if "BTC/USDT:USDT" in usual else next(iter(usual), None)

    def _symbol_info(
        self, market: Mapping[str, Any], kind: MarketKind, precision_mode: int
    ) -> SymbolInfo:
        info = super()._symbol_info(market, kind, precision_mode)
        lots = market["info"].get("lotSizeFilter") or {}
        # Of perpetuals ``maxMktOrderQty``, of spot ``maxMarketOrderQty``.
        at_market = readings.decimal(lots.get("maxMktOrderQty") or lots.get("maxMarketOrderQty"))
        most = readings.decimal(lots.get("maxOrderQty") or lots.get("maxLimitOrderQty"))
        return msgspec.structs.replace(
            info,
            max_quantity=most * info.contract_size or info.max_quantity,
            max_market_quantity=at_market * info.contract_size,
        )

    def _corrected(self, order: Mapping[str, Any]) -> Mapping[str, Any]:
        return _ended_early(order)

    async def _look_up(self, request: OrderRequest, exchange_order_id: str) -> Mapping[str, Any]:
        market = self._ccxt.market(request.symbol)
        query = {
            "category": "spot" if market["spot"] else "linear",
            "symbol": market["id"],
            "orderLinkId": request.client_order_id,
        }
        # Spot lists conditional orders apart until they trigger.
        is_apart = "trigger" in self._named(request)
        for scope in [{"orderFilter": "StopOrder"}, {}] if is_apart else [{}]:
            for ask in (self._ccxt.privateGetV5OrderRealtime, self._ccxt.privateGetV5OrderHistory):
                rows = listed_rows(await ask(query | scope), "result", "list")
                orders = [self._ccxt.parse_order(row, market) for row in rows]
                found = pick(orders, request.client_order_id)
                if found is not None:
                    return found
        raise OrderNotFoundError(
            f"{self.name} get_order: no open or closed order has this client id",
            outcome=Outcome.REFUSED,
            code="not_listed",
        )

    async def _cancel(self, request: OrderRequest, exchange_order_id: str) -> None:
        await self._ccxt.cancel_order(None, request.symbol, self._named(request))

    async def _open_orders(self, symbol: str | None) -> AsyncIterator[Mapping[str, Any]]:
        for scope in self._open_scopes(symbol):

            async def ask(cursor: str, scope: dict[str, Any] = scope) -> Page:
                more = {"cursor": cursor} if cursor else {}
                reply = await self._ccxt.privateGetV5OrderRealtime(scope | more)
                rows = listed_rows(reply, "result", "list")
                return Page(rows, str(reply["result"].get("nextPageCursor") or ""))

            kind = "spot" if scope["category"] == "spot" else "swap"
            for row in await read_pages(f"{self.name} get_open_orders", _PAGE, ask):
                market = self._ccxt.safe_market(field(row, "symbol"), None, None, kind)
                yield self._ccxt.parse_order(row, market)

    def _open_scopes(self, symbol: str | None) -> Iterable[dict[str, Any]]:
        """Yield the queries whose replies are all open orders, of one symbol or of all.

        Perpetuals are listed by one settle currency at a time, conditional spot orders apart.
        """
        kinds = self._config.market_types if symbol is None else (self._info(symbol).kind,)
        for kind in kinds:
            spot = kind is MarketKind.SPOT
            scope: dict[str, Any] = {"category": "spot" if spot else "linear", "limit": _PAGE}
            if symbol is not None:
                scope["symbol"] = self._ccxt.market(symbol)["id"]
            if spot:
                yield scope
                yield scope | {"orderFilter": "StopOrder"}
            elif symbol is not None:
                yield scope
            else:
                for currency in self._settle_currencies():
                    yield scope | {"settleCoin": currency}

    def _settle_currencies(self) -> list[str]:
        linear = (info for info in self._infos.values() if info.kind is MarketKind.LINEAR)
        return sorted({info.settle for info in linear})

    async def _trades(self, request: OrderRequest, report: OrderReport) -> Iterable[Row]:
        market = self._ccxt.market(request.symbol)
        query = {
            "category": "spot" if market["spot"] else "linear",
            "symbol": market["id"],
            "orderId": report.exchange_order_id,
            "execType": "Trade",
            "limit": _EXECUTIONS,
        }

        async def ask(cursor: str) -> Page:
            more = {"cursor": cursor} if cursor else {}
            result = (await self._ccxt.privateGetV5ExecutionList(query | more))["result"]
            executions = [_with_fee_coin(execution) for execution in result["list"]]
            rows = self._ccxt.parse_trades(executions, market)
            return Page(rows, str(result.get("nextPageCursor") or ""))

        return await read_pages(f"{self.name} get_trades", _EXECUTIONS, ask)

    def _positions_params(self) -> Iterable[dict[str, Any]]:
        # Bybit answers for one settle currency at a time.
        for currency in self._settle_currencies():
            yield {"subType": "linear", "settleCoin": currency}


def _with_fee_coin(execution: Mapping[str, Any]) -> Mapping[str, Any]:
    """Name the fee's currency as ccxt looks for it: without that name it guesses base or quote."""
    named = execution.get("feeCurrency")
    return {**execution, "feeCoin": named} if named else execution


def _ended_early(order: Mapping[str, Any]) -> Mapping[str, Any]:
    """Mark a partly filled, then cancelled order as cancelled, which ccxt reports as filled.

    Why it was cancelled or rejected becomes its reason.
    """
    row = order.get("info")
    if not isinstance(row, dict):
        return order
    raw = field(row, "orderStatus")
    known = {**order}
    if raw in {"PartiallyFilledCanceled", "PARTIALLY_FILLED_CANCELLED"}:
        known["status"] = "canceled"
    if known.get("status") in {"canceled", "rejected"}:
        told = [field(row, "rejectReason"), field(row, "cancelType")]
        why = [_REASONS.get(part, part) for part in told if part not in _NO_REASON]
        known["rejectReason"] = ", ".join(why)
    return known


ADAPTER: Final = BybitCCXTAdapter
