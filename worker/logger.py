"""Where modules log to: one logger for the whole process, and the ids of one signal.

Where its lines go is set in ``worker.observe.logs``. Import structlog from here only: it imports
rich when that is installed, which takes a quarter of a second and 7 MB that only the status screens
need, and whoever imports structlog first decides.
"""

import sys
from collections.abc import Callable
from contextvars import ContextVar, Token
from typing import Any, Final

if "structlog" not in sys.modules and "rich" not in sys.modules:
    # None makes "import rich" fail as if it were not installed (Python reference, 5.3.1).
    sys.modules["rich"] = None  # type: ignore[assignment]
    try:
        import structlog
    finally:
        del sys.modules["rich"]
else:
    import structlog

__all__ = ["Logger", "bind_ids", "bound_ids", "get_logger", "structlog", "unbind_ids"]

#: Takes a level's name, an event's name and its fields, a dict of the callee's own.
Write = Callable[[str, str, dict[str, Any]], None]

DEBUG: Final = 10
INFO: Final = 20
WARNING: Final = 30
ERROR: Final = 40
CRITICAL: Final = 50

_NONE: Final[dict[str, Any]] = {}
_ids: ContextVar[dict[str, Any]] = ContextVar("log_ids", default=_NONE)
_structlog: Final = structlog.get_logger()


def _to_structlog(level: str, event: str, fields: dict[str, Any]) -> None:
    """Before anything is set up: to standard output, or where a test captures it."""
    getattr(_structlog, level)(event, **fields)


class Logger:
    """Takes events, a stable snake_case name and fields each, at one of the usual levels.

    One of our own, as structlog's way from a call to a line took twice as long as making the line.
    """

    __slots__ = ("_least", "_write")

    def __init__(self) -> None:
        self.reset()

    def send_to(self, write: Write, least: int) -> None:
        """Have every event of level ``least`` and above written by ``write`` from here on."""
        self._write = write
        self._least = least

    def reset(self) -> None:
        """Undo ``send_to``."""
        self.send_to(_to_structlog, DEBUG)

    def debug(self, event: str, /, **fields: Any) -> None:
        """Something only a search for a fault asks for."""
        if self._least <= DEBUG:
            self._write("debug", event, fields)

    def info(self, event: str, /, **fields: Any) -> None:
        """The normal course of things."""
        if self._least <= INFO:
            self._write("info", event, fields)

    def info_fields(self, event: str, fields: dict[str, Any], /) -> None:
        """``info`` for fields that are a dict already; it is the logger's from here on."""
        if self._least <= INFO:
            self._write("info", event, fields)

    def warning(self, event: str, /, **fields: Any) -> None:
        """Something is wrong, and is being dealt with."""
        if self._least <= WARNING:
            self._write("warning", event, fields)

    def error(self, event: str, /, **fields: Any) -> None:
        """Something is wrong that somebody should look at."""
        if self._least <= ERROR:
            self._write("error", event, fields)

    def critical(self, event: str, /, **fields: Any) -> None:
        """The process cannot go on."""
        if self._least <= CRITICAL:
            self._write("critical", event, fields)

    def exception(self, event: str, /, **fields: Any) -> None:
        """An error, with the traceback of the exception in hand."""
        fields.setdefault("exc_info", True)
        self.error(event, **fields)


_LOGGER: Final = Logger()


def get_logger(name: str = "") -> Logger:
    """The process's logger; usable at module level, before anything is set up.

    Args:
        name: the module's ``__name__``; accepted for habit's sake, not logged.
    """
    return _LOGGER


def bind_ids(**ids: Any) -> Token[dict[str, Any]]:
    """Add ``ids`` to every line logged from here on in this task and those it starts.

    Called once per signal, at the top of its task; a task has its own context, so nothing has to
    be undone when it ends. Elsewhere, hand the token to ``unbind_ids``.
    """
    return _ids.set(_ids.get() | ids)


def unbind_ids(token: Token[dict[str, Any]]) -> None:
    """Undo one ``bind_ids`` in the same context."""
    _ids.reset(token)


def bound_ids() -> dict[str, Any]:
    """The ids bound in this context; not to be changed."""
    return _ids.get()
