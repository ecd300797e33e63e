"""A worker whose signals go through the stages one after another, and is the same else.

``python -m tests.benchmarks.apart run`` is ``python -m worker run`` with nobody in the crowd that a
signal would keep in step with (``worker.pipeline.chain``): what that is worth.
"""

import sys
from typing import Any

from worker.cli.main import main
from worker.pipeline.pipeline import ExecutionPipeline

_init = ExecutionPipeline.__init__


def _alone(self: ExecutionPipeline, **parts: Any) -> None:
    _init(self, **(parts | {"crowd": ()}))


if __name__ == "__main__":
    ExecutionPipeline.__init__ = _alone  # type: ignore[method-assign]
    sys.exit(main(sys.argv[1:]))
