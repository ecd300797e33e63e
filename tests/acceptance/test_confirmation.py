"""Commands that change a live account ask a person at a terminal for its name."""

import os
import pty
import subprocess
import sys
from collections.abc import Sequence
from typing import Final

import pytest
import redis

from worker.runtime.embedded_server import EmbeddedServer

_CORRECT: Final = (
    "correct", "paper", "BTC/USDT", "--quantity", "0", "--price", "1", "--reason", "by hand",
)  # fmt: skip
#: A live mode needs an exchange that could be traded on; nobody asks it anything.
_KEYS: Final = {
    "WORKER_EXCHANGES__BINANCE__ADAPTER": "ccxt",
    "WORKER_EXCHANGES__BINANCE__API_KEY": "key",
    "WORKER_EXCHANGES__BINANCE__SECRET": "secret",
}
_RESOLVE: Final = ("resolve", "s1", "--absent", "--reason", "the exchange's own list")
_DISCARD: Final = ("dead", "discard", "--all")
_REPLAY: Final = ("dead", "replay", "--all")
_SUBMIT: Final = ("submit", "--exchange", "binance", "--symbol", "BTC/USDT", "--long")
_RESUME: Final = ("resume",)
_MEND: Final = ("mend-stream",)
#: What asks, and what each says once it went on.
_ASKING: Final = {
    _CORRECT: "the book has no position", _RESOLVE: "no order of signal s1 is known",
    _DISCARD: "is gone", _REPLAY: "", _SUBMIT: "  cli-", _RESUME: "account main is",
    _MEND: "signals: sound",
}  # fmt: skip


@pytest.fixture
def letter(one_server: EmbeddedServer) -> EmbeddedServer:
    """A server with a dead letter."""
    with redis.Redis(host="127.0.0.1", port=one_server.port) as client:
        client.xadd(
            "{main}:dead",
            {"data": "{}", "reason": "malformed", "error": "x"}
            | dict.fromkeys(("entry_id", "deliveries", "worker", "at"), "1"),
        )
    return one_server


def _at_a_terminal(
    server: EmbeddedServer, arguments: Sequence[str], typed: str, mode: str
) -> tuple[int, str]:
    """Run a command on a terminal of its own; returns its exit code and all it showed."""
    ours, theirs = pty.openpty()
    environ = {name: value for name, value in os.environ.items() if not name.startswith("WORKER_")}
    environ |= {"WORKER_REDIS__URL": server.url, "WORKER_MODE": mode} | _KEYS
    process = subprocess.Popen(
        [sys.executable, "-m", "worker", *arguments],
        env=environ,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    os.write(ours, f"{typed}\n".encode())
    shown = b""
    try:
        while chunk := os.read(ours, 4096):
            shown += chunk
    except OSError:  # the terminal's other end is closed
        pass
    os.close(ours)
    return process.wait(30), shown.decode()


@pytest.mark.parametrize("arguments", _ASKING)
def test_another_name_than_the_accounts_changes_nothing(
    letter: EmbeddedServer, arguments: Sequence[str]
) -> None:
    """The question says that the account is live; a wrong answer ends with exit 1."""
    before = _everything(letter)
    code, shown = _at_a_terminal(letter, arguments, "yes", "live")
    assert code == 1
    assert _everything(letter) == before
    assert "This account is LIVE" in shown
    assert "nothing was done" in shown


@pytest.mark.parametrize("arguments", _ASKING)
@pytest.mark.parametrize(
    ("mode", "extra", "typed"), [("live", (), "main"), ("live", ("--yes",), ""), ("paper", (), "")]
)
def test_who_confirms_or_has_nothing_to_lose_goes_on(
    letter: EmbeddedServer,
    arguments: tuple[str, ...],
    mode: str,
    extra: Sequence[str],
    typed: str,
) -> None:
    """The right name, ``--yes`` and paper get as far as the account."""
    _, shown = _at_a_terminal(letter, (*arguments, *extra), typed, mode)
    assert _ASKING[arguments] in shown
    assert "nothing was done" not in shown
    assert ("LIVE" in shown) is (typed == "main")


@pytest.mark.parametrize(
    "arguments", [*_ASKING, ("halt", "--reason", "x"), ("reduce", "--reason", "x")]
)
def test_a_dry_run_asks_nobody(letter: EmbeddedServer, arguments: Sequence[str]) -> None:
    """It says what would be done, ends with 0 and changes nothing."""
    before = _everything(letter)
    code, shown = _at_a_terminal(letter, (*arguments, "--dry-run"), "", "live")
    assert code == 0
    assert "would" in shown or "sound" in shown
    assert _everything(letter) == before


@pytest.mark.parametrize("command", ["halt", "reduce"])
def test_what_stops_trading_is_not_held_up_by_a_question(
    one_server: EmbeddedServer, command: str
) -> None:
    """A live account is halted without a name being typed."""
    code, shown = _at_a_terminal(one_server, (command, "--reason", "x"), "", "live")
    assert code == 0
    assert "account main is" in shown
    assert "Type its name" not in shown


def _everything(server: EmbeddedServer) -> dict[bytes, bytes | None]:
    """Every key of a server, as Redis would write it to its file."""
    with redis.Redis(host="127.0.0.1", port=server.port) as client:
        return {key: client.dump(key) for key in client.scan_iter()}
