"""Writes what was measured last into ``docs/performance.md``: ``make bench-docs``.

Each benchmark's tables go between ``<!-- bench:NAME -->`` and ``<!-- /bench:NAME -->``, with the
conditions they were measured under. What has not been measured here is left as it stands.
"""

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from tests.benchmarks.processes import ROOT
from tests.benchmarks.report import RESULTS, Result

PAGE: Final = ROOT / "docs" / "performance.md"
_BLOCK: Final = re.compile(r"(<!-- bench:([a-z_]+) -->\n).*?(<!-- /bench:\2 -->)", re.DOTALL)


def block(result: Result) -> str:
    """One benchmark's part of the page."""
    busy = ""
    if result.noise and result.noise.busy:
        busy = "*Measured on a busy machine: the order of magnitude holds, not more.*\n\n"
    tables = "\n\n".join(table.markdown() for table in result.tables)
    return f"{busy}{tables}\n\nMeasured: {result.conditions()}\n"


def filled(page: str, results: Path) -> tuple[str, list[str]]:
    """The page with its blocks renewed, and the names of those that were."""
    renewed = []

    def renew(found: re.Match[str]) -> str:
        path = results / f"{found[2]}.json"
        if not path.exists():
            return found[0]
        renewed.append(found[2])
        return f"{found[1]}{block(msgspec.json.decode(path.read_bytes(), type=Result))}{found[3]}"

    return _BLOCK.sub(renew, page), renewed


def main(argv: Sequence[str] | None = None) -> None:
    """Renew the page, from another directory of results if one is named."""
    arguments = sys.argv[1:] if argv is None else argv
    results = Path(arguments[0]) if arguments else RESULTS
    page, renewed = filled(PAGE.read_text(), results)
    PAGE.write_text(page)
    sys.stdout.write(f"{PAGE.relative_to(ROOT)}: {', '.join(renewed) or 'nothing new'}\n")


if __name__ == "__main__":
    main()
