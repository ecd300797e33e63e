"""Differences between the book and one exchange, a sentence each."""

from collections.abc import Mapping
from decimal import Decimal

from worker.domain.market import ExchangePosition, MarketKind
from worker.domain.money import ZERO, text
from worker.domain.position import WALLET_TOLERANCE, Position
from worker.domain.position_key import position_key
from worker.domain.signal import Direction
from worker.exchanges.ports import ExchangeAdapter


async def find_differences(
    adapter: ExchangeAdapter, held: Mapping[str, Position], busy: frozenset[str]
) -> list[str]:
    """Ask the exchange and compare its positions and balances with the book's.

    Args:
        adapter: the exchange.
        held: the book's positions on it by symbol, without the busy ones.
        busy: position keys that a signal is changing now; left out.

    Returns:
        One sentence a difference.

    Raises:
        ExchangeError: the exchange could not be asked.
    """
    found: list[str] = []
    spot: dict[str, Position] = {}
    linear: dict[str, Position] = {}
    for symbol, position in held.items():
        info = adapter.get_symbol_info(symbol)
        if info is None:
            found.append(
                f"{symbol}: the book has a position in a market the exchange does not list"
            )
            continue
        (linear if info.kind is MarketKind.LINEAR else spot)[symbol] = position
    if spot and adapter.balances_show_spot_positions:
        found += await _spot_differences(adapter, spot)
    there = {position.symbol: position for position in await adapter.get_positions()}
    for symbol in linear.keys() | there.keys():
        if position_key(adapter.name, symbol) in busy:
            continue
        sentence = _difference(symbol, linear.get(symbol), there.get(symbol))
        if sentence:
            found.append(sentence)
    return found


async def _spot_differences(adapter: ExchangeAdapter, held: Mapping[str, Position]) -> list[str]:
    """Compare balances: a long needs its quantity of the base currency, a short's is lent."""
    needed: dict[str, Decimal] = {}
    for symbol, position in held.items():
        info = adapter.get_symbol_info(symbol)
        if info is not None and position.direction is Direction.LONG:
            needed[info.base] = needed.get(info.base, ZERO) + position.quantity
    if not needed:
        return []
    balances = await adapter.get_balance(MarketKind.SPOT)
    return [
        f"{currency}: the book needs {text(quantity)}, the exchange holds "
        f"{text(balances[currency].total) if currency in balances else '0'}"
        for currency, quantity in sorted(needed.items())
        if (balances[currency].total if currency in balances else ZERO)
        < quantity * (1 - WALLET_TOLERANCE)
    ]


def _difference(symbol: str, ours: Position | None, theirs: ExchangePosition | None) -> str | None:
    if ours is None and theirs is not None:
        return f"{symbol}: {theirs.direction} {text(theirs.quantity)} is not in the book"
    if ours is not None and theirs is None:
        return f"{symbol}: the book's {ours.direction} {text(ours.quantity)} is not there"
    if ours is None or theirs is None:
        return None
    if ours.direction is theirs.direction and ours.quantity == theirs.quantity:
        return None
    return (
        f"{symbol}: the book has {ours.direction} {text(ours.quantity)}, the exchange "
        f"{theirs.direction} {text(theirs.quantity)}"
    )
