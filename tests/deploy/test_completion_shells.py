"""Completion as zsh and fish do it, once told so as the README has it."""

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from tests.deploy.tools import ROOT, run, tool

BIN: Final = Path(sys.executable).parent
PATIENCE_S: Final = 30.0
#: What is typed, some of what Tab must offer, and what it must not.
CASES: Final = (
    ("execution-worker po", {"positions"}, {"status"}),
    ("execution-worker tail --s", {"--since", "--symbol", "--signal"}, {"--reason"}),
    ("execution-worker submit --type st", {"stop", "stop_limit"}, {"limit"}),
    ("execution-worker dead re", {"replay"}, {"discard"}),
    ("execution-worker halt --", {"--reason", "--timeout", "--dry-run"}, {"--since"}),
)
#: Tab lists what may come rather than typing the first.
ZSH: Final = """\
PS1='' PROMPT_EOL_MARK='' LISTMAX=10000
bindkey '^I' list-choices
autoload -U compinit && compinit -u -D
eval "$(register-python-argcomplete execution-worker)"
echo REA''DY
"""


def _environment(home: Path) -> dict[str, str]:
    return {"PATH": f"{BIN}:{os.environ['PATH']}", "HOME": str(home), "TERM": "xterm"}


@pytest.mark.parametrize(("line", "some", "none"), CASES)
def test_fish_offers_what_may_come(
    line: str, some: set[str], none: set[str], tmp_path: Path
) -> None:
    """Each with its line of help."""
    script = "register-python-argcomplete --shell fish execution-worker | source; complete -C $argv"
    done = run(tool("fish"), "--no-config", "-c", script, line, env=_environment(tmp_path))
    assert done.stderr == ""
    offered = dict(one.partition("\t")[::2] for one in done.stdout.splitlines())
    assert some <= set(offered)
    assert not none & set(offered)
    assert any(offered.values())


@contextmanager
def _terminal(program: str, home: Path) -> Iterator[int]:
    """Run a shell on a terminal of its own; yields our end."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 60, 200, 0, 0))
    shell = subprocess.Popen(
        [program, "-f", "-i"],
        env=_environment(home), stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    try:
        yield ours
    finally:
        shell.kill()
        shell.wait()
        os.close(ours)


def _read_until(terminal: int, words: set[str]) -> str:
    """Return what the shell wrote, once it has written all of some words."""
    shown, deadline = "", time.monotonic() + PATIENCE_S
    while not words <= set(re.split(r"[\s\x00-\x1f]+", shown)):
        left_s = max(deadline - time.monotonic(), 0)
        assert select.select([terminal], [], [], left_s)[0], f"no {words} in {shown!r}"
        shown += os.read(terminal, 65_536).decode(errors="replace")
        shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", " ", shown)
    return shown


@pytest.mark.parametrize(("line", "some", "none"), CASES)
def test_zsh_offers_what_may_come(
    line: str, some: set[str], none: set[str], tmp_path: Path
) -> None:
    """In an interactive shell with its completion system on."""
    with _terminal(tool("zsh"), tmp_path) as terminal:
        os.write(terminal, ZSH.encode())
        _read_until(terminal, {"READY"})
        os.write(terminal, f"{line}\t".encode())
        shown = _read_until(terminal, some)
        os.write(terminal, b"\x15echo DO''NE\n")
        shown += _read_until(terminal, {"DONE"})
    assert not none & set(shown.split())


def test_the_readme_says_what_zsh_needs_first() -> None:
    """Its completion system is off in a fresh shell."""
    assert "autoload -U compinit && compinit" in (ROOT / "README.md").read_text()
