"""Errors of the ledger, one class for each thing a caller can do next."""

import asyncio
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import redis.exceptions as foreign

from worker.ledger.redis_users import users_for
from worker.ledger.wire import ReplyTooLargeError
from worker.runtime.errors import WorkerError


class LedgerError(WorkerError):
    """The root of the ledger's errors; ``kind`` is one of a few words, for metrics."""

    kind = "refused"


class LedgerUnavailableError(LedgerError):
    """Redis cannot serve now; a script may be called again with the same arguments.

    ``moved`` says that the primary must be looked for again, ``may_have_run`` that the command may
    have reached it: its answer is what was lost.
    """

    def __init__(
        self, message: str, *, kind: str, moved: bool = False, may_have_run: bool = False
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.moved = moved
        self.may_have_run = may_have_run


class LedgerRefusedError(LedgerError):
    """Redis refuses until somebody changes its configuration or ours: a password, a permission."""


class NotPermittedError(LedgerRefusedError):
    """The Redis user may not do this; the message says which users may."""


class ScriptsMissingError(LedgerRefusedError):
    """Redis does not have the ledger's scripts, and the Redis user may not load them."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"Redis does not have the script {name} (it forgets scripts when it restarts), and "
            f"this Redis user may not load it: start a worker, which loads all of them, then try "
            f"again"
        )


class GroupMissingError(LedgerError):
    """The stream or its consumer group is gone: create it before the next claim."""

    kind = "group"


#: Errors that pass by themselves: a part of their text, their kind, and whether to look for the
#: primary again.
_TRANSIENT = (
    ("LOADING", "loading", False),
    ("BUSY", "busy", False),
    ("OOM", "oom", False),
    ("used memory > 'maxmemory'", "oom", False),  # the library cuts the code off
    ("MISCONF", "disk", False),
    ("NOREPLICAS", "replicas", False),
    ("READONLY", "readonly", True),
    ("MASTERDOWN", "readonly", True),
    ("UNBLOCKED", "moved", True),
    ("MOVED", "moved", True),
    ("ASK", "moved", True),
    ("TRYAGAIN", "moved", True),
    ("CLUSTERDOWN", "moved", True),
    ("non local key", "moved", True),
    ("max number of clients", "clients", False),
)
_REFUSED = ("NOAUTH", "WRONGPASS", "invalid username-password", "AUTH ")
#: Redis's words for a right that is missing: to a command (7.0 and later), to a key, in a script.
_DENIED: Final = re.compile(
    r"NOPERM|no permissions to (run|access)|can't (run this command|access)|ACL failure in script"
)
_COMMAND: Final = re.compile(r"the '([^']+)' command")
#: What XADD says of a stream that has had the largest id.
EXHAUSTED: Final = "exhausted the last possible ID"
_GROUP = ("NOGROUP", "no longer exists", "no such key")


def translate(error: Exception) -> LedgerError:
    """Return the ledger's error for one of the Redis library or of a socket."""
    text = str(error)
    if isinstance(error, foreign.NoPermissionError) or _DENIED.search(text):
        return NotPermittedError(_denial(text))
    if isinstance(error, foreign.AuthenticationError) or any(mark in text for mark in _REFUSED):
        return LedgerRefusedError(f"Redis refuses this worker: {text}")
    if isinstance(error, foreign.ResponseError | foreign.ReadOnlyError):
        for mark, kind, moved in _TRANSIENT:
            if mark in text or mark in type(error).__name__.upper():
                return LedgerUnavailableError(f"Redis: {text}", kind=kind, moved=moved)
        if any(mark in text.lower() for mark in map(str.lower, _GROUP)):
            return GroupMissingError(text)
        if EXHAUSTED in text:
            text += "; a stream was given the largest id: execution-worker mend-stream"
        return LedgerError(f"Redis answered with an error: {text}")
    if isinstance(error, foreign.BusyLoadingError):
        return LedgerUnavailableError(f"Redis: {text}", kind="loading")
    if isinstance(error, foreign.TimeoutError | TimeoutError | asyncio.TimeoutError):
        return LedgerUnavailableError(
            "Redis did not answer in time", kind="timeout", moved=True, may_have_run=True
        )
    if isinstance(error, ReplyTooLargeError):
        return LedgerUnavailableError(f"Redis: {text}", kind="connection", may_have_run=True)
    reason = text or type(error).__name__
    return LedgerUnavailableError(
        f"Redis cannot be reached: {reason}",
        kind="connection",
        moved=True,
        # The library's words where it could not open a connection, before anything is sent.
        may_have_run="connecting to" not in text,
    )


def _denial(text: str) -> str:
    """Return a sentence about a missing right, with the Redis users that have it."""
    words = text if "NOPERM" in text else f"NOPERM {text}"
    command = _COMMAND.search(text)
    if command is None:
        return (
            f"Redis refuses this Redis user (redis.username): {words}; each user reaches the keys "
            "of one account, those of its job"
        )
    users = users_for(command[1])
    return (
        f"Redis refuses {command[1].upper()} to this Redis user (redis.username): {words}; "
        f"it takes the user {users}"
    )


@contextmanager
def map_exceptions() -> Iterator[None]:
    """Translate the errors of the Redis library and of sockets.

    Raises:
        LedgerError: in place of any of them.
    """
    try:
        yield
    except LedgerError:
        raise
    except (foreign.RedisError, OSError, TimeoutError) as error:
        raise translate(error) from error
    except (AttributeError, RuntimeError) as error:
        if not _is_closed_beneath(error):
            raise
        raise translate(error) from error


def _is_closed_beneath(error: Exception) -> bool:
    """Return whether a connection was closed while a call was using it.

    The Redis library then fails on a stream that is None, uvloop on a closed handle.
    """
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = trace.tb_frame.f_globals.get("__name__", "") if trace is not None else ""
    return where.startswith("redis.") or "handler is closed" in str(error)
