"""``run``: run one worker until SIGTERM or SIGINT, then drain."""

import asyncio
import sys
from argparse import ArgumentParser, Namespace

from worker.assembly.worker import run_worker
from worker.cli.environment import configuration
from worker.config.showing import secret_strings
from worker.observe.logs import configure_logging

try:
    import uvloop
except ImportError:  # not built for every platform; asyncio's own loop is only slower
    uvloop = None


def configure(parser: ArgumentParser) -> None:
    """Describe the command, which has no arguments of its own."""
    parser.description = (
        "Run one worker until SIGTERM or SIGINT; then finish what is in hand (worker.drain_seconds "
        "at most), hand the rest back and exit 0. A second signal hands back at once."
    )


def run(options: Namespace) -> int:
    """Run one worker to its end."""
    config = configuration(options)
    log_signal = configure_logging(config.log, sys.stderr, secret_strings(config))
    factory = uvloop.new_event_loop if uvloop is not None else None
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(run_worker(config, log_signal))
