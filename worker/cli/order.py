"""``order``: show one signal's history as a timeline."""

from argparse import ArgumentParser, Namespace
from datetime import datetime
from typing import Any

import msgspec

from worker.cli import output, session, wording
from worker.operator.history import History
from worker.operator.reader import AccountReader
from worker.runtime.errors import WorkerError
from worker.runtime.printable import printable

_encode = msgspec.json.Encoder(decimal_format="string").encode


class UnknownSignalError(WorkerError):
    """The account knows no signal of this id."""


def configure(parser: ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("signal_id", metavar="SIGNAL_ID")
    parser.add_argument("--json", action="store_true", help="one JSON object")


def run(options: Namespace) -> int:
    """Show the history."""
    return session.run(_order(session.reader(options), options))


async def _order(reader: AccountReader, options: Namespace) -> int:
    async with reader:
        history = await reader.order(options.signal_id)
    if not history.is_known:
        where = "" if history.complete else " among the newest entries"
        raise UnknownSignalError(
            f"nothing is known of signal {options.signal_id}{where}: it was never submitted to "
            f"account {reader.access.account}, or its record has expired "
            "(redis.record_retention_seconds)"
        )
    if options.json:
        output.say_json(to_json(history))
    else:
        output.say(*lines(history))
    return 0


def to_json(history: History) -> bytes:
    """Encode as JSON, the form programs may rely on: every field of ``History``."""
    fields: dict[str, Any] = {name: getattr(history, name) for name in history.__struct_fields__}
    fields["dead_letters"] = [
        {name: getattr(letter, name) for name in letter.__struct_fields__}
        | {"fields": {n: value.decode(errors="replace") for n, value in letter.fields.items()}}
        for letter in history.dead_letters
    ]
    return _encode(fields)


def lines(history: History) -> list[str]:
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
