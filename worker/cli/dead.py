"""``dead``: list and show dead letters, replay or discard one."""

import argparse
import re
from argparse import ArgumentParser, Namespace
from typing import Any, Final

import msgspec

from worker.cli import arguments, output, session, wording
from worker.operator.dead_letters import DeadLetter
from worker.operator.reader import AccountReader
from worker.runtime.printable import printable

_ID: Final = re.compile(r"\d{1,20}-\d{1,20}")
_encode = msgspec.json.Encoder().encode


def configure(parser: ArgumentParser) -> None:
    """Add the command's arguments."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    listing = actions.add_parser("list", help="the newest dead letters, newest first")
    listing.add_argument(
        "--limit", type=arguments.count, default=50, metavar="N", help="how many (50)"
    )
    listing.add_argument("--json", action="store_true", help="one JSON object a line")
    show = actions.add_parser("show", help="one dead letter with all its fields")
    show.add_argument("--json", action="store_true", help="one JSON object")
    replay = actions.add_parser("replay", help="put its own fields back on the stream as they were")
    discard = actions.add_parser("discard", help="remove it for good")
    for action in (show, replay, discard):
        action.add_argument("id", metavar="ID", type=_letter_id, help="as `dead list` shows it")


def _letter_id(text: str) -> str:
    if not _ID.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not an entry id, as 1700000000000-0 is")
    return text


def run(options: Namespace) -> int:
    """List, show, replay or discard."""
    return session.run(_ACTIONS[options.action](session.reader(options), options))


async def _list(reader: AccountReader, options: Namespace) -> int:
    async with reader:
        letters = await reader.dead.latest(options.limit)
    for letter in letters:
        if options.json:
            output.say_json(to_json(letter))
        else:
            output.say(one_line(letter))
    if not letters and not options.json:
        output.say("No dead letters.")
    return 0


async def _show(reader: AccountReader, options: Namespace) -> int:
    async with reader:
        letter = await reader.dead.get(options.id)
    if options.json:
        output.say_json(to_json(letter))
    else:
        output.say(*full_text(letter))
    return 0


async def _replay(reader: AccountReader, options: Namespace) -> int:
    async with reader:
        entry_id = await reader.dead.replay(options.id)
    output.say(entry_id)
    return 0


async def _discard(reader: AccountReader, options: Namespace) -> int:
    async with reader:
        await reader.dead.discard(options.id)
    output.say(f"dead letter {options.id} is gone")
    return 0


_ACTIONS: Final = {"list": _list, "show": _show, "replay": _replay, "discard": _discard}


def to_json(letter: DeadLetter) -> bytes:
    """Encode as JSON, the form programs may rely on; the entry's own fields as text."""
    fields: dict[str, Any] = {name: getattr(letter, name) for name in letter.__struct_fields__}
    own = {name: value.decode(errors="replace") for name, value in letter.fields.items()}
    return _encode(fields | {"fields": own})


def one_line(letter: DeadLetter) -> str:
    """Format a dead letter as a line of the list."""
    shown = wording.spell({"signal": letter.signal_id or "-", "error": letter.error})
    return f"{letter.id}  {printable(letter.reason):<20} {shown}"


def full_text(letter: DeadLetter) -> list[str]:
    """Format a dead letter with all its fields, a line each."""
    return [
        f"dead letter  {letter.id}",
        f"reason       {letter.reason}",
        f"error        {printable(letter.error)}",
        f"signal       {letter.signal_id or '-'}",
        f"entry        {letter.entry_id}, delivered {letter.deliveries} times",
        f"worker       {letter.worker}",
        f"at           {letter.at}",
        *(
            f"{printable(name):<12} {printable(value.decode(errors='replace'))}"
            for name, value in letter.fields.items()
        ),
    ]
