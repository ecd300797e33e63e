"""Real worker processes on a real server and the simulated exchange, and the commands beside them.

Nothing here looks into a worker: it is started, signalled and killed as a process, and what it does
is read from its log, its HTTP port, the streams, and the exchange's own list of orders.
"""

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import redis

from tests.exchange_simulator.client import ControlClient
from worker.ledger.stored import decode_record

ROOT = Path(__file__).resolve().parents[2]
GROUP = "execution"
#: How long anything may take that a test waits for; nothing comes near it unless it is broken.
PATIENCE_S = 40.0

Tables = Mapping[str, Mapping[str, Any]]

#: Fast enough for tests, and still legal: a request (0.8 s with its margin) fits half a lease.
DEFAULTS: Tables = {
    "": {"mode": "live"},
    "worker": {"lease_seconds": 2.0, "drain_seconds": 10.0},
    "http": {"port": 0},
    "exchanges.binance": {
        "adapter": "ccxt",
        "api_key": "sim-key",
        "secret": "sim-secret",
        "market_types": ["spot", "linear"],
        "recv_window_ms": 600,
        "timeout_ms": 1_000,
    },
    "validation": {"max_signal_age_seconds": 120},
    "risk": {"max_concurrent_positions": 1_000},
    "execution": {"skew_margin_ms": 200, "max_lookup_seconds": 5, "base_delay": 0.2},
    "reconciliation": {"max_wait_time": 1.0, "poll_interval": 0.1},
}


#: For workers that create orders over a WebSocket.
WEBSOCKET: Tables = {"exchanges.binance": {"order_transport": "websocket"}}


def at(url: str) -> dict[str, str]:
    """The settings of an exchange at ``url``, for requests and for WebSockets."""
    return {"base_url": url, "ws_base_url": url.replace("http:", "ws:")}


class WaitError(AssertionError):
    """Something that must happen did not happen in time."""


def toml(*layers: Tables) -> str:
    """Tables as a TOML document; later layers win key by key. JSON's scalars and lists are TOML."""
    merged: dict[str, dict[str, Any]] = {}
    for layer in layers:
        for name, keys in layer.items():
            merged.setdefault(name, {}).update(keys)
    lines = []
    for name, keys in merged.items():
        lines += [f"[{name}]"] if name else []
        lines += [f"{key} = {json.dumps(value)}" for key, value in keys.items()]
    return "\n".join(lines) + "\n"


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of this process without any of the worker's own variables."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("WORKER_")}
    return clean | {"COLUMNS": "200"} | dict(extra or {})


def command(*arguments: str, stdin: str = "") -> "subprocess.CompletedProcess[str]":
    """Run one command of the program to its end."""
    return subprocess.run(
        [sys.executable, "-m", "worker", *arguments],
        env=environment(),
        cwd=ROOT,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


class WorkerProcess:
    """``execution-worker run`` as a process; its log is read line by line as it is written.

    Args:
        config: the TOML file.
        log: where its log is kept.
    """

    def __init__(self, config: Path, log: Path) -> None:
        self.log_path = log
        self.lines: list[str] = []
        self.events: list[dict[str, Any]] = []
        self._grown = threading.Condition()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "worker", "run", "--config", str(config)],
            env=environment(),
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self.log_path.open("w", buffering=1) as copy:
            for line in self._process.stdout:
                copy.write(line)
                with self._grown:
                    self.lines.append(line)
                    if line.startswith("{"):
                        self.events.append(json.loads(line))
                    self._grown.notify_all()
        with self._grown:
            self._grown.notify_all()

    def __repr__(self) -> str:
        return f"<worker {self.pid}, exit {self._process.poll()}, log {self.log_path}>"

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def logged(self, event: str, **fields: Any) -> list[dict[str, Any]]:
        """The log's events of that name with those fields."""
        with self._grown:
            found = list(self.events)
        return [
            one
            for one in found
            if one.get("event") == event and all(one.get(k) == v for k, v in fields.items())
        ]

    def until_logged(
        self, event: str, *, timeout_s: float = PATIENCE_S, **fields: Any
    ) -> dict[str, Any]:
        """Wait for an event of the log, and return the first."""
        deadline = time.monotonic() + timeout_s
        while not (found := self.logged(event, **fields)):
            left = deadline - time.monotonic()
            if left <= 0 or not (self.running or self._reader.is_alive()):
                raise WaitError(f"{self!r} never logged {event}: {''.join(self.lines[-10:])}")
            with self._grown:
                self._grown.wait(min(left, 0.1))
        return found[0]

    def until_ready(self) -> Self:
        """Wait until it claims signals."""
        self.until_logged("http_listening")
        wait_until(
            lambda: self.readiness()[0] == 200,
            f"{self!r} is not ready: {self.lines[-5:]}",
            every_s=0.05,
        )
        return self

    def get(self, path: str) -> tuple[int, str]:
        """One HTTP request to the worker; status 0 where it does not listen (yet)."""
        listening = self.logged("http_listening")
        if not listening:
            return 0, ""
        connection = http.client.HTTPConnection("127.0.0.1", listening[0]["port"], timeout=5)
        try:
            connection.request("GET", path)
            reply = connection.getresponse()
            return reply.status, reply.read().decode()
        except OSError:
            return 0, ""
        finally:
            connection.close()

    def readiness(self) -> tuple[int, dict[str, Any]]:
        """Status and body of ``/readyz``."""
        status, body = self.get("/readyz")
        return status, json.loads(body) if body else {}

    def metric(self, name: str) -> float:
        """The sum of a metric's samples; 0 where there is none."""
        _, body = self.get("/metrics")
        return sum(
            float(line.rpartition(" ")[2])
            for line in body.splitlines()
            if line.startswith((f"execution_worker_{name} ", f"execution_worker_{name}{{"))
        )

    def kill(self) -> None:
        """As a crash would: SIGKILL, and gone."""
        self._process.kill()
        self._process.wait(PATIENCE_S)

    def pause(self) -> None:
        """SIGSTOP."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        self._process.send_signal(signal.SIGCONT)

    def tell(self, number: signal.Signals) -> None:
        """Any other signal."""
        self._process.send_signal(number)

    def wait(self, timeout_s: float = PATIENCE_S) -> int:
        """Wait for its end; returns the exit code."""
        code = self._process.wait(timeout_s)
        self._reader.join(5)
        return code

    def stop(self, timeout_s: float = PATIENCE_S) -> int:
        """SIGTERM, and wait for its end; returns the exit code."""
        self.tell(signal.SIGTERM)
        return self.wait(timeout_s)

    def close(self) -> None:
        """Make sure that nothing of it is left."""
        if self.running:
            self._process.kill()
        self._process.wait(PATIENCE_S)
        self._reader.join(5)
        if self._process.stdout is not None:
            self._process.stdout.close()


class Fleet:
    """Workers on one account, with the server and the exchange they use; ``with`` ends them all.

    Args:
        directory: for configuration and logs.
        redis_url: the server as the workers reach it.
        server_port: the server as the test reaches it.
        exchange: the simulated exchange.
        settings: configuration on top of :data:`DEFAULTS`.
        password: the server's, where it has one.
    """

    def __init__(
        self,
        directory: Path,
        *,
        redis_url: str,
        server_port: int,
        exchange: ControlClient,
        settings: Tables | None = None,
        password: str | None = None,
    ) -> None:
        self.directory = directory
        self.exchange = exchange
        self.workers: list[WorkerProcess] = []
        self.config = directory / "worker.toml"
        self.layers: tuple[Tables, ...] = (
            DEFAULTS,
            {"redis": {"url": redis_url}, "exchanges.binance": at(exchange.url)},
            settings or {},
        )
        self.config.write_text(toml(*self.layers))
        self.redis = redis.Redis(
            host="127.0.0.1", port=server_port, password=password, socket_timeout=10
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for worker in self.workers:
            worker.close()
        self.redis.close()

    # ---- workers ------------------------------------------------------------------------------

    def start(self, settings: Tables | None = None) -> WorkerProcess:
        """Start one more worker, with other settings where given; it is not waited for."""
        number = len(self.workers)
        config = self.config
        if settings:
            config = self.directory / f"worker-{number}.toml"
            config.write_text(toml(*self.layers, settings))
        worker = WorkerProcess(config, self.directory / f"worker-{number}.log")
        self.workers.append(worker)
        return worker

    def start_ready(self, count: int) -> list[WorkerProcess]:
        """Start several and wait until all of them claim signals."""
        started = [self.start() for _ in range(count)]
        return [worker.until_ready() for worker in started]

    def command(self, *arguments: str, stdin: str = "") -> str:
        """The output of a command that must succeed."""
        done = command(*arguments, "--config", str(self.config), stdin=stdin)
        assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
        return done.stdout

    # ---- streams ------------------------------------------------------------------------------

    def ask(self, *words: Any) -> Any:
        """One command to the server."""
        return self.redis.execute_command(*words)

    def submit(self, *signals: Mapping[str, Any]) -> list[str]:
        """Put signals on the stream as a producer does; returns the entries' ids."""
        return [self.push(data=json.dumps(one)) for one in signals]

    def push(self, **fields: str | bytes) -> str:
        """Put an entry with just these fields on the stream."""
        flat = [part for pair in fields.items() for part in pair]
        entry_id: bytes = self.ask("XADD", "{main}:signals", "*", *flat)
        return entry_id.decode()

    def entries(self, stream: str) -> list[dict[str, Any]]:
        """Every entry of an output stream, oldest first: its fields, ``data`` decoded."""
        return [
            {name.decode(): _value(name, value) for name, value in fields.items()}
            for _, fields in self.ask("XRANGE", f"{{main}}:{stream}", "-", "+")
        ]

    def events(self, stream: str = "orders", kind: str = "") -> list[dict[str, Any]]:
        """Every event of a stream (of one type)."""
        return [
            entry["data"]
            for entry in self.entries(stream)
            if stream != "dead" and kind in {"", entry["type"]}
        ]

    def ends(self) -> dict[str, list[dict[str, Any]]]:
        """The terminal events of each signal."""
        found: dict[str, list[dict[str, Any]]] = {}
        for event in self.events():
            if event.get("terminal") is True:
                found.setdefault(event["signal_id"], []).append(event)
        return found

    def pending(self) -> int:
        """How many entries are delivered and not acknowledged."""
        return int(self.ask("XPENDING", "{main}:signals", GROUP)["pending"])

    def undelivered(self) -> int:
        """How many entries no worker was given yet."""
        for group in self.ask("XINFO GROUPS", "{main}:signals"):
            if group["name"] == GROUP.encode():
                last = group["last-delivered-id"]
                return len(self.ask("XRANGE", "{main}:signals", b"(" + last, "+", "COUNT", 10))
        return int(self.ask("XLEN", "{main}:signals"))

    def until_ended(
        self, signal_ids: Iterable[str], *, timeout_s: float = PATIENCE_S
    ) -> dict[str, dict[str, Any]]:
        """Wait until each of the signals has ended; returns their terminal events.

        Follows the stream from its start, so that a second terminal event fails here, too.
        """
        wanted, place, deadline = set(signal_ids), b"0", time.monotonic() + timeout_s
        found: dict[str, dict[str, Any]] = {}
        while not wanted <= found.keys():
            if time.monotonic() > deadline:
                missing = sorted(wanted - found.keys())
                raise WaitError(f"no end of {len(missing)} signals: {missing[:10]}")
            reply = self.ask(
                "XREAD", "COUNT", 1000, "BLOCK", 200, "STREAMS", "{main}:orders", place
            )
            for rows in dict(reply or {}).values():
                for entry_id, fields in rows:
                    place = entry_id
                    event = json.loads(fields[b"data"])
                    if event.get("terminal") is True:
                        assert event["signal_id"] not in found, f"two ends: {event}"
                        found[event["signal_id"]] = event
        return {signal_id: found[signal_id] for signal_id in wanted}

    def until_dead(self, count: int) -> list[dict[str, Any]]:
        """Wait for ``count`` dead letters; returns their fields."""
        wait_until(lambda: self.ask("XLEN", "{main}:dead") >= count, f"no {count} dead letters")
        return self.entries("dead")

    def until_quiet(self, timeout_s: float = PATIENCE_S) -> None:
        """Wait until every entry is delivered and acknowledged."""
        wait_until(
            lambda: self.undelivered() == 0 and self.pending() == 0,
            "signals are left",
            timeout_s=timeout_s,
        )

    def records(self) -> dict[str, str]:
        """The state of each signal's execution record, for tests that wait for a moment."""
        found: dict[str, str] = {}
        for key in self.ask("KEYS", "{main}:record:*"):
            raw = self.ask("GET", key)
            if raw is not None:
                found[key.decode().partition(":record:")[2]] = decode_record(raw).state
        return found


def _value(name: bytes, value: bytes) -> Any:
    if name != b"data":
        return value.decode(errors="replace")
    try:
        return json.loads(value)
    except ValueError:
        return value


def wait_until(
    condition: Callable[[], object],
    otherwise: str,
    *,
    timeout_s: float = PATIENCE_S,
    every_s: float = 0.01,
) -> None:
    """Wait until ``condition`` holds, for what no stream or log announces."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise WaitError(otherwise)
        time.sleep(every_s)


def run_quickly(arguments: Sequence[str], timeout_s: float = 20.0) -> tuple[int, str]:
    """A program that should end by itself soon: its exit code, and everything it said."""
    done = subprocess.run(
        [sys.executable, "-m", "worker", *arguments],
        env=environment(),
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    return done.returncode, done.stdout
