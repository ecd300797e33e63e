"""Everything goes wrong at once, at random from a seed; at the end the books must still agree.

Real worker processes, a real server (append-only file, fsync always) behind a TCP proxy, the
simulated exchange with every fault it knows. Workers are killed (SIGKILL) or frozen past their
leases (SIGSTOP, SIGCONT), the server is killed and restarted, connections are cut, stalled, and
lose replies. Every other worker creates its orders over a WebSocket. Then the faults stop,
everything must finish, and the audit compares every event with the exchange's own list of orders.

``make chaos SIGNALS=2000 SEED=7``, or ``python -m tests.acceptance.chaos --help``.
"""

import argparse
import heapq
import json
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import redis

from tests.acceptance import signals
from tests.acceptance.audit import Audit, Tally
from tests.acceptance.fleet import WEBSOCKET, Fleet, Tables, WorkerProcess
from tests.acceptance.signals import Market, Signal
from tests.exchange_simulator.client import ControlClient, simulator_process
from tests.tcp_proxy import ProxyThread
from worker.runtime.embedded_server import EmbeddedServer

WORKERS = 3
SYMBOLS = 40
MAX_POSITIONS = 32
LEASE_S = 3.0
#: How long everything may take to finish once the faults have stopped.
SETTLE_S = 120.0

SETTINGS: Tables = {
    "worker": {"lease_seconds": LEASE_S, "max_deliveries": 10},
    "exchanges.binance": {"recv_window_ms": 1_000, "timeout_ms": 1_500},
    "risk": {"max_concurrent_positions": MAX_POSITIONS},
    "execution": {
        "skew_margin_ms": 300,
        "max_lookup_seconds": 4,
        "base_delay": 0.2,
        "max_rest_seconds": 1.0,
    },
    "updates": {"poll_seconds": 0.1},
    "reconciliation": {"max_wait_time": 1.0, "poll_interval": 0.1},
}

_CREATE = {
    "method": "POST", "path": r"/(ws-)?(api|fapi)/v./(order|algoOrder)(\.place)?$",
}  # fmt: skip
_READ = {"method": "GET", "path": "/(api|fapi)/v./(order|algoOrder|myTrades|userTrades)$"}
_CANCEL = {"method": "DELETE", "path": "/(api|fapi)/v./(order|algoOrder)$"}
_ELSE = {"method": "GET", "path": "/(ticker|account|balance|time|positionRisk)"}
#: Replies that leave the outcome open: they come before or after the order took effect.
_OPEN_ENDED = ("502_html", "504_html", "503_unknown", "500_1006", "408_1007", "503_1007")
#: Replies that are a definite no: they only come before.
_DEFINITE = (
    "403_waf", "503_service_unavailable", "503_1001", "503_1008", "400_1016", "401_2015",
)  # fmt: skip
_THROTTLES = ("429", "418", "429_1015", "429_1003", "400_1015")


def exchange_faults(rng: random.Random) -> list[dict[str, Any]]:
    """Every fault the simulator knows, each at a rate of its own."""

    def rate(most: float) -> float:
        return rng.uniform(most / 4, most)

    rules: list[dict[str, Any]] = []
    for where, most in ((_CREATE, 0.02), (_READ, 0.01), (_CANCEL, 0.03), (_ELSE, 0.003)):
        spoils: list[tuple[dict[str, Any], float]] = [
            ({"action": action, "hang_ms": 3_000}, most)
            for action in (
                "drop_before", "drop_after", "no_reply_before", "no_reply_after", "cut_response",
                "empty_200", "truncated_json_200",
            )
        ]  # fmt: skip
        spoils += [
            ({"preset": preset, "when": when}, most / 4)
            for preset in _OPEN_ENDED
            for when in ("before", "after")
        ]
        spoils += [({"preset": preset}, most / 8) for preset in _DEFINITE]
        pause = {"Retry-After": "1"}
        spoils += [({"preset": preset, "headers": pause}, most / 20) for preset in _THROTTLES]
        spoils += [
            ({"delay_ms": rng.randrange(50, 900)}, most),
            # Longer than the request may live: the exchange itself must refuse it.
            ({"delay_ms": rng.randrange(1_100, 1_400)}, most),
            ({"delay_after_ms": rng.randrange(50, 2_000)}, most),
        ]
        rules += [{**where, **spoil, "probability": rate(often)} for spoil, often in spoils]
    for code, text in (
        (-2010, "Account has insufficient balance for requested action."),
        (-1013, "Filter failure: LOT_SIZE"),
        (-1021, "Timestamp for this request is outside of the recvWindow."),
    ):
        rules.append(
            {**_CREATE, "action": "reject", "code": code, "msg": text, "probability": 0.004}
        )
    rules += [
        {**_CREATE, "late_visibility_ms": rng.randrange(300, 1_700), "probability": 0.05},
        {**_CREATE, "slow_fill_ms": rng.randrange(100, 2_500), "probability": 0.05},
        {**_CREATE, "partial_fill": "0.5", "probability": 0.04},
        {**_CREATE, "partial_fill": "0", "probability": 0.02},
    ]
    return rules


class Producer:
    """Makes signals over all symbols, and puts them on the stream while the server comes and goes.

    Some are sent twice, some reuse an id for something else, some are no signals at all.
    """

    def __init__(self, fleet: Fleet, rng: random.Random, count: int) -> None:
        self._fleet, self._rng = fleet, rng
        names = [signals.linear(n) if n % 3 else signals.spot(n) for n in range(SYMBOLS)]
        self._markets = signals.markets(fleet.exchange.call("GET", "prices"), names)
        self._busy: set[str] = set()
        self._count = count
        #: What is certainly on the stream, in its order.
        self.sent: dict[str, Signal] = {}
        self.repeated = self.conflicting = self.malformed = 0

    @property
    def done(self) -> bool:
        return len(self.sent) >= self._count

    def produce(self) -> None:
        """Put one more signal on the stream, however long that takes; now and then some extra."""
        name = f"x{len(self.sent):05d}"
        signal = self._make(name)
        self._put(json.dumps(signal))
        self.sent[name] = signal
        lot = self._rng.random()
        if lot < 0.02:
            self.repeated += 1
            self._put(json.dumps(signal))
        elif lot < 0.03:
            self.conflicting += 1
            self._put(json.dumps(signal | {"strategy_id": "another"}))
        elif lot < 0.04:
            self.malformed += 1
            self._put(json.dumps(signal | {"signal_id": f"m{name}", "stop_los": "1"}))

    def _make(self, name: str) -> Signal:
        rng = self._rng
        market: Market = rng.choice(self._markets)
        if market.symbol in self._busy:
            self._busy.discard(market.symbol)
            part = {"quantity": "0.5"} if rng.random() < 0.05 else {}
            signal = signals.closing(name, market.symbol, **part)
        elif rng.random() < 0.05:
            signal = signals.resting(market, name)
        elif rng.random() < 0.03:
            signal = signals.waiting(market, name)
        else:
            self._busy.add(market.symbol)
            signal = signals.filling(rng, market, name)
        life_s = rng.uniform(0.5, 4) if rng.random() < 0.05 else 600
        return signal | {"expires_at": signals.now(life_s)}

    def _put(self, data: str) -> None:
        """Once for certain: an entry whose reply was lost is looked for before it is sent again."""
        before = b"0"
        while True:
            try:
                before = self._last_id()
                break
            except (redis.ConnectionError, redis.TimeoutError):
                time.sleep(0.02)
        while True:
            try:
                rows = self._fleet.ask("XRANGE", "{main}:signals", b"(" + before, "+")
                if not rows:
                    self._fleet.push(data=data)
            except (redis.ConnectionError, redis.TimeoutError):
                time.sleep(0.02)
            else:
                return

    def _last_id(self) -> bytes:
        rows = self._fleet.ask("XREVRANGE", "{main}:signals", "+", "-", "COUNT", 1)
        return rows[0][0] if rows else b"0-0"


@dataclass
class Damage:
    """What was done to the fleet, and how often it had to recover."""

    kills: int = 0
    pauses: int = 0
    server_restarts: int = 0
    cuts: int = 0
    stalls: int = 0
    lost_replies: int = 0
    outages: int = 0
    takeovers: int = 0
    retries: int = 0


@dataclass(order=True)
class _Later:
    """Something to be undone at a time."""

    at: float
    undo: Callable[[], None] = field(compare=False)


class Chaos:
    """One run.

    Args:
        directory: for logs and the server's files; kept by whoever made it.
        seed: of everything random here; the operating system adds its own.
        count: how many signals.
        disturbances: how many kills and pauses of workers there are at least.
        every_s: the mean time from one disturbance to the next.
    """

    def __init__(
        self, directory: Path, *, seed: int, count: int, disturbances: int, every_s: float = 1.5
    ) -> None:
        self._directory = directory
        self._rng = random.Random(seed)
        self._seed, self._count = seed, count
        self._wanted, self._every_s = disturbances, every_s
        self._later: list[_Later] = []
        self._frozen: set[WorkerProcess] = set()
        self.damage = Damage()
        self.wall_s = 0.0

    def run(self) -> Tally:
        """Do it all; the tally's ``breaches`` say what went wrong."""
        started = time.monotonic()
        with ExitStack() as stack:
            self._server = stack.enter_context(
                EmbeddedServer(
                    arguments=("--appendonly", "yes", "--appendfsync", "always"),
                    directory=self._directory,
                )
            )
            self._proxy = stack.enter_context(ProxyThread("127.0.0.1", self._server.port))
            self._exchange: ControlClient = stack.enter_context(
                simulator_process(
                    "--symbols", str(SYMBOLS), "--quote-balance", "10000000",
                    "--fills-per-order", "2", "--seed", str(self._seed),
                )
            )  # fmt: skip
            self._fleet = stack.enter_context(
                Fleet(
                    self._directory,
                    redis_url=f"redis://127.0.0.1:{self._proxy.port}/0",
                    server_port=self._server.port,
                    exchange=self._exchange,
                    settings=SETTINGS,
                )
            )
            self._alive = [self._start() for _ in range(WORKERS)]
            for worker in self._alive:
                worker.until_ready()
            producer = Producer(self._fleet, random.Random(self._seed + 1), self._count)
            self._disturb(producer)
            self._mend()
            tally = self._settle(producer)
        self.wall_s = time.monotonic() - started
        return tally

    def _start(self) -> WorkerProcess:
        """One more worker; every other one creates its orders over a WebSocket."""
        over_websocket = len(self._fleet.workers) % 2 == 1
        return self._fleet.start(WEBSOCKET if over_websocket else None)

    # ---- while it lasts -------------------------------------------------------------------------

    def _disturb(self, producer: Producer) -> None:
        """Signals at an even pace, and one disturbance after the other."""
        self._exchange.call("POST", "faults", rules=exchange_faults(self._rng))
        self._weather()
        length_s = self._wanted * self._every_s * 1.5
        pace_s = length_s / self._count
        failed: list[BaseException] = []

        def produce() -> None:
            try:
                due = time.monotonic()
                while not producer.done:
                    producer.produce()
                    due += pace_s
                    time.sleep(max(due - time.monotonic(), 0.0))
            except BaseException as error:
                failed.append(error)
                raise

        thread = threading.Thread(target=produce, daemon=True)
        thread.start()
        following = time.monotonic()
        while thread.is_alive() or self.damage.kills + self.damage.pauses < self._wanted:
            now = time.monotonic()
            while self._later and self._later[0].at <= now:
                heapq.heappop(self._later).undo()
            if now >= following:
                following = now + self._rng.uniform(0.3, 1.7) * self._every_s
                self._strike()
            waits = [following - time.monotonic()]
            waits += [self._later[0].at - time.monotonic()] if self._later else []
            time.sleep(max(min(waits), 0.0))
        thread.join()
        if failed:
            raise failed[0]

    def _strike(self) -> None:
        blows = [self._kill, self._freeze, self._crash_server, self._cut, self._stall,
                 self._lose_reply, self._outage]  # fmt: skip
        self._rng.choices(blows, weights=(8, 8, 3, 2, 2, 4, 2))[0]()

    def _after(self, seconds: float, undo: Callable[[], None]) -> None:
        heapq.heappush(self._later, _Later(time.monotonic() + seconds, undo))

    def _kill(self) -> None:
        """SIGKILL one worker and start another in its place."""
        victim = self._rng.choice(self._alive)
        victim.kill()
        self._frozen.discard(victim)
        self._alive.remove(victim)
        self._alive.append(self._start())
        self.damage.kills += 1

    def _freeze(self) -> None:
        """SIGSTOP one worker until its leases are surely gone, then let it wake up."""
        candidates = [worker for worker in self._alive if worker not in self._frozen]
        if len(candidates) < 2:
            return self._kill()
        victim = self._rng.choice(candidates)
        victim.pause()
        self._frozen.add(victim)
        self.damage.pauses += 1
        self._after(LEASE_S + self._rng.uniform(0.1, 2.0), lambda: self._thaw(victim))
        return None

    def _thaw(self, worker: WorkerProcess) -> None:
        if worker in self._frozen:
            self._frozen.discard(worker)
            worker.resume()

    def _crash_server(self) -> None:
        """SIGKILL the server; its append-only file is what comes back."""
        if self._server.process is None or self._server.process.poll() is not None:
            return
        self._server.kill()
        self.damage.server_restarts += 1
        self._after(self._rng.uniform(0.0, 1.5), self._revive_server)

    def _revive_server(self) -> None:
        if self._server.process is None or self._server.process.poll() is not None:
            self._server.start()

    def _cut(self) -> None:
        self._proxy.command("cut")
        self.damage.cuts += 1

    def _stall(self) -> None:
        """Nothing gets through, and nothing says so."""
        self._proxy.command("stall")
        self.damage.stalls += 1
        self._after(self._rng.uniform(0.2, LEASE_S + 1), self._clear_up)

    def _clear_up(self) -> None:
        self._proxy.command("pass")
        self._weather()

    def _lose_reply(self) -> None:
        self._proxy.command("swallow", chunks=self._rng.randrange(1, 5))
        self.damage.lost_replies += 1

    def _weather(self) -> None:
        """What is always so: some delay, now and then a cut or a lost reply."""
        seed = self._rng.randrange(1 << 30)
        self._proxy.command("chaos", seed=seed, cut=0.0005, lose_reply=0.001, max_delay_ms=3)

    def _outage(self) -> None:
        """The exchange answers nobody for a while."""
        rule = self._exchange.add_fault(path="^/", action="drop_before")
        self.damage.outages += 1
        self._after(
            self._rng.uniform(0.5, 6.0), lambda: self._exchange.call("DELETE", f"faults?id={rule}")
        )

    # ---- afterwards -----------------------------------------------------------------------------

    def _mend(self) -> None:
        """End every fault; as many workers as at the start."""
        self._later.clear()
        self._exchange.clear_faults()
        self._revive_server()
        self._proxy.command("pass")
        for worker in list(self._frozen):
            self._thaw(worker)

    def _settle(self, producer: Producer) -> Tally:
        """Wait until all is quiet, stop the workers, and audit."""
        complaint = ""
        try:
            self._fleet.until_ended(producer.sent, timeout_s=SETTLE_S)
            self._fleet.until_quiet(SETTLE_S)
        except AssertionError as error:
            complaint = str(error)
        self._count_recoveries()
        tally = Audit(self._fleet, producer.sent).run(max_positions=MAX_POSITIONS)
        if complaint:
            tally.breaches.insert(0, complaint)
        expected = producer.malformed + producer.conflicting
        reasons = [letter["reason"] for letter in self._fleet.entries("dead")]
        by_form = [reason for reason in reasons if reason in {"malformed", "conflict"}]
        if len(by_form) != expected:
            tally.breaches.append(f"{len(by_form)} dead letters by form, {expected} were sent")
        died = [worker for worker in self._alive if not worker.running]
        tally.breaches += [f"{worker!r} ended by itself" for worker in died]
        stopped = [worker for worker in self._alive if worker.running]
        for worker in stopped:
            worker.tell(signal.SIGTERM)
        for worker in stopped:
            if (code := worker.wait()) != 0:
                tally.breaches.append(f"{worker!r} exited with {code}")
        return tally

    def _count_recoveries(self) -> None:
        """From the events and the logs, while they can still be read."""
        placed = self._fleet.events(kind="OrderPlaced")
        self.damage.retries = sum(max(int(event["attempts"]) - 1, 0) for event in placed)
        for worker in self._fleet.workers:
            ended = worker.logged("signal_ended")
            self.damage.takeovers += sum(event["deliveries"] > 1 for event in ended)

    def report(self, tally: Tally) -> str:
        """The tally and what was done, one number a line."""
        done = [
            f"{name.replace('_', ' '):<20} {number}" for name, number in asdict(self.damage).items()
        ]
        rows = [f"{'seed':<20} {self._seed}", *tally.lines(), *done]
        codes = ", ".join(f"{code} {times}" for code, times in tally.codes.most_common())
        rows += [f"{'failed for':<20} {codes}", f"{'wall time, s':<20} {self.wall_s:.1f}"]
        return "\n".join(rows)


def run(
    *, seed: int, count: int, disturbances: int, every_s: float, keep: Path | None = None
) -> tuple[str, list[str]]:
    """One run in a directory of its own, which is kept (where) if anything is wrong.

    Returns:
        The tally as text, and what is wrong, a sentence each.
    """
    directory = Path(tempfile.mkdtemp(prefix="chaos-", dir=keep))
    chaos = Chaos(directory, seed=seed, count=count, disturbances=disturbances, every_s=every_s)
    try:
        tally = chaos.run()
    except BaseException:
        print(f"chaos seed {seed} broke off; its logs are in {directory}", file=sys.stderr)
        raise
    breaches = list(tally.breaches)
    if breaches:
        breaches.append(
            f"logs are in {directory}; again with: make chaos SIGNALS={count} SEED={seed}"
        )
    else:
        shutil.rmtree(directory)
    return chaos.report(tally), breaches


def main() -> int:
    """The command line; exit 1 on any breach."""
    parser = argparse.ArgumentParser(prog="tests.acceptance.chaos", description=__doc__)
    parser.add_argument("--signals", type=int, default=2_000)
    parser.add_argument("--seed", type=int, default=None, help="drawn and printed if absent")
    parser.add_argument(
        "--disturbances", type=int, default=None, help="kills and pauses; 3 for 100 signals"
    )
    parser.add_argument("--every", type=float, default=1.5, metavar="S", help="mean pause between")
    options = parser.parse_args()
    seed = random.SystemRandom().randrange(1_000_000) if options.seed is None else options.seed
    disturbances = options.disturbances or max(options.signals * 33 // 1000, 3)
    print(f"chaos: {options.signals} signals, {disturbances} kills and pauses, seed {seed}")
    report, breaches = run(
        seed=seed, count=options.signals, disturbances=disturbances, every_s=options.every
    )
    print(report)
    for breach in breaches:
        print(f"BREACH: {breach}")
    return 1 if breaches else 0


if __name__ == "__main__":
    sys.exit(main())
