"""One account driven from outside: a worker process, the commands, and redis-py.

Nothing here imports the package ``worker``: the golden files must outlive any move inside it.
"""

import itertools
import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import redis

from tests.acceptance.golden_form import Answer
from tests.acceptance.golden_process import (
    PATIENCE_S,
    ROOT,
    Worker,
    environment,
    now,
    wait_until,
)

GROUP: Final = "execution"
OUTPUT_STREAMS: Final = ("orders", "positions", "system")
TERMINAL_TYPES: Final = frozenset(
    {"OrderFilled", "OrderCancelled", "OrderFailed", "SignalCompleted"}
)

_LABEL: Final = re.compile(r'(\w+)="')

Fields = Mapping[str, Any]


class Desk:
    """One account with its worker: sends signals one at a time and notes what comes back.

    Args:
        account: the account's id.
        config: the TOML document, without ``account`` and ``[redis]``.
        directory: for configuration and log.
        port: the server's.

    Attributes:
        answers: output of commands by golden file, then by a label; read-only commands.
        actions: output of commands that change something, in order.
        sent: signal ids in the order they were sent.
        keys: what each key of the account was whenever :meth:`note_keys` looked.
        dead_ids: ids of dead letters in the order they were written, discarded ones included.
        http: what :meth:`note_http` found, by path.
    """

    def __init__(self, account: str, config: str, *, directory: Path, port: int) -> None:
        self.account = account
        self.answers: dict[str, dict[str, Answer]] = {}
        self.actions: list[Answer] = []
        self.sent: list[str] = []
        self.keys: dict[str, str] = {}
        self.dead_ids: list[str] = []
        self.http: dict[str, Any] = {}
        # redis-py's own types do not follow ``decode_responses``.
        self.redis: Any = redis.Redis(port=port, decode_responses=True, encoding_errors="replace")
        self._config = directory / f"{account}.toml"
        url = f"redis://127.0.0.1:{port}/0"
        self._config.write_text(f'account = "{account}"\n{config}\n[redis]\nurl = "{url}"\n')
        self.worker = Worker(self._config, directory / f"{account}.log")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.worker.kill()
        self.redis.close()

    # ---- signals ------------------------------------------------------------------------------

    def open(self, signal_id: str, symbol: str, price: str | None, **fields: Any) -> None:
        """Send a signal that opens, and wait for its terminal event."""
        self.post(self.opening(signal_id, symbol, price, **fields))
        self.until_ended(signal_id)

    def close(self, signal_id: str, symbol: str, price: str | None, **fields: Any) -> None:
        """Send a signal that closes, and wait for its terminal event."""
        self.post(_signal(signal_id, symbol, price, action="close", **fields))
        self.until_ended(signal_id)

    def opening(self, signal_id: str, symbol: str, price: str | None, **fields: Any) -> Fields:
        """Build a signal that opens; a field given as None is left out."""
        good = {"direction": "long", "strength": 0.9, "confluence_score": 8}
        return _signal(signal_id, symbol, price, **(good | fields))

    def post(self, signal_fields: Fields, **entry: str) -> None:
        """Put a signal on the stream, with further entry fields where given."""
        signal_id = str(signal_fields["signal_id"])
        if signal_id not in self.sent:
            self.sent.append(signal_id)
        self.redis.xadd(self.key("signals"), {"data": json.dumps(signal_fields), **entry})

    def post_dead(self, **entry: str | bytes) -> None:
        """Put an entry on the stream that must become a dead letter, and wait for that."""
        before = len(self.dead_ids)
        self.redis.xadd(self.key("signals"), dict(entry))
        self.until_dead(before + 1)

    def until_ended(self, *signal_ids: str) -> None:
        """Wait until each of the signals has its terminal event."""
        wanted = set(signal_ids)

        def ended() -> bool:
            return wanted <= {
                entry["subject"]
                for _, entry in self.redis.xrange(self.key("orders"))
                if entry["type"] in TERMINAL_TYPES
            }

        wait_until(ended, f"{wanted} have not all ended")

    def until_dead(self, count: int) -> None:
        """Wait until so many dead letters were ever written."""

        def written() -> bool:
            for entry_id, _ in self.redis.xrange(self.key("dead")):
                if entry_id not in self.dead_ids:
                    self.dead_ids.append(entry_id)
            return len(self.dead_ids) >= count

        wait_until(written, f"there are not {count} dead letters")

    def until_quiet(self) -> None:
        """Wait until every entry was delivered and acknowledged."""

        def quiet() -> bool:
            (group,) = self.redis.xinfo_groups(self.key("signals"))
            newest = self.redis.xrevrange(self.key("signals"), count=1)
            return not group["pending"] and newest[0][0] == group["last-delivered-id"]

        wait_until(quiet, "signals are still under way")

    def until_system_error(self, code: str, signal_id: str) -> None:
        """Wait for a ``SystemError`` of that code about that signal."""

        def said() -> bool:
            told = [entry["data"] for entry in self.entries("system")]
            return any(one.get("code") == code and one["signal_id"] == signal_id for one in told)

        wait_until(said, f"no {code} about {signal_id}")

    # ---- commands -----------------------------------------------------------------------------

    def act(self, *arguments: str, stdin: str = "") -> Answer:
        """Run a command that changes something, and keep what it said."""
        self.until_dead(0)
        answer = self.run(*arguments, stdin=stdin)
        self.actions.append(answer)
        return answer

    def ask(self, file: str, label: str, *arguments: str) -> Answer:
        """Run a command that only reads; keep what it said in golden file ``file``."""
        answer = self.run(*arguments)
        self.answers.setdefault(file, {})[label] = answer
        return answer

    def ask_status(self, label: str) -> None:
        """Run ``status --json`` once a heartbeat has told how the worker is now."""
        if self.sent:
            self.until_quiet()
        self.until_heartbeat()
        self.ask("command-status", label, "status", "--json")

    def until_heartbeat(self) -> None:
        """Wait for a heartbeat of the worker that is younger than this call."""
        with self.heartbeats() as until_next:
            until_next()

    @contextmanager
    def heartbeats(self) -> Iterator[Callable[[], None]]:
        """Follow the worker's heartbeats through ``status --watch``.

        Yields:
            A function that waits for a heartbeat that is younger than its call.
        """

        def beat(line: str) -> datetime:
            status = json.loads(line)
            (worker,) = status["workers"]
            age = timedelta(milliseconds=worker["silent_ms"])
            return datetime.fromisoformat(status["at"]) - age

        arguments = ("status", "--watch", "--interval", "0.1", "--json")
        with self._following(arguments) as lines:
            assert next(lines), "`status --watch` shows nothing"

            def until_next() -> None:
                begun = datetime.now(UTC) + timedelta(seconds=0.1)
                assert any(beat(line) > begun for line in lines), "no heartbeat came"

            yield until_next

    def note_http(self) -> None:
        """Keep what the worker's HTTP port says: bodies, and names and labels of metrics."""
        for path in ("/livez", "/readyz"):
            status, body = self.worker.get(path)
            self.http[path] = {"status": status, "body": _decoded(body)}
        status, body = self.worker.get("/metrics")
        self.http["/metrics"] = {"status": status, "series": _series(body)}

    def tail(self, file: str, *streams: str) -> None:
        """Run ``tail --json`` over all that the streams hold; keep what it said in ``file``."""
        count = sum(self.redis.xlen(self.key(stream)) for stream in streams)
        arguments = ("tail", *streams, "--from", "0", "--json")
        with self._following(arguments) as lines:
            shown = "".join(itertools.islice(lines, count))
        self.answers.setdefault(file, {})[" ".join(streams)] = Answer(arguments, 0, shown, "")

    @contextmanager
    def _following(self, arguments: Sequence[str]) -> Iterator[Iterator[str]]:
        """Run a command that goes on until it is interrupted; that must end it with exit code 0.

        Yields:
            The lines of its output.
        """
        with subprocess.Popen(
            self._command(arguments), env=environment(), cwd=ROOT, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        ) as process:  # fmt: skip
            assert process.stdout is not None
            assert process.stderr is not None
            try:
                yield iter(process.stdout.readline, "")
                process.send_signal(signal.SIGINT)
                code = process.wait(PATIENCE_S)
            finally:
                process.kill()
            assert (code, process.stderr.read()) == (0, "")

    def run(self, *arguments: str, stdin: str = "") -> Answer:
        """Run a command to its end, and keep nothing."""
        done = subprocess.run(
            self._command(arguments), env=environment(), cwd=ROOT, input=stdin,
            capture_output=True, text=True, timeout=PATIENCE_S, check=False,
        )  # fmt: skip
        return Answer(arguments, done.returncode, done.stdout, done.stderr)

    def _command(self, arguments: Sequence[str]) -> list[str]:
        return [sys.executable, "-m", "worker", *arguments, "--config", str(self._config)]

    # ---- what is in Redis ---------------------------------------------------------------------

    def key(self, name: str) -> str:
        """Return the full name of one of the account's keys."""
        return f"{{{self.account}}}:{name}"

    def entries(self, stream: str) -> list[dict[str, Any]]:
        """Return every entry of an output stream, oldest first, ``data`` decoded."""
        return [
            fields | {"data": json.loads(fields["data"])}
            for _, fields in self.redis.xrange(self.key(stream))
        ]

    def note_keys(self) -> None:
        """Add name and type of every key the account has now to :attr:`keys`."""
        for key in self.redis.scan_iter(match=f"{{{self.account}}}:*", count=1_000):
            kind = self.redis.type(key)
            if kind != "none":
                self.keys[key] = kind


def _signal(signal_id: str, symbol: str, price: str | None, **fields: Any) -> Fields:
    signal_fields = {
        "signal_id": signal_id,
        "created_at": now(),
        "exchange": "paper",
        "symbol": symbol,
        "entry_price": price,
    } | fields
    return {name: value for name, value in signal_fields.items() if value is not None}


def _decoded(body: str) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return body


def _series(exposition: str) -> list[str]:
    """Return types and series of Prometheus text, each once: ``name{label, label}``."""
    found = set()
    for line in exposition.splitlines():
        if line.startswith("# TYPE execution_worker_"):
            found.add(line)
        elif line.startswith("execution_worker_"):
            name, _, labels = line.partition(" ")[0].partition("{")
            found.add(f"{name}{{{', '.join(_LABEL.findall(labels))}}}")
    return sorted(found)
