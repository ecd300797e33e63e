"""Commands that change a live account ask a person at a terminal for its name."""

import os
import pty
import subprocess
import sys
from collections.abc import Sequence
from typing import Final

import pytest

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


@pytest.mark.parametrize("arguments", [_CORRECT, _RESOLVE])
def test_another_name_than_the_accounts_changes_nothing(
    one_server: EmbeddedServer, arguments: Sequence[str]
) -> None:
    """The question says that the account is live; a wrong answer ends with exit 1."""
    code, shown = _at_a_terminal(one_server, arguments, "yes", "live")
    assert code == 1
    assert "This account is LIVE" in shown
    assert "nothing was done" in shown


@pytest.mark.parametrize("arguments", [_CORRECT, _RESOLVE])
@pytest.mark.parametrize(
    ("mode", "extra", "typed"), [("live", (), "main"), ("live", ("--yes",), ""), ("paper", (), "")]
)
def test_who_confirms_or_has_nothing_to_lose_goes_on(
    one_server: EmbeddedServer,
    arguments: Sequence[str],
    mode: str,
    extra: Sequence[str],
    typed: str,
) -> None:
    """The right name, ``--yes`` and paper get as far as the account, which has no such thing."""
    code, shown = _at_a_terminal(one_server, (*arguments, *extra), typed, mode)
    assert code == 1
    assert "the book has no position" in shown or "no order of signal s1 is known" in shown
    assert ("LIVE" in shown) is (typed == "main")


@pytest.mark.parametrize("arguments", [_CORRECT, _RESOLVE])
def test_a_dry_run_asks_nobody(one_server: EmbeddedServer, arguments: Sequence[str]) -> None:
    """It says what would be done and ends with 0."""
    code, shown = _at_a_terminal(one_server, (*arguments, "--dry-run"), "", "live")
    assert code == 0
    assert "would do: S" in shown
