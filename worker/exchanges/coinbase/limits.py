"""Coinbase's limits of requests, Advanced Trade.

Source: https://docs.cdp.coinbase.com/advanced-trade/docs/rest-api-rate-limits: 30 private requests
a second for each user, 10 public ones a second for each IP address; over them HTTP 429.
"""

from collections.abc import Mapping
from typing import ClassVar

from worker.domain.market import SymbolInfo
from worker.domain.order import OrderRequest
from worker.exchanges.budget.bucket import Charges
from worker.exchanges.budget.limits import Limit, Rolling, Scope
from worker.exchanges.budget.tables import Endpoint, LimitTable


class CoinbaseLimits(LimitTable):
    """One rate of private and one of public requests."""

    hold_s: ClassVar[Mapping[str, float]] = {"429": 1.0, "rate_limit_exceeded": 1.0}

    def limits(self, rate_limit_ms: float) -> dict[str, Limit]:
        """Return the two limits."""
        del rate_limit_ms
        return {
            "private": Rolling(maximum=30, seconds=1, reserve=2),
            "public": Rolling(maximum=10, seconds=1, scope=Scope.ADDRESS, reserve=1),
        }

    def charges(self, endpoint: Endpoint) -> Charges:
        """Return what one request costs."""
        return (("private" if "private" in endpoint.api else "public", 1.0),)

    def order(self, request: OrderRequest, info: SymbolInfo | None) -> Charges:
        """Return what sending one order costs."""
        del request, info
        return (("private", 1.0),)

    def proof(self, request: OrderRequest, info: SymbolInfo | None) -> Charges:
        """Return what looking one order up costs."""
        del request, info
        return (("private", 1.0),)
