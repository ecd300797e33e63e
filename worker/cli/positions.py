"""``positions``: show the account's open positions."""

from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

import msgspec

from worker.cli import output, session, wording
from worker.cli.heading import heading, published
from worker.cli.tables import Column, Table
from worker.domain.money import rounded_text, text
from worker.domain.position import Position
from worker.ledger.replies import Book
from worker.operator.pnl import marks_of, unrealized
from worker.operator.reader import AccountReader

Marks = Mapping[tuple[str, str], Decimal]

#: The members of a position in JSON; the sums it is stored as are no part of them.
_SHOWN: Final = (
    "position_id", "exchange", "symbol", "direction", "quantity", "opened_quantity", "entry_price",
    "opened_at", "signal_id", "strategy_id", "stop_loss", "take_profit", "realized_pnl", "fee",
    "fees", "entry_fee_open",
)  # fmt: skip

_encode = msgspec.json.Encoder(decimal_format="string").encode


def configure(parser: ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("--json", action="store_true", help="one JSON array")


def run(options: Namespace) -> int:
    """Show the open positions."""
    return session.run(_positions(session.reader(options), options))


async def _positions(reader: AccountReader, options: Namespace) -> int:
    async with reader:
        snapshot, book = await reader.snapshot(), await reader.positions()
        status = reader.status_of(snapshot)
    marks = marks_of(snapshot)
    if options.json:
        output.say_json(to_json(book, marks))
        return 0
    screen = output.screen()
    screen.print(heading(status))
    if book.positions:
        screen.print(published(status))
    screen.print(table(book, marks) if book.positions else "No open positions.")
    return 0


def to_json(book: Book, marks: Marks) -> bytes:
    """Encode every position as it is shown; ``busy`` while a signal is changing it.

    The exchange's own quantity and the protection are not known yet: null.
    """
    return _encode(
        [
            {name: _plain(getattr(position, name)) for name in _SHOWN}
            | {"exit_quantity": _plain(position.exits[0]), "exit_value": _plain(position.exits[1])}
            | {"busy": key in book.busy}
            | {
                "mark": _plain(marks.get((position.exchange, position.symbol))),
                "unrealized_pnl": _plain(_unrealized(position, marks)),
                "exchange_quantity": None,
                "protection": None,
            }
            for key, position in sorted(book.positions.items())
        ]
    )


def _unrealized(position: Position, marks: Marks) -> Decimal | None:
    return unrealized(position, marks.get((position.exchange, position.symbol)))


def _plain(value: Any) -> Any:
    """Write decimals as events do, never with an exponent."""
    if isinstance(value, Decimal):
        return rounded_text(value)
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    return value


def table(book: Book, marks: Marks) -> Table:
    """Draw the positions as a table, or a card each where the screen is narrow."""
    columns = (
        Column("position"),
        Column("side"),
        Column("quantity", right=True),
        Column("entry", right=True),
        Column("mark", drop=2, right=True),
        Column("stop", drop=1, right=True),
        Column("target", drop=3, right=True),
        Column("unrealised", drop=1, right=True),
        Column("realised", drop=2, right=True),
        Column("opened", drop=5),
        Column("signal", drop=4, least=16),
    )
    return Table(columns, (_row(book, key, marks) for key in sorted(book.positions)))


def _row(book: Book, key: str, marks: Marks) -> tuple[str, ...]:
    position = book.positions[key]
    return (
        f"{position.exchange} {position.symbol}" + (" (changing)" if key in book.busy else ""),
        position.direction.value,
        text(position.quantity),
        wording.price(position.entry_price),
        wording.price(marks.get((position.exchange, position.symbol))) or "-",
        wording.price(position.stop_loss) or "-",
        wording.price(position.take_profit) or "-",
        wording.money(_unrealized(position, marks)) or "-",
        wording.money(position.realized_pnl),
        wording.day_time(position.opened_at),
        position.signal_id,
    )
