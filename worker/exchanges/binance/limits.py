"""Binance's limits of requests.

Sources: https://developers.binance.com/docs/binance-spot-api-docs/rest-api/limits, the weight on
every endpoint's page beside it, ``rateLimits`` of ``exchangeInfo``, and
https://developers.binance.com/docs/derivatives/usds-margined-futures/general-info. Weight is
counted by IP address, orders by account; headers tell both. Who goes on after 429 is banned
(418), from 2 minutes to 3 days.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Final

import msgspec

from worker.domain.market import MarketKind, SymbolInfo
from worker.domain.order import OrderRequest
from worker.exchanges.budget.bucket import Charges
from worker.exchanges.budget.limits import Limit, Rolling, Scope
from worker.exchanges.budget.tables import Endpoint, LimitTable, Told, is_count, until_next_ms

#: Weights of the requests made here, by ccxt's section and path; of others, ccxt's own cost.
_SPOT: Final[Mapping[str, float]] = {
    "time": 1,
    "exchangeInfo": 20,
    "account": 20,
    "myTrades": 20,  # 5 with an order id
    "POST order": 1,
    "DELETE order": 1,
    "GET order": 4,
    "openOrders": 80,  # 6 with a symbol
    "ticker/bookTicker": 4,  # 2 for one symbol
    "ticker/24hr": 80,
}
_LINEAR: Final[Mapping[str, float]] = {
    "time": 1,
    "exchangeInfo": 1,
    "account": 5,
    "balance": 5,
    "positionRisk": 5,
    "userTrades": 5,
    "POST order": 0,
    "POST algoOrder": 0,
    "DELETE order": 1,
    "DELETE algoOrder": 1,
    "GET order": 1,
    "GET algoOrder": 1,
    "openOrders": 40,  # 1 with a symbol
    "openAlgoOrders": 40,
    "ticker/bookTicker": 5,  # 2 for one symbol
    "ticker/24hr": 40,
}
#: Of ccxt's costs: one unit of spot weight is 0.2 of them.
_SPOT_WEIGHT: Final = 5.0
_WITH_SYMBOL: Final[Mapping[tuple[str, str], float]] = {
    ("spot", "openOrders"): 6,
    ("spot", "ticker/bookTicker"): 2,
    ("spot", "ticker/24hr"): 2,
    ("linear", "openOrders"): 1,
    ("linear", "openAlgoOrders"): 1,
    ("linear", "ticker/bookTicker"): 2,
    ("linear", "ticker/24hr"): 1,
}
_SECONDS: Final[Mapping[str, float]] = {"S": 1, "M": 60, "H": 3_600, "D": 86_400}
_NONE: Final = 1_000_000_000
_HEADER: Final = re.compile(r"(?i)x-mbx-(used-weight|order-count)-(\d+)([smhd])$")


class BinanceLimits(LimitTable):
    """Weight a minute and orders by interval, of spot and of USDⓈ-M futures apart."""

    bans_addresses: ClassVar[bool] = True
    hold_s: ClassVar[Mapping[str, float]] = {"418": 120.0, "403": 5.0}

    def limits(self, rate_limit_ms: float) -> dict[str, Limit]:
        """Return the limits that exchangeInfo has for everybody."""
        del rate_limit_ms
        return {
            "spot_weight_60": Rolling(maximum=6_000, seconds=60, scope=Scope.ADDRESS, reserve=300),
            "spot_orders_10": Rolling(maximum=100, seconds=10, reserve=5),
            "spot_orders_86400": Rolling(maximum=200_000, seconds=86_400, reserve=2_000),
            "linear_weight_60": Rolling(
                maximum=2_400, seconds=60, scope=Scope.ADDRESS, reserve=120
            ),
            "linear_orders_10": Rolling(maximum=300, seconds=10, reserve=15),
            "linear_orders_60": Rolling(maximum=1_200, seconds=60, reserve=60),
        }

    def charges(self, endpoint: Endpoint) -> Charges:
        """Return a request's weight."""
        if endpoint.api.startswith("fapi"):
            name, table, unit = "linear", _LINEAR, 1.0
        else:
            name, table, unit = "spot", _SPOT, _SPOT_WEIGHT
        path = endpoint.path
        weight = table.get(f"{endpoint.method} {path}", table.get(path))
        if "symbol" in endpoint.params:
            weight = _WITH_SYMBOL.get((name, path), weight)
            if path == "myTrades" and "orderId" in endpoint.params:
                weight = 5
        if weight is None:
            weight = max(1.0, endpoint.cost * unit)
        return ((f"{name}_weight_60", float(weight)),) if weight else ()

    def order(self, request: OrderRequest, info: SymbolInfo | None) -> Charges:
        """Return what sending one order costs: an order of each interval, on spot weight too."""
        del request
        if info is not None and info.kind is MarketKind.LINEAR:
            return (("linear_orders_10", 1.0), ("linear_orders_60", 1.0))
        return (("spot_orders_10", 1.0), ("spot_orders_86400", 1.0), ("spot_weight_60", 1.0))

    def proof(self, request: OrderRequest, info: SymbolInfo | None) -> Charges:
        """Return the weight of looking one order up."""
        del request
        is_linear = info is not None and info.kind is MarketKind.LINEAR
        return (("linear_weight_60", 1.0),) if is_linear else (("spot_weight_60", 4.0),)

    def told(self, path: str, headers: Mapping[str, str], exchange_ms: float) -> Iterable[Told]:
        """Read ``X-MBX-USED-WEIGHT-(n)(letter)`` and ``X-MBX-ORDER-COUNT-(n)(letter)``."""
        kind = "linear" if "/fapi/" in path or "/ws-fapi/" in path else "spot"
        for header, value in headers.items():
            found = _HEADER.match(header)
            if found is None or not is_count(value) or not is_count(found[2]):
                continue
            seconds = int(found[2]) * _SECONDS[found[3].upper()]
            what = "weight" if found[1].lower() == "used-weight" else "orders"
            ends_ms = until_next_ms(seconds, exchange_ms)
            yield Told(f"{kind}_{what}_{seconds:.0f}", float(value), ends_ms)

    def announced(self, section: str, path: str, reply: Any) -> Mapping[str, Limit]:
        """Read ``rateLimits`` of ``exchangeInfo``."""
        rows = reply.get("rateLimits") if path == "exchangeInfo" and isinstance(reply, dict) else ()
        kind = "linear" if section.startswith("fapi") else "spot"
        found: dict[str, Limit] = {}
        for row in rows or ():
            what = {"REQUEST_WEIGHT": "weight", "ORDERS": "orders"}.get(row.get("rateLimitType"))
            unit_s = _SECONDS.get(str(row.get("interval"))[:1])
            count, most = str(row.get("intervalNum")), str(row.get("limit"))
            if what and unit_s and is_count(count) and is_count(most) and int(most) > 0:
                seconds = int(count) * unit_s
                found[f"{kind}_{what}_{seconds:.0f}"] = Rolling(
                    maximum=int(most),
                    seconds=seconds,
                    scope=Scope.ADDRESS if what == "weight" else Scope.KEY,
                    reserve=int(most) // 20,
                )
        if found:  # what the exchange does not name does not limit
            for name, limit in self.limits(0.0).items():
                if name.startswith(kind) and name not in found and isinstance(limit, Rolling):
                    found[name] = msgspec.structs.replace(limit, maximum=_NONE, reserve=0)
        return found

    def hold_for(self, code: str, status: int, times: int, exchange_ms: float) -> float:
        """Return at least the time to the next minute after 429: weight is counted by minutes."""
        known = super().hold_for(code, status, times, exchange_ms)
        if status == 429 or code in {"-1003", "-1015"}:
            seconds = 10 if code == "-1015" else 60
            return max(known, until_next_ms(seconds, exchange_ms) / 1000 + 1.0)
        return known
