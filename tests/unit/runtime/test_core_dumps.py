"""No core dump of a process that asked for none."""

import subprocess
import sys

import pytest

_PROGRAM = """
import ctypes, resource
from worker.runtime.core_dumps import forbid_core_dumps
libc, PR_GET_DUMPABLE = ctypes.CDLL(None), 3
before = libc.prctl(PR_GET_DUMPABLE, 0, 0, 0, 0)
said = [forbid_core_dumps(), forbid_core_dumps()]
after = libc.prctl(PR_GET_DUMPABLE, 0, 0, 0, 0)
print(before, said, resource.getrlimit(resource.RLIMIT_CORE), after)
import prometheus_client
print(b"process_open_fds" in prometheus_client.generate_latest())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the flag is Linux's")
def test_a_process_is_not_dumpable_once_it_asked() -> None:
    """Neither by its limit nor by the kernel's flag; its own metrics are still read."""
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.splitlines() == ["1 ['', ''] (0, 0) 0", "True"], done.stderr
