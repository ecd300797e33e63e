"""Every command as its user meets it: the real program, its output, its exit code."""

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from tests.acceptance.site import (
    NOWHERE as _NOWHERE,
)
from tests.acceptance.site import (
    Site,
)
from tests.acceptance.site import (
    a_signal as _signal,
)
from tests.acceptance.site import (
    environment as _environment,
)
from tests.acceptance.site import (
    execute as _execute,
)
from tests.acceptance.site import (
    is_sentence as _is_sentence,
)
from tests.acceptance.site import (
    process as _process,
)
from worker import __version__
from worker.cli.main import COMMANDS
from worker.cli.python_build import slowness
from worker.runtime.embedded_server import EmbeddedServer

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
    """One sentence with the address, exit 1."""
    done = _execute(*arguments)
    assert done.returncode == 1
    assert _is_sentence(done.stderr), done.stderr
    assert "Redis cannot be reached" in done.stderr
    assert "127.0.0.1:1" in done.stderr


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
        while lines[-1].startswith(" "):  # it goes on
            lines[-2:] = [f"{lines[-2]} {lines[-1].strip()}"]
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
    first = [line for line in done.stdout.splitlines() if not line.startswith(" ")]
    levels = {line.split()[1]: line.split()[0] for line in first}
    assert levels["configuration"] == "ok"
    assert levels["redis"] == "FAIL"
    assert levels["exchange"] == "ok"


def test_check_of_a_bad_configuration_ends_with_78() -> None:
    """The configuration's line says FAIL and names the key."""
    done = _execute("check", environ={"WORKER_MODE": "real"})
    assert done.returncode == 78
    assert done.stdout.startswith("FAIL  configuration")
    assert "mode" in done.stdout


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
    assert "\ns1: FILLED\n" in told
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
    assert site.output("dead", "list").endswith(" UTC\nNo dead letters.\n")
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
