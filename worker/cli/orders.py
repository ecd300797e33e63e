"""``orders``: show the newest orders, or those that may be at an exchange now."""

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation

import msgspec

from worker.cli import arguments, output, session, wording
from worker.cli.heading import heading
from worker.cli.tables import Column, Table
from worker.operator.reader import AccountReader
from worker.operator.recent import OrderRow

_encode = msgspec.json.Encoder().encode


def configure(parser: ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.description = "Show the orders that the newest events are about, newest first."
    parser.add_argument(
        "--live", action="store_true", help="those that may be at an exchange now instead"
    )
    parser.add_argument("-n", type=arguments.count, default=20, metavar="N", help="how many (20)")
    parser.add_argument("--symbol", metavar="S", help="only this symbol's")
    parser.add_argument("--json", action="store_true", help="one JSON object")


def run(options: Namespace) -> int:
    """Show the orders."""
    return session.run(_orders(session.reader(options), options))


async def _orders(reader: AccountReader, options: Namespace) -> int:
    def wanted(row: OrderRow) -> bool:
        return options.symbol in {None, row.symbol}

    async with reader:
        status = await reader.status()
        rows = await reader.orders(options.n, live=options.live, wanted=wanted)
    if options.json:
        output.say_json(_encode({"orders": rows}))
        return 0
    screen = output.screen()
    screen.print(heading(status))
    screen.print(table(rows) if rows else "No live orders." if options.live else "No orders.")
    return 0


def table(rows: Sequence[OrderRow]) -> Table:
    """Draw the orders."""
    columns = (
        Column("market"),
        Column("side"),
        Column("quantity", right=True),
        Column("filled", right=True),
        Column("price", right=True),
        Column("state"),
        Column("signal", drop=1, least=16),
        Column("type", drop=2),
        Column("role", drop=3),
        Column("client order id", drop=4),
        Column("exchange order id", drop=5),
    )
    cells = (
        (
            f"{row.exchange} {row.symbol}",
            row.side or "-",
            row.quantity or "-",
            row.filled_quantity,
            _price(row.average_price or row.price or row.stop_price),
            row.state,
            row.signal_id,
            row.order_type or "",
            row.role or "",
            row.client_order_id,
            row.exchange_order_id or "",
        )
        for row in rows
    )
    return Table(columns, cells)


def _price(written: str | None) -> str:
    try:
        return wording.price(Decimal(written)) if written else "-"
    except InvalidOperation:
        return written or "-"
