"""``correct``: set a position in the book to what is really held."""

from argparse import ArgumentParser, Namespace

from worker.cli import arguments, confirm, output, session
from worker.cli.exit_codes import FAILURE, OK
from worker.cli.wording import money
from worker.domain.money import text
from worker.operator.reader import AccountReader


def configure(parser: ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.description = (
        "Set a position in the book to the quantity really held, after it was traded by hand or "
        "liquidated. Nothing is sent to the exchange."
    )
    parser.add_argument("exchange", metavar="EXCHANGE", type=arguments.name)
    parser.add_argument("symbol", metavar="SYMBOL", type=arguments.name)
    parser.add_argument(
        "--quantity",
        type=arguments.amount,
        required=True,
        metavar="Q",
        help="base units that are held; 0 for none",
    )
    parser.add_argument(
        "--price",
        type=arguments.positive_amount,
        required=True,
        metavar="P",
        help="at which the difference traded",
    )
    arguments.add_reason(parser, "how you know, for the record")
    confirm.add_arguments(parser)


def run(options: Namespace) -> int:
    """Correct the position, and print it before and after."""
    return session.run(_correct(session.reader(options), options))


async def _correct(reader: AccountReader, options: Namespace) -> int:
    async with reader:
        what = f"Set {options.symbol} on {options.exchange} to {text(options.quantity)} in the book"
        if options.dry_run:
            output.tell(f"would do: {what}")
            return OK
        if not await confirm.is_confirmed(reader, options, what):
            return FAILURE
        actor, subject = session.actor(), f"{options.exchange} {options.symbol}"
        async with reader.journal.attempt(
            "correct", subject, actor=actor, reason=options.reason
        ) as attempt:
            before, after = await reader.decisions.correct(
                options.exchange,
                options.symbol,
                quantity=options.quantity,
                price=options.price,
                actor=actor,
                reason=options.reason,
            )
            attempt.before, attempt.after = text(before.quantity), text(after.quantity)
            output.tell(
                f"{before.direction} {options.symbol} on {options.exchange}: "
                f"{attempt.before} is now {attempt.after}, "
                f"realised {money(after.realized_pnl)}",
                flush=True,
            )
    return OK
