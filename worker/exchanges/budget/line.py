"""The line of requests that wait for their turn: by class, then first come first served."""

import asyncio
from collections.abc import Iterator

from worker.exchanges.budget.bucket import Charges
from worker.exchanges.budget.classes import RequestClass


class Ticket:
    """A place in line.

    Attributes:
        rank: the class and the number, by which the line is sorted.
        charges: what the request costs.
        key: of an order, which comes back and asks; empty for a request that waits.
        turn: done once a request that waits may go; None for an order.
        due_ms: when the place is given up, local monotonic.
    """

    __slots__ = ("charges", "due_ms", "key", "rank", "turn")

    def __init__(
        self,
        rank: tuple[int, int],
        charges: Charges,
        key: str,
        turn: asyncio.Future[None] | None,
    ) -> None:
        self.rank = rank
        self.charges = charges
        self.key = key
        self.turn = turn
        self.due_ms = 0.0


class Line:
    """Tickets in the order of their turns."""

    def __init__(self) -> None:
        self._tickets: list[Ticket] = []
        self._number = 0

    def __iter__(self) -> Iterator[Ticket]:
        return iter(list(self._tickets))

    def __bool__(self) -> bool:
        return bool(self._tickets)

    def __contains__(self, ticket: object) -> bool:
        return ticket in self._tickets

    def stand(
        self,
        request_class: RequestClass,
        charges: Charges,
        *,
        key: str = "",
        turn: asyncio.Future[None] | None = None,
    ) -> Ticket:
        """Add a ticket behind all of its class and above."""
        self._number += 1
        ticket = Ticket((int(request_class), self._number), charges, key, turn)
        at = len(self._tickets)
        while at and self._tickets[at - 1].rank > ticket.rank:
            at -= 1
        self._tickets.insert(at, ticket)
        return ticket

    def last_rank(self, request_class: RequestClass) -> tuple[int, int]:
        """Return the rank of whoever would stand in line now."""
        return int(request_class), self._number + 1

    def find(self, key: str) -> Ticket | None:
        """Return an order's ticket, if it has one."""
        return next((one for one in self._tickets if key and one.key == key), None)

    def remove(self, ticket: Ticket) -> None:
        """Take a ticket out."""
        self._tickets.remove(ticket)

    def before(self, rank: tuple[int, int]) -> dict[str, float]:
        """Return the cost of all tickets before ``rank``, by limit."""
        ahead: dict[str, float] = {}
        for ticket in self._tickets:
            if ticket.rank >= rank:
                break
            count(ticket.charges, ahead)
        return ahead

    def lapsed(self, now_ms: float) -> list[Ticket]:
        """Take the tickets out whose places are given up, and return them."""
        over = [one for one in self._tickets if one.due_ms and one.due_ms <= now_ms]
        for ticket in over:
            self._tickets.remove(ticket)
        return over

    def clear(self) -> None:
        """Take all tickets out."""
        self._tickets.clear()


def count(charges: Charges, into: dict[str, float]) -> None:
    """Add ``charges`` to sums by limit."""
    for name, cost in charges:
        into[name] = into.get(name, 0.0) + cost
