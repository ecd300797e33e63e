"""Settings of Python's cyclic garbage collector for a long-running process."""

import gc
from typing import Final

#: Objects made and kept before the youngest are looked through for cycles.
GC_ALLOCATIONS: Final = 20_000


def calm_garbage_collector() -> None:
    """Exempt what is here for good (code, markets) from every collection, and collect less often.

    A signal makes hundreds of objects and next to no cycles; the default looks for some after each
    700 that stay, and a full look with an exchange's markets loaded takes tens of milliseconds.
    """
    gc.collect()
    exempt_from_collection()
    gc.set_threshold(GC_ALLOCATIONS, 20, 50)


def exempt_from_collection() -> None:
    """Exempt every object that exists now from all later collections."""
    gc.freeze()
