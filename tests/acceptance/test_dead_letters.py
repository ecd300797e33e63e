"""Dead letters by the command: many at once, of any size, by reason and time, asked about."""

import json
import os
import pty
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import Any

import pytest
import redis

from tests.acceptance.site import Site, environment
from worker.ledger.layouts import DeadLetterTail
from worker.ledger.words import CUT_FIELD
from worker.runtime.embedded_server import EmbeddedServer

MIB = 2**20
DEAD = "{main}:dead"
SIGNALS = "{main}:signals"


@pytest.fixture
def site(one_server: EmbeddedServer) -> Site:
    return Site(one_server)


@pytest.fixture
def client(one_server: EmbeddedServer) -> redis.Redis:
    return redis.Redis(port=one_server.port, protocol=2)


def bury(
    client: redis.Redis,
    data: str | bytes,
    reason: str = "malformed",
    letter_id: str = "*",
    **own: Any,
) -> str:
    """Write a dead letter as a worker does; its id."""
    tail = DeadLetterTail(reason, "data: why", "7-0", "1", "w1", "2026-01-01T00:00:00Z")
    fields: dict[Any, Any] = {"data": data, **own, **tail._asdict()}
    return str(client.xadd(DEAD, fields, id=letter_id).decode())  # type: ignore[union-attr]


def lines(site: Site, *arguments: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in site.output("dead", *arguments, "--json").splitlines()]


def test_many_letters_are_discarded_by_id_one_line_each(site: Site, client: redis.Redis) -> None:
    """An id that is gone is a failure of its own; the others are done all the same."""
    first, second, third = (bury(client, "{") for _ in range(3))
    done = site.execute("dead", "discard", first, "1-1", third, first)
    assert done.returncode == 1
    assert done.stdout.splitlines() == [
        f"dead letter {first} is gone", f"dead letter {third} is gone",
    ]  # fmt: skip
    assert done.stderr == "execution-worker: there is no dead letter 1-1\n"
    assert [letter["id"] for letter in lines(site, "list")] == [second]


def test_letters_are_chosen_by_reason_and_time(site: Site, client: redis.Redis) -> None:
    """For listing, counting, replaying and discarding alike."""
    old = bury(client, "{", "signature", "1700000000000-0")
    bury(client, "{{", letter_id="1700000000000-1")
    young = bury(client, "{{{", "signature")
    assert [one["id"] for one in lines(site, "list", "--reason", "signature")] == [young, old]
    assert [
        one["id"] for one in lines(site, "list", "--before", "1d", "--reason", "signature")
    ] == [old]
    assert lines(site, "list", "--before", "2023-01-01T00:00:00Z") == []
    assert lines(site, "list", "--count") == [
        {"reason": "malformed", "letters": 1, "size": 6},
        {"reason": "signature", "letters": 2, "size": 12},
    ]
    assert "1 of 3 dead letters" in site.output("dead", "list", "--limit", "1")
    assert site.output("dead", "discard", "--before", "1h") == (
        f"dead letter {old} is gone\ndead letter 1700000000000-1 is gone\n"
    )
    (entry,) = [site.output("dead", "replay", "--reason", "signature").split()]
    assert entry[:4] == ["dead", "letter", young, "is"]
    assert client.xlen(SIGNALS) == 1
    assert site.output("dead", "discard", "--all") == "No dead letters.\n"


def test_replaying_all_keeps_their_order_and_ends(site: Site, client: redis.Redis) -> None:
    """Oldest first, byte for byte; what dies again meanwhile is not replayed again."""
    for number in range(40):
        bury(client, f"{{{number}")
    done = site.output("dead", "replay", "--all")
    assert len(done.splitlines()) == 40
    data = [fields[b"data"] for _, fields in client.xrange(SIGNALS)]  # type: ignore[index, union-attr]
    assert data == [b"{%d" % number for number in range(40)]
    assert client.xlen(DEAD) == 0


def test_a_replay_that_is_refused_does_not_stop_the_others(site: Site, client: redis.Redis) -> None:
    """A letter that was cut is refused with a sentence; the exit code says that one failed."""
    cut = bury(client, "x" * 100, **{CUT_FIELD: "5000000"})
    whole = bury(client, "{")
    done = site.execute("dead", "replay", cut, whole)
    assert done.returncode == 1
    assert done.stderr == (
        f"execution-worker: dead letter {cut} has only the beginning of its entry, which was too "
        "large: submit the signal anew\n"
    )
    assert done.stdout.startswith(f"dead letter {whole} is entry ")
    (left,) = lines(site, "list")
    assert (left["id"], left["size"], left["cut_from_bytes"]) == (cut, 104, 5_000_000)
    shown = site.output("dead", "show", cut)
    assert "the first 104 B of 4.8 MiB" in shown
    assert CUT_FIELD not in shown


def test_a_long_letter_is_cut_for_people_and_whole_for_programs(
    site: Site, client: redis.Redis
) -> None:
    """Nothing in it can move the cursor either."""
    data = '{"signal_id": "a\\u001b[2J"}' + " " * (MIB - 1_000)
    letter = bury(client, data)
    shown = site.output("dead", "show", letter)
    assert len(shown) < 6_000
    assert "\x1b" not in shown
    assert "(1023.0 KiB in all)" in shown
    whole = json.loads(site.output("dead", "show", letter, "--json"))
    assert whole["fields"]["data"] == data


@pytest.mark.parametrize(
    "arguments",
    [
        ["discard"],
        ["replay"],
        ["discard", ""],
        ["replay", ""],
        ["show", ""],
        ["discard", "1-1", "--all"],
        ["discard", "1-1", "--reason", "malformed"],
        ["replay", "--reason", ""],
        ["discard", "--before", ""],
        ["discard", "--before", "2026-01-01T00:00:00"],
        ["list", "--reason", "none"],
    ],
)
def test_an_empty_or_doubled_choice_is_wrong_usage(site: Site, arguments: list[str]) -> None:
    """Exit 2, before anything is touched."""
    done = site.execute("dead", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert "usage:" in done.stderr


def at_a_terminal(environ: Mapping[str, str], answer: str, *arguments: str) -> tuple[int, str]:
    """Run a command whose input is a terminal, and type; exit code, and what it said."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "worker", *arguments],
        env=environment(environ),
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        os.write(ours, f"{answer}\n".encode())
        said, _ = process.communicate(timeout=60)
    os.close(ours)
    os.close(theirs)
    return process.returncode, said


def test_in_live_mode_a_terminal_is_asked_for_the_accounts_name(
    site: Site, client: redis.Redis
) -> None:
    """Anything else does nothing; --yes, or no terminal, does not ask."""
    live = {
        **site.environ, "WORKER_MODE": "live", "WORKER_EXCHANGES__BINANCE__ADAPTER": "ccxt",
        "WORKER_EXCHANGES__BINANCE__API_KEY": "k",
        "WORKER_EXCHANGES__BINANCE__SECRET": "s",
    }  # fmt: skip
    bury(client, "{")
    code, said = at_a_terminal(live, "yes", "dead", "discard", "--all")
    assert (code, client.xlen(DEAD)) == (1, 1)
    assert "nothing was done" in said
    code, said = at_a_terminal(live, "main", "dead", "discard", "--all")
    assert (code, client.xlen(DEAD)) == (0, 0), said
    letter = bury(client, "{")
    code, said = at_a_terminal(live, "", "dead", "discard", letter, "--yes")
    assert (code, said) == (0, f"dead letter {letter} is gone\n")
    letter = bury(client, "{")
    code, said = at_a_terminal(site.environ, "", "dead", "discard", letter)
    assert (code, said) == (0, f"dead letter {letter} is gone\n")


@pytest.mark.slow
def test_letters_of_250_mebibytes_are_read_and_removed_in_small_portions(
    site: Site, client: redis.Redis
) -> None:
    """No reply comes near the 64 MiB at which a server with our settings hangs up."""
    client.config_set("client-output-buffer-limit", "normal 67108864 16777216 30")
    body = b"x" * (MIB - 100)
    for _ in range(250):
        bury(client, body)
    before = time.monotonic()
    assert len(site.output("dead", "list").splitlines()) == 52
    (count,) = lines(site, "list", "--count")
    assert (count["letters"], count["size"] // 2**20) == (250, 249)
    assert site.execute("order", "nobody").returncode == 1
    site.output("status")
    assert len(site.output("dead", "discard", "--all").splitlines()) == 250
    assert client.xlen(DEAD) == 0
    assert time.monotonic() - before < 60


def test_mend_stream_and_check_as_a_person_meets_them(site: Site, client: redis.Redis) -> None:
    """Check fails and says what to do; status says it first; the command mends, and says so."""
    largest = "18446744073709551615-18446744073709551615"
    client.xadd(SIGNALS, {"data": "{}"}, id=largest)
    client.xadd("{main}:system", {"data": "{}", "type": "x"}, id=largest)
    refused = site.execute("submit", "--force", stdin='{"signal_id": "s"}')
    assert refused.returncode == 1
    assert "mend-stream" in refused.stderr
    for stream in ("signals", "system"):
        sentence = f"the last id of the stream {stream} is 2"
        assert sentence in site.output("status")
        checked = site.execute("check")
        assert checked.returncode == 1
        assert sentence in checked.stdout
        assert "execution-worker mend-stream" in checked.stdout
    ahead = json.loads(site.output("status", "--json"))["streams_ahead_ms"]
    assert set(ahead) == {"signals", "system"}
    assert site.output("tail", "--help")
    assert site.execute("order", "nobody").returncode == 1
    assert site.output("mend-stream", "orders") == "orders: sound\n"
    assert site.output("mend-stream").splitlines() == [
        "signals: mended, new ids for 1 entry, 0 kept theirs",
        "orders: sound",
        "positions: sound",
        "system: mended, new ids for 1 entry, 0 kept theirs",
        "dead: sound",
    ]
    assert site.execute("check").returncode == 0
    assert site.output("submit", "--force", stdin='{"signal_id": "s"}')
    assert site.execute("mend-stream", "bell").returncode == 2
    assert site.execute("mend-stream", "").returncode == 2
