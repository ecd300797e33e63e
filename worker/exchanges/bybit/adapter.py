"""Bybit v5 (unified account): spot, and perpetuals settled in USDT and USDC.

A request is refused once ``recv_window`` has passed since its timestamp
(https://bybit-exchange.github.io/docs/v5/guide#parameters-for-authenticated-endpoints), and a
repeated ``orderLinkId`` is refused. A create reply holds ids only and does not mean that the
matching engine took the order.
"""

from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any, Final

from worker.domain.market import MarketKind, SymbolInfo
from worker.domain.order import OrderReport, OrderRequest, Role, Side
from worker.exchanges.bybit.codes import BybitCodes
from worker.exchanges.ccxt.adapter import CCXTAdapter
from worker.exchanges.ccxt.paging import Page, Row, read_pages
from worker.exchanges.errors import OrderNotFoundError, Outcome
from worker.exchanges.ports import Resend

_PAGE = 50
#: The most executions one reply can hold.
_EXECUTIONS: Final = 100


class BybitCCXTAdapter(CCXTAdapter):
    """Bybit; look-ups go through the lists of open, then of closed orders."""

    resend = Resend.AFTER_DEADLINE
    _codes = BybitCodes()

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

    async def _look_up(self, request: OrderRequest, exchange_order_id: str) -> Mapping[str, Any]:
        params = self._named(request)
        plain = {"orderLinkId": request.client_order_id}
        for named in [params] if params == plain else [params, plain]:
            for listed in (
                self._ccxt.fetch_open_orders,
                self._ccxt.fetch_canceled_and_closed_orders,
            ):
                for order in await listed(request.symbol, None, None, dict(named)):
                    if order.get("clientOrderId") == request.client_order_id:
                        return _ended_early(order)
        raise OrderNotFoundError(
            f"{self.name} get_order: no open or closed order has this client id",
            outcome=Outcome.REFUSED,
            code="not_listed",
        )

    async def _cancel(self, request: OrderRequest, exchange_order_id: str) -> None:
        await self._ccxt.cancel_order(None, request.symbol, self._named(request))

    async def _open_orders(self, symbol: str | None) -> AsyncIterator[Mapping[str, Any]]:
        kinds = self._config.market_types if symbol is None else (self._info(symbol).kind,)
        for kind in kinds:
            scope = {"type": "spot" if kind is MarketKind.SPOT else "swap", "paginate": True}
            extra: tuple[dict[str, Any], ...] = ({},)
            if kind is MarketKind.SPOT:
                extra = ({}, {"trigger": True})
            for more in extra:
                params = scope | more
                for order in await self._ccxt.fetch_open_orders(symbol, None, _PAGE, params):
                    yield order

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
        linear = (info for info in self._infos.values() if info.kind is MarketKind.LINEAR)
        for currency in sorted({info.settle for info in linear}):
            yield {"subType": "linear", "settleCoin": currency}


def _with_fee_coin(execution: Mapping[str, Any]) -> Mapping[str, Any]:
    """Name the fee's currency as ccxt looks for it: without that name it guesses base or quote."""
    named = execution.get("feeCurrency")
    return {**execution, "feeCoin": named} if named else execution


def _ended_early(order: Mapping[str, Any]) -> Mapping[str, Any]:
    """Mark a partly filled, then cancelled order as cancelled; ccxt reports it as filled."""
    raw = str((order.get("info") or {}).get("orderStatus") or "")
    return {**order, "status": "canceled"} if raw == "PartiallyFilledCanceled" else order


ADAPTER: Final = BybitCCXTAdapter
