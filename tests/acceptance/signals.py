"""Signals for the acceptance tests: what a producer would send about the simulated exchange."""

import random
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

Signal = dict[str, Any]


def now(offset_s: float = 0.0) -> str:
    """A time on this machine's clock, RFC 3339."""
    return (datetime.now(UTC) + timedelta(seconds=offset_s)).isoformat()


def linear(number: int) -> str:
    """A generated perpetual."""
    return f"C{number:03d}/USDT:USDT"


def spot(number: int) -> str:
    """A generated spot market."""
    return f"C{number:03d}/USDT"


def opening(signal_id: str, symbol: str, **fields: Any) -> Signal:
    """A good market order of a fixed size."""
    return {
        "signal_id": signal_id,
        "created_at": now(),
        "exchange": "binance",
        "symbol": symbol,
        "direction": "long",
        "strength": 0.9,
        "confluence_score": 8,
        "quantity": "1",
    } | fields


def closing(signal_id: str, symbol: str, **fields: Any) -> Signal:
    """The end of a position."""
    return {
        "signal_id": signal_id,
        "created_at": now(),
        "exchange": "binance",
        "symbol": symbol,
        "action": "close",
    } | fields


class Market:
    """One market's symbol, and its price at the simulator.

    Args:
        symbol: CCXT unified.
        quote: ``bid`` and ``ask`` as ``/_sim/prices`` tells them.
    """

    def __init__(self, symbol: str, quote: dict[str, str]) -> None:
        self.symbol = symbol
        self.is_linear = ":" in symbol
        self.bid, self.ask = Decimal(quote["bid"]), Decimal(quote["ask"])

    def at(self, factor: str, *, above: bool) -> str:
        """A price on the market's grid, that share above the ask or below the bid."""
        price = self.ask * (1 + Decimal(factor)) if above else self.bid * (1 - Decimal(factor))
        return f"{price:.2f}"


def markets(prices: dict[str, Any], symbols: Iterable[str]) -> list[Market]:
    """Markets with the simulator's prices (``GET /_sim/prices``)."""
    return [
        Market(
            symbol,
            prices["futures" if ":" in symbol else "spot"][symbol.split(":")[0].replace("/", "")],
        )
        for symbol in symbols
    ]


def filling(rng: random.Random, market: Market, signal_id: str) -> Signal:
    """An entry that fills at once: of any type, size and direction the market allows."""
    is_long = not market.is_linear or rng.random() < 0.5
    fields: Signal = {"direction": "long" if is_long else "short"}
    if rng.random() < 0.2:
        del_quantity = {"quantity": None, "size_pct": f"{rng.uniform(0.01, 0.05):.3f}"}
    else:
        del_quantity = {"quantity": f"{rng.uniform(1, 5):.3f}"}
    kind = rng.choice(["market", "market", "protected", "GTC", "IOC", "FOK"])
    if kind == "protected":
        fields |= {
            "stop_loss": market.at("0.015", above=not is_long),
            "take_profit": market.at("0.04", above=is_long),
        }
    elif kind != "market":
        # Marketable: the limit lies on the far side of the spread.
        fields |= {
            "order_type": "limit",
            "time_in_force": kind,
            "entry_price": market.at("0.002", above=is_long),
        }
    made = opening(signal_id, market.symbol, **fields, **del_quantity)
    return {name: value for name, value in made.items() if value is not None}


def resting(market: Market, signal_id: str) -> Signal:
    """An entry that nobody takes: its limit is 2% away from the market."""
    return opening(
        signal_id, market.symbol, order_type="limit", entry_price=market.at("0.02", above=False)
    )


def waiting(market: Market, signal_id: str) -> Signal:
    """An entry that waits for a trigger that does not come."""
    return opening(
        signal_id, market.symbol, order_type="stop", stop_price=market.at("0.02", above=True)
    )
