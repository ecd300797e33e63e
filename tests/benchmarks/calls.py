"""What one script call costs the worker: through redis-py, and on the worker's own connection.

``python -m tests.benchmarks.calls``. The same script, the same arguments (signals of about the size
an admission and a commit have), both in turn, one call after another; processor time of this
process's thread and the whole round trip.
"""

import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import uvloop

from tests.benchmarks.processes import Stage, stage
from tests.benchmarks.report import Report, Table, options, ratio
from worker.config.keys import RedisConfig, Secret
from worker.ledger.connection import Connections, Purpose

NAME: Final = "calls"
CALLS, QUICK_CALLS = 2_000, 200
#: Signals in a call, and bytes of each.
SHAPES: Final = ((1, 1_200), (1, 3_000), (32, 1_200), (32, 3_000))
WAYS: Final = ("redis-py", "own connection")
#: Answers as a commit does.
_SCRIPT: Final = "local r = {} for n = 1, #ARGV do r[n] = {'committed', false} end return r"
_KEY: Final = "{main}:signals"


async def _time(call: Callable[[], Awaitable[Any]], count: int) -> tuple[float, float]:
    """Processor and wall microseconds a call."""
    cpu, wall = time.thread_time(), time.perf_counter()
    for _ in range(count):
        await call()
    return (
        (time.thread_time() - cpu) / count * 1e6,
        (time.perf_counter() - wall) / count * 1e6,
    )


async def _run(where: Stage, report: Report, count: int) -> None:
    config = RedisConfig(url=Secret(where.server.url))
    connections = Connections(config, key=_KEY, name="benchmark")
    client, wire = await connections.commands(), await connections.open(Purpose.SCRIPTS)
    digest = await wire.call("SCRIPT", "LOAD", _SCRIPT)
    for items, size in SHAPES:
        command = ("EVALSHA", digest, 1, _KEY, *[b"x" * size] * items)
        ways: dict[str, Callable[[], Awaitable[Any]]] = {
            "redis-py": lambda c=command: client.execute_command(*c),  # type: ignore[misc]
            "own connection": lambda c=command: wire.call(*c),  # type: ignore[misc]
        }
        for name, call in ways.items():
            await _time(call, count // 10)
            cpu, wall = await _time(call, count // items)
            report.add(f"{items} x {size}: {name}: cpu", "µs/call", cpu)
            report.add(f"{items} x {size}: {name}: trip", "µs/call", wall)
    await connections.close()


def main(argv: Sequence[str] | None = None) -> None:
    """Run the benchmark."""
    chosen = options(NAME, __doc__, argv)
    count = QUICK_CALLS if chosen.quick else CALLS
    report = Report(NAME, chosen)
    for number in range(chosen.runs):
        with stage(chosen.server) as where, report.meter.around():
            report.server = where.server_name()
            uvloop.run(_run(where, report, count))
        report.progress(f"run {number + 1}/{chosen.runs}")
    report.tables.append(_table(report))
    report.finish()


def _table(report: Report) -> Table:
    rows = []
    for items, size in SHAPES:
        shape = f"{items} x {size}"
        theirs = report.values(f"{shape}: redis-py: cpu")
        for name in WAYS:
            cpu = report.samples[f"{shape}: {name}: cpu"]
            trip = report.samples[f"{shape}: {name}: trip"]
            rows.append(
                [
                    f"{items} signal{'s' if items > 1 else ''} of {size:,} bytes, {name}",
                    f"{cpu.median:.0f}",
                    f"{min(cpu.values):.0f} to {max(cpu.values):.0f}",
                    f"{ratio(cpu.values, theirs):.2f}",
                    f"{trip.median:.0f}",
                ]
            )
    return Table(
        name=NAME,
        title="One script call, microseconds",
        columns=["", "worker CPU", "runs", "of redis-py", "round trip"],
        rows=rows,
    )


if __name__ == "__main__":
    main(sys.argv[1:])
