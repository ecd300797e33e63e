"""``pnl``: show the account's profit, realised and not."""

from argparse import ArgumentParser, Namespace
from decimal import Decimal
from typing import Any

import msgspec

from worker.cli import output, session, wording
from worker.cli.heading import heading, published
from worker.cli.tables import Column, Table
from worker.operator.pnl import Pnl
from worker.operator.reader import AccountReader

_encode = msgspec.json.Encoder(decimal_format="string").encode


def configure(parser: ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.description = (
        "Show the profit by quote currency: realised today (UTC) and in all, net of the fees that "
        "could be converted, and unrealised at the keeper's marks, without the fees of closing."
    )
    parser.add_argument("--json", action="store_true", help="one JSON object")


def run(options: Namespace) -> int:
    """Show the profit."""
    return session.run(_pnl(session.reader(options), options))


async def _pnl(reader: AccountReader, options: Namespace) -> int:
    async with reader:
        status, pnl = await reader.status(), await reader.pnl()
    if options.json:
        output.say_json(_encode(pnl))
        return 0
    screen = output.screen()
    screen.print(heading(status))
    screen.print(sums(pnl))
    if pnl.by:
        screen.print(published(status))
        screen.print(positions(pnl))
    return 0


def sums(pnl: Pnl) -> Any:
    """Draw the sums by currency."""
    open_in = {row.currency for row in pnl.by}
    currencies = sorted({*pnl.realized_today, *pnl.realized, *open_in})
    if not currencies:
        return "No profit and no loss yet."
    columns = (
        Column("currency"),
        Column("realised today", right=True),
        Column("realised", right=True),
        Column("unrealised", right=True),
    )
    rows = (
        (
            currency,
            wording.money(pnl.realized_today.get(currency, Decimal(0))),
            wording.money(pnl.realized.get(currency, Decimal(0))),
            _unrealized(pnl, currency, is_open=currency in open_in),
        )
        for currency in currencies
    )
    return Table(columns, rows)


def _unrealized(pnl: Pnl, currency: str, *, is_open: bool) -> str:
    value = pnl.unrealized.get(currency)
    if value is None:
        return "not known" if is_open else wording.money(Decimal(0))
    return wording.money(value)


def positions(pnl: Pnl) -> Table:
    """Draw each open position's profit."""
    columns = (
        Column("position"),
        Column("mark", right=True),
        Column("realised", right=True),
        Column("unrealised", right=True),
        Column("strategy", drop=1),
    )
    rows = (
        (
            f"{row.exchange} {row.symbol}",
            wording.price(row.mark) or "-",
            wording.money(row.realized),
            "not known" if row.unrealized is None else wording.money(row.unrealized),
            row.strategy_id or "",
        )
        for row in pnl.by
    )
    return Table(columns, rows)
