"""What a command needs before it can start: configuration, an account to look at, who is asking."""

import asyncio
import getpass
import os
import socket
from argparse import Namespace
from collections.abc import Coroutine
from typing import Any, TypeVar

from worker.config import Config
from worker.config_file import load_config
from worker.ledger.reader import AccountReader

T = TypeVar("T")


def configuration(options: Namespace) -> Config:
    """The effective configuration.

    Raises:
        ConfigError: names the key that is wrong.
    """
    return load_config(options.config, os.environ)


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
