"""``order``: show one signal's history as a timeline."""

import re
from argparse import ArgumentParser, Namespace
from datetime import datetime
from typing import Any, Final

import msgspec

from worker.cli import arguments, output, session, wording
from worker.cli.heading import heading
from worker.cli.lines import fitted, line_width
from worker.operator.history import History
from worker.operator.reader import AccountReader
from worker.runtime.errors import WorkerError
from worker.runtime.printable import printable

#: Where a line goes on that is too long for the screen.
INDENT: Final = 6
#: How a step's line begins, and how long its aligned columns are.
_STEP: Final = re.compile(r"  \d{4}-\d{2}-\d{2} ")
_HEAD: Final = 2 + 23 + 2 + 1 + 10 + 1
_encode = msgspec.json.Encoder(decimal_format="string").encode


class UnknownSignalError(WorkerError):
    """No signal of the account has this id, or more than one."""


def configure(parser: ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.description = (
        "Show what became of one signal. Its order's client or exchange id, its position's id and "
        "its entry's id find it as well."
    )
    parser.add_argument("id", metavar="ID", type=arguments.name)
    parser.add_argument("--json", action="store_true", help="one JSON object")


def run(options: Namespace) -> int:
    """Show the history."""
    return session.run(_order(session.reader(options), options))


async def _order(reader: AccountReader, options: Namespace) -> int:
    async with reader:
        status = await reader.status()
        found = await reader.find(options.id)
        if len(found.kinds) > 1:
            raise UnknownSignalError(
                f"{options.id} belongs to several signals: {', '.join(sorted(found.kinds))}; "
                "ask for one of them"
            )
        signal_id, kind = next(iter(found.kinds.items()), (options.id, "signal_id"))
        history = await reader.order(signal_id)
    if not history.is_known:
        where = "" if history.complete and found.complete else " among the newest entries"
        raise UnknownSignalError(
            f"nothing is known of {printable(options.id)}{where}: no signal, order, "
            f"position or entry of account {reader.access.account} has this id, or its record has "
            "expired (redis.record_retention_seconds)"
        )
    if options.json:
        output.say_json(to_json(history, kind))
        return 0
    shown = timeline(history)
    if kind != "signal_id":
        shown.insert(1, f"  found by its {kind.replace('_', ' ')} {options.id}")
    width = line_width()
    output.tell(heading(status))
    for line in shown:
        output.say(*fitted(line, width, INDENT, _HEAD if _STEP.match(line) else 0))
    return 0


def to_json(history: History, found_by: str = "signal_id") -> bytes:
    """Encode as JSON, the form programs may rely on: every field of ``History``.

    ``found_by`` is the kind of id that it was found by.
    """
    fields: dict[str, Any] = {name: getattr(history, name) for name in history.__struct_fields__}
    fields["found_by"] = found_by
    fields["dead_letters"] = [
        {name: getattr(letter, name) for name in letter.__struct_fields__}
        | {"fields": {n: value.decode(errors="replace") for n, value in letter.fields.items()}}
        for letter in history.dead_letters
    ]
    return _encode(fields)


def timeline(history: History) -> list[str]:
    """Format the history as lines of text, oldest first."""
    record = history.record
    state = record.state if record else "waiting" if history.entry_id else "no record"
    if not record and history.dead_letters:
        state = "dead letter"
    shown = [f"{history.signal_id}: {state}"]
    if record:
        signal = record.intent.get("signal") or {}
        names = ("exchange", "symbol", "action", "direction", "order_type", "quantity")
        what = " ".join(str(signal[name]) for name in names if signal.get(name))
        shown += [f"  {printable(what)}"] if what else []
    steps = [(at, what) for at, what in _steps(history) if at is not None]
    steps.sort(key=lambda step: step[0])
    start = steps[0][0] if steps else None
    for at, what in steps:
        since_ms = int((at - start).total_seconds() * 1000) if start else 0
        shown.append(f"  {wording.moment(at)}  +{wording.age(since_ms):<10} {what}")
    shown += [
        f"  dead letter {letter.id}: {letter.reason}: {printable(letter.error)}"
        for letter in history.dead_letters
    ]
    if not history.complete:
        shown.append("  (the streams are longer than what was looked at: events may be missing)")
    return shown


def _steps(history: History) -> list[tuple[datetime | None, str]]:
    record = history.record
    steps: list[tuple[datetime | None, str]] = [
        (history.arrived_at, f"arrived as {history.entry_id}"),
    ]
    if record:
        steps += [
            (record.admitted_at, "admitted: limits reserved"),
            (record.unresolved_since, "unresolved: nobody knows whether the exchange has it"),
        ]
    for event in history.events:
        data = wording.payload(bytes(event.data))
        steps.append((event.at, f"{event.type} {wording.spell(wording.details(data))}"))
    if record:
        steps.append((record.ended_at, f"ended: {record.state} (worker {record.worker})"))
    return steps
