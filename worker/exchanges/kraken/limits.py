"""Kraken's limits of requests, spot.

Sources: https://docs.kraken.com/exchange/guides/rest/ratelimits (call counter, by API key) and
https://docs.kraken.com/exchange/guides/general/ratelimits (trading counter, by account and pair);
public requests: https://support.kraken.com/articles/206548367 (one a second, by IP address). No
header tells any of them.
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar, Final

from worker.domain.market import SymbolInfo
from worker.domain.order import OrderRequest
from worker.exchanges.budget.bucket import Charges
from worker.exchanges.budget.limits import Decaying, Limit, Scope
from worker.exchanges.budget.tables import Endpoint, LimitTable

#: By tier: maximum of the call counter, what it sinks by a second; the same of the pair's counter.
_TIERS: Final[Mapping[str, tuple[float, float, float, float]]] = {
    "starter": (15, 0.33, 60, 1.0),
    "intermediate": (20, 0.5, 125, 2.34),
    "pro": (20, 1.0, 180, 3.75),
}
#: The counter sinks "every couple of seconds": what it may lag behind ours.
_STEP_S: Final = 2.0
#: "Ledger/trade history calls increase the counter by 2."
_HISTORY: Final = frozenset({"TradesHistory", "QueryTrades", "Ledgers", "QueryLedgers"})
#: Calls that only the trading counter counts.
_TRADING: Final = frozenset({"AddOrder", "CancelOrder"})
#: What cancelling adds to the pair's counter, by the order's age in seconds.
_CANCEL_COSTS: Final = ((5, 8), (10, 6), (15, 5), (45, 4), (90, 2), (300, 1))


class KrakenLimits(LimitTable):
    """The call counter, a trading counter for each pair, and public calls."""

    tiers: ClassVar[Sequence[str]] = tuple(_TIERS)
    hold_s: ClassVar[Mapping[str, float]] = {
        "EAPI:Rate limit exceeded": 5.0,
        "EOrder:Rate limit exceeded": 2.0,
        "EOrder:Domain rate limit exceeded": 2.0,
        "EService:Throttled": 5.0,
        "EAuth:Too many requests": 15.0,
        "EGeneral:Temporary lockout": 900.0,
    }

    def limits(self, rate_limit_ms: float) -> dict[str, Limit]:
        """Return the limits of the tier."""
        del rate_limit_ms
        most, sinks, pair_most, pair_sinks = _TIERS[self.tier]
        return {
            "calls": Decaying(
                maximum=most, per_second=sinks, slack=max(1.0, sinks * _STEP_S), reserve=most / 5
            ),
            "pair": Decaying(
                maximum=pair_most,
                per_second=pair_sinks,
                slack=pair_sinks * _STEP_S,
                reserve=pair_most / 5,
            ),
            "public": Decaying(maximum=15, per_second=1.0, scope=Scope.ADDRESS, reserve=3),
        }

    def charges(self, endpoint: Endpoint) -> Charges:
        """Return what one request costs."""
        if not endpoint.api.startswith("private"):
            return (("public", 1.0),)
        if endpoint.path in _TRADING:
            return ()
        return (("calls", 2.0 if endpoint.path in _HISTORY else 1.0),)

    def order(self, request: OrderRequest, info: SymbolInfo | None) -> Charges:
        """Return what sending one order costs: +1 of the pair's counter."""
        del info
        return ((f"pair:{request.symbol}", 1.0),)

    def proof(self, request: OrderRequest, info: SymbolInfo | None) -> Charges:
        """Return what looking one order up costs."""
        del request, info
        return (("calls", 1.0),)

    def cancel(self, symbol: str, age_s: float | None) -> Charges:
        """Return what cancelling an order of this age costs, the most if its age is not known."""
        if age_s is None:
            age_s = 0.0
        cost = next((cost for younger_s, cost in _CANCEL_COSTS if age_s < younger_s), 0)
        return ((f"pair:{symbol}", float(cost)),) if cost else ()
