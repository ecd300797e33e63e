"""The failure table of ARCHITECTURE.md against the tests it names."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def test_every_test_the_failure_table_names_exists() -> None:
    """A row cannot claim a test that is not there."""
    named = NAMED.findall((ROOT / "ARCHITECTURE.md").read_text())
    assert len(named) >= 25
    missing = [
        f"{path}::{name}"
        for path, name in named
        if not re.search(rf"^(async )?def {name}\(", (ROOT / path).read_text(), re.MULTILINE)
    ]
    assert missing == []


def test_every_row_of_the_failure_table_names_a_test() -> None:
    """Nothing that can break is only talked about."""
    table = (ROOT / "ARCHITECTURE.md").read_text().partition("## What can break")[2]
    rows = [line for line in table.splitlines() if line.startswith("| ")][1:]
    assert [row for row in rows if not NAMED.search(row)] == []
