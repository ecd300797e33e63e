"""``balance``: show what the account's wallets hold."""

from argparse import ArgumentParser, Namespace

import msgspec

from worker.cli import output, session, wording
from worker.cli.heading import heading, published
from worker.cli.tables import Column, Table
from worker.operator.pnl import Balances
from worker.operator.reader import AccountReader
from worker.runtime.printable import printable

_encode = msgspec.json.Encoder(decimal_format="string").encode


def configure(parser: ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.description = (
        "Show what the wallets hold, as the account's keeper last read them from the exchanges: "
        "every 5 seconds while a position is open, every minute otherwise."
    )
    parser.add_argument("--json", action="store_true", help="one JSON object")


def run(options: Namespace) -> int:
    """Show the wallets."""
    return session.run(_balance(session.reader(options), options))


async def _balance(reader: AccountReader, options: Namespace) -> int:
    async with reader:
        status, balances = await reader.status(), await reader.balances()
    if options.json:
        output.say_json(_encode(balances))
        return 0
    screen = output.screen()
    screen.print(heading(status))
    screen.print(published(status))
    if balances.age_ms is None:
        return 0
    for exchange, why in balances.unknown.items():
        screen.print(printable(f"{exchange}: not known, {why}"))
    screen.print(table(balances) if balances.wallets else "Nothing is held.")
    return 0


def table(balances: Balances) -> Table:
    """Draw the wallets."""
    columns = (
        Column("exchange"),
        Column("wallet"),
        Column("currency"),
        Column("free", right=True),
        Column("total", right=True),
    )
    rows = (
        (row.exchange, row.wallet, row.currency, wording.money(row.free), wording.money(row.total))
        for row in balances.wallets
    )
    return Table(columns, rows)
