"""The account a command is about, the operator's name, and the event loop it runs on."""

import asyncio
import getpass
import os
import signal
import socket
import stat
import sys
import threading
from argparse import Namespace
from collections.abc import Coroutine
from typing import Any, TypeVar

from worker.cli.environment import configuration
from worker.operator.reader import AccountReader
from worker.runtime.cancellation import cancel_all

T = TypeVar("T")


def reader(options: Namespace) -> AccountReader:
    """Open the configured account.

    Raises:
        ConfigError: names the key that is wrong.
    """
    return AccountReader(configuration(options))


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run ``work`` to its end on a fresh event loop.

    Raises:
        KeyboardInterrupt: Ctrl-C, SIGTERM or SIGHUP (unless ignored) ended it before.
    """
    try:
        return asyncio.run(_interruptible(work))
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None


def run_until_interrupted(work: Coroutine[Any, Any, int]) -> int:
    """Run ``work`` until it ends or Ctrl-C interrupts it, which counts as success.

    Raises:
        BrokenPipeError: whoever read the output is gone, noticed also while nothing is written.
    """
    try:
        return run(_while_read(work))
    except KeyboardInterrupt:
        return 0


async def _while_read(work: Coroutine[Any, Any, T]) -> T:
    """Run ``work`` as long as somebody reads standard output."""
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_reader_gone())
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise BrokenPipeError
        return task.result()
    finally:
        await cancel_all({task, gone})


async def _reader_gone() -> None:
    """Return once the other end of standard output is closed; only a pipe has one."""
    gone, file = asyncio.Event(), sys.stdout.fileno()
    if stat.S_ISFIFO(os.fstat(file).st_mode):
        # Nothing can be read from this end: what makes it readable is that the other is closed.
        asyncio.get_running_loop().add_reader(file, gone.set)
    await gone.wait()


async def _interruptible(work: Coroutine[Any, Any, T]) -> T:
    """Run ``work``, cancelled on a signal that ends programs and awaited to its end."""
    task = asyncio.ensure_future(work)
    interrupted = asyncio.Event()
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if number is signal.SIGINT or signal.getsignal(number) is not signal.SIG_IGN:  # nohup
                asyncio.get_running_loop().add_signal_handler(number, interrupted.set)
    interrupt = asyncio.ensure_future(interrupted.wait())
    await asyncio.wait({task, interrupt}, return_when=asyncio.FIRST_COMPLETED)
    await cancel_all({task, interrupt})
    return task.result()


def actor() -> str:
    """Return ``user@host``, the actor named in events."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as containers have
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"
