"""``dead``: list, count and show dead letters, replay or discard them."""

import argparse
import re
from argparse import ArgumentParser, Namespace
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, Final

import msgspec

from worker.cli import arguments, confirm, output, session, wording
from worker.cli.exit_codes import FAILURE, OK
from worker.cli.heading import heading
from worker.cli.lines import fitted, line_width
from worker.domain.refusal import DeadReason
from worker.operator.dead_letters import Choice, DeadLetter, DeadLetterError
from worker.operator.reader import AccountReader
from worker.runtime.clock import SystemClock
from worker.runtime.printable import printable

_ID: Final = re.compile(r"\d{1,20}-\d{1,20}")
#: Characters of one value that are shown to people; `--json` has all.
SHOWN_CHARS: Final = 4_000
#: Letters that one event tells of, and how many it names one by one.
PORTION: Final = 500
FEW: Final = 5
#: Where lines go on that are too long for the screen, and how long the columns at their head are.
INDENT: Final = 6
LABEL: Final = 13
_encode = msgspec.json.Encoder().encode


def configure(parser: ArgumentParser) -> None:
    """Add the command's arguments."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    listing = actions.add_parser("list", help="the newest dead letters, newest first")
    listing.add_argument(
        "--limit", type=arguments.count, default=50, metavar="N", help="how many (50)"
    )
    listing.add_argument(
        "--count", action="store_true", help="how many of each reason, and their size, instead"
    )
    listing.add_argument("--json", action="store_true", help="one JSON object a line")
    show = actions.add_parser("show", help="one dead letter with all its fields")
    show.add_argument("--json", action="store_true", help="one JSON object")
    show.add_argument("id", metavar="ID", type=_letter_id, help="as `dead list` shows it")
    replay = actions.add_parser("replay", help="put its own fields back on the stream as they were")
    discard = actions.add_parser("discard", help="remove it for good")
    for action in (listing, replay, discard):
        action.add_argument(
            "--reason", choices=[each.value for each in DeadReason], help="those of one reason"
        )
        action.add_argument(
            "--before",
            type=arguments.moment,
            metavar="T",
            help="those written before a time: 2026-01-31T12:00:00Z, or 10m, 2h, 3d ago",
        )
    for action in (replay, discard):
        action.add_argument(
            "ids", metavar="ID", nargs="*", type=_letter_id, help="as `dead list` shows it"
        )
        action.add_argument("--all", action="store_true", help="all there are now")
        confirm.add_arguments(action)
        action.set_defaults(refuse=action.error)


def _letter_id(text: str) -> str:
    if not _ID.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not an entry id, as 1700000000000-0 is")
    return text


def run(options: Namespace) -> int:
    """List, count, show, replay or discard."""
    if options.action in {"replay", "discard"}:
        chooses = bool(options.all or options.reason or options.before)
        if chooses == bool(options.ids):
            options.refuse("give one or more ID, or choose with --all, --reason, --before")
    return session.run(_ACTIONS[options.action](session.reader(options), options))


def _choice(options: Namespace) -> Choice:
    before_ms = options.before(SystemClock().now_ms()) if options.before else None
    return Choice(reason=options.reason, before_ms=before_ms)


async def _list(reader: AccountReader, options: Namespace) -> int:
    if options.count:
        return await _count(reader, options)
    shown, size = 0, 0
    width = line_width()
    async with reader:
        if not options.json:
            output.tell(heading(await reader.status()))
        async for letter in reader.dead.newest_first(_choice(options)):
            if options.json:
                output.say_json(to_json(letter))
            else:
                output.say(*fitted(one_line(letter), width, INDENT, HEAD))
            shown, size = shown + 1, size + letter.size
            if shown == options.limit:
                break
        there = await reader.dead.length()
    if options.json:
        return 0
    letters = wording.count_of(there, "dead letter")
    if shown:
        output.tell(f"{shown} of {letters}, {wording.size(size)}")
    else:
        output.tell(f"None of {letters}." if there else "No dead letters.")
    return 0


async def _count(reader: AccountReader, options: Namespace) -> int:
    async with reader:
        status = await reader.status()
        counts = await reader.dead.count(_choice(options))
    if options.json:
        for reason, count in sorted(counts.items()):
            output.say_json(
                _encode({"reason": reason, "letters": count.letters, "size": count.size})
            )
        return 0
    output.tell(heading(status))
    for reason, count in sorted(counts.items()):
        output.say(f"{printable(reason):<20} {count.letters:>9}  {wording.size(count.size)}")
    if not counts:
        output.tell("No dead letters.")
    return 0


async def _show(reader: AccountReader, options: Namespace) -> int:
    async with reader:
        status = await reader.status()
        letter = await reader.dead.get(options.id)
    if options.json:
        output.say_json(to_json(letter))
    else:
        output.tell(heading(status))
        output.tell(*full_text(letter), indent=LABEL)
    return 0


async def _replay(reader: AccountReader, options: Namespace) -> int:
    only_one = len(options.ids) == 1

    async def replay(letter_id: str) -> str:
        entry_id = await reader.dead.replay(letter_id)
        return entry_id if only_one else f"dead letter {letter_id} is entry {entry_id} now"

    return await _each(reader, options, replay)


async def _discard(reader: AccountReader, options: Namespace) -> int:
    async def discard(letter_id: str) -> str:
        await reader.dead.discard(letter_id)
        return f"dead letter {letter_id} is gone"

    return await _each(reader, options, discard)


async def _each(
    reader: AccountReader, options: Namespace, act: Callable[[str], Awaitable[str]]
) -> int:
    """Do something with each letter that was named or chosen; 1 if any failed or nobody agreed."""
    async with reader:
        chosen = [one async for one in _chosen(reader, options)]
        what = f"{options.action} {wording.count_of(len(chosen), 'dead letter')}"
        if not chosen:
            output.tell("No dead letters.")
            return OK
        if options.dry_run:
            output.tell(f"would {what}: {_few(chosen)}")
            return OK
        if not await confirm.is_confirmed(reader, options, what.capitalize()):
            return FAILURE
        failed = 0
        for at in range(0, len(chosen), PORTION):
            failed += await _portion(reader, options, chosen[at : at + PORTION], act)
    return FAILURE if failed else OK


async def _portion(
    reader: AccountReader,
    options: Namespace,
    letter_ids: Sequence[str],
    act: Callable[[str], Awaitable[str]],
) -> int:
    """Do something with some letters, with one event about it; returns how many it failed for.

    Raises:
        UncertainError: Redis did not answer.
        UnrecordedError: Redis does not take the event.
    """
    journal, done, problems = reader.journal, 0, [""]
    with suppress(DeadLetterError):  # it was said
        async with journal.attempt(
            f"dead {options.action}", _few(letter_ids), actor=session.actor()
        ) as attempt:
            attempt.before = wording.count_of(len(letter_ids), "letter")
            for letter_id in letter_ids:
                try:
                    output.tell(await act(letter_id), flush=True)
                    done += 1
                except DeadLetterError as error:
                    output.complain(error)
                    problems.append(str(error))
                attempt.after = f"{options.action} of {done}, {len(problems) - 1} refused"
            if not done:
                raise DeadLetterError(problems[-1])
    return len(problems) - 1


def _few(letter_ids: Sequence[str]) -> str:
    """Name letters: all of a few, else the first and the last."""
    if len(letter_ids) <= FEW:
        return ", ".join(letter_ids)
    return f"{letter_ids[0]} to {letter_ids[-1]}"


async def _chosen(reader: AccountReader, options: Namespace) -> AsyncIterator[str]:
    for letter_id in dict.fromkeys(options.ids):
        yield letter_id
    if not options.ids:
        async for letter in reader.dead.oldest_first(_choice(options)):
            yield letter.id


_ACTIONS: Final = {"list": _list, "show": _show, "replay": _replay, "discard": _discard}


def to_json(letter: DeadLetter) -> bytes:
    """Encode as JSON, the form programs may rely on; the entry's own fields as text."""
    fields: dict[str, Any] = {name: getattr(letter, name) for name in letter.__struct_fields__}
    own = {name: value.decode(errors="replace") for name, value in letter.fields.items()}
    return _encode(fields | {"fields": own})


#: Of a line of the list: a letter's id, reason and size.
HEAD: Final = 15 + 2 + 20 + 1 + 10 + 2


def one_line(letter: DeadLetter) -> str:
    """Format a dead letter as a line of the list."""
    shown = wording.spell({"signal": letter.signal_id or "-", "error": letter.error})
    size = wording.size(letter.cut_from_bytes or letter.size)
    return f"{letter.id}  {printable(letter.reason):<20} {size:>10}  {shown}"


def full_text(letter: DeadLetter) -> list[str]:
    """Format a dead letter with all its fields, a line each, long ones cut."""
    size = wording.size(letter.size)
    if letter.cut_from_bytes is not None:
        size = f"the first {size} of {wording.size(letter.cut_from_bytes)}"
    return [
        f"dead letter  {letter.id}",
        f"reason       {printable(letter.reason)}",
        f"error        {printable(letter.error)}",
        f"signal       {printable(letter.signal_id or '-')}",
        f"entry        {printable(letter.entry_id)}, delivered {letter.deliveries} times",
        f"worker       {printable(letter.worker)}",
        f"at           {printable(letter.at)}",
        f"size         {size}",
        *(f"{_shown(name.encode()):<12} {_shown(value)}" for name, value in letter.fields.items()),
    ]


def _shown(value: bytes) -> str:
    """Return text that is safe to print; of a long one the beginning, and how much there is."""
    text = value.decode(errors="replace")
    if len(text) <= SHOWN_CHARS:
        return printable(text)
    return f"{printable(text[:SHOWN_CHARS])}... ({wording.size(len(value))} in all)"
