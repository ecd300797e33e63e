"""Limits of an exchange as values, and counters that keep them: pure arithmetic, no waiting.

Every counter answers how long a request has to wait, and is charged when it is sent. Times are
local monotonic milliseconds.
"""

from abc import ABC, abstractmethod
from collections import deque
from enum import StrEnum
from typing import Final

import msgspec

from worker.runtime.errors import InvariantError

#: A window is kept longer than the exchange counts it, for requests do not travel equally fast.
_PAD_PART, _SHORTEST_PAD_S, _LONGEST_PAD_S = 0.05, 0.1, 1.0
#: Charges within this part of a window are kept as one.
_SLOTS: Final = 50
#: Rounding errors of sums of costs.
_TINY: Final = 1e-9


class Scope(StrEnum):
    """The thing by which an exchange counts a limit, and so who shares it."""

    KEY = "key"  # the API key or its account: workers with keys of their own do not divide
    ADDRESS = "address"  # the IP address: all workers of the account are taken to share one
    WORKER = "worker"  # nobody: a limit of this worker's own


class Share(msgspec.Struct, frozen=True, gc=False):
    """A worker's part of a limit: it is number ``rank`` (from 0) of ``count`` live workers.

    ``is_new`` marks the time in which the other workers may not have heard of this one.
    """

    count: int = 1
    rank: int = 0
    is_new: bool = False

    def of(self, whole: float) -> float:
        """Return this worker's part of ``whole``, such as a rate."""
        return whole / self.count / (2.0 if self.is_new and self.count > 1 else 1.0)

    def whole_part(self, whole: float) -> float:
        """Return this worker's part of ``whole`` in whole units; all parts add up to ``whole``."""
        part = (int(whole) * (self.rank + 1)) // self.count - (int(whole) * self.rank) // self.count
        return float(part // 2 if self.is_new and self.count > 1 else part)


ALONE: Final = Share()


class Limit(msgspec.Struct, frozen=True, kw_only=True):
    """One limit of an exchange.

    Attributes:
        maximum: the most that may be counted at a time.
        scope: what it is counted by.
        reserve: the part of ``maximum``, in the same units, that only the first two classes use.
    """

    maximum: float
    scope: Scope = Scope.KEY
    reserve: float = 0.0


class Decaying(Limit, frozen=True, kw_only=True):
    """A counter that grows with every request and sinks by ``per_second``, as Kraken's.

    ``slack`` stays unused: the exchange lets its counter sink in steps of some seconds.
    """

    per_second: float
    slack: float = 0.0


class Rolling(Limit, frozen=True, kw_only=True):
    """At most ``maximum`` in any ``seconds``; that keeps windows that begin at fixed times, too."""

    seconds: float


class Counter(ABC):
    """The state of one limit in one worker."""

    @abstractmethod
    def wait_ms(self, cost: float, now_ms: float, *, reserved: bool, ahead: float = 0.0) -> float:
        """Return how long until ``cost`` fits, milliseconds; 0 for now.

        Args:
            cost: of the request; one that never fits waits until nothing is used.
            now_ms: local monotonic time.
            reserved: whether the reserve counts as room.
            ahead: what is to be sent before it.
        """

    @abstractmethod
    def add(self, cost: float, now_ms: float) -> None:
        """Charge ``cost``."""

    @abstractmethod
    def used(self, now_ms: float) -> float:
        """Return what this worker has used, as a part of its share of the maximum."""

    @abstractmethod
    def per_second(self) -> float:
        """Return what this worker may use a second for ever."""

    def tell(self, used: float, now_ms: float, ends_ms: float) -> None:  # noqa: B027 (optional)
        """Note what the exchange says is used of the whole limit, by all, until ``ends_ms``."""

    @abstractmethod
    def fill(self, now_ms: float) -> None:
        """Note that the exchange says the limit is used up."""

    @abstractmethod
    def relimit(self, limit: Limit) -> None:
        """Keep another limit of the same kind from now on; one of another kind is ignored."""

    @abstractmethod
    def divide(self, share: Share) -> None:
        """Take another part of the limit from now on."""


class DecayingCounter(Counter):
    """The counter of a :class:`Decaying` limit.

    It starts a quarter full: another process may have used the key a moment ago.
    """

    def __init__(self, limit: Decaying, share: Share = ALONE, *, now_ms: float) -> None:
        self._limit = limit
        self._share = share
        self._at_ms = now_ms
        self._level = 0.0
        if limit.scope is not Scope.WORKER:
            self._level = self._maximum() / 4

    def relimit(self, limit: Limit) -> None:
        """Keep another limit of the same kind from now on."""
        if isinstance(limit, Decaying):
            self._limit = limit

    def divide(self, share: Share) -> None:
        """Take another part; what is used of it stays the same part."""
        before = self._maximum()
        self._share = share
        self._level *= self._maximum() / before

    def _maximum(self) -> float:
        return self._share.of(self._limit.maximum - self._limit.slack)

    def per_second(self) -> float:
        """Return what this worker may use a second for ever."""
        return self._share.of(self._limit.per_second)

    def _sink(self, now_ms: float) -> float:
        passed_s = max(0.0, now_ms - self._at_ms) / 1000
        self._level = max(0.0, self._level - passed_s * self.per_second())
        self._at_ms = max(self._at_ms, now_ms)
        return self._level

    def wait_ms(self, cost: float, now_ms: float, *, reserved: bool, ahead: float = 0.0) -> float:
        """Return how long until ``cost`` fits behind ``ahead``."""
        ceiling = self._maximum() - (0.0 if reserved else self._share.of(self._limit.reserve))
        over = self._sink(now_ms) + ahead + cost - max(ceiling, cost)
        return over / self.per_second() * 1000 if over > _TINY else 0.0

    def add(self, cost: float, now_ms: float) -> None:
        """Charge ``cost``."""
        self._level = self._sink(now_ms) + cost

    def used(self, now_ms: float) -> float:
        """Return the level as a part of this worker's maximum."""
        return self._sink(now_ms) / self._maximum()

    def fill(self, now_ms: float) -> None:
        """Note that the counter is at its maximum."""
        self._level = max(self._sink(now_ms), self._maximum())


class RollingCounter(Counter):
    """The counter of a :class:`Rolling` limit."""

    def __init__(self, limit: Rolling, share: Share = ALONE) -> None:
        self._limit = limit
        self._share = share
        pad_s = min(max(limit.seconds * _PAD_PART, _SHORTEST_PAD_S), _LONGEST_PAD_S)
        self._kept_ms = (limit.seconds + pad_s) * 1000
        self._slot_ms = limit.seconds * 1000 / _SLOTS
        #: When each slot of charges began, and how much it has.
        self._slots: deque[list[float]] = deque()
        self._total = 0.0
        self._told = 0.0
        self._told_until_ms = float("-inf")

    def relimit(self, limit: Limit) -> None:
        """Keep another limit of the same kind and window from now on."""
        if isinstance(limit, Rolling) and limit.seconds == self._limit.seconds:
            self._limit = limit

    def divide(self, share: Share) -> None:
        """Take another part of the limit from now on."""
        self._share = share

    def per_second(self) -> float:
        """Return what this worker may use a second for ever."""
        return self._share.of(self._limit.maximum) / (self._kept_ms / 1000)

    def _keep_ms(self) -> float:
        """Return how long a charge counts: longer where there are fewer units than workers."""
        if self._share.whole_part(self._limit.maximum) >= 1:
            return self._kept_ms
        return self._kept_ms * self._share.count

    def _forget(self, now_ms: float) -> None:
        slots, kept_ms = self._slots, self._keep_ms()
        # Whoever waits just as long as was said arrives a rounding error early.
        while slots and slots[0][0] + self._slot_ms + kept_ms <= now_ms + _TINY:
            self._total -= slots.popleft()[1]
        if not slots:
            self._total = 0.0

    def wait_ms(self, cost: float, now_ms: float, *, reserved: bool, ahead: float = 0.0) -> float:
        """Return how long until ``cost`` fits behind ``ahead``."""
        self._forget(now_ms)
        limit, share = self._limit, self._share
        kept_ms = self._keep_ms()
        kept_back = 0.0 if reserved else share.whole_part(limit.reserve)
        room = max(share.whole_part(limit.maximum) - kept_back, cost)
        told_ms = 0.0
        if now_ms < self._told_until_ms:
            whole = limit.maximum - (0.0 if reserved else limit.reserve)
            if self._told + ahead + cost > whole + _TINY:
                told_ms = self._told_until_ms - now_ms
        over = self._total + ahead + cost - room
        if over <= _TINY:
            return told_ms
        for began_ms, spent in self._slots:
            over -= spent
            if over <= _TINY:
                return max(told_ms, began_ms + self._slot_ms + kept_ms - now_ms, 1.0)
        # Behind others that fill the window again, some times over.
        return max(told_ms, kept_ms * (1 + over // max(room, 1.0)))

    def add(self, cost: float, now_ms: float) -> None:
        """Charge ``cost``."""
        if not cost:
            return
        self._forget(now_ms)
        self._total += cost
        if now_ms < self._told_until_ms:
            self._told += cost
        if self._slots and now_ms - self._slots[-1][0] < self._slot_ms:
            self._slots[-1][1] += cost
        else:
            self._slots.append([now_ms, cost])

    def used(self, now_ms: float) -> float:
        """Return what is used of the window, by this worker or as the exchange says."""
        self._forget(now_ms)
        mine = self._total / max(self._share.whole_part(self._limit.maximum), 1.0)
        told = self._told / self._limit.maximum if now_ms < self._told_until_ms else 0.0
        return max(mine, told)

    def tell(self, used: float, now_ms: float, ends_ms: float) -> None:
        """Note what the exchange says is used of the whole limit, by all, until ``ends_ms``."""
        if used >= self._told or now_ms >= self._told_until_ms or ends_ms > self._told_until_ms:
            self._told, self._told_until_ms = used, ends_ms

    def fill(self, now_ms: float) -> None:
        """Note that the window is used up."""
        self.tell(self._limit.maximum, now_ms, now_ms + self._kept_ms)


def counter(limit: Limit, share: Share, now_ms: float) -> Counter:
    """Return a counter of ``limit`` for a worker with ``share`` of it."""
    if limit.scope is Scope.WORKER:
        share = ALONE
    if isinstance(limit, Decaying):
        return DecayingCounter(limit, share, now_ms=now_ms)
    if isinstance(limit, Rolling):
        return RollingCounter(limit, share)
    raise InvariantError(f"a limit is neither Decaying nor Rolling: {limit!r}")
