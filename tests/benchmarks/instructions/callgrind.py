"""Runs programs under callgrind and reads how many instructions they executed.

The options and the format of the files are those of the Valgrind manual, "Callgrind: a call-graph
generating cache and branch prediction profiler" and "Callgrind Format Specification".
"""

import re
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.benchmarks.processes import ROOT, BenchmarkError

_TOTALS: Final = re.compile(r"^totals: (\d+)$", re.MULTILINE)
#: How long valgrind may take to write a file after the command that asks for it has returned.
_FILE_S: Final = 10.0
_COMMAND_S: Final = 60.0


def is_installed() -> bool:
    """Return whether valgrind's programs are on the PATH."""
    return shutil.which("valgrind") is not None and shutil.which("vgdb") is not None


def version() -> str:
    """Return valgrind's name and version, such as ``valgrind-3.19.0``."""
    return _run(["valgrind", "--version"]).strip()


def command(out: Path) -> list[str]:
    """Build the beginning of a command line that runs the rest of it under callgrind.

    Args:
        out: the file that gets the counts when the program ends.
    """
    return ["valgrind", "--tool=callgrind", "--quiet", f"--callgrind-out-file={out}"]


def count(arguments: Sequence[str], out: Path, environment: dict[str, str]) -> int:
    """Return how many instructions a program executes from its start to its end.

    Args:
        arguments: its command line.
        out: a file to use.
        environment: the program's environment variables.
    """
    _run([*command(out), *arguments], environment)
    return _totals(out.read_text())


class Counter:
    """The count of one running process.

    Args:
        pid: the process, started with :func:`command`.
        out: the file that was named there.
    """

    def __init__(self, pid: int, out: Path) -> None:
        self._pid = pid
        self._out = out
        self._dumps = 0
        self._asked: subprocess.Popen[str] | None = None

    def ask(self) -> None:
        """Have the process write down its count and start anew; :meth:`read` waits for it."""
        self._asked = subprocess.Popen(
            ["vgdb", f"--pid={self._pid}", "dump"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def read(self) -> int:
        """Return how many instructions were executed up to :meth:`ask` since the call before it.

        Raises:
            BenchmarkError: the process did not write down its count.
        """
        assert self._asked is not None
        try:
            said, _ = self._asked.communicate(timeout=_COMMAND_S)
        except subprocess.TimeoutExpired as error:
            self._asked.kill()
            raise BenchmarkError("vgdb does not reach the process; may it use ptrace?") from error
        self._dumps += 1
        path = self._out.with_name(f"{self._out.name}.{self._dumps}")
        deadline = time.monotonic() + _FILE_S
        while not (path.exists() and _TOTALS.search(text := path.read_text())):
            if time.monotonic() > deadline:
                raise BenchmarkError(f"callgrind wrote no {path.name}: {said.strip()}")
            time.sleep(0.005)
        path.unlink()
        return _totals(text)


def _totals(text: str) -> int:
    found = _TOTALS.findall(text)
    if not found:
        raise BenchmarkError("callgrind's file has no line of totals")
    return int(found[-1])


def _run(arguments: Sequence[str], environment: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        arguments, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise BenchmarkError(f"{arguments!r} ended with {done.returncode}: {done.stderr[-1_500:]}")
    return done.stdout
