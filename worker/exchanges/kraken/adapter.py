"""Kraken spot.

A create request carries ``deadline``, after which the matching engine refuses it, between 2 and
60 s ahead (https://docs.kraken.com/api-reference/trading/add-order). Every request needs a nonce
above the key's last one: give each worker a key of its own, or the key a nonce window.
"""

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Final

import msgspec

from worker.config.keys import ExchangeConfig
from worker.domain.market import MarketKind
from worker.domain.order import OrderReport, OrderRequest
from worker.exchanges.ccxt.adapter import CCXTAdapter
from worker.exchanges.ccxt.paging import MAX_PAGES, Row, too_long
from worker.exchanges.errors import OrderNotFoundError, Outcome
from worker.exchanges.kraken.codes import KrakenCodes
from worker.exchanges.ports import Resend, SendWindow
from worker.runtime.clock import Clock, rfc3339
from worker.runtime.errors import ConfigError

MIN_DEADLINE_MS: Final = 2_000
#: Added to the shortest deadline for the request's travel.
_TRAVEL_MS: Final = 500
#: The most trades one request may ask for.
_QUERIED: Final = 20


class KrakenCCXTAdapter(CCXTAdapter):
    """Kraken; look-ups go through the lists of open, then of closed orders."""

    resend = Resend.AFTER_DEADLINE
    _codes = KrakenCodes()
    clock_grain_ms: ClassVar[float] = 1_000.0  # the time endpoint has whole seconds

    def __init__(self, name: str, config: ExchangeConfig, clock: Clock) -> None:
        if MarketKind.LINEAR in config.market_types:
            raise ConfigError(f"exchanges.{name}.market_types", "kraken here means spot only")
        shortest = MIN_DEADLINE_MS + int(self.clock_grain_ms) + _TRAVEL_MS
        if config.recv_window_ms < shortest:
            config = msgspec.structs.replace(config, recv_window_ms=shortest)
        super().__init__(name, config, clock)

    def _deadline_params(self, window: SendWindow) -> dict[str, Any]:
        return {"deadline": rfc3339(window.timestamp_ms + window.valid_ms)}

    async def _look_up(self, request: OrderRequest, exchange_order_id: str) -> Mapping[str, Any]:
        for listed in (self._ccxt.fetch_open_orders, self._ccxt.fetch_closed_orders):
            params = {"clientOrderId": request.client_order_id}
            for order in await listed(request.symbol, None, None, params):
                if order.get("clientOrderId") == request.client_order_id:
                    ours: Mapping[str, Any] = order
                    return ours
        raise OrderNotFoundError(
            f"{self.name} get_order: no open or closed order has this client id",
            outcome=Outcome.REFUSED,
            code="not_listed",
        )

    async def _trades(self, request: OrderRequest, report: OrderReport) -> Iterable[Row]:
        ids = await self._trade_ids(report)
        if len(ids) > MAX_PAGES * _QUERIED:
            raise too_long(f"{self.name} get_trades", _QUERIED)
        market = self._ccxt.market(request.symbol)
        parsed: list[Row] = []
        # Not by ccxt's ``fetch_order_trades``: after batches that are all full it asks about no
        # trade at all, which Kraken refuses.
        for first in range(0, len(ids), _QUERIED):
            asked = {"txid": ",".join(ids[first : first + _QUERIED])}
            trades = (await self._ccxt.privatePostQueryTrades(asked))["result"]
            rows = [{**trade, "id": trade_id} for trade_id, trade in trades.items()]
            parsed += self._ccxt.parse_trades(rows, market)
        return parsed

    async def _trade_ids(self, report: OrderReport) -> list[str]:
        order = await self._ccxt.fetch_order(report.exchange_order_id, report.symbol)
        return [str(trade) for trade in (order.get("info") or {}).get("trades") or ()]


ADAPTER: Final = KrakenCCXTAdapter
