"""``mend-stream``: bring streams that were given an id ahead of Redis's clock back to it."""

import argparse
from argparse import ArgumentParser, Namespace

from worker.cli import confirm, output, session
from worker.cli.exit_codes import FAILURE, OK
from worker.ledger.access import STREAMS
from worker.ledger.limits import AHEAD_MS
from worker.operator.mending import MendedStream
from worker.operator.reader import AccountReader


def configure(parser: ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.description = (
        "Mend streams that were given an id ahead of Redis's clock: such a stream goes on from "
        "there, is not trimmed any more, and once it has had the largest id takes nothing. Entries "
        "with such an id get one of now, all others keep theirs; nothing that waits or is under "
        "way is lost or done twice. Needs the Redis user admin; workers may go on."
    )
    parser.add_argument(
        "streams",
        metavar="STREAM",
        nargs="*",
        type=_stream,
        help=f"{', '.join(STREAMS)}; by default all that need it",
    )
    confirm.add_arguments(parser)


def _stream(name: str) -> str:
    if name not in STREAMS:
        raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(STREAMS)}")
    return name


def run(options: Namespace) -> int:
    """Mend, and print a line for each stream."""
    return session.run(_mend(session.reader(options), options))


async def _mend(reader: AccountReader, options: Namespace) -> int:
    names = tuple(dict.fromkeys(options.streams)) or STREAMS
    async with reader:
        if options.dry_run:
            ahead = await reader.streams_ahead()
            for name in names:
                is_ahead = ahead.get(name, 0) > AHEAD_MS
                output.tell(f"{name}: {'would be mended' if is_ahead else 'sound'}")
            return OK
        if not await confirm.is_confirmed(reader, options, f"Mend the streams {', '.join(names)}"):
            return FAILURE
        actor = session.actor()
        async with reader.journal.attempt("mend-stream", ", ".join(names), actor=actor) as attempt:
            mended = []
            async for stream in reader.mending.mend(names, actor=actor):
                output.tell(_sentence(stream), flush=True)
                mended += [stream.name] if stream.mended else []
                attempt.is_idle = not mended
                attempt.after = f"mended {', '.join(mended) or 'none'}"
    return OK


def _sentence(stream: MendedStream) -> str:
    if not stream.mended:
        return f"{stream.name}: sound"
    kept = stream.entries - stream.renamed
    entries = "entry" if stream.renamed == 1 else "entries"
    return f"{stream.name}: mended, new ids for {stream.renamed} {entries}, {kept} kept theirs"
