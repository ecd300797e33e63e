"""Assembles a script's text: its file, the libraries it includes, the layouts as numbers.

In a script or library:

- ``--- @include "fence"`` stands for ``lua/lib/fence.lua``, which may include others; each comes
  once, before whatever includes it. A call builds every function of its script anew, needed or
  not, so libraries are small.
- Where such a line is indented, the library comes right there, in its block, with what it needs
  and the script does not have yet: its functions are only built when that line is reached. Each
  such block has them, and their variables, for itself.
- ``--- @finally "flush"`` in a library: every script that includes it must have one block, not
  indented, ``do`` ... ``end`` around ``--- @include "flush"`` and nothing else.
- ``ADMIT.TOKEN`` is the number of a column, ``ADMIT.SIZE`` how many there are,
  ``DEAD_LETTER.names`` their names, ``STATUS.FENCED`` a word, ``LIMIT.ENTRY_BYTES`` a number
  (:mod:`worker.ledger.layouts`, :mod:`worker.ledger.words`).
- ``CLAIM{TAIL = tail, ...}`` is a list with every column in its order, and
  ``RECORD.values{STATE = s, ...}`` the values alone, of columns that follow each other;
  ``ENTRY.rest{SIGNAL = s, ...}`` the same, of columns up to the last. Values are evaluated in the
  order of the layout.
"""

import importlib.resources
import re
from collections.abc import Callable, Iterator
from functools import cache
from typing import Final

from worker.ledger.layouts import LAYOUTS
from worker.ledger.words import NUMBERS, WORDS
from worker.runtime.errors import InvariantError

#: Every script.
NAMES: Final = (
    "admit",
    "adopt",
    "announce",
    "apply",
    "authorize",
    "claim",
    "commit",
    "control",
    "convert",
    "correct",
    "decide",
    "elect",
    "heartbeat",
    "leave",
    "list_resting",
    "mend_stream",
    "paper_order",
    "park",
    "publish",
    "read_account",
    "read_book",
    "refuse_correction",
    "release",
    "replay",
    "requested_corrections",
    "resync",
    "seat",
    "see_prices",
    "sweep",
    "throttle",
    "trim_letters",
    "watch",
)

_FLAGS: Final = re.compile(r"#!lua[^\n]*\n")
_INCLUDE: Final = re.compile(r'^( *)--- @include(?: "(\w+)")?.*\n', re.MULTILINE)
_IN_FRONT: Final = re.compile(r"^--- @include.*\n", re.MULTILINE)
#: Lines of one block that stand together.
_IN_PLACE: Final = re.compile(r"(?:^ +--- @include.*\n)+", re.MULTILINE)
_FINALLY: Final = re.compile(r'^--- @finally "(\w+)"\n', re.MULTILINE)
_ROW: Final = re.compile(rf"\b({'|'.join(LAYOUTS)})(\.values|\.rest)?\{{")
_NAME: Final = re.compile(rf"\b({'|'.join((*LAYOUTS, *WORDS, *NUMBERS))})\.(\w+)")
_COLUMN: Final = re.compile(r"\s*(\w+)\s*=\s*(.*\S)\s*", re.DOTALL)
#: A string of Lua, or one character; for finding commas and brackets outside of strings.
_SIGN: Final = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|.", re.DOTALL)


class ScriptError(InvariantError):
    """A script cannot be assembled; the message says which and why."""


@cache
def read_file(name: str) -> str:
    """Return the text of a file below ``lua/``, such as ``lib/fence.lua``.

    Raises:
        FileNotFoundError: there is none.
    """
    return (importlib.resources.files("worker.ledger") / "lua" / name).read_text()


def source(name: str, read: Callable[[str], str] = read_file) -> str:
    """Return a script's full text, with its ``#!lua`` line first if it has one.

    Args:
        name: the script's, without ``.lua``.
        read: returns a file's text by its name below ``lua/``.

    Raises:
        ScriptError: an include or a layout names what is not there, includes form a circle, or the
            script lacks a line that a library demands.
    """
    body = read(f"{name}.lua")
    flags = _FLAGS.match(body)
    head = flags.group() if flags else ""
    return head + assemble(name, body.removeprefix(head), read)


def assemble(name: str, body: str, read: Callable[[str], str] = read_file) -> str:
    """Return ``body`` with its libraries in front and its layouts written out.

    Raises:
        ScriptError: as :func:`source`.
    """
    for text in included(name, body, read).values():
        for demand in _FINALLY.findall(text):
            if body.count(f'\ndo\n  --- @include "{demand}"\nend\n') != 1:
                raise ScriptError(f'{name}.lua must have one block that includes "{demand}"')
    in_front: dict[str, str] = {}
    _include(name, body, read, in_front, (), is_all=False)
    text = _joined(in_front) + _IN_FRONT.sub("", body)
    while match := _IN_PLACE.search(text):
        libraries = dict(in_front)
        lines = re.sub("^ +", "", match[0], flags=re.MULTILINE)
        _include(name, lines, read, libraries, (), is_all=False)
        there = {key: value for key, value in libraries.items() if key not in in_front}
        text = text[: match.start()] + _joined(there) + text[match.end() :]
    return _written_out(name, text)


def included(name: str, body: str, read: Callable[[str], str] = read_file) -> dict[str, str]:
    """Return all libraries that ``body`` needs by name, each after those it needs itself.

    Raises:
        ScriptError: one is not there, or includes form a circle.
    """
    libraries: dict[str, str] = {}
    _include(name, body, read, libraries, (), is_all=True)
    return libraries


def _joined(libraries: dict[str, str]) -> str:
    """Return the text of libraries, but for the includes that are in front of them."""
    return "".join(_FINALLY.sub("", _IN_FRONT.sub("", text)) for text in libraries.values())


def _include(
    name: str,
    text: str,
    read: Callable[[str], str],
    libraries: dict[str, str],
    path: tuple[str, ...],
    *,
    is_all: bool,
) -> None:
    """Add the libraries that a text includes; those it includes in place only if ``is_all``."""
    for match in _INCLUDE.finditer(text):
        indent, library = match[1], match[2]
        if not library or match[0] != f'{indent}--- @include "{library}"\n':
            raise ScriptError(f'{name}: write --- @include "name", not {match[0].strip()}')
        if indent and not is_all:
            continue
        if library in path:
            raise ScriptError(f"libraries include each other: {' -> '.join((*path, library))}")
        if library in libraries:
            continue
        try:
            other = read(f"lib/{library}.lua")
        except FileNotFoundError:
            raise ScriptError(f"{name} includes {library!r}: there is no such library") from None
        _include(library, other, read, libraries, (*path, library), is_all=is_all)
        libraries[library] = other


def _written_out(name: str, text: str) -> str:
    while match := _ROW.search(text):
        layout, form = match[1], match[2] or ""
        end = _closing(name, text, match.end())
        row = _row(name, layout, form, text[match.end() : end])
        text = text[: match.start()] + row + text[end + 1 :]
    return _NAME.sub(lambda match: _value(name, match[1], match[2]), text)


def _value(name: str, layout: str, word: str) -> str:
    """Return what a name such as ``ADMIT.TOKEN`` stands for."""
    if layout in WORDS:
        if word not in WORDS[layout]:
            raise ScriptError(f"{name}: {layout} has no {word}")
        return f"'{WORDS[layout][word]}'"
    if layout in NUMBERS:
        if word not in NUMBERS[layout]:
            raise ScriptError(f"{name}: {layout} has no {word}")
        return str(NUMBERS[layout][word])
    columns = LAYOUTS[layout]
    if word == "SIZE":
        return str(len(columns))
    if word == "names":
        return ", ".join(f"'{column}'" for column in columns)
    return str(_number(name, layout, word))


def _number(name: str, layout: str, word: str) -> int:
    columns = LAYOUTS[layout]
    if not word.isupper() or word.lower() not in columns:
        raise ScriptError(f"{name}: {layout} has no column {word}")
    return columns.index(word.lower()) + 1


def _row(name: str, layout: str, form: str, inside: str) -> str:
    """Return the values of a row in the order of its layout, in braces if ``form`` is empty."""
    what, columns = f"{name}: {layout}{form}{{...}}", LAYOUTS[layout]
    values: dict[int, str] = {}
    for part in _split(inside):
        column = _COLUMN.fullmatch(part)
        if column is None:
            raise ScriptError(f"{what} takes COLUMN = value, not {part.strip()!r}")
        number = _number(name, layout, column[1])
        if number in values:
            raise ScriptError(f"{what} has {column[1]} twice")
        values[number] = column[2]
    first = min(values) if form else 1
    last = max(values) if form == ".values" else len(columns)
    missing = [columns[number - 1] for number in range(first, last + 1) if number not in values]
    if missing:
        raise ScriptError(f"{what} lacks {', '.join(missing)}")
    row = ", ".join(values[number] for number in sorted(values))
    return row if form else f"{{{row}}}"


def _closing(name: str, text: str, start: int) -> int:
    """Return where the brace closes that was opened before ``start``."""
    for position, sign, depth in _signs(text, start):
        if sign == "}" and depth < 0:
            return position
    raise ScriptError(f"{name}: a brace is not closed")


def _split(inside: str) -> list[str]:
    """Split at the commas outside of brackets and strings."""
    cuts = [at for at, sign, depth in _signs(inside, 0) if sign == "," and not depth]
    return [inside[a:b] for a, b in zip([0, *(c + 1 for c in cuts)], [*cuts, None], strict=True)]


def _signs(text: str, start: int) -> Iterator[tuple[int, str, int]]:
    """Yield strings and characters with their position and the depth of brackets after them."""
    depth = 0
    for match in _SIGN.finditer(text, start):
        depth += (match[0] in "([{") - (match[0] in ")]}")
        yield match.start(), match[0], depth
