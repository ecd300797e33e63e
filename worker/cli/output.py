"""All that a command writes: lines, JSON, complaints and drawings, none with raw control text."""

import os
import sys
import traceback
from collections.abc import Mapping
from typing import Any, Final

from worker.runtime.printable import printable, printable_json

#: The width of what is written to a file or a pipe, in columns, where ``COLUMNS`` is not set.
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


def ask(what: str, question: str) -> None:
    """Write a line and then a question to standard error, which is answered behind it."""
    sys.stderr.write(f"{printable(what)}\n{printable(question)}")
    sys.stderr.flush()


def print_traceback(_kind: Any, error: BaseException, _trace: Any) -> None:
    """Write an exception's traceback to standard error, as ``sys.excepthook``."""
    lines = "".join(traceback.format_exception(error)).rstrip("\n").split("\n")
    sys.stderr.write("".join(f"{printable(line)}\n" for line in lines))


def screen_width(environ: Mapping[str, str] = os.environ) -> int | None:
    """Return the width to draw in, in columns; None where a terminal says it.

    ``COLUMNS`` says it for a file and a pipe as for a terminal.
    """
    written = environ.get("COLUMNS", "")
    if written.isascii() and written.isdecimal() and int(written) > 0:
        return int(written)
    return None if sys.stdout.isatty() else _WIDE


def screen() -> Any:
    """Return a console on standard output that treats no text as markup.

    Cells of tables are made printable; whoever makes a ``Text`` makes it of printable lines.
    """
    from rich.console import Console  # noqa: PLC0415 (drawing only)
    from rich.text import Text  # noqa: PLC0415

    class Screen(Console):
        def render_str(self, text: str, **options: Any) -> Text:
            return super().render_str(printable(text), **options)

    return Screen(markup=False, emoji=False, width=screen_width())
