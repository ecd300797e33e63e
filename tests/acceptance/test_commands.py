"""Every command as its user meets it: the real program, its output, its exit code."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from worker import __version__
from worker.cli.main import COMMANDS
from worker.cli.python_build import slowness
from worker.config.keys import Config, RedisConfig, Secret
from worker.ledger.access import StreamEntry
from worker.operator.reader import AccountReader
from worker.runtime.embedded_server import EmbeddedServer

_NOWHERE = {"WORKER_REDIS__URL": "redis://127.0.0.1:1/0"}
_ENDS = {"OrderFilled", "OrderCancelled", "OrderFailed"}


def _environment(extra: Mapping[str, str]) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("WORKER_")}
    return clean | {"WORKER_HTTP__PORT": "0", "COLUMNS": "200"} | dict(extra)


def _execute(
    *arguments: str, environ: Mapping[str, str] = _NOWHERE, stdin: str = ""
) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "worker", *arguments],
        env=_environment(environ),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


class Site:
    """A server and what is done with it by commands."""

    def __init__(self, server: EmbeddedServer) -> None:
        self.environ = {"WORKER_REDIS__URL": server.url}
        self._config = Config(redis=RedisConfig(url=Secret(server.url)))

    def execute(self, *arguments: str, stdin: str = "") -> "subprocess.CompletedProcess[str]":
        return _execute(*arguments, environ=self.environ, stdin=stdin)

    def output(self, *arguments: str, stdin: str = "") -> str:
        """The output of a command that must succeed."""
        done = self.execute(*arguments, stdin=stdin)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def submit(self, *signals: Mapping[str, Any]) -> list[str]:
        return self.output("submit", stdin=json.dumps(signals)).split()

    def until_worker(self) -> None:
        """Wait until a worker has told that it is there."""
        deadline = time.monotonic() + 30
        while not json.loads(self.output("workers", "--json"))["workers"]:
            assert time.monotonic() < deadline

    def ended(self, count: int) -> list[StreamEntry]:
        """Wait until ``count`` signals have ended, as orders or dead letters."""
        return asyncio.run(self._ended(count))

    async def _ended(self, count: int) -> list[StreamEntry]:
        found: list[StreamEntry] = []
        async with AccountReader(self._config) as reader, asyncio.timeout(30):
            async for entry in reader.follow(("orders", "dead"), "0"):
                if entry.stream == "dead" or entry.text("type") in _ENDS:
                    found.append(entry)
                if len(found) == count:
                    break
        return found


@pytest.fixture
def site(one_server: EmbeddedServer) -> Site:
    return Site(one_server)


@contextmanager
def _process(*arguments: str, environ: Mapping[str, str]) -> Iterator["subprocess.Popen[str]"]:
    """A command that goes on until it is told to stop."""
    process = subprocess.Popen(
        [sys.executable, "-m", "worker", *arguments],
        env=_environment(environ),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.fixture
def worker(site: Site) -> Iterator["subprocess.Popen[str]"]:
    """One worker on the site."""
    with _process("run", environ=site.environ) as process:
        yield process


def _signal(signal_id: str, **fields: Any) -> dict[str, Any]:
    return {
        "signal_id": signal_id,
        "created_at": datetime.now(UTC).isoformat(),
        "exchange": "paper",
        "symbol": "BTC/USDT",
        "direction": "long",
        "strength": 0.9,
        "confluence_score": 8,
        "entry_price": "65000",
    } | fields


def _is_sentence(text: str) -> bool:
    """One line of complaint by the program, and no traceback."""
    return text.startswith("execution-worker: ") and text.count("\n") == 1


# -- starting --------------------------------------------------------------------------------------


def test_help_lists_every_command() -> None:
    """``--help`` ends with 0 and names each command of the contract."""
    done = _execute("--help")
    assert done.returncode == 0
    named = set(re.findall(r"^    ([\w-]+) ", done.stdout, re.MULTILINE))
    assert named == set(COMMANDS)
    assert set(COMMANDS) == {
        "run", "demo", "submit", "tail", "status", "order", "positions", "halt", "reduce",
        "resume", "flatten", "resolve", "correct", "dead", "check", "config", "schema",
        "workers", "limits", "pnl", "balance", "signals", "orders", "mend-stream",
    }  # fmt: skip


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_each_command_explains_itself(command: str) -> None:
    """``COMMAND --help`` ends with 0 and takes ``--config`` there, too."""
    done = _execute(command, "--help")
    assert done.returncode == 0, done.stderr
    assert "--config FILE" in done.stdout


def test_version_is_the_packages() -> None:
    """``--version`` prints name and version."""
    done = _execute("--version")
    assert (done.returncode, done.stdout) == (0, f"execution-worker {__version__}\n")


@pytest.mark.parametrize(
    ("arguments", "forbidden"),
    [
        (["--help"], {"redis", "ccxt", "aiohttp", "rich", "msgspec"}),
        (["config"], {"redis", "ccxt", "aiohttp", "rich"}),
        (["schema"], {"redis", "ccxt", "aiohttp", "rich"}),
        (["submit", "--help"], {"ccxt", "aiohttp", "rich", "prometheus_client"}),
        (["status", "--help"], {"ccxt", "aiohttp", "rich", "prometheus_client"}),
    ],
)
def test_small_commands_load_little(arguments: Sequence[str], forbidden: set[str]) -> None:
    """What takes long to import is not imported by commands that do not need it."""
    script = (
        "import sys; from worker.cli.main import main; main(sys.argv[1:]); "
        "print('modules:', *sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        env=_environment(_NOWHERE), capture_output=True, text=True, timeout=30, check=True,
    )  # fmt: skip
    loaded = set(done.stdout.rpartition("modules:")[2].split())
    assert "worker.cli.main" in loaded
    assert loaded & forbidden == set()


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nonsense"],
        ["halt"],
        ["flatten"],
        ["tail", "nonsense"],
        ["tail", "--from", "yesterday"],
        ["dead"],
        ["dead", "show", "nonsense"],
        ["order"],
        ["flatten", "--reason", "x", "--timeout", "0"],
        ["flatten", "--reason", "x", "--timeout", "abc"],
        ["halt", "--reason", " "],
        ["status", "--watch", "--interval", "nan"],
        ["dead", "list", "--limit", "0"],
        ["resolve", "s-1", "--absent"],
        ["resolve", "s-1", "--reason", "x"],
        ["resolve", "s-1", "--reason", "x", "--absent", "--filled", "1", "--price", "1"],
        ["resolve", "s-1", "--reason", "x", "--absent", "--price", "1"],
        ["resolve", "s-1", "--reason", "x", "--filled", "1"],
        ["resolve", "s-1", "--reason", "x", "--filled", "0", "--price", "1"],
        ["resolve", "s-1", "--reason", "x", "--filled", "1", "--price", "1", "--fee", "1"],
        ["correct", "paper", "A/B", "--quantity", "1", "--reason", "x"],
        ["correct", "paper", "A/B", "--quantity", "-1", "--price", "1", "--reason", "x"],
        ["correct", "paper", "A/B", "--quantity", "NaN", "--price", "1", "--reason", "x"],
        ["correct", "paper", "A/B", "--quantity", "1e30", "--price", "1", "--reason", "x"],
    ],
)
def test_wrong_usage_ends_with_2(arguments: Sequence[str]) -> None:
    """Usage is shown before anything is connected to."""
    done = _execute(*arguments)
    assert done.returncode == 2
    assert "usage: execution-worker" in done.stderr


# -- what can be wrong -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        ["status"],
        ["positions"],
        ["order", "s1"],
        ["tail"],
        ["dead", "list"],
        ["workers"],
        ["orders", "--live"],
        ["flatten", "--reason", "x"],
        ["halt", "--reason", "x"],
        ["resume"],
    ],
)
def test_without_redis_a_command_says_so(arguments: Sequence[str]) -> None:
    """One sentence with the address; exit 1, or 75 where it may have been noted."""
    done = _execute(*arguments)
    assert done.returncode == (75 if arguments[0] in {"halt", "resume"} else 1)
    assert _is_sentence(done.stderr), done.stderr
    assert "Redis cannot be reached" in done.stderr
    assert "127.0.0.1:1" in done.stderr


def test_without_redis_submit_says_what_is_safe() -> None:
    """The sentence says how many are known to be submitted, and that repeating is safe."""
    done = _execute("submit", stdin=json.dumps(_signal("s1")))
    assert (done.returncode, done.stdout) == (1, "")
    assert _is_sentence(done.stderr), done.stderr
    assert "0 of 1 signals are known to be submitted" in done.stderr


def test_a_wrong_password_is_one_sentence_without_the_password(site: Site) -> None:
    """Redis refusing is not Redis missing, and the secret stays secret."""
    done = _execute("status", environ=site.environ | {"WORKER_REDIS__PASSWORD": "hunter2"})
    assert done.returncode == 1
    assert _is_sentence(done.stderr), done.stderr
    assert "refuses" in done.stderr
    assert "hunter2" not in done.stderr + done.stdout


@pytest.mark.parametrize(
    ("environ", "key"),
    [
        ({"WORKER_RISK__MAX_CONCURRENT_POSITIONS": "many"}, "risk.max_concurrent_positions"),
        ({"WORKER_REDIS__URL": "http://example.org"}, "redis.url"),
        ({"WORKER_REDIS__URL": "embedded"}, "redis.url"),
        ({"WORKER_CONFIG": "/nonexistent.toml"}, "/nonexistent.toml"),
        ({"WORKER_NONSENSE__KEY": "1"}, "nonsense.key"),
    ],
)
@pytest.mark.parametrize("command", ["status", "submit"])
def test_a_bad_configuration_ends_with_78(
    environ: Mapping[str, str], key: str, command: str
) -> None:
    """One sentence that names the key, before anything is connected to or read."""
    done = _execute(command, environ=environ, stdin="{}")
    assert done.returncode == 78
    assert _is_sentence(done.stderr), done.stderr
    assert key in done.stderr


def test_run_refuses_a_bad_configuration_too(tmp_path: Path) -> None:
    """A misspelt key in the file stops the start with 78; ``--config`` may stand on either side."""
    file = tmp_path / "worker.toml"
    file.write_text("[risk]\nmax_positions = 3\n")
    for arguments in (["--config", str(file), "run"], ["run", "--config", str(file)]):
        done = _execute(*arguments)
        assert done.returncode == 78
        assert "risk.max_positions" in done.stderr


# -- configuration, schema, check ------------------------------------------------------------------


def test_config_shows_what_is_in_force_and_hides_secrets(tmp_path: Path) -> None:
    """File and environment are merged, and no secret is printed."""
    file = tmp_path / "worker.toml"
    file.write_text('account = "desk-1"\n[exchanges.okx]\nsecret = "tell-nobody"\n')
    environ = {"WORKER_REDIS__PASSWORD": "hunter2", "WORKER_CONFIG": str(file)}
    done = _execute("config", environ=environ)
    assert done.returncode == 0
    assert 'account = "desk-1"' in done.stdout
    assert "hunter2" not in done.stdout
    assert "tell-nobody" not in done.stdout


def test_schema_is_an_asyncapi_document() -> None:
    """It is JSON, of AsyncAPI 3.0, about the five streams."""
    done = _execute("schema")
    shown = json.loads(done.stdout)
    assert shown["asyncapi"].startswith("3.0")
    assert len(shown["channels"]) == 5


def test_check_has_a_line_for_everything(site: Site) -> None:
    """Configuration, Redis and each exchange: one line each, exit 0 when all is well.

    A Python that is known to be a slow build has a warning of its own at the end.
    """
    lines = site.output("check").splitlines()
    if reason := slowness():
        assert lines.pop().split(maxsplit=2) == ["warn", "python", reason]
    assert [line.split()[0] for line in lines] == ["ok"] * len(lines)
    subjects = [" ".join(line.split()[1:3]) for line in lines[2:]]
    assert lines[0].split()[1] == "configuration"
    assert lines[1].split()[1] == "redis"
    assert "exchange paper" in subjects


def test_check_fails_where_something_fails() -> None:
    """Redis down: its line says FAIL, the others are still checked, exit 1."""
    done = _execute("check")
    assert done.returncode == 1
    levels = {line.split()[1]: line.split()[0] for line in done.stdout.splitlines()}
    assert levels["configuration"] == "ok"
    assert levels["redis"] == "FAIL"
    assert levels["exchange"] == "ok"


def test_check_of_a_bad_configuration_ends_with_78() -> None:
    """The configuration's line says FAIL and names the key."""
    done = _execute("check", environ={"WORKER_MODE": "real"})
    assert done.returncode == 78
    assert done.stdout.startswith("FAIL  configuration")
    assert "mode" in done.stdout


# -- submit ----------------------------------------------------------------------------------------


def test_submit_takes_a_file_a_pipe_and_all_three_forms(site: Site, tmp_path: Path) -> None:
    """Object, array and JSON Lines: as many ids as signals, in stream order."""
    file = tmp_path / "signals.jsonl"
    file.write_text("".join(json.dumps(_signal(f"l{n}")) + "\n" for n in range(3)))
    ids = site.output("submit", str(file)).split()
    ids += site.output("submit", "-", stdin=json.dumps(_signal("o"), indent=2)).split()
    ids += site.submit(_signal("a1"), _signal("a2"))
    assert len(ids) == 6
    assert ids == sorted(ids, key=lambda entry_id: [int(part) for part in entry_id.split("-")])
    assert json.loads(site.output("status", "--json"))["stream_length"] == 6


def test_submit_warns_of_line_and_field_and_submits(site: Site) -> None:
    """What the worker will refuse is named and goes onto the stream all the same."""
    lines = [json.dumps(_signal("s1")), json.dumps(_signal("s2", stop_los=1)), "{broken"]
    done = site.execute("submit", stdin="\n".join(lines))
    assert done.returncode == 0
    assert len(done.stdout.split()) == 3
    assert "line 2: data: Object contains unknown field `stop_los`" in done.stderr
    assert "line 3: data: not a JSON object" in done.stderr


def test_strict_submit_submits_all_or_nothing(site: Site) -> None:
    """With ``--strict`` one bad signal keeps all of them off the stream, exit 1."""
    signals = json.dumps([_signal("s1"), _signal("s2", strength=7)])
    done = site.execute("submit", "--strict", stdin=signals)
    assert (done.returncode, done.stdout) == (1, "")
    assert "element 2: strength" in done.stderr
    assert json.loads(site.output("status", "--json"))["stream_length"] == 0


def test_what_is_no_json_is_refused_as_a_whole(site: Site, tmp_path: Path) -> None:
    """A document without any JSON object, or no file at all: one sentence, exit 1."""
    for arguments in (["-"], [str(tmp_path / "missing.json")]):
        done = site.execute("submit", *arguments, stdin="hello")
        assert (done.returncode, done.stdout) == (1, "")
        assert _is_sentence(done.stderr), done.stderr


def test_a_thousand_signals_are_quick(site: Site) -> None:
    """A thousand signals take little longer than starting the program."""
    lines = "\n".join(json.dumps(_signal(f"s{n}")) for n in range(1_000))
    started = time.monotonic()
    ids = site.output("submit", stdin=lines).split()
    assert len(set(ids)) == 1_000
    assert time.monotonic() - started < 5


# -- a signal's life -------------------------------------------------------------------------------


@pytest.mark.usefixtures("worker")
def test_a_signals_life_can_be_followed(site: Site) -> None:
    """Submitted, it shows in tail, order, positions and status, in words and as JSON."""
    (entry_id,) = site.submit(_signal("s1"))
    site.ended(1)
    history = json.loads(site.output("order", "s1", "--json"))
    assert history["entry_id"] == entry_id
    assert history["record"]["state"] == "FILLED"
    kinds = [event["type"] for event in history["events"]]
    assert kinds == ["OrderPlaced", "OrderFilled", "PositionOpened"]
    told = site.output("order", "s1")
    assert told.startswith("s1: FILLED\n")
    assert all(kind in told for kind in kinds)
    (position,) = json.loads(site.output("positions", "--json"))
    assert (position["symbol"], position["signal_id"]) == ("BTC/USDT", "s1")
    assert "paper BTC/USDT" in site.output("positions")
    status = json.loads(site.output("status", "--json"))
    assert status["open_positions"] == 1
    assert status["attention"] == []
    assert "A C T I V E" in site.output("status")


@pytest.mark.usefixtures("worker")
def test_tail_prints_what_was_and_what_comes(site: Site) -> None:
    """From 0 it starts with history, goes on with new events, and an interrupt ends it with 0."""
    site.submit(_signal("s1"))
    site.ended(1)
    with _process(
        "tail", "orders", "signals", "--from", "0", "--json", environ=site.environ
    ) as tail:
        assert tail.stdout is not None
        first = [json.loads(tail.stdout.readline()) for _ in range(3)]
        assert [entry["stream"] for entry in first] == ["signals", "orders", "orders"]
        assert first[0]["data"]["signal_id"] == "s1"
        site.submit(_signal("s2", symbol="ETH/USDT", entry_price="3500"))
        later = [json.loads(tail.stdout.readline()) for _ in range(3)]
        assert {entry["data"]["signal_id"] for entry in later} == {"s2"}
        tail.send_signal(signal.SIGINT)
        assert tail.wait(10) == 0


def test_a_reader_that_has_had_enough_ends_tail_quietly(site: Site) -> None:
    """``tail | head -1``: no traceback, exit 0."""
    site.submit(*(_signal(f"s{n}") for n in range(3_000)))
    with _process("tail", "signals", "--from", "0", environ=site.environ) as tail:
        assert tail.stdout is not None
        assert "Signal" in tail.stdout.readline()
        tail.stdout.close()
        assert tail.wait(10) == 0
        assert tail.stderr is not None
        assert tail.stderr.read() == ""
        tail.stdout = None


def test_tail_outlives_a_restart_of_redis() -> None:
    """While Redis is away tail says so and goes on; what is written afterwards is shown."""
    with EmbeddedServer() as first:
        (before,) = Site(first).submit(_signal("before"))
        environ = {"WORKER_REDIS__URL": first.url}
        with _process("tail", "signals", "--from", "0", "--json", environ=environ) as tail:
            assert tail.stdout is not None
            assert tail.stderr is not None
            assert json.loads(tail.stdout.readline())["entry_id"] == before
            first.kill()
            assert "trying again" in tail.stderr.readline()
            with EmbeddedServer(port=first.port) as second:
                (after,) = Site(second).submit(_signal("after"))
                assert json.loads(tail.stdout.readline())["entry_id"] == after


def test_watching_a_frozen_server_shows_it_stale(site: Site, one_server: EmbeddedServer) -> None:
    """Within 3 s every look says STALE, its ages go on counting; with Redis back it is current."""
    watching = ("status", "--watch", "--json", "--interval", "0.2")
    with _process(*watching, environ=site.environ) as watch:
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


def test_watching_goes_on_until_interrupted(site: Site) -> None:
    """``status --watch --json`` prints look after look; an interrupt ends it with 0."""
    with _process(
        "status", "--watch", "--json", "--interval", "0.1", environ=site.environ
    ) as watch:
        assert watch.stdout is not None
        looks = [json.loads(watch.stdout.readline())["at"] for _ in range(3)]
        assert looks == sorted(set(looks))
        watch.send_signal(signal.SIGINT)
        assert watch.wait(10) == 0


def test_an_unknown_signal_is_one_sentence(site: Site) -> None:
    """Asking for what was never submitted ends with 1 and says so."""
    done = site.execute("order", "nobody")
    assert (done.returncode, done.stdout) == (1, "")
    assert _is_sentence(done.stderr)
    assert "nobody" in done.stderr


@pytest.mark.usefixtures("worker")
def test_dead_letters_can_be_seen_replayed_and_discarded(site: Site) -> None:
    """A malformed signal is listed with its reason, comes again when replayed, goes when told."""
    site.submit({"signal_id": "s1", "stop_los": 1.50})
    site.ended(1)
    (letter,) = [json.loads(line) for line in site.output("dead", "list", "--json").splitlines()]
    assert letter["reason"] == "malformed"
    assert letter["fields"]["data"] == '{"signal_id":"s1","stop_los":1.5}'
    assert "stop_los" in site.output("dead", "show", letter["id"])
    replayed = site.output("dead", "replay", letter["id"]).strip()
    site.ended(1)
    (again,) = [json.loads(line) for line in site.output("dead", "list", "--json").splitlines()]
    assert again["entry_id"] == replayed
    assert again["fields"] == letter["fields"]
    assert again["id"] in site.output("dead", "list")
    site.output("dead", "discard", again["id"])
    assert site.output("dead", "list") == "No dead letters.\n"
    done = site.execute("dead", "discard", again["id"])
    assert done.returncode == 1
    assert _is_sentence(done.stderr)


@pytest.mark.usefixtures("worker")
def test_a_used_signal_id_cannot_be_replayed(site: Site) -> None:
    """A conflicting reuse of an id is refused with the way out, and stays a dead letter."""
    site.submit(_signal("s1"), _signal("s1", strategy_id="other"))
    site.ended(2)
    (letter,) = [json.loads(line) for line in site.output("dead", "list", "--json").splitlines()]
    assert letter["reason"] == "conflict"
    done = site.execute("dead", "replay", letter["id"])
    assert done.returncode == 1
    assert _is_sentence(done.stderr)
    assert "new signal_id" in done.stderr


# -- trading state ---------------------------------------------------------------------------------


@pytest.mark.usefixtures("worker")
def test_halt_reduce_and_resume_rule_what_is_sent(site: Site) -> None:
    """Halted and reducing accounts open nothing and say why; resumed they trade."""
    site.until_worker()
    halted = site.output("halt", "--reason", "storm")
    assert "is HALTED, was ACTIVE" in halted
    assert "1 of 1 workers holds it" in halted
    assert "H A L T E D" in site.output("status")
    site.submit(_signal("s1"))
    assert "is REDUCING, was HALTED" in site.output("reduce", "--reason", "calmer")
    site.ended(1)
    site.submit(_signal("s2"))
    site.ended(2)
    assert "is ACTIVE, was REDUCING" in site.output("resume")
    site.submit(_signal("s3"))
    ends = [json.loads(entry.fields["data"]) for entry in site.ended(3)]
    assert [end.get("code", end["type"]) for end in ends] in (
        ["TRADING_HALTED", "TRADING_REDUCING", "OrderFilled"],
        ["TRADING_REDUCING", "TRADING_REDUCING", "OrderFilled"],
    )


@pytest.mark.usefixtures("worker")
def test_flatten_closes_everything_and_halts(site: Site) -> None:
    """Every position is closed for the reason ``flatten``, and the account ends halted."""
    site.submit(_signal("s1"), _signal("s2", symbol="ETH/USDT", direction="short"))
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
    assert lines[6] == "1 of 1 workers holds it"
    assert site.output("positions").endswith("\nNo open positions.\n")
    status = json.loads(site.output("status", "--json"))
    assert (status["trading_state"], status["reason"]) == ("HALTED", "end of day")
    with _process("tail", "positions", "--from", "0", "--json", environ=site.environ) as tail:
        assert tail.stdout is not None
        events = [json.loads(tail.stdout.readline())["data"] for _ in range(4)]
    closed = [event["close_reason"] for event in events if event["type"] == "PositionClosed"]
    assert closed == ["flatten", "flatten"]


def test_flatten_without_workers_changes_nothing(site: Site) -> None:
    """Nobody could close the position: said, exit 1, nothing submitted, the state as it was."""
    with _process("run", environ=site.environ) as worker:
        site.submit(_signal("s1"))
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
    site.submit(_signal("s1"))
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
def test_a_halt_names_the_worker_that_does_not_hold_it(site: Site) -> None:
    """A frozen worker may still have an order on its way: exit 1, and its name."""
    site.submit(_signal("s1"))
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
    assert "0 of 1 workers holds it" in done.stdout
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
    site.submit(_signal("s1"), _signal("s2", symbol="ETH/USDT", entry_price="3000"))
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


# -- run and demo ----------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_run_drains_and_ends_with_0(site: Site, number: signal.Signals) -> None:
    """Told to stop, a worker finishes, signs off and exits 0."""
    with _process("run", environ=site.environ) as worker:
        site.submit(_signal("s1"))
        site.ended(1)
        assert json.loads(site.output("status", "--json"))["workers"][0]["alive"]
        worker.send_signal(number)
        assert worker.wait(20) == 0
    status = json.loads(site.output("status", "--json"))
    assert status["workers"] == []
    assert status["pending"] == 0


@pytest.mark.slow
def test_the_demo_adds_up_and_ends_by_itself() -> None:
    """Two workers, hundreds of signals of every kind: all accounted for, exit 0."""
    started = time.monotonic()
    done = _execute("demo", environ={})
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - started < 30
    total = re.search(r"^(\d+) signals in, 2 workers", done.stdout, re.MULTILINE)
    assert total is not None
    counts = re.findall(r"^ +(\d+)  (filled|rejected|duplicates|dead letters) ", done.stdout, re.M)
    assert len(counts) == 4
    assert all(int(count) for count, _ in counts)
    assert sum(int(count) for count, _ in counts) == int(total[1]) >= 200
    assert "accounted for, nothing pending" in done.stdout
    assert "execution-worker run" in done.stdout


@pytest.mark.slow
def test_an_interrupted_demo_leaves_nothing_behind() -> None:
    """Ctrl-C after the first event: no traceback, and no process of it is left."""
    with _process("demo", environ={}) as demo:
        assert demo.stdout is not None
        lines = iter(demo.stdout.readline, "")
        assert any("OrderPlaced" in line for line in lines)
        children = _children(demo.pid)
        assert len(children) == 3
        demo.send_signal(signal.SIGINT)
        output, errors = demo.communicate(timeout=20)
        assert (demo.returncode, errors) == (0, "")
        assert "signals in" not in output
        assert not [pid for pid in children if Path(f"/proc/{pid}").exists()]


def _children(pid: int) -> list[int]:
    """The processes a process has started, as Linux lists them."""
    return [
        int(child)
        for task in Path(f"/proc/{pid}/task").iterdir()
        for child in (task / "children").read_text().split()
    ]
