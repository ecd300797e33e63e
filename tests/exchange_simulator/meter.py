"""Request weight and order counts per window: the rate headers, and the optional limits."""

from collections import Counter

from tests.exchange_simulator.errors import ApiError
from tests.exchange_simulator.markets import Venue

_MINUTE_MS = 60_000
_ORDER_WINDOW_MS = 10_000


class Meter:
    """Counts in fixed windows of the exchange's clock.

    Args:
        weight_limit: weight per minute and venue after which -1003/429 is served; None: no limit.
        order_limit: orders per 10 s and venue after which -1015/429 is served; None: no limit.
    """

    def __init__(self, weight_limit: int | None, order_limit: int | None) -> None:
        self.weight_limit = weight_limit
        self.order_limit = order_limit
        self._minute = self._ten = -1
        self._weight: Counter[Venue] = Counter()
        self._orders: Counter[Venue] = Counter()

    def count(self, venue: Venue, weight: int, now_ms: int, *, order: bool) -> dict[str, str]:
        """Count one request and return its rate headers; raises when a limit is exceeded."""
        if now_ms // _MINUTE_MS != self._minute:
            self._minute = now_ms // _MINUTE_MS
            self._weight.clear()
        if now_ms // _ORDER_WINDOW_MS != self._ten:
            self._ten = now_ms // _ORDER_WINDOW_MS
            self._orders.clear()
        self._weight[venue] += weight
        headers = {"X-MBX-USED-WEIGHT-1M": str(self._weight[venue])}
        if self.weight_limit is not None and self._weight[venue] > self.weight_limit:
            wait = (_MINUTE_MS - now_ms % _MINUTE_MS) // 1000 + 1
            raise ApiError(
                -1003,
                f"Too much request weight used; current limit is {self.weight_limit} "
                "request weight per 1 MINUTE.",
                429,
                headers | {"Retry-After": str(wait)},
            )
        if not order:
            return headers
        self._orders[venue] += 1
        headers["X-MBX-ORDER-COUNT-10S"] = str(self._orders[venue])
        if self.order_limit is not None and self._orders[venue] > self.order_limit:
            wait = (_ORDER_WINDOW_MS - now_ms % _ORDER_WINDOW_MS) // 1000 + 1
            raise ApiError(
                -1015,
                f"Too many new orders; current limit is {self.order_limit} orders per 10 SECOND.",
                429,
                headers | {"Retry-After": str(wait)},
            )
        return headers
