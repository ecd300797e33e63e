"""All that a command writes: lines, JSON, complaints and drawings, none with raw control text."""

import sys
import traceback
from typing import Any, Final

from worker.cli.lines import fitted, line_width, screen_width
from worker.runtime.printable import printable, printable_json

#: Columns that a sentence goes on with which is longer than its line.
_INDENT: Final = 2


def say(*lines: object, flush: bool = False) -> None:
    """Write lines to standard output."""
    sys.stdout.write("".join(f"{printable(str(line))}\n" for line in lines))
    if flush:
        sys.stdout.flush()


def tell(*sentences: object, indent: int = _INDENT, flush: bool = False) -> None:
    """Write sentences for people to standard output, broken to the width of a screen."""
    width = line_width()
    for sentence in sentences:
        say(*fitted(printable(str(sentence)), width, indent))
    if flush:
        sys.stdout.flush()


def say_json(document: bytes, *, flush: bool = False) -> None:
    """Write a JSON document to standard output as a line."""
    sys.stdout.write(printable_json(document).decode() + "\n")
    if flush:
        sys.stdout.flush()


def complain(*sentences: object) -> None:
    """Write sentences to standard error under the program's name, each a line as wide as it is.

    On a terminal a sentence is broken between words.
    """
    width = line_width(sys.stderr)
    for sentence in sentences:
        lines = fitted(f"execution-worker: {printable(str(sentence))}", width, _INDENT)
        sys.stderr.write("".join(f"{line}\n" for line in lines))
    sys.stderr.flush()


def ask(what: str, question: str) -> None:
    """Write a line and then a question to standard error, which is answered behind it."""
    sys.stderr.write(f"{printable(what)}\n{printable(question)}")
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

    return Screen(markup=False, emoji=False, width=screen_width())
