"""The demo's signals: valid ones, and one kind for each way a signal can be wrong."""

from collections.abc import Callable, Iterator
from enum import StrEnum
from random import Random
from typing import Any, Final, NamedTuple

import msgspec

from worker.runtime.clock import SystemClock, rfc3339

_PRICES: Final = {
    "BTC/USDT": 65_000.0,
    "ETH/USDT": 3_500.0,
    "SOL/USDT": 150.0,
    "XRP/USDT": 0.52,
    "ADA/USDT": 0.45,
    "DOGE/USDT": 0.125,
    "AVAX/USDT": 28.0,
    "LINK/USDT": 14.5,
    "LTC/USDT": 72.0,
    "DOT/USDT": 6.1,
    "UNI/USDT": 7.4,
    "ATOM/USDT": 8.3,
}
#: The most positions the demo's account may hold.
MAX_POSITIONS: Final = 8
#: The share of signals that suit the positions held.
_SENSIBLE: Final = 0.9
_encode = msgspec.json.Encoder().encode


class Fate(StrEnum):
    """The required result of a signal, as far as its producer can know it."""

    ORDER = "ends in one order event"
    DUPLICATE = "dropped as a repetition"
    DEAD = "dead letter"


class DemoSignal(NamedTuple):
    """One entry's payload and its required result."""

    data: bytes
    fate: Fate


class DemoSignals:
    """An endless, repeatable mix of signals.

    Args:
        seed: the same seed gives the same signals (but for their times).
    """

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)  # noqa: S311 (a made-up market)
        self._prices = dict(_PRICES)
        self._number = 0
        self._sent: list[dict[str, Any]] = []
        #: Symbols that probably have a position: most signals make sense, some do not.
        self._held: set[str] = set()

    def __iter__(self) -> Iterator[DemoSignal]:
        kinds = [kind for kind, _ in self._mix()]
        weights = [weight for _, weight in self._mix()]
        while True:
            make = self._random.choices(kinds, weights)[0]
            yield make()

    def _mix(self) -> tuple[tuple[Callable[[], DemoSignal], int], ...]:
        return (
            (self._open, 40),
            (self._open_limit, 10),
            (self._close, 30),
            (self._weak, 3),
            (self._expired, 3),
            (self._from_the_future, 1),
            (self._long_lived, 1),
            (self._wrong_side, 3),
            (self._unknown_symbol, 3),
            (self._unknown_exchange, 2),
            (self._too_large, 2),
            (self._duplicate, 6),
            (self._conflict, 3),
            (self._not_json, 2),
            (self._unknown_field, 2),
        )

    def _signal(self, symbol: str, **fields: Any) -> dict[str, Any]:
        self._number += 1
        price = self._prices[symbol] * (1 + self._random.uniform(-0.002, 0.002))
        self._prices[symbol] = price
        return {
            "signal_id": f"demo-{self._number:04}",
            "created_at": _time(0),
            "exchange": "paper",
            "symbol": symbol,
            "entry_price": f"{price:.8g}",
            "strategy_id": self._random.choice(("breakout", "mean-reversion")),
        } | fields

    def _symbol(self, *, held: bool) -> str:
        sensible = self._held if held else self._prices.keys() - self._held
        makes_sense = self._random.random() < _SENSIBLE and bool(sensible)
        return self._random.choice(sorted(sensible if makes_sense else self._prices))

    def _opening(self, **fields: Any) -> dict[str, Any]:
        signal = self._signal(self._symbol(held=False))
        is_long = self._random.random() < 0.6
        sign = 1 if is_long else -1
        price = float(signal["entry_price"])
        return (
            signal
            | {
                "direction": "long" if is_long else "short",
                "strength": round(self._random.uniform(0.5, 1), 2),
                "confluence_score": round(self._random.uniform(4, 10), 1),
                "stop_loss": f"{price * (1 - 0.01 * sign):.8g}",
                "take_profit": f"{price * (1 + 0.02 * sign):.8g}",
            }
            | fields
        )

    def _done(self, signal: dict[str, Any]) -> DemoSignal:
        self._sent.append(signal)
        return DemoSignal(_encode(signal), Fate.ORDER)

    def _open(self, **fields: Any) -> DemoSignal:
        signal = self._opening(**fields)
        if len(self._held) < MAX_POSITIONS:
            self._held.add(signal["symbol"])
        return self._done(signal)

    def _open_limit(self) -> DemoSignal:
        return self._open(order_type="limit", time_in_force="IOC")

    def _close(self) -> DemoSignal:
        symbol = self._symbol(held=True)
        self._held.discard(symbol)
        return self._done(self._signal(symbol, action="close"))

    def _weak(self) -> DemoSignal:
        return self._done(self._opening(confluence_score=1.5))

    def _expired(self) -> DemoSignal:
        return self._done(self._opening(created_at=_time(-300)))

    def _from_the_future(self) -> DemoSignal:
        return self._done(self._opening(created_at=_time(3_600)))

    def _long_lived(self) -> DemoSignal:
        return self._done(self._opening(expires_at=_time(172_800)))

    def _wrong_side(self) -> DemoSignal:
        signal = self._opening()
        return self._done(
            signal | {"stop_loss": signal["take_profit"], "take_profit": signal["stop_loss"]}
        )

    def _unknown_symbol(self) -> DemoSignal:
        return self._done(self._opening(symbol="NOSUCHCOIN/USDT"))

    def _unknown_exchange(self) -> DemoSignal:
        return self._done(self._opening(exchange="mtgox"))

    def _too_large(self) -> DemoSignal:
        return self._done(self._opening(size_pct=90))

    def _duplicate(self) -> DemoSignal:
        if not self._sent:
            return self._open()
        return DemoSignal(_encode(self._random.choice(self._sent)), Fate.DUPLICATE)

    def _conflict(self) -> DemoSignal:
        if not self._sent:
            return self._open()
        earlier = self._random.choice(self._sent)
        # In the same group as the earlier one, so that their order is certain.
        return DemoSignal(_encode(earlier | {"strategy_id": "someone-else"}), Fate.DEAD)

    def _not_json(self) -> DemoSignal:
        return DemoSignal(_encode(self._opening())[:-20], Fate.DEAD)

    def _unknown_field(self) -> DemoSignal:
        signal = self._opening()
        signal["stop_los"] = signal.pop("stop_loss")
        return DemoSignal(_encode(signal), Fate.DEAD)


def _time(ahead_s: float) -> str:
    return rfc3339(SystemClock().now_ms() + ahead_s * 1_000)
