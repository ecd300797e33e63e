"""What a benchmark found: samples, tables for people, JSON for machines."""

import statistics
import subprocess
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import msgspec

from tests.benchmarks.machine import Machine, Noise, NoiseMeter, describe
from tests.benchmarks.processes import ROOT

RESULTS: Final = ROOT / ".benchmarks"
_LIBRARIES: Final = ("redis", "hiredis", "msgspec", "uvloop", "ccxt")


class Samples(msgspec.Struct):
    """Every counted run's value of one figure, in the order they were made."""

    unit: str
    values: list[float]

    @property
    def median(self) -> float:
        """The middle one."""
        return statistics.median(self.values)

    @property
    def spread(self) -> float:
        """``(max - min) / median``."""
        return (max(self.values) - min(self.values)) / self.median if self.median else 0.0


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Median of the rounds' own ratios: what both suffered in a round cancels out."""
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


def percentile(values: Sequence[float], share: float) -> float:
    """The value that ``share`` of all are not above (nearest rank)."""
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)]


class Table(msgspec.Struct, kw_only=True):
    """One table, its cells as text; the first column is the row's name."""

    name: str
    title: str
    columns: list[str]
    rows: list[list[str]]
    note: str = ""

    def text(self) -> str:
        """For a terminal: columns aligned."""
        lines = [self.columns, *self.rows]
        widths = [max(len(line[n]) for line in lines) for n in range(len(self.columns))]
        shown = [
            "  ".join(
                cell.ljust(width) if n == 0 else cell.rjust(width)
                for n, (cell, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in lines
        ]
        rule = "-" * max(map(len, shown))
        parts = [self.title, rule, shown[0], rule, *shown[1:], rule]
        return "\n".join([*parts, self.note] if self.note else parts)

    def markdown(self) -> str:
        """For a document."""
        bar = ["---", *["---:"] * (len(self.columns) - 1)]
        rows = ["| " + " | ".join(line) + " |" for line in (self.columns, bar, *self.rows)]
        return "\n".join([f"**{self.title}**", "", *rows, *(["", self.note] if self.note else [])])


class Result(msgspec.Struct, kw_only=True):
    """All of one benchmark."""

    benchmark: str
    at: str
    commit: str
    quick: bool
    runs: int
    server: str
    machine: Machine
    libraries: dict[str, str]
    noise: Noise | None
    tables: list[Table]
    samples: dict[str, Samples]
    details: dict[str, Any] = {}

    def conditions(self) -> str:
        """Where, when and how steadily it was measured, in one sentence."""
        scale = "quick scale, " if self.quick else ""
        libraries = ", ".join(f"{name} {number}" for name, number in self.libraries.items())
        noise = f" Noise: {self.noise.sentence()}." if self.noise else ""
        return (
            f"{scale}{self.runs} runs at {self.at} of {self.commit}; {self.machine.sentence()}; "
            f"{self.server}; {libraries}.{noise}"
        )


def parser_for(name: str, description: str | None) -> ArgumentParser:
    """The command line all benchmarks share: ``--runs``, ``--quick``, ``--server``, ``--out``."""
    parser = ArgumentParser(prog=f"tests.benchmarks.{name}", description=description)
    parser.add_argument("--runs", type=int, default=0, help="counted runs (5; 3 with --quick)")
    parser.add_argument("--quick", action="store_true", help="small sizes: does it work at all?")
    parser.add_argument("--server", default=None, help="server binary (default: bundled Valkey)")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where the JSON goes")
    return parser


def parsed(parser: ArgumentParser, argv: Sequence[str] | None) -> Namespace:
    """What was asked for, the number of runs filled in."""
    chosen = parser.parse_args(argv)
    chosen.runs = chosen.runs or (3 if chosen.quick else 5)
    return chosen


def options(name: str, description: str | None, argv: Sequence[str] | None) -> Namespace:
    """What was asked for, of a benchmark without arguments of its own."""
    return parsed(parser_for(name, description), argv)


class Report:
    """Collects one benchmark's samples and tables, prints and keeps them.

    Args:
        name: the benchmark's.
        chosen: its command line.
        timed: whether figures depend on how busy the machine is, so that this has to be told.
    """

    def __init__(self, name: str, chosen: Namespace, *, timed: bool = True) -> None:
        self.name = name
        self._timed = timed
        self.meter = NoiseMeter()
        self.server = ""
        self.tables: list[Table] = []
        self.samples: dict[str, Samples] = {}
        self.details: dict[str, Any] = {}
        self._chosen = chosen

    def add(self, name: str, unit: str, value: float) -> None:
        """One run's value of one figure."""
        self.samples.setdefault(name, Samples(unit, [])).values.append(value)

    def values(self, name: str) -> list[float]:
        """All runs' values of one figure."""
        return self.samples[name].values

    def progress(self, text: str) -> None:
        """Say where we are, on standard error."""
        sys.stderr.write(f"{self.name}: {text}\n")
        sys.stderr.flush()

    def finish(self) -> Result:
        """Print the tables and the conditions, write the JSON."""
        result = Result(
            benchmark=self.name,
            at=datetime.now(UTC).isoformat(timespec="minutes"),
            commit=commit(),
            quick=self._chosen.quick,
            runs=self._chosen.runs,
            server=self.server,
            machine=describe(),
            libraries={name: version(name) for name in _LIBRARIES},
            noise=self.meter.noise() if self._timed else None,
            tables=self.tables,
            samples=self.samples,
            details=self.details,
        )
        self._chosen.out.mkdir(parents=True, exist_ok=True)
        path = self._chosen.out / f"{self.name}.json"
        path.write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=1))
        shown = [table.text() for table in self.tables]
        sys.stdout.write("\n\n".join([*shown, result.conditions(), f"-> {path}"]) + "\n")
        sys.stdout.flush()
        return result


def commit() -> str:
    """The commit that is checked out, with a mark if the worker's files differ from it."""
    try:
        head = _git("rev-parse", "--short", "HEAD").strip()
        changed = _git("status", "--porcelain", "--untracked-files=no", "worker").strip()
    except (OSError, subprocess.CalledProcessError):
        return "an unknown commit"
    return f"{head} with changes" if changed else head


def _git(*arguments: str) -> str:
    return subprocess.run(
        ["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
