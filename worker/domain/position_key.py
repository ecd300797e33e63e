"""The key under which an account holds one position."""

from typing import NewType, cast

#: ``<exchange>:<symbol>``: a field of the ledger's hash ``book``, and the default message group.
PositionKey = NewType("PositionKey", str)


def position_key(exchange: str, symbol: str) -> PositionKey:
    """Build the key of the one net position an account may hold in ``symbol`` on ``exchange``.

    Args:
        exchange: its name; a configured one never holds a colon, so the first colon ends it.
        symbol: CCXT unified, as signals spell it (``BTC/USDT`` or ``BTC/USDT:USDT``).
    """
    return cast("PositionKey", f"{exchange}:{symbol}")
