"""Every screen at 60, 80 and 160 columns: nothing too long, no number cut, and whose account it is.

Two workers trade on paper under the longest account name there may be.
"""

import json
import re
import time
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, Final

import pytest

from tests.acceptance.fleet import Fleet
from tests.acceptance.screens import (
    amounts_of,
    amounts_shown,
    on_terminal,
    piped,
    spellings,
)
from tests.acceptance.signals import opening, spot
from tests.acceptance.site import Site, a_signal, process
from worker.runtime.embedded_server import EmbeddedServer

WIDTHS: Final = (60, 80, 160)
ACCOUNT: Final = "the-account-with-the-longest-id1"
LONG_ID: Final = "a-signal-with-an-id-of-64-characters-as-some-engines-make-them-1"
#: Every command that reads, and how its JSON is asked for where it tells amounts.
READERS: Final[tuple[tuple[str, ...], ...]] = (
    ("status",),
    ("workers",),
    ("limits",),
    ("positions",),
    ("pnl",),
    ("balance",),
    ("signals",),
    ("orders",),
    ("orders", "--live"),
    ("order", LONG_ID),
    ("dead", "list"),
    ("dead", "list", "--count"),
    ("check",),
    ("tail", "-n", "50", "--no-follow", "signals", "orders", "positions", "system", "dead"),
)
#: Readers whose every amount stands in their JSON.
WITH_AMOUNTS: Final = {"status", "limits", "positions", "pnl", "balance", "orders"}
#: What their JSON has more than a screen shows.
NOT_SHOWN: Final = {
    "status": {"limits", "differences", "unresolved", "attention"},
    "positions": {
        "opened_quantity",
        "exit_value",
        "exit_quantity",
        "fee",
        "fees",
        "entry_fee_open",
    },
    "orders": {"average_price", "price", "stop_price"},
}


@pytest.fixture(scope="module")
def trading() -> Iterator[Site]:
    """A site whose two workers have traded: tiny prices, long ids, refusals, a dead letter."""
    with EmbeddedServer() as server:
        site = Site(server)
        site.environ["WORKER_ACCOUNT"] = ACCOUNT
        site.environ["WORKER_RISK__MAX_CONCURRENT_POSITIONS"] = "2"
        with process("run", environ=site.environ), process("run", environ=site.environ):
            while len(json.loads(site.output("workers", "--json"))["workers"]) < 2:
                time.sleep(0.1)
            signals = [
                a_signal(LONG_ID, symbol="SHIB/USDT", entry_price="0.00001234"),
                a_signal("s2", symbol="ETH/USDT", entry_price="3500.55", strategy_id="trend-1"),
            ]
            shown = site.output("submit", "--wait", "30", stdin=json.dumps(signals))
            assert shown.count("  filled ") == 2
            site.submit(
                a_signal("half", symbol="ETH/USDT", action="close", quantity="0.2",
                         direction=None, strength=None, confluence_score=None,
                         entry_price="3600.01"),
                a_signal("third", symbol="SOL/USDT", entry_price="150"),
                {"signal_id": "bad", "stop_los": 1},
            )  # fmt: skip
            while json.loads(site.output("status", "--json"))["pending"]:
                time.sleep(0.1)
            # The keeper publishes wallets and marks every 5 s.
            while any(
                one["mark"] is None for one in json.loads(site.output("positions", "--json"))
            ):
                time.sleep(0.1)
            yield site


def _without(document: Any, names: set[str]) -> Any:
    if isinstance(document, dict):
        return {k: _without(v, names) for k, v in document.items() if k not in names}
    if isinstance(document, list):
        return [_without(part, names) for part in document]
    return document


@cache
def _json(site: Site, arguments: tuple[str, ...]) -> Any:
    return json.loads(site.output(*arguments, "--json"))


def _check(screen: str, width: int) -> None:
    """Nothing is longer than the screen, cut, or a traceback."""
    for line in screen.splitlines():
        assert len(line) <= width, line
        assert "…" not in line
    assert "Traceback" not in screen


def _check_heading(screen: str, account: str, mode: str) -> None:
    """Whose account it is, whether money moves there, and from when the figures are."""
    words = " ".join(screen.replace("║", " ").split())
    assert re.search(
        rf"{mode} account {account} \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{{3}} UTC", words
    ), screen


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("arguments", READERS, ids=" ".join)
def test_a_screen_fits_and_says_whose_it_is(
    trading: Site, arguments: tuple[str, ...], width: int
) -> None:
    """On a terminal: every line fits, the heading is whole, each number is one of the JSON's."""
    code, screen = on_terminal(arguments, width, trading.environ)
    assert code == 0, screen
    _check(screen, width)
    if arguments == ("check",):
        assert f"mode paper, account {ACCOUNT}" in " ".join(screen.split())
    else:
        _check_heading(screen, ACCOUNT, "PAPER")
    _check_amounts(trading, arguments, screen, all_are_shown=width < 80)


def test_no_id_is_cut(trading: Site) -> None:
    """Entry ids are whole wherever their column is shown, beside short signal ids and long."""
    known = {one["entry_id"] for one in _json(trading, ("signals",))["signals"]}
    for width in range(80, 161, 8):
        for state in ("DEAD", "FILLED"):
            code, screen = piped(("signals", "--state", state), width, trading.environ)
            assert code == 0
            assert set(re.findall(r"(?<![\w-])\d{6,}[\d-]*", screen)) <= known


def _check_amounts(
    site: Site, arguments: tuple[str, ...], screen: str, *, all_are_shown: bool
) -> None:
    name = arguments[0]
    if name not in WITH_AMOUNTS:
        return
    known = list(amounts_of(_json(site, arguments)))
    allowed = {spelling for amount in known for spelling in spellings(amount)}
    assert amounts_shown(screen) <= allowed, amounts_shown(screen) - allowed
    if all_are_shown:  # a card has every column
        words = set(screen.split())
        for amount in amounts_of(_without(_json(site, arguments), NOT_SHOWN.get(name, set()))):
            assert words & spellings(amount), (amount, screen)


@pytest.mark.parametrize("arguments", READERS, ids=" ".join)
def test_a_pipe_is_as_wide_as_columns_says(trading: Site, arguments: tuple[str, ...]) -> None:
    """The narrowest screen into a pipe."""
    code, screen = piped(arguments, 60, trading.environ)
    assert code == 0, screen
    _check(screen, 60)
    _check_amounts(trading, arguments, screen, all_are_shown=True)


@pytest.mark.parametrize("width", WIDTHS)
def test_what_cannot_be_done_is_a_sentence_that_fits(trading: Site, width: int) -> None:
    """On a terminal a complaint is broken between words; the exit code says that it failed."""
    code, screen = on_terminal(("order", "nobody"), width, trading.environ)
    assert code == 1
    assert screen.startswith("execution-worker: nothing is known of nobody")
    _check(screen, width)


def test_what_became_of_it_is_told(trading: Site) -> None:
    """A dead letter is no waiting signal, and a limit says when it refused last."""
    rows = {one["signal_id"]: one for one in _json(trading, ("signals",))["signals"]}
    assert (rows["bad"]["state"], rows["bad"]["code"]) == ("DEAD", "malformed")
    assert (rows["third"]["state"], rows["third"]["code"]) == ("FAILED", "MAX_POSITIONS")
    assert rows[LONG_ID]["state"] == "FILLED"
    refused = {one["name"]: one["last_refusal"] for one in _json(trading, ("limits",))["limits"]}
    assert refused.pop("risk.max_concurrent_positions") is not None
    assert set(refused.values()) == {None}


LIVE: Final[Sequence[tuple[str, ...]]] = (
    ("status",), ("positions",), ("orders",), ("order", "s1"), ("balance",), ("dead", "list"),
)  # fmt: skip


def test_a_live_account_is_called_live(fleet: Fleet) -> None:
    """Against a simulated exchange, with the worker's mode, not the command's."""
    fleet.start_ready(1)
    fleet.submit(opening("s1", spot(1)))
    fleet.until_ended(["s1"])
    # The command's own configuration says paper: what counts is what the worker does.
    environ = {"WORKER_CONFIG": str(fleet.config), "WORKER_MODE": "paper"}
    for arguments in LIVE:
        code, screen = on_terminal(arguments, 80, environ)
        assert code == 0, screen
        _check(screen, 80)
        _check_heading(screen, "main", "LIVE")
