"""``status``: show the trading state, what needs attention, and the numbers of the account."""

import asyncio
import sys
from argparse import ArgumentParser, Namespace
from typing import Any

import msgspec

from worker.cli import arguments, output, session, wording
from worker.domain.money import text as plain
from worker.domain.trading_state import TradingState
from worker.ledger.errors import LedgerUnavailableError
from worker.operator.attention import needs_attention
from worker.operator.reader import AccountReader
from worker.operator.status import Status
from worker.runtime.printable import printable

_COLOUR = {
    TradingState.ACTIVE: "green",
    TradingState.REDUCING: "yellow",
    TradingState.HALTED: "red",
}
_encode = msgspec.json.Encoder(decimal_format="string").encode


def configure(parser: ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("--watch", action="store_true", help="go on until interrupted")
    parser.add_argument(
        "--interval",
        type=arguments.seconds,
        default=1.0,
        metavar="S",
        help="seconds between looks (1)",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object (a line each look)")


def run(options: Namespace) -> int:
    """Show the status once, or repeatedly with ``--watch``."""
    reader = session.reader(options)
    if options.watch:
        return session.run_until_interrupted(_watch(reader, options))
    return session.run(_once(reader, options))


async def _once(reader: AccountReader, options: Namespace) -> int:
    async with reader:
        _show(await reader.status(), as_json=options.json)
    return 0


def _show(status: Status, *, as_json: bool) -> None:
    if as_json:
        output.say_json(to_json(status), flush=True)
        return
    output.screen().print(render(status))


async def _watch(reader: AccountReader, options: Namespace) -> int:
    pause_s = max(options.interval, 0.1)
    async with reader:
        status = await reader.status()
        if options.json or not sys.stdout.isatty():
            while True:
                _show(status, as_json=options.json)
                await asyncio.sleep(pause_s)
                status = await _again(reader, status)
        from rich.live import Live  # noqa: PLC0415 (drawing only)

        with Live(render(status), console=output.screen(), auto_refresh=False, screen=True) as live:
            while True:
                await asyncio.sleep(pause_s)
                status = await _again(reader, status)
                live.update(render(status), refresh=True)


async def _again(reader: AccountReader, last: Status) -> Status:
    """Read the status; while Redis is unavailable keep the last one, with a note on stderr."""
    try:
        return await reader.status()
    except LedgerUnavailableError as error:
        output.complain(f"{error}; showing {wording.moment(last.at)}")
        return last


def to_json(status: Status) -> bytes:
    """Encode as JSON, the form programs may rely on: every field of ``Status``, ``attention``."""
    fields: dict[str, Any] = {name: getattr(status, name) for name in status.__struct_fields__}
    return _encode(fields | {"attention": needs_attention(status)})


def render(status: Status) -> Any:
    """Draw the whole screen."""
    from rich.console import Group  # noqa: PLC0415 (drawing only)
    from rich.panel import Panel  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    parts: list[Any] = [banner(status)]
    problems = needs_attention(status)
    if problems:
        listed = Text("\n".join(f"! {printable(problem)}" for problem in problems), style="bold")
        parts.append(Panel(listed, title="needs attention", title_align="left", style="red"))
    else:
        parts.append(Text("Nothing needs attention.", style="green"))
    parts.append(_numbers(status, Table))
    if status.workers:
        parts.append(_workers(status, Table))
    return Group(*parts)


def banner(status: Status) -> Any:
    """Draw the trading state as the largest element of the screen."""
    from rich import box  # noqa: PLC0415 (drawing only)
    from rich.panel import Panel  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    colour = _COLOUR[status.trading_state]
    text = Text(justify="center")
    text.append(" ".join(status.trading_state.value) + "\n", style=f"bold {colour}")
    since = printable(" ".join(p for p in (status.reason, _by(status)) if p))
    text.append(f"account {status.account}" + (f"  ·  {since}" if since else ""))
    return Panel(text, box=box.DOUBLE, border_style=colour, padding=(1, 2))


def _by(status: Status) -> str:
    if not status.actor:
        return ""
    return f"(by {status.actor}, {status.changed_at})"


def _numbers(status: Status, table_class: Any) -> Any:
    table = table_class(show_header=False, box=None, pad_edge=False)
    lag = "unknown" if status.lag is None else str(status.lag)
    rows = (
        ("not seen by a worker yet", f"{lag}, oldest {wording.age(status.oldest_unseen_age_ms)}"),
        (
            "in hand",
            f"{status.pending}, oldest {wording.age(status.oldest_pending_age_ms)} "
            f"({status.in_flight} with a worker, {status.waiting} waiting their turn)",
        ),
        ("unresolved orders", str(status.unresolved_count)),
        (
            "open positions",
            f"{status.open_positions} ({status.opening} opening, {status.closing} closing)",
        ),
        ("open at entry value", _amounts(status.exposure)),
        ("realised so far", _amounts(status.realized)),
        ("dead letters", str(status.dead_letters)),
        ("signals kept", str(status.stream_length)),
        ("keeper", status.keeper or "none"),
        ("at", f"{wording.moment(status.at)} UTC"),
    )
    for row in rows:
        table.add_row(*row)
    return table


def _amounts(amounts: dict[str, Any]) -> str:
    return ", ".join(f"{plain(amount)} {name}" for name, amount in amounts.items() if amount) or "-"


def _workers(status: Status, table_class: Any) -> Any:
    table = table_class(box=None, pad_edge=False)
    for name in ("worker", "heard from", "in hand", "room", "mode"):
        table.add_column(name)
    for worker in status.workers:
        reported = worker.status
        table.add_row(
            printable(worker.name),
            f"{wording.age(worker.silent_ms)} ago" + ("" if worker.alive else " (silent)"),
            str(reported.get("in_flight", "-")),
            str(reported.get("concurrency", "-")),
            printable(str(reported.get("mode", "-")))
            + (", draining" if reported.get("draining") else ""),
        )
    return table
