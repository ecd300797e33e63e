"""``order`` finds a signal by any id that people come across, and shows it on any screen."""

import json
import re
import time
from typing import Any

import pytest
import redis

from tests.acceptance import signals
from tests.acceptance.fleet import Fleet, wait_until
from tests.acceptance.site import Site, a_signal, execute, is_sentence
from worker.domain.identity import client_order_id
from worker.operator.finding import MAX_SEARCHED, PAGE


def _events(site: Site, kind: str) -> list[dict[str, Any]]:
    shown = site.output("tail", "--from", "0", "--no-follow", "--json", "--type", kind)
    return [json.loads(line) for line in shown.splitlines()]


@pytest.mark.usefixtures("worker")
def test_any_id_finds_its_order(site: Site) -> None:
    """Signal, client order, exchange order, position, and entries of every stream."""
    (entry_id,) = site.submit(a_signal("s1"))
    site.submit(a_signal("s2", symbol="ETH/USDT", entry_price="3500"))
    (dead,) = site.submit({"signal_id": "s3", "stop_los": 1})
    site.ended(3)
    (placed,) = [e for e in _events(site, "OrderPlaced") if e["data"]["signal_id"] == "s1"]
    (opened,) = [e for e in _events(site, "PositionOpened") if e["data"]["signal_id"] == "s1"]
    (letter,) = _events(site, "DeadLetter")
    order, position = placed["data"], opened["data"]
    for identity, signal_id, kind in [
        ("s1", "s1", "signal_id"),
        (order["client_order_id"], "s1", "client_order_id"),
        (order["exchange_order_id"], "s1", "exchange_order_id"),
        (position["position_id"], "s1", "position_id"),
        (entry_id, "s1", "entry_id"),
        (placed["entry_id"], "s1", "entry_id"),
        (opened["entry_id"], "s1", "entry_id"),
        (dead, "s3", "entry_id"),
        (letter["letter_id"], "s3", "entry_id"),
    ]:
        found = json.loads(site.output("order", identity, "--json"))
        assert found["signal_id"] == signal_id
        # A position's id is its opening order's client order id.
        assert {found["found_by"], kind} <= {kind, "client_order_id", "position_id"}
    told = site.output("order", order["exchange_order_id"])
    assert "\ns1: FILLED\n  found by its exchange order id " in told
    assert "found by" not in site.output("order", "s1")


@pytest.mark.usefixtures("worker")
def test_a_closed_position_is_found_by_its_opener(site: Site) -> None:
    """Its id stands in the events of the signal that closed it as well."""
    site.submit(a_signal("in"))
    site.ended(1)
    (opened,) = _events(site, "PositionOpened")
    site.submit(a_signal("out", action="close", direction=None))
    site.ended(2)
    assert "\nin: FILLED\n" in site.output("order", opened["data"]["position_id"])


@pytest.mark.usefixtures("worker")
def test_an_exchange_order_id_of_two_exchanges_is_no_guess(site: Site) -> None:
    """Exchanges count for themselves: the answer names both signals."""
    for name in ("one", "two"):
        data = json.dumps({"exchange_order_id": "77", "signal_id": name})
        _fill(site, [{"type": "OrderPlaced", "subject": name, "data": data}])
    done = site.execute("order", "77")
    assert done.returncode == 1
    assert is_sentence(done.stderr)
    assert "77 belongs to several signals: one, two; ask for one of them" in done.stderr


def test_an_order_in_doubt_is_found_by_its_client_order_id(fleet: Fleet) -> None:
    """No event says the id yet; people have it from the exchange, and ask."""
    fleet.exchange.add_fault(method="POST", path="/order$", action="drop_before")
    fleet.exchange.add_fault(method="GET", path="/order$", action="drop_before")
    fleet.start_ready(1)
    signal = signals.opening("doubt", signals.linear(0))
    fleet.submit(signal)
    wait_until(lambda: fleet.ask("ZCARD", "{main}:unresolved"), "nothing is in doubt")
    identity = client_order_id("main", "doubt", "entry")
    found = json.loads(fleet.command("order", identity, "--json"))
    assert (found["signal_id"], found["found_by"]) == ("doubt", "client_order_id")


def test_an_unknown_id_says_how_far_was_looked(site: Site) -> None:
    """Where the streams are longer than what is searched, the sentence says so."""
    done = site.execute("order", "nobody")
    assert (done.returncode, done.stdout) == (1, "")
    assert is_sentence(done.stderr), done.stderr
    assert "nothing is known of nobody: " in done.stderr
    rows = [{"type": "Filler", "data": "{}"}] * (MAX_SEARCHED + PAGE)
    _fill(site, rows)
    started = time.monotonic()
    done = site.execute("order", "nobody")
    assert done.returncode == 1
    assert "nothing is known of nobody among the newest entries: " in done.stderr
    assert time.monotonic() - started < 10


def _fill(site: Site, rows: list[dict[str, str]]) -> None:
    client = redis.Redis.from_url(site.environ["WORKER_REDIS__URL"])
    pipeline = client.pipeline(transaction=False)
    for row in rows:
        pipeline.xadd("{main}:orders", dict(row))  # type: ignore[arg-type]
    pipeline.execute()
    client.close()


@pytest.mark.parametrize(
    "arguments",
    [
        ["order", ""],
        ["order", " "],
        ["resolve", "", "--absent", "--reason", "x"],
        ["correct", "", "BTC/USDT", "--quantity", "0", "--price", "1", "--reason", "x"],
        ["correct", "paper", "", "--quantity", "0", "--price", "1", "--reason", "x"],
        ["dead", "show", ""],
        ["tail", "--signal", ""],
        ["submit", "--id", ""],
        ["submit", "--key", ""],
    ],
)
def test_an_empty_id_is_wrong_usage(arguments: list[str]) -> None:
    """A script whose variable is empty asks about nothing; Redis is not asked."""
    done = execute(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert "usage: execution-worker" in done.stderr


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("columns", ["60", "80", "160"])
def test_order_and_positions_fit_the_screen(site: Site, columns: str) -> None:
    """No line is wider, no number is cut, and a narrow screen shows a card a position."""
    site.submit(a_signal("a-rather-long-signal-id-of-some-strategy-0001"))
    site.ended(1)
    environ = site.environ | {"COLUMNS": columns}
    (position,) = json.loads(site.output("positions", "--json"))
    for arguments in (["order", "a-rather-long-signal-id-of-some-strategy-0001"], ["positions"]):
        done = execute(*arguments, environ=environ)
        assert done.returncode == 0
        assert all(len(line.rstrip()) <= int(columns) for line in done.stdout.splitlines())
        assert position["quantity"] in re.split(r"[\s=]+", done.stdout)
    if columns == "60":
        assert ["quantity", position["quantity"]] in map(str.split, done.stdout.splitlines())
    else:
        assert done.stdout.splitlines()[2].split()[:2] == ["position", "side"]
