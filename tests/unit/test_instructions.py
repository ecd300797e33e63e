"""How counts of instructions are scaled and judged."""

import shutil

import pytest

from tests.benchmarks.instructions import baseline
from tests.benchmarks.instructions.__main__ import MISSING, main
from tests.benchmarks.instructions.baseline import LIMITS, TOLERANCE, Baseline, Figure
from tests.benchmarks.instructions.measure import Run

_BASELINE = Baseline(
    commit="abc1234",
    python="CPython",
    server="Valkey",
    valgrind="valgrind",
    references={"worker": 1_000, "server": 2_000},
    batched={"worker": 650_000, "server": 300_000},
    lone={"worker": 900_000, "server": 800_000},
)


def _figures(*, batched: float = 1.0, lone: float = 1.0, python: float = 1.0) -> dict[str, Figure]:
    """Figures of a run that costs so many times its limit, on a Python that costs so much more."""
    run = Run(
        server="Valkey",
        references={"worker": 1_000 * python, "server": 2_000},
        batched={name: [limit * batched * _of(name, python)] * 3 for name, limit in LIMITS.items()},
        lone={
            name: [count * lone * _of(name, python)] * 3 for name, count in _BASELINE.lone.items()
        },
        commands=(5, 4),
        left_out=0,
    )
    return {figure.name: figure for figure in baseline.figures(run, _BASELINE)}


def _of(name: str, python: float) -> float:
    return python if name == "worker" else 1.0


@pytest.mark.parametrize("python", [0.5, 1.0, 1.7])
def test_another_build_of_python_does_not_change_the_verdict(python: float) -> None:
    """The reference job costs more by as much as the worker does: the scaled figure is the same."""
    found = _figures(python=python)
    assert found["worker, batched"].scaled == pytest.approx(LIMITS["worker"])
    assert all(figure.scaled <= figure.limit * (1 + 1e-9) for figure in found.values())
    assert not _figures(python=python, batched=1.01)["worker, batched"].is_kept


def test_every_figure_has_its_own_limit() -> None:
    """Batched ones fixed limits; a lone signal what it cost before, and what runs differ by."""
    assert {name for name, one in _figures(batched=1.001).items() if not one.is_kept} == {
        "worker, batched",
        "server, batched",
    }
    assert all(one.is_kept for one in _figures(batched=0.9, lone=1 + TOLERANCE / 2).values())
    assert {
        name for name, one in _figures(batched=0.9, lone=1 + 2 * TOLERANCE).items()
        if not one.is_kept
    } == {"worker, lone signal", "server, lone signal"}  # fmt: skip


def test_without_valgrind_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One sentence, exit 1, nothing measured and nothing installed."""
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    assert main([]) == 1
    said = capsys.readouterr()
    assert said.err == f"{MISSING}\n"
    assert "apt-get install valgrind" in said.err
    assert not said.out


def test_the_committed_baseline_is_whole() -> None:
    """It has a count for the worker and for the server, of each kind."""
    committed = baseline.load()
    for counts in (committed.references, committed.batched, committed.lone):
        assert counts.keys() == LIMITS.keys()
        assert all(count > 0 for count in counts.values())
