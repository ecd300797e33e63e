"""Workers that die or freeze, replies that are lost, an exchange that says nothing, a server lost.

Whatever happens, the exchange accepts one order a signal leg, and the signal ends once, truly.
"""

import json
import random
import time
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance import signals
from tests.acceptance.audit import Audit, Tally
from tests.acceptance.fleet import WEBSOCKET, Fleet, Tables, WorkerProcess, at, wait_until
from tests.acceptance.signals import Signal
from tests.exchange_simulator.client import ControlClient
from tests.tcp_proxy import ProxyThread
from worker.ledger.stored import decode_entry
from worker.runtime.embedded_server import EmbeddedServer

pytestmark = pytest.mark.alone

CREATE = {"method": "POST", "path": r"/order(\.place)?$"}
LOOK_UP = {"method": "GET", "path": "/order$"}


def over(transport: str) -> Tables:
    """The settings of workers that create orders over ``transport``."""
    return WEBSOCKET if transport == "websocket" else {}


def _openings(count: int, prefix: str = "s", *, first: int = 0) -> dict[str, Signal]:
    """As many entries, each on a perpetual of its own."""
    return {
        f"{prefix}{number:02d}": signals.opening(f"{prefix}{number:02d}", signals.linear(number))
        for number in range(first, first + count)
    }


def _sound(fleet: Fleet, made: dict[str, Signal]) -> Tally:
    """Wait for quiet; nothing may be wrong."""
    fleet.until_quiet()
    tally = Audit(fleet, made).run()
    assert tally.breaches == []
    return tally


def _holders(fleet: Fleet) -> dict[str, int]:
    """How many entries each worker holds a lease on."""
    found: dict[str, int] = {}
    for name, raw in fleet.ask("HGETALL", "{main}:entries").items():
        if name[:1] in b":!":  # a group and its last entry
            continue
        holder = decode_entry(raw).worker
        if holder:
            found[holder] = found.get(holder, 0) + 1
    return found


def _name(worker: WorkerProcess) -> str:
    name: str = worker.until_logged("worker_started")["worker"]
    return name


# -- killed ----------------------------------------------------------------------------------------

#: Lease and margins of the recovery test; a request (0.7 s and 0.8 s margin) fits half the lease.
RECOVERY: dict[str, dict[str, Any]] = {
    "worker": {"lease_seconds": 3.0},
    "exchanges.binance": {"recv_window_ms": 700},
    "execution": {"skew_margin_ms": 800},
}


@pytest.mark.parametrize(
    ("when", "transport"), [("before", "rest"), ("after", "rest"), ("before", "websocket")]
)
def test_a_killed_workers_signals_are_finished_within_lease_and_two_seconds(
    fleet: Fleet, when: str, transport: str
) -> None:
    """SIGKILL with orders in flight: the other worker finishes them in time, none twice.

    The exchange sits on each request for 600 ms, before or after it takes effect: orders that land
    after their sender has died are found as well as those that had landed.
    """
    fleet.layers = (*fleet.layers, over(transport))
    workers = [fleet.start(RECOVERY) for _ in range(2)]
    by_name = {_name(worker.until_ready()): worker for worker in workers}
    delay = {"delay_ms" if when == "before" else "delay_after_ms": 600}
    fleet.exchange.add_fault(**CREATE, **delay)
    made = _openings(24)
    fleet.submit(*made.values())
    wait_until(lambda: sum(_holders(fleet).values()) == 24, "not all of them are in hand")
    holders = _holders(fleet)
    wait_until(lambda: len(fleet.records()) >= 12, "nothing was admitted")
    victim = max(holders, key=lambda name: holders[name])
    by_name[victim].kill()
    killed = time.monotonic()
    mine = sum(end[0]["worker"] == victim for end in fleet.ends().values())
    assert mine < holders[victim], "the victim had finished already"
    fleet.exchange.clear_faults()
    fleet.until_ended(made)
    assert time.monotonic() - killed < 3.0 + 2.0
    assert _sound(fleet, made).filled == 24


# -- frozen ----------------------------------------------------------------------------------------


def test_a_worker_frozen_at_any_moment_never_orders_twice(fleet: Fleet) -> None:
    """SIGSTOP around sending, lease lost, SIGCONT: never a second order.

    Signals trickle in while one of two workers is frozen, so that each freeze finds them at every
    step: claimed, admitted, about to be sent, sent, answered. The frozen worker wakes up when the
    other one has the leases, while it looks up, and when it has finished.
    """
    rng = random.Random(3)
    workers = [fleet.start({"worker": {"concurrency": 8}}) for _ in range(2)]
    for worker in workers:
        worker.until_ready()
    made: dict[str, Signal] = {}
    for turn in range(4):
        batch = _openings(12, f"t{turn}-")
        if turn % 2:
            batch = {name: signals.closing(name, one["symbol"]) for name, one in batch.items()}
        frozen = workers[turn % 2]
        moment = rng.randrange(2, 12)
        for number, one in enumerate(batch.values()):
            fleet.submit(one)
            time.sleep(rng.uniform(0, 0.003))
            if number == moment:
                frozen.pause()
        made |= batch
        time.sleep(2.0 + rng.choice([0.05, 0.4, 1.9]))
        frozen.resume()
    fleet.until_ended(made)
    tally = _sound(fleet, made)
    assert tally.filled == 48
    assert sum(len(worker.logged("lease_lost")) for worker in workers) >= 1


def test_a_worker_frozen_while_it_waits_to_send_never_orders_twice(fleet: Fleet) -> None:
    """Stopped between two attempts, it wakes up when another has traded, and sends nothing.

    Its next attempts are due the moment it wakes, with a fresh deadline that the exchange would
    honour, under ids that the exchange would take again: only its lost leases hold it back.
    """
    frozen = fleet.start().until_ready()
    fleet.exchange.add_fault(**CREATE, preset="429", headers={"Retry-After": "1"})
    made = _openings(8)
    fleet.submit(*made.values())
    wait_until(lambda: frozen.metric("retries_total") >= 8, "nothing was throttled")
    frozen.pause()
    fleet.exchange.clear_faults()
    other = fleet.start()
    ends = fleet.until_ended(made)
    assert {end["worker"] for end in ends.values()} == {_name(other)}
    frozen.resume()
    wait_until(lambda: len(frozen.logged("lease_lost")) == 8, "it has not noticed")
    assert _sound(fleet, made).orders_accepted == 8


def test_a_worker_frozen_between_admission_and_sending_never_orders_twice(
    tmp_path: Path, one_server: EmbeddedServer, exchange: ControlClient
) -> None:
    """The record is written, the worker is stopped before it knows, another one trades instead.

    Replies reach the frozen worker through a proxy that holds them back for 30 ms; it is stopped
    as soon as its admissions can be read in Redis. Awake again, it has the permission in hand, and
    must not use it.
    """
    with (
        ProxyThread("127.0.0.1", one_server.port) as proxy,
        Fleet(
            tmp_path, redis_url=one_server.url, server_port=one_server.port, exchange=exchange
        ) as fleet,
    ):
        slow = {"redis": {"url": f"redis://127.0.0.1:{proxy.port}/0"}}
        frozen = fleet.start(slow).until_ready()
        proxy.command("delay", to_client_ms=30)
        made = _openings(16)
        for one in made.values():
            fleet.submit(one)
            time.sleep(0.002)
        wait_until(lambda: "ADMITTED" in fleet.records().values(), "nothing was admitted")
        frozen.pause()
        sent = len(fleet.exchange.orders())
        admitted = list(fleet.records().values()).count("ADMITTED")
        assert admitted > sent, "it was stopped too late to show anything"
        other = fleet.start()
        ends = fleet.until_ended(made)
        frozen.resume()
        frozen.until_logged("lease_lost")
        assert {end["worker"] for end in ends.values()} >= {_name(other)}
        wait_until(lambda: frozen.metric("in_flight") == 0, "the frozen worker holds on")
        assert _sound(fleet, made).filled == 16


@pytest.mark.parametrize("transport", ["rest", "websocket"])
def test_a_request_that_was_under_way_when_its_lease_ended_is_refused_by_the_exchange(
    tmp_path: Path, one_server: EmbeddedServer, exchange: ControlClient, transport: str
) -> None:
    """Requests stuck in the network arrive after another worker has traded: they must not trade.

    The first order has filled by then, so the exchange would take its client order id again; only
    the request's own deadline keeps it out.
    """
    host, _, port = exchange.url.removeprefix("http://").partition(":")
    with (
        ProxyThread(host, int(port)) as network,
        Fleet(
            tmp_path, redis_url=one_server.url, server_port=one_server.port, exchange=exchange
        ) as fleet,
    ):
        fleet.layers = (*fleet.layers, over(transport))
        behind = {"exchanges.binance": at(f"http://127.0.0.1:{network.port}")}
        stuck = fleet.start(behind).until_ready()
        warm = _openings(8, "w")  # connections, prices and balances are there
        fleet.submit(*warm.values())
        fleet.until_ended(warm)
        made = {
            f"s{number}": signals.closing(f"s{number}", signals.linear(number))
            for number in range(8)
        }
        network.command("stall")
        fleet.submit(*made.values())
        wait_until(
            lambda: list(fleet.records().values()).count("ADMITTED") == 8, "not all are admitted"
        )
        time.sleep(0.3)  # what was admitted is written to the socket now, or never
        stuck.pause()
        fleet.start(over(transport))
        fleet.until_ended(made)
        before = _refused_late(exchange)
        network.command("pass")
        wait_until(lambda: _refused_late(exchange) >= before + 8, "the requests never arrived")
        stuck.resume()
        assert _sound(fleet, warm | made).filled == 16


def _refused_late(exchange: ControlClient) -> int:
    """How many create requests the exchange refused for their age (-1021)."""
    counts = exchange.requests()["counts"]
    return sum(
        number
        for endpoint in ("POST /fapi/v1/order", "POST /ws-fapi/v1/order.place")
        for outcome, number in counts.get(endpoint, {}).items()
        if "1021" in outcome
    )


# -- replies ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("transport", ["rest", "websocket"])
def test_a_lost_reply_is_one_order_and_one_true_event(fleet: Fleet, transport: str) -> None:
    """Every way to lose the reply of an order, applied or not: one order, filled, told as filled.

    Some orders cannot be looked up for 1.5 s after they were accepted. On a WebSocket one of them
    takes the others' connection with it, so there each is sent when the one before has arrived.
    """
    patient: Tables = {"execution": {"max_retries": 20, "max_delay": 0.5}}
    settings = {**over(transport), **(patient if transport == "websocket" else {})}
    worker = fleet.start(settings).until_ready()
    ways: list[dict[str, Any]] = [
        {"action": "drop_after"},
        {"action": "no_reply_after", "hang_ms": 2_000},
        {"action": "cut_response"},
        {"action": "empty_200"},
        {"action": "truncated_json_200"},
        {"preset": "503_unknown", "when": "after"},
        {"preset": "504_html", "when": "after"},
        {"preset": "408_1007", "when": "after"},
        {"action": "drop_after", "late_visibility_ms": 1_500},
        {"preset": "502_html", "when": "after", "late_visibility_ms": 1_500},
    ]
    unapplied: list[dict[str, Any]] = [
        {"action": "drop_before"},
        {"action": "no_reply_before", "hang_ms": 2_000},
        {"preset": "503_unknown", "when": "before"},
        {"preset": "504_html", "when": "before"},
    ]
    if transport == "websocket":  # fewer of those that end the connection
        ways = [way for way in ways if way.get("action") != "truncated_json_200"][:6]
        unapplied = unapplied[:3]
    for number, way in enumerate([*ways, *unapplied]):
        fleet.exchange.add_fault(
            **CREATE, **way, symbol=f"C{number:03d}USDT", count=1, name=str(number)
        )
    made = _openings(len(ways) + len(unapplied))
    if transport == "rest":
        fleet.submit(*made.values())
    else:
        for number, signal in enumerate(made.values()):
            fleet.submit(signal)
            _until_accepted(fleet, min(number + 1, len(ways)))
    ends = fleet.until_ended(made)
    assert {end["type"] for end in ends.values()} == {"OrderFilled"}
    attempts = {event["signal_id"]: event["attempts"] for event in fleet.events(kind="OrderPlaced")}
    applied = {name: attempts[name] for name in list(made)[: len(ways)]}
    resent = {name: attempts[name] for name in list(made)[len(ways) :]}
    if transport == "rest":
        assert set(applied.values()) == {1}, applied
        assert set(resent.values()) == {2}, resent
    assert min(resent.values()) >= 2, resent
    hits = {fault["name"]: fault["hits"] for fault in fleet.exchange.faults()}
    assert set(hits.values()) == {1}, hits
    assert _sound(fleet, made).orders_accepted == len(made)
    assert worker.metric("lookups_total") >= len(made)


def _until_accepted(fleet: Fleet, count: int) -> None:
    """Wait until the exchange has taken that many orders."""
    wait_until(lambda: len(fleet.exchange.orders()) >= count, "an order did not come")


def test_an_order_nobody_can_tell_of_is_unresolved_until_the_exchange_speaks(fleet: Fleet) -> None:
    """No answer to the order and none to any look-up: visible as unresolved, never as refused.

    ``status``, the metric and one ``SystemError`` say so; the next signal of the symbol waits; when
    the exchange answers again both end truly, and the marks are gone.
    """
    fleet.layers = (*fleet.layers, {"execution": {"max_lookup_seconds": 1}})
    worker = fleet.start({"http": {"port": 0}}).until_ready()
    fleet.exchange.add_fault(**CREATE, symbol="C000USDT", action="drop_after", count=1)
    fleet.exchange.add_fault(**LOOK_UP, symbol="C000USDT", action="drop_before")
    made = {
        "a": signals.opening("a", signals.linear(0)),
        "b": signals.closing("b", signals.linear(0)),
        "c": signals.opening("c", signals.linear(1)),
    }
    fleet.submit(*made.values())
    fleet.until_ended(["c"])
    wait_until(lambda: fleet.events("system", "SystemError"), "nothing was said")
    (said,) = fleet.events("system", "SystemError")
    assert (said["code"], said["severity"], said["signal_id"]) == (
        "ORDER_UNRESOLVED",
        "critical",
        "a",
    )
    assert "binance" in said["reason"]
    status = _json(fleet.command("status", "--json"))
    assert [one["signal_id"] for one in status["unresolved"]] == ["a"]
    assert any("order of a" in one["text"] for one in status["attention"])
    wait_until(lambda: worker.metric("unresolved") == 1, "the metric does not say so")
    assert fleet.ends().keys() == {"c"}
    fleet.exchange.clear_faults()
    ends = fleet.until_ended(made)
    assert {end["type"] for end in ends.values()} == {"OrderFilled"}
    _sound(fleet, made)
    wait_until(lambda: worker.metric("unresolved") == 0, "the metric still says so")
    assert len(fleet.events("system", "SystemError")) == 1
    assert _json(fleet.command("status", "--json"))["unresolved"] == []


def test_a_person_decides_what_no_exchange_tells(fleet: Fleet) -> None:
    """One order is said not to be there, one to have traded in part; both end so, and truly once.

    The symbol that waited goes on; a position the exchange has lost since is corrected.
    """
    fleet.layers = (*fleet.layers, {"execution": {"max_lookup_seconds": 1}})
    fleet.start({"http": {"port": 0}}).until_ready()
    fleet.exchange.add_fault(**CREATE, action="drop_before", count=8)
    fleet.exchange.add_fault(**LOOK_UP, action="drop_before")
    made = {
        "a": signals.opening("a", signals.linear(0)),
        "b": signals.opening("b", signals.linear(1), quantity="2"),
    }
    fleet.submit(*made.values())
    wait_until(lambda: len(fleet.events("system", "SystemError")) == 2, "nothing was said")
    said = fleet.command("resolve", "a", "--absent", "--reason", "not in their list")
    assert "the order of a is FAILED" in said
    traded = ("--filled", "0.5", "--price", "101", "--fee", "0.1", "--fee-currency", "USDT")
    said = fleet.command("resolve", "b", *traded, "--reason", "their support")
    assert "the order of b is CANCELLED" in said
    ends = fleet.until_ended(made)
    assert (ends["a"]["type"], ends["a"]["code"]) == ("OrderFailed", "DECIDED_ABSENT")
    assert "not in their list" in ends["a"]["reason"]
    assert (ends["b"]["type"], ends["b"]["filled_quantity"]) == ("OrderCancelled", "0.5")
    (opened,) = fleet.events("positions", "PositionOpened")
    assert (opened["signal_id"], opened["quantity"], opened["fee"]) == ("b", "0.5", "0.1")
    assert fleet.exchange.orders() == []
    symbol = str(made["b"]["symbol"])
    hand = ("--price", "100", "--reason", "closed by hand")
    fleet.command("correct", "binance", symbol, "--quantity", "0", *hand)
    (closed,) = fleet.events("positions", "PositionClosed")
    assert (closed["close_reason"], closed["realized_pnl"]) == ("external", "-0.6")
    heading, said = fleet.command("positions").splitlines()
    assert heading.startswith("LIVE  account main  ")
    assert said == "No open positions."
    fleet.exchange.clear_faults()
    again = signals.opening("c", signals.linear(0)), signals.opening("d", signals.linear(1))
    fleet.submit(*again)
    ends = fleet.until_ended(["c", "d"])
    assert {end["type"] for end in (ends["c"], ends["d"])} == {"OrderFilled"}
    assert len(fleet.exchange.orders()) == 2


def _json(text: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(text)
    return found


# -- ids -------------------------------------------------------------------------------------------


def test_a_signal_id_trades_once(fleet: Fleet) -> None:
    """The same id again is a duplicate, at once or later; with other content it is a dead letter.

    So it is when both come while the first is in flight, and when another worker gets the second.
    """
    workers = fleet.start_ready(2)
    fleet.exchange.add_fault(**CREATE, delay_after_ms=300)
    one = signals.opening("a", signals.linear(0))
    fleet.submit(one)
    # Groups of their own: nothing makes the repetitions wait for the first.
    fleet.push(data=json.dumps(one), key="elsewhere")
    fleet.push(data=json.dumps(one | {"quantity": "2"}), key="somewhere")
    fleet.until_ended(["a"])
    fleet.submit(one, one | {"direction": "short"})
    letters = fleet.until_dead(2)
    assert _sound(fleet, {"a": one}).orders_accepted == 1
    assert [letter["reason"] for letter in letters] == ["conflict", "conflict"]
    assert all(letter["error"].startswith("signal_id: a ") for letter in letters)
    told = [worker.get("/metrics")[1] for worker in workers]
    assert sum(_sample(body, 'signals_ended_total{outcome="duplicate"}') for body in told) == 2
    assert sum(_sample(body, 'signals_ended_total{outcome="conflict"}') for body in told) == 2


def _sample(body: str, name: str) -> float:
    lines = [line for line in body.splitlines() if line.startswith(f"execution_worker_{name} ")]
    return sum(float(line.rpartition(" ")[2]) for line in lines)


# -- trading state ---------------------------------------------------------------------------------


def test_a_halt_stops_what_was_not_sent_and_lets_what_was_finish(fleet: Fleet) -> None:
    """Halted in flight: orders the exchange has are told as filled, the others are not sent."""
    fleet.start().until_ready()
    fleet.exchange.add_fault(**CREATE, symbol="C000USDT", delay_after_ms=900)
    # Refused for now: these wait for their next attempt while the halt comes.
    for number in range(1, 5):
        fleet.exchange.add_fault(
            **CREATE, symbol=f"C{number:03d}USDT", preset="503_service_unavailable"
        )
    made = {"s00": signals.opening("s00", signals.linear(0))} | _openings(4, first=1)
    fleet.submit(*made.values())
    wait_until(fleet.exchange.orders, "nothing was sent")
    fleet.command("halt", "--reason", "storm")
    fleet.exchange.clear_faults()
    ends = fleet.until_ended(made)
    assert ends["s00"]["type"] == "OrderFilled"
    codes = {ends[f"s{number:02d}"].get("code") for number in range(1, 5)}
    assert codes == {"TRADING_HALTED"}
    later = signals.opening("later", signals.linear(9))
    fleet.submit(later)
    assert fleet.until_ended(["later"])["later"]["code"] == "TRADING_HALTED"
    assert _sound(fleet, made | {"later": later}).orders_accepted == 1
    fleet.command("resume")
    again = signals.opening("again", signals.linear(9))
    fleet.submit(again)
    assert fleet.until_ended(["again"])["again"]["type"] == "OrderFilled"


# -- the server ------------------------------------------------------------------------------------


def test_a_server_that_crashes_and_comes_back_loses_nothing(
    tmp_path: Path, exchange: ControlClient
) -> None:
    """Append-only file: killed with orders in flight, restarted, every signal ends once."""
    arguments = ("--appendonly", "yes", "--appendfsync", "always")
    with (
        EmbeddedServer(arguments=arguments) as server,
        Fleet(tmp_path, redis_url=server.url, server_port=server.port, exchange=exchange) as fleet,
    ):
        fleet.start_ready(2)
        exchange.add_fault(**CREATE, delay_after_ms=400)
        made = _openings(30)
        fleet.submit(*made.values())
        wait_until(lambda: len(exchange.orders()) >= 10, "nothing was sent")
        server.kill()
        server.start()
        fleet.until_ended(made)
        assert _sound(fleet, made).filled == 30


def test_a_server_that_comes_back_empty_does_not_make_an_order_twice(
    tmp_path: Path, exchange: ControlClient
) -> None:
    """Everything forgotten, the producer submits all of it again: orders that exist are found.

    What had not been sent when the server died is traded once; no signal is traded twice.
    """
    with (
        EmbeddedServer() as server,
        Fleet(tmp_path, redis_url=server.url, server_port=server.port, exchange=exchange) as fleet,
    ):
        fleet.start_ready(2)
        exchange.add_fault(**CREATE, delay_after_ms=300)
        made = _openings(30)
        fleet.submit(*list(made.values())[:20])
        wait_until(lambda: len(exchange.orders()) >= 10, "nothing was sent")
        server.kill()
        server.start()
        fleet.submit(*made.values())
        ends = fleet.until_ended(made)
        assert {end["type"] for end in ends.values()} == {"OrderFilled"}
        assert _sound(fleet, made).orders_accepted == 30
