"""What a command about an account needs: the account, who is asking, a loop to run on."""

import asyncio
import getpass
import os
import socket
from argparse import Namespace
from collections.abc import Coroutine
from typing import Any, TypeVar

from worker.cli.environment import configuration
from worker.ledger.reader import AccountReader

T = TypeVar("T")


def reader(options: Namespace) -> AccountReader:
    """The configured account.

    Raises:
        ConfigError: names the key that is wrong.
    """
    return AccountReader(configuration(options))


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run ``work`` to its end on a fresh event loop."""
    return asyncio.run(work)


def actor() -> str:
    """Who is asking, for the record: user and machine."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as containers have
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"
