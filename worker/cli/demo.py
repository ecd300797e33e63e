"""``demo``: a private server, two workers on a simulated exchange and a producer of signals."""

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Final

from worker.cli import output, session
from worker.cli.demo_screen import Screen
from worker.cli.demo_signals import MAX_POSITIONS, DemoSignals, Fate
from worker.cli.demo_sums import Sums, add_up, report
from worker.config.keys import ENV_PREFIX
from worker.config.loading import load_config
from worker.ledger.access import OUTPUT_STREAMS, STREAMS, StreamEntry
from worker.operator.reader import AccountReader
from worker.runtime.embedded_server import DIE_WITH_PARENT, EmbeddedServer
from worker.runtime.errors import WorkerError

SIGNALS: Final = 240
BATCH: Final = 8
#: Pause between batches: slow enough to watch, fast enough to end soon.
BATCH_EVERY_S: Final = 0.2
WORKERS: Final = 2
START_TIMEOUT_S: Final = 15.0
FINISH_TIMEOUT_S: Final = 15.0
STOP_TIMEOUT_S: Final = 10.0
LOOK_EVERY_MS: Final = 150
_SEED: Final = 7

_GO_ON: Final = """\
Go on with a Redis of your own:
  export WORKER_REDIS__URL=redis://127.0.0.1:6379/0
  execution-worker run                     # as many as you like, on as many machines
  execution-worker submit signals.jsonl    # the fields: execution-worker schema
  execution-worker tail                    # and: status --watch, positions, order SIGNAL_ID
Still simulated: real orders need mode = "live" and an exchange's keys (execution-worker check)."""


class DemoError(WorkerError):
    """The demo did not finish; the message names the directory of the workers' logs."""


def configure(parser: ArgumentParser) -> None:
    """Describe the command, which has no arguments of its own."""
    parser.description = (
        "Start a private Redis-compatible server, two workers on a simulated exchange and a "
        f"producer of {SIGNALS} signals, good and bad; show what happens; check that every signal "
        "is accounted for. Needs nothing, ends by itself in about ten seconds."
    )


def run(_options: Namespace) -> int:
    """Run the demo to its end."""
    return session.run_until_interrupted(_demo())


async def _demo() -> int:
    logs = Path(tempfile.mkdtemp(prefix="execution-worker-demo-"))
    with ExitStack() as stack:
        server = stack.enter_context(EmbeddedServer())
        environ = _environment(server.url)
        workers = [_start(stack, environ, logs / f"worker-{n + 1}.log") for n in range(WORKERS)]
        try:
            async with AccountReader(load_config(None, environ), name="demo") as reader:
                sums = await _play(reader, workers, Screen())
        except asyncio.CancelledError:
            shutil.rmtree(logs, ignore_errors=True)
            raise
        except DemoError as error:
            raise DemoError(f"{error}; the workers' logs are in {logs}") from None
        codes = await asyncio.to_thread(_stop, workers)
    problems = [*sums.problems, *(f"a worker ended with exit code {c}" for c in codes if c)]
    output.complain(*problems)
    if problems:
        output.complain(f"it does not add up; the workers' logs are in {logs}")
        return 1
    shutil.rmtree(logs, ignore_errors=True)
    output.say(*_GO_ON.split("\n"))
    return 0


def _environment(url: str) -> dict[str, str]:
    """Build the workers' environment: this process's without configuration, and the demo's keys."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith(ENV_PREFIX)}
    return environ | {
        "WORKER_REDIS__URL": url,
        "WORKER_HTTP__PORT": "0",
        "WORKER_LOG__FORMAT": "json",
        "WORKER_WORKER__CONCURRENCY": "8",
        "WORKER_EXCHANGES__PAPER__ADAPTER": "paper",
        "WORKER_EXCHANGES__PAPER__PAPER__LATENCY_MS": "40",
        "WORKER_EXCHANGES__PAPER__PAPER__PARTIAL_FILL_RATE": "0.1",
        "WORKER_EXCHANGES__PAPER__PAPER__REJECT_RATE": "0.03",
        "WORKER_RISK__MAX_CONCURRENT_POSITIONS": str(MAX_POSITIONS),
        "WORKER_RECONCILIATION__MAX_WAIT_TIME": "0.5",
        "WORKER_RECONCILIATION__POLL_INTERVAL": "0.05",
    }


def _start(stack: ExitStack, environ: Mapping[str, str], log: Path) -> "subprocess.Popen[bytes]":
    """Start a worker in its own session, so that Ctrl-C reaches only this process.

    The worker never outlives this process.
    """
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "worker", "run"],
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            preexec_fn=DIE_WITH_PARENT,  # noqa: PLW1509
        )
    stack.callback(_end, process)
    return process


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Kill the process if it still runs, and wait for it."""
    if process.poll() is None:
        process.kill()
    process.wait()


def _stop(workers: "list[subprocess.Popen[bytes]]") -> list[int]:
    """Let every worker drain.

    Returns:
        The exit codes, -1 for a worker that did not end in time.
    """
    for worker in workers:
        worker.terminate()
    deadline = time.monotonic() + STOP_TIMEOUT_S
    codes = []
    for worker in workers:
        try:
            codes.append(worker.wait(max(deadline - time.monotonic(), 0.1)))
        except subprocess.TimeoutExpired:
            codes.append(-1)
    return codes


async def _play(
    reader: AccountReader, workers: "list[subprocess.Popen[bytes]]", screen: Screen
) -> Sums:
    """Produce signals and show events until every signal is finished; then add up."""
    with screen:
        output.say(
            "Starting a private server and two workers on a simulated exchange ...", flush=True
        )
        tail = reader.tail((*OUTPUT_STREAMS, "dead"), "0")
        await _until_ready(reader, workers)
        started = time.monotonic()
        fates: dict[str, Fate] = {}
        producing = asyncio.create_task(_produce(reader, fates))
        deadline = started + SIGNALS / BATCH * BATCH_EVERY_S + FINISH_TIMEOUT_S
        while True:
            screen.events(await tail.read(LOOK_EVERY_MS))
            status = await reader.status()
            screen.status(status)
            if producing.done() and not status.pending and status.lag == 0:
                break
            if time.monotonic() > deadline or any(w.poll() is not None for w in workers):
                raise DemoError("the signals were not finished in time")
        await producing
        screen.events(await tail.read(1))
    everything = await _read_all(reader)
    sums = add_up(everything, fates, pending=status.pending, lag=status.lag)
    seconds = time.monotonic() - started
    output.say("", *report(sums, seconds=seconds, workers=len(workers)), "")
    return sums


async def _until_ready(reader: AccountReader, workers: "list[subprocess.Popen[bytes]]") -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while (await reader.status()).workers_alive < len(workers):
        if time.monotonic() > deadline or any(worker.poll() is not None for worker in workers):
            raise DemoError("the workers did not start")
        await asyncio.sleep(0.05)


async def _produce(reader: AccountReader, fates: dict[str, Fate]) -> None:
    """Submit the signals in small batches, noting each one's fate by entry id."""
    signals = iter(DemoSignals(_SEED))
    for _ in range(0, SIGNALS, BATCH):
        batch = list(islice(signals, BATCH))
        ids = await reader.submit([{"data": signal.data} for signal in batch])
        fates.update(zip(ids, (signal.fate for signal in batch), strict=True))
        await asyncio.sleep(BATCH_EVERY_S)


async def _read_all(reader: AccountReader) -> list[StreamEntry]:
    """Read all five streams from the beginning."""
    tail = reader.tail(STREAMS, "0")
    everything: list[StreamEntry] = []
    while entries := await tail.read(1):
        everything += entries
    return everything
