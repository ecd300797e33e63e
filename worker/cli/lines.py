"""Lines of text as wide as what they are written to."""

import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from typing import Any, Final

#: The width of drawings in a file or a pipe, in columns, where ``COLUMNS`` is not set.
WIDE: Final = 160
#: Of a line with aligned columns at its head, so many columns must be left for what follows them.
LEAST_AFTER_HEAD: Final = 20
_NUMBER: Final = re.compile(r"[-+]?\d[\d.]*")


def screen_width(environ: Mapping[str, str] = os.environ) -> int | None:
    """Return the width to draw in, in columns; None where a terminal says it.

    ``COLUMNS`` says it for a file and a pipe as for a terminal.
    """
    written = environ.get("COLUMNS", "")
    if written.isascii() and written.isdecimal() and int(written) > 0:
        return int(written)
    return None if sys.stdout.isatty() else WIDE


def line_width(stream: Any = None) -> int | None:
    """Return the width that lines of text are broken to; None for whole lines.

    A file or a pipe has a line an entry, unless ``COLUMNS`` says how wide it is.

    Args:
        stream: where they are written to, standard output by default.
    """
    is_terminal = (stream or sys.stdout).isatty()
    if is_terminal or (os.environ.get("COLUMNS", "").isdecimal() and stream is None):
        return screen_width() or shutil.get_terminal_size().columns
    return None


def fitted(line: str, width: int | None, indent: int, head: int = 0) -> list[str]:
    """Break a line between words so that it fits ``width``; later lines are indented.

    A number stays whole; any other word that is longer than a line is broken. Without a width the
    line is whole.

    Args:
        line: the line.
        width: columns there are.
        indent: columns that later lines begin with.
        head: how long the aligned columns at the beginning are. Where little would be left behind
            them, their blanks are given up, in the short lines as in the long ones.
    """
    if width is None:
        return [line]
    if head and head + LEAST_AFTER_HEAD > width:
        before = line[: len(line) - len(line.lstrip())]
        line, head = before + " ".join(line.split()), 0
    if len(line) <= width:
        return [line]
    indent = min(indent, width // 3)
    kept = max(head, len(line) - len(line.lstrip()))
    lines, current, has_room = [], line[:kept].rstrip(), bool(line[:kept].strip())
    blanks = " " * (kept - len(current))
    for blank, part in _parts(line[kept:], width - indent):
        if has_room and len(current + blanks + part) > width:
            lines.append(current)
            current, blanks = " " * indent, ""
        current, blanks, has_room = current + blanks + part, blank, True
    return [*lines, current]


def _parts(text: str, most: int) -> Iterator[tuple[str, str]]:
    """Yield what must stand on one line, each behind what separates it from what follows.

    A word stays whole if it is a number or has at most ``most`` characters.
    """
    for word in text.split():
        name, equals, value = word.partition("=")
        if len(word) <= most or not equals:
            name, equals, value = "", "", word
        parts = [name + equals] if equals else []
        size = len(value) if _NUMBER.fullmatch(value) else most
        parts += [value[at : at + size] for at in range(0, len(value), size)] if value else []
        for part in parts[:-1]:
            yield "", part
        yield " ", parts[-1]
