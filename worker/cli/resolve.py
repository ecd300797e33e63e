"""``resolve``: state what became of an unresolved order, and wait until the keeper settles it."""

import asyncio
import time
from argparse import ArgumentParser, Namespace
from typing import Final

from worker.cli import arguments, confirm, output, session
from worker.cli.exit_codes import FAILURE, OK
from worker.domain.money import ZERO, text
from worker.domain.verdict import Verdict
from worker.operator.reader import AccountReader
from worker.runtime.errors import WorkerError

#: How often the record is read while the keeper has not settled the order.
LOOK_EVERY_S: Final = 0.5


class UndecidedError(WorkerError):
    """The decision is stored, but no keeper has acted on it in time."""


def configure(parser: ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.description = (
        "State what became of an unresolved order that its exchange does not report. The exchange "
        "is asked once more; its report, if there is one, takes precedence."
    )
    parser.add_argument("signal_id", metavar="SIGNAL_ID", type=arguments.name)
    became = parser.add_mutually_exclusive_group(required=True)
    became.add_argument("--absent", action="store_true", help="the exchange has no such order")
    became.add_argument(
        "--filled", type=arguments.positive_amount, metavar="Q", help="base units traded"
    )
    parser.add_argument(
        "--price", type=arguments.positive_amount, metavar="P", help="their mean price"
    )
    parser.add_argument(
        "--fee", type=arguments.amount, metavar="F", help="what they cost in fees (0)"
    )
    parser.add_argument("--fee-currency", default="", metavar="C", help="the fee's currency")
    parser.add_argument(
        "--timeout",
        type=arguments.seconds,
        default=60.0,
        metavar="S",
        help="seconds to wait until the keeper has acted on it (60)",
    )
    arguments.add_reason(parser, "how you know, for the record")
    confirm.add_arguments(parser)
    parser.set_defaults(refuse_usage=parser.error)


def run(options: Namespace) -> int:
    """Store the decision and wait for its effect."""
    _check_usage(options)
    return session.run(_resolve(session.reader(options), options))


def _check_usage(options: Namespace) -> None:
    """Refuse combinations of arguments that argparse cannot express."""
    given = [name for name in ("price", "fee", "fee_currency") if getattr(options, name)]
    if options.absent and given:
        options.refuse_usage(f"--{given[0].replace('_', '-')} is about trades; --absent says none")
    if options.filled and not options.price:
        options.refuse_usage("--filled needs --price: what it traded at")
    if options.fee and not options.fee_currency:
        options.refuse_usage("--fee needs --fee-currency")


async def _resolve(reader: AccountReader, options: Namespace) -> int:
    became = "is not there" if options.absent else f"filled {text(options.filled)}"
    what = f"State that the order of {options.signal_id} {became}"
    async with reader:
        if options.dry_run:
            output.tell(f"would do: {what}")
            return OK
        if not await confirm.is_confirmed(reader, options, what):
            return FAILURE
        verdict = _verdict(options)
        async with reader.journal.attempt(
            "resolve", options.signal_id, actor=verdict.actor, reason=verdict.reason
        ) as attempt:
            await reader.decisions.decide(options.signal_id, verdict)
            attempt.before, attempt.after = "UNRESOLVED", became
        deadline = time.monotonic() + options.timeout
        while time.monotonic() < deadline:
            record = (await reader.order(options.signal_id)).record
            if record is not None and record.ended_at is not None:
                output.tell(f"the order of {options.signal_id} is {record.state}")
                return OK
            await asyncio.sleep(LOOK_EVERY_S)
    raise UndecidedError(
        f"the decision is noted, but the account's keeper has not acted on it in "
        f"{options.timeout:g} s; execution-worker order {options.signal_id} shows when it has"
    )


def _verdict(options: Namespace) -> Verdict:
    return Verdict(
        actor=session.actor(),
        reason=options.reason,
        filled=options.filled or ZERO,
        price=options.price or ZERO,
        fee=options.fee or ZERO,
        fee_currency=options.fee_currency,
    )
