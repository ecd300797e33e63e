"""OKX v5: spot and USDT perpetuals.

A create request carries ``expTime``, after which OKX discards it
(https://www.okx.com/docs-v5/en/#overview-transaction-timeouts). Conditional orders do not know
that header: OKX refuses them by their timestamp, 30 s after signing, and refuses a repeated
``algoClOrdId``.
"""

from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any, ClassVar, Final

from worker.domain.market import MarketKind, SymbolInfo
from worker.domain.order import OrderReport, OrderRequest
from worker.exchanges.ccxt.adapter import CCXTAdapter
from worker.exchanges.ccxt.paging import Page, Row, read_pages
from worker.exchanges.okx.codes import OkxCodes
from worker.exchanges.ports import Resend, SendWindow

_TYPES: Final[Mapping[MarketKind, str]] = {MarketKind.SPOT: "spot", MarketKind.LINEAR: "swap"}
#: The most fills one reply can hold.
_FILLS: Final = 100


class OkxCCXTAdapter(CCXTAdapter):
    """OKX; swap quantities are contracts on the wire. A create reply holds ids only."""

    resend = Resend.AFTER_DEADLINE
    _codes = OkxCodes()
    #: ``ordType``s a conditional order of ours can have.
    conditional_types: ClassVar[tuple[str, ...]] = ("trigger", "conditional")

    def _options(self) -> dict[str, Any]:
        return {
            "fetchMarkets": {"types": [_TYPES[kind] for kind in self._config.market_types]},
            # The documented home of ``expTime``; ccxt's default is the batch endpoint.
            "createOrder": "privatePostTradeOrder",
        }

    def _deadline_headers(self, window: SendWindow) -> dict[str, str]:
        return {"expTime": str(window.timestamp_ms + window.valid_ms)}

    def _order_params(self, request: OrderRequest, info: SymbolInfo) -> dict[str, Any]:
        params = super()._order_params(request, info)
        if self._is_conditional(request):
            params["algoClOrdId"] = request.client_order_id
        return params

    def _is_conditional(self, request: OrderRequest) -> bool:
        return request.order_type.needs_stop_price

    def _child_id(self, order: Mapping[str, Any]) -> str:
        info = order.get("info") or {}
        listed = info.get("ordIdList") or ()
        return str(info.get("ordId") or (listed[0] if listed else ""))

    async def _open_orders(self, symbol: str | None) -> AsyncIterator[Mapping[str, Any]]:
        kinds = self._config.market_types if symbol is None else (self._info(symbol).kind,)
        for kind in kinds:
            scope = {"instType": _TYPES[kind].upper()}
            for order in await self._ccxt.fetch_open_orders(symbol, None, 100, dict(scope)):
                yield order
            for name in self.conditional_types:
                params = scope | {"trigger": True, "ordType": name}
                for order in await self._ccxt.fetch_open_orders(symbol, None, 100, params):
                    named = (order.get("info") or {}).get("algoClOrdId")
                    yield {**order, "clientOrderId": named}

    async def _trades(self, request: OrderRequest, report: OrderReport) -> Iterable[Row]:
        market = self._ccxt.market(request.symbol)
        query = {"instId": market["id"], "ordId": report.exchange_order_id, "limit": str(_FILLS)}

        async def ask(bill: str) -> Page:
            # Not ccxt's ``fills-history``, which is the archive of three months.
            reply = await self._ccxt.privateGetTradeFills(query | ({"after": bill} if bill else {}))
            rows = reply["data"]  # newest first
            oldest = str(rows[-1].get("billId") or "") if rows else ""
            return Page(self._ccxt.parse_trades(rows, market), oldest)

        return await read_pages(f"{self.name} get_trades", _FILLS, ask)

    def _positions_params(self) -> Iterable[dict[str, Any]]:
        return ({"instType": "SWAP"},)


ADAPTER: Final = OkxCCXTAdapter
