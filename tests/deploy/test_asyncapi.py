"""``execution-worker schema`` is valid AsyncAPI 3, says AsyncAPI's own parser."""

import copy
import fcntl
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from tests.deploy.tools import STRICT, TOOLS, missing, run, said, tool

HERE: Final = Path(__file__).parent / "asyncapi"
#: Where the parser lives once ``make deploy-check`` has installed it.
PARSER: Final = TOOLS / "asyncapi"
#: Spectral's severities: 0 is an error, 1 a warning, 2 and 3 are remarks.
WARNING: Final = 1
_FILES: Final = ("package.json", "package-lock.json", "check.mjs")


@pytest.fixture(scope="module")
def parser() -> list[str]:
    """The command that checks a document on its standard input."""
    node = tool("node")
    stamp = PARSER / "installed"
    wanted = "".join((HERE / name).read_text() for name in _FILES)
    if not stamp.exists() or stamp.read_text() != wanted:
        if not STRICT:
            missing("AsyncAPI's parser is not installed; make deploy-check installs it")
        _install(stamp, wanted)
    return [node, str(PARSER / "check.mjs")]


def _install(stamp: Path, wanted: str) -> None:
    """By the lock, whose hashes npm checks; no package's own scripts are run."""
    PARSER.mkdir(parents=True, exist_ok=True)
    with (PARSER / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for name in _FILES:
            shutil.copy(HERE / name, PARSER / name)
        done = run(
            tool("npm"), "ci", "--ignore-scripts", "--no-audit", "--no-fund", cwd=PARSER,
            timeout=240,
        )  # fmt: skip
        assert done.returncode == 0, said(done)
        stamp.write_text(wanted)


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    """What the command prints."""
    printed = run(sys.executable, "-m", "worker", "schema")
    assert printed.returncode == 0, said(printed)
    found: dict[str, Any] = json.loads(printed.stdout)
    return found


def verdict(parser: list[str], document: dict[str, Any]) -> dict[str, Any]:
    done = run(*parser, stdin=json.dumps(document))
    assert done.returncode == 0, said(done)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_the_document_is_valid(parser: list[str], document: dict[str, Any]) -> None:
    """It is understood, with all five channels, and nothing is wrong with it or doubtful."""
    told = verdict(parser, document)
    assert told["parsed"]
    assert set(told["channels"]) == {"signals", "orders", "positions", "system", "dead"}
    assert [one for one in told["found"] if one["severity"] <= WARNING] == []


def _no_title(document: dict[str, Any]) -> None:
    del document["info"]["title"]


def _dangling(document: dict[str, Any]) -> None:
    document["operations"]["orders"]["channel"]["$ref"] = "#/channels/nowhere"


def _wrong_action(document: dict[str, Any]) -> None:
    document["operations"]["orders"]["action"] = "publish"


def _no_schema(document: dict[str, Any]) -> None:
    document["components"]["schemas"]["Signal"]["type"] = "thing"


@pytest.mark.parametrize("damage", [_no_title, _dangling, _wrong_action, _no_schema])
def test_a_damaged_document_is_not(
    parser: list[str], document: dict[str, Any], damage: Callable[[dict[str, Any]], None]
) -> None:
    """The check can fail: each of these is an error to the parser."""
    damaged = copy.deepcopy(document)
    damage(damaged)
    assert any(one["severity"] == 0 for one in verdict(parser, damaged)["found"])
