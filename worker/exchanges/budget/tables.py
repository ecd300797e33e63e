"""The interface between one exchange's table of limits and the gate that keeps them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Final

import msgspec

from worker.domain.market import SymbolInfo
from worker.domain.order import OrderRequest
from worker.exchanges.budget.bucket import Charges
from worker.exchanges.budget.limits import Limit, Rolling

#: A hold without a stated end lasts this long at first, doubled each time up to the longest, s.
FIRST_HOLD_S: Final = 2.0
LONGEST_HOLD_S: Final = 300.0


class Endpoint(msgspec.Struct, frozen=True, gc=False):
    """One request as ccxt is about to sign it: ``api`` as in ``private``, parts joined by dots."""

    api: str
    method: str
    path: str
    params: Mapping[str, Any] = {}
    #: ccxt's own cost of it, in units of its ``rateLimit``.
    cost: float = 1.0


#: The most digits of a count or a time in a reply.
_MAX_DIGITS: Final = 15


class Told(msgspec.Struct, frozen=True, gc=False):
    """A reply's word on a limit: ``used`` by all, until ``ends_in_ms`` from now."""

    name: str
    used: float
    ends_in_ms: float


class LimitTable:
    """The limits of an exchange, and what requests cost; this one serves any exchange.

    Without a document at hand ten requests a second are taken for its limit, and a fifth less is
    used; a second's worth may go at once.

    Args:
        tier: the account's class at the exchange, ``rate_tier``; the lowest if empty.
    """

    #: The values ``rate_tier`` may have, the lowest first.
    tiers: ClassVar[Sequence[str]] = ()
    #: The IP address is what is banned, and not the key.
    bans_addresses: ClassVar[bool] = False
    #: How long a hold lasts whose end is not stated, by code or HTTP status, seconds.
    hold_s: ClassVar[Mapping[str, float]] = {}

    def __init__(self, tier: str = "") -> None:
        self.tier = tier or (self.tiers[0] if self.tiers else "")

    def limits(self, rate_limit_ms: float) -> dict[str, Limit]:
        """Return the limits by name.

        Args:
            rate_limit_ms: the interval between requests that is allowed where no table says more.
        """
        a_second = max(1.0, 0.8 * 1000 / max(rate_limit_ms, 1.0))
        seconds = 1.0 if a_second >= 5 else 5.0
        most = max(1.0, a_second * seconds)
        return {"requests": Rolling(maximum=most, seconds=seconds, reserve=max(1.0, most // 10))}

    def charges(self, endpoint: Endpoint) -> Charges:
        """Return what one request costs."""
        return (("requests", endpoint.cost),)

    def order(self, request: OrderRequest, info: SymbolInfo | None) -> Charges:
        """Return what sending one order costs."""
        del request, info
        return (("requests", 1.0),)

    def proof(self, request: OrderRequest, info: SymbolInfo | None) -> Charges:
        """Return what looking one order up costs."""
        del request, info
        return (("requests", 1.0),)

    def cover(self, request: OrderRequest, info: SymbolInfo | None) -> Charges:
        """Return what an entry's own stop and the stop's proof cost."""
        return (*self.order(request, info), *self.proof(request, info))

    def told(self, path: str, headers: Mapping[str, str], exchange_ms: float) -> Iterable[Told]:
        """Return what a reply's headers tell of limits.

        Args:
            path: of the request.
            headers: of the reply; names in any case.
            exchange_ms: the exchange's time, Unix milliseconds.
        """
        del path, headers, exchange_ms
        return ()

    def resets_in_s(self, headers: Mapping[str, str], exchange_ms: float) -> float:
        """Return how soon a limit that a reply refused by is free again, seconds; 0 if not said.

        Args:
            headers: of the reply.
            exchange_ms: the exchange's time, Unix milliseconds.
        """
        del headers, exchange_ms
        return 0.0

    def announced(self, section: str, path: str, reply: Any) -> Mapping[str, Limit]:
        """Return the limits by name that a reply about the exchange itself announces.

        Args:
            section: of the API, as in :class:`Endpoint`.
            path: of the request.
            reply: decoded.
        """
        del section, path, reply
        return {}

    def hold_for(self, code: str, status: int, times: int, exchange_ms: float) -> float:
        """Return how long nothing is sent after a refusal for rate without a stated end, seconds.

        Args:
            code: the exchange's.
            status: the HTTP status.
            times: how many such refusals came before this one, without a success between.
            exchange_ms: the exchange's time, Unix milliseconds.
        """
        del exchange_ms
        first = self.hold_s.get(code, self.hold_s.get(str(status), FIRST_HOLD_S))
        return max(first, min(first * 2.0 ** min(times, 10), LONGEST_HOLD_S))


def is_count(text: str) -> bool:
    """Return True if a text of an exchange is a whole number that can be computed with."""
    return len(text) <= _MAX_DIGITS and text.isascii() and text.isdigit()


def until_next_ms(window_s: float, exchange_ms: float) -> float:
    """Return the milliseconds until the next window begins, of those that begin at full ones."""
    window_ms = window_s * 1000
    return window_ms - exchange_ms % window_ms
