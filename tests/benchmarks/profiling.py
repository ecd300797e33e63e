"""Where one worker spends its time under load: py-spy's samples, added up by function.

``make profile``. Records a worker that works off a backlog, writes a flame graph and the raw
stacks under ``.benchmarks/``, and prints the functions with most samples: their own, and with all
they call. The thread that waits for HTTP requests is left out; the event loop's own C code is
``Runner.run``.
"""

import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.benchmarks import signals
from tests.benchmarks.processes import ROOT, BenchmarkError, Child, stage
from tests.benchmarks.report import parsed, parser_for
from tests.benchmarks.throughput import drain

NAME: Final = "profile"
BACKLOG, QUICK_BACKLOG = 250_000, 10_000
TOP: Final = 30
_RATE_HZ: Final = 250
_IDLE: Final = ("serve_forever", "BaseServer.serve_forever")
_SPY: Final = ROOT / ".venv-peers" / "bin" / "py-spy"


def top(folded: str) -> list[tuple[str, int, int]]:
    """Functions with their own and their cumulative samples, most of their own first.

    Args:
        folded: one line a stack, frames separated by ``;``, a count at the end.
    """
    own: Counter[str] = Counter()
    whole: Counter[str] = Counter()
    for line in folded.splitlines():
        stack, _, count = line.rpartition(" ")
        # Without their line numbers, the samples of one function belong together.
        frames = [re.sub(r":\d+\)$", ")", frame) for frame in stack.split(";")]
        if any(frame.startswith(_IDLE) for frame in frames):
            continue
        own[frames[-1]] += int(count)
        for frame in set(frames):
            whole[frame] += int(count)
    return [(name, count, whole[name]) for name, count in own.most_common()]


def _record(child: Child, out: Path, form: str, seconds: int) -> "subprocess.Popen[bytes]":
    if not _SPY.exists():
        raise BenchmarkError(f"{_SPY} is missing: make profile installs it")
    return subprocess.Popen(
        [
            *(str(_SPY), "record", "--pid", str(child.pid), "--output", str(out)),
            *("--format", form, "--rate", str(_RATE_HZ), "--duration", str(seconds)),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Profile one worker and print its top functions."""
    parser = parser_for(NAME, __doc__)
    parser.add_argument("--seconds", type=int, default=0, help="how long (10; 3 with --quick)")
    chosen = parsed(parser, argv)
    seconds = chosen.seconds or (3 if chosen.quick else 10)
    backlog = signals.backlog(QUICK_BACKLOG if chosen.quick else BACKLOG, "p")
    chosen.out.mkdir(parents=True, exist_ok=True)
    stacks, graph = chosen.out / "profile.folded", chosen.out / "profile.svg"
    with stage(chosen.server) as where:
        where.make_group()
        child = where.worker()
        drain(where, [child], signals.backlog(2_000, "w"))
        for out, form in ((stacks, "raw"), (graph, "flamegraph")):
            child.pause()
            where.wire.pour(signals.commands(backlog))
            child.resume()
            spy = _record(child, out, form, seconds)
            while spy.poll() is None:
                time.sleep(0.1)
            if spy.returncode:
                raise BenchmarkError(f"py-spy ended with {spy.returncode}")
            # What was handled will not be handled again: the second recording needs new ids.
            backlog = signals.backlog(len(backlog), "q")
        child.kill()
    rows = top(stacks.read_text())
    total = sum(count for _, count, _ in rows) or 1
    lines = [f"{'own':>6} {'all':>6}  function"]
    lines += [f"{own / total:6.1%} {all_ / total:6.1%}  {name}" for name, own, all_ in rows[:TOP]]
    sys.stdout.write("\n".join([*lines, f"{total} samples -> {stacks}, {graph}"]) + "\n")


if __name__ == "__main__":
    main()
