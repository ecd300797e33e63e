"""Bybit's limits of requests.

Source: https://bybit-exchange.github.io/docs/v5/rate-limit: by account (UID) and endpoint, in any
second, told by ``X-Bapi-Limit``, ``-Status`` (what is left) and ``-Reset-Timestamp``; and 600
requests in 5 s by IP address, over which it is banned for 10 minutes (403). Classes of accounts:
https://bybit-exchange.github.io/docs/v5/rate-limit/rules-for-vips.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar, Final

from worker.domain.market import MarketKind, SymbolInfo
from worker.domain.order import OrderRequest
from worker.exchanges.budget.bucket import Charges
from worker.exchanges.budget.limits import Limit, Rolling, Scope
from worker.exchanges.budget.tables import Endpoint, LimitTable, Told, is_count

#: By class: creates, and cancels, a second of futures and of spot.
_TIERS: Final[Mapping[str, tuple[float, float]]] = {
    "default": (10, 20),
    "vip1": (20, 25),
    "vip2": (40, 30),
    "vip3": (60, 40),
}
_ADDRESS: Final = ("address", 1.0)
#: Requests a second of the other private endpoints used here: 50 each in the document's tables.
_READS: Final = 50


class BybitLimits(LimitTable):
    """A rate for each endpoint, and one for the IP address."""

    tiers: ClassVar[Sequence[str]] = tuple(_TIERS)
    hold_s: ClassVar[Mapping[str, float]] = {"403": 600.0, "10018": 600.0, "10006": 1.0}

    def limits(self, rate_limit_ms: float) -> dict[str, Limit]:
        """Return the limits of the class."""
        del rate_limit_ms
        linear, spot = _TIERS[self.tier]

        def rate(most: float) -> Rolling:
            return Rolling(maximum=most, seconds=1, reserve=max(1.0, most // 20))

        return {
            "create_linear": rate(linear),
            "create_spot": rate(spot),
            "cancel_linear": Rolling(maximum=linear, seconds=1),
            "cancel_spot": Rolling(maximum=spot, seconds=1),
            "read": rate(_READS),
            "address": Rolling(maximum=600, seconds=5, scope=Scope.ADDRESS, reserve=30),
        }

    def charges(self, endpoint: Endpoint) -> Charges:
        """Return what one request costs."""
        if not endpoint.api.startswith("private"):
            return (_ADDRESS,)
        path = endpoint.path.removeprefix("v5/")
        if path in {"order/create", "order/cancel"}:
            category = "spot" if endpoint.params.get("category") == "spot" else "linear"
            return ((f"{path.partition('/')[2]}_{category}", 1.0), _ADDRESS)
        return ((f"read:{path}", 1.0), _ADDRESS)

    def order(self, request: OrderRequest, info: SymbolInfo | None) -> Charges:
        """Return what sending one order costs."""
        del request
        is_linear = info is not None and info.kind is MarketKind.LINEAR
        return (("create_linear" if is_linear else "create_spot", 1.0), _ADDRESS)

    def proof(self, request: OrderRequest, info: SymbolInfo | None) -> Charges:
        """Return what looking one order up costs."""
        del request, info
        return (("read:order/realtime", 1.0), _ADDRESS)

    def told(self, path: str, headers: Mapping[str, str], exchange_ms: float) -> Iterable[Told]:
        """Read how many requests are left of the endpoint's own, where it is a reading one."""
        limit, left = headers.get("X-Bapi-Limit", ""), headers.get("X-Bapi-Limit-Status", "")
        name = path.partition("/v5/")[2]
        if not (is_count(limit) and is_count(left)) or name in {"order/create", "order/cancel"}:
            return
        if int(limit) <= 0 or name.startswith("market/"):
            return
        # The account may have other limits than the table: what counts is the part that is left.
        used = _READS * (1 - min(int(left), int(limit)) / int(limit))
        resets = headers.get("X-Bapi-Limit-Reset-Timestamp", "")
        ends_ms = float(resets) - exchange_ms if is_count(resets) else 0.0
        yield Told(f"read:{name}", used, min(max(ends_ms, 50.0), 1_000.0))

    def resets_in_s(self, headers: Mapping[str, str], exchange_ms: float) -> float:
        """Read when the account may ask again, which a refused reply (10006) has in a header."""
        resets = headers.get("X-Bapi-Limit-Reset-Timestamp", "")
        return max(0.0, (float(resets) - exchange_ms) / 1000) if is_count(resets) else 0.0
