"""The entries that streams hold now: the newest of some kind, or all from a moment on."""

from collections.abc import AsyncIterator, Callable, Mapping
from typing import Final

import msgspec

from worker.ledger.access import Access, StreamEntry, entries_of, split_id
from worker.ledger.streams import Tail

#: Entries of one stream that are looked through for the newest of a kind.
MAX_SEARCHED: Final = 100_000
PAGE: Final = 1_000
Wanted = Callable[[StreamEntry], bool]


class Excerpt(msgspec.Struct, frozen=True):
    """Entries, oldest first; ``complete`` is False where older ones were not looked at."""

    entries: list[StreamEntry]
    complete: bool


async def newest(
    access: Access, ends: Mapping[str, str], count: int, *, wanted: Wanted, start: str = "-"
) -> Excerpt:
    """Return the newest entries of some kind, at most ``count`` over all streams.

    Args:
        access: the account.
        ends: the streams in the order of showing, each with the last id to look at.
        count: how many.
        wanted: which entries count.
        start: the first id to look at.

    Raises:
        LedgerError: Redis cannot be asked.
    """
    found: list[tuple[tuple[int, int, int], StreamEntry]] = []
    complete = True
    for rank, (stream, end) in enumerate(ends.items()):
        taken, is_all = await _back(access, stream, end, start, count, wanted)
        complete &= is_all
        found += [((entry.order[0], rank, entry.order[1]), entry) for entry in taken]
    found.sort(key=lambda one: one[0])
    return Excerpt([entry for _, entry in found[-count:]], complete)


async def _back(
    access: Access, stream: str, end: str, start: str, count: int, wanted: Wanted
) -> tuple[list[StreamEntry], bool]:
    """Return up to ``count`` wanted entries of one stream, and whether none was missed."""
    taken: list[StreamEntry] = []
    searched = 0
    while searched < MAX_SEARCHED:
        rows = await access.ask_one(
            "XREVRANGE", access.key(stream), end, start, "COUNT", min(PAGE, max(count, 100))
        )
        page = entries_of(stream, rows)
        taken += [entry for entry in page if wanted(entry)]
        searched += len(page)
        if len(taken) >= count or not page:
            return taken[:count], True
        end = f"({page[-1].id}"
    return taken, False


async def all_from(tail: Tail, ends: Mapping[str, str]) -> AsyncIterator[StreamEntry]:
    """Yield every entry from where ``tail`` stands up to the ids in ``ends``.

    Raises:
        LedgerError: Redis cannot be asked.
    """
    left = {name: split_id(end) for name, end in ends.items()}
    while any(split_id(tail.places[name]) < end for name, end in left.items()):
        entries = await tail.read(1)
        for entry in entries:
            if entry.order <= left[entry.stream]:
                yield entry
        if not entries:
            return
