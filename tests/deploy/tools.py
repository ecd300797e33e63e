"""The checkers these tests call, and what happens where one is missing."""

import functools
import importlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pytest

ROOT: Final = Path(__file__).resolve().parents[2]
DEPLOY: Final = ROOT / "deploy"
#: Checkers from the package index live here, apart from the worker's own environment.
TOOLS: Final = ROOT / ".venv" / "deploy-tools"
#: Set by `make deploy-check`: a missing tool is then a failure, not a reason to skip.
STRICT: Final = bool(os.environ.get("DEPLOY_CHECK"))


def missing(sentence: str) -> Any:
    """Skip with the sentence, or fail with it under `make deploy-check`; never returns."""
    if STRICT:
        pytest.fail(sentence, pytrace=False)
    pytest.skip(sentence)


def tool(*names: str) -> str:
    """The path of the first of ``names`` there is."""
    for name in names:
        own = TOOLS / "bin" / name
        found = str(own) if own.exists() else shutil.which(name)
        if found:
            return found
    return str(missing(f"{names[0]} is not installed; make deploy-check installs it"))


def run(
    *command: str | Path,
    stdin: str | None = None,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    timeout: float = 60,
) -> subprocess.CompletedProcess[str]:
    """Run a checker to its end; what it says is in ``stdout`` and ``stderr``."""
    return subprocess.run(
        [str(part) for part in command],
        input=stdin,
        cwd=cwd,
        env=env,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def said(result: subprocess.CompletedProcess[str]) -> str:
    """Everything a checker said."""
    return f"{result.stdout}\n{result.stderr}".strip()


_CONVERT: Final = (
    "import json,sys,yaml;json.dump(list(yaml.safe_load_all(sys.stdin)),sys.stdout,default=str)"
)


@functools.cache
def _yaml_python() -> str | None:
    """A Python that has PyYAML: this one, or the checkers'."""
    own = TOOLS / "bin" / "python"
    try:
        importlib.import_module("yaml")
    except ImportError:
        return str(own) if own.exists() else None
    return sys.executable


@functools.lru_cache(maxsize=256)
def _documents(text: str) -> str:
    python = _yaml_python()
    if python is None:
        missing("PyYAML is not installed; make deploy-check installs it")
    result = run(str(python), "-c", _CONVERT, stdin=text)
    if result.returncode:
        raise ValueError(f"not valid YAML: {result.stderr.strip().splitlines()[-1]}")
    return result.stdout


def documents(source: Path | str) -> list[Any]:
    """Every document of a YAML file or text.

    Raises:
        ValueError: it is not valid YAML.
    """
    text = source.read_text() if isinstance(source, Path) else source
    found = json.loads(_documents(text))
    return [document for document in found if document is not None]


def document(source: Path | str) -> Any:
    """The only document of a YAML file or text."""
    (only,) = documents(source)
    return only


def changed(source: Path, target: Path, replacements: Sequence[tuple[str, str]]) -> Path:
    """Copy a file with each replacement made; each must have something to replace."""
    text = source.read_text()
    for old, new in replacements:
        assert old in text, f"{source.name} has no {old!r} to break"
        text = text.replace(old, new)
    target.write_text(text)
    return target
