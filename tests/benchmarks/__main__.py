"""All benchmarks, or the named ones: ``python -m tests.benchmarks [NAME...] [--quick] [--runs N]``.

Each prints its tables and leaves ``.benchmarks/<name>.json``; none asserts a time.
"""

import importlib
import sys
from typing import Final

NAMES: Final = ("throughput", "latency", "growth", "start", "memory", "stages", "calls")


def main(argv: list[str]) -> None:
    """Run what is named, everything by default."""
    wanted = [word for word in argv if word in NAMES] or list(NAMES)
    rest = [word for word in argv if word not in NAMES]
    for name in wanted:
        importlib.import_module(f"tests.benchmarks.{name}").main(rest)


if __name__ == "__main__":
    main(sys.argv[1:])
