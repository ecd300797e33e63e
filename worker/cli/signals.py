"""``signals``: show the newest signals and what became of them."""

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from typing import Final

import msgspec

from worker.cli import arguments, output, session, wording
from worker.cli.heading import heading
from worker.cli.tables import Column, Table
from worker.operator.reader import AccountReader
from worker.operator.recent import SignalRow

#: Signal ids may have 64 characters: a long one is folded rather than all columns dropped.
_LEAST: Final = 16
_encode = msgspec.json.Encoder().encode


def configure(parser: ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.description = "Show the newest signals that are still on the stream, newest first."
    parser.add_argument("-n", type=arguments.count, default=20, metavar="N", help="how many (20)")
    parser.add_argument("--symbol", metavar="S", help="only this symbol's")
    parser.add_argument("--state", metavar="S", type=str.upper, help="only those in this state")
    parser.add_argument("--json", action="store_true", help="one JSON object")


def run(options: Namespace) -> int:
    """Show the signals."""
    return session.run(_signals(session.reader(options), options))


async def _signals(reader: AccountReader, options: Namespace) -> int:
    def wanted(row: SignalRow) -> bool:
        is_state = options.state is None or row.state.upper() == options.state
        return is_state and options.symbol in {None, row.symbol}

    async with reader:
        status = await reader.status()
        rows = await reader.signals(options.n, wanted=wanted)
    if options.json:
        output.say_json(_encode({"signals": rows}))
        return 0
    screen = output.screen()
    screen.print(heading(status))
    screen.print(table(rows) if rows else "No signals.")
    return 0


def table(rows: Sequence[SignalRow]) -> Table:
    """Draw the signals."""
    columns = (
        Column("signal", least=_LEAST),
        Column("market"),
        Column("action", drop=2),
        Column("state"),
        Column("code", drop=1),
        Column("created", drop=3),
        Column("entry", drop=4),
    )
    cells = (
        (
            row.signal_id or "-",
            f"{row.exchange} {row.symbol}".strip() or "-",
            row.action,
            row.state,
            row.code or "",
            wording.written_moment(row.created_at),
            row.entry_id,
        )
        for row in rows
    )
    return Table(columns, cells)
