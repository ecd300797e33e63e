"""Loggers, and the ids of the signal that the current task works on.

Import ``get_logger`` from here rather than from structlog (``worker.runtime.structlog_alone`` says
why). Set-up is in ``worker.observe.logs``.
"""

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Final, cast

from worker.runtime.structlog_alone import FilteringBoundLogger, structlog

__all__ = [
    "LogSignal",
    "PlainFields",
    "bind_ids",
    "bound_ids",
    "get_logger",
    "log_signal",
    "structlog",
]

#: Fields that JSON has a form for, none of them named ``ts``, ``level`` or ``event``.
PlainFields = dict[str, str | float | None]
#: Logs an event of level info, its name an identifier, and its fields; the dict is the callee's
#: from then on.
LogSignal = Callable[[str, PlainFields], None]

_NONE: Final[dict[str, Any]] = {}
_ids: ContextVar[dict[str, Any]] = ContextVar("log_ids", default=_NONE)


def get_logger() -> FilteringBoundLogger:
    """Return a logger; cheap, usable at module level, configured when first used."""
    return cast("FilteringBoundLogger", structlog.get_logger())


def log_signal(event: str, fields: PlainFields) -> None:
    """Log one event; ``configure_logging`` returns a faster function for the per-signal line."""
    get_logger().info(event, **fields)


def bind_ids(**ids: Any) -> None:
    """Put ``ids`` on every line logged from here on, in place of those bound before.

    Holds in this task and in tasks that it starts later; without arguments no id is bound.
    """
    if ids or _ids.get():  # in a new task mostly none are bound, and a look is cheap
        _ids.set(ids)


def bound_ids() -> dict[str, Any]:
    """Return the ids bound in this context; not to be changed."""
    return _ids.get()
