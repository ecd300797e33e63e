"""Fills cut in two at a quantity, as an order that closes one position and opens the next needs."""

from decimal import Decimal

import msgspec

from worker.domain.fees import FeeList, split_fees
from worker.domain.order import Fill


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
