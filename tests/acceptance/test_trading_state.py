"""The trading state and the readers of an account, as their user meets them: the real commands."""

import json
import os
import signal
import time
from collections.abc import Mapping
from typing import Any

import pytest

from tests.acceptance.site import Site, a_signal, process
from worker.runtime.embedded_server import EmbeddedServer


@pytest.mark.usefixtures("worker")
def test_halt_reduce_and_resume_rule_what_is_sent(site: Site) -> None:
    """Halted and reducing accounts open nothing and say why; resumed they trade."""
    site.until_worker()
    halted = site.output("halt", "--reason", "storm")
    assert "is HALTED, was ACTIVE" in halted
    assert "1 of 1 worker holds it" in halted
    assert "H A L T E D" in site.output("status")
    site.submit(a_signal("s1"))
    assert "is REDUCING, was HALTED" in site.output("reduce", "--reason", "calmer")
    site.ended(1)
    site.submit(a_signal("s2"))
    site.ended(2)
    assert "is ACTIVE, was REDUCING" in site.output("resume")
    site.submit(a_signal("s3"))
    ends = [json.loads(entry.fields["data"]) for entry in site.ended(3)]
    assert [end.get("code", end["type"]) for end in ends] in (
        ["TRADING_HALTED", "TRADING_REDUCING", "OrderFilled"],
        ["TRADING_REDUCING", "TRADING_REDUCING", "OrderFilled"],
    )


@pytest.mark.usefixtures("worker")
def test_flatten_closes_everything_and_halts(site: Site) -> None:
    """Every position is closed for the reason ``flatten``, and the account ends halted."""
    site.submit(a_signal("s1"), a_signal("s2", symbol="ETH/USDT", direction="short"))
    site.ended(2)
    assert len(json.loads(site.output("positions", "--json"))) == 2
    assert "2 positions would be closed" in site.output("flatten", "--reason", "x", "--dry-run")
    assert json.loads(site.output("status", "--json"))["trading_state"] == "ACTIVE"
    lines = site.output("flatten", "--reason", "end of day").splitlines()
    assert lines[1].startswith("paper:BTC/USDT: long ")
    assert lines[2].startswith("paper:ETH/USDT: short ")
    assert sorted(lines[3:5]) == [
        "paper:BTC/USDT is closed, 1 attempt", "paper:ETH/USDT is closed, 1 attempt",
    ]  # fmt: skip
    assert lines[5].endswith("is HALTED, no position is open: 2 positions closed, 2 attempts")
    assert lines[6] == "1 of 1 worker holds it"
    assert site.output("positions").endswith("\nNo open positions.\n")
    status = json.loads(site.output("status", "--json"))
    assert (status["trading_state"], status["reason"]) == ("HALTED", "end of day")
    with process("tail", "positions", "--from", "0", "--json", environ=site.environ) as tail:
        assert tail.stdout is not None
        events = [json.loads(tail.stdout.readline())["data"] for _ in range(4)]
    closed = [event["close_reason"] for event in events if event["type"] == "PositionClosed"]
    assert closed == ["flatten", "flatten"]


def test_flatten_without_workers_changes_nothing(site: Site) -> None:
    """Nobody could close the position: said, exit 1, nothing submitted, the state as it was."""
    with process("run", environ=site.environ) as worker:
        site.submit(a_signal("s1"))
        site.ended(1)
        worker.terminate()
        assert worker.wait(20) == 0
    done = site.execute("flatten", "--reason", "x", "--timeout", "1")
    assert done.returncode == 1
    assert "no worker is alive, so nobody can close 1 position: nothing was changed" in done.stderr
    status = json.loads(site.output("status", "--json"))
    assert (status["trading_state"], status["open_positions"]) == ("ACTIVE", 1)
    (gravest, *_) = status["attention"]
    assert (gravest["code"], gravest["severity"]) == ("NO_WORKER", "critical")
    assert gravest["text"] == "no worker is alive and 1 position is open"


@pytest.mark.usefixtures("worker")
def test_a_flatten_that_is_not_through_in_time_stays_reducing(site: Site) -> None:
    """Its worker is frozen: exit 1 with what is left, REDUCING, and what another halted returns."""
    site.submit(a_signal("s1"))
    site.ended(1)
    pid = int(json.loads(site.output("workers", "--json"))["workers"][0]["name"].split("-")[-2])
    os.kill(pid, signal.SIGSTOP)
    try:
        done = site.execute("flatten", "--reason", "x", "--timeout", "2")
    finally:
        os.kill(pid, signal.SIGCONT)
    assert done.returncode == 1
    assert "paper:BTC/USDT is still open after 1 attempt: long" in done.stderr
    assert "is REDUCING, 1 left: 0 positions closed, 1 attempt" in done.stdout


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_flatten_that_is_ended_from_outside_holds_nothing_back(site: Site, number: int) -> None:
    """The halt before it, which `status` names while it runs, counts again as soon as it ends."""
    site.submit(a_signal("s1"))
    site.ended(1)
    site.output("halt", "--reason", "storm")
    pid = int(json.loads(site.output("workers", "--json"))["workers"][0]["name"].split("-")[-2])
    os.kill(pid, signal.SIGSTOP)
    try:
        with process("flatten", "--reason", "x", "--yes", environ=site.environ) as flatten:
            deadline = time.monotonic() + 30
            while (shown := json.loads(site.output("status", "--json")))["trading_state"] != (
                "REDUCING"
            ):
                assert time.monotonic() < deadline
            texts = [one["text"] for one in shown["attention"] if one["code"] == "REDUCING"]
            flatten.send_signal(number)
            _, errors = flatten.communicate(timeout=20)
        after = json.loads(site.output("status", "--json"))
    finally:
        os.kill(pid, signal.SIGCONT)
    assert "; a flatten holds back HALTED of " in texts[0]
    assert flatten.returncode == 1
    assert "stopped early, the account is HALTED" in errors
    assert after["trading_state"] == "HALTED"


@pytest.mark.usefixtures("worker")
def test_a_halt_names_the_worker_that_does_not_hold_it(site: Site) -> None:
    """A frozen worker may still have an order on its way: exit 1, and its name."""
    site.submit(a_signal("s1"))
    site.ended(1)
    name = json.loads(site.output("workers", "--json"))["workers"][0]["name"]
    pid = int(name.split("-")[-2])
    os.kill(pid, signal.SIGSTOP)
    try:
        done = site.execute("halt", "--reason", "storm", "--timeout", "1")
        attention = json.loads(site.output("status", "--json"))["attention"]
    finally:
        os.kill(pid, signal.SIGCONT)
    assert done.returncode == 1
    assert "0 of 1 worker holds it" in done.stdout
    assert f"{name} did not say so in time" in done.stderr
    assert [one["code"] for one in attention] == ["STATE_NOT_HELD", "HALTED"]


@pytest.mark.parametrize("command", ["halt", "reduce", "resume"])
def test_a_state_that_redis_did_not_confirm_is_not_known(
    site: Site, one_server: EmbeddedServer, command: str
) -> None:
    """With a frozen server nobody can say whether it was noted: exit 75 and a sentence."""
    one_server.pause()
    try:
        done = site.execute(command, "--reason", "storm")
    finally:
        one_server.resume()
    assert done.returncode == 75
    assert "it is not known whether this was noted" in done.stderr


@pytest.mark.usefixtures("worker")
def test_the_readers_tell_what_is_known(site: Site) -> None:
    """Workers, limits, profit, wallets, signals and orders as JSON of the contract's shapes."""
    site.submit(a_signal("s1"), a_signal("s2", symbol="ETH/USDT", entry_price="3000"))
    site.ended(2)
    (worker,) = json.loads(site.output("workers", "--json"))["workers"]
    assert worker["trading_state"] == "ACTIVE"
    assert worker["host"]
    assert len(worker["config_digest"]) == 12
    assert worker["loop_lag_ms"] >= 0
    limits = {one["name"]: one for one in json.loads(site.output("limits", "--json"))["limits"]}
    positions = limits["risk.max_concurrent_positions"]
    assert (positions["used"], positions["allowed"]) == ("2", "3")
    rows = json.loads(site.output("signals", "--json"))["signals"]
    assert [(one["signal_id"], one["state"]) for one in rows] == [
        ("s2", "FILLED"),
        ("s1", "FILLED"),
    ]
    rows = json.loads(site.output("orders", "--json", "--symbol", "ETH/USDT"))["orders"]
    assert [(one["signal_id"], one["state"], one["side"]) for one in rows] == [
        ("s2", "FILLED", "buy")
    ]
    assert json.loads(site.output("orders", "--live", "--json"))["orders"] == []
    deadline = time.monotonic() + 20
    while True:
        balance = json.loads(site.output("balance", "--json"))
        marks = json.loads(site.output("pnl", "--json"))["by"]
        if balance["wallets"] and all(one["mark"] for one in marks):
            break
        assert time.monotonic() < deadline, (balance, marks)
    assert "paper" in {one["exchange"] for one in balance["wallets"]}
    assert {one["symbol"] for one in marks} == {"BTC/USDT", "ETH/USDT"}
    held = json.loads(site.output("positions", "--json"))
    assert all(one["mark"] and one["unrealized_pnl"] for one in held)
    for command in ("workers", "limits", "pnl", "balance", "signals", "orders", "positions"):
        assert site.output(command).startswith("PAPER  account ")


def test_watching_a_frozen_server_shows_it_stale(site: Site, one_server: EmbeddedServer) -> None:
    """Within 3 s every look says STALE, its ages go on counting; with Redis back it is current."""
    watching = ("status", "--watch", "--json", "--interval", "0.2")
    with process(*watching, environ=site.environ) as watch:
        assert watch.stdout is not None
        json.loads(watch.stdout.readline())
        one_server.pause()
        frozen = time.monotonic()
        try:
            while not (stale := _stale(json.loads(watch.stdout.readline()))):
                assert time.monotonic() - frozen < 10
            took_s = time.monotonic() - frozen
            later = _stale(json.loads(watch.stdout.readline()))
        finally:
            one_server.resume()
        while _stale(json.loads(watch.stdout.readline())):
            assert time.monotonic() - frozen < 30
    assert took_s < 3.5  # of which 0.5 s is for the two processes to be woken
    assert stale[0]["severity"] == "critical"
    assert stale[0]["subject"] == "redis"
    assert later


def _stale(look: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [one for one in look["attention"] if one["code"] == "STALE"]
