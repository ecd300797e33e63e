"""How the garbage collector of a worker is set; in a process of its own, for it stays so."""

import subprocess
import sys

PROGRAM = """
import gc
from worker.runtime.garbage_collector import GC_ALLOCATIONS, calm_garbage_collector
cycle = []
cycle.append(cycle)
del cycle
calm_garbage_collector()
frozen = gc.get_freeze_count()
assert frozen > 1_000, frozen
assert gc.get_threshold()[0] == GC_ALLOCATIONS
assert len(gc.get_objects()) < 100
"""


def test_what_is_there_is_never_looked_through_again() -> None:
    """Garbage is collected first, so that it is not kept for ever."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False, timeout=30
    )
    assert done.returncode == 0, done.stderr
