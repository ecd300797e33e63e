"""The failure table of docs/failures.md against the tests it names."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
TABLE = ROOT / "docs" / "failures.md"
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
HEADER = "| what breaks | what happens | shown by |"


def rows() -> list[str]:
    """The table's rows, of every section, without the headers."""
    lines = TABLE.read_text().splitlines()
    return [line for line in lines if line.startswith("| ") and line != HEADER]


def test_every_test_the_failure_table_names_exists() -> None:
    """A row cannot claim a test that is not there."""
    named = NAMED.findall(TABLE.read_text())
    assert len(named) >= 40
    missing = [
        f"{path}::{name}"
        for path, name in named
        if not re.search(rf"^(async )?def {name}\(", (ROOT / path).read_text(), re.MULTILINE)
    ]
    assert missing == []


def test_every_row_of_the_failure_table_names_a_test() -> None:
    """Nothing that can break is only talked about."""
    assert len(rows()) >= 40
    assert [row for row in rows() if not NAMED.search(row)] == []
