"""Asking before something is changed that costs money."""

import sys
from argparse import ArgumentParser, Namespace

from worker.cli import output
from worker.operator.reader import AccountReader


def add_arguments(parser: ArgumentParser) -> None:
    """Add ``--yes`` and ``--dry-run``."""
    parser.add_argument(
        "--yes", action="store_true", help="do not ask on a terminal in live mode, for scripts"
    )
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, do nothing")


async def is_confirmed(reader: AccountReader, options: Namespace, what: str) -> bool:
    """Return whether to go on: in live mode a person at a terminal types the account's name.

    Args:
        reader: the account, asked for its mode where a person is there to be asked.
        options: has ``yes``.
        what: what is going to be done, a sentence.

    Raises:
        LedgerError: Redis cannot be asked.
    """
    if options.yes or not sys.stdin.isatty() or await reader.mode() == "paper":
        return True
    account = reader.access.account
    output.ask(f"{what}. This account is LIVE.", f"Type its name, {account}, to go on: ")
    if sys.stdin.readline().strip() == account:
        return True
    output.complain("nothing was done")
    return False
