"""OKX v5: spot and USDT perpetuals.

A create request carries ``expTime``, after which OKX discards it
(https://www.okx.com/docs-v5/en/#overview-transaction-timeouts): that alone lets an order be sent
again that was not found, since ``clOrdId`` is unique among pending orders only. Conditional orders
do not know that header, and their ``algoClOrdId`` is no better: they are never sent again.
"""

from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any, Final

import msgspec

from worker.config.keys import ExchangeConfig
from worker.domain.market import MarketKind, SymbolInfo
from worker.domain.order import Fill, OrderReport, OrderRequest
from worker.exchanges.ccxt import readings
from worker.exchanges.ccxt.absence import listed_rows
from worker.exchanges.ccxt.adapter import CCXTAdapter
from worker.exchanges.ccxt.outcomes import IncompleteReplyError
from worker.exchanges.ccxt.paging import Page, Row, read_pages
from worker.exchanges.findings import AccountFinding
from worker.exchanges.okx.account import OkxAccount, read_account
from worker.exchanges.okx.codes import OkxCodes
from worker.exchanges.okx.limits import OkxLimits
from worker.exchanges.okx.orders import corrected, over_rows
from worker.exchanges.ports import Resend, SendWindow
from worker.runtime.clock import Clock

_TYPES: Final[Mapping[MarketKind, str]] = {MarketKind.SPOT: "spot", MarketKind.LINEAR: "swap"}
#: The most orders, or fills, that one reply can hold.
_PAGE: Final = 100
#: ``ordType``s a conditional order of ours can have.
_CONDITIONAL_TYPES: Final = ("trigger", "conditional")
#: Quote currencies in which a value of so many USDT is about the same number.
_DOLLARS: Final = frozenset({"USDT", "USDC", "USD"})


class OkxCCXTAdapter(CCXTAdapter):
    """OKX; swap quantities are contracts on the wire. A create reply holds ids only."""

    resend = Resend.AFTER_DEADLINE
    _codes = OkxCodes()
    _balances_at = (("data",),)
    _limits = OkxLimits
    _positions_at = ("data",)

    def __init__(self, name: str, config: ExchangeConfig, clock: Clock) -> None:
        super().__init__(name, config, clock)
        self._account = OkxAccount()

    def _ccxt_class(self) -> type[Any]:
        return over_rows(super()._ccxt_class())

    def _options(self) -> dict[str, Any]:
        return {
            "fetchMarkets": {"types": [_TYPES[kind] for kind in self._config.market_types]},
            # The documented home of ``expTime``; ccxt's default is the batch endpoint.
            "createOrder": "privatePostTradeOrder",
        }

    async def _read_account(self) -> AsyncIterator[AccountFinding]:
        reply = await self._setting("account mode", self._ccxt.privateGetAccountConfig)
        if isinstance(reply, AccountFinding):
            yield reply
            return
        with self._boundary("account_settings"):
            self._account = read_account(reply)
        for finding in self._account.findings(self._config.market_types):
            yield finding

    def _symbol_info(
        self, market: Mapping[str, Any], kind: MarketKind, precision_mode: int
    ) -> SymbolInfo:
        info = super()._symbol_info(market, kind, precision_mode)
        row = market["info"]
        most = readings.decimal(row.get("maxMktSz"))
        if kind is MarketKind.LINEAR:
            if (row.get("ctValCcy") or info.base) != info.base:
                raise IncompleteReplyError(f"a contract is worth {row['ctValCcy']}, not its base")
            return msgspec.structs.replace(info, max_market_quantity=most * info.contract_size)
        # "If it is a SPOT or MARGIN instrument, the value is the quantity in USDT."
        in_quote = most if info.quote in _DOLLARS else readings.decimal(None)
        return msgspec.structs.replace(info, max_market_notional=in_quote)

    # ---- orders -----------------------------------------------------------------------------

    def resend_rule(self, request: OrderRequest) -> Resend:
        """Return the rule for sending ``request`` again: never for a conditional order."""
        return Resend.NEVER if self._is_conditional(request) else self.resend

    def _deadline_headers(self, window: SendWindow) -> dict[str, str]:
        return {"expTime": str(window.timestamp_ms + window.valid_ms)}

    def _order_params(self, request: OrderRequest, info: SymbolInfo) -> dict[str, Any]:
        params = super()._order_params(request, info)
        # ccxt makes a margin trade of a spot order with the margin mode "cross", in quote units and
        # with a margin currency; and of a conditional one without, too. ``tdMode`` goes out as is.
        params["tdMode"] = self._account.trade_mode(info.kind)
        if info.kind is MarketKind.SPOT:
            params["marginMode"] = "cash"
        if self._is_conditional(request):
            params["algoClOrdId"] = request.client_order_id
        return params

    def _is_conditional(self, request: OrderRequest) -> bool:
        return request.order_type.needs_stop_price

    def _corrected(self, order: Mapping[str, Any]) -> Mapping[str, Any]:
        return corrected(order)

    def _child_id(self, order: Mapping[str, Any]) -> str:
        info = order.get("info") or {}
        listed = info.get("ordIdList") or ()
        return str(info.get("ordId") or (listed[0] if listed else ""))

    async def _open_orders(self, symbol: str | None) -> AsyncIterator[Mapping[str, Any]]:
        kinds = self._config.market_types if symbol is None else (self._info(symbol).kind,)
        for kind in kinds:
            scope = {"instType": _TYPES[kind].upper(), "limit": str(_PAGE)}
            if symbol is not None:
                scope["instId"] = self._ccxt.market(symbol)["id"]
            lists = [(self._ccxt.privateGetTradeOrdersPending, scope, "ordId")]
            lists += [
                (self._ccxt.privateGetTradeOrdersAlgoPending, scope | {"ordType": name}, "algoId")
                for name in _CONDITIONAL_TYPES
            ]
            for ask, query, cursor in lists:
                for order in await self._pages("get_open_orders", ask, query, cursor):
                    yield self._ccxt.parse_order(order)

    async def _pages(self, name: str, ask: Any, query: dict[str, str], cursor: str) -> list[Row]:
        """Return OKX's own rows of a list, newest first; ``cursor`` names the rows' id."""

        async def page(after: str) -> Page:
            reply = await ask(query | ({"after": after} if after else {}))
            rows = listed_rows(reply, "data")
            return Page(rows, str(rows[-1].get(cursor) or "") if rows else "")

        return await read_pages(f"{self.name} {name}", _PAGE, page)

    async def get_trades(self, request: OrderRequest, report: OrderReport) -> tuple[Fill, ...]:
        """Return the fills of one order; a conditional order's are those of the order it placed."""
        if self._is_conditional(request):
            placed = await self.get_order(request)
            report = msgspec.structs.replace(report, exchange_order_id=placed.exchange_order_id)
        return await super().get_trades(request, report)

    async def _trades(self, request: OrderRequest, report: OrderReport) -> Iterable[Row]:
        market = self._ccxt.market(request.symbol)
        query = {"instId": market["id"], "ordId": report.exchange_order_id, "limit": str(_PAGE)}
        # Not ccxt's ``fills-history``, which is the archive of three months.
        ask = self._ccxt.privateGetTradeFills
        parsed: list[Row] = self._ccxt.parse_trades(
            await self._pages("get_trades", ask, query, "billId"), market
        )
        return parsed

    def _positions_params(self) -> Iterable[dict[str, Any]]:
        return ({"instType": "SWAP"},)


ADAPTER: Final = OkxCCXTAdapter
