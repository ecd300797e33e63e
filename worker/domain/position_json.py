"""Positions as the ledger stores them: JSON of today's form, and of the first."""

from datetime import datetime
from decimal import Context, Decimal
from typing import Final

import msgspec

from worker.domain.earlier import Earlier
from worker.domain.money import QUOTIENT_DIGITS, ZERO
from worker.domain.position import Position
from worker.domain.signal import LONG, Direction

#: A mean price with so many digits was rounded: one number that is not has up to 40.
_ROUNDED_DIGITS: Final = QUOTIENT_DIGITS - 4
#: Rounds away what the rounding of a mean price did to its product with a quantity.
_undo_rounding: Final = Context(prec=_ROUNDED_DIGITS).plus
_decode: Final = msgspec.json.Decoder(Position).decode
encode_position: Final = msgspec.json.Encoder().encode


class FirstForm(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """A position of stored format 1: means, and sums net of them.

    ``quantity`` and ``opened_quantity`` are net of fees taken in the base currency, the ``exit_*``
    include those. ``fee`` is every fee in quote, ``entry_fee_open`` the part of it that
    ``realized_pnl`` was not charged yet.
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
    entry_fee_open: Decimal = ZERO


_decode_first: Final = msgspec.json.Decoder(FirstForm).decode


def read_position(raw: bytes) -> Position:
    """Read a position in today's form or in the first.

    Raises:
        msgspec.MsgspecError: it has neither.
    """
    try:
        return _decode(raw)
    except msgspec.ValidationError:
        try:
            return in_sums(_decode_first(raw))
        except msgspec.ValidationError:
            pass
        raise  # what is wrong in today's form


def in_sums(old: FirstForm) -> Position:
    """Convert a position of the first form; what it has realised and what it shows stay the same.

    Its cost is worked out from the mean price, exactly unless that price was rounded; then to 46
    digits, which is exact where the cost itself had no more.
    """
    value = old.quantity * old.entry_price
    if len(old.entry_price.as_tuple().digits) >= _ROUNDED_DIGITS:
        value = _undo_rounding(value)
    return Position(
        position_id=old.position_id,
        exchange=old.exchange,
        symbol=old.symbol,
        direction=old.direction,
        quantity=old.quantity,
        entry_quantity=old.quantity,
        entry_value=value,
        opened_at=old.opened_at,
        signal_id=old.signal_id,
        strategy_id=old.strategy_id,
        stop_loss=old.stop_loss,
        take_profit=old.take_profit,
        entry_fee=old.entry_fee_open,
        fees=old.fees,
        earlier=_closed_part(old),
    )


def _closed_part(old: FirstForm) -> Earlier | None:
    opened = old.opened_quantity - old.quantity
    if not (opened or old.exit_quantity):
        return None
    fee = old.fee - old.entry_fee_open
    gain = old.realized_pnl + fee
    return Earlier(
        opened=opened,
        closed=old.exit_quantity,
        cost=old.exit_value - gain if old.direction is LONG else old.exit_value + gain,
        exit_quantity=old.exit_quantity,
        exit_value=old.exit_value,
        fee=fee,
    )
