"""Kraken spot.

A create request carries ``deadline``, after which the matching engine refuses it, between 2 and
60 s ahead (https://docs.kraken.com/api-reference/trading/add-order). Every request needs a nonce
above the key's last one: give each worker a key of its own, or the key a nonce window.
"""

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Final

import msgspec

from worker.clock import Clock, rfc3339
from worker.config import ExchangeConfig
from worker.domain.market import MarketKind
from worker.domain.order import OrderReport, OrderRequest
from worker.errors import ConfigError
from worker.exchanges.base import OrderNotFoundError, Outcome, Resend, SendWindow
from worker.exchanges.ccxt_adapter import CCXTAdapter

MIN_DEADLINE_MS: Final = 2_000
#: Slack on the shortest deadline, for the request's way.
_TRAVEL_MS: Final = 500


class KrakenCCXTAdapter(CCXTAdapter):
    """Kraken; look-ups go through the lists of open, then of closed orders."""

    resend = Resend.AFTER_DEADLINE
    clock_grain_ms: ClassVar[float] = 1_000.0  # the time endpoint tells whole seconds

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
                    found: Mapping[str, Any] = order
                    return found
        raise OrderNotFoundError(
            f"{self.name} get_order: no open or closed order has this client id",
            outcome=Outcome.REFUSED,
            code="not_listed",
        )

    async def _trades(
        self, request: OrderRequest, report: OrderReport
    ) -> Iterable[Mapping[str, Any]]:
        found: Iterable[Mapping[str, Any]] = await self._ccxt.fetch_order_trades(
            report.exchange_order_id,
            request.symbol,
            None,
            None,
            {"trades": await self._trade_ids(report)},
        )
        return found

    async def _trade_ids(self, report: OrderReport) -> list[str]:
        order = await self._ccxt.fetch_order(report.exchange_order_id, report.symbol)
        return [str(trade) for trade in (order.get("info") or {}).get("trades") or ()]
