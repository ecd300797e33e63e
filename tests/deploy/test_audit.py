"""What looks for known vulnerabilities in the locks."""

from pathlib import Path

from tests.audit.advisories import affected, pinned
from tests.deploy.tools import ROOT

_ADVISORIES = {
    "one": [
        {"id": "GHSA-1", "cve": "CVE-1", "advisory": "bad", "v": ">=1.0,<1.5"},
        {"id": "GHSA-2", "cve": "CVE-2", "advisory": "older", "v": "<1.2"},
    ],
    "two": [{"id": "GHSA-3", "cve": "N/A", "advisory": "unreadable", "v": "what?"}],
}


def test_a_version_in_a_range_is_found() -> None:
    """Another version is not; a range that cannot be read is for a person to look at."""
    found = list(affected({"one": "1.4", "two": "2", "three": "3"}, _ADVISORIES))
    assert found == [
        "one 1.4: GHSA-1 CVE-1: bad (>=1.0,<1.5)",
        "two 2: GHSA-3 N/A: unreadable (what?)",
    ]
    assert list(affected({"one": "1.5"}, _ADVISORIES)) == []


def test_every_requirement_of_a_lock_is_looked_at(tmp_path: Path) -> None:
    """By the name that advisories use."""
    lock = tmp_path / "lock"
    lock.write_text("A_b.c==1.0 ; sys_platform == 'x' \\\n    --hash=sha256:00\nd==2\n")
    assert pinned(lock) == {"a-b-c": "1.0", "d": "2"}
    assert {"aiohttp", "ccxt", "redis"} <= pinned(ROOT / "requirements-runtime.lock").keys()
