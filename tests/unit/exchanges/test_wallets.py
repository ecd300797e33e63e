"""Which wallet pays for what: an exchange may keep the money for spot and futures apart."""

from collections.abc import Mapping

from tests.unit.parts import (
    PERPETUAL,
    SYMBOL,
    D,
    ManualClock,
    ScriptedExchange,
    market_view,
    position,
    trouble,
)
from worker.domain.market import Balance, MarketKind
from worker.exchanges.errors import Outcome
from worker.keeper.differences import find_differences
from worker.market.data import MarketData


class TwoWallets(ScriptedExchange):
    """700 USDT and 1 BTC for spot, 300 USDT and 5 BTC for futures."""

    wallets: tuple[MarketKind, ...] = (MarketKind.SPOT, MarketKind.LINEAR)

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock)
        self.closed: set[MarketKind] = set()
        self.asked: list[MarketKind] = []

    async def get_balance(self, kind: MarketKind = MarketKind.SPOT) -> Mapping[str, Balance]:
        self.asked.append(kind)
        if kind in self.closed:
            raise trouble(Outcome.UNKNOWN)
        usdt, btc = (D(700), D(1)) if kind is MarketKind.SPOT else (D(300), D(5))
        return {
            "USDT": Balance(free=usdt, total=usdt),
            "BTC": Balance(free=btc, total=btc),
        }


class OneWallet(TwoWallets):
    """The same money for both."""

    wallets = (MarketKind.SPOT,)


class Room:
    """Market data of one exchange."""

    def __init__(self, kind: type[TwoWallets] = TwoWallets) -> None:
        self.clock = ManualClock()
        self.exchange = kind(self.clock)
        self.market = MarketData(
            {"paper": self.exchange},
            clock=self.clock,
            max_price_age_ms=60_000,
            max_balance_age_ms=30_000,
            on_error=lambda _name, _error: None,
        )

    async def free(self, symbol: str) -> int | None:
        """The balance an order of ``symbol`` would be sized with."""
        view = await market_view(self.market, "paper", symbol)
        return None if view.balance is None else int(view.balance.free)


async def test_each_market_sees_its_own_wallet() -> None:
    """Never the sum of both, and each wallet is asked for once."""
    room = Room()
    assert await room.free(SYMBOL) == 700
    assert await room.free(PERPETUAL.symbol) == 300
    assert await room.free(SYMBOL) == 700
    assert room.exchange.asked == [MarketKind.SPOT, MarketKind.LINEAR]


async def test_one_wallet_pays_for_both() -> None:
    """A unified account is asked once."""
    room = Room(OneWallet)
    assert await room.free(SYMBOL) == 700
    assert await room.free(PERPETUAL.symbol) == 700
    await room.market.refresh_balance("paper")
    assert room.exchange.asked == [MarketKind.SPOT, MarketKind.SPOT]


async def test_a_wallet_that_cannot_be_read_does_not_stop_the_other() -> None:
    """Spot goes on while the futures API is down."""
    room = Room()
    room.exchange.closed = {MarketKind.LINEAR}
    await room.market.refresh_balance("paper")
    assert await room.free(SYMBOL) == 700
    assert await room.free(PERPETUAL.symbol) is None
    room.exchange.closed = {MarketKind.SPOT}
    await room.market.refresh_balance("paper")
    assert await room.free(PERPETUAL.symbol) == 300
    assert await room.free(SYMBOL) == 700  # read a moment ago, which still counts


async def test_the_keeper_looks_for_spot_positions_in_the_spot_wallet() -> None:
    """Coins that secure futures are not the coins a spot position needs."""
    exchange = TwoWallets(ManualClock())
    held = {SYMBOL: position(quantity=D(2))}
    assert await find_differences(exchange, held, frozenset()) == [
        "BTC: the book needs 2, the exchange holds 1"
    ]
    assert await find_differences(exchange, {SYMBOL: position()}, frozenset()) == []
