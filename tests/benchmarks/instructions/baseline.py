"""What one signal cost at a committed state of the worker, and what it may cost now."""

import platform
from pathlib import Path
from statistics import median
from typing import Final, NamedTuple

import msgspec

from tests.benchmarks.instructions import callgrind
from tests.benchmarks.instructions.measure import Run

BASELINE: Final = Path(__file__).with_name("baseline.json")
#: Instructions a signal in batches, after scaling.
LIMITS: Final = {"worker": 600_000, "server": 325_000}
#: A lone signal may cost what it cost at the baseline; runs of the same code differ by so much.
TOLERANCE: Final = 0.02


class Baseline(msgspec.Struct, kw_only=True):
    """The committed counts, instructions.

    Attributes:
        commit: of which state of the worker.
        python: the build of Python.
        server: the server.
        valgrind: its version.
        references: of the reference jobs, ``worker`` (Python) and ``server``.
        batched: a signal in batches, by process.
        lone: a lone signal, by process.
    """

    commit: str
    python: str
    server: str
    valgrind: str
    references: dict[str, int]
    batched: dict[str, int]
    lone: dict[str, int]


class Figure(NamedTuple):
    """One figure and how it compares.

    Attributes:
        name: what was counted.
        values: as measured, one a repetition.
        scaled: the median, times the committed count of the reference job over this run's.
        baseline: what it was at the baseline.
        limit: what it may be.
    """

    name: str
    values: list[float]
    scaled: float
    baseline: int
    limit: float

    @property
    def is_kept(self) -> bool:
        """Whether the limit is kept."""
        return self.scaled <= self.limit


def load() -> Baseline:
    """Return the committed baseline."""
    return msgspec.json.decode(BASELINE.read_bytes(), type=Baseline)


def record(run: Run, commit: str) -> None:
    """Make a run the baseline.

    Args:
        run: of a worker whose files are those of ``commit``.
        commit: its short hash.
    """
    values = Baseline(
        commit=commit,
        python=python_build(),
        server=run.server,
        valgrind=callgrind.version(),
        references={name: round(value) for name, value in run.references.items()},
        batched=_medians(run.batched),
        lone=_medians(run.lone),
    )
    BASELINE.write_bytes(msgspec.json.format(msgspec.json.encode(values), indent=2) + b"\n")


def scales(run: Run, baseline: Baseline) -> dict[str, float]:
    """Return by how much this run's counts are multiplied, by process."""
    return {name: baseline.references[name] / run.references[name] for name in run.references}


def figures(run: Run, baseline: Baseline) -> list[Figure]:
    """Compare a run with the limits."""
    scale = scales(run, baseline)
    found = []
    for name, limit in LIMITS.items():
        values = run.batched[name]
        scaled = median(values) * scale[name]
        found.append(Figure(f"{name}, batched", values, scaled, baseline.batched[name], limit))
    for name, before in baseline.lone.items():
        values = run.lone[name]
        scaled = median(values) * scale[name]
        found.append(
            Figure(f"{name}, lone signal", values, scaled, before, before * (1 + TOLERANCE))
        )
    return found


def python_build() -> str:
    """Return Python's version and compiler."""
    name = f"{platform.python_implementation()} {platform.python_version()}"
    return f"{name}, {platform.python_compiler()}"


def _medians(counts: dict[str, list[float]]) -> dict[str, int]:
    return {name: round(median(values)) for name, values in counts.items()}
