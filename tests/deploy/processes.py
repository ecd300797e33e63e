"""Worker processes as an operator runs them, on one server, with signals coming in."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import redis

from tests.deploy.tools import ROOT
from worker.runtime.embedded_server import free_port

PATIENCE_S: Final = 60.0
SYMBOLS: Final = tuple(
    f"{base}/USDT"
    for base in (
        "BTC", "ETH", "BNB", "SOL", "XRP", "ADA", "DOGE", "AVAX", "DOT", "LINK", "LTC", "BCH",
        "TRX", "UNI", "ATOM", "ETC", "XLM", "FIL", "NEAR", "APT", "ARB", "OP", "SUI", "INJ",
    )
)  # fmt: skip


def until(done: Callable[[], Any], what: str, *, seconds: float = PATIENCE_S) -> Any:
    """Ask until the answer is true.

    Raises:
        AssertionError: it never was.
    """
    deadline = time.monotonic() + seconds
    while True:
        answer = done()
        if answer:
            return answer
        assert time.monotonic() < deadline, f"{what}: not within {seconds:g} s"
        time.sleep(0.02)


class WorkerProcess:
    """One ``execution-worker run``; what it logs is kept in a file.

    Args:
        url: the ``redis.url``.
        log: where it logs to.
        settings: further environment, by key without the prefix (``WORKER__CONCURRENCY``).
        environ: further environment, as it is.
        program: the installed command; by default this checkout.
        before: what starts it.
    """

    def __init__(
        self,
        url: str,
        log: Path,
        settings: Mapping[str, str] | None = None,
        environ: Mapping[str, str] | None = None,
        *,
        program: Path | None = None,
        before: Sequence[str] = (),
    ) -> None:
        self.port = free_port()
        self.log = log
        own = {
            "REDIS__URL": url,
            "HTTP__PORT": str(self.port),
            "RISK__MAX_CONCURRENT_POSITIONS": "1000",
            "VALIDATION__MAX_SIGNAL_AGE_SECONDS": "600",
            "WORKER__CONCURRENCY": "16",
            "LOG__FORMAT": "json",
            "EXCHANGES__PAPER__PAPER__LATENCY_MS": "40",
            **(settings or {}),
        }
        clean = {name: value for name, value in os.environ.items() if not name.startswith("WORKER")}
        command = [str(program)] if program else [sys.executable, "-m", "worker"]
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [*before, *command, "run"],
                env=clean | {f"WORKER_{name}": value for name, value in own.items()}
                | dict(environ or {}),
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )  # fmt: skip

    def get(self, path: str) -> tuple[int, str]:
        """Status and body of one of its addresses; 0 where nothing listens yet."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def ready(self) -> bool:
        """Whether it says it is; fails if it has ended instead."""
        assert self.process.poll() is None, self.log.read_text()[-2000:]
        return self.get("/readyz")[0] == 200

    def stop(self) -> int:
        """Ask it to end, as a rollout does; its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE_S)

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


class Fleet:
    """The workers there are, and those there were."""

    def __init__(self, url: str, directory: Path, settings: Mapping[str, str]) -> None:
        self._url = url
        self._directory = directory
        self._settings = settings
        self.all: list[WorkerProcess] = []
        self.exit_codes: list[int] = []

    @property
    def running(self) -> list[WorkerProcess]:
        return [worker for worker in self.all if worker.process.poll() is None]

    def add(self) -> WorkerProcess:
        """Start one and wait until it is ready."""
        log = self._directory / f"worker-{len(self.all)}.log"
        worker = WorkerProcess(self._url, log, self._settings)
        self.all.append(worker)
        until(worker.ready, f"worker {len(self.all)} ready")
        return worker

    def remove(self, worker: WorkerProcess) -> None:
        """Stop one and keep its exit code."""
        self.exit_codes.append(worker.stop())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for worker in self.all:
            worker.kill()


class Load:
    """Signals at a steady pace: every symbol is opened, then closed, then opened again."""

    def __init__(self, client: redis.Redis, *, per_second: float) -> None:
        self._client = client
        self._pause = 1 / per_second
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.sent: list[str] = []

    def _run(self) -> None:
        while not self._stop.wait(self._pause):
            number = len(self.sent)
            signal_id = f"rehearsal-{number}"
            body = signal_body(signal_id, number)
            self._client.xadd("{main}:signals", {"data": json.dumps(body)})
            self.sent.append(signal_id)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()


def signal_body(signal_id: str, number: int) -> dict[str, Any]:
    """The ``number``-th signal: its symbol's turn to be opened or closed."""
    turn, place = divmod(number, len(SYMBOLS))
    body: dict[str, Any] = {
        "signal_id": signal_id,
        "created_at": datetime.now(UTC).isoformat(),
        "exchange": "paper",
        "symbol": SYMBOLS[place],
        "action": "close" if turn % 2 else "open",
    }
    if turn % 2 == 0:
        body |= {"direction": "long", "strength": 0.9, "confluence_score": 8}
    return body | {"entry_price": "100"}


def settled(client: redis.Redis) -> bool:
    """Whether every signal was claimed and has ended."""
    (group,) = client.xinfo_groups("{main}:signals")
    return bool(group["pending"] == 0 and group["lag"] == 0)


class Books:
    """What the output streams say, read once at the end."""

    def __init__(self, client: redis.Redis) -> None:
        self.orders = list(_events(client.xrange("{main}:orders") or ()))
        self.positions = list(_events(client.xrange("{main}:positions") or ()))
        self.dead = client.xlen("{main}:dead")

    def problems(self, sent: list[str]) -> list[str]:
        """What was lost or repeated, a sentence each."""
        found = []
        ends = Counter(e["signal_id"] for e in self.orders if e.get("terminal") is True)
        found += [f"{each} ended {ends[each]} times" for each in sent if ends[each] != 1]
        found += [f"{each} was never sent" for each in set(ends) - set(sent)]
        for name, events in (
            ("event id", [e["event_id"] for e in self.orders + self.positions]),
            ("order", [e["client_order_id"] for e in self.orders if e["type"] == "OrderPlaced"]),
        ):
            repeated = [each for each, times in Counter(events).items() if times > 1]
            found += [f"{name} {each} twice" for each in repeated]
        failed = Counter(e.get("code") for e in self.orders if e["type"] == "OrderFailed")
        found += [f"{times} orders failed with {code}" for code, times in failed.items()]
        if self.dead:
            found.append(f"{self.dead} dead letters")
        opened = sum(e["type"] == "PositionOpened" for e in self.positions)
        closed = sum(e["type"] == "PositionClosed" for e in self.positions)
        turns = [divmod(number, len(SYMBOLS))[0] % 2 for number in range(len(sent))]
        if (opened, closed) != (turns.count(0), turns.count(1)):
            found.append(f"{opened} opened and {closed} closed of {len(sent)} signals")
        return found

    @property
    def workers(self) -> set[str]:
        """Who ended a signal."""
        return {e["worker"] for e in self.orders if e.get("terminal") is True}


def _events(rows: Iterable[Any]) -> Iterable[dict[str, Any]]:
    for _, fields in rows:
        yield {**json.loads(fields[b"data"]), "type": fields[b"type"].decode()}
