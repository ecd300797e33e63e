"""A net position, and its changes by fills."""

from datetime import datetime
from decimal import Decimal
from typing import Final

import msgspec

from worker.domain.earlier import Earlier
from worker.domain.fees import coins_taken, fees_in_quote, total_fees
from worker.domain.market import SPOT, SymbolInfo
from worker.domain.money import HUNDRED, ZERO, floor_to, ratio, shown, shown_ratio, tidy
from worker.domain.order import Fill, average_price, total_quantity, total_value
from worker.domain.signal import LONG, Direction

#: A spot wallet may hold this fraction less than the book: dust and fees the book could not see are
#: no difference. Such a position is sold as far as it is there, and is closed with that.
WALLET_TOLERANCE: Final = Decimal("0.002")


class Position(
    msgspec.Struct,
    kw_only=True,
    frozen=True,
    forbid_unknown_fields=True,
    omit_defaults=True,
    gc=False,
):
    """The account's net position in one symbol of one exchange: exact sums of its fills.

    Nothing that is stored was ever divided, but for what ``earlier`` was charged: the sums do not
    depend on the order in which fills became known, or on how they were cut. Means, and the share
    of the cost that an exit is charged, are worked out from them when asked for; what is left of a
    position at its end is charged whole. ``quantity``, held now and 0 once it is closed, follows
    from the sums too; it stands beside them because everything asks for it.

    Quantities are base units, values quote units. ``entry_*`` are what entries traded, ``exit_*``
    what exits did, fees left out. ``entry_fee`` and ``exit_fee`` are every fee that could be
    converted to quote; ``fees`` holds each in its own currency (see :mod:`worker.domain.fees`).
    ``entry_coins`` of base currency, worth ``entry_coin_value`` at their fills' prices, were taken
    out of what was bought (spot), ``exit_coins`` out of what was left. ``gone`` left the position
    without a trade: what the wallet lacked, and what is too little to be traded.
    """

    position_id: str
    exchange: str
    symbol: str
    direction: Direction
    quantity: Decimal
    entry_quantity: Decimal
    entry_value: Decimal
    opened_at: datetime
    signal_id: str
    strategy_id: str | None = None
    stop_loss: Decimal | None = None
    take_profit: Decimal | None = None
    entry_fee: Decimal = ZERO
    entry_coins: Decimal = ZERO
    entry_coin_value: Decimal = ZERO
    exit_quantity: Decimal = ZERO
    exit_value: Decimal = ZERO
    exit_fee: Decimal = ZERO
    exit_coins: Decimal = ZERO
    exit_coin_value: Decimal = ZERO
    gone: Decimal = ZERO
    fees: dict[str, Decimal] = {}
    earlier: Earlier | None = None

    @property
    def opened_quantity(self) -> Decimal:
        """All that was ever opened, base units, net of the fees that were taken out of it."""
        opened = self.entry_quantity - self.entry_coins
        return tidy(opened if self.earlier is None else opened + self.earlier.opened)

    @property
    def cost(self) -> Decimal:
        """Entry value of the quantity held, quote units."""
        quantity = self.quantity
        if quantity == self.entry_quantity:
            return self.entry_value
        return ratio(self.entry_value * quantity, self.entry_quantity)

    @property
    def entry_price(self) -> Decimal:
        """Mean price of what is held, quote units, rounded as it is shown."""
        return shown_ratio(self.entry_value, self.entry_quantity)

    @property
    def exit_price(self) -> Decimal | None:
        """Mean price of the closed part, quote units, as it is shown; None if there is none."""
        quantity, value = self.exits
        return shown_ratio(value, quantity) if quantity else None

    @property
    def exits(self) -> tuple[Decimal, Decimal]:
        """All that exits ever traded: base units, and their value in quote units."""
        if self.earlier is None:
            return self.exit_quantity, self.exit_value
        return (
            self.exit_quantity + self.earlier.exit_quantity,
            self.exit_value + self.earlier.exit_value,
        )

    @property
    def entry_fee_open(self) -> Decimal:
        """Fees of the entry not yet charged to realised profit, in quote, as it is shown."""
        if not self.quantity:
            return ZERO
        return shown(self.entry_fee - self._charged(self._closed()[0])[1])

    @property
    def fee(self) -> Decimal:
        """Every fee so far that could be converted, quote units."""
        fee = self.entry_fee + self.exit_fee
        return tidy(fee if self.earlier is None else fee + self.earlier.fee)

    @property
    def realized_pnl(self) -> Decimal:
        """Profit realised so far, quote units, net of fees, rounded as it is shown."""
        return shown(self.realized)

    @property
    def realized(self) -> Decimal:
        """Profit realised so far, quote units, net of every fee that could be converted.

        Of a position that was sold to the last unit it is exactly what came in less what went out.
        """
        realized = ZERO
        if self.earlier is not None:
            realized = self.earlier.realized(self.direction)
        if not (self.exit_quantity or self.gone):
            return realized
        is_whole = self.exit_quantity == self.entry_quantity
        if is_whole and not (self.entry_coins or self.exit_coins):  # nearly always
            gain = self.exit_value - self.entry_value
            fees = self.entry_fee + self.exit_fee
            return realized + (gain if self.direction is LONG else -gain) - fees
        closed, coin_value = self._closed()
        cost, fee = self._charged(closed)
        gain = self.exit_value + coin_value - cost
        return realized + (gain if self.direction is LONG else -gain) - fee - self.exit_fee

    @property
    def realized_pnl_pct(self) -> Decimal:
        """Realised profit in percent of the closed part's entry value, as it is shown."""
        return self.percent_of_cost(self.realized)

    def percent_of_cost(self, realized: Decimal) -> Decimal:
        """Return ``realized`` in percent of the closed part's entry value, as it is shown."""
        closed = self._closed()[0] if self.exit_coins else self.exit_quantity
        if self.earlier is not None:
            closed += self.earlier.closed
        profit, basis = realized * HUNDRED, self.entry_value
        if closed != self.entry_quantity:
            profit, basis = profit * self.entry_quantity, basis * closed
        return shown_ratio(profit, basis) if basis else ZERO

    def _closed(self) -> tuple[Decimal, Decimal]:
        """Return what exits took off what is held, their fees included, and the worth of those.

        A fee takes no more coins than there are: the wallet paid the rest from coins the book knows
        nothing of, as money.
        """
        coins, value = self.exit_coins, self.exit_coin_value
        if not coins:
            return self.exit_quantity, ZERO
        room = self.entry_quantity - self.entry_coins - self.exit_quantity - self.gone
        taken = min(coins, max(room, ZERO))
        if taken != coins:
            value = ratio(value * taken, coins)
        return self.exit_quantity + taken, value

    def _charged(self, closed: Decimal) -> tuple[Decimal, Decimal]:
        """Return the share of the cost, and of the entry's fees, that ``closed`` is charged."""
        opened, cost, fee = self.entry_quantity, self.entry_value, self.entry_fee
        if self.entry_coins:
            opened, cost = opened - self.entry_coins, cost - self.entry_coin_value
        if closed == opened:
            return cost, fee
        if self.quantity:
            fee = ratio(fee * closed, opened)
        return ratio(cost * closed, opened) if opened else ZERO, fee


def open_position(
    *,
    position_id: str,
    exchange: str,
    direction: Direction,
    fills: tuple[Fill, ...],
    info: SymbolInfo,
    opened_at: datetime,
    signal_id: str,
    strategy_id: str | None,
    stop_loss: Decimal | None,
    take_profit: Decimal | None,
) -> Position:
    """Open the position that an entry order's fills (at least one) make."""
    coins, coin_value = coins_taken(fills, direction, info)
    traded = total_quantity(fills)
    # More than 15 arguments by name would be gathered in a dictionary first.
    position = Position(
        position_id=position_id,
        exchange=exchange,
        symbol=info.symbol,
        direction=direction,
        quantity=tidy(traded - coins if coins else traded),
        entry_quantity=traded,
        entry_value=total_value(fills),
        opened_at=opened_at,
        signal_id=signal_id,
        strategy_id=strategy_id,
        stop_loss=stop_loss,
        take_profit=take_profit,
        entry_fee=fees_in_quote(fills, info),
        fees=total_fees(fills),
    )
    if not coins:
        return position
    return msgspec.structs.replace(position, entry_coins=coins, entry_coin_value=coin_value)


def enlarge_position(position: Position, fills: tuple[Fill, ...], info: SymbolInfo) -> Position:
    """Add an entry's fills in the position's own direction; the entry price becomes their mean."""
    held = _settled(position)
    coins, coin_value = coins_taken(fills, position.direction, info)
    traded = total_quantity(fills)
    return msgspec.structs.replace(
        held,
        quantity=tidy(held.quantity + traded - coins),
        entry_quantity=held.entry_quantity + traded,
        entry_value=held.entry_value + total_value(fills),
        entry_fee=held.entry_fee + fees_in_quote(fills, info),
        entry_coins=held.entry_coins + coins,
        entry_coin_value=held.entry_coin_value + coin_value,
        fees=total_fees(fills, held.fees),
    )


def _settled(position: Position) -> Position:
    """Move what was closed so far into ``earlier``, so that an entry leaves its profit alone.

    The only sums that are divided: what is moved and what stays are together what there was.
    """
    if not (position.exit_quantity or position.gone):
        return position
    before, held = position.earlier or Earlier(), position.quantity
    closed, coin_value = position._closed()  # noqa: SLF001 (its own module)
    charged, fee = position._charged(closed)  # noqa: SLF001
    opened = position.entry_quantity - position.entry_coins
    cost = position.entry_value - position.entry_coin_value
    lost = ratio(cost * position.gone, opened) if position.gone else ZERO
    return msgspec.structs.replace(
        position,
        entry_quantity=held,
        entry_value=cost - charged - lost,
        entry_fee=position.entry_fee - fee,
        entry_coins=ZERO,
        entry_coin_value=ZERO,
        exit_quantity=ZERO,
        exit_value=ZERO,
        exit_fee=ZERO,
        exit_coins=ZERO,
        exit_coin_value=ZERO,
        gone=ZERO,
        earlier=Earlier(
            opened=before.opened + opened - held,
            closed=before.closed + closed,
            cost=before.cost + charged,
            exit_quantity=before.exit_quantity + position.exit_quantity,
            exit_value=before.exit_value + position.exit_value,
            coin_value=before.coin_value + coin_value,
            fee=before.fee + fee + position.exit_fee,
        ),
    )


def is_untradable(quantity: Decimal, price: Decimal | None, info: SymbolInfo) -> bool:
    """Return whether the market would not take an order that closes ``quantity``.

    It takes none below its quantity step or minimum, and on spot none worth less than its minimum
    (orders that only reduce a derivative position have no least value).

    Args:
        quantity: base units.
        price: to value it at, quote units; None where no price is known, which leaves the value
            unjudged.
        info: the market's rules.
    """
    if quantity <= ZERO or quantity < info.quantity_step or quantity < info.min_quantity:
        return True
    if price is None or info.kind is not SPOT:
        return False
    return floor_to(quantity, info.quantity_step) * price < info.min_notional


def reduce_position(
    position: Position, fills: tuple[Fill, ...], info: SymbolInfo, missing: Decimal = ZERO
) -> tuple[Position, Decimal]:
    """Apply an exit's fills.

    On spot a fee in the base currency is taken off what is left, as if that much had been sold
    too. A remainder the market would not take counts as closed (``quantity`` 0).

    Args:
        position: before the fills.
        fills: at least one.
        info: the market's rules.
        missing: base units of the position that the exchange does not hold; they are gone.

    Returns:
        The position after the fills, and the profit they realised, quote units.
    """
    coins, coin_value = coins_taken(fills, position.direction, info)
    sold = total_quantity(fills)
    after = msgspec.structs.replace(
        position,
        quantity=_left(position, sold + missing, coins),
        exit_quantity=position.exit_quantity + sold,
        exit_value=position.exit_value + total_value(fills),
        exit_fee=position.exit_fee + fees_in_quote(fills, info),
        exit_coins=_sum(position.exit_coins, coins),
        exit_coin_value=_sum(position.exit_coin_value, coin_value),
        gone=_sum(position.gone, missing),
        fees=total_fees(fills, position.fees),
    )
    left = after.quantity
    if left and is_untradable(left, average_price(fills), info):
        after = msgspec.structs.replace(after, quantity=ZERO, gone=after.gone + left)
    realized, before = after.realized_pnl, position.realized_pnl
    return after, tidy(realized - before) if before else realized


def _left(position: Position, less: Decimal, coins: Decimal) -> Decimal:
    """Return what is left of a position after ``less`` of it left and its fees took ``coins``."""
    coins = _sum(position.exit_coins, coins)
    if not coins:
        left = position.quantity - less
    else:
        left = position.entry_quantity - position.entry_coins - position.exit_quantity
        left -= position.gone + less
        left -= min(coins, max(left, ZERO))
    return tidy(left) if left > ZERO else ZERO


def _sum(amount: Decimal, more: Decimal) -> Decimal:
    """Add; where there is nothing to add, return the same object: a default is not stored."""
    return amount + more if more else amount


def write_off(position: Position) -> tuple[Position, Decimal]:
    """Close a position of which nothing can be traded any more, without a trade.

    Returns:
        The ended position, and the profit of that: the entry's fees that were still open, as a
        loss. What the rest was worth is not known here.
    """
    gone = position.gone + position.quantity
    after = msgspec.structs.replace(position, quantity=ZERO, gone=gone)
    return after, tidy(after.realized_pnl - position.realized_pnl)


def correct_position(
    position: Position, quantity: Decimal, price: Decimal
) -> tuple[Position, Decimal]:
    """Set a position to the quantity an operator states; the difference traded at ``price``.

    Args:
        position: as the book has it.
        quantity: what is really held, base units; 0 closes the position.
        price: of the trades the worker did not see, quote units. Their fees are unknown and count
            as zero.

    Returns:
        The corrected position, and the profit the correction realised, quote units.
    """
    more = quantity - position.quantity
    if more < ZERO:
        after = msgspec.structs.replace(
            position,
            quantity=tidy(quantity),
            exit_quantity=position.exit_quantity - more,
            exit_value=position.exit_value - more * price,
        )
    else:
        held = _settled(position)
        after = msgspec.structs.replace(
            held,
            quantity=tidy(quantity),
            entry_quantity=held.entry_quantity + more,
            entry_value=held.entry_value + more * price,
        )
    return after, tidy(after.realized_pnl - position.realized_pnl)
