"""``submit`` as its users meet it: what is refused, what is warned of, and what became of it."""

import json
import re
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.site import Site, a_signal, execute, is_sentence, process
from worker.runtime.embedded_server import EmbeddedServer

LINE = re.compile(r"(\d+-\d+)  (\S+)")


def _on_stream(site: Site) -> int:
    return int(json.loads(site.output("status", "--json"))["stream_length"])


def _ids(shown: str) -> list[tuple[str, str]]:
    """Entry id and signal id of each line."""
    found = [LINE.fullmatch(line) for line in shown.splitlines()]
    assert all(found), shown
    return [(match[1], match[2]) for match in found if match]


def test_submit_takes_a_file_a_pipe_and_all_three_forms(site: Site, tmp_path: Path) -> None:
    """Object, array and JSON Lines: a line each, entry id and signal id, in stream order."""
    file = tmp_path / "signals.jsonl"
    file.write_text("".join(json.dumps(a_signal(f"l{n}")) + "\n" for n in range(3)))
    shown = site.output("submit", str(file))
    shown += site.output("submit", "-", stdin=json.dumps(a_signal("o"), indent=2))
    shown += site.output("submit", stdin=json.dumps([a_signal("a1"), a_signal("a2")]))
    entries, names = zip(*_ids(shown), strict=True)
    assert names == ("l0", "l1", "l2", "o", "a1", "a2")
    assert list(entries) == sorted(entries, key=lambda one: [int(p) for p in one.split("-")])
    assert _on_stream(site) == 6


def test_json_has_both_ids_on_each_line(site: Site) -> None:
    """What programs read."""
    shown = site.output("submit", "--json", stdin=json.dumps([a_signal("a"), a_signal("b")]))
    lines = [json.loads(line) for line in shown.splitlines()]
    assert [line["signal_id"] for line in lines] == ["a", "b"]
    assert all(set(line) == {"entry_id", "signal_id"} for line in lines)


@pytest.mark.parametrize("strict", [[], ["--strict"]])
def test_what_would_be_a_dead_letter_is_refused(site: Site, strict: list[str]) -> None:
    """One bad signal keeps all of them off the stream; each is named with its line and field."""
    lines = [
        json.dumps(a_signal("s1")),
        json.dumps(a_signal("s2", stop_los=1)),
        json.dumps(a_signal("s3", strength="high")),
        "{broken",
    ]
    done = site.execute("submit", *strict, stdin="\n".join(lines))
    assert (done.returncode, done.stdout) == (1, "")
    assert "line 2: stop_los: there is no such field; did you mean stop_loss?" in done.stderr
    assert 'line 3: strength: "high" is not a number from 0 to 1' in done.stderr
    assert "line 4: data: not a JSON object: " in done.stderr
    assert "nothing was submitted" in done.stderr
    assert _on_stream(site) == 0


KEY = ["[signatures.keys.desk]", f'secret = "{"ab" * 20}"', 'strategies = ["trend-*"]']


@pytest.mark.parametrize(
    ("settings", "arguments", "fields", "says"),
    [
        (
            ["validation.require_signature = true", *KEY], [],
            {}, "the entry is not signed, and it must be",
        ),
        (KEY, ["--key-id", "desk"], {"strategy_id": "carry"}, "may not sign for strategy 'carry'"),
        (
            [*KEY, 'signal_ids = ["desk-*"]'], ["--key-id", "desk"],
            {"strategy_id": "trend-1"}, "key 'desk' may not sign 's1'",
        ),
        (
            [*KEY, "not_after = 2020-01-01T00:00:00Z"], ["--key-id", "desk"],
            {"strategy_id": "trend-1"}, "key 'desk' is not good after 2020-01-01",
        ),
        (
            [*KEY, "not_before = 2099-01-01T00:00:00Z"], ["--key-id", "desk"],
            {"strategy_id": "trend-1"}, "key 'desk' is not good before 2099-01-01",
        ),
        ([], ["--key", "k" * 80_000], {}, "entry too large: 80"),
    ],
    ids=["unsigned", "strategy", "signal id", "too late", "too early", "too large"],
)  # fmt: skip
def test_an_entry_that_no_worker_accepts_is_refused(
    site: Site,
    tmp_path: Path,
    settings: Sequence[str],
    arguments: Sequence[str],
    fields: dict[str, Any],
    says: str,
) -> None:
    """Well-formed, and a dead letter all the same: exit 1 with the worker's sentence; or forced."""
    file = tmp_path / "config.toml"
    file.write_text("\n".join(settings))
    file.chmod(0o600)
    what = ["--config", str(file), "submit", *arguments]
    signals = json.dumps(a_signal("s1", **fields))
    done = site.execute(*what, stdin=signals)
    assert (done.returncode, done.stdout) == (1, "")
    assert is_sentence(done.stderr), done.stderr
    assert says in done.stderr
    assert "(not submitted)" in done.stderr
    assert site.execute(*what, "--force", stdin=signals).returncode == 0
    assert _on_stream(site) == 1


def test_two_signals_under_one_id_are_refused(site: Site) -> None:
    """The second would be a dead letter; a repetition of the same one is only a duplicate."""
    one, other = a_signal("s1"), a_signal("s1", entry_price="64000")
    site.output("submit", stdin=json.dumps([one, one]))
    done = site.execute("submit", stdin=json.dumps([one, a_signal("s2"), other]))
    assert (done.returncode, done.stdout) == (1, "")
    assert "element 3: signal_id: element 1 has 's1' too, and is another signal" in done.stderr
    assert _on_stream(site) == 2


def test_a_key_that_is_not_configured_here_is_for_the_workers_to_judge(
    site: Site, tmp_path: Path
) -> None:
    """A producer's machine need not know the workers' keys: its secret comes from a file."""
    secret = tmp_path / "secret"
    secret.write_text("ab" * 20)
    secret.chmod(0o600)
    signing = ["--key-id", "desk", "--secret-file", str(secret)]
    site.output("submit", *signing, stdin=json.dumps(a_signal("s1")))


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("force", ["--force", "--no-strict"])
def test_force_submits_it_all_the_same(site: Site, force: str) -> None:
    """With a warning; it becomes the dead letter that was foretold, with the same sentence."""
    done = site.execute("submit", force, stdin=json.dumps(a_signal("s1", stop_los=1)))
    assert done.returncode == 0
    assert [name for _, name in _ids(done.stdout)] == ["s1"]
    assert "submitted all the same, will be a dead letter" in done.stderr
    site.ended(1)
    (letter,) = [json.loads(line) for line in site.output("dead", "list", "--json").splitlines()]
    assert f"the object: {letter['error']} (" in done.stderr or letter["error"] in done.stderr


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize(
    ("fields", "code", "named"),
    [
        ({"exchange": "mtgox"}, "UNKNOWN_EXCHANGE", "validation.valid_exchanges"),
        ({"confluence_score": 1}, "CONFLUENCE_TOO_LOW", "validation.min_confluence_score"),
        ({"direction": None}, "MISSING_FIELD", "direction: required"),
        ({"created_at": "2020-01-01T00:00:00Z"}, "SIGNAL_EXPIRED", "expired"),
    ],
)
def test_what_validation_would_refuse_is_submitted_with_a_warning(
    site: Site, fields: dict[str, Any], code: str, named: str
) -> None:
    """It is a signal, so it ends as one; the warning says what its event then says."""
    done = site.execute("submit", stdin=json.dumps(a_signal("s1", **fields)))
    assert done.returncode == 0
    assert is_sentence(done.stderr), done.stderr
    assert named in done.stderr
    (end,) = site.ended(1)
    event = json.loads(end.fields["data"])
    assert event["code"] == code
    assert named in event["reason"]


def test_a_good_signal_has_no_warning(site: Site) -> None:
    """Nothing on standard error where nothing is wrong."""
    done = site.execute("submit", stdin=json.dumps(a_signal("s1")))
    assert (done.returncode, done.stderr) == (0, "")


# -- one signal by options -------------------------------------------------------------------------


@pytest.mark.usefixtures("worker")
def test_options_give_a_signal_that_trades(site: Site) -> None:
    """Few words make a whole signal; its made-up id is printed, and it is closed likewise."""
    what = ["submit", "--exchange", "paper", "--symbol", "BTC/USDT", "--price", "65000"]
    shown = site.output(*what, "--long", "--wait", "20")
    opened, closed = shown.splitlines()[0].split()[1], ""
    assert opened.startswith("cli-")
    assert "  filled " in shown.splitlines()[1]
    assert [p["signal_id"] for p in json.loads(site.output("positions", "--json"))] == [opened]
    closed = site.output(*what, "--close", "--wait", "20", "--id", "out-1")
    assert "  out-1  filled " in closed
    assert json.loads(site.output("positions", "--json")) == []


def test_every_field_has_an_option(site: Site) -> None:
    """One for each field of the contract; amounts arrive as they were written."""
    site.output(
        "submit", "--exchange", "paper", "--symbol", "ETH/USDT", "--short", "--id", "s-1",
        "--strength", "0.7", "--score", "8.5", "--type", "stop_limit", "--tif", "GTC",
        "--price", "3500.10", "--stop-price", "3500.20", "--stop-loss", "3600", "--take-profit",
        "3300", "--quantity", "0.50", "--expires-in", "20", "--strategy", "hand",
        "--metadata", '{"run": 1.50}',
    )  # fmt: skip
    (line,) = site.output("tail", "signals", "--from", "0", "--no-follow", "--json").splitlines()
    data = json.loads(line)["data"]
    assert "T" in data.pop("created_at")
    assert "T" in data.pop("expires_at")
    assert data == {
        "signal_id": "s-1", "exchange": "paper", "symbol": "ETH/USDT", "direction": "short",
        "strength": 0.7, "confluence_score": 8.5, "order_type": "stop_limit",
        "time_in_force": "GTC", "entry_price": "3500.10", "stop_price": "3500.20",
        "stop_loss": "3600", "take_profit": "3300", "quantity": "0.50", "strategy_id": "hand",
        "metadata": {"run": 1.5},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--symbol", "BTC/USDT"], "--long, --short and --close"),
        (["--long", "--exchange", "paper"], "--symbol"),
        (["--long", "--symbol", "BTC/USDT"], "--exchange, one of binance, "),
        (["--long", "--short"], "not allowed with"),
        (["--long", "signals.json", "--symbol", "A/B", "--exchange", "x"], "either FILE or"),
        (["--quantity", "-1"], "amount of 0 or more"),
        (["--quantity", "0"], "more than 0"),
        (["--strength", "2"], "more than 1"),
        (["--symbol", ""], "it is empty"),
        (["--id", " "], "it is empty"),
        (["--metadata", "[1]"], "not a JSON object"),
        (["--type", "iceberg"], "iceberg"),
        (["--force", "--strict"], "contradict"),
        (["--wait", "0"], "more than 0"),
    ],
)
def test_wrong_options_are_wrong_usage(arguments: Sequence[str], says: str) -> None:
    """Exit 2 with a sentence, before Redis is asked anything."""
    done = execute("submit", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr


# -- following them to their ends ------------------------------------------------------------------


@pytest.mark.usefixtures("worker")
def test_wait_prints_each_end_and_exits_by_the_outcome(site: Site) -> None:
    """All filled: 0. One refused, or a dead letter: 1. A line each."""
    done = site.execute("submit", "--wait", "20", stdin=json.dumps([a_signal("a")]))
    assert done.returncode == 0
    submitted, ended = done.stdout.splitlines()
    assert ended.startswith(f"{submitted}  filled ")
    signals = [
        a_signal("b", symbol="ETH/USDT", entry_price="3500"),
        a_signal("c", symbol="NO/SUCH"),
        a_signal("d", stop_los=1),
    ]
    done = site.execute("submit", "--wait", "20", "--force", "--json", stdin=json.dumps(signals))
    assert done.returncode == 1
    ends = {one["signal_id"]: one for one in map(json.loads, done.stdout.splitlines())}
    assert {name: (one["outcome"], one["is_good"]) for name, one in ends.items()} == {
        "b": ("filled", True), "c": ("failed", False), "d": ("dead", False),
    }  # fmt: skip
    assert ends["c"]["code"] == "UNKNOWN_SYMBOL"
    assert ends["d"]["code"] == "malformed"


@pytest.mark.usefixtures("worker")
def test_a_repetition_ends_as_the_first_did(site: Site) -> None:
    """It gets no event of its own, and is known all the same; other content is a dead letter."""
    one = a_signal("a")
    site.output("submit", "--wait", "20", stdin=json.dumps(one))
    done = site.execute("submit", "--wait", "20", stdin=json.dumps(one))
    assert done.returncode == 0
    assert (
        "  a  duplicate this signal has ended already, FILLED, as entry "
        in done.stdout.splitlines()[1]
    )
    conflict = json.dumps(one | {"strategy_id": "x"})
    done = site.execute("submit", "--wait", "20", stdin=conflict)
    assert done.returncode == 1
    assert "  a  dead dead letter " in done.stdout.splitlines()[1]


@pytest.mark.parametrize(
    ("other", "code", "ends"),
    [
        ({"strategy_id": "x"}, 1, ("dead", False, "conflict")),
        ({}, 0, ("duplicate", True, "")),
    ],
)
def test_the_end_of_another_entry_is_not_taken_for_ours(
    site: Site, other: dict[str, str], code: int, ends: tuple[str, bool, str]
) -> None:
    """The signal under way with the same id ends while we wait; what became of ours is told."""
    first = a_signal("a")
    (owner,) = site.submit(first)
    environ = site.environ | {"PYTHONUNBUFFERED": "1"}
    with process("submit", "--wait", "40", "--json", "-", environ=environ, stdin=True) as waiting:
        assert waiting.stdin is not None
        waiting.stdin.write(json.dumps(first | other))
        waiting.stdin.close()
        waiting.stdin = None
        while _on_stream(site) < 2:
            time.sleep(0.1)
        with process("run", environ=site.environ):
            output, _ = waiting.communicate(timeout=60)
        assert waiting.returncode == code
    (told,) = map(json.loads, output.splitlines())
    assert (told["outcome"], told["is_good"], told["code"]) == ends
    if not other:
        assert told["reason"] == f"this signal has ended already, FILLED, as entry {owner}"


def test_an_end_that_does_not_come_is_not_known(site: Site) -> None:
    """Without a worker: 75, the ids are printed, and it does not take longer than asked for."""
    started = time.monotonic()
    done = site.execute("submit", "--wait", "1", stdin=json.dumps(a_signal("a")))
    assert done.returncode == 75
    submitted, ended = done.stdout.splitlines()
    assert ended == f"{submitted}  unknown not known after 1 s"
    assert time.monotonic() - started < 10


def test_an_interrupt_does_not_lose_the_ids(site: Site) -> None:
    """Ctrl-C while it waits: what is open is said to be open, for programs as well."""
    what = ["submit", "--json", "--wait", "60", "--exchange", "paper", "--symbol", "A/B", "--long"]
    with process(*what, environ=site.environ) as waiting:
        deadline = time.monotonic() + 20
        while not _on_stream(site):
            assert time.monotonic() < deadline
        waiting.send_signal(signal.SIGINT)
        output, errors = waiting.communicate(timeout=10)
    assert waiting.returncode == 1
    assert is_sentence(errors), errors
    assert json.loads(output)["outcome"] == "unknown"


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"symbol": "BTC/USDT:USDT"}, 'exchanges.paper.market_types is ["spot"]'),
        ({"symbol": "BTCUSDT"}, "lists no market 'BTCUSDT'; did you mean BTC/USDT?"),
        ({"symbol": "btc-usdt"}, "did you mean BTC/USDT?"),
        ({"symbol": "NO/SUCH"}, "lists no market 'NO/SUCH'"),
        ({"entry_price": None}, "entry_price: paper is simulated and has no price of BTC/USDT"),
    ],
)
def test_a_beginners_mistake_is_answered_with_the_way_out(
    site: Site, fields: dict[str, Any], says: str
) -> None:
    """Another kind of market, another spelling, no price on paper: the sentence says what to do."""
    done = site.execute("submit", "--wait", "20", stdin=json.dumps(a_signal("s1", **fields)))
    assert done.returncode == 1
    assert says in " ".join(done.stdout.split())


# -- without Redis ---------------------------------------------------------------------------------


def test_where_nothing_can_be_sent_nothing_was_submitted() -> None:
    """A refused connection: exit 1, and the sentence says how many are known to be submitted."""
    done = execute("submit", stdin=json.dumps(a_signal("s1")))
    assert (done.returncode, done.stdout) == (1, "")
    assert is_sentence(done.stderr), done.stderr
    assert "0 of 1 signals are known to be submitted" in done.stderr


def test_a_lost_answer_is_not_known() -> None:
    """A server that takes the command and answers nothing: 75, for it may be on the stream."""
    with EmbeddedServer() as server:
        server.pause()
        environ = {"WORKER_REDIS__URL": server.url}
        done = execute("submit", stdin=json.dumps(a_signal("s1")), environ=environ)
        server.resume()
    assert (done.returncode, done.stdout) == (75, "")
    assert is_sentence(done.stderr), done.stderr
    assert "submitting all of them again is safe" in done.stderr


def test_what_is_no_json_is_refused_as_a_whole(site: Site, tmp_path: Path) -> None:
    """A document without any JSON object, or no file at all: one sentence, exit 1."""
    for arguments in (["-"], [str(tmp_path / "missing.json")]):
        done = site.execute("submit", *arguments, stdin="hello")
        assert (done.returncode, done.stdout) == (1, "")
        assert is_sentence(done.stderr), done.stderr


def test_a_thousand_signals_are_quick(site: Site) -> None:
    """A thousand signals take little longer than starting the program."""
    lines = "\n".join(json.dumps(a_signal(f"s{n}")) for n in range(1_000))
    started = time.monotonic()
    ids = site.output("submit", stdin=lines).splitlines()
    assert len(set(ids)) == 1_000
    assert time.monotonic() - started < 5
