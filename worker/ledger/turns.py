"""Turns: what the ledger grants a worker to look after live orders, and what comes of it."""

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from worker.domain.event_text import EventText
from worker.domain.refusal import CancelCode
from worker.ledger.layouts import read_row
from worker.ledger.stored import (
    OrderRow,
    Record,
    decode_order,
    encode_order,
    read_book_row,
    read_record,
)
from worker.ledger.turn_layouts import TurnRow
from worker.runtime.errors import InvariantError

#: The id of a turn is this and the position key.
PREFIX: Final = "@"


class CancelMark(msgspec.Struct, frozen=True):
    """A request to cancel a signal's order; ``by`` is a signal id or an actor."""

    code: CancelCode
    by: str = ""


class LiveOrder(msgspec.Struct, frozen=True, gc=False):
    """An order that goes on without its entry, with its signal's record."""

    row: OrderRow
    record: Record
    cancel: CancelMark | None = None


class Turn(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The right to look after the live orders of one position, granted to this worker.

    Fence and lease are those of an entry (:class:`~worker.ledger.replies.Delivery`); ``entry_id``
    is the turn's id, which no entry of the stream can have. ``book`` is the position's line in the
    book as it was read; what the turn finds out is written only while it is still that.
    """

    entry_id: str
    token: int
    deliveries: int
    overdue_ms: int
    lease_mono_ms: float
    received_mono_ms: float
    book: bytes
    orders: tuple[LiveOrder, ...]

    @property
    def position_key(self) -> str:
        """The position's key."""
        return self.entry_id.removeprefix(PREFIX)

    @property
    def position(self) -> str:
        """The position that the live orders have made so far, JSON; empty for none."""
        return read_book_row(self.book).position.decode() if self.book else ""


class ApplyItem(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The findings of a turn about one live order; amounts in millionths of the quote currency.

    ``position`` is the position as it is now (JSON), empty for none. ``row`` is the order's, None
    if it is over: then ``record`` is its signal's record, kept for ``keep_ms``. ``due_ms`` is in
    how long somebody has to look at it again.
    """

    turn: str
    token: int
    book: bytes
    position: str
    signal: str
    client_order_id: str
    exchange_key: str
    row: OrderRow | None
    due_ms: int = 0
    quote: str = ""
    exposure: int = 0
    realized: int = 0
    record: bytes = b""
    keep_ms: int = 0
    events: tuple[EventText, ...] = ()

    def arguments(self, output_length: int) -> list[str | bytes | int]:
        """Return what ``apply.lua`` reads behind the worker's name.

        Args:
            output_length: about how many entries an output stream keeps.
        """
        row = encode_order(self.row) if self.row is not None else ""
        return [
            self.turn,
            self.token,
            output_length,
            self.book,
            self.position,
            self.quote,
            self.exposure,
            self.realized,
            self.signal,
            self.client_order_id,
            self.exchange_key,
            row,
            self.due_ms,
            self.record,
            self.keep_ms,
            *(part for event in self.events for part in event),
        ]


_decode_mark: Final = msgspec.json.Decoder(CancelMark).decode


def read_turns(rows: Sequence[Any], *, lease_mono_ms: float, received_mono_ms: float) -> list[Turn]:
    """Read ids and turns in turn, as ``lua/lib/turn_row.lua`` makes them.

    Raises:
        InvariantError: a turn has another width than the layout.
    """
    turns: list[Turn] = []
    for turn_id, row in zip(rows[::2], rows[1::2], strict=True):
        given = read_row(TurnRow, row)
        turns.append(
            Turn(
                entry_id=turn_id.decode(),
                token=int(given.token),
                deliveries=int(given.deliveries),
                overdue_ms=int(given.overdue_ms),
                lease_mono_ms=lease_mono_ms,
                received_mono_ms=received_mono_ms,
                book=given.book,
                orders=tuple(
                    _live_order(*each)
                    for each in zip(given.orders, given.records, given.cancels, strict=True)
                ),
            )
        )
    return turns


def _live_order(row: bytes, record: bytes | None, cancel: bytes | None) -> LiveOrder:
    order = decode_order(row)
    if record is None:
        raise InvariantError(f"the live order {order.client_order_id} has no record")
    mark = _decode_mark(cancel) if cancel is not None else None
    return LiveOrder(order, read_record(order.signal, record), mark)
