"""``workers``: show who works on the account, and by which state and configuration."""

from argparse import ArgumentParser, Namespace
from typing import Any

import msgspec

from worker.cli import output, session, wording
from worker.cli.heading import heading
from worker.cli.tables import Column, Table
from worker.operator.reader import AccountReader
from worker.operator.status import Status, WorkerView

_encode = msgspec.json.Encoder(decimal_format="string").encode
#: What a heartbeat says of a worker, as JSON has it under the same names.
_TOLD = (
    "host", "in_flight", "concurrency", "trading_state", "draining", "keeper", "mode", "version",
    "config_digest", "loop_lag_ms", "started_at",
)  # fmt: skip


def configure(parser: ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("--json", action="store_true", help="one JSON object")


def run(options: Namespace) -> int:
    """Show the workers."""
    return session.run(_workers(session.reader(options), options))


async def _workers(reader: AccountReader, options: Namespace) -> int:
    async with reader:
        status = await reader.status()
    if options.json:
        output.say_json(to_json(status))
        return 0
    screen = output.screen()
    screen.print(heading(status))
    screen.print(table(status) if status.workers else "No worker.")
    return 0


def to_json(status: Status) -> bytes:
    """Encode every worker; what it does not tell is null."""
    return _encode({"at": status.at, "workers": [_row(one, status) for one in status.workers]})


def _row(worker: WorkerView, status: Status) -> dict[str, Any]:
    told = {name: worker.status.get(name) for name in _TOLD}
    return {
        "name": worker.name,
        **told,
        "keeper": status.keeper == worker.name,
        "alive": worker.alive,
        "heartbeat_age_s": worker.silent_ms / 1000,
        "not_ready": worker.status.get("not_ready"),
    }


def table(status: Status) -> Table:
    """Draw the workers."""
    columns = (
        Column("worker"),
        Column("heard from"),
        Column("state"),
        Column("in hand", right=True),
        Column("mode"),
        Column("loop lag", drop=4, right=True),
        Column("version", drop=3),
        Column("configuration", drop=2),
        Column("started", drop=5),
        Column("host", drop=6),
    )
    return Table(columns, (_cells(one, status) for one in status.workers))


def _cells(worker: WorkerView, status: Status) -> tuple[str, ...]:
    told = worker.status

    def say(name: str) -> str:
        return str(told.get(name, "-"))

    marks = [mark for mark in ("draining",) if told.get(mark)]
    marks += ["keeper"] if status.keeper == worker.name else []
    return (
        worker.name,
        f"{wording.age(worker.silent_ms)} ago" + ("" if worker.alive else " (silent)"),
        say("trading_state"),
        f"{say('in_flight')} of {say('concurrency')}",
        ", ".join((say("mode"), *marks)),
        f"{say('loop_lag_ms')} ms",
        say("version"),
        say("config_digest"),
        wording.written_moment(say("started_at")),
        say("host"),
    )
