"""``make instructions``: count, compare with what is allowed, exit 1 if a signal costs too much."""

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.benchmarks.instructions import baseline, callgrind, measure
from tests.benchmarks.processes import BenchmarkError
from tests.benchmarks.report import Report, Table, commit, parsed, parser_for

NAME: Final = "instructions"
MISSING: Final = (
    "make instructions needs valgrind; install it from the system's packages "
    "(Debian and Ubuntu: apt-get install valgrind; Fedora: dnf install valgrind)."
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the measurement; return the exit code."""
    parser = parser_for(NAME, "Count the processor instructions of one signal under callgrind.")
    parser.add_argument("--record", action="store_true", help="make this run the baseline")
    chosen = parsed(parser, argv)
    if not callgrind.is_installed():
        sys.stderr.write(f"{MISSING}\n")
        return 1
    report = Report(NAME, chosen, timed=False)
    try:
        with tempfile.TemporaryDirectory(prefix="instructions-") as directory:
            run = measure.run(
                chosen.server, Path(directory), runs=chosen.runs, progress=report.progress
            )
    except BenchmarkError as error:
        sys.stderr.write(f"{NAME}: {error}\n")
        return 1
    if chosen.record:
        baseline.record(run, commit())
    return _report(report, run)


def _report(report: Report, run: measure.Run) -> int:
    """Print and keep the table; return the exit code."""
    committed = baseline.load()
    figures = baseline.figures(run, committed)
    report.server = run.server
    report.details = {"references": run.references, "commands": run.commands}
    for figure in figures:
        for value in figure.values:
            report.add(figure.name, "instructions/signal", value)
    rows = [
        [
            figure.name,
            f"{report.samples[figure.name].median:,.0f}",
            f"{report.samples[figure.name].spread:.1%}",
            f"{figure.scaled:,.0f}",
            f"{figure.baseline:,}",
            f"{figure.limit:,.0f}",
            "kept" if figure.is_kept else "EXCEEDED",
        ]
        for figure in figures
    ]
    report.tables.append(
        Table(
            name=NAME,
            title=f"Instructions a signal, in batches of {measure.BATCH} and alone",
            columns=["", "measured", "spread", "scaled", f"at {committed.commit}", "limit",
                     "limit is"],
            rows=rows,
            note=_note(run, committed),
        )
    )  # fmt: skip
    report.finish()
    return 0 if all(figure.is_kept for figure in figures) else 1


def _note(run: measure.Run, committed: baseline.Baseline) -> str:
    scale = baseline.scales(run, committed)
    batched, lone = run.commands
    return (
        f"Scaled: measured times {scale['worker']:.4f} (worker) and {scale['server']:.4f} "
        f"(server), the reference jobs' counts at {committed.commit} over this run's "
        f"({run.references['worker']:,.0f} for Python, {run.references['server']:,.0f} for the "
        f"server). At {committed.commit}: {committed.python}; {committed.server}; "
        f"{committed.valgrind}. This run: {baseline.python_build()}; {callgrind.version()}. "
        f"Commands a batch: {batched}; for a lone signal: {lone}; {run.left_out} batches with "
        "another number, in which the worker also did something else, are left out. "
        "Spread: (max - min) / median of the repetitions. A lone signal may cost "
        f"{baseline.TOLERANCE:.0%} more than at {committed.commit}, for runs of the "
        "same code differ by about as much."
    )


if __name__ == "__main__":
    sys.exit(main())
