"""The exit codes of every command."""

from typing import Final

OK: Final = 0
FAILURE: Final = 1
USAGE: Final = 2
BROKEN_INVARIANT: Final = 70
#: Redis did not answer: what was asked for may or may not have happened.
NOT_KNOWN: Final = 75
BAD_CONFIG: Final = 78
