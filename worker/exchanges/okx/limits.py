"""OKX's limits of requests.

Source: https://www.okx.com/docs-v5/en/#overview-rate-limits and the limit on every endpoint's
section: by user id (trading by user id and instrument), public ones by IP address, in 2 s; and
1,000 new orders of a sub-account in 2 s. No header tells them.
"""

from collections.abc import Mapping
from typing import ClassVar, Final

from worker.domain.market import SymbolInfo
from worker.domain.order import OrderRequest
from worker.exchanges.budget.bucket import Charges
from worker.exchanges.budget.limits import Limit, Rolling, Scope
from worker.exchanges.budget.tables import Endpoint, LimitTable

#: Requests in 2 s by path; of private paths that are not here, 5, the least there is.
_RATES: Final[Mapping[str, int]] = {
    "trade/order": 60,
    "trade/cancel-order": 60,
    "trade/orders-pending": 60,
    "trade/orders-history": 40,
    "trade/fills": 60,
    "trade/order-algo": 20,
    "trade/cancel-algos": 20,
    "trade/orders-algo-pending": 20,
    "trade/orders-algo-history": 20,
    "account/balance": 10,
    "account/positions": 10,
    "account/config": 5,
}
_PUBLIC: Final[Mapping[str, int]] = {
    "public/time": 10,
    "public/instruments": 20,
    "market/ticker": 20,
    "market/tickers": 20,
}
_LEAST: Final = 5
#: Counted for each instrument.
_BY_INSTRUMENT: Final = frozenset({"trade/order", "trade/cancel-order"})


class OkxLimits(LimitTable):
    """A rate for each endpoint, of orders for each instrument."""

    hold_s: ClassVar[Mapping[str, float]] = {"50011": 2.0, "50013": 2.0, "50040": 2.0}

    def limits(self, rate_limit_ms: float) -> dict[str, Limit]:
        """Return the limits; orders are counted by instrument and together."""
        del rate_limit_ms
        found: dict[str, Limit] = {}
        for path, most in (*_RATES.items(), ("private", _LEAST)):
            reserve = 1.0 if most >= 20 else 0.0
            found[path] = Rolling(maximum=most, seconds=2, reserve=max(reserve, most // 20))
        for path, most in (*_PUBLIC.items(), ("public", 10)):
            found[path] = Rolling(maximum=most, seconds=2, scope=Scope.ADDRESS)
        # Placing and looking up are two endpoints of the same path.
        found["create"] = Rolling(maximum=60, seconds=2, reserve=3)
        found["all_orders"] = Rolling(maximum=1_000, seconds=2, reserve=50)
        return found

    def charges(self, endpoint: Endpoint) -> Charges:
        """Return what one request costs."""
        path = endpoint.path
        if not endpoint.api.startswith("private"):
            return ((path if path in _PUBLIC else f"public:{path}", 1.0),)
        if path not in _RATES:
            return ((f"private:{path}", 1.0),)
        name = path
        if path in _BY_INSTRUMENT:
            name = f"{path}:{endpoint.params.get('instId', '')}"
        return ((name, 1.0),)

    def order(self, request: OrderRequest, info: SymbolInfo | None) -> Charges:
        """Return what sending one order costs."""
        del info
        if request.order_type.needs_stop_price:
            return (("trade/order-algo", 1.0), ("all_orders", 1.0))
        return ((f"create:{request.symbol}", 1.0), ("all_orders", 1.0))

    def proof(self, request: OrderRequest, info: SymbolInfo | None) -> Charges:
        """Return what looking one order up costs."""
        del info
        if request.order_type.needs_stop_price:
            return (("trade/order-algo:look", 1.0),)
        return ((f"trade/order:{request.symbol}", 1.0),)
