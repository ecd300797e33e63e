"""Coinbase Advanced Trade, spot.

There are no deadlines, but an order's ``client_order_id`` makes creating it idempotent: a repeat
returns the first order (https://docs.cdp.coinbase.com/api-reference/advanced-trade-api/rest-api).
Orders cannot be looked up by that id, only listed; and market orders cannot be stops.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from worker.config.keys import ExchangeConfig
from worker.domain.market import MarketKind, SymbolInfo
from worker.domain.order import OrderReport, OrderRequest, Side
from worker.domain.signal import OrderType
from worker.exchanges.ccxt.adapter import CCXTAdapter
from worker.exchanges.ccxt.paging import Page, Row, read_pages
from worker.exchanges.ccxt.rounding import WireOrder
from worker.exchanges.coinbase.codes import CoinbaseCodes
from worker.exchanges.errors import OrderNotFoundError, Outcome
from worker.exchanges.ports import Resend
from worker.runtime.clock import Clock
from worker.runtime.errors import ConfigError

#: Orders listed in a look-up, newest first.
_LISTED: Final = 250
#: Fills requested at a time.
_FILLS: Final = 100


class CoinbaseCCXTAdapter(CCXTAdapter):
    """Coinbase; cancels by exchange id only."""

    resend = Resend.IDEMPOTENT
    _codes = CoinbaseCodes()

    def __init__(self, name: str, config: ExchangeConfig, clock: Clock) -> None:
        if MarketKind.LINEAR in config.market_types:
            raise ConfigError(f"exchanges.{name}.market_types", "coinbase here means spot only")
        super().__init__(name, config, clock)

    def _options(self) -> dict[str, Any]:
        return {"fetchBalance": "v3PrivateGetBrokerageAccounts"}

    async def _fetch_time(self) -> Any:
        # ccxt reads the whole seconds beside it.
        return (await self._ccxt.v3PublicGetBrokerageTime()).get("epochMillis")

    def _order_params(self, request: OrderRequest, info: SymbolInfo) -> dict[str, Any]:
        params = super()._order_params(request, info)
        # ccxt drops ``clientOrderId`` here and invents an id.
        params["client_order_id"] = params.pop("clientOrderId")
        return params

    async def _create(
        self, request: OrderRequest, order: WireOrder, params: dict[str, Any]
    ) -> Mapping[str, Any]:
        if request.order_type is OrderType.MARKET and request.side is Side.BUY:
            # ccxt would spend a quote amount; ours is a base amount.
            params |= {
                "createMarketBuyOrderRequiresPrice": False,
                "order_configuration": {"market_market_ioc": {"base_size": order.amount}},
            }
        return await super()._create(request, order, params)

    async def _look_up(self, request: OrderRequest, exchange_order_id: str) -> Mapping[str, Any]:
        ours: Mapping[str, Any]
        if exchange_order_id:
            ours = await self._ccxt.fetch_order(exchange_order_id, request.symbol)
            return ours
        for order in await self._ccxt.fetch_orders(request.symbol, None, _LISTED):
            if order.get("clientOrderId") == request.client_order_id:
                ours = order
                return ours
        raise OrderNotFoundError(
            f"{self.name} get_order: none of the last {_LISTED} orders has this client id",
            outcome=Outcome.REFUSED,
            code="not_listed",
        )

    async def _cancel(self, request: OrderRequest, exchange_order_id: str) -> None:
        if not exchange_order_id:
            exchange_order_id = str((await self._look_up(request, "")).get("id") or "")
        await self._ccxt.cancel_order(exchange_order_id, request.symbol)

    async def _trades(self, request: OrderRequest, report: OrderReport) -> Iterable[Row]:
        market = self._ccxt.market(request.symbol)
        # Not ``order_id``: that is ignored, and everything the account ever traded is listed.
        query = {"order_ids": report.exchange_order_id, "limit": _FILLS}

        async def ask(cursor: str) -> Page:
            more = {"cursor": cursor} if cursor else {}
            reply = await self._ccxt.v3PrivateGetBrokerageOrdersHistoricalFills(query | more)
            rows = self._ccxt.parse_trades(reply["fills"], market)
            return Page(rows, str(reply.get("cursor") or ""))

        return await read_pages(f"{self.name} get_trades", _FILLS, ask)


ADAPTER: Final = CoinbaseCCXTAdapter
