"""Reads a list that an exchange tells in pages to its end, and no further than a limit."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import msgspec

from worker.exchanges.ports import ExchangeError

#: Pages of one list that are read; an order of ours has no more trades than that.
MAX_PAGES: Final = 100

Row = Mapping[str, Any]


class Page(msgspec.Struct, frozen=True):
    """Some rows, and where the exchange says the next ones begin; empty if it names no place."""

    rows: list[Row]
    next_place: str


async def read_pages(
    list_name: str, page_rows: int, ask: Callable[[str], Awaitable[Page]]
) -> list[Row]:
    """All rows of a list; a page that is not full is its last.

    Pages may overlap, and an exchange may name a place a second time (Bybit does so at the end of
    a list): nothing new comes after that.

    Args:
        list_name: what is read, for the error.
        page_rows: how many rows a full page has.
        ask: asks for the page that begins at a place; ``""`` is where the list begins.

    Raises:
        ExchangeError: there are more than ``MAX_PAGES`` pages.
    """
    rows: list[Row] = []
    place, seen = "", {""}
    for _ in range(MAX_PAGES):
        page = await ask(place)
        rows += page.rows
        place = page.next_place
        if len(page.rows) < page_rows or place in seen:
            return rows
        seen.add(place)
    raise too_long(list_name, page_rows)


def too_long(list_name: str, page_rows: int) -> ExchangeError:
    """The error about a list of more than ``MAX_PAGES`` pages of ``page_rows``."""
    return ExchangeError(
        f"{list_name}: there is more than {MAX_PAGES} pages of {page_rows}, the most that is read",
        code="too_many_pages",
    )
