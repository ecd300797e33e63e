"""Text of attackers in every place that a command or a log shows, to a pipe and to a terminal."""

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.acceptance.fleet import ROOT, WorkerProcess, environment, toml, wait_until
from worker.runtime.embedded_server import EmbeddedServer

#: A window's title, colours, C1, DEL, direction, no width, line ends; what is left is EVIL.
EVIL = (
    "\x1b]0;EVIL\x07\x1b[31;47mEVIL\x9b2J\x7f\u202eEVIL\u2066\u200b\u200e\u061c"
    "\u2028\u2029\x85\ufeff"
)
#: What can be an argument or stand in the environment: not a NUL, but bytes that are no UTF-8.
ARGUMENT = EVIL + "\udcff"
#: What a table in colour needs.
_DRAWING = re.compile(r"\x1b\[(?:[0-9;]*m|\?[0-9;]+[hl]|[0-9]*[ABCDGHJK]|[0-9;]*H)")
_ID = "1-1"
#: A command that follows is interrupted once it has written and then been quiet for so long.
QUIET_S = 0.3
PATIENCE_S = 40.0


def shown(*arguments: str, environ: Mapping[str, str], stdin: str = "", on_terminal: bool) -> str:
    """Everything that a command writes, to a terminal or a pipe; one that follows is stopped."""
    ours, theirs = pty.openpty() if on_terminal else os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-m", "worker", *arguments], env=environment(environ), cwd=ROOT,
        stdin=subprocess.PIPE, stdout=theirs, stderr=theirs,
    )  # fmt: skip
    os.close(theirs)
    assert process.stdin is not None
    with suppress(BrokenPipeError), process.stdin:
        process.stdin.write(stdin.encode())
    said = b""
    deadline = time.monotonic() + PATIENCE_S
    with suppress(OSError):  # a terminal's other side is closed
        while time.monotonic() < deadline:
            if select.select([ours], [], [], QUIET_S)[0]:
                piece = os.read(ours, 65_536)
                if not piece:
                    break
                said += piece
            elif b"EVIL" in said and {"tail", "--watch"} & {*arguments}:
                process.send_signal(signal.SIGINT)
    os.close(ours)
    process.kill()
    process.wait(PATIENCE_S)
    return said.decode().replace("\r\n", "\n")


def assert_harmless(text: str, *, on_terminal: bool) -> None:
    """Nothing but printable text, lines, and on a terminal what draws a table."""
    assert "\x1b[31;47m" not in text
    assert "\x1b]" not in text
    rest = _DRAWING.sub("", text) if on_terminal else text
    raw = sorted({c for c in rest if not c.isprintable() and c not in "\n\r"})
    assert raw == [], (raw, text)


@pytest.fixture
def site(one_server: EmbeddedServer) -> dict[str, str]:
    """A server with hostile text in everything that can be written to it; its environment."""
    client = redis.Redis(port=one_server.port)
    evil = EVIL.encode() + b"\xff\xed\xa0\x80"
    fields: dict[Any, Any] = {
        "data": json.dumps({"signal_id": EVIL, "reason": EVIL, "symbol": EVIL, "exchange": EVIL}),
        "type": evil, "reason": evil, "error": evil, "signal_id": evil, "worker": evil,
        "entry_id": evil, "deliveries": "1", "at": evil, evil: evil,
    }  # fmt: skip
    raw = json.dumps({"signal_id": "x", "reason": EVIL, "code": EVIL}, ensure_ascii=False)
    for stream in ("signals", "orders", "positions", "system", "dead"):
        client.xadd(_key(stream), fields, id=_ID)
        client.xadd(_key(stream), {**fields, "data": raw}, id="2-1")
        client.xadd(_key(stream), {"data": evil, "type": "X"}, id="3-1")
    client.hset(_key("control"), mapping={"trading_state": "ACTIVE", "reason": evil, "actor": evil})
    status = json.dumps({"mode": EVIL, "in_flight": 1, "concurrency": EVIL})
    client.hset(_key("workers"), evil, f"{int(datetime.now(UTC).timestamp() * 1000)} {status}")
    client.set(_key("keeper"), evil)
    client.zadd(_key("unresolved"), {evil: 1})
    position = {
        "position_id": EVIL, "exchange": EVIL, "symbol": EVIL, "direction": "long", "quantity": "1",
        "opened_quantity": "1", "entry_price": "1", "opened_at": "2026-01-01T00:00:00Z",
        "signal_id": EVIL, "strategy_id": EVIL, "fees": {EVIL: "1"},
    }  # fmt: skip
    client.hset(_key("book"), f"{EVIL}:{EVIL}", json.dumps(position))
    client.hset(_key("totals"), evil, 1_000_000)
    client.close()
    return {"WORKER_REDIS__URL": one_server.url}


def _key(name: str) -> str:
    return f"{{main}}:{name}"


_COMMANDS: list[tuple[list[str], bool]] = [
    (["tail", "--from", "0", "signals", "orders", "positions", "system", "dead"], True),
    (["tail", "--from", "0", "--json", "signals", "orders", "positions", "system", "dead"], True),
    (["status"], True),
    (["status", "--json"], True),
    (["status", "--watch", "--interval", "1"], True),
    (["order", ARGUMENT], True),
    (["order", EVIL], True),
    (["order", "x"], True),
    (["order", "x", "--json"], True),
    (["positions"], True),
    (["positions", "--json"], True),
    (["dead", "list"], True),
    (["dead", "list", "--json"], True),
    (["dead", "show", "1-1"], True),
    (["dead", "show", _ID, "--json"], True),
    (["dead", "show", ARGUMENT], True),
    (["dead", "replay", _ID], False),
    (["halt", "--reason", EVIL], False),
    (["resume", "--reason", EVIL], False),
    (["flatten", "--reason", EVIL, "--timeout", "1"], False),
    (["resolve", EVIL, "--absent", "--reason", EVIL, "--timeout", "1"], True),
    (["correct", EVIL, EVIL, "--quantity", "1", "--price", "1", "--reason", "x"], False),
    (["submit", ARGUMENT], True),
    (["submit", "-"], True),
    (["submit", "--key-id", EVIL, "-"], True),
    (["check", EVIL], True),
    (["status", "--config", ARGUMENT], True),
    ([ARGUMENT], True),
]


@pytest.mark.parametrize("on_terminal", [False, True], ids=["pipe", "terminal"])
@pytest.mark.parametrize(("command", "is_shown"), _COMMANDS)
def test_no_command_shows_it_raw(
    site: dict[str, str], command: list[str], is_shown: bool, on_terminal: bool
) -> None:
    """What is shown of it is escaped; JSON is, so that a program still reads it."""
    stdin = json.dumps([{EVIL: EVIL}, EVIL], ensure_ascii=False)
    said = shown(*command, environ=site, stdin=stdin, on_terminal=on_terminal)
    assert_harmless(said, on_terminal=on_terminal)
    assert "Traceback" not in said
    assert ("EVIL" in said) or not is_shown, said
    if "--json" in command and is_shown and not said.startswith("execution-worker: "):
        lines = [json.loads(line) for line in said.splitlines() if line[:1] in {"{", "["}]
        assert any(EVIL in text for text in _texts(lines))


def _texts(value: Any) -> Iterator[str]:
    """Every text in decoded JSON."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, entry in value.items():
            yield name
            yield from _texts(entry)
    elif isinstance(value, list):
        for entry in value:
            yield from _texts(entry)


@pytest.mark.parametrize("on_terminal", [False, True], ids=["pipe", "terminal"])
@pytest.mark.parametrize("command", ["check", "config"])
def test_no_configuration_shows_it_raw(tmp_path: Path, command: str, on_terminal: bool) -> None:
    """Names and values of keys, from a file and from the environment."""
    quoted = json.dumps(EVIL)
    files = {
        "key.toml": f"{quoted} = 1\n",
        "table.toml": f"[exchanges.{quoted}]\nadapter = 'paper'\n",
        "value.toml": f"account = {quoted}\n",
        "adapter.toml": f"[exchanges.paper]\nadapter = {quoted}\n",
        "broken.toml": f"account = {EVIL}\n",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.write_text(text)
        said = shown(command, "--config", str(path), environ={}, on_terminal=on_terminal)
        assert_harmless(said, on_terminal=on_terminal)
        assert "Traceback" not in said
    for variable in ("WORKER_ACCOUNT", "WORKER_REDIS__URL", "WORKER_WORKER__NAME", "WORKER_NO"):
        environ = {"WORKER_REDIS__URL": "redis://127.0.0.1:1/0", variable: ARGUMENT}
        said = shown(command, environ=environ, on_terminal=on_terminal)
        assert_harmless(said, on_terminal=on_terminal)
        assert "Traceback" not in said


@pytest.mark.parametrize("form", ["json", "console"])
def test_no_log_shows_it_raw(tmp_path: Path, one_server: EmbeddedServer, form: str) -> None:
    """A worker's log, of signals that hold it in every field."""
    config = tmp_path / "worker.toml"
    config.write_text(
        toml(
            {
                "": {"mode": "paper"},
                "http": {"port": 0},
                "log": {"level": "debug", "format": form},
                "redis": {"url": one_server.url},
                "exchanges.paper": {"adapter": "paper"},
            }
        )
    )
    good = {
        "signal_id": "s-1", "created_at": datetime.now(UTC).isoformat(), "exchange": "paper",
        "symbol": "BTC/USDT", "direction": "long", "strength": 0.9, "confluence_score": 8,
        "entry_price": "65000",
    }  # fmt: skip
    client = redis.Redis(port=one_server.port)
    worker = WorkerProcess(config, tmp_path / "worker.log")
    try:
        count = 0
        for name in (*good, "strategy_id", "metadata", EVIL):
            for text in (EVIL, EVIL + "\n{forged"):
                signal_ = {**good, "signal_id": f"s-{count}", name: text}
                client.xadd(_key("signals"), {"data": json.dumps(signal_), EVIL: EVIL, "key": EVIL})
                count += 1
        orders, dead = _key("orders"), _key("dead")
        wait_until(
            lambda: (
                len(worker.lines) > count
                and client.xlen(orders) + client.xlen(dead) >= count
                and not client.xpending(_key("signals"), "execution")["pending"]
            ),
            "every signal ended",
        )
        worker.stop()
    finally:
        worker.close()
        client.close()
    log = "".join(worker.lines)
    assert "EVIL" in log
    assert_harmless(log, on_terminal=False)
    assert not any(line.startswith("{forged") for line in worker.lines)
