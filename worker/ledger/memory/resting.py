"""Orders that rest at a simulated exchange, and the prices that matter to them."""

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Final

import msgspec

from worker.ledger.memory.account import MemoryAccount
from worker.ledger.memory.steps import Steps
from worker.ledger.resting import Asked, Markets, RestingOrder, SeenPrice
from worker.ledger.resting_layouts import RestingRow

#: The most markets in which orders rest, and orders that rest in one.
MOST_MARKETS: Final = 100_000
MOST_IN_MARKET: Final = 1_000
#: Markets that a worker learns of in one call.
MOST_LEARNT: Final = 1_000

#: An exchange and a symbol.
Market = tuple[str, str]
#: A market and the prices seen there, the oldest first.
Seen = tuple[str, str, Sequence[SeenPrice]]


class MemoryResting:
    """The orders that rest at an account's simulated exchanges.

    Unlike in Redis, a market that nobody asks about for a week is not given up.

    Args:
        account: which.
        steps: runs the steps.
    """

    def __init__(self, account: MemoryAccount, steps: Steps) -> None:
        self._account = account
        self._steps = steps

    async def ask(
        self,
        asked: Asked,
        market: Market,
        client_order_id: str,
        *,
        row: RestingRow | None = None,
        prices: Sequence[SeenPrice] = (),
    ) -> RestingOrder:
        """Look at an order, let it rest if none is known by its id, or cancel it."""
        step = partial(
            ask_resting, self._account, asked, market, client_order_id, row, tuple(prices)
        )
        return await self._steps.run("paper_order", step)

    async def send_prices(self, last: int, seen: Iterable[Seen]) -> Markets:
        """Send prices of markets where orders rest, and learn where others do."""
        step = partial(send_prices, self._account, last, list(seen))
        return await self._steps.run("see_prices", step)

    async def list(self, exchange: str, symbol: str = "") -> tuple[list[RestingRow], int]:
        """List the orders that are open at a simulated exchange; and the account's time."""
        step = partial(list_resting, self._account, exchange, symbol)
        return await self._steps.run("list_resting", step)


def ask_resting(
    account: MemoryAccount,
    asked: Asked,
    market: Market,
    client_order_id: str,
    row: RestingRow | None,
    prices: Sequence[SeenPrice],
) -> RestingOrder:
    """Look at an order, let it rest, or cancel it; the prices come first."""
    resting, now_ms = account.resting, account.now_ms()
    _see_prices(account, market, prices)
    found = resting.find(market, client_order_id, now_ms)
    is_changed = False
    if found is None and asked is Asked.REST and row is not None and _has_room(account, market):
        found, is_changed = msgspec.structs.replace(row, since=now_ms), True
    elif found is not None and asked is Asked.CANCEL and found.is_open:
        found, is_changed = msgspec.structs.replace(found, cancelled=now_ms), True
    if found is not None and is_changed:
        resting.keep(market, client_order_id, found, now_ms)
    return RestingOrder(found, is_changed, now_ms)


def send_prices(account: MemoryAccount, last: int, seen: Sequence[Seen]) -> Markets:
    """Take the prices that a worker has seen, and tell it of markets that it does not know.

    ``last`` is the number that the call before returned, 0 at first.
    """
    resting = account.resting
    gone = []
    for exchange, symbol, prices in seen:
        _see_prices(account, (exchange, symbol), prices)
        if not resting.markets.get((exchange, symbol)):
            gone.append(f"{exchange} {symbol}")
    new = [one for one in resting.numbers if resting.numbers[one] > last][:MOST_LEARNT]
    number = resting.numbers[new[-1]] if len(new) == MOST_LEARNT else resting.joined
    return Markets(number, tuple(" ".join(one) for one in new), tuple(gone))


def list_resting(
    account: MemoryAccount, exchange: str, symbol: str
) -> tuple[list[RestingRow], int]:
    """List the open orders of one symbol or, if that is empty, of all; and the account's time."""
    rows = [
        row
        for market, orders in account.resting.markets.items()
        if market[0] == exchange and symbol in {"", market[1]}
        for row in orders.values()
    ]
    return rows, account.now_ms()


def _has_room(account: MemoryAccount, market: Market) -> bool:
    """Return whether another order may rest in a market."""
    markets = account.resting.markets
    if market in markets:
        return len(markets[market]) < MOST_IN_MARKET
    return len(markets) < MOST_MARKETS


def _see_prices(account: MemoryAccount, market: Market, prices: Sequence[SeenPrice]) -> None:
    """Let the orders of a market meet prices, the oldest first."""
    now_ms = account.now_ms()
    for client_id, before in list(account.resting.markets.get(market, {}).items()):
        row = before
        for seen in prices:
            at_ms = seen.at if seen.at > 0 else now_ms + seen.at
            row = _met(row, at_ms, seen.for_buys if row.buys else seen.for_sells)
        if row is not before:
            account.resting.keep(market, client_id, row, now_ms)


def _met(row: RestingRow, at_ms: int, price: str) -> RestingRow:
    """Return an order after a price; the same one if that does not matter to it."""
    if at_ms < (row.touches[-1][0] if row.touches else row.since):
        return row
    left = row.conditions
    while left:
        must_rise, level = left[0]
        number, limit = float(price), float(level)
        if number < limit if must_rise else number > limit:
            break
        left = left[1:]
    if left == row.conditions:
        return row
    return msgspec.structs.replace(
        row,
        conditions=() if row.immediate else left,  # now or never
        touches=(*row.touches, (at_ms, price)),
    )
