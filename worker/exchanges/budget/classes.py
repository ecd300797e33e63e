"""The classes of requests, the most urgent first, and which class the running code asks for."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from enum import IntEnum
from typing import Final

import msgspec

from worker.domain.order import OrderRequest, Role


class RequestClass(IntEnum):
    """A request's class; where the budget is short a lower number goes first."""

    CLOSING = 1  # cancels, protective and closing orders
    DOUBT = 2  # look-ups of orders in doubt, proofs of protective orders, prices of watched stops
    ENTRY = 3  # orders that open or add
    POLL = 4  # polls and trades of live orders
    MARKET = 5  # balances and prices
    REST = 6  # everything else: markets, clock, comparisons

    @property
    def label(self) -> str:
        """The name in metrics and messages."""
        return self.name.lower()


#: A reserve of the budget is kept for these.
RESERVED: Final = frozenset({RequestClass.CLOSING, RequestClass.DOUBT})

#: How long a request of each class waits for its turn before it is given up, seconds. Whoever asked
#: decides then whether to ask again; nothing was sent.
PATIENCE_S: Final = {
    RequestClass.CLOSING: 10.0,
    RequestClass.DOUBT: 10.0,
    RequestClass.ENTRY: 0.0,
    RequestClass.POLL: 10.0,
    RequestClass.MARKET: 15.0,
    RequestClass.REST: 30.0,
}


class Wish(msgspec.Struct, frozen=True, gc=False):
    """A class, and how long the request may wait for its turn, seconds; None as usual for it."""

    request_class: RequestClass
    within_s: float | None = None


_wish: ContextVar[Wish | None] = ContextVar("wish", default=None)


@contextmanager
def asking(request_class: RequestClass, within_s: float | None = None) -> Iterator[None]:
    """Let all requests made inside be of ``request_class``, whatever their method's own class is.

    Args:
        request_class: theirs.
        within_s: how long each may wait for its turn, seconds.
    """
    token = _wish.set(Wish(request_class, within_s))
    try:
        yield
    finally:
        _wish.reset(token)


def wished() -> Wish | None:
    """Return what the running code asks for; None if the method's own class counts."""
    return _wish.get()


def class_of(request: OrderRequest) -> RequestClass:
    """Return the class of sending an order: what closes or protects goes first."""
    is_closing = request.reduce_only or request.role is not Role.ENTRY
    return RequestClass.CLOSING if is_closing else RequestClass.ENTRY


def look_up_class() -> RequestClass:
    """Return the class of looking an order up: in doubt, unless the caller says that it polls."""
    wish = wished()
    return RequestClass.DOUBT if wish is None else wish.request_class
