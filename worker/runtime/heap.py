"""Keeps the memory of one batch for the next, where the C library would give it back each time."""

import ctypes
from typing import Final

#: glibc's names in malloc.h, and what they are set to: bytes free at the heap's end that stay ours,
#: and the size from which a block is mapped for itself.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
KEPT_BYTES: Final = 8 << 20
MAPPED_FROM_BYTES: Final = 4 << 20


def keep_heap() -> None:
    """Tell glibc's malloc so, where there is one to tell.

    A batch of commits is one command of some 100 KB. With the default limits of 128 KiB its memory
    goes back to the kernel when it has been sent and is faulted in again for the next, which costs
    more than filling it (``mallopt(3)``).
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES)
    mallopt(_M_MMAP_THRESHOLD, MAPPED_FROM_BYTES)
