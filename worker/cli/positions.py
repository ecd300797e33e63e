"""``positions``: show the account's open positions."""

from argparse import ArgumentParser, Namespace
from decimal import Decimal
from typing import Any

import msgspec

from worker.cli import output, session
from worker.domain.money import rounded_text, text
from worker.ledger.replies import Book
from worker.operator.reader import AccountReader

_encode = msgspec.json.Encoder(decimal_format="string").encode


def configure(parser: ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("--json", action="store_true", help="one JSON array")


def run(options: Namespace) -> int:
    """Show the open positions."""
    return session.run(_positions(session.reader(options), options))


async def _positions(reader: AccountReader, options: Namespace) -> int:
    async with reader:
        book = await reader.positions()
    if options.json:
        output.say_json(to_json(book))
    elif not book.positions:
        output.say("No open positions.")
    else:
        output.screen().print(table(book))
    return 0


def to_json(book: Book) -> bytes:
    """Encode every position with all its fields; ``busy`` while a signal is changing it."""
    return _encode(
        [
            {name: _plain(getattr(position, name)) for name in position.__struct_fields__}
            | {"busy": key in book.busy}
            for key, position in sorted(book.positions.items())
        ]
    )


def _plain(value: Any) -> Any:
    """Write decimals as events do, never with an exponent."""
    if isinstance(value, Decimal):
        return rounded_text(value)
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    return value


def table(book: Book) -> Any:
    """Draw the positions as a table."""
    from rich import box  # noqa: PLC0415 (drawing only)
    from rich.table import Table  # noqa: PLC0415

    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    drawn.add_column("position", no_wrap=True)
    drawn.add_column("side")
    for name in ("quantity", "entry", "stop", "target", "realised"):
        drawn.add_column(name, justify="right", overflow="fold")
    for name in ("opened", "signal"):
        drawn.add_column(name, overflow="fold")
    for key, position in sorted(book.positions.items()):
        drawn.add_row(
            f"{position.exchange} {position.symbol}" + (" (changing)" if key in book.busy else ""),
            position.direction.value,
            text(position.quantity),
            rounded_text(position.entry_price),
            text(position.stop_loss) if position.stop_loss is not None else "-",
            text(position.take_profit) if position.take_profit is not None else "-",
            rounded_text(position.realized_pnl),
            position.opened_at.strftime("%m-%d %H:%M:%S"),
            position.signal_id,
        )
    return drawn
