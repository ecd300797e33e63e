"""Reads all pages of a list of an exchange, up to a limit."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import msgspec

from worker.exchanges.errors import ExchangeError

#: Pages of one list that are read; an order of ours has no more trades than that.
MAX_PAGES: Final = 100

Row = Mapping[str, Any]


class Page(msgspec.Struct, frozen=True):
    """Some rows, and the cursor of the next page; empty if the exchange gives none."""

    rows: list[Row]
    next_cursor: str


async def read_pages(
    list_name: str, page_rows: int, ask: Callable[[str], Awaitable[Page]]
) -> list[Row]:
    """Return all rows of a list; a page that is not full is its last.

    Pages may overlap, and an exchange may repeat a cursor at the end of a list: nothing new comes
    after that.

    Args:
        list_name: what is read, for the error.
        page_rows: how many rows a full page has.
        ask: requests the page at a cursor; ``""`` is the first page's.

    Raises:
        ExchangeError: there are more than ``MAX_PAGES`` pages.
    """
    rows: list[Row] = []
    cursor, seen = "", {""}
    for _ in range(MAX_PAGES):
        page = await ask(cursor)
        rows += page.rows
        cursor = page.next_cursor
        if len(page.rows) < page_rows or cursor in seen:
            return rows
        seen.add(cursor)
    raise too_long(list_name, page_rows)


def too_long(list_name: str, page_rows: int) -> ExchangeError:
    """Return the error about a list of more than ``MAX_PAGES`` pages of ``page_rows``."""
    return ExchangeError(
        f"{list_name}: there is more than {MAX_PAGES} pages of {page_rows}, the most that is read",
        code="too_many_pages",
    )
