"""The house rules that a program can check, over every file in ``worker/``."""

import ast
import io
import re
import tokenize
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parents[2]
FILES: Final = (
    *sorted((ROOT / "worker").rglob("*.py")),
    *sorted((ROOT / "worker").rglob("*.lua")),
    *sorted(ROOT.glob("*.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
)

MAX_MODULE_LINES: Final = 400
MAX_FUNCTION_LINES: Final = 70
MAX_SCRIPT_LINES: Final = 80
#: The modules that stand in no room.
FLAT: Final = frozenset({"__init__", "__main__", "client", "testing"})
#: Names of modules and packages that say nothing of what is inside.
EMPTY_NAMES: Final = frozenset({"utils", "util", "helpers", "common", "manager", "misc"})
#: A docstring says what its object does ("Return ...") or is ("A lease on ..."). With these words
#: begins a riddle, or a sentence about something that was not named.
RIDDLES: Final = frozenset(
    {
        "What", "Whether", "How", "Where", "Who", "Which", "That", "It", "This", "There", "Nothing",
        "Nobody", "As",
    }
)  # fmt: skip
#: Archaic words, and "told" of a function that is called or a person who reads.
BANNED: Final = re.compile(
    r"\b(?:dear|dearer|hitherto|heretofore|henceforth|thenceforth|hereby|herein|thereof|thereupon"
    r"|therein|thereby|whence|whereof|wherein|whereupon|whilst|forthwith|nought|lest|unto"
    r"|told of|(?:is|are|was|were|be|been) told(?! to\b)|crowd)\b",
    re.IGNORECASE,
)
#: Names that were given up: no identifier in the code, nothing in code type in the documents.
RETIRED: Final = frozenset(
    {
        "Crowd", "Hands", "InHand", "Intent", "OutcomeRecord", "Scribe", "Starting", "StoredIntent",
        "Tell", "Watch", "has_book", "keep_heap",
    }
)  # fmt: skip
_LEFT_OUT: Final = re.compile(r"--| +--- @include ")
_SUPPRESSION: Final = re.compile(r"#\s*(?:noqa|type:\s*ignore)")
_CODED: Final = re.compile(r"#\s*(?:noqa: [A-Z]+\d+|type: ignore\[[\w, -]+\])")
_CODE_TYPE: Final = re.compile(r"`+([\w.]+)`+")

Function = ast.FunctionDef | ast.AsyncFunctionDef
#: A line and what is wrong there.
Offence = tuple[int, str]
#: Checks one file, given its path below the project's root and its text.
Rule = Callable[[Path, str], Iterator[Offence]]


PRINTED_BY_SCHEMA: Final = frozenset(
    {
        "Action", "Direction", "OrderType", "Role", "Severity", "Side", "Stage", "TimeInForce",
        "TradingState",
    }
)  # fmt: skip


def short_module(path: Path, text: str) -> Iterator[Offence]:
    """A module over the limit has more than one job."""
    lines = len(text.splitlines())
    if path.suffix == ".py" and lines > MAX_MODULE_LINES:
        yield lines, f"{lines} lines"


def short_script(path: Path, text: str) -> Iterator[Offence]:
    """A script and each library count by themselves, without their comments and includes."""
    lines = sum(not _LEFT_OUT.match(line) for line in text.splitlines())
    if path.suffix == ".lua" and lines > MAX_SCRIPT_LINES:
        yield lines, f"{lines} lines"


def short_functions(path: Path, text: str) -> Iterator[Offence]:
    """The docstring does not count: arguments are to be described."""
    for node in ast.walk(_tree(path, text)):
        if isinstance(node, Function):
            lines = _length(node)
            if ast.get_docstring(node) is not None:
                lines -= _length(node.body[0])
            if lines > MAX_FUNCTION_LINES:
                yield node.lineno, f"{node.name} has {lines} lines"


def in_a_room(path: Path, _text: str) -> Iterator[Offence]:
    """Every module but the way in and the client stands in a room."""
    if path.parent == Path("worker") and path.suffix == ".py" and path.stem not in FLAT:
        yield 1, "stands in no room"


def telling_name(path: Path, _text: str) -> Iterator[Offence]:
    """Of the module and of its packages."""
    for name in EMPTY_NAMES.intersection(path.with_suffix("").parts):
        yield 1, f"{name} says nothing of what is inside"


def plain_docstrings(path: Path, text: str) -> Iterator[Offence]:
    """Of the module, and of public classes, functions and methods.

    Docstrings that `execution-worker schema` prints are public texts, and stay as they are.
    """
    for node in _public(_tree(path, text)):
        if getattr(node, "name", "") in PRINTED_BY_SCHEMA:
            continue
        docstring = ast.get_docstring(node) or ""
        word = re.match(r"\w+", docstring)
        if word and word[0] in RIDDLES:
            yield getattr(node, "lineno", 1), docstring.splitlines()[0]


def plain_words(path: Path, text: str) -> Iterator[Offence]:
    """In comments, docstrings and messages."""
    prose = [
        (token.start[0] + number, line)
        for token in _tokens(path, text)
        if token.type in {tokenize.COMMENT, tokenize.STRING}
        for number, line in enumerate(token.string.splitlines())
    ]
    if path.suffix == ".lua":
        prose = [(n, line.partition("--")[2]) for n, line in enumerate(text.splitlines(), 1)]
    for number, line in prose:
        for found in BANNED.finditer(line):
            yield number, found[0]


def coded_suppressions(path: Path, text: str) -> Iterator[Offence]:
    """What a line is excused from is written beside it."""
    for token in _tokens(path, text):
        if token.type == tokenize.COMMENT:
            for found in _SUPPRESSION.finditer(token.string):
                if not _CODED.match(token.string, found.start()):
                    yield token.start[0], token.string


def present_names(path: Path, text: str) -> Iterator[Offence]:
    """One name for one thing, the same in code and documents."""
    for token in _tokens(path, text):
        if token.type == tokenize.NAME and token.string in RETIRED:
            yield token.start[0], token.string
    if path.suffix == ".md":
        for number, line in enumerate(text.splitlines(), 1):
            for name in _CODE_TYPE.findall(line):
                if not RETIRED.isdisjoint(name.split(".")):
                    yield number, name


def one_way_out(path: Path, text: str) -> Iterator[Offence]:
    """What is shown may be anybody's text: one module writes it, and makes it printable."""
    if path == Path("worker/cli/output.py"):
        return
    for node in ast.walk(_tree(path, text)):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            if name in {"print", "Console", "sys.stdout.write", "sys.stderr.write"}:
                yield node.lineno, f"{name}() passes worker.cli.output by"


def _tree(path: Path, text: str) -> ast.Module:
    return ast.parse(text if path.suffix == ".py" else "")


def _tokens(path: Path, text: str) -> Iterator[tokenize.TokenInfo]:
    return tokenize.generate_tokens(io.StringIO(text if path.suffix == ".py" else "").readline)


def _length(node: ast.stmt) -> int:
    assert node.end_lineno is not None
    return node.end_lineno - node.lineno + 1


def _public(
    node: ast.Module | ast.ClassDef | Function,
) -> Iterator[ast.Module | ast.ClassDef | Function]:
    yield node
    if not isinstance(node, Function):
        for child in node.body:
            if isinstance(child, ast.ClassDef | Function) and not child.name.startswith("_"):
                yield from _public(child)


RULES: Final[Mapping[str, Rule]] = {
    rule.__name__: rule
    for rule in (
        short_module, short_script, short_functions, in_a_room, telling_name, plain_docstrings,
        plain_words, coded_suppressions, present_names, one_way_out,
    )
}  # fmt: skip


@pytest.mark.parametrize("rule", RULES)
def test_a_house_rule_holds_in_every_file(rule: str) -> None:
    """What a program can check is not left to a reader's eye."""
    offences = []
    for file in FILES:
        path = file.relative_to(ROOT)
        found = RULES[rule](path, file.read_text())
        offences += [f"{path}:{line}: {what}" for line, what in found]
    assert offences == [], "\n".join(offences)


_LONG: Final = "\n".join(["    pass"] * 70)


@pytest.mark.parametrize(
    ("rule", "path", "bad", "good"),
    [
        ("short_module", "worker/room/a.py", "pass\n" * 401, "pass\n" * 400),
        ("short_script", "worker/room/a.lua", "return\n" * 81, "return\n" * 80),
        ("short_functions", "worker/room/a.py", f"def a():\n{_LONG}", f"def a():\n{_LONG[9:]}"),
        ("plain_docstrings", "worker/room/a.py", '"""What it is."""', '"""A thing."""'),
        (
            "plain_docstrings",
            "worker/room/a.py",
            'class A:\n    def a(self):\n        """Whether so."""',
            'class A:\n    def _a(self):\n        """Whether so."""',
        ),
        ("plain_words", "worker/room/a.py", "a = 1  # is told of it", "a = 1  # is told to stop"),
        ("plain_words", "worker/room/a.py", 'a = """\nThat is dear."""', "dear = 1"),
        ("plain_words", "worker/room/a.lua", "-- This is dear.", "local dear = 1"),
        ("coded_suppressions", "worker/room/a.py", "a  # noqa", "a  # noqa: F821 (why)"),
        ("coded_suppressions", "worker/room/a.py", "a  # type: ignore", "a  # type: ignore[name]"),
        ("one_way_out", "worker/room/a.py", "print(a)", "output.say(a)"),
        ("one_way_out", "worker/cli/a.py", "sys.stderr.write(a)", "sys.stdout.flush()"),
        ("present_names", "worker/room/a.py", "class Scribe: ...", "class Writer: ..."),
        ("present_names", "docs/a.md", "See `flow.Intent`.", "The intent. Starting is quick."),
    ],
)
def test_a_rule_finds_its_offence_and_no_other(rule: str, path: str, bad: str, good: str) -> None:
    """A check that sees nothing would hold for ever."""
    assert len(list(RULES[rule](Path(path), bad))) == 1
    assert list(RULES[rule](Path(path), good)) == []


@pytest.mark.parametrize(
    ("rule", "bad", "good"),
    [
        ("in_a_room", "worker/flat.py", "worker/client.py"),
        ("telling_name", "worker/ledger/utils.py", "worker/ledger/wire.py"),
        ("telling_name", "worker/common/wire.py", "worker/ledger/lua/lib/common_keys.lua"),
    ],
)
def test_a_rule_about_paths_finds_its_offence_and_no_other(rule: str, bad: str, good: str) -> None:
    """Modules, packages and scripts alike."""
    assert len(list(RULES[rule](Path(bad), ""))) == 1
    assert list(RULES[rule](Path(good), "")) == []


def test_the_rules_see_the_files() -> None:
    """A path that leads nowhere would make every rule hold."""
    suffixes = [file.suffix for file in FILES]
    assert suffixes.count(".py") > 100
    assert suffixes.count(".lua") > 20
    assert suffixes.count(".md") > 5
