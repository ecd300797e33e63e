"""``tail`` as its users meet it: where it begins, what it shows, when it ends."""

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

import pytest

from tests.acceptance.site import Site, a_signal, environment, execute, process
from worker.runtime.embedded_server import EmbeddedServer

COINS = {"BTC/USDT": "65000", "ETH/USDT": "3500", "SOL/USDT": "150"}


def _lines(site: Site, *arguments: str) -> list[dict[str, Any]]:
    shown = site.output("tail", *arguments, "--no-follow", "--json")
    return [json.loads(line) for line in shown.splitlines()]


def _named(site: Site, *arguments: str) -> list[tuple[str, str]]:
    """Type and signal of each entry."""
    return [(one["type"], one["data"]["signal_id"]) for one in _lines(site, *arguments)]


@pytest.fixture
def traded(site: Site, worker: "subprocess.Popen[str]") -> Site:
    """Three signals that opened positions, one that failed, one dead letter."""
    assert worker.pid
    signals = [
        a_signal(f"s{n}", symbol=symbol, entry_price=price)
        for n, (symbol, price) in enumerate(COINS.items())
    ]
    for number, signal in enumerate([*signals, a_signal("bad", symbol="NO/SUCH"), {}], 1):
        site.submit(signal)
        site.ended(number)
    return site


def test_it_begins_where_it_is_told_to(traded: Site) -> None:
    """The newest N over all streams in their order; since a while; after an id; ten by default."""
    everything = _lines(traded, "--from", "0")
    types = [one["type"] for one in everything if one["stream"] != "system"]
    assert types == ["OrderPlaced", "OrderFilled", "PositionOpened"] * 3 + ["OrderFailed"]
    assert _lines(traded, "-n", "3") == everything[-3:]
    assert _lines(traded, "-n", "1000") == everything
    assert _lines(traded) == everything[-10:]
    assert _lines(traded, "--since", "1h") == everything
    assert _lines(traded, "--since", "1h", "-n", "2") == everything[-2:]
    middle = everything[4]["entry_id"]
    assert everything[-1] in _lines(traded, "--from", middle)
    assert everything[4] not in _lines(traded, "--from", middle)
    time.sleep(1.1)  # until a second has passed since the last event: that is the property
    assert _lines(traded, "--since", "1s") == []


def test_filters_narrow_what_is_shown(traded: Site) -> None:
    """By type, symbol and signal; several of one kind widen, different kinds narrow."""
    assert _named(traded, "--type", "OrderFilled") == [("OrderFilled", f"s{n}") for n in range(3)]
    assert _named(traded, "--type", "orderfilled", "-n", "1") == [("OrderFilled", "s2")]
    both = _named(traded, "--type", "OrderFilled", "--type", "PositionOpened", "--signal", "s1")
    assert both == [("OrderFilled", "s1"), ("PositionOpened", "s1")]
    coins = _named(traded, "orders", "--symbol", "BTC/USDT", "--symbol", "SOL/USDT")
    assert {name for _, name in coins} == {"s0", "s2"}
    assert _named(traded, "--signal", "nobody") == []


def test_a_type_says_which_streams_have_it(traded: Site) -> None:
    """Dead letters and signals are on streams that are not shown by default."""
    (letter,) = _lines(traded, "--type", "DeadLetter")
    assert letter["reason"] == "malformed"
    assert len(_lines(traded, "--type", "Signal")) == 5


def test_filters_hold_for_what_comes_too(traded: Site) -> None:
    """After what was, it goes on with the same filters."""
    what = ["tail", "--type", "OrderFailed", "-n", "1", "--json"]
    with process(*what, environ=traded.environ) as tail:
        assert tail.stdout is not None
        assert json.loads(tail.stdout.readline())["data"]["signal_id"] == "bad"
        traded.submit(a_signal("s9", action="close", direction=None))
        traded.submit(a_signal("bad2", symbol="NO/SUCH"))
        assert json.loads(tail.stdout.readline())["data"]["signal_id"] == "bad2"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--type", "OrderFiled"], "did you mean OrderFilled?"),
        (["order"], "did you mean orders?"),
        (["--since", "10"], "as 90s, 10m, 2h or 1d is"),
        (["--since", "0m"], "is not a time span"),
        (["--since", "1h", "--from", "0"], "not allowed with"),
        (["-n", "0"], "whole number of 1 or more"),
        (["--signal", ""], "it is empty"),
        (["--symbol", " "], "it is empty"),
    ],
)
def test_what_cannot_be_meant_is_wrong_usage(arguments: Sequence[str], says: str) -> None:
    """Exit 2, before Redis is asked anything; a misspelt type would show nothing for ever."""
    done = execute("tail", *arguments)
    assert done.returncode == 2
    assert says in done.stderr


def test_it_ends_when_its_reader_leaves_while_nothing_comes(site: Site) -> None:
    """``tail | head -1`` ends with its first line, though no second one is ever written."""
    with process("tail", "signals", "--from", "0", environ=site.environ) as tail:
        site.submit(a_signal("s1"))
        assert tail.stdout is not None
        assert "s1" in tail.stdout.readline()
        tail.stdout.close()
        assert tail.wait(10) == 0
        assert tail.stderr is not None
        assert tail.stderr.read() == ""
        tail.stdout = None


def test_in_a_shell_the_whole_pipe_ends(site: Site) -> None:
    """The same with a real ``head`` in a real shell, all exit codes 0."""
    site.submit(a_signal("s1"))
    script = 'execution-worker tail signals --from 0 | head -1; echo "${PIPESTATUS[@]}"'
    done = subprocess.run(
        ["bash", "-c", f'execution-worker() {{ "$PYTHON" -m worker "$@"; }}; {script}'],
        env=environment(site.environ) | {"PYTHON": sys.executable},
        capture_output=True, text=True, timeout=30, check=True,
    )  # fmt: skip
    assert done.stderr == ""
    assert "s1" in done.stdout
    assert done.stdout.endswith("0 0\n")


def test_without_following_a_missing_redis_is_an_error(site: Site) -> None:
    """It does not wait for one: whoever asks for what is there now gets an answer."""
    assert site.output("tail", "--no-follow") == ""
    with EmbeddedServer() as server:
        gone = {"WORKER_REDIS__URL": server.url}
    done = execute("tail", "--no-follow", environ=gone)
    assert done.returncode == 1
    assert "Redis cannot be reached" in done.stderr


@pytest.mark.parametrize("columns", ["60", "80", "160"])
def test_a_line_fits_the_screen_and_numbers_stay_whole(traded: Site, columns: str) -> None:
    """Where ``COLUMNS`` says how wide it is; every word of the wide form is in the narrow one."""
    wide = traded.output("tail", "--from", "0", "--no-follow").split()
    environ = traded.environ | {"COLUMNS": columns}
    done = execute("tail", "--from", "0", "--no-follow", environ=environ)
    assert done.returncode == 0
    assert done.stdout.split() == wide
    assert all(len(line) <= int(columns) for line in done.stdout.splitlines())
