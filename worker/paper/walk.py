"""A seeded price path: a pure function of seed, symbol and time.

With ``paper.prices = "walk"`` the price of a symbol at second ``t`` (Unix time) is::

    middle * (1 + swing * x(t)),  rounded to 10 significant digits, with -1 <= x(t) <= 1

``middle`` is the symbol's in ``paper.walk_middles``, else ``paper.walk_middle``; ``swing`` is
``paper.walk_swing_pct`` as a fraction. At multiples of 65,536 s, ``x`` is random within ±0.5.
Between two of them it comes about by halving: in the middle of a span it is the mean of the span's
ends, plus something random within ±a. For the first halving ``a`` is 0.1464, for each further one
the one before divided by the square root of 2, down to spans of a second: over short times the
price moves like a Brownian path, over days it stays around the middle. What is random at ``t`` is
BLAKE2b of ``<seed>/<symbol>/<t>``. All of it is counted in whole billionths, so that every machine
gets the same digits.
"""

import hashlib
import math
from collections.abc import Iterable, Mapping
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Final, NamedTuple

from worker.domain.money import HUNDRED, ONE

#: The times at which the path starts anew, seconds apart, and how often a span is halved.
_HALVINGS: Final = 16
SPAN_S: Final = 2**_HALVINGS
_UNIT: Final = 10**9
_KNOT: Final = _UNIT // 2
_FIRST: Final = 146_446_609
#: How far the middle of a span lies from the mean of its ends at most, by halving from 0 up.
_OFFSETS: Final = tuple(math.isqrt(_FIRST**2 // 2**halving) for halving in range(_HALVINGS))
#: How far any point of a span lies outside of its ends at most, the rounding of means included.
_REACHES: Final = tuple(sum(_OFFSETS[n:]) + _HALVINGS for n in range(_HALVINGS + 1))
_EXACT: Final = Context(prec=60)
_ROUNDED: Final = Context(prec=10, rounding=ROUND_HALF_EVEN)


def middles_of(entries: Iterable[str]) -> dict[str, Decimal]:
    """Read ``<symbol>=<price>`` entries."""
    pairs = (entry.split("=") for entry in entries)
    return {symbol: Decimal(price) for symbol, price in pairs}


class _Span(NamedTuple):
    """A part of the path: its ends, Unix seconds, ``x`` there, and how often it was halved."""

    start: int
    end: int
    x_start: int
    x_end: int
    halvings: int


class PriceWalk:
    """The paths of every symbol of one simulated exchange.

    Args:
        seed: another seed, other paths.
        middle: the price that paths stay around, quote units.
        middles: the same by symbol, where it is another.
        swing_pct: how far a price goes from the middle at most, percent of it, below 100.
    """

    def __init__(
        self, seed: int, *, middle: Decimal, middles: Mapping[str, Decimal], swing_pct: Decimal
    ) -> None:
        self._seed = seed
        self._middle = middle
        self._middles = middles
        self._swing = _EXACT.divide(swing_pct, HUNDRED)

    def price(self, symbol: str, at_ms: int) -> Decimal:
        """Return the price at a time, Unix milliseconds; it changes at every full second."""
        second = at_ms // 1000
        span = self._span(symbol, second // SPAN_S)
        while second != span.start:
            first, last = self._halves(symbol, span)
            span = first if second < last.start else last
        return self._price(symbol, span.x_start)

    def first_through(
        self, symbol: str, level: Decimal, *, rises: bool, after_ms: int, until_ms: int
    ) -> tuple[int, Decimal] | None:
        """Return when the path first reaches a level, Unix milliseconds, and the price there.

        Args:
            symbol: whose path.
            level: a price.
            rises: True for a price of ``level`` or more, False for that or less.
            after_ms: later than the second of this time,
            until_ms: and not later than this.
        """
        after, until = after_ms // 1000, until_ms // 1000
        for number in range(after // SPAN_S, until // SPAN_S + 1):
            waiting = [self._span(symbol, number)]
            while waiting:
                span = waiting.pop()
                if span.end <= after or span.start >= until:
                    continue
                if not self._may_reach(symbol, span, level, rises=rises):
                    continue
                if span.halvings < _HALVINGS:
                    first, last = self._halves(symbol, span)
                    waiting += (last, first)
                    continue
                price = self._price(symbol, span.x_end)
                if price >= level if rises else price <= level:
                    return span.end * 1000, price
        return None

    def _may_reach(self, symbol: str, span: _Span, level: Decimal, *, rises: bool) -> bool:
        """Return False if no point of the span reaches the level."""
        reach = _REACHES[span.halvings]
        if rises:
            return self._price(symbol, max(span.x_start, span.x_end) + reach) >= level
        return self._price(symbol, min(span.x_start, span.x_end) - reach) <= level

    def _span(self, symbol: str, number: int) -> _Span:
        """Return the whole span of that number."""
        start = number * SPAN_S
        end = start + SPAN_S
        x_start, x_end = (self._random(symbol, second, _KNOT) for second in (start, end))
        return _Span(start, end, x_start, x_end, 0)

    def _halves(self, symbol: str, span: _Span) -> tuple[_Span, _Span]:
        middle = (span.start + span.end) // 2
        offset = self._random(symbol, middle, _OFFSETS[span.halvings])
        x = (span.x_start + span.x_end) // 2 + offset
        halvings = span.halvings + 1
        return (
            _Span(span.start, middle, span.x_start, x, halvings),
            _Span(middle, span.end, x, span.x_end, halvings),
        )

    def _random(self, symbol: str, second: int, most: int) -> int:
        """Return a number from ``-most`` to ``most``."""
        name = f"{self._seed}/{symbol}/{second}".encode()
        digest = hashlib.blake2b(name, digest_size=8).digest()
        return int.from_bytes(digest) % (2 * most + 1) - most

    def _price(self, symbol: str, x: int) -> Decimal:
        middle = self._middles.get(symbol, self._middle)
        share = _EXACT.divide(_EXACT.multiply(self._swing, Decimal(x)), Decimal(_UNIT))
        return _ROUNDED.multiply(middle, _EXACT.add(ONE, share))
