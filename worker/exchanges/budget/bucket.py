"""All limits of one exchange together: whether a request fits into each of them."""

from collections.abc import Iterable, Mapping
from typing import Final

from worker.exchanges.budget.classes import RESERVED, RequestClass
from worker.exchanges.budget.limits import ALONE, Counter, Limit, Scope, Share, counter

#: What one request costs: names of limits and units of each. A name may end with ``:`` and what the
#: limit is counted for, as ``pair:BTC/USDT``; each of those has a counter of its own.
Charges = tuple[tuple[str, float], ...]

#: Counters kept of limits that are counted for something; the least recently used go first.
MAX_COUNTERS: Final = 1_000


class Bucket:
    """The counters of one exchange in one worker.

    Args:
        limits: by the first part of their names.
        now_ms: local monotonic time.
    """

    def __init__(self, limits: Mapping[str, Limit], now_ms: float) -> None:
        self._limits = dict(limits)
        self._shares: dict[Scope, Share] = {}
        self._counters: dict[str, Counter] = {}
        for name in limits:
            self._find(name, now_ms)

    def _find(self, name: str, now_ms: float) -> Counter | None:
        found = self._counters.get(name)
        if found is not None:
            return found
        limit = self._limits.get(name.partition(":")[0])
        if limit is None:
            return None
        if len(self._counters) > MAX_COUNTERS:
            old = next((one for one in self._counters if ":" in one), None)
            if old is not None:
                del self._counters[old]
        made = counter(limit, self._shares.get(limit.scope, ALONE), now_ms)
        self._counters[name] = made
        return made

    def wait_ms(
        self,
        charges: Charges,
        request_class: RequestClass,
        now_ms: float,
        *,
        ahead: Mapping[str, float] | None = None,
        cover: Charges = (),
    ) -> float:
        """Return how long until a request fits into all its limits, milliseconds; 0 for now.

        Args:
            charges: what it costs.
            request_class: the first two may use the reserve.
            now_ms: local monotonic time.
            ahead: by limit, what is to be sent before it.
            cover: what has to fit behind it, reserve included: an entry's own stop and its proof.
        """
        reserved = request_class in RESERVED
        wait_ms = 0.0
        for name, cost in charges:
            found = self._find(name, now_ms)
            if found is not None:
                before = ahead.get(name, 0.0) if ahead else 0.0
                its_ms = found.wait_ms(cost, now_ms, reserved=reserved, ahead=before)
                wait_ms = max(wait_ms, its_ms)
        if cover:
            needed: dict[str, float] = {}
            for name, cost in (*charges, *cover):
                needed[name] = needed.get(name, 0.0) + cost
            for name, cost in needed.items():
                found = self._find(name, now_ms)
                if found is not None:
                    before = ahead.get(name, 0.0) if ahead else 0.0
                    its_ms = found.wait_ms(cost, now_ms, reserved=True, ahead=before)
                    wait_ms = max(wait_ms, its_ms)
        return wait_ms

    def add(self, charges: Charges, now_ms: float) -> None:
        """Charge a request that is sent."""
        for name, cost in charges:
            found = self._find(name, now_ms)
            if found is not None:
                found.add(cost, now_ms)

    def tell(self, name: str, used: float, now_ms: float, ends_ms: float) -> None:
        """Note what the exchange says is used of a limit, by all, until ``ends_ms``."""
        found = self._find(name, now_ms)
        if found is not None:
            found.tell(used, now_ms, ends_ms)

    def relimit(self, limits: Mapping[str, Limit]) -> None:
        """Put other limits in the place of those of the same names; what is used stays used."""
        self._limits.update(limits)
        for name, found in self._counters.items():
            limit = limits.get(name.partition(":")[0])
            if limit is not None:
                found.relimit(limit)

    def fill(self, names: Iterable[str], now_ms: float) -> None:
        """Note that the exchange says these limits are used up."""
        for name in names:
            found = self._find(name, now_ms)
            if found is not None:
                found.fill(now_ms)

    def share(self, scope: Scope, share: Share) -> None:
        """Set this worker's part of every limit of ``scope``."""
        self._shares[scope] = share
        for name, found in self._counters.items():
            if self._limits[name.partition(":")[0]].scope is scope:
                found.divide(share)

    def part(self, charges: Charges) -> float:
        """Return the greatest part of a limit's maximum that ``charges`` take."""
        parts = [
            cost / limit.maximum
            for name, cost in charges
            if (limit := self._limits.get(name.partition(":")[0])) is not None
        ]
        return max(parts, default=0.0)

    def used(self, now_ms: float) -> float:
        """Return the part that is used of the limit that is used most."""
        return max((one.used(now_ms) for one in self._counters.values()), default=0.0)

    def interval_s(self, charges: Charges, part: float, now_ms: float) -> float:
        """Return how rarely ``charges`` may come to take at most ``part`` of each limit's rate."""
        wait_s = 0.0
        for name, cost in charges:
            found = self._find(name, now_ms)
            if found is not None:
                wait_s = max(wait_s, cost / (part * found.per_second()))
        return wait_s
