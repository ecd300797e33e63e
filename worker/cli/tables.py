"""Tables that fit their screen: columns dropped by priority, a card a row where it is narrow.

A number is never cut and never folded. What does not fit is left out as a whole column, and below
``NARROW`` columns every row is a card that has all of them. Programs read ``--json``.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

from worker.runtime.printable import printable

#: Below this many columns of the screen every row is a card.
NARROW: Final = 80
#: Blank columns between two columns of a table.
_GAP: Final = 2


class Column(NamedTuple):
    """One column of a table.

    Attributes:
        name: its heading, and its label on a card.
        drop: its place in the order of dropping: the highest goes first, 0 never goes.
        right: whether it is aligned to the right, as numbers are.
        least: for text that may be folded, the fewest characters a line of it may have; 0 for what
            stays whole.
    """

    name: str
    drop: int = 0
    right: bool = False
    least: int = 0


class Table:
    """A table of text for :func:`~worker.cli.output.screen`; control characters are escaped.

    Args:
        columns: in their order; the first one is a card's heading.
        rows: a text for each column, empty where there is nothing to say.
    """

    def __init__(self, columns: Sequence[Column], rows: Iterable[Sequence[str]]) -> None:
        self._columns = tuple(columns)
        self._rows = [tuple(printable(cell) for cell in row) for row in rows]

    def __rich_console__(self, console: Any, options: Any) -> Any:
        """Draw it as wide as the console is."""
        shown = () if options.max_width < NARROW else self.fitting(options.max_width)
        if shown:
            yield self._drawn(shown)
        else:
            yield from self._cards()

    def fitting(self, width: int) -> tuple[int, ...]:
        """Return which columns are shown in ``width``; none if too many may not be dropped."""
        widths = [self._least(index) for index in range(len(self._columns))]
        shown = list(range(len(self._columns)))
        while sum(widths[index] + _GAP for index in shown) - _GAP > width:
            last = max(shown, key=lambda index: (self._columns[index].drop, index), default=None)
            if last is None or not self._columns[last].drop:
                return ()
            shown.remove(last)
        return tuple(shown)

    def _least(self, index: int) -> int:
        """Return the fewest characters that a column may be wide."""
        from rich.cells import cell_len  # noqa: PLC0415 (drawing only)

        column = self._columns[index]
        longest = max((cell_len(row[index]) for row in self._rows), default=0)
        if column.least:
            longest = min(longest, column.least)
        return max(longest, cell_len(column.name))

    def _drawn(self, shown: Sequence[int]) -> Any:
        from rich import box  # noqa: PLC0415 (drawing only)
        from rich.table import Table as Drawn  # noqa: PLC0415

        drawn = Drawn(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
        for index in shown:
            column = self._columns[index]
            drawn.add_column(
                column.name,
                justify="right" if column.right else "left",
                no_wrap=not column.least,
                overflow="fold",
                min_width=self._least(index),
            )
        for row in self._rows:
            drawn.add_row(*(_text(row[index]) for index in shown))
        return drawn

    def _cards(self) -> Iterable[Any]:
        from rich.table import Table as Drawn  # noqa: PLC0415 (drawing only)

        for number, row in enumerate(self._rows):
            if number:
                yield ""
            yield _text(row[0])
            card = Drawn.grid(padding=(0, 2, 0, 0))
            card.add_column(no_wrap=True)
            card.add_column(overflow="fold")
            for column, cell in zip(self._columns[1:], row[1:], strict=True):
                if cell:
                    card.add_row(_text(f"  {column.name}"), _text(cell))
            yield card


def _text(cell: str) -> Any:
    from rich.text import Text  # noqa: PLC0415 (drawing only)

    return Text(cell, overflow="fold")
