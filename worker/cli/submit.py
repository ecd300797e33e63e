"""``submit``: put signals from a file, a pipe or options on the stream, and follow them.

Three forms are accepted: one JSON object, a JSON array, JSON Lines. What would become a dead letter
is refused, and then nothing is submitted. What this configuration's validation would refuse is
submitted with a warning: it ends as a failed signal, with its event.
"""

import argparse
import sys
from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from worker.cli import arguments, confirm, output, session, signal_options, signing, wording
from worker.cli.environment import configuration
from worker.cli.exit_codes import FAILURE, NOT_KNOWN, OK
from worker.cli.lines import fitted, line_width
from worker.cli.signal_input import Item, parse, read
from worker.config.keys import Config
from worker.domain.money import text
from worker.domain.signal import MalformedSignalError, Signal, decode_signal
from worker.domain.signal_encoding import encode_fields
from worker.ledger.limits import why_too_large
from worker.ledger.streams import SubmissionError
from worker.operator.dead_letters import signal_id_of
from worker.operator.outcomes import ENDING_STREAMS, Outcome, Outcomes, Sent
from worker.operator.reader import AccountReader
from worker.pipeline.validation import ValidationHandler
from worker.runtime.clock import SystemClock

MAX_WARNINGS: Final = 10
#: Where the line of an outcome goes on that is too long for the screen.
INDENT: Final = 6
_encode = msgspec.json.Encoder(decimal_format="string").encode


def configure(parser: ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.description = (
        "Put signals on the stream, and print a line each: its entry's id and its own. FILE holds "
        "a JSON object, a JSON array or JSON Lines; or the options describe one signal. Where one "
        "would become a dead letter, nothing is submitted and the exit code is 1."
    )
    parser.add_argument("file", metavar="FILE", nargs="?", help="- (default) is standard input")
    parser.add_argument(
        "--key",
        type=arguments.name,
        help="message group of all of them; by default each one's exchange and symbol",
    )
    parser.add_argument(
        "--force", action="store_true", help="submit what would become a dead letter all the same"
    )
    parser.add_argument(
        "--strict",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="what is the default now; --no-strict is --force",
    )
    parser.add_argument(
        "--wait",
        metavar="S",
        type=arguments.seconds,
        help="follow each to its end, at most S seconds: exit 0 if all are filled or completed, 1 "
        "if one is not, 75 if an end is not known in time",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    confirm.add_arguments(parser)
    signing.configure(parser)
    signal_options.configure(parser)
    parser.set_defaults(refuse_usage=parser.error)


def run(options: Namespace) -> int:
    """Submit, and print ids, warnings, and with ``--wait`` the outcomes."""
    config = configuration(options)
    _check_usage(options, config)
    reader = AccountReader(config)
    signer = signing.signer(options, config)
    items = _items(options, config)
    decoded = [_decoded(item) for item in items]
    group = {"key": options.key.encode()} if options.key else {}
    entries = [signer.sign({"data": item.data, **group}) for item in items]
    problems = list(_problems(items, entries, decoded, config))
    is_forced = options.force or options.strict is False
    _warn(
        problems,
        "submitted all the same, will be a dead letter" if is_forced else "not submitted",
    )
    if problems and not is_forced:
        if len(items) > 1:
            output.complain("nothing was submitted")
        return FAILURE
    fate = "would be submitted" if options.dry_run else "submitted"
    _warn(list(_refusals(items, decoded, config)), f"{fate}; a worker configured so refuses it")
    if options.dry_run:
        output.tell(*(f"would submit {_described(one)}" for one in decoded))
        return OK
    return session.run(_submit(reader, entries, decoded, options))


def _check_usage(options: Namespace, config: Config) -> None:
    """Refuse combinations of arguments that argparse cannot express."""
    if options.force and options.strict:
        options.refuse_usage("--force and --strict contradict each other")
    described = signal_options.given(options)
    if not described:
        return
    if options.file is not None:
        options.refuse_usage(f"either FILE or {described[0]} and the like: both are signals")
    if lacking := signal_options.missing(options, config):
        options.refuse_usage(f"{described[0]} describes a signal, which also needs {lacking}")


def _items(options: Namespace, config: Config) -> list[Item]:
    if signal_options.given(options):
        fields = signal_options.fields(options, config, SystemClock())
        return [Item("the signal", encode_fields(fields))]
    return parse(read(options.file or "-"))


def _decoded(item: Item) -> Signal | str:
    """Return the signal, or what is wrong with it."""
    try:
        return decode_signal(item.data)
    except MalformedSignalError as error:
        return str(error)


def _problems(
    items: Sequence[Item],
    entries: Sequence[Mapping[str, bytes]],
    decoded: Sequence[Signal | str],
    config: Config,
) -> Iterator[str]:
    """Yield a sentence for each entry that would become a dead letter."""
    first: dict[str, tuple[str, str]] = {}
    for item, entry, signal in zip(items, entries, decoded, strict=True):
        if isinstance(signal, str):
            yield f"{item.place}: {signal}"
            continue
        problem = signing.why_refused(entry, config, signal) or why_too_large(entry)
        digest = signal.digest()
        place, known = first.setdefault(signal.signal_id, (item.place, digest))
        if problem is None and known != digest:
            problem = f"signal_id: {place} has {signal.signal_id!r} too, and is another signal"
        if problem is not None:
            yield f"{item.place}: {problem}"


def _refusals(
    items: Sequence[Item], decoded: Sequence[Signal | str], config: Config
) -> Iterator[str]:
    """Yield a sentence for each signal that a worker of this configuration would refuse."""
    validation = ValidationHandler(
        config.validation,
        exchanges=config.valid_exchanges,
        max_size_pct=config.risk.max_position_size_pct,
    )
    now_ms = SystemClock().now_ms()
    for item, signal in zip(items, decoded, strict=True):
        if isinstance(signal, Signal):
            refusal = validation.check_alone(signal, validation.lifetime(signal), now_ms)
            if refusal is not None:
                yield f"{item.place}: {refusal.reason}"


def _warn(problems: list[str], consequence: str) -> None:
    output.complain(*(f"{problem} ({consequence})" for problem in problems[:MAX_WARNINGS]))
    if len(problems) > MAX_WARNINGS:
        more = len(problems) - MAX_WARNINGS
        output.complain(f"and {more} more like these ({consequence})")


async def _submit(
    reader: AccountReader,
    entries: Sequence[Mapping[str, bytes]],
    decoded: Sequence[Signal | str],
    options: Namespace,
) -> int:
    names = [
        (one.signal_id if isinstance(one, Signal) else signal_id_of(entry["data"])) or "-"
        for entry, one in zip(entries, decoded, strict=True)
    ]
    async with reader:
        if not await confirm.is_confirmed(reader, options, _question(decoded)):
            return FAILURE
        tail = reader.tail(ENDING_STREAMS)
        if options.wait is not None:
            await tail.start()
        try:
            ids = await reader.submit(entries)
        except SubmissionError as error:
            _print_ids(error.ids, names, options)
            raise
        if options.wait is None or not options.json:
            _print_ids(ids, names, options)
        if options.wait is None:
            return OK
        sent = [
            Sent(entry_id, name, one.digest() if isinstance(one, Signal) else "")
            for entry_id, name, one in zip(ids, names, decoded, strict=True)
        ]
        return await _follow(Outcomes(reader.access, tail, sent), options)


def _described(one: Signal | str) -> str:
    """Describe a signal in words, such as ``s1: open long BTC/USDT on binance, quantity 0.1``."""
    if isinstance(one, str):
        return f"what is no signal ({one})"
    what = " ".join(filter(None, (one.action.value, one.direction and one.direction.value)))
    size = f", quantity {text(one.quantity)}" if one.quantity is not None else ""
    return f"{one.signal_id}: {what} {one.symbol} on {one.exchange}{size}"


def _question(decoded: Sequence[Signal | str]) -> str:
    """Return what is going to be done: the signal, or how many of which action."""
    if len(decoded) == 1:
        return f"Submit {_described(decoded[0])}"
    actions = Counter(one.action.value for one in decoded if isinstance(one, Signal))
    counts = ", ".join(f"{count} {action}" for action, count in sorted(actions.items()))
    return f"Submit {wording.count_of(len(decoded), 'signal')}: {counts}"


def _print_ids(ids: Sequence[str], names: Sequence[str], options: Namespace) -> None:
    for entry_id, name in zip(ids, names, strict=False):
        if options.json:
            output.say_json(_encode({"entry_id": entry_id, "signal_id": name}))
        else:
            output.say(f"{entry_id}  {name}")
    sys.stdout.flush()


async def _follow(outcomes: Outcomes, options: Namespace) -> int:
    good: list[bool | None] = []
    try:
        async for outcome in outcomes.follow(options.wait):
            good.append(outcome.is_good)
            _print_outcome(outcome, options)
    finally:  # interrupted: the ids of what is open must not be lost
        for outcome in outcomes.unknown("interrupted"):
            _print_outcome(outcome, options)
    if False in good:
        return FAILURE
    return NOT_KNOWN if None in good else OK


def _print_outcome(outcome: Outcome, options: Namespace) -> None:
    if options.json:
        fields: dict[str, Any] = msgspec.structs.asdict(outcome)
        output.say_json(_encode(fields), flush=True)
        return
    shown = wording.spell(wording.details(outcome.event)) if outcome.event else outcome.reason
    head = f"{outcome.entry_id}  {outcome.signal_id}  "
    line = f"{head}{outcome.outcome} {shown}"
    output.say(*fitted(line, line_width(), INDENT, len(head)), flush=True)
