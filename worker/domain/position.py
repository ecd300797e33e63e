"""A net position and how fills change it."""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Final

import msgspec

from worker.domain.market import MarketKind, SymbolInfo
from worker.domain.money import HUNDRED, ZERO, ratio, tidy
from worker.domain.order import Fill, average_price, total_quantity, total_value
from worker.domain.signal import LONG, Direction

NO_FEES: Final[Mapping[str, Decimal]] = {}


class Position(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """The account's net position in one symbol of one exchange.

    ``quantity`` is what is held now, ``opened_quantity`` all that was ever opened (base units, net
    of fees taken in the base currency on spot). ``realized_pnl`` is in the quote currency, net of
    every fee that could be converted to it; ``fees`` holds each fee in its own currency, ``fee``
    the convertible ones summed in quote.
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
        """Entry value of what is held, in quote units."""
        return self.quantity * self.entry_price

    @property
    def exit_price(self) -> Decimal | None:
        """Mean price of what was closed so far."""
        return ratio(self.exit_value, self.exit_quantity) if self.exit_quantity else None

    @property
    def realized_pnl_pct(self) -> Decimal:
        """Realised profit in percent of the entry value of what was closed."""
        basis = self.exit_quantity * self.entry_price
        return ratio(self.realized_pnl * HUNDRED, basis) if basis else ZERO


def fee_in_quote(fill: Fill, info: SymbolInfo) -> Decimal:
    """Those of the fill's fees that the fill itself can convert, in quote units."""
    total = _in_quote(fill.fee_currency, fill.fee, fill.price, info)
    for currency, fee in fill.more_fees:
        total += _in_quote(currency, fee, fill.price, info)
    return total


def _in_quote(currency: str, fee: Decimal, price: Decimal, info: SymbolInfo) -> Decimal:
    if currency == info.quote:
        return fee
    return fee * price if currency == info.base else ZERO


def _fees_in_quote(fills: tuple[Fill, ...], info: SymbolInfo) -> Decimal:
    """Those of the fills' fees that can be converted, in quote units."""
    if len(fills) == 1:
        return fee_in_quote(fills[0], info)
    return sum((fee_in_quote(fill, info) for fill in fills), ZERO)


def total_fees(
    fills: tuple[Fill, ...], before: Mapping[str, Decimal] = NO_FEES
) -> dict[str, Decimal]:
    """Fees summed by currency, zero ones left out, on top of those paid ``before``."""
    fees = {**before}
    for fill in fills:
        if fill.fee:
            fees[fill.fee_currency] = fees.get(fill.fee_currency, ZERO) + fill.fee
        for currency, fee in fill.more_fees:
            if fee:
                fees[currency] = fees.get(currency, ZERO) + fee
    return fees


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
    """The position that ``fills`` (at least one) of an entry order open."""
    bought = total_quantity(fills)
    fees = total_fees(fills)
    # A spot buy's fee in the base currency comes out of what was bought.
    if direction is LONG and info.base in fees:
        bought -= fees[info.base]
    received, fee = tidy(bought), tidy(_fees_in_quote(fills, info))
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
        fees=fees,
        entry_fee_open=fee,
    )


def enlarge_position(position: Position, fills: tuple[Fill, ...], info: SymbolInfo) -> Position:
    """Add an entry's fills in the position's own direction."""
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
    """Fills up to ``quantity`` together, and the rest; the one in between is cut, its fees too."""
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
    """The fill's first ``part``, with its share of each fee, and what is left of it."""
    taken, left = [], []
    for currency, fee in fill.fees:
        share = tidy(fee * part / fill.quantity)
        taken.append((currency, share))
        left.append((currency, fee - share))
    return _resized(fill, part, taken), _resized(fill, fill.quantity - part, left)


def _resized(fill: Fill, quantity: Decimal, fees: list[tuple[str, Decimal]]) -> Fill:
    (_, fee), *more_fees = fees
    return msgspec.structs.replace(fill, quantity=quantity, fee=fee, more_fees=tuple(more_fees))


def reduce_position(
    position: Position, fills: tuple[Fill, ...], info: SymbolInfo
) -> tuple[Position, Decimal]:
    """Apply an exit's fills.

    Returns:
        The position after them, and the profit they realised in quote units. What remains is too
        little to be traded where it is below the market's quantity step or minimum, or on spot
        worth less than its minimum: it counts as closed (``quantity`` 0).
    """
    sold, value = total_quantity(fills), total_value(fills)
    left = position.quantity - sold
    if left <= ZERO or left < info.quantity_step or left < info.min_quantity:
        left = ZERO
    elif info.kind is MarketKind.SPOT and left * value < info.min_notional * sold:
        left = ZERO  # worth less, at the price it traded at, than the market takes
    fee, fees = _fees_in_quote(fills, info), total_fees(fills, position.fees)
    return _take_off(position, sold, value, left, fee, fees)


def correct_position(
    position: Position, quantity: Decimal, price: Decimal
) -> tuple[Position, Decimal]:
    """Make the position what a person says it is: the difference traded elsewhere at ``price``.

    Returns:
        The position with ``quantity`` (0 for closed), and the profit that realised in quote units;
        fees of such trades are not known here.
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
    """The position once ``sold`` of it went for ``value``, and what that realised.

    Args:
        position: as it was.
        sold: in base units.
        value: in quote units.
        left: what is still held.
        fee: what the sale cost, in quote units.
        fees: every fee so far, the sale's included, by currency.
    """
    entry_fee = position.entry_fee_open
    if left:
        entry_fee = tidy(entry_fee * sold / position.quantity)
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
