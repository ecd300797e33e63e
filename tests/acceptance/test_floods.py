"""A producer gone wild, or its stolen password: large entries and floods beside honest signals.

On real workers and real servers, with the settings of this project and with those that others have.
"""

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.acceptance import signals
from tests.acceptance.audit import Audit
from tests.acceptance.fleet import Fleet
from tests.acceptance.signals import Signal
from tests.exchange_simulator.client import ControlClient
from tests.integration.test_large_entries import HOSTED, MIB, shipped
from worker.runtime.embedded_server import EmbeddedServer

#: The library does not say what it returns.
NO_BACKOFF: Any = NoBackoff

pytestmark = pytest.mark.alone

SIGNALS = "{main}:signals"
#: As the library wants them.
Fields = dict[Any, Any]
#: How soon an honest signal must have ended, this machine's stalls taken off.
SOON_S = 2.0
HOT = signals.linear(0)


class Stalls:
    """How long this machine kept a thread that wanted to run from doing so."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._measure, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        self._thread.join()

    def _measure(self) -> None:
        before = time.monotonic()
        while not self._ends.wait(0.02):
            now = time.monotonic()
            self.seconds += max(now - before - 0.03, 0.0)
            before = now


@pytest.fixture(params=["shipped", "hosted"])
def limited(
    request: pytest.FixtureRequest, tmp_path: Path, exchange: ControlClient
) -> Iterator[Fleet]:
    """A fleet on a server of its own with the limits of this project, or with fewer."""
    options = shipped() if request.param == "shipped" else HOSTED
    with (
        EmbeddedServer(arguments=options) as own,
        Fleet(tmp_path, redis_url=own.url, server_port=own.port, exchange=exchange) as fleet,
    ):
        yield fleet


def _honest(prefix: str, count: int, first: int = 1) -> dict[str, Signal]:
    made = (signals.opening(f"{prefix}{n}", signals.linear(n)) for n in range(first, first + count))
    return {one["signal_id"]: one for one in made}


def _peak_mib(fleet: Fleet) -> list[int]:
    """The most memory that each worker has had."""
    status = [Path(f"/proc/{one.pid}/status").read_text() for one in fleet.workers if one.running]
    return [int(text.partition("VmHWM:")[2].split()[0]) // 1024 for text in status]


def test_large_entries_stop_nobody(limited: Fleet) -> None:
    """Of 80 MiB, of a million fields, many of 1.3 MiB: each a dead letter, and all others trade."""
    fleet = limited
    fleet.start_ready(2)
    size = int(dict(fleet.redis.config_get("proto-max-bulk-len"))["proto-max-bulk-len"] or 0)
    made = _honest("before", 5)
    fleet.submit(*made.values())
    pieces = max(80 * MIB // size, 1)
    large: Fields = {f"f{n}": b"x" * min(size, 80 * MIB) for n in range(pieces)}
    middle: Fields = {"a": b"x" * (650 * 1024), "b": b"x" * (650 * 1024)}
    sent = 0
    for number in range(2):
        fleet.redis.xadd(SIGNALS, large)
        between = _honest(f"large{number}-", 5, first=6 + 5 * number)
        fleet.submit(*between.values())
        made |= between
        sent += 1
    fleet.ask("XADD", SIGNALS, "*", *(["name", "1"] * 1_000_000))
    for number in range(64):
        fleet.redis.xadd(SIGNALS, middle)
        if number % 16 == 0:
            between = _honest(f"middle{number}-", 2, first=20 + number // 8)
            fleet.submit(*between.values())
            made |= between
    sent += 65
    ends = fleet.until_ended(made)
    assert {end["type"] for end in ends.values()} == {"OrderFilled"}
    fleet.until_quiet()
    assert len(fleet.entries("dead")) == sent
    assert {letter["reason"] for letter in fleet.entries("dead")} == {"malformed"}
    assert fleet.ask("XLEN", SIGNALS) == len(made)
    assert all(worker.running for worker in fleet.workers)
    assert max(_peak_mib(fleet)) < 400
    counted = sum(
        float(line.rpartition(" ")[2])
        for worker in fleet.workers
        for line in worker.get("/metrics")[1].splitlines()
        if line.startswith('execution_worker_signals_ended_total{outcome="dead"}')
    )
    # What a claim buried whose reply the worker did not read to its end is on the stream alone.
    assert sent - 8 <= counted <= sent
    after = _honest("after", 5, first=40)
    with Stalls() as stalls:
        started = time.monotonic()
        fleet.submit(*after.values())
        fleet.until_ended(after)
    assert time.monotonic() - started < SOON_S + stalls.seconds
    assert Audit(fleet, made | after).run().breaches == []


def _wild(kind: str, count: int, fleet: Fleet) -> list[tuple[Signal, dict[str, str]]]:
    """Openings for one symbol that would rest: one does, the others are refused."""
    market, *_ = signals.markets(fleet.exchange.call("GET", "prices"), [HOT])
    expires = {"expires_at": signals.now(6.0)}
    made = [signals.resting(market, f"wild{n}") | expires for n in range(count)]
    return [(one, _group_of(kind, n)) for n, one in enumerate(made)]


def _group_of(kind: str, number: int) -> dict[str, str]:
    """The entry's field that names its group: none, the same for all, or one for each."""
    fields: dict[str, dict[str, str]] = {
        "symbol": {},
        "key": {"key": "k"},
        "keys": {"key": str(number)},
    }
    return fields[kind]


@pytest.mark.parametrize(
    ("kind", "count"),
    [("symbol", 200), ("symbol", 2_000), ("key", 200), ("key", 2_000), ("keys", 200)],
)
def test_one_group_holds_up_no_other(fleet: Fleet, kind: str, count: int) -> None:
    """Signals of other symbols end at once, a kill in between loses nothing, each ends once."""
    fleet.start_ready(2)
    warm = _honest("warm", 5)
    fleet.submit(*warm.values())
    fleet.until_ended(warm)
    wild = _wild(kind, count, fleet)
    honest = _honest("honest", 10, first=10)
    closing = signals.closing("closing", HOT)
    with Stalls() as stalls:
        pipeline = fleet.redis.pipeline(transaction=False)
        for one, key in wild:
            fields: Fields = {"data": json.dumps(one), **key}
            pipeline.xadd(SIGNALS, fields)
        pipeline.execute()
        started = time.monotonic()
        fleet.submit(*honest.values())
        ends = fleet.until_ended(honest)
        took_s = time.monotonic() - started
    assert {end["type"] for end in ends.values()} == {"OrderFilled"}
    assert took_s < SOON_S + stalls.seconds
    fleet.push(data=json.dumps(closing), **wild[-1][1])
    killed, *_ = fleet.workers
    killed.kill()
    fleet.start()
    made = warm | honest | {one["signal_id"]: one for one, _ in wild} | {"closing": closing}
    ends = fleet.until_ended(made, timeout_s=60)
    assert ends["closing"]["type"] == "SignalCompleted"
    assert ends["closing"]["target"] in {one["signal_id"] for one, _ in wild}
    codes = Counter(ends[one["signal_id"]]["code"] for one, _ in wild)
    fleet.until_quiet()
    assert codes["CLOSED"] == 1
    assert set(codes) <= {"CLOSED", "POSITION_BUSY", "GROUP_FULL", "SIGNAL_EXPIRED"}
    if kind != "keys":
        # A hundred may wait; of the others some find room while those end, each in milliseconds.
        assert codes["GROUP_FULL"] >= 0.9 * count - 90
    assert fleet.ask("EXISTS", "{main}:lines", "{main}:entries", "{main}:leases") == 0
    assert Audit(fleet, made).run().breaches == []


def test_a_worker_survives_a_quarter_of_a_gibibyte(
    fleet: Fleet, one_server: EmbeddedServer
) -> None:
    """On a server without any limit: it hangs up on the body, and trades on."""
    fleet.start_ready(1)
    made = _honest("before", 3)
    fleet.submit(*made.values())
    fleet.until_ended(made)
    fleet.ask("SETRANGE", "text", 250 * MIB - 1, "x")
    script = "return redis.call('XADD', KEYS[1], '*', 'data', redis.call('GETDEL', 'text'))"
    with redis.Redis(
        port=one_server.port, socket_timeout=60, retry=Retry(NO_BACKOFF(), 0)
    ) as patient:
        patient.eval(script, 1, SIGNALS)
    after = _honest("after", 3, first=10)
    fleet.submit(*after.values())
    fleet.until_ended(after)
    fleet.until_quiet()
    assert len(fleet.entries("dead")) == 1
    assert fleet.workers[0].running
    assert max(_peak_mib(fleet)) < 400
    assert Audit(fleet, made | after).run().breaches == []
