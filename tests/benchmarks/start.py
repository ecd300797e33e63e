"""How long a worker takes from the start of its process to ``/readyz`` saying 200.

``python -m tests.benchmarks.start``. On the simulated exchange, and through ccxt with 2,000 markets
from the simulator; beside them, in the same rounds, an empty Python and one that imports ccxt.
"""

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from tests.benchmarks.processes import Stage, stage
from tests.benchmarks.report import Report, Table, options
from tests.benchmarks.venue import Venue

NAME: Final = "start"
MARKETS, QUICK_MARKETS = 2_000, 200


def _python(code: str) -> float:
    started = time.monotonic()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.monotonic() - started


def _ready(where: Stage, **settings: Any) -> float:
    started = time.monotonic()
    child = where.worker(**settings)
    taken = time.monotonic() - started
    child.stop()
    return taken


def main(argv: Sequence[str] | None = None) -> None:
    """Run the benchmark."""
    chosen = options(NAME, __doc__, argv)
    markets = QUICK_MARKETS if chosen.quick else MARKETS
    report = Report(NAME, chosen)
    with stage(chosen.server) as where:
        report.server = where.server_name()
        venue = Venue(where, symbols=markets)
        series: dict[str, Callable[[], float]] = {
            "python, nothing imported": lambda: _python("pass"),
            "python, all of ccxt imported": lambda: _python("import ccxt.async_support"),
            "worker, simulated exchange": lambda: _ready(where),
            f"worker, ccxt, {markets:,} markets": lambda: _ready(where, **venue.settings()),
        }
        for number in range(-1, chosen.runs):  # the first round fills the disk's cache
            for name, run in series.items():
                with report.meter.around():
                    taken = run()
                if number >= 0:
                    report.add(name, "s", taken)
            report.progress(f"run {number + 1}/{chosen.runs}")
    rows = [
        [name, *(f"{value:.2f}" for value in (found.median, min(found.values), max(found.values)))]
        for name, found in report.samples.items()
    ]
    report.tables.append(
        Table(
            name=NAME,
            title="Start: seconds from the process's start to ready",
            columns=["", "median", "min", "max"],
            rows=rows,
        )
    )
    report.finish()


if __name__ == "__main__":
    main(sys.argv[1:])
