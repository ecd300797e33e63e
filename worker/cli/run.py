"""``run``: run one worker until SIGTERM or SIGINT, then drain."""

import asyncio
import os
import sys
from argparse import ArgumentParser, Namespace

from worker.assembly.worker import run_worker
from worker.cli.environment import configuration
from worker.config.keys import Config
from worker.config.secret_files import exposures, secret_files
from worker.config.showing import secret_strings
from worker.observe.logs import configure_logging
from worker.runtime.core_dumps import forbid_core_dumps
from worker.runtime.logger import get_logger

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
    _protect_secrets(config, options)
    factory = uvloop.new_event_loop if uvloop is not None else None
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(run_worker(config, log_signal))


def _protect_secrets(config: Config, options: Namespace) -> None:
    """Keep secrets out of core dumps, where they are worth money; warn of files that show them."""
    log = get_logger()
    if config.mode == "live" and (reason := forbid_core_dumps()):
        log.warning("core_dumps_possible", reason=reason)
    for file, exposure in exposures(secret_files(options.config, os.environ), os.environ).items():
        log.warning("secret_file_exposed", file=str(file), reason=exposure)
