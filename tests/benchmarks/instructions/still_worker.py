"""A worker in which nothing happens by the clock, and which is the same otherwise.

``python -m tests.benchmarks.instructions.still_worker run`` is ``python -m worker run`` on an event
loop whose timers come an hour late. Heartbeats, the keeper and the monitor of the event loop take
their first turn and no other, and no call counts as overdue, so that the instructions of a batch do
not depend on how long it takes under callgrind.
"""

import sys
from typing import Any, Final

import uvloop

from worker.cli.main import main

_LATE_S: Final = 3_600.0


class _StillLoop(uvloop.Loop):  # type: ignore[misc]  # uvloop's types are not known
    def call_later(self, delay: float, callback: Any, *args: Any, context: Any = None) -> Any:
        return super().call_later(delay + _LATE_S, callback, *args, context=context)

    def call_at(self, when: float, callback: Any, *args: Any, context: Any = None) -> Any:
        return super().call_at(when + _LATE_S, callback, *args, context=context)


if __name__ == "__main__":
    uvloop.new_event_loop = _StillLoop
    sys.exit(main(sys.argv[1:]))
