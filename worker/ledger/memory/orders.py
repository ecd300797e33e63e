"""The rows of live orders: those at an exchange that outlive their signals' entries."""

from typing import Final

from worker.ledger.stored import OrderRow
from worker.ledger.turns import CancelMark

#: For how long a request to cancel an order is kept.
CANCEL_MS: Final = 86_400_000


class OrderRows:
    """Rows by client order id, what finds them, and requests to cancel them.

    Attributes:
        rows: by client order id.
        exchange_ids: client order ids by exchange and exchange order id.
    """

    def __init__(self) -> None:
        self.rows: dict[str, OrderRow] = {}
        self.exchange_ids: dict[str, str] = {}
        #: By position key: the ids of its live orders.
        self._live: dict[str, list[str]] = {}
        #: By signal: what asks for the cancellation of its order, and until when that is kept.
        self._cancels: dict[str, tuple[CancelMark, int]] = {}

    def positions(self) -> list[str]:
        """Return the positions that have live orders."""
        return list(self._live)

    def live(self, key: str) -> list[OrderRow]:
        """Return the live orders of a position."""
        return [self.rows[one] for one in self._live.get(key, ())]

    def put(self, key: str, exchange_key: str, row: OrderRow) -> None:
        """Write the row of a live order."""
        self.rows[row.client_order_id] = row
        if exchange_key:
            self.exchange_ids[exchange_key] = row.client_order_id
        ids = self._live.setdefault(key, [])
        if row.client_order_id not in ids:
            ids.append(row.client_order_id)

    def forget(self, key: str, client_order_id: str, exchange_key: str) -> bool:
        """Forget an order that is over; return whether its position has others."""
        self.rows.pop(client_order_id, None)
        self.exchange_ids.pop(exchange_key, None)
        others = [one for one in self._live.get(key, ()) if one != client_order_id]
        self._live.pop(key, None)
        if others:
            self._live[key] = others
        return bool(others)

    def ask_to_cancel(self, signal: str, mark: CancelMark, now_ms: int) -> None:
        """Ask for the cancellation of a signal's order, unless somebody has asked already."""
        if self.cancel_of(signal, now_ms) is None:
            self._cancels[signal] = (mark, now_ms + CANCEL_MS)

    def cancel_of(self, signal: str, now_ms: int) -> CancelMark | None:
        """Return what asks for the cancellation of a signal's order; None for nothing."""
        mark, until_ms = self._cancels.get(signal, (None, 0))
        return mark if until_ms > now_ms else None

    def forget_cancel(self, signal: str) -> None:
        """Forget the request: the order is over."""
        self._cancels.pop(signal, None)
