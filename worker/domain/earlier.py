"""The part of a position that was closed before its last entry."""

from decimal import Decimal

import msgspec

from worker.domain.money import ZERO
from worker.domain.signal import LONG, Direction


class Earlier(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, gc=False
):
    """The sums of the part of a position that was closed before its last entry.

    An entry after an exit does not change what that exit has earned, so what it was charged is
    fixed then. ``opened`` and ``closed`` are base units, the rest quote units: ``cost`` of what was
    closed, ``coin_value`` of the coins that the exits' fees took, ``fee`` of entry and exit.
    """

    opened: Decimal = ZERO
    closed: Decimal = ZERO
    cost: Decimal = ZERO
    exit_quantity: Decimal = ZERO
    exit_value: Decimal = ZERO
    coin_value: Decimal = ZERO
    fee: Decimal = ZERO

    def realized(self, direction: Direction) -> Decimal:
        """Return the profit of that part, quote units."""
        gain = self.exit_value + self.coin_value - self.cost
        return (gain if direction is LONG else -gain) - self.fee
