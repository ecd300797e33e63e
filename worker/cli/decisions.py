"""``resolve`` and ``correct``: what only a person can know."""

import asyncio
import time
from argparse import ArgumentParser, Namespace
from typing import Final

from worker.cli import arguments, session
from worker.domain.money import ZERO, text
from worker.domain.verdict import Verdict
from worker.operator.reader import AccountReader
from worker.runtime.errors import WorkerError

#: How often the record is looked at while the keeper is waited for.
LOOK_EVERY_S: Final = 0.5


class UndecidedError(WorkerError):
    """What was decided is noted, but nobody has acted on it yet."""


def configure(parser: ArgumentParser) -> None:
    """The command's arguments."""
    if parser.prog.endswith("resolve"):
        _configure_resolve(parser)
    else:
        _configure_correct(parser)
    parser.add_argument(
        "--reason",
        type=arguments.reason,
        required=True,
        help="how you know, for whoever looks next",
    )
    parser.set_defaults(refuse_usage=parser.error)


def _configure_resolve(parser: ArgumentParser) -> None:
    parser.description = (
        "Say what became of an unresolved order that its exchange does not tell of. The exchange "
        "is asked once more; what it tells, if it does, counts instead."
    )
    parser.add_argument("signal_id", metavar="SIGNAL_ID")
    became = parser.add_mutually_exclusive_group(required=True)
    became.add_argument("--absent", action="store_true", help="the exchange has no such order")
    became.add_argument("--filled", type=arguments.some, metavar="Q", help="base units traded")
    parser.add_argument("--price", type=arguments.some, metavar="P", help="their mean price")
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


def _configure_correct(parser: ArgumentParser) -> None:
    parser.description = (
        "Make a position in the book what it really is, where it was traded by hand or liquidated. "
        "Nothing is sent to the exchange."
    )
    parser.add_argument("exchange", metavar="EXCHANGE")
    parser.add_argument("symbol", metavar="SYMBOL")
    parser.add_argument(
        "--quantity",
        type=arguments.amount,
        required=True,
        metavar="Q",
        help="base units that are held; 0 for none",
    )
    parser.add_argument(
        "--price",
        type=arguments.some,
        required=True,
        metavar="P",
        help="at which the difference traded",
    )


def run(options: Namespace) -> int:
    """Write down what was decided."""
    if options.command == "correct":
        return session.run(_correct(session.reader(options), options))
    _check_usage(options)
    return session.run(_resolve(session.reader(options), options))


async def _resolve(reader: AccountReader, options: Namespace) -> int:
    async with reader:
        await reader.decisions.decide(options.signal_id, _verdict(options))
        deadline = time.monotonic() + options.timeout
        while time.monotonic() < deadline:
            record = (await reader.order(options.signal_id)).record
            if record is not None and record.ended_at is not None:
                print(f"the order of {options.signal_id} is {record.state}")
                return 0
            await asyncio.sleep(LOOK_EVERY_S)
    raise UndecidedError(
        f"the decision is noted, but the account's keeper has not acted on it in "
        f"{options.timeout:g} s; execution-worker order {options.signal_id} tells when it has"
    )


def _check_usage(options: Namespace) -> None:
    """What the parser cannot see: which arguments go together."""
    given = [name for name in ("price", "fee", "fee_currency") if getattr(options, name)]
    if options.absent and given:
        options.refuse_usage(f"--{given[0].replace('_', '-')} is about trades; --absent says none")
    if options.filled and not options.price:
        options.refuse_usage("--filled needs --price: what it traded at")
    if options.fee and not options.fee_currency:
        options.refuse_usage("--fee needs --fee-currency")


def _verdict(options: Namespace) -> Verdict:
    return Verdict(
        actor=session.actor(),
        reason=options.reason,
        filled=options.filled or ZERO,
        price=options.price or ZERO,
        fee=options.fee or ZERO,
        fee_currency=options.fee_currency,
    )


async def _correct(reader: AccountReader, options: Namespace) -> int:
    async with reader:
        before, after = await reader.decisions.correct(
            options.exchange,
            options.symbol,
            quantity=options.quantity,
            price=options.price,
            actor=session.actor(),
            reason=options.reason,
        )
    print(
        f"{before.direction} {options.symbol} on {options.exchange}: {text(before.quantity)} "
        f"is now {text(after.quantity)}, realised {text(after.realized_pnl)}"
    )
    return 0
