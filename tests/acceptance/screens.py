"""What a person sees: a command on a terminal of some width, or piped with ``COLUMNS``."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from decimal import Decimal, InvalidOperation
from typing import Any

from tests.acceptance.site import environment
from worker.cli import wording
from worker.domain.money import rounded_text, text

_STYLE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
#: Times, ages, addresses and versions: not amounts.
_NO_AMOUNT = re.compile(
    r"\d+:\d\d:\d\d(\.\d+)?|[\d.]+ (ms|s|min|h|d|B|KiB)\b|\d+\.\d+\.\d+(\.\d+)?(:\d+)?"
)


def on_terminal(
    arguments: Sequence[str], width: int, environ: Mapping[str, str], typed: str = ""
) -> tuple[int, str]:
    """Run a command on a terminal of its own; returns its exit code and all it showed."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, width, 0, 0))
    whole = environment(environ) | {"TERM": "xterm-256color"}
    del whole["COLUMNS"]
    process = subprocess.Popen(
        [sys.executable, "-m", "worker", *arguments],
        env=whole, stdin=theirs, stdout=theirs, stderr=theirs,
    )  # fmt: skip
    os.close(theirs)
    os.write(ours, typed.encode())
    shown = b""
    try:
        while chunk := os.read(ours, 65_536):
            shown += chunk
    except OSError:  # the terminal's other end is closed
        pass
    os.close(ours)
    return process.wait(30), _STYLE.sub("", shown.decode()).replace("\r\n", "\n")


def piped(arguments: Sequence[str], width: int, environ: Mapping[str, str]) -> tuple[int, str]:
    """Run a command into a pipe that ``COLUMNS`` gives a width; returns exit code and output."""
    done = subprocess.run(
        [sys.executable, "-m", "worker", *arguments],
        env=environment(environ) | {"COLUMNS": str(width)},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout


def amounts_of(document: Any) -> Iterator[Decimal]:
    """Yield every amount of a JSON document: text that is a decimal number."""
    if isinstance(document, dict):
        document = list(document.values())
    if isinstance(document, list):
        for part in document:
            yield from amounts_of(part)
    elif isinstance(document, str):
        with suppress(InvalidOperation):
            yield Decimal(document)


def spellings(amount: Decimal) -> set[str]:
    """How an amount may be shown to people."""
    return {text(amount), rounded_text(amount), wording.money(amount), wording.price(amount)}


def amounts_shown(screen: str) -> set[str]:
    """Every number with a point on a screen, times and ages left out."""
    return set(re.findall(r"(?<![\w.-])-?\d+\.\d+(?![\w.])", _NO_AMOUNT.sub(" ", screen)))
