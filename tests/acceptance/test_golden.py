"""The recorded day is played again, and all that the outside world sees of it is as it was.

See ``golden/README.md``.
"""

import difflib
import json
from pathlib import Path
from typing import Any, Final

import pytest

from tests.acceptance.golden_day import DIRECTORY, play, written
from tests.acceptance.golden_desk import OUTPUT_STREAMS

#: What the contract lists and the worker can emit today; each must happen in the day.
EMITTED: Final = frozenset(
    {
        "OrderPlaced",
        "OrderPartiallyFilled",
        "OrderFilled",
        "OrderCancelled",
        "OrderFailed",
        "SignalCompleted",
        "PositionOpened",
        "PositionChanged",
        "PositionClosed",
        "SystemError",
        "TradingStateChanged",
        "OperatorAction",
        "ReconciliationCompleted",
    }
)
#: The payloads that ``schema`` lists beside the events: the signal and the dead letter.
NO_EVENTS: Final = frozenset({"TradingSignalGenerated", "DeadLetter"})


@pytest.mark.slow
def test_the_day_is_as_it_was_recorded(tmp_path: Path) -> None:
    """Every golden file is made again, byte for byte; a difference is shown as a unified diff."""
    recorded = {file.stem: file.read_text(encoding="utf-8") for file in DIRECTORY.glob("*.json")}
    made = {name: written(content) for name, content in play(tmp_path).items()}
    differences = [
        _difference(name, recorded.get(name, ""), made.get(name, ""))
        for name in sorted(recorded.keys() | made.keys())
        if recorded.get(name) != made.get(name)
    ]
    if differences:
        pytest.fail("\n".join(differences), pytrace=False)


def test_every_event_the_worker_can_emit_is_recorded() -> None:
    """The day has each type of the contract that exists, and ``schema`` knows of no other one.

    It looks at the files alone: that they are what happens now, the other test shows.
    """
    happened = {
        entry["type"]
        for stream in OUTPUT_STREAMS
        for file in DIRECTORY.glob(f"*-stream-{stream}.json")
        for entry in _read(file)
    }
    assert happened == EMITTED
    schema = _read(DIRECTORY / "main-command-schema.json")["schema"]["stdout"]
    assert set(schema["components"]["messages"]) - NO_EVENTS == EMITTED


def _read(file: Path) -> Any:
    return json.loads(file.read_text(encoding="utf-8"))


def _difference(name: str, recorded: str, made: str) -> str:
    path = Path("tests/acceptance/golden") / f"{name}.json"
    lines = difflib.unified_diff(
        recorded.splitlines(keepends=True),
        made.splitlines(keepends=True),
        f"{path} (recorded)",
        f"{path} (now)",
    )
    return "".join(lines)
