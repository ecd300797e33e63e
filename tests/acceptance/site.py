"""One server, and the real commands on it as a person runs them: output, complaints, exit code."""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from worker.config.keys import Config, RedisConfig, Secret
from worker.ledger.access import StreamEntry
from worker.operator.reader import AccountReader
from worker.runtime.embedded_server import EmbeddedServer

NOWHERE = {"WORKER_REDIS__URL": "redis://127.0.0.1:1/0"}


def environment(extra: Mapping[str, str]) -> dict[str, str]:
    """The environment of this process without the worker's variables, and ``extra``."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("WORKER_")}
    return clean | {"WORKER_HTTP__PORT": "0", "COLUMNS": "200"} | dict(extra)


def execute(
    *arguments: str, environ: Mapping[str, str] = NOWHERE, stdin: str = ""
) -> "subprocess.CompletedProcess[str]":
    """Run one command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "worker", *arguments],
        env=environment(environ),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


class Site:
    """A server and what is done with it by commands."""

    def __init__(self, server: EmbeddedServer) -> None:
        self.environ = {"WORKER_REDIS__URL": server.url}
        self._config = Config(redis=RedisConfig(url=Secret(server.url)))

    def execute(self, *arguments: str, stdin: str = "") -> "subprocess.CompletedProcess[str]":
        """Run one command to its end."""
        return execute(*arguments, environ=self.environ, stdin=stdin)

    def output(self, *arguments: str, stdin: str = "") -> str:
        """The output of a command that must succeed."""
        done = self.execute(*arguments, stdin=stdin)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def submit(self, *signals: Mapping[str, Any]) -> list[str]:
        """Submit, also what is no signal; returns the entry ids."""
        shown = self.output("submit", "--force", stdin=json.dumps(signals))
        return [line.split()[0] for line in shown.splitlines()]

    def until_worker(self) -> None:
        """Wait until a worker has told that it is there."""
        deadline = time.monotonic() + 30
        while not json.loads(self.output("workers", "--json"))["workers"]:
            assert time.monotonic() < deadline

    def ended(self, count: int) -> list[StreamEntry]:
        """Wait until ``count`` signals have ended, as orders or dead letters."""
        return asyncio.run(self._ended(count))

    async def _ended(self, count: int) -> list[StreamEntry]:
        found: list[StreamEntry] = []
        async with AccountReader(self._config) as reader, asyncio.timeout(30):
            async for entry in reader.follow(("orders", "dead"), "0"):
                if entry.stream == "dead" or _is_end(entry):
                    found.append(entry)
                if len(found) == count:
                    break
        return found


def _is_end(entry: StreamEntry) -> bool:
    return json.loads(entry.fields["data"]).get("terminal") is True


@contextmanager
def process(
    *arguments: str, environ: Mapping[str, str], stdin: bool = False
) -> Iterator["subprocess.Popen[str]"]:
    """A command that goes on until it is told to stop; ``stdin`` for one that reads."""
    running = subprocess.Popen(
        [sys.executable, "-m", "worker", *arguments],
        env=environment(environ),
        stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield running
    finally:
        if running.poll() is None:
            running.kill()
        running.communicate()


def a_signal(signal_id: str, **fields: Any) -> dict[str, Any]:
    """A signal that trades on paper."""
    return {
        "signal_id": signal_id,
        "created_at": datetime.now(UTC).isoformat(),
        "exchange": "paper",
        "symbol": "BTC/USDT",
        "direction": "long",
        "strength": 0.9,
        "confluence_score": 8,
        "entry_price": "65000",
    } | fields


def is_sentence(text: str) -> bool:
    """One line of complaint by the program, and no traceback."""
    return text.startswith("execution-worker: ") and text.count("\n") == 1
