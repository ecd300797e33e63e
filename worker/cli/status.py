"""``status``: show the trading state, what needs attention, and the numbers of the account."""

import asyncio
import sys
import time
from argparse import ArgumentParser, Namespace
from decimal import Decimal
from typing import Any, Final

import msgspec

from worker.cli import arguments, output, session, wording, workers
from worker.cli.heading import heading
from worker.domain.trading_state import TradingState
from worker.ledger.errors import LedgerUnavailableError
from worker.operator.attention import needs_attention, stale
from worker.operator.attention_codes import Attention, Severity
from worker.operator.reader import AccountReader
from worker.operator.status import Status, aged
from worker.runtime.printable import printable

#: A status older than this is shown as stale, milliseconds.
STALE_MS: Final = 2_500
#: How long a screen waits for an answer before it is drawn anew without it, seconds.
ANSWER_S: Final = 0.5

_COLOUR = {
    TradingState.ACTIVE: "green",
    TradingState.REDUCING: "yellow",
    TradingState.HALTED: "red",
}
_GRAVEST = {Severity.CRITICAL: "red", Severity.WARNING: "yellow", Severity.INFO: "none"}
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
        _show(await reader.status(), 0, as_json=options.json)
    return 0


def _show(status: Status, age_ms: int, *, as_json: bool) -> None:
    if as_json:
        output.say_json(to_json(status, age_ms), flush=True)
        return
    output.screen().print(render(status, age_ms))


async def _watch(reader: AccountReader, options: Namespace) -> int:
    pause_s = max(options.interval, 0.1)
    async with reader:
        looking = Looking(reader, await reader.status())
        if options.json or not sys.stdout.isatty():
            while True:
                _show(*looking.now(), as_json=options.json)
                await looking.again(pause_s)
        from rich.live import Live  # noqa: PLC0415 (drawing only)

        with Live(
            render(*looking.now()), console=output.screen(), auto_refresh=False, screen=True
        ) as live:
            while True:
                await looking.again(pause_s)
                live.update(render(*looking.now()), refresh=True)


class Looking:
    """Repeated looks at an account, also while Redis answers late or not at all.

    Args:
        reader: the account.
        status: its first status.
    """

    def __init__(self, reader: AccountReader, status: Status) -> None:
        self._reader = reader
        self._status = status
        self._read_s = time.monotonic()
        self._asking: asyncio.Task[Status] | None = None

    def now(self) -> tuple[Status, int]:
        """Return the last status, its ages counted on, and how old it is in milliseconds."""
        age_ms = int((time.monotonic() - self._read_s) * 1000)
        return aged(self._status, age_ms), age_ms

    async def again(self, pause_s: float) -> None:
        """Wait, then take a new status if there is one by then."""
        started_s = time.monotonic()
        if self._asking is None:
            await asyncio.sleep(pause_s)
            self._asking = asyncio.ensure_future(self._reader.status())
        await asyncio.wait({self._asking}, timeout=min(pause_s, ANSWER_S))
        if not self._asking.done():
            return
        asked, self._asking = self._asking, None
        try:
            self._status, self._read_s = asked.result(), time.monotonic()
        except LedgerUnavailableError:
            # Shown as stale. A refused connection fails at once: it is not tried in a tight loop.
            await asyncio.sleep(max(pause_s - (time.monotonic() - started_s), 0))


def attention(status: Status, age_ms: int) -> list[Attention]:
    """Return what needs attention in a status that was read ``age_ms`` ago."""
    found = needs_attention(status)
    return [stale(status, age_ms), *found] if age_ms > STALE_MS else found


def to_json(status: Status, age_ms: int = 0) -> bytes:
    """Encode as JSON, the form programs may rely on: every field of ``Status``, ``attention``."""
    fields: dict[str, Any] = {name: getattr(status, name) for name in status.__struct_fields__}
    return _encode(fields | {"attention": attention(status, age_ms)})


def render(status: Status, age_ms: int = 0) -> Any:
    """Draw the whole screen."""
    from rich.console import Group  # noqa: PLC0415 (drawing only)
    from rich.panel import Panel  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    is_stale = age_ms > STALE_MS
    parts: list[Any] = [banner(status, age_ms)]
    problems = attention(status, age_ms)
    if problems:
        listed = Text("\n".join(map(_line, problems)), style="dim" if is_stale else "bold")
        colour = "bright_black" if is_stale else _GRAVEST[problems[0].severity]
        parts.append(Panel(listed, title="needs attention", title_align="left", style=colour))
    else:
        parts.append(Text("Nothing needs attention.", style="green"))
    parts.append(_numbers(status))
    if status.workers:
        parts.append(workers.table(status))
    return Group(*parts)


def _line(problem: Attention) -> str:
    mark = "!" if problem.severity is Severity.CRITICAL else "-"
    see = f": see {problem.see}" if problem.see else ""
    return f"{mark} {printable(problem.text + see)}"


def banner(status: Status, age_ms: int = 0) -> Any:
    """Draw the trading state as the largest element of the screen, grey where it is stale."""
    from rich import box  # noqa: PLC0415 (drawing only)
    from rich.panel import Panel  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    is_stale = age_ms > STALE_MS
    colour = "bright_black" if is_stale else _COLOUR[status.trading_state]
    text = Text(justify="center")
    if is_stale:
        text.append(f"S T A L E  {wording.age(age_ms)}\n", style=f"bold {colour}")
    text.append(" ".join(status.trading_state.value) + "\n", style=f"bold {colour}")
    since = printable(" ".join(p for p in (status.reason, _by(status)) if p))
    text.append(f"{heading(status)}" + (f"  ·  {since}" if since else ""))
    return Panel(text, box=box.DOUBLE, border_style=colour, padding=(1, 2))


def _by(status: Status) -> str:
    if not status.actor:
        return ""
    return f"(by {status.actor}, {status.changed_at})"


def _numbers(status: Status) -> Any:
    from rich.table import Table  # noqa: PLC0415 (drawing only)

    table = Table(show_header=False, box=None, pad_edge=False)
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
        ("realised today", _amounts(status.realized_today)),
        ("realised so far", _amounts(status.realized)),
        ("dead letters", str(status.dead_letters)),
        ("signals kept", str(status.stream_length)),
        ("keeper", printable(status.keeper or "none")),
        ("books compared", _since(status.compared_age_ms)),
        ("wallets and marks", _since(status.sheet_age_ms)),
    )
    for row in rows:
        table.add_row(*row)
    return table


def _since(age_ms: int | None) -> str:
    return "not yet" if age_ms is None else f"{wording.age(age_ms)} ago"


def _amounts(amounts: dict[str, Decimal]) -> str:
    return ", ".join(f"{wording.money(amount)} {name}" for name, amount in amounts.items()) or "-"
