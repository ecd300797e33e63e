"""``limits``: show how much of each limit of the account is used."""

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from datetime import datetime

import msgspec

from worker.cli import output, session, wording
from worker.cli.heading import heading, published
from worker.cli.tables import Column, Table
from worker.domain.money import rounded_text
from worker.operator.limits import Limit
from worker.operator.reader import AccountReader

_encode = msgspec.json.Encoder(decimal_format="string").encode


def configure(parser: ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("--json", action="store_true", help="one JSON object")


def run(options: Namespace) -> int:
    """Show the limits."""
    return session.run(_limits(session.reader(options), options))


async def _limits(reader: AccountReader, options: Namespace) -> int:
    async with reader:
        status, limits = await reader.limits()
    if options.json:
        output.say_json(_encode({"at": status.at, "limits": limits}))
        return 0
    screen = output.screen()
    screen.print(heading(status))
    screen.print(published(status))
    screen.print(table(limits))
    return 0


def table(limits: Sequence[Limit]) -> Table:
    """Draw the limits."""
    columns = (
        Column("limit"),
        Column("scope"),
        Column("used", right=True),
        Column("allowed", right=True),
        Column("unit", drop=1),
        Column("resets", drop=3),
        Column("last refusal", drop=2),
    )
    return Table(columns, map(_cells, limits))


def _cells(limit: Limit) -> tuple[str, ...]:
    used = "not known" if limit.used is None else wording.money(limit.used)
    if limit.unit != "%" and limit.used is not None:
        used = rounded_text(limit.used)
    allowed = "off" if limit.allowed is None else rounded_text(limit.allowed)
    mark = " (used up)" if limit.is_reached else ""
    return (
        limit.name,
        limit.scope,
        used + mark,
        allowed,
        limit.unit,
        _time(limit.resets_at),
        _day_time(limit.last_refusal),
    )


def _day_time(at: datetime | None) -> str:
    return wording.day_time(at) if at else ""


def _time(at: datetime | None) -> str:
    return f"{at:%H:%M:%S} UTC" if at else ""
