"""``tail``: print the account's streams: what they hold, and what comes."""

import argparse
import asyncio
import re
import sys
from argparse import ArgumentParser, Namespace
from typing import Final

from worker.cli import arguments, lines, output, session, wording
from worker.cli.heading import heading
from worker.domain.event import STREAM_OF
from worker.domain.nearest import hint
from worker.ledger.access import DEAD_STREAM, INPUT_STREAM, OUTPUT_STREAMS, STREAMS, StreamEntry
from worker.ledger.errors import LedgerUnavailableError
from worker.ledger.streams import Tail
from worker.operator import excerpt
from worker.operator.reader import AccountReader
from worker.runtime.clock import utc

#: Pause before reading again while Redis is unavailable, seconds.
RETRY_S: Final = 1.0
#: What ``--no-follow`` prints where nothing says where to begin.
LAST: Final = 10
#: Where the lines go on that are too long for the screen: under the type, behind the time.
INDENT: Final = 14
_FROM: Final = re.compile(r"\$|\d{1,20}(-\d{1,20})?")
#: The types of entries, and the stream that has them.
TYPES: Final = {
    **{event.__name__: stream for event, stream in STREAM_OF.items()},
    "Signal": INPUT_STREAM,
    "DeadLetter": DEAD_STREAM,
}


def configure(parser: ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.description = (
        "Follow the account's streams until interrupted: a line an entry, in the order they were "
        "written. When Redis goes away it is asked again until it is back. Filters may be "
        "repeated; an entry is shown if it fits one of each kind."
    )
    parser.add_argument(
        "streams",
        metavar="STREAM",
        nargs="*",
        type=_stream,
        help=f"{', '.join(STREAMS)}; by default {', '.join(OUTPUT_STREAMS)}, or those that have "
        "what --type asks for",
    )
    begin = parser.add_mutually_exclusive_group()
    begin.add_argument(
        "--from",
        dest="from_id",
        metavar="ID",
        type=_from_id,
        help="start after this entry id: 0 for the beginning, $ (default) for what is new",
    )
    begin.add_argument(
        "--since", metavar="10m", type=arguments.duration, help="start so long ago (s, m, h, d)"
    )
    parser.add_argument(
        "-n", dest="count", metavar="N", type=arguments.count, help="start with the newest N"
    )
    parser.add_argument(
        "--type", metavar="T", action="append", type=_type, default=[], help=", ".join(TYPES)
    )
    parser.add_argument("--symbol", metavar="S", action="append", type=arguments.name, default=[])
    parser.add_argument("--signal", metavar="ID", action="append", type=arguments.name, default=[])
    parser.add_argument(
        "--no-follow",
        action="store_true",
        help=f"end after what there is now (the newest {LAST} if nothing says where to begin)",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a line")


def _stream(name: str) -> str:
    if name not in STREAMS:
        problem = f"{name!r} is none of {', '.join(STREAMS)}{hint(name, STREAMS)}"
        raise argparse.ArgumentTypeError(problem)
    return name


def _from_id(text: str) -> str:
    if not _FROM.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is neither an entry id nor 0 nor $")
    return text


def _type(name: str) -> str:
    known = {one.lower(): one for one in TYPES}
    if name.lower() not in known:
        problem = f"no entry is of type {name!r}{hint(name, TYPES)}"
        raise argparse.ArgumentTypeError(problem)
    return known[name.lower()]


def run(options: Namespace) -> int:
    """Print and follow until interrupted, or until nobody reads."""
    return session.run_until_interrupted(_tail(session.reader(options), options))


async def _tail(reader: AccountReader, options: Namespace) -> int:
    asked = [TYPES[name] for name in options.type]
    names = tuple(dict.fromkeys(options.streams or asked)) or OUTPUT_STREAMS
    async with reader:
        # Where the streams end now: what follows is new, what lies before is there.
        following = reader.tail(names)
        await following.start()
        if sys.stdout.isatty() and not options.json:
            output.tell(heading(await reader.status()))
        begin = await _begin(reader, options)
        count = options.count or (LAST if options.no_follow and begin is None else None)
        if count is not None:
            await _print_newest(reader, following, count, begin, options)
        elif begin is not None:
            past = reader.tail(names, begin)
            await past.start()
            if not options.no_follow:
                following = past
            else:
                async for entry in excerpt.all_from(past, following.places):
                    _show(entry, options)
        sys.stdout.flush()
        if not options.no_follow:
            await _follow(following, options)
    return 0


async def _begin(reader: AccountReader, options: Namespace) -> str | None:
    """Return the id to start after; None for what is new."""
    if options.since is not None:
        seconds, micros = await reader.access.ask_one("TIME")
        return str(max(int(seconds) * 1_000 + int(micros) // 1_000 - options.since - 1, 0))
    return None if options.from_id in (None, "$") else str(options.from_id)


async def _print_newest(
    reader: AccountReader, tail: Tail, count: int, begin: str | None, options: Namespace
) -> None:
    found = await excerpt.newest(
        reader.access,
        tail.places,
        count,
        wanted=lambda entry: _is_wanted(entry, options),
        start=f"({begin}" if begin else "-",
    )
    for entry in found.entries:
        _show(entry, options)
    if not found.complete:
        output.complain(
            f"only the newest {excerpt.MAX_SEARCHED} entries of a stream were looked through"
        )


async def _follow(tail: Tail, options: Namespace) -> None:
    while True:
        try:
            entries = await tail.read()
        except LedgerUnavailableError as error:
            output.complain(f"{error}; trying again")
            await asyncio.sleep(RETRY_S)
            continue
        for entry in entries:
            _show(entry, options)
        sys.stdout.flush()


def _is_wanted(entry: StreamEntry, options: Namespace) -> bool:
    if options.type and wording.kind_of(entry) not in options.type:
        return False
    if not (options.symbol or options.signal):
        return True
    data = wording.payload(entry.fields.get("data", b""))
    if options.symbol and data.get("symbol") not in options.symbol:
        return False
    return not options.signal or (data.get("signal_id") in options.signal)


def _show(entry: StreamEntry, options: Namespace) -> None:
    if not _is_wanted(entry, options):
        return
    if options.json:
        output.say_json(wording.as_json(entry))
        return
    line = wording.one_line(entry, utc(entry.order[0]))
    output.say(*lines.fitted(line, lines.line_width(), INDENT, wording.HEAD))
