"""Lists about live orders and turns that cross between Python and Lua: see ``layouts``."""

from typing import NamedTuple


class Rests(NamedTuple):
    """An order that outlives its entry: its row, and in how many ms somebody has to look at it."""

    client_order_id: str
    exchange_key: str
    row: str
    due_ms: int


class TurnRow(NamedTuple):
    """A turn granted: a position's line in the book and what lives there.

    ``orders`` are rows of live orders, ``records`` and ``cancels`` for each of them its signal's
    record and what asks for its cancellation, where there is something.
    """

    token: int
    deliveries: int
    overdue_ms: int
    book: bytes
    orders: list[bytes]
    records: list[bytes | None]
    cancels: list[bytes | None]
