"""A hostile producer beside an honest one, on the shipped server with real workers.

The server has the settings and users of deploy/redis, two workers trade on paper. For a time the
hostile producer sends whatever a producer may send (``tests.fuzz.entries``). Meanwhile each signal
of the honest one must trade within :data:`PATIENCE_S`, not counting time in which this machine
stood still, and nobody's memory may pass its limit. In the end every entry has ended, exactly once.

``make fuzz FUZZ_SECONDS=60 SEED=7``, or ``python -m tests.fuzz.producers --help``.
"""

import argparse
import json
import multiprocessing
import queue
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.acceptance.fleet import GROUP, WorkerProcess, toml, wait_until
from tests.acceptance.signals import now
from tests.deploy.redis_servers import REDIS, binary, make_users
from tests.fuzz.entries import HEAVY, KINDS, LIGHT, HostileEntries
from worker.runtime.embedded_server import DIE_WITH_PARENT, free_port

SIGNALS: Final = "{main}:signals"
WORKERS: Final = 2
#: An honest signal's time from its entry to its terminal event, at most.
PATIENCE_S: Final = 2.0
#: Resident memory, MiB: of each worker, and of the server with its maxmemory of 1 GiB.
WORKER_MIB, SERVER_MIB = 400, 1_200
#: How long everything may take to end once the hostile producer has stopped.
SETTLE_S: Final = 60.0
#: A pause of this process longer than so counts as the machine's standing still.
BEAT_S: Final = 0.02
_HONEST_SYMBOLS: Final = ("BTC/USDT", "ETH/USDT", "SOL/USDT", "XRP/USDT", "ADA/USDT", "LTC/USDT")
_HONEST_EVERY_S: Final = 0.1
_PAPER: Final[dict[str, dict[str, Any]]] = {
    "worker": {"lease_seconds": 5.0},
    "http": {"port": 0},
    "exchanges.paper": {"adapter": "paper", "market_types": ["spot", "linear"]},
    "exchanges.paper.paper": {"balance": "1000000000000"},
    "risk": {"max_concurrent_positions": 10_000},
    "log": {"format": "json"},
}


def paper_config() -> dict[str, dict[str, Any]]:
    """A worker's configuration without its server: it trades on paper."""
    return dict(_PAPER)


@dataclass
class Result:
    """What a run has seen; it is good without ``faults``."""

    seed: int
    hostile: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    honest: int = 0
    slowest_s: float = 0.0
    stood_still_s: float = 0.0
    peak_mib: dict[str, float] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        memory = ", ".join(f"{name} {mib:.0f} MiB" for name, mib in self.peak_mib.items())
        return (
            f"seed {self.seed}: {self.hostile.total()} hostile entries {dict(self.hostile)}, "
            f"{self.refused.total()} refused by the server {dict(self.refused)}; {self.honest} "
            f"honest signals, the slowest {self.slowest_s:.3f} s; the machine stood still for "
            f"{self.stood_still_s:.2f} s; at most {memory}"
        )


class Pulse:
    """Notices when this machine, or this process, stood still."""

    def __init__(self, stop: threading.Event) -> None:
        self._stop = stop
        self._beats = [time.monotonic()]

    def run(self) -> None:
        while not self._stop.wait(BEAT_S / 2):
            self._beats.append(time.monotonic())

    def stood_still_s(self, since: float, until: float) -> float:
        """The seconds of an interval beyond :data:`BEAT_S` between two beats."""
        beats = [beat for beat in tuple(self._beats) if since - 5 <= beat <= until + 5]
        inside = ((max(a, since), min(b, until)) for a, b in pairwise(beats) if b - a > BEAT_S)
        return sum(max(b - a, 0.0) for a, b in inside)


class Shipped:
    """A server run from deploy/redis/redis.conf, with the users of its ACL file."""

    def __init__(self, directory: Path, kind: str = "valkey") -> None:
        self._directory = directory
        self.port = free_port()
        make_users(directory)
        text = (REDIS / "redis.conf").read_text().replace("/etc/redis", str(directory))
        conf = directory / "redis.conf"
        conf.write_text(text.replace("dir /data", f"dir {directory}"))
        self._command = [binary(kind), str(conf), "--port", str(self.port), "--save", ""]
        self._command += ["--bind", "127.0.0.1", "--loglevel", "warning"]
        self.process: subprocess.Popen[bytes] | None = None

    @contextmanager
    def running(self) -> Iterator["Shipped"]:
        self.process = subprocess.Popen(
            self._command,
            stdout=subprocess.DEVNULL,
            preexec_fn=DIE_WITH_PARENT,  # noqa: PLW1509
        )
        try:
            wait_until(self._answers, "the server did not start", every_s=0.05)
            yield self
        finally:
            self.process.kill()
            self.process.wait()

    def _answers(self) -> bool:
        try:
            return bool(self.client("reader").ping())
        except redis.exceptions.RedisError:
            return False

    def password(self, user: str) -> str:
        return (self._directory / f"redis_{user}").read_text()

    def client(self, user: str) -> Any:
        """A client of one of the users."""
        return _client(self.port, user, self.password(user))

    def settings(self) -> dict[str, Any]:
        """What a worker needs to reach it."""
        return {
            "url": f"redis://127.0.0.1:{self.port}/0",
            "username": "worker",
            "password": self.password("worker"),
        }


class Hostile:
    """Sends a mix of hostile entries at a rate, in bursts, from a process of its own.

    What it costs to make them must not pass for this machine's standing still.
    """

    def __init__(
        self, server: Shipped, result: Result, kinds: tuple[str, ...], rate: float
    ) -> None:
        self._result = result
        spawn = multiprocessing.get_context("spawn")
        self._stop, self._counts = spawn.Event(), spawn.Queue()
        self._process = spawn.Process(
            target=_be_hostile,
            args=(server.port, server.password("producer"), result.seed, kinds, rate, self._stop,
                  self._counts),
            daemon=True,
        )  # fmt: skip
        self._process.start()

    @property
    def is_at_work(self) -> bool:
        return self._process.is_alive()

    def stop(self) -> None:
        """End it, and note what it has sent."""
        self._stop.set()
        try:
            self._result.hostile, self._result.refused = self._counts.get(timeout=60)
        except queue.Empty:
            self._result.faults.append("the hostile producer has died")
        self._process.join(10)


def _be_hostile(
    port: int,
    password: str,
    seed: int,
    kinds: tuple[str, ...],
    rate: float,
    stop: Any,
    counts: Any,
) -> None:
    client = _client(port, "producer", password)
    rng, entries = random.Random(seed), HostileEntries(seed, kinds)
    sent, refused = Counter[str](), Counter[str]()
    while not stop.is_set():
        burst = rng.choice((1, 5, 30))
        for _ in range(burst):
            kind, entry = entries.make()
            flat = [part for pair in entry.fields.items() for part in pair]
            try:
                client.execute_command("XADD", SIGNALS, entry.entry_id, *flat)
            except redis.exceptions.RedisError:
                refused[kind] += 1
            else:
                sent[kind] += 1
        stop.wait(burst / rate)
    counts.put((sent, refused))


def _client(port: int, user: str, password: str) -> Any:
    """A client that never repeats a command by itself."""
    return redis.Redis(
        port=port, username=user, password=password, protocol=2, retry=Retry(NoBackoff(), 0),
        socket_timeout=20,
    )  # fmt: skip


def patiently(ask: Callable[[], Any]) -> Any:
    """Ask the server, again while a script keeps it from answering: that time counts."""
    while True:
        try:
            return ask()
        except redis.exceptions.ResponseError as error:
            if "is busy running a script" not in str(error):
                raise
        time.sleep(BEAT_S)


class Honest:
    """Opens and closes positions in groups of its own, and times each signal."""

    def __init__(self, server: Shipped, result: Result, pulse: Pulse) -> None:
        self._producer, self._reader = server.client("producer"), server.client("reader")
        self._result, self._pulse = result, pulse
        self._lock = threading.Lock()
        self._open: dict[str, bool] = dict.fromkeys(_HONEST_SYMBOLS, False)
        #: What has not ended yet: when it was sent, and its symbol.
        self.waiting: dict[str, tuple[float, str]] = {}
        self._ended: set[str] = set()

    def send(self, stop: threading.Event) -> None:
        """Send a signal to a symbol that has none under way, again and again."""
        while not stop.wait(_HONEST_EVERY_S):
            with self._lock:
                busy = {symbol for _, symbol in self.waiting.values()}
                free = [symbol for symbol in _HONEST_SYMBOLS if symbol not in busy]
            if free:
                self._send(free[self._result.honest % len(free)])

    def _send(self, symbol: str) -> None:
        self._result.honest += 1
        name = f"honest-{self._result.honest}"
        signal: dict[str, Any] = {
            "signal_id": name, "created_at": now(), "exchange": "paper", "symbol": symbol,
            "entry_price": "100", "expires_at": now(600),
        }  # fmt: skip
        if self._open[symbol]:
            signal["action"] = "close"
        else:
            signal |= {
                "direction": "long", "strength": 0.9, "confluence_score": 8, "quantity": "1",
            }  # fmt: skip
        self._open[symbol] = not self._open[symbol]
        with self._lock:
            self.waiting[name] = (time.monotonic(), symbol)
        entry = {"data": json.dumps(signal)}
        patiently(lambda: self._producer.xadd(SIGNALS, entry))

    def read(self, stop: threading.Event) -> None:
        """Read events as they come, until told to stop."""
        place = b"0"
        while not stop.is_set():
            orders = {"{main}:orders": place}
            reply = patiently(partial(self._reader.xread, orders, count=1_000, block=100))
            for _, rows in reply or ():
                place = rows[-1][0]
                for _, fields in rows:
                    if fields[b"subject"].startswith(b"honest-"):
                        self._note(fields[b"subject"].decode(), fields)

    def _note(self, name: str, fields: dict[bytes, bytes]) -> None:
        event = json.loads(fields[b"data"])
        if event.get("terminal") is not True:
            return
        at = time.monotonic()
        if name in self._ended:
            self._result.faults.append(f"{name} ended twice")
            return
        self._ended.add(name)
        with self._lock:
            sent, _ = self.waiting.pop(name)
        took_s = at - sent - self._pulse.stood_still_s(sent, at)
        self._result.slowest_s = max(self._result.slowest_s, took_s)
        if took_s > PATIENCE_S:
            self._result.faults.append(f"{name} took {took_s:.2f} s")
        if event["type"] != "OrderFilled":
            self._result.faults.append(f"{name} ended as {event}")


def run(seconds: float, seed: int, kinds: Sequence[str] = LIGHT, rate: float = 100.0) -> Result:
    """Run once.

    Args:
        seconds: how long the hostile producer is at work.
        seed: of its entries.
        kinds: of entries, names of ``tests.fuzz.entries.KINDS``.
        rate: hostile entries a second.
    """
    result, stop, end = Result(seed), threading.Event(), threading.Event()
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fuzz-")))
        server = stack.enter_context(Shipped(directory).running())
        config = directory / "worker.toml"
        config.write_text(toml(_PAPER, {"redis": server.settings()}))
        workers = [WorkerProcess(config, directory / f"worker-{n}.log") for n in range(WORKERS)]
        for worker in workers:
            stack.callback(worker.close)
        for worker in workers:
            worker.until_ready()
        pulse = Pulse(end)
        honest = Honest(server, result, pulse)
        threads = [
            threading.Thread(target=target, args=arguments, daemon=True)
            for target, arguments in (
                (pulse.run, ()),
                (honest.send, (stop,)),
                (honest.read, (end,)),
            )
        ]
        for thread in threads:
            thread.start()
        hostile = Hostile(server, result, tuple(kinds), rate)
        begun = time.monotonic()
        while time.monotonic() < begun + seconds and hostile.is_at_work:
            _weigh(result, server, workers)
            time.sleep(0.2)
        if not all(thread.is_alive() for thread in threads):
            result.faults.append("the honest producer or its reader has died")
        stop.set()
        hostile.stop()
        threads[1].join(30)
        _settle(result, server, workers, honest)
        end.set()
        threads[2].join(30)
        result.stood_still_s = pulse.stood_still_s(begun, time.monotonic())
    return result


def _weigh(result: Result, server: Shipped, workers: Sequence[WorkerProcess]) -> None:
    """Note the memory of everybody, once a fault if it is too much."""
    assert server.process is not None
    pids = {"server": server.process.pid} | {f"worker {n}": w.pid for n, w in enumerate(workers)}
    for name, pid in pids.items():
        status = Path(f"/proc/{pid}/status").read_text()
        found = [line for line in status.splitlines() if line.startswith("VmRSS:")]
        before, limit = result.peak_mib.get(name, 0.0), WORKER_MIB
        mib = int(found[0].split()[1]) / 1024 if found else 0.0  # none once it has ended
        if name == "server":
            limit = SERVER_MIB
        if before <= limit < mib:
            result.faults.append(f"{name} has {mib:.0f} MiB, more than {limit}")
        result.peak_mib[name] = max(before, mib)


def _settle(
    result: Result, server: Shipped, workers: Sequence[WorkerProcess], honest: Honest
) -> None:
    """Wait until every entry has ended, and compare their number with what was sent."""
    reader = server.client("reader")

    def is_quiet() -> bool:
        (group,) = (one for one in reader.xinfo_groups(SIGNALS) if one["name"] == GROUP.encode())
        newest = reader.xrevrange(SIGNALS, count=1)
        is_delivered = not newest or newest[0][0] == group["last-delivered-id"]
        _weigh(result, server, workers)
        return is_delivered and group["pending"] == 0 and not honest.waiting

    try:
        wait_until(is_quiet, "entries are left", timeout_s=SETTLE_S, every_s=0.1)
    except AssertionError as error:
        waiting = sorted(honest.waiting)[:5]
        result.faults.append(f"{error} {SETTLE_S:g} s later; honest ones that wait: {waiting}")
        return
    left = {name: reader.hgetall(f"{{main}}:{name}") for name in ("entries", "verdicts")}
    result.faults += [f"{name} has {rows}" for name, rows in left.items() if rows]
    sent = result.hostile.total() + result.honest
    ended = sum(worker.metric("signals_ended_total") for worker in workers)
    if ended != sent:
        result.faults.append(f"{sent} entries were sent, {ended:.0f} ended")
    for number, worker in enumerate(workers):
        if not worker.running:
            result.faults.append(f"worker {number} is gone: {worker.lines[-3:]}")
        for kind in ("delivery_failed", "worker_failed"):
            failed = worker.logged(kind)
            if failed:
                result.faults.append(f"worker {number} logged {failed[0]}")


def main(arguments: Sequence[str]) -> int:
    """Run as the command line says; 1 if anything was not as it must be."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1_000_000))
    parser.add_argument("--rate", type=float, default=100.0, help="hostile entries a second")
    parser.add_argument("--kinds", nargs="+", choices=tuple(KINDS), default=LIGHT)
    parser.add_argument("--heavy", action="store_true", help=f"also {', '.join(HEAVY)}")
    options = parser.parse_args(arguments)
    kinds = (*options.kinds, *HEAVY) if options.heavy else tuple(options.kinds)
    result = run(options.seconds, options.seed, kinds, options.rate)
    print(result)
    for fault in result.faults:
        print(f"FAULT {fault[:1_000]}")
    return 1 if result.faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
