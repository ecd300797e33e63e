"""The documentation says what the code does: made parts are fresh, examples are good."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.documents import (
    BLOCKS,
    EVENT_FIELDS,
    ROOT,
    SIGNAL_FIELDS,
    blocks_of,
    documents,
    renewed,
)
from worker.client import new_signal
from worker.config.fields import walk
from worker.config.loading import load_config
from worker.domain.event import STREAM_OF, OrderFailed, payload_struct
from worker.domain.refusal import CancelCode, Code, DeadReason
from worker.domain.signal import Signal, decode_signal
from worker.domain.signature import sign
from worker.operator.attention_codes import Code as Attention

DOCS = ROOT / "docs"
CONFIGURATION, MESSAGES = DOCS / "configuration.md", DOCS / "messages.md"


@pytest.mark.parametrize("path", documents(), ids=lambda path: path.name)
def test_made_parts_are_what_the_code_makes(path: Path) -> None:
    """``make docs`` changes nothing in the committed documents."""
    text = path.read_text()
    assert renewed(text) == text, f"{path.name} is out of date: make docs"


def test_every_part_stands_somewhere_once() -> None:
    """Every generated part has exactly one marker, and every marker a generated part."""
    standing = [name for path in documents() for name in blocks_of(path.read_text())]
    assert sorted(standing) == sorted(BLOCKS)


@pytest.mark.parametrize(
    "text",
    [
        "<!-- codes -->\n",
        "<!-- codes -->\n<!-- /dead -->\n",
        "<!-- codes -->\n<!-- dead -->\n<!-- /dead -->\n<!-- /codes -->\n",
        "<!-- dead -->\n<!-- /dead -->\n" * 2,
    ],
)
def test_a_broken_marker_is_noticed(text: str) -> None:
    """A marker that is not closed, or there twice, is an error."""
    with pytest.raises(ValueError, match=r"marker|closed"):
        renewed(text)


def test_an_unknown_marker_is_noticed() -> None:
    """A marker that no code fills is an error."""
    with pytest.raises(KeyError):
        renewed("<!-- nothing -->\n<!-- /nothing -->\n")


def test_a_stale_part_is_noticed() -> None:
    """A changed line inside a generated part is written anew."""
    text = MESSAGES.read_text()
    assert renewed(text.replace("| `SIGNAL_EXPIRED` |", "| `SIGNAL_EXPIRD` |")) == text


def test_every_field_has_a_meaning() -> None:
    """The meanings cover the fields of signals and events exactly."""
    assert set(SIGNAL_FIELDS) == set(Signal.__struct_fields__)
    assert set(EVENT_FIELDS) == {
        name for event in STREAM_OF for name in payload_struct(event).__struct_fields__
    }


def test_every_code_is_documented_and_used() -> None:
    """A code in the table with its meaning; and something in the worker, or a script, gives it."""
    table = blocks_of(MESSAGES.read_text())["codes"]
    used = {
        word
        for pattern in ("*.py", "*.lua")
        for path in (ROOT / "worker").rglob(pattern)
        if path.name != "refusal.py"
        for word in re.findall(r"\w+", path.read_text())
    }
    for code in Code:
        assert f"| `{code}` | {code.meaning} |" in table
        assert code in used, f"{code} is never used"
    cancelled = blocks_of(MESSAGES.read_text())["cancel-codes"]
    for ended in CancelCode:
        assert f"| `{ended}` | {ended.meaning} |" in cancelled
    dead = blocks_of(MESSAGES.read_text())["dead"]
    for reason in DeadReason:
        assert f"| `{reason}` | {reason.meaning} |" in dead


def test_every_system_error_is_documented() -> None:
    """The words its ``code`` may be are in the description of the field."""
    found = {
        code
        for path in (ROOT / "worker").rglob("*.py")
        if not {"exchanges", "paper"} & set(path.parts)  # their codes are the exchanges' own
        for code in re.findall(r'\bcode="([A-Z_]{4,})"', path.read_text())
    }
    assert {"ORDER_UNRESOLVED", "POSITION_DRIFT"} <= found
    for code in found:
        assert f"`{code}`" in EVENT_FIELDS["code"]


def test_every_configuration_key_is_documented() -> None:
    """Every key has a row in the table, and every section a mention in the text."""
    text = CONFIGURATION.read_text()
    table = blocks_of(text)["config"]
    keys = [".".join(path) for path, _ in walk()]
    assert len(keys) > 80
    for key in keys:
        assert f"| `{key}` |" in table


def fenced(path: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", path.read_text(), re.DOTALL)


def test_every_toml_example_is_a_configuration(tmp_path: Path) -> None:
    """It loads as it stands, with the secrets a live exchange needs from the environment."""
    examples = [text for path in documents() for text in fenced(path, "toml")]
    assert len(examples) >= 4
    for number, example in enumerate(examples):
        exchanges = tomllib.loads(example).get("exchanges", {})
        secrets = {
            f"WORKER_EXCHANGES__{name.upper()}__{key.upper()}": "x"
            for name in exchanges
            for key in ("api_key", "secret")
        }
        file = tmp_path / f"{number}.toml"
        file.write_text(example)
        load_config(file, secrets)


def test_every_variable_named_exists() -> None:
    """``WORKER_...`` in any document is a key, a secret's file, or the file's own variable.

    Or a code of what needs attention.
    """
    known = {"WORKER_CONFIG", *Attention}
    for key, _ in walk(named="NAME"):
        variable = "WORKER_" + "__".join(key).upper()
        known |= {variable, variable + "_FILE"}
    named = 0
    for path in documents():
        for variable in re.findall(r"\bWORKER_[A-Z][A-Z0-9_]*[A-Z0-9]\b", path.read_text()):
            plain = re.sub(r"^(WORKER_(?:EXCHANGES|SIGNATURES__KEYS)__)[A-Z0-9_]+?__", r"\1NAME__",
                           variable)  # fmt: skip
            assert plain in known, f"{path.name}: {variable}"
            named += 1
    assert named >= 8


def test_the_json_examples_are_signals() -> None:
    """They decode as the worker decodes them."""
    examples = fenced(MESSAGES, "json")
    assert len(examples) >= 2
    for example in examples:
        assert decode_signal(example.encode()).signal_id


def test_the_python_examples_run() -> None:
    """What needs no Redis is run as it stands; its signature is the worker's own."""
    examples = [text for text in fenced(MESSAGES, "python") if "hmac" in text]
    assert len(examples) == 1
    given: dict[str, Any] = {"data": b"{}", "key": b"", "secret": "s" * 32}
    exec(examples[0], given)  # noqa: S102 (our own documentation)
    assert given["fields"]["signature"] == sign(
        b"s" * 32, account="main", key_id="trend-2026", key=b"", data=b"{}"
    )
    assert new_signal("a", "paper", "BTC/USDT").symbol == "BTC/USDT"


def test_the_example_of_testing_a_producer_passes(tmp_path: Path) -> None:
    """Pasted into a file of its own it is two tests that pass; its event is one of the worker's."""
    (example,) = (text for text in fenced(MESSAGES, "python") if "TcpFakeServer" in text)
    (tmp_path / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
    (tmp_path / "test_engine.py").write_text(example)
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--disable-plugin-autoload", str(tmp_path)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "2 passed" in ran.stdout
    given: dict[str, Any] = {}
    exec(example, given)  # noqa: S102 (our own documentation)
    event, kind = given["FAILED"], payload_struct(OrderFailed)
    msgspec.json.decode(msgspec.json.encode(event), type=kind)
    assert set(event) == {"type", *kind.__struct_fields__}


@pytest.mark.parametrize("path", documents(), ids=lambda path: path.name)
def test_links_between_documents_lead_somewhere(path: Path) -> None:
    """A file that is there, and a heading in it."""
    for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", path.read_text()):
        file, _, anchor = target.partition("#")
        there = (path.parent / file).resolve() if file else path
        assert there.exists(), target
        if anchor and there.suffix == ".md":
            headings = re.findall(r"^#+ (.*)$", there.read_text(), re.MULTILINE)
            anchors = {
                re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings
            }
            assert anchor in anchors, target


def test_every_file_named_in_a_document_exists() -> None:
    """Paths in backticks lead to a file or folder, from the root, ``worker/`` or ``docs/``."""
    roots = (ROOT, ROOT / "worker", ROOT / "worker" / "ledger", DOCS)
    named = [
        (path.name, file)
        for path in documents()
        for file in re.findall(
            r"`((?:[\w.-]+/)+(?:[\w.-]+\.(?:py|lua|md|toml))?)`", path.read_text()
        )
    ]
    assert len(named) >= 100
    assert [one for one in named if not any((root / one[1]).exists() for root in roots)] == []


def test_every_make_target_named_in_a_document_exists() -> None:
    """``make`` knows every target that a document names."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {
        target
        for path in documents()
        for target in re.findall(r"(?:`|^)make ([a-z-]+)", path.read_text(), re.MULTILINE)
    }
    assert {"check", "demo", "docs"} <= named
    assert named <= targets


def test_every_room_is_in_the_architecture() -> None:
    """Each with its job, and with the file to begin with."""
    text = (ROOT / "ARCHITECTURE.md").read_text()
    table = re.findall(r"^\| `(\w+)/` \| .+ \| `(\w+\.py)` \|$", text, re.MULTILINE)
    rooms = {path.parent.name for path in (ROOT / "worker").glob("*/__init__.py")}
    assert {room for room, _ in table} == rooms
    for room, file in table:
        assert (ROOT / "worker" / room / file).exists(), f"{room}/{file}"


def test_the_glossary_is_in_order() -> None:
    """Alphabetic, each word once."""
    words = re.findall(r"^- \*\*(.+?)\*\*: ", (DOCS / "glossary.md").read_text(), re.MULTILINE)
    assert len(words) >= 60
    assert words == sorted(set(words))


def test_every_document_is_in_the_index() -> None:
    """A reader who starts there finds all of them."""
    index = DOCS / "index.md"
    linked = {
        (DOCS / target).resolve() for target in re.findall(r"\]\(([^)#]+)\)", index.read_text())
    }
    assert set(documents()) - {index} == linked


def test_every_decision_has_its_three_parts_and_is_short() -> None:
    """Numbered without a gap; context, decision, consequences; under a page."""
    decisions = sorted((DOCS / "adr").glob("*.md"))
    assert [path.name[:4] for path in decisions] == [
        f"{number:04}" for number in range(1, len(decisions) + 1)
    ]
    for number, path in enumerate(decisions, start=1):
        text = path.read_text()
        assert text.startswith(f"# {number}. "), path.name
        headings = re.findall(r"^## (.*)$", text, re.MULTILINE)
        assert headings == ["Context", "Decision", "Consequences"], path.name
        assert len(text.split()) <= 350, path.name
