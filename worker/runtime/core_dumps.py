"""Keeps this process's memory, and the secrets in it, out of files and other processes."""

import ctypes
import resource
import sys
from typing import Final

_PR_SET_DUMPABLE: Final = 4


def forbid_core_dumps() -> str:
    """Have the kernel write no core dump of this process, and let no user's debugger attach.

    A core dump is a copy of all memory: API keys, passwords, signing keys. It is written under the
    machine's rules (``core_pattern``), read by whoever may read those files, and kept for years.
    The limit alone does not hold where the pattern is a pipe to a program, as with systemd-coredump
    or in containers, where the host's pattern counts: that asks for the *dumpable* flag (core(5),
    prctl(2)), which also keeps processes of the same user from reading ``/proc/<pid>/mem``.

    Returns:
        Why it is not so; empty if it is.
    """
    try:
        if resource.getrlimit(resource.RLIMIT_CORE) != (0, 0):
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if sys.platform == "linux" and ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0):
            return "the kernel refused PR_SET_DUMPABLE"
    except (OSError, ValueError, AttributeError, MemoryError) as error:
        return str(error) or type(error).__name__
    return ""
