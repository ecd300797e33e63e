"""Single hostile things that producers, operators and strangers may send, on the shipped servers.

Two workers trade on paper, on a server with the settings and users of deploy/redis. After each
specimen they are as they were: an honest signal of another group trades, every entry has ended, and
the account's status can be read.
"""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Final

import pytest

from tests.acceptance.fleet import GROUP, WorkerProcess, toml, wait_until
from tests.acceptance.signals import now
from tests.deploy.redis_servers import KINDS
from tests.fuzz.producers import SIGNALS, WORKER_MIB, Shipped, paper_config

#: How long an honest signal may take, and how long the entries of a specimen.
TRADED_S: Final = 5.0
ENDED_S: Final = 30.0
MIB: Final = 1 << 20
LARGEST: Final = "18446744073709551615-18446744073709551615"
_numbers = count()


@dataclass
class Site:
    """A server and its workers."""

    server: Shipped
    workers: list[WorkerProcess]
    config: Path

    def signal(self, **fields: Any) -> dict[str, Any]:
        """A good opening under a new id."""
        whole: dict[str, Any] = {
            "signal_id": f"s-{next(_numbers)}", "created_at": now(), "exchange": "paper",
            "symbol": "ZZ1/USDT", "entry_price": "100", "direction": "long", "strength": 0.9,
            "confluence_score": 8, "quantity": "1",
        }  # fmt: skip
        return whole | fields

    def add(self, *fields: str | bytes) -> None:
        """Add an entry as a producer, its fields in that order."""
        self.server.client("producer").execute_command("XADD", SIGNALS, "*", *fields)

    def cli(self, user: str, *words: str) -> "subprocess.CompletedProcess[str]":
        """Run a command as that user of Redis."""
        environment = os.environ | {
            "WORKER_REDIS__USERNAME": user,
            "WORKER_REDIS__PASSWORD": self.server.password(user),
        }
        return subprocess.run(
            [sys.executable, "-m", "worker", *words, "--config", str(self.config)],
            capture_output=True, text=True, env=environment, timeout=60, check=False,
        )  # fmt: skip

    def is_quiet(self) -> bool:
        """Whether every entry has been read and acknowledged."""
        reader = self.server.client("reader")
        (group,) = (one for one in reader.xinfo_groups(SIGNALS) if one["name"] == GROUP.encode())
        newest = reader.xrevrange(SIGNALS, count=1)
        return bool(group["pending"] == 0 and newest[0][0] == group["last-delivered-id"])

    def trades(self) -> None:
        """See an honest close and opening of another group end in time."""
        reader, symbol = self.server.client("reader"), f"HONEST{next(_numbers)}/USDT"
        signal = self.signal(symbol=symbol)
        begun = time.monotonic()
        self.add("data", json.dumps(signal))
        name = signal["signal_id"].encode()

        def ends() -> list[str]:
            rows = reader.xrevrange("{main}:orders", count=2_000)
            mine = [fields[b"data"] for _, fields in rows if fields.get(b"subject") == name]
            return [one["type"] for one in map(json.loads, mine) if one.get("terminal") is True]

        wait_until(ends, "an honest signal did not trade", timeout_s=TRADED_S, every_s=0.02)
        assert ends() == ["OrderFilled"]
        assert time.monotonic() - begun < TRADED_S


@pytest.fixture(scope="module", params=KINDS)
def site(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """One server of each kind for all specimens: none may leave anything that hurts the next."""
    directory = tmp_path_factory.mktemp("site")
    with Shipped(directory, request.param).running() as server:
        config = directory / "worker.toml"
        config.write_text(toml(paper_config(), {"redis": server.settings()}))
        workers = [WorkerProcess(config, directory / f"worker-{n}.log") for n in range(2)]
        try:
            for worker in workers:
                worker.until_ready()
            yield Site(server, workers, config)
        finally:
            for worker in workers:
                worker.close()


# --- producers ---


def names_given_twice(site: Site) -> None:
    """Two payloads and two groups in one entry, in every order."""
    opening, close = json.dumps(site.signal()), json.dumps(site.signal(action="close"))
    for first, second in ((opening, close), (close, opening), ("{", opening), (opening, "{")):
        site.add("data", first, "key", "a", "data", second, "key", "b", "type", "x", "type", "y")
        site.add("data", first, "", "", "data", second, "", "again", "DATA", "{")


def groups_named_as_the_ledger_names_things(site: Site) -> None:
    """Ids of entries, marks of a surplus, prefixes of lines, patterns of Lua."""
    newest = site.server.client("reader").xrevrange(SIGNALS, count=1)
    ids = [entry_id.decode() for entry_id, _ in newest]
    names = ["!", "!*", "-", "-:", "-:ZZ1/USDT", ":", "*", "%a+", "[", "\x00", *ids, "!*1-1"]
    for name in (*names, *("!*" + entry_id for entry_id in ids)):
        for action in ("open", "close", "cancel", "protect"):
            site.add("key", name, "data", json.dumps(site.signal(action=action)))


def numbers_that_cannot_be(site: Site) -> None:
    """Exponents, digits of other scripts, what programming languages take for a number."""
    digits = "1E+999999999", "1e-999999999", "0." + "0" * 60_000 + "1", "9" * 60_000, "-0", "+1"
    words = "\uff11\uff10", "1_000", "0x10", "1e400", "Infinity", "sNaN", " 1", "1\n", "", "1,5"
    for name in ("quantity", "entry_price", "size_pct", "stop_loss", "strength"):
        for value in (*digits, *words):
            site.add("data", json.dumps(site.signal(**{name: value})))
            site.add(
                "data", json.dumps(site.signal(**{name: "@"})).replace('"@"', value or "1e400")
            )


def texts_in_other_encodings(site: Site) -> None:
    """UTF-16, marks of byte order, half characters, over-long forms, a NUL at either end."""
    text = json.dumps(site.signal(metadata={"a": "\ud800", "\udfff": "\u2028"}))
    for data in (
        text.encode("utf-16"), b"\xef\xbb\xbf" + text.encode(), b"\x00" + text.encode(),
        text.encode() + b"\x00", text.replace("ZZ1", "\xc0\xaf").encode("latin-1"),
        text.replace("ZZ1", "\\u0000\\u001b[2J\\u009b").encode(), b"\x1f\x8b\x08" + text.encode(),
    ):  # fmt: skip
        site.add(b"data", data)


def traces_of_anything(site: Site) -> None:
    """A ``traceparent`` of 60 kB, with line ends, of another version, of the wrong bytes."""
    good = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
    for trace in (
        good,
        good + "\r\nX: y",
        "ff" + good[2:],
        good * 900,
        "\x1b[2J",
        "00-" + "0" * 49,
    ):
        site.add("data", json.dumps(site.signal()), "traceparent", trace, "tracestate", trace)


# --- operators ---


def requests_that_nobody_can_carry_out(site: Site) -> None:
    """Hundreds of corrections that are none, a large one, and verdicts on what is no order."""
    operator = site.server.client("operator")
    operator.hset("{main}:corrections", mapping={f"\x1b{n}": "[" * n for n in range(200)})
    operator.hset("{main}:corrections", "large", "x" * 900_000)
    operator.hset("{main}:verdicts", mapping={f"{n}-0": "{" for n in range(1_000)})
    key = "{main}:corrections"
    wait_until(lambda: not site.server.client("reader").hgetall(key), "requests are left",
               timeout_s=ENDED_S)  # fmt: skip


def a_state_that_is_none(site: Site) -> None:
    """What is stored as the trading state is no JSON, endless, of the far future; it is resumed."""
    operator = site.server.client("operator")
    ask = {
        "asker": "flatten:\x1b[2J", "state": "REDUCING", "reasons": ["x" * 10_000], "at": "t",
        "flattens": True,
    }  # fmt: skip
    ended = ask | {"until_ms": -1, "at": "9999-12-31T23:59:59Z"}
    for asked in ([ask] * 50, [ask | {"until_ms": 2**70}], [ended], None, "[" * 100_000):
        asks = asked if isinstance(asked, str) else json.dumps(asked)
        operator.hset("{main}:control", mapping={"trading_state": "PARTY\x9b", "asks": asks})
        assert site.cli("operator", "status", "--json").returncode in (0, 1)
        done = site.cli("operator", "resume", "--reason", "test")
        assert done.returncode in (0, 1), done.stderr
        assert "Traceback" not in done.stderr
    state = site.server.client("reader").hget("{main}:control", "trading_state")
    assert state == b"ACTIVE", state


def bells_and_events_of_megabytes(site: Site) -> None:
    """Rung with what is too large to read, and events of no type, one under the largest id."""
    operator = site.server.client("operator")
    for _ in range(5):
        operator.xadd("{main}:bell", {"r": "x" * 1_000_000}, maxlen=1)
        operator.xadd("{main}:system", {"x": "\x1b[2J", "data": "{" * 200_000})
    operator.xadd("{main}:bell", {"r": "1"}, id=f"{int(time.time() * 1_000) + 3_600_000}-0")
    operator.xadd("{main}:system", {"type": "x", "data": "{}"}, id=LARGEST)


# --- strangers ---


def requests_to_the_probes(site: Site) -> None:
    """No HTTP, endless heads, two lengths, hundreds at once on one connection, and none ends."""
    heads = (
        b"\x16\x03\x01\x02\x00" + b"\x00" * 600, b"GET /" + b"a" * MIB + b" HTTP/1.1\r\n\r\n",
        b"GET /metrics\r\n\r\n", b"GET http://a/ HTTP/1.1\r\n" + b"X: y\r\n" * 50_000 + b"\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 99999999999\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n" * 500, b"GET /\x00\x1b[2J HTTP/9.9\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"GET /readyz HTTP/1.1\r\nHost: a\r\n b\r\n\r\n",
    )  # fmt: skip
    for worker in site.workers:
        (listening,) = worker.logged("http_listening")
        port, open_ones = listening["port"], []
        for head in heads * 3:
            one = socket.create_connection(("127.0.0.1", port), timeout=5)
            open_ones.append(one)
            try:
                one.sendall(head)
            except OSError:
                continue  # hung up on, as it should be
        assert worker.get("/livez")[0] == 200
        for one in open_ones:
            one.close()


SPECIMENS: Final[tuple[Callable[[Site], None], ...]] = (
    names_given_twice,
    groups_named_as_the_ledger_names_things,
    numbers_that_cannot_be,
    texts_in_other_encodings,
    traces_of_anything,
    requests_that_nobody_can_carry_out,
    a_state_that_is_none,
    requests_to_the_probes,
    bells_and_events_of_megabytes,
)


@pytest.mark.parametrize("specimen", SPECIMENS, ids=lambda one: one.__name__)
def test_a_specimen_hurts_nobody(site: Site, specimen: Callable[[Site], None]) -> None:
    """Its entries end, an honest signal trades, the status is read, no worker fails or grows."""
    specimen(site)
    site.trades()
    wait_until(site.is_quiet, "entries are left", timeout_s=ENDED_S, every_s=0.05)
    left = site.server.client("reader").hgetall("{main}:entries")
    assert left == {}
    status = site.cli("reader", "status", "--json")
    assert status.returncode in (0, 1), status.stderr
    assert json.loads(status.stdout)["workers"]
    for worker in site.workers:
        assert worker.running
        for kind in ("delivery_failed", "worker_failed", "duty_failed"):
            assert worker.logged(kind) == [], kind
        resident = Path(f"/proc/{worker.pid}/status").read_text().split("VmRSS:")[1].split()[0]
        assert int(resident) / 1024 < WORKER_MIB
