"""``tail``: print the account's streams as they grow."""

import argparse
import asyncio
import re
import sys
from argparse import ArgumentParser, Namespace
from typing import Final

from worker.cli import output, session, wording
from worker.ledger.access import OUTPUT_STREAMS, STREAMS
from worker.ledger.errors import LedgerUnavailableError
from worker.operator.reader import AccountReader
from worker.runtime.clock import utc

#: Pause before reading again while Redis is unavailable, seconds.
RETRY_S: Final = 1.0
_FROM: Final = re.compile(r"\$|\d{1,20}(-\d{1,20})?")


def configure(parser: ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.description = (
        "Follow the account's streams until interrupted: a line an entry, in the order they were "
        "written. When Redis goes away it is asked again until it is back."
    )
    parser.add_argument(
        "streams",
        metavar="STREAM",
        nargs="*",
        type=_stream,
        help=f"{', '.join(STREAMS)}; by default {', '.join(OUTPUT_STREAMS)}",
    )
    parser.add_argument(
        "--from",
        dest="from_id",
        metavar="ID",
        default="$",
        type=_from_id,
        help="start after this entry id: 0 for the beginning, $ (default) for what is new",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a line")


def _stream(name: str) -> str:
    if name not in STREAMS:
        raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(STREAMS)}")
    return name


def _from_id(text: str) -> str:
    if not _FROM.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is neither an entry id nor 0 nor $")
    return text


def run(options: Namespace) -> int:
    """Follow until interrupted."""
    return session.run_until_interrupted(_tail(session.reader(options), options))


async def _tail(reader: AccountReader, options: Namespace) -> int:
    names = tuple(dict.fromkeys(options.streams)) or OUTPUT_STREAMS
    async with reader:
        tail = reader.tail(names, options.from_id)
        await tail.start()
        while True:
            try:
                entries = await tail.read()
            except LedgerUnavailableError as error:
                output.complain(f"{error}; trying again")
                await asyncio.sleep(RETRY_S)
                continue
            for entry in entries:
                if options.json:
                    output.say_json(wording.as_json(entry))
                else:
                    output.say(wording.one_line(entry, utc(entry.order[0])))
            sys.stdout.flush()
