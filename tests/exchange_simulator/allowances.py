"""Documented request limits, counted by the exchange's clock."""

from abc import ABC, abstractmethod
from collections import defaultdict


class OverLimitError(Exception):
    """A request is one too many.

    Args:
        limit: the name of the limit.
        wait_ms: until when it would have been allowed.
    """

    def __init__(self, limit: str, wait_ms: int) -> None:
        super().__init__(f"{limit}: {wait_ms} ms too early")
        self.limit = limit
        self.wait_ms = wait_ms


class Allowance(ABC):
    """A limit kept for each of any number of subjects: endpoints, pairs, keys."""

    def __init__(self, name: str) -> None:
        self.name = name

    @abstractmethod
    def spend(self, subject: str, cost: float, now_ms: int) -> None:
        """Count ``cost``; raises OverLimitError when it is over the limit."""

    @abstractmethod
    def used(self, subject: str, now_ms: int) -> float:
        """Return how much is used."""


class Windowed(Allowance):
    """So much in each window of the exchange's clock, as Bybit, OKX and Coinbase count."""

    def __init__(self, name: str, limit: float, window_ms: int) -> None:
        super().__init__(name)
        self.limit = limit
        self.window_ms = window_ms
        self._window: dict[str, int] = {}
        self._used: dict[str, float] = defaultdict(float)

    def used(self, subject: str, now_ms: int) -> float:
        """Return what the present window has used."""
        window = now_ms // self.window_ms
        if self._window.get(subject) != window:
            self._window[subject] = window
            self._used[subject] = 0
        return self._used[subject]

    def spend(self, subject: str, cost: float, now_ms: int) -> None:
        """Count ``cost`` in the present window; a refused call is not counted."""
        if self.used(subject, now_ms) + cost > self.limit:
            raise OverLimitError(self.name, self.window_ms - now_ms % self.window_ms)
        self._used[subject] += cost


class Decaying(Allowance):
    """A counter that decays with time, as Kraken's; refused calls count as well (punishing).

    https://docs.kraken.com/api/docs/guides/spot-rest-ratelimits

    Args:
        name: of the limit.
        most: the highest value.
        decay: how much it falls a second.
    """

    def __init__(self, name: str, most: float, decay: float) -> None:
        super().__init__(name)
        self.most = most
        self.decay = decay
        self._level: dict[str, tuple[float, int]] = {}

    def used(self, subject: str, now_ms: int) -> float:
        """Return the counter's value."""
        level, at_ms = self._level.get(subject, (0.0, now_ms))
        return max(0.0, level - self.decay * (now_ms - at_ms) / 1000)

    def spend(self, subject: str, cost: float, now_ms: int) -> None:
        """Raise the counter by ``cost``, up to one call over the limit when refused."""
        level = self.used(subject, now_ms) + cost
        self._level[subject] = min(level, self.most + 1), now_ms
        if level > self.most:
            raise OverLimitError(self.name, int((level - self.most) / self.decay * 1000) + 1)
