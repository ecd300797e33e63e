"""All that a command writes: lines, JSON, complaints and drawings, none with raw control text."""

import sys
import traceback
from typing import Any, Final

from worker.runtime.printable import printable, printable_json

#: The width of a table written to a file or a pipe, in columns.
_WIDE: Final = 160


def say(*lines: object, flush: bool = False) -> None:
    """Write lines to standard output."""
    sys.stdout.write("".join(f"{printable(str(line))}\n" for line in lines))
    if flush:
        sys.stdout.flush()


def say_json(document: bytes, *, flush: bool = False) -> None:
    """Write a JSON document to standard output as a line."""
    sys.stdout.write(printable_json(document).decode() + "\n")
    if flush:
        sys.stdout.flush()


def complain(*sentences: object) -> None:
    """Write sentences to standard error, each a line under the program's name."""
    for sentence in sentences:
        sys.stderr.write(f"execution-worker: {printable(str(sentence))}\n")
    sys.stderr.flush()


def print_traceback(_kind: Any, error: BaseException, _trace: Any) -> None:
    """Write an exception's traceback to standard error, as ``sys.excepthook``."""
    lines = "".join(traceback.format_exception(error)).rstrip("\n").split("\n")
    sys.stderr.write("".join(f"{printable(line)}\n" for line in lines))


def screen() -> Any:
    """Return a console on standard output that treats no text as markup.

    Cells of tables are made printable; whoever makes a ``Text`` makes it of printable lines.
    """
    from rich.console import Console  # noqa: PLC0415 (drawing only)
    from rich.text import Text  # noqa: PLC0415

    class Screen(Console):
        def render_str(self, text: str, **options: Any) -> Text:
            return super().render_str(printable(text), **options)

    return Screen(markup=False, emoji=False, width=None if sys.stdout.isatty() else _WIDE)
