"""The demo's display: a live table on a terminal, a line an event anywhere else."""

import sys
from collections import deque
from typing import Any, Final, Self

from worker.cli import output, wording
from worker.cli.status import banner
from worker.ledger.access import StreamEntry
from worker.operator.status import Status
from worker.runtime.clock import utc
from worker.runtime.printable import printable

LAST_EVENTS: Final = 20
#: The lines of the live screen beside the last events.
_OTHER_LINES: Final = 12


class Screen:
    """Shows events and status; use as a context manager."""

    def __init__(self) -> None:
        self._live: Any = None
        self._last: deque[str] = deque(maxlen=LAST_EVENTS)
        self._counts: dict[str, int] = {}

    def __enter__(self) -> Self:
        if sys.stdout.isatty():
            from rich.live import Live  # noqa: PLC0415 (drawing only)

            self._live = Live(console=output.screen(), auto_refresh=False, transient=True)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def events(self, entries: list[StreamEntry]) -> None:
        """Show new events."""
        for entry in entries:
            line = wording.one_line(entry, utc(entry.order[0]))
            kind = "DeadLetter" if entry.stream == "dead" else entry.text("type")
            self._counts[kind] = self._counts.get(kind, 0) + 1
            self._last.append(line)
            if self._live is None:
                output.say(line)
        sys.stdout.flush()

    def status(self, status: Status) -> None:
        """Show the account's status; on a terminal only."""
        if self._live is None:
            return
        from rich.console import Group  # noqa: PLC0415 (drawing only)
        from rich.text import Text  # noqa: PLC0415

        flow = (
            f"not seen yet {status.lag}   in hand {status.in_flight}   waiting {status.waiting}   "
            f"open positions {status.open_positions}   dead letters {status.dead_letters}"
        )
        counts = "   ".join(
            f"{printable(name)} {count}" for name, count in sorted(self._counts.items())
        )
        room = max(self._live.console.height - _OTHER_LINES, 1)
        last = Text("\n".join(list(self._last)[-room:]), no_wrap=True, overflow="ellipsis")
        parts = (banner(status), Text(flow, style="bold"), Text(f"{counts}\n"), last)
        self._live.update(Group(*parts), refresh=True)
