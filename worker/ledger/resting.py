"""Orders that rest at a simulated exchange: stored by the ledger, for all workers alike.

What becomes of such an order depends on the prices seen since it was accepted. The scripts find out
which of those matter to it and keep only these, so an order has at most three, however long it
rests; whoever knows the rules of matching works out from them what has become of it.
"""

from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Final, NamedTuple

import msgspec

from worker.ledger.layouts import read_row
from worker.ledger.resting_layouts import (
    MarketsReply,
    PaperOrderReply,
    RestingPartReply,
    RestingRow,
)
from worker.ledger.scripts import Scripts

_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(RestingRow).decode


class Asked(StrEnum):
    """The purpose of a call about an order."""

    LOOK = "look"
    REST = "rest"
    CANCEL = "cancel"


class SeenPrice(NamedTuple):
    """A price of a market.

    ``at`` is Redis's time, Unix milliseconds, or if not positive how many milliseconds ago it was
    seen. Prices are in quote units, as text; a buy meets one of them, a sell the other.
    """

    at: int
    for_buys: str
    for_sells: str


class RestingOrder(NamedTuple):
    """An order, whether the call changed it, and Redis's time, Unix milliseconds."""

    row: RestingRow | None
    is_changed: bool
    now_ms: int


class Markets(NamedTuple):
    """Markets, each ``<exchange> <symbol>``: those new to a worker, and those of no more use to it.

    ``last`` is the number for the next call.
    """

    last: int
    joined: tuple[str, ...]
    gone: tuple[str, ...]


class RedisResting:
    """The orders that rest at an account's simulated exchanges.

    Args:
        scripts: run on the account.
    """

    def __init__(self, scripts: Scripts) -> None:
        self._scripts = scripts

    async def ask(
        self,
        asked: Asked,
        market: tuple[str, str],
        client_order_id: str,
        *,
        row: RestingRow | None = None,
        prices: Sequence[SeenPrice] = (),
    ) -> RestingOrder:
        """Look at an order, let it rest, or cancel it: see :func:`ask_resting`."""
        return await ask_resting(
            self._scripts, asked, market, client_order_id, row=row, prices=prices
        )

    async def send_prices(
        self, last: int, seen: Iterable[tuple[str, str, Sequence[SeenPrice]]]
    ) -> Markets:
        """Send prices, and learn where orders rest: see :func:`send_prices`."""
        return await send_prices(self._scripts, last, seen)

    async def list(self, exchange: str, symbol: str = "") -> tuple[list[RestingRow], int]:
        """List the open orders of one symbol or of all: see :func:`list_resting`."""
        return await list_resting(self._scripts, exchange, symbol)


async def ask_resting(
    scripts: Scripts,
    asked: Asked,
    market: tuple[str, str],
    client_order_id: str,
    *,
    row: RestingRow | None = None,
    prices: Sequence[SeenPrice] = (),
) -> RestingOrder:
    """Look at an order, let it rest if none is known by its id, or cancel it.

    Args:
        scripts: runs the script.
        asked: what to do.
        market: exchange and symbol.
        client_order_id: the order's.
        row: the order that is to rest; the time in it is ignored.
        prices: of the market, the oldest first, which the ledger has not seen; they come first.

    Raises:
        LedgerError: Redis cannot be asked; whether it was done is unknown, asking again is safe.
    """
    exchange, symbol = market
    text = b"" if row is None else _encode(row)
    reply = read_row(
        PaperOrderReply,
        await scripts.run(
            "paper_order", exchange, symbol, client_order_id, asked.value, text, _encode(prices)
        ),
    )
    found = _decode(reply.order) if reply.order else None
    return RestingOrder(found, bool(reply.is_changed), reply.now)


async def send_prices(
    scripts: Scripts, last: int, seen: Iterable[tuple[str, str, Sequence[SeenPrice]]]
) -> Markets:
    """Send prices of markets where orders rest, and learn where others do.

    Args:
        scripts: runs the script.
        last: the number that the call before returned, 0 at first.
        seen: exchange, symbol and prices, the oldest first.

    Raises:
        LedgerError: Redis cannot be asked.
    """
    sent = [_encode(market) for market in seen]
    reply = read_row(MarketsReply, await scripts.run("see_prices", last, *sent))
    return Markets(
        reply.last,
        tuple(market.decode() for market in reply.joined),
        tuple(market.decode() for market in reply.gone),
    )


async def list_resting(
    scripts: Scripts, exchange: str, symbol: str = ""
) -> tuple[list[RestingRow], int]:
    """List the orders that are open at a simulated exchange, of one symbol or of all.

    Returns:
        The orders, and Redis's time, Unix milliseconds.

    Raises:
        LedgerError: Redis cannot be asked.
    """
    rows: list[RestingRow] = []
    last = 0
    while True:
        reply = read_row(
            RestingPartReply, await scripts.run("list_resting", exchange, symbol, last)
        )
        rows += map(_decode, reply.orders)
        last = reply.last
        if not last:
            return rows, reply.now
