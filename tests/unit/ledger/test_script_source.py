"""Assembling scripts: libraries by name, layouts as numbers, and what no script may forget."""

import re
from collections.abc import Callable, Mapping
from typing import Final

import pytest

from worker.ledger import limits
from worker.ledger.layouts import LAYOUTS
from worker.ledger.script_source import NAMES, ScriptError, assemble, included, read_file, source

LIBRARIES: Final = sorted({name for script in NAMES for name in included(
    script, read_file(f"{script}.lua"))})  # fmt: skip
#: What Lua and Redis provide.
PROVIDED: Final = {"error", "ipairs", "pairs", "pcall", "tonumber", "type", "unpack"}
_KEYWORDS: Final = {"and", "function", "if", "in", "not", "or", "return", "while"}
#: Where a script writes what it gathered.
FLUSH: Final = '\ndo\n  --- @include "flush"\nend\n'
_INCLUDE: Final = re.compile(r'^ *--- @include "(\w+)"\n', re.MULTILINE)
_ARGUMENT: Final = re.compile(r"^-- ARGV\[(\d+)(\.\.\.)?\] \w", re.MULTILINE)


def files(texts: Mapping[str, str]) -> Callable[[str], str]:
    def read(name: str) -> str:
        if name not in texts:
            raise FileNotFoundError(name)
        return texts[name]

    return read


def library(name: str) -> str:
    return read_file(f"lib/{name}.lua")


def code(text: str) -> str:
    """Lua without comments and strings."""
    return re.sub(r"'(?:[^'\\]|\\.)*'|--[^\n]*", "", text)


def defined(text: str) -> set[str]:
    """The names a library defines for others."""
    names: set[str] = set()
    for line in code(text).splitlines():
        if match := re.match(r"local function (\w+)", line):
            names.add(match[1])
        elif match := re.match(r"local ([\w, ]+?) *=", line):
            names |= set(match[1].split(", "))
    return names


# --- including ---


def test_libraries_come_once_and_before_what_needs_them() -> None:
    """In the order of the includes, each after those it includes itself."""
    read = files({
        "one.lua": '#!lua flags=x\n-- Says one.\n--- @include "b"\n--- @include "a"\nreturn b(a)\n',
        "lib/a.lua": "local a = 1\n",
        "lib/b.lua": '--- @include "a"\nlocal b = a\n',
    })  # fmt: skip
    assert source("one", read) == (
        "#!lua flags=x\nlocal a = 1\nlocal b = a\n-- Says one.\nreturn b(a)\n"
    )


def test_an_indented_include_stands_where_it_is() -> None:
    """With what it needs and the script does not have; lines that stand together share that."""
    read = files({
        "one.lua": (
            '--- @include "a"\nif a then\n  --- @include "c"\n  --- @include "d"\n  c(d)\nend\n'
            'if b then\n  --- @include "d"\n  d()\nend\n'
        ),
        "lib/a.lua": "local a = 1\n",
        "lib/b.lua": '--- @include "a"\nlocal b = a\n',
        "lib/c.lua": '--- @include "b"\nlocal c = b\n',
        "lib/d.lua": '--- @include "b"\nlocal d = b\n',
    })  # fmt: skip
    assert source("one", read) == (
        "local a = 1\nif a then\nlocal b = a\nlocal c = b\nlocal d = b\n  c(d)\nend\n"
        "if b then\nlocal b = a\nlocal d = b\n  d()\nend\n"
    )
    assert list(included("one", read("one.lua"), read)) == ["a", "b", "c", "d"]


def test_a_library_may_include_in_place() -> None:
    """What it includes so comes where the line stands; a circle is refused there as well."""
    texts = {
        "one.lua": '--- @include "a"\nreturn a()\n',
        "lib/a.lua": 'local function a()\n  --- @include "b"\n  return b\nend\n',
        "lib/b.lua": "local b = 2\n",
    }
    assert source("one", files(texts)) == (
        "local function a()\nlocal b = 2\n  return b\nend\nreturn a()\n"
    )
    with pytest.raises(ScriptError, match="a -> b -> a"):
        source("one", files(texts | {"lib/b.lua": '  --- @include "a"\n'}))


def test_an_unknown_library_is_refused() -> None:
    """The error names the missing library and the script that includes it."""
    with pytest.raises(ScriptError, match=r"one includes 'c': there is no such library"):
        source("one", files({"one.lua": '--- @include "c"\nreturn 1\n'}))


def test_a_circle_of_libraries_is_refused() -> None:
    """The error shows the libraries of the circle in order."""
    read = files({
        "one.lua": '--- @include "a"\nreturn 1\n',
        "lib/a.lua": '--- @include "b"\n',
        "lib/b.lua": '--- @include "a"\n',
    })  # fmt: skip
    with pytest.raises(ScriptError, match="a -> b -> a"):
        source("one", read)


@pytest.mark.parametrize(
    "line", ["--- @include a", "--- @include", '--- @include "a" first', '  --- @include "a" x']
)
def test_a_malformed_include_is_refused(line: str) -> None:
    """It is never taken for a comment."""
    with pytest.raises(ScriptError, match="--- @include"):
        source("one", files({"one.lua": f"{line}\nreturn 1\n", "lib/a.lua": ""}))


# --- layouts ---


def test_columns_are_numbers_and_words_are_text() -> None:
    """Nothing is left to be looked up when the script runs."""
    assembled = assemble("one", "return {ENTRY.TEXT, EVENT.SIZE, STATUS.FENCED, HELD.names}\n")
    assert assembled == "return {1, 3, 'fenced', 'entry', 'token'}\n"


def test_a_limit_is_a_number() -> None:
    """The very one that Python has; an unknown one is refused."""
    assert assemble("x", "return LIMIT.ENTRY_BYTES\n") == f"return {limits.ENTRY_BYTES}\n"
    with pytest.raises(ScriptError, match="LIMIT has no SIZE"):
        assemble("x", "return LIMIT.SIZE\n")


def test_a_row_is_written_in_the_order_of_its_layout() -> None:
    """Whatever the order it is given in, with rows, strings and calls inside."""
    row = (
        "return HEARTBEAT{TRADING_STATE = f('},', {1, 2}), SHARES = {}, HOLDS = {}, "
        "LOST = {HELD{TOKEN = 2, ENTRY = 'a'}}}\n"
    )
    assert assemble("one", row) == "return {{{'a', 2}}, f('},', {1, 2}), {}, {}}\n"
    values = "return RECORD.values{UNRESOLVED_SINCE = 0, ADMITTED_AT = now}\n"
    assert assemble("one", values) == "return now, 0\n"
    rest = "return ENTRY.rest{SIGNAL = 's', FOLLOWING = ''}\n"
    assert assemble("one", rest) == "return '', 's'\n"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("ENTRY.WROKER", "ENTRY has no column WROKER"),
        ("ENTRY.worker", "ENTRY has no column worker"),
        ("STATUS.LOST", "STATUS has no LOST"),
        ("HELD{ENTRY = 1}", "HELD{...} lacks token"),
        ("HELD{ENTRY = 1, TOKEN = 2, DIED = 3}", "HELD has no column DIED"),
        ("HELD{ENTRY = 1, ENTRY = 2}", "has ENTRY twice"),
        ("HELD{1, 2}", "takes COLUMN = value"),
        ("RECORD.values{ENTRY = 1, SIGNAL = 2}", "RECORD.values{...} lacks digest"),
        ("ENTRY.rest{REFUSED = 1, FOLLOWING = 2}", "ENTRY.rest{...} lacks signal"),
        ("HELD{ENTRY = 1, TOKEN = 2", "a brace is not closed"),
    ],
)
def test_a_wrong_column_is_refused_when_the_script_is_loaded(text: str, complaint: str) -> None:
    """A typing error never becomes a nil."""
    with pytest.raises(ScriptError, match=re.escape(complaint)):
        assemble("one", f"return {text}\n")


def test_swapped_columns_are_swapped_on_both_sides(monkeypatch: pytest.MonkeyPatch) -> None:
    """A script follows its layout: there is no second order to forget."""
    text = read_file("claim.lua")
    before = assemble("claim", text)
    claim = LAYOUTS["CLAIM"]
    monkeypatch.setitem(LAYOUTS, "CLAIM", (claim[1], claim[0], *claim[2:]))
    after = assemble("claim", text)
    assert "return {granted, turns, primary, " in before
    assert "return {turns, granted, primary, " in after


@pytest.mark.parametrize("name", NAMES)
def test_no_column_is_written_as_a_number(name: str) -> None:
    """Of an item's fields, an entry or a record, every column has its name."""
    for file in (
        f"{name}.lua",
        *(f"lib/{one}.lua" for one in included(name, read_file(f"{name}.lua"))),
    ):
        text = code(read_file(file))
        assert not re.search(r"\b(?:entry|entries\[\w+\]|record|parked)\[\d", text), file
        assert not re.search(r"\bfields\[(?:before|head|last|first) [-+] \d", text), file


# --- what no script may forget ---


def test_a_script_without_flush_is_refused() -> None:
    """A script that gathers changes and does not include `flush` cannot be assembled."""
    for name in NAMES:
        body = read_file(f"{name}.lua")
        if "indexes" in included(name, body):
            assert body.count(FLUSH) == 1
            for wrong in (
                body.replace(FLUSH, "\n"),
                body.replace(FLUSH, FLUSH.replace("do", "if no then")),
            ):
                with pytest.raises(
                    ScriptError, match=rf"{name}.lua must have one block that includes"
                ):
                    assemble(name, wrong)
        else:
            assert '"flush"' not in body


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_gathered_after_flush(name: str) -> None:
    """No script changes an entry after `flush`, where the change would not be written."""
    _, _, after = read_file(f"{name}.lua").partition(FLUSH)
    after = code(_INCLUDE.sub("", after))
    gathering = {
        "put_field",
        "put_signal",
        "put_following",
        "lease",
        "grant",
        "forget_entry",
        "enter_groups",
        "change_exposure",
        "add_to_line",
    }
    assert not gathering & set(re.findall(r"\b(\w+)\(", after))
    assert not re.search(
        r"\b(?:changed|moved|finished|regranted|leased|exposures|lines_changed)\[", after
    )


@pytest.mark.parametrize("name", NAMES)
def test_every_name_that_is_called_is_there(name: str) -> None:
    """Every function is defined before its first call; an undefined one would be nil."""
    text = code(source(name))
    for match in re.finditer(r"(?<![\w.])(\w+)\(", text):
        function = match[1]
        if function in PROVIDED | _KEYWORDS:
            continue
        definition = rf"^\s*local (?:function {function}\b|[\w, ]*\b{function}\b[\w, ]* =)"
        found = re.search(definition, text, re.MULTILINE)
        assert found is not None, function
        assert found.start() < match.start(), function


@pytest.mark.parametrize("name", NAMES)
def test_a_script_includes_what_it_uses(name: str) -> None:
    """Every included library is used by the script or another library of it."""
    body = read_file(f"{name}.lua")
    libraries = included(name, body)
    for library_name, text in libraries.items():
        others = "".join(code(other) for key, other in libraries.items() if key != library_name)
        used = set(re.findall(r"\w+", others + code(body)))
        is_demanded = f'--- @finally "{library_name}"' in "".join(libraries.values())
        assert is_demanded or defined(text) & used, f"{name} does not use {library_name}"


def test_every_library_is_used() -> None:
    """Some script includes every library, and every script file is in NAMES."""
    here = {path.removesuffix(".lua") for path in _names("lib")}
    assert here == set(LIBRARIES)
    assert {path.removesuffix(".lua") for path in _names("")} == set(NAMES)


def _names(folder: str) -> list[str]:
    from importlib.resources import files as package  # noqa: PLC0415

    room = package("worker.ledger") / "lua"
    room = room / folder if folder else room
    return [path.name for path in room.iterdir() if path.name.endswith(".lua")]


# --- what a script says of itself ---


@pytest.mark.parametrize("name", NAMES)
def test_the_head_of_a_script_names_its_keys_and_arguments(name: str) -> None:
    """A line each, numbered from 1 without a gap; only the last may stand for many."""
    body = read_file(f"{name}.lua")
    head = body[: body.index("--- @include")]
    assert head.count("-- KEYS[") == head.count("-- KEYS[1] {account}:signals\n") == 1
    assert head.count("-- Returns ") == 1
    numbers = [(int(number), bool(many)) for number, many in _ARGUMENT.findall(head)]
    assert [number for number, _ in numbers] == list(range(1, len(numbers) + 1))
    assert not any(many for _, many in numbers[:-1])
    assert head.count("-- ARGV[") == len(numbers)


@pytest.mark.parametrize("name", NAMES)
def test_a_script_reads_the_arguments_it_documents(name: str) -> None:
    """Every one by its number; those that come in any number through `#ARGV` or the items."""
    body = read_file(f"{name}.lua")
    text = code(body)
    documented = {int(number) for number, many in _ARGUMENT.findall(body) if not many}
    several = {int(number) for number, many in _ARGUMENT.findall(body) if many}
    read = {int(number) for number in re.findall(r"ARGV\[(\d+)\]", text)}
    read |= {int(number) for number in re.findall(r"\bunpack_items\((\d+)\)", text)}
    assert read == documented
    assert bool(several) == bool(re.search(r"#ARGV|\bunpack_items\(", text))


@pytest.mark.parametrize("name", [*NAMES, *(f"lib/{name}" for name in LIBRARIES)])
def test_no_file_is_long(name: str) -> None:
    """A script reads on a page or two."""
    text = read_file(f"{name}.lua")
    code_lines = [line for line in text.splitlines() if not re.match("--| +--- @include ", line)]
    assert len(code_lines) <= 80
