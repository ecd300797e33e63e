"""Money: spot balances and the futures wallet with its one-way positions."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Protocol

from tests.exchange_simulator import errors
from tests.exchange_simulator.markets import Market
from tests.exchange_simulator.orders import ZERO, Lock, Order


@dataclass(slots=True)
class Balance:
    """What an account holds of one asset."""

    free: Decimal = ZERO
    locked: Decimal = ZERO


@dataclass(frozen=True, slots=True)
class Settled:
    """What one fill cost: commission, its asset, and realised profit (futures)."""

    commission: Decimal
    asset: str
    realized_pnl: Decimal = ZERO


class Ledger(Protocol):
    """Reserves funds for an order, applies its fills, returns what is left."""

    def reserve(self, order: Order, price: Decimal) -> None:
        """Set funds aside for ``order`` at ``price``; raises when there is not enough."""

    def settle(self, order: Order, quantity: Decimal, price: Decimal, *, maker: bool) -> Settled:
        """Move the money of one fill."""

    def release(self, order: Order) -> None:
        """Return what the order still has set aside."""


class SpotLedger:
    """Balances per asset.

    Args:
        balances: free amounts at the start.
        maker_rate: commission of a resting fill, as a fraction.
        taker_rate: commission of a taking fill, as a fraction.
        fee_in: the asset of the commission: the one received unless given (``quote``, ``base``);
            a market's own ``fee_in`` counts more.
    """

    def __init__(
        self,
        balances: dict[str, Decimal],
        maker_rate: Decimal,
        taker_rate: Decimal,
        fee_in: str = "",
    ) -> None:
        self.balances = {asset: Balance(free=amount) for asset, amount in balances.items()}
        self.maker_rate = maker_rate
        self.taker_rate = taker_rate
        self.fee_in = fee_in

    def of(self, asset: str) -> Balance:
        """Return the balance of ``asset``, created empty if unknown."""
        return self.balances.setdefault(asset, Balance())

    def reserve(self, order: Order, price: Decimal) -> None:
        """Lock quote for a buy, base for a sell; -2010 when the free balance is short."""
        market = order.market
        if order.side == "BUY":
            asset, amount = market.quote, price * order.quantity
        else:
            asset, amount = market.base, order.quantity
        balance = self.of(asset)
        if balance.free < amount:
            raise errors.insufficient_balance()
        balance.free -= amount
        balance.locked += amount
        order.lock = Lock(asset, amount)

    def settle(self, order: Order, quantity: Decimal, price: Decimal, *, maker: bool) -> Settled:
        """Pay from the lock, receive the other asset less commission."""
        market = order.market
        cost = price * quantity
        paid, (asset, received) = (
            (cost, (market.base, quantity))
            if order.side == "BUY"
            else (quantity, (market.quote, cost))
        )
        self._pay(order, paid)
        self.of(asset).free += received
        rate = self.maker_rate if maker else self.taker_rate
        fee_asset, amount = self._fee(market, asset, quantity, cost)
        commission = (amount * rate).quantize(Decimal("1e-8"))
        self.of(fee_asset).free -= commission
        return Settled(commission, fee_asset)

    def _fee(
        self, market: Market, received: str, quantity: Decimal, cost: Decimal
    ) -> tuple[str, Decimal]:
        """Return the asset a fee is taken in, and the traded value in that asset."""
        asset = market.fee_in or self.fee_in or "received"
        asset = {"received": received, "base": market.base, "quote": market.quote}.get(asset, asset)
        if asset == market.base:
            return asset, quantity
        return asset, cost if asset == market.quote else cost / market.fee_price

    def _pay(self, order: Order, amount: Decimal) -> None:
        lock = order.lock
        if lock is None:
            raise RuntimeError(f"order {order.order_id} fills without reserved funds")
        balance = self.of(lock.asset)
        from_lock = min(lock.amount, amount)
        lock.amount -= from_lock
        balance.locked -= from_lock
        balance.free -= amount - from_lock  # a delayed market buy at a worse price

    def release(self, order: Order) -> None:
        """Unlock what is left; a leg of a shared lock finds it empty the second time."""
        if order.lock is None:
            return
        balance = self.of(order.lock.asset)
        balance.locked -= order.lock.amount
        balance.free += order.lock.amount
        order.lock.amount = ZERO


@dataclass(slots=True)
class Position:
    """One-way position: ``amount`` is negative when short."""

    market: Market
    amount: Decimal = ZERO
    entry_price: Decimal = ZERO
    leverage: int = 20
    margin_type: str = "cross"
    updated_ms: int = 0

    @property
    def margin(self) -> Decimal:
        """Initial margin at the entry price."""
        return abs(self.amount) * self.entry_price / self.leverage

    @property
    def unrealized(self) -> Decimal:
        """Profit at the last price."""
        return self.amount * (self.market.last - self.entry_price)

    def reducible(self, side: str) -> Decimal:
        """How much an order of ``side`` can reduce this position."""
        opposes = self.amount < 0 if side == "BUY" else self.amount > 0
        return abs(self.amount) if opposes else ZERO


class FuturesLedger:
    """A USDT wallet and its positions; margin is checked at the entry price, PnL on closing."""

    asset = "USDT"

    def __init__(self, wallet: Decimal, maker_rate: Decimal, taker_rate: Decimal) -> None:
        self.wallet = wallet
        self.maker_rate = maker_rate
        self.taker_rate = taker_rate
        self.positions: dict[str, Position] = {}
        #: what fees in other coins have changed of those coins
        self.coins: dict[str, Decimal] = {}
        self._position_margin = ZERO
        self._order_margin = ZERO

    @property
    def available(self) -> Decimal:
        """Wallet less the margin of positions and of open orders."""
        return self.wallet - self._position_margin - self._order_margin

    @property
    def position_margin(self) -> Decimal:
        """Initial margin of all positions."""
        return self._position_margin

    @property
    def order_margin(self) -> Decimal:
        """Initial margin of all open orders."""
        return self._order_margin

    def position(self, market: Market) -> Position:
        """Return the position of ``market``, created flat if unknown."""
        found = self.positions.get(market.symbol)
        if found is None:
            found = self.positions[market.symbol] = Position(market)
        return found

    def reserve(self, order: Order, price: Decimal) -> None:
        """Set margin aside for what would increase the position; -2019 when it is short."""
        position = self.position(order.market)
        adds = ZERO
        if not order.reduce_only:
            adds = max(order.quantity - position.reducible(order.side), ZERO)
        margin = adds * price / position.leverage
        if margin > self.available:
            raise errors.ApiError(-2019, "Margin is insufficient.")
        order.lock = Lock(self.asset, margin)
        self._order_margin += margin

    def settle(self, order: Order, quantity: Decimal, price: Decimal, *, maker: bool) -> Settled:
        """Net the fill into the position; realise profit on what it closes."""
        position = self.position(order.market)
        self._position_margin -= position.margin
        signed = quantity if order.side == "BUY" else -quantity
        closes = min(quantity, position.reducible(order.side))
        direction = 1 if position.amount > 0 else -1
        pnl = closes * (price - position.entry_price) * direction if closes else ZERO
        after = position.amount + signed
        if not closes:
            held = abs(position.amount)
            position.entry_price = (held * position.entry_price + quantity * price) / abs(after)
        elif after == 0:
            position.entry_price = ZERO
        elif (after > 0) != (position.amount > 0):
            position.entry_price = price
        position.amount = after
        self._position_margin += position.margin
        rate = self.maker_rate if maker else self.taker_rate
        value, coin = price * quantity * rate, order.market.fee_in
        self.wallet += pnl
        if coin in {"", self.asset}:
            commission = value.quantize(Decimal("1e-8"))
            self.wallet -= commission
            return Settled(commission, self.asset, pnl)
        commission = (value / order.market.fee_price).quantize(Decimal("1e-8"))
        self.coins[coin] = self.coins.get(coin, ZERO) - commission
        return Settled(commission, coin, pnl)

    def release(self, order: Order) -> None:
        """Return the order's margin."""
        if order.lock is not None:
            self._order_margin -= order.lock.amount
            order.lock.amount = ZERO

    def set_leverage(self, market: Market, leverage: int) -> None:
        """Change the leverage of one symbol, keeping the margin sum right."""
        position = self.position(market)
        self._position_margin -= position.margin
        position.leverage = leverage
        self._position_margin += position.margin
