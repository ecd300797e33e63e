"""What a command about an account needs: the account, who is asking, a loop to run on."""

import asyncio
import getpass
import os
import signal
import socket
import threading
from argparse import Namespace
from collections.abc import Coroutine
from typing import Any, TypeVar

from worker.cli.environment import configuration
from worker.operator.reader import AccountReader
from worker.runtime.cancellation import cancel_all

T = TypeVar("T")


def reader(options: Namespace) -> AccountReader:
    """The configured account.

    Raises:
        ConfigError: names the key that is wrong.
    """
    return AccountReader(configuration(options))


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run ``work`` to its end on a fresh event loop.

    Raises:
        KeyboardInterrupt: Ctrl-C ended it before.
    """
    try:
        return asyncio.run(_interruptible(work))
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None


def run_until_interrupted(work: Coroutine[Any, Any, int]) -> int:
    """Run work that a person ends with Ctrl-C: that is success."""
    try:
        return run(work)
    except KeyboardInterrupt:
        return 0


async def _interruptible(work: Coroutine[Any, Any, T]) -> T:
    """Cancel ``work`` on Ctrl-C and let it end."""
    task = asyncio.ensure_future(work)
    interrupted = asyncio.Event()
    if threading.current_thread() is threading.main_thread():
        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, interrupted.set)
    interrupt = asyncio.ensure_future(interrupted.wait())
    await asyncio.wait({task, interrupt}, return_when=asyncio.FIRST_COMPLETED)
    await cancel_all({task, interrupt})
    return task.result()


def actor() -> str:
    """Who is asking, for the record: user and machine."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as containers have
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"
