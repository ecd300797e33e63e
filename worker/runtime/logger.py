"""Where loggers come from: structlog without its optional heavy parts, and the ids of one signal.

Import ``get_logger`` from here rather than structlog itself. structlog imports rich when it is
installed, which takes a quarter of a second and 7 MB that only the status screens need; whoever
imports structlog first decides. Set-up is in ``worker.observe.logs``.
"""

import sys
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Final, cast

if "structlog" not in sys.modules and "rich" not in sys.modules:
    # None makes "import rich" fail as if it were not installed (Python reference, 5.3.1).
    sys.modules["rich"] = None  # type: ignore[assignment]
    try:
        import structlog
    finally:
        del sys.modules["rich"]
else:
    import structlog

from structlog.typing import FilteringBoundLogger

__all__ = ["Tell", "bind_ids", "bound_ids", "get_logger", "structlog", "tell"]

#: Logs an event of level info and its fields; the dict is the callee's from then on.
Tell = Callable[[str, dict[str, Any]], None]

_NONE: Final[dict[str, Any]] = {}
_ids: ContextVar[dict[str, Any]] = ContextVar("log_ids", default=_NONE)


def get_logger() -> FilteringBoundLogger:
    """A logger; cheap, usable at module level, configured when first used."""
    return cast("FilteringBoundLogger", structlog.get_logger())


def tell(event: str, fields: dict[str, Any]) -> None:
    """The way of every event; ``configure_logging`` gives a shorter one for a line a signal."""
    get_logger().info(event, **fields)


def bind_ids(**ids: Any) -> None:
    """Put ``ids``, and none that were bound before, on every line logged from here on.

    In this task, and in those it starts later; without ids nothing is put there.
    """
    _ids.set(ids)


def bound_ids() -> dict[str, Any]:
    """The ids bound in this context; not to be changed."""
    return _ids.get()
