"""No secret leaves the process: everything a whole run says is searched for all of them."""

import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.acceptance import signals
from tests.acceptance.fleet import Fleet, Tables, command, toml, wait_until
from tests.exchange_simulator.client import simulator_process
from worker.runtime.embedded_server import EmbeddedServer

API_KEY = "vmPUZE6mv9SD5VNHk4HlWFsOr6aKE2zvsw0MuIgwCIPy6utIco14y7Ju91duEh8A"
SECRET = "NhqPtmdSJYdKjVHjA7PZj4Mge3R5YNiP1e3UZjInClVN65XAbvqqM6A7H5fATj0j"
REDIS_PASSWORD = "correct:horse/battery@staple"
#: What must not be said: secrets as they are and as a URL writes them, and any HMAC in hex.
FORBIDDEN = {
    "API key": re.compile(re.escape(API_KEY)),
    "secret": re.compile(re.escape(SECRET)),
    "password": re.compile(
        f"{re.escape(REDIS_PASSWORD)}|{re.escape(quote(REDIS_PASSWORD, safe=''))}"
    ),
    "signature": re.compile(r"signature=|\b[0-9a-f]{64}\b"),
}
#: One of every kind of answer that ends up in an error's text.
FAULTS: list[dict[str, Any]] = [
    {"action": "drop_before"},
    {"action": "drop_after"},
    {"action": "no_reply_after", "hang_ms": 2_000},
    {"action": "cut_response"},
    {"action": "empty_200"},
    {"action": "truncated_json_200"},
    {"preset": "502_html", "when": "after"},
    {"preset": "403_waf"},
    {"preset": "401_2015"},
    {"preset": "503_unknown", "when": "after"},
    {"action": "reject", "code": -1022, "msg": "Signature for this request is not valid."},
    {"action": "reject", "code": -2010, "msg": "Account has insufficient balance."},
]

#: What the faults make the log tell: without all of these, too little went wrong to prove anything.
TOLD = (
    "no complete reply", "502: the reply is not JSON", "403: the reply is not JSON",
    "-2015: ", "-1000: ", "-1022: ", "-2010: ",
)  # fmt: skip


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Fleet]:
    """A server with a password in its address, an exchange with distinctive credentials."""
    with (
        EmbeddedServer(arguments=("--requirepass", REDIS_PASSWORD)) as server,
        simulator_process(
            "--symbols", "40", "--quote-balance", "10000000",
            "--api-key", API_KEY, "--secret", SECRET,
        ) as exchange,
        Fleet(
            tmp_path,
            redis_url=f"redis://:{quote(REDIS_PASSWORD, safe='')}@127.0.0.1:{server.port}/0",
            server_port=server.port,
            exchange=exchange,
            settings={
                "exchanges.binance": {
                    "api_key": API_KEY,
                    "secret": SECRET,
                    "balance_refresh_seconds": 0.1,
                    "ticker_refresh_seconds": 0.1,
                },
                "log": {"level": "debug"},
            },
            password=REDIS_PASSWORD,
        ) as fleet,
    ):  # fmt: skip
        yield fleet


def _everything_in(fleet: Fleet) -> str:
    """Every key of the server, internal ones too, as text."""
    readers = {b"stream": ("XRANGE", "-", "+"), b"hash": ("HGETALL",), b"string": ("GET",),
               b"list": ("LRANGE", 0, -1), b"zset": ("ZRANGE", 0, -1)}  # fmt: skip
    said = []
    for key in fleet.ask("KEYS", "*"):
        name, *rest = readers[fleet.ask("TYPE", key)]
        said.append(f"{key} {fleet.ask(name, key, *rest)}")
    return "\n".join(said)


@pytest.mark.slow
def test_no_secret_is_ever_said(guarded: Fleet) -> None:
    """Logs at debug level, metrics, every key in Redis, every command: no secret, no signature.

    The run has every kind of exchange error on every kind of request, a worker the exchange does
    not accept, one that Redis does not accept, and dead letters.
    """
    fleet = guarded
    worker = fleet.start().until_ready()
    wrong_keys: Tables = {"exchanges.binance": {"secret": SECRET[::-1]}}
    refused = fleet.start(wrong_keys)
    locked_out = fleet.start({"redis": {"password": REDIS_PASSWORD[::-1]}})
    refused.until_logged("exchange_not_ready")
    locked_out.until_logged("redis_unavailable")
    # From here on every fault meets the one worker, so its log shows each.
    refused.stop()
    locked_out.stop()
    for number, fault in enumerate(FAULTS):
        for method, path in (("POST", "/order$"), ("GET", "/(order|userTrades|myTrades)$")):
            rule: dict[str, Any] = {"method": method, "path": path, "count": 2, **fault}
            fleet.exchange.add_fault(symbol=f"C{number:03d}USDT", **rule)
    for number, fault in enumerate(FAULTS):
        # A price that cannot be had one way is asked for another: both are spoilt.
        for path, count in (("/(account|balance)$", 1), ("/ticker/(bookTicker|24hr)$", 2)):
            # Every second request is spoilt, each in another way.
            rule = {"path": path, "skip": 2 * count * number, "count": count, **fault}
            fleet.exchange.add_fault(name="background", **rule)
    made = {
        f"s{number}{kind[0]}": signals.opening(f"s{number}{kind[0]}", market(number))
        for number in range(len(FAULTS))
        for kind, market in (("spot", signals.spot), ("linear", signals.linear))
    }
    fleet.submit(*made.values())
    fleet.push(data="{not json")
    fleet.push(data=json.dumps(made["s0s"] | {"quantity": "2"}))
    fleet.until_ended(made)
    fleet.until_dead(2)
    wait_until(lambda: not _to_come(fleet), "the faults did not come")

    said = {f"log of {one!r}": "".join(one.lines) for one in fleet.workers}
    said |= {path: worker.get(path)[1] for path in ("/metrics", "/readyz", "/livez")}
    said["keys in Redis"] = _everything_in(fleet)
    commands = [
        ["config"], ["check"], ["status"], ["status", "--json"], ["positions", "--json"],
        ["order", "s0s"], ["order", "s0s", "--json"], ["dead", "list", "--json"], ["dead", "list"],
    ]  # fmt: skip
    with ThreadPoolExecutor(4) as pool:
        for done in pool.map(
            lambda words: command(*words, "--config", str(fleet.config)), commands
        ):
            said[" ".join(done.args[3:])] = done.stdout + done.stderr
    wrong = fleet.directory / "wrong.toml"
    wrong.write_text(toml(*fleet.layers, wrong_keys, {"redis": {"password": "x" + REDIS_PASSWORD}}))
    done = command("check", "--config", str(wrong))
    assert done.returncode == 1
    said["check that fails"] = done.stdout + done.stderr
    code = worker.stop()
    assert code == 0
    said["log to the end"] = "".join(worker.lines)

    assert all(said.values()), [where for where, text in said.items() if not text]
    errors = "\n".join(line["error"] for line in worker.logged("exchange_error"))
    assert [one for one in TOLD if one not in errors] == [], errors
    leaks = [
        f"{what} in {where}: ...{text[max(found.start() - 60, 0) : found.start()]}"
        for where, text in said.items()
        for what, pattern in FORBIDDEN.items()
        if (found := pattern.search(text))
    ]
    assert leaks == []


def _to_come(fleet: Fleet) -> list[dict[str, Any]]:
    """The faults of requests in the background that have not happened yet."""
    return [
        rule
        for rule in fleet.exchange.faults()
        if rule["name"] == "background" and rule["remaining"]
    ]
