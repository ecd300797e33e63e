"""Layouts of the orders that rest at a simulated exchange, see :mod:`worker.ledger.layouts`."""

from typing import Final, NamedTuple

import msgspec


class RestingRow(msgspec.Struct, frozen=True, kw_only=True, array_like=True, gc=False):
    """One accepted order, and every price that has mattered to it.

    Times are Redis's, Unix milliseconds; prices are in quote units, as text.

    Attributes:
        request: the order as it was sent first, JSON.
        buys: True for a buy.
        stays: True if it fills only in part, and its rest stays open until it is cancelled.
        immediate: True if it fills or ends as soon as it is triggered.
        since: when it was accepted.
        reference: the market's price at that time, empty if none was known.
        conditions: what has to come, one after the other: whether the price has to rise, and to
            which level.
        touches: when a condition was met, and by which price.
        cancelled: when it was cancelled, 0 if it was not.
    """

    request: str
    buys: bool
    stays: bool = False
    immediate: bool = False
    since: int = 0
    reference: str = ""
    conditions: tuple[tuple[bool, str], ...] = ()
    touches: tuple[tuple[int, str], ...] = ()
    cancelled: int = 0

    @property
    def is_open(self) -> bool:
        """Return whether a price can change it, or its rest is open until it is cancelled."""
        return not self.cancelled and (self.stays or bool(self.conditions))


class PaperOrderReply(NamedTuple):
    """An order, empty if there is none; whether the call changed it, 0 or 1; the time."""

    order: bytes
    is_changed: int
    now: int


class MarketsReply(NamedTuple):
    """Markets where orders rest and where none do any more, and the number for the next call."""

    last: int
    joined: list[bytes]
    gone: list[bytes]


class RestingPartReply(NamedTuple):
    """A part of the open orders, the number for the next part, and the time."""

    last: int
    orders: list[bytes]
    now: int


RESTING_LAYOUTS: Final = {
    "RESTING": RestingRow.__struct_fields__,
    "RESTING_PART": RestingPartReply._fields,
    "PAPER_ORDER": PaperOrderReply._fields,
    "MARKETS": MarketsReply._fields,
}
