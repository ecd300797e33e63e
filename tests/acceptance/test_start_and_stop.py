"""Starting where something is missing or wrong, and stopping with orders in flight."""

import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.acceptance import signals
from tests.acceptance.audit import Audit
from tests.acceptance.fleet import (
    DEFAULTS,
    Fleet,
    Tables,
    WorkerProcess,
    run_quickly,
    toml,
    wait_until,
)
from tests.acceptance.signals import Signal
from tests.exchange_simulator.client import ControlClient, simulator_process
from worker.runtime.embedded_server import EmbeddedServer, free_port

pytestmark = pytest.mark.alone

CREATE = {"method": "POST", "path": "/order$"}

# -- configuration ---------------------------------------------------------------------------------

LIVE: Tables = {
    "": {"mode": "live"},
    "exchanges.binance": {"adapter": "ccxt", "api_key": "k", "secret": "s"},
}


#: The key that must be named, and what is wrong with it.
WRONG: dict[str, Tables] = {
    "risk.max_positions": {"risk": {"max_positions": 3}},
    "worker.concurrency": {"worker": {"concurrency": 0}},
    "exchanges.binance.secret": {"exchanges.binance": {"secret": ""}},
    "exchanges.binance.recv_window_ms": {"worker": {"lease_seconds": 5}},
    "exchanges.binance.ccxt_id": {"exchanges.binance": {"ccxt_id": "mtgox"}},
    "redis.url": {"redis": {"url": "http://127.0.0.1"}},
}


def test_a_bad_configuration_stops_the_start(tmp_path: Path) -> None:
    """Exit 78 and one sentence that names the key, or the file that is no TOML; no traceback."""
    documents = {key: toml(LIVE, {"http": {"port": 0}}, change) for key, change in WRONG.items()}
    documents["broken.toml"] = "mode = "
    for key, document in documents.items():
        (tmp_path / key).write_text(document)
    with ThreadPoolExecutor(4) as pool:
        ends = pool.map(
            lambda key: run_quickly(["run", "--config", str(tmp_path / key)]), documents
        )
        for key, (code, said) in zip(documents, ends, strict=True):
            assert code == 78, (key, said)
            sentences = [
                line for line in said.splitlines() if line.startswith("execution-worker: ")
            ]
            assert len(sentences) == 1, (key, said)
            assert key in sentences[0]
            assert "Traceback" not in said


# -- what may be absent at the start ---------------------------------------------------------------


def _fleet(directory: Path, port: int, exchange: ControlClient, **more: object) -> Fleet:
    url = f"redis://127.0.0.1:{port}/0"
    return Fleet(directory, redis_url=url, server_port=port, exchange=exchange, **more)  # type: ignore[arg-type]


def test_redis_may_come_later(tmp_path: Path, exchange: ControlClient) -> None:
    """Redis absent: a clear line, tried again with backoff, not ready; then it comes, and works.

    Of two workers that waited one becomes the keeper, and both become ready.
    """
    port = free_port()
    with _fleet(tmp_path, port, exchange) as fleet:
        worker, other = fleet.start(), fleet.start()
        first = worker.until_logged("redis_unavailable")
        assert "Redis cannot be reached" in first["error"]
        assert str(port) in first["error"]
        wait_until(lambda: len(worker.logged("redis_unavailable")) >= 3, "it does not try again")
        pauses = [line["retry_in_s"] for line in worker.logged("redis_unavailable")]
        assert pauses[0] < pauses[2]
        status, checks = worker.readiness()
        assert status == 503
        assert {"redis", "reconciliation"} <= {
            name for name, check in checks["checks"].items() if not check["ok"]
        }
        assert worker.get("/livez")[0] == 200
        with EmbeddedServer(port=port):
            worker.until_ready()
            other.until_ready()
            keepers = [len(one.logged("keeper_elected")) > 0 for one in (worker, other)]
            assert keepers.count(True) == 1
            fleet.submit(signals.opening("a", signals.linear(0)))
            assert fleet.until_ended(["a"])["a"]["type"] == "OrderFilled"
            assert (worker.stop(), other.stop()) == (0, 0)


def test_a_wrong_password_is_told_as_such(tmp_path: Path, exchange: ControlClient) -> None:
    """The line says that Redis refuses, not that it is away; the password is not in it."""
    with (
        EmbeddedServer(arguments=("--requirepass", "right-horse-battery")) as server,
        _fleet(
            tmp_path,
            server.port,
            exchange,
            settings={"redis": {"password": "wrong-horse-battery"}},
            password="right-horse-battery",
        ) as fleet,
    ):
        worker = fleet.start()
        line = worker.until_logged("redis_unavailable")
        assert "Redis refuses" in line["error"]
        assert "wrong-horse-battery" not in "".join(worker.lines)
        assert worker.readiness()[0] == 503
        # Stopping works as well as ever.
        assert worker.stop(20) == 0


def test_the_exchange_may_come_later(tmp_path: Path, one_server: EmbeddedServer) -> None:
    """No exchange: a clear line, not ready, signals stay where they are; then it trades them."""
    port = free_port()
    absent = ControlClient(f"http://127.0.0.1:{port}")
    with _fleet(tmp_path, one_server.port, absent) as fleet:
        worker = fleet.start()
        fleet.submit(signals.opening("a", signals.linear(0)))
        line = worker.until_logged("exchange_not_ready")
        assert line["exchange"] == "binance"
        status, checks = worker.readiness()
        assert status == 503
        assert "binance" in str(checks)
        assert fleet.ends() == {}
        with simulator_process("--symbols", "5", "--port", str(port)):
            assert fleet.until_ended(["a"])["a"]["type"] == "OrderFilled"
            worker.until_ready()
            assert worker.stop() == 0


def test_one_exchange_that_is_away_does_not_stop_trading_on_another(
    tmp_path: Path, one_server: EmbeddedServer, exchange: ControlClient
) -> None:
    """Its signals wait, or expire like any other; ready only when it is there, and then it trades.

    A worker that has only just started knows no more of its symbols than that they may exist.
    """
    port = free_port()
    away: Tables = {
        "exchanges.away": {
            **DEFAULTS["exchanges.binance"],
            "ccxt_id": "binance",
            "base_url": f"http://127.0.0.1:{port}",
        }
    }
    with _fleet(tmp_path, one_server.port, exchange, settings=away) as fleet:
        worker = fleet.start()
        fleet.submit(
            signals.opening("a", signals.linear(0)),
            signals.opening("b", signals.linear(0), exchange="away"),
            signals.opening("c", signals.linear(1), exchange="away", expires_at=signals.now(4)),
        )
        ends = fleet.until_ended(["a", "c"])
        assert ends["a"]["type"] == "OrderFilled"
        assert ends["c"]["code"] == "SIGNAL_EXPIRED"
        assert worker.logged("signal_postponed")[0]["reason"] == "away has not started yet"
        status, checks = worker.readiness()
        assert status == 503
        assert "away" in checks["checks"]["markets"]["detail"]
        assert set(fleet.ends()) == {"a", "c"}
        with simulator_process("--symbols", "5", "--port", str(port)):
            assert fleet.until_ended(["b"])["b"]["type"] == "OrderFilled"
            worker.until_ready()
            assert worker.stop() == 0


def test_a_worker_that_waits_for_an_exchange_can_be_stopped(
    tmp_path: Path, one_server: EmbeddedServer
) -> None:
    """SIGTERM before anything is ready: exit 0, at once."""
    absent = ControlClient(f"http://127.0.0.1:{free_port()}")
    with _fleet(tmp_path, one_server.port, absent) as fleet:
        worker = fleet.start()
        worker.until_logged("exchange_not_ready")
        asked = time.monotonic()
        assert worker.stop(10) == 0
        assert time.monotonic() - asked < 3


# -- stopping --------------------------------------------------------------------------------------


@pytest.fixture
def busy(fleet: Fleet) -> tuple[Fleet, WorkerProcess, dict[str, Signal]]:
    """A worker with eight orders at an exchange that takes 2.5 s to say so."""
    worker = fleet.start({"exchanges.binance": {"timeout_ms": 5_000}}).until_ready()
    fleet.exchange.add_fault(**CREATE, delay_after_ms=2_500)
    made = {
        f"s{number}": signals.opening(f"s{number}", signals.linear(number)) for number in range(8)
    }
    fleet.submit(*made.values())
    wait_until(lambda: len(fleet.exchange.orders()) == 8, "not all were sent")
    return fleet, worker, made


def test_sigterm_finishes_what_is_in_flight(
    busy: tuple[Fleet, WorkerProcess, dict[str, Signal]],
) -> None:
    """Drained well within ``drain_seconds`` (10): every order is told, exit 0, nothing pending.

    What comes meanwhile is left for others; the worker says that it is not ready any more.
    """
    fleet, worker, made = busy
    asked = time.monotonic()
    worker.tell(signal.SIGTERM)
    worker.until_logged("stopping")
    fleet.submit(signals.opening("later", signals.linear(20)))
    status, checks = worker.readiness()
    assert status == 503, checks
    assert worker.wait() == 0
    assert time.monotonic() - asked < 8
    assert set(fleet.ends()) == set(made)
    tally = Audit(fleet, made).run()
    assert [b for b in tally.breaches if b != "1 entries are pending"] == []
    assert tally.filled == 8
    assert (fleet.pending(), fleet.undelivered()) == (0, 1)
    assert fleet.ask("HLEN", "{main}:workers") == 0


def test_a_second_signal_hands_back_at_once_and_nothing_is_doubled(
    busy: tuple[Fleet, WorkerProcess, dict[str, Signal]],
) -> None:
    """Two SIGTERMs: exit 0 without waiting for the exchange; another worker finishes, once each.

    The orders are at the exchange and their outcome is unknown to the one who leaves: they are kept
    back until no request of it can still land, and are looked up then.
    """
    fleet, worker, made = busy
    asked = time.monotonic()
    worker.tell(signal.SIGTERM)
    worker.until_logged("draining")
    worker.tell(signal.SIGTERM)
    assert worker.wait() == 0
    assert time.monotonic() - asked < 2
    assert worker.until_logged("drained")["handed_back"] == 8
    fleet.exchange.clear_faults()
    fleet.start()
    fleet.until_ended(made)
    fleet.until_quiet()
    tally = Audit(fleet, made).run()
    assert tally.breaches == []
    assert (tally.filled, tally.orders_accepted) == (8, 8)


def test_what_a_stopping_worker_cannot_finish_another_gets_at_once(fleet: Fleet) -> None:
    """``drain_seconds`` over, leases of 30 s: what is left is handed on, no lease is waited for.

    The exchange has told everybody to wait (429, six seconds), longer than the leaving worker
    may stay. Nothing of what it hands back is under way.
    """
    settings: Tables = {"worker": {"lease_seconds": 30.0, "drain_seconds": 1.0}}
    leaving = fleet.start(settings).until_ready()
    other = fleet.start(settings).until_ready()
    other.pause()  # it takes no signal, and is ready: one that starts would wait for the exchange
    fleet.exchange.add_fault(**CREATE, preset="429", headers={"Retry-After": "6"})
    made = {
        f"s{number}": signals.opening(f"s{number}", signals.linear(number)) for number in range(8)
    }
    fleet.submit(*made.values())
    wait_until(lambda: leaving.metric("retries_total") >= 1, "nothing was throttled")
    other.resume()
    asked = time.monotonic()
    leaving.tell(signal.SIGTERM)
    fleet.exchange.clear_faults()
    assert leaving.wait() == 0
    assert time.monotonic() - asked < 3
    assert leaving.until_logged("drained")["handed_back"] >= 1
    ends = fleet.until_ended(made)
    assert time.monotonic() - asked < 12
    assert {end["type"] for end in ends.values()} == {"OrderFilled"}
    assert {end["worker"] for end in ends.values()} == {
        other.until_logged("worker_started")["worker"]
    }
    fleet.until_quiet()
    tally = Audit(fleet, made).run()
    assert tally.breaches == []
    assert tally.orders_accepted == 8


def test_the_line_of_a_signal_says_what_was_traded(fleet: Fleet) -> None:
    """Exchange, symbol, side, quantity and price, of orders and of what came to none."""
    (worker,) = fleet.start_ready(1)
    symbol = signals.linear(0)
    fleet.submit(
        signals.opening("traded", symbol, quantity="2"),
        signals.opening("refused", "NO/SUCH", quantity="3", direction="short"),
    )
    ends = fleet.until_ended(["traded", "refused"])
    line = worker.until_logged("signal_ended", signal_id="traded")
    told = {name: line[name] for name in ("exchange", "symbol", "side", "quantity", "price")}
    assert told == {
        "exchange": "binance", "symbol": symbol, "side": "buy",
        "quantity": ends["traded"]["quantity"],
        "price": ends["traded"]["average_price"],
    }  # fmt: skip
    line = worker.until_logged("signal_ended", signal_id="refused")
    assert (line["exchange"], line["symbol"], line["side"]) == ("binance", "NO/SUCH", "sell")
    assert (line["quantity"], line["code"]) == ("3", "UNKNOWN_SYMBOL")
    _, metrics = worker.get("/metrics")
    (info,) = [one for one in metrics.splitlines() if one.startswith("execution_worker_info{")]
    assert 'account="main"' in info
