"""Decides whether a reply proves that an order is not there: only if every row was understood."""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from worker.exchanges.ccxt.outcomes import IncompleteReplyError
from worker.exchanges.ccxt.paging import Row


def listed_rows(reply: Any, *path: str) -> list[Row]:
    """Return the rows that a reply lists under ``path``.

    Raises:
        IncompleteReplyError: there is no list there, or something in it is no object: the reply
            says nothing about what is not in it.
    """
    value = reply
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    if not isinstance(value, list) or not all(isinstance(row, dict) for row in value):
        raise IncompleteReplyError(f"the reply has no list of objects at {'.'.join(path)}")
    return value


def check_holds(body: bytes | None, *paths: tuple[str, ...]) -> None:
    """Check that a reply has a list or an object at one of ``paths``; ccxt takes none for empty.

    Raises:
        IncompleteReplyError: it has none.
    """
    told = msgspec.json.decode(body or b"null")
    for path in paths:
        value = told
        for name in path:
            value = value.get(name) if isinstance(value, dict) else None
        if isinstance(value, list | dict):
            return
    if paths:
        names = " or ".join(".".join(path) for path in paths)
        raise IncompleteReplyError(f"the reply has no list at {names}")


def pick(orders: Iterable[Mapping[str, Any]], client_order_id: str) -> Mapping[str, Any] | None:
    """Return the order under ``client_order_id`` among ccxt orders, None if it is not there.

    Raises:
        IncompleteReplyError: an order names neither a client id nor an id of the exchange's, so
            that it may be the one: another order's row has both, or no client id of its own.
    """
    others = list(orders)
    for order in others:
        if order.get("clientOrderId") == client_order_id:
            return order
    for order in others:
        if not order.get("clientOrderId") or not order.get("id"):
            raise IncompleteReplyError("a listed order names no client id: it may be this one")
    return None
