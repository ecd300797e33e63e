"""A net position, and its changes by fills."""

from datetime import datetime
from decimal import Decimal
from typing import Final

import msgspec

from worker.domain.fees import (
    FeeList,
    fee_in_base,
    fees_in_quote,
    received_quantity,
    split_fees,
    total_fees,
)
from worker.domain.market import SPOT, SymbolInfo
from worker.domain.money import HUNDRED, ZERO, floor_to, ratio, tidy
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
    """The account's net position in one symbol of one exchange.

    ``quantity`` is held now, ``opened_quantity`` was opened in total (base units, net of fees taken
    in the base currency on spot). ``realized_pnl`` is in the quote currency, net of every fee that
    could be converted to it; ``fees`` holds each fee in its own currency, ``fee`` the sum of the
    convertible ones in quote (see :mod:`worker.domain.fees`).
    """

    position_id: str
    exchange: str
    symbol: str
    direction: Direction
    quantity: Decimal
    opened_quantity: Decimal
    entry_price: Decimal
    opened_at: datetime
    signal_id: str
    strategy_id: str | None = None
    stop_loss: Decimal | None = None
    take_profit: Decimal | None = None
    realized_pnl: Decimal = ZERO
    exit_value: Decimal = ZERO
    exit_quantity: Decimal = ZERO
    fee: Decimal = ZERO
    fees: dict[str, Decimal] = {}
    #: Fees of the entry not yet charged to realised profit, in quote.
    entry_fee_open: Decimal = ZERO

    @property
    def cost(self) -> Decimal:
        """Entry value of the quantity held, quote units."""
        return self.quantity * self.entry_price

    @property
    def exit_price(self) -> Decimal | None:
        """Mean price of the closed part, quote units; None if nothing was closed."""
        return ratio(self.exit_value, self.exit_quantity) if self.exit_quantity else None

    @property
    def realized_pnl_pct(self) -> Decimal:
        """Realised profit in percent of the closed part's entry value."""
        basis = self.exit_quantity * self.entry_price
        return ratio(self.realized_pnl * HUNDRED, basis) if basis else ZERO


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
    received = tidy(received_quantity(fills, direction, info))
    fee = tidy(fees_in_quote(fills, info))
    return Position(
        position_id=position_id,
        exchange=exchange,
        symbol=info.symbol,
        direction=direction,
        quantity=received,
        opened_quantity=received,
        entry_price=tidy(average_price(fills) or ZERO),
        opened_at=opened_at,
        signal_id=signal_id,
        strategy_id=strategy_id,
        stop_loss=stop_loss,
        take_profit=take_profit,
        fee=fee,
        fees=total_fees(fills),
        entry_fee_open=fee,
    )


def enlarge_position(position: Position, fills: tuple[Fill, ...], info: SymbolInfo) -> Position:
    """Add an entry's fills in the position's own direction; the entry price becomes their mean."""
    more = open_position(
        position_id=position.position_id,
        exchange=position.exchange,
        direction=position.direction,
        fills=fills,
        info=info,
        opened_at=position.opened_at,
        signal_id=position.signal_id,
        strategy_id=position.strategy_id,
        stop_loss=position.stop_loss,
        take_profit=position.take_profit,
    )
    quantity = position.quantity + more.quantity
    return msgspec.structs.replace(
        position,
        quantity=tidy(quantity),
        opened_quantity=tidy(position.opened_quantity + more.quantity),
        entry_price=ratio(position.cost + more.cost, quantity) if quantity else ZERO,
        fee=tidy(position.fee + more.fee),
        fees=total_fees(fills, position.fees),
        entry_fee_open=tidy(position.entry_fee_open + more.entry_fee_open),
    )


def split_fills(
    fills: tuple[Fill, ...], quantity: Decimal
) -> tuple[tuple[Fill, ...], tuple[Fill, ...]]:
    """Split fills at ``quantity`` base units; the fill that crosses it is cut, its fees too.

    Returns:
        The fills up to ``quantity``, and the rest, both in their order.
    """
    first: list[Fill] = []
    rest: list[Fill] = []
    for fill in fills:
        part = min(fill.quantity, quantity)
        quantity -= part
        if part == fill.quantity:
            first.append(fill)
            continue
        if part:
            taken, fill = _cut(fill, part)  # noqa: PLW2901
            first.append(taken)
        rest.append(fill)
    return tuple(first), tuple(rest)


def _cut(fill: Fill, part: Decimal) -> tuple[Fill, Fill]:
    """Cut a fill into its first ``part`` base units and the rest, its fees in proportion."""
    taken, left = split_fees(fill, part)
    return _resized(fill, part, taken), _resized(fill, fill.quantity - part, left)


def _resized(fill: Fill, quantity: Decimal, fees: FeeList) -> Fill:
    (_, fee), *more_fees = fees
    return msgspec.structs.replace(fill, quantity=quantity, fee=fee, more_fees=tuple(more_fees))


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
    sold, value = total_quantity(fills), total_value(fills)
    fee, fees = fees_in_quote(fills, info), total_fees(fills, position.fees)
    taken = fee_in_base(fills, position.direction, info)
    left = position.quantity - sold - missing
    price = average_price(fills) or ZERO
    if taken:
        # Not more than is left: the wallet paid the rest from coins the book knows nothing of.
        taken = min(taken, max(left, ZERO))
        left -= taken
        sold, value = sold + taken, value + taken * price
    if is_untradable(left, price, info):
        left = ZERO
    return _take_off(position, sold, value, left, fee, fees)


def write_off(position: Position) -> tuple[Position, Decimal]:
    """Close a position of which nothing can be traded any more, without a trade.

    Returns:
        The ended position, and the profit of that: the entry's fees that were still open, as a
        loss. What the rest was worth is not known here.
    """
    return _take_off(position, ZERO, ZERO, ZERO, ZERO, position.fees)


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
    if quantity < position.quantity:
        sold = position.quantity - quantity
        return _take_off(position, sold, sold * price, quantity, ZERO, position.fees)
    bought = quantity - position.quantity
    cost = position.cost + bought * price
    after = msgspec.structs.replace(
        position,
        quantity=tidy(quantity),
        opened_quantity=tidy(position.opened_quantity + bought),
        entry_price=ratio(cost, quantity),
    )
    return after, ZERO


def _take_off(
    position: Position,
    sold: Decimal,
    value: Decimal,
    left: Decimal,
    fee: Decimal,
    fees: dict[str, Decimal],
) -> tuple[Position, Decimal]:
    """Take a closing trade off a position.

    Args:
        position: before the trade.
        sold: base units closed.
        value: their price in quote units.
        left: base units still held; 0 closes the position.
        fee: the trade's own fees, quote units.
        fees: every fee so far, the trade's included, by currency.

    Returns:
        The position after the trade, and the profit it realised, quote units, net of the trade's
        fees and of its share of the entry's.
    """
    entry_fee = position.entry_fee_open
    if left:
        entry_fee = ratio(entry_fee * sold, position.quantity)
    gain = value - sold * position.entry_price
    if position.direction is not LONG:
        gain = -gain
    realized = tidy(gain - fee - entry_fee)
    after = msgspec.structs.replace(
        position,
        quantity=tidy(left) if left else ZERO,
        realized_pnl=tidy(position.realized_pnl + realized),
        exit_value=tidy(position.exit_value + value),
        exit_quantity=tidy(position.exit_quantity + sold),
        fee=tidy(position.fee + fee),
        fees=fees,
        entry_fee_open=tidy(position.entry_fee_open - entry_fee) if left else ZERO,
    )
    return after, realized
