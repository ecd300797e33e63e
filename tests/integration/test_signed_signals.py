"""Signed signals on a real server: what is not truly signed never trades, and harms nobody."""

import asyncio
import hashlib
import hmac
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.integration.accounts import Account, configuration, working
from tests.integration.fleets import SIGNALS
from worker.cli.check import findings
from worker.client import AsyncSignalProducer, Signal, new_signal
from worker.config.keys import (
    Config,
    RiskConfig,
    Secret,
    SignatureKeyConfig,
    SignaturesConfig,
    ValidationConfig,
)
from worker.domain.signature import signed_fields
from worker.runtime.clock import SystemClock
from worker.runtime.embedded_server import EmbeddedServer

OLD, NEW = "o" * 32, "n" * 32


def key(secret: str, *strategies: str, **times: Any) -> SignatureKeyConfig:
    return SignatureKeyConfig(secret=Secret(secret), strategies=strategies or ("*",), **times)


def config(
    url: str, keys: Mapping[str, SignatureKeyConfig] | None = None, *, required: bool = True
) -> Config:
    """With the key ``new`` for every strategy, unless said otherwise."""
    return configuration(
        url,
        validation=ValidationConfig(require_signature=required),
        signatures=SignaturesConfig(keys=dict(keys or {"new": key(NEW)})),
    )


def signal(signal_id: str, strategy_id: str | None = "trend-1", symbol: str = "BTC/USDT") -> Signal:
    return new_signal(
        signal_id,
        "paper",
        symbol,
        direction="long",
        strength=0.8,
        confluence_score=7,
        entry_price="100",
        strategy_id=strategy_id,
    )


@pytest.fixture
async def account(one_server: EmbeddedServer) -> AsyncIterator[Account]:
    made = Account(one_server.url)
    yield made
    await made.close()


async def put(account: Account, fields: Mapping[str, bytes]) -> str:
    return str((await account.redis.xadd(SIGNALS, dict(fields))).decode())


def entry(
    one: Signal, *, key_id: str = "new", secret: str = NEW, account: str = "main"
) -> dict[str, bytes]:
    data = msgspec.json.encode(
        {name: value for name, value in msgspec.structs.asdict(one).items() if value is not None}
    )
    return signed_fields({"data": data}, account=account, key_id=key_id, secret=secret.encode())


async def refused(account: Account, count: int) -> dict[str, str]:
    """Why each dead letter is one, by its entry; nothing else came of any of them."""
    letters = await account.dead(count)
    assert {letter[b"reason"] for letter in letters} == {b"signature"}
    await account.quiet()
    assert await account.redis.keys("{main}:record:*") == []
    for stream in ("orders", "positions"):
        assert await account.events(stream) == []
    return {letter[b"entry_id"].decode(): letter[b"error"].decode() for letter in letters}


async def test_what_is_not_truly_signed_never_trades(
    one_server: EmbeddedServer, account: Account
) -> None:
    """Missing, forged, moved, expired, too early, of another strategy or account: dead letters."""
    now = datetime.now(UTC)
    keys = {
        "new": key(NEW, "trend-*"),
        "gone": key(OLD, not_after=now - timedelta(seconds=1)),
        "soon": key(OLD, not_before=now + timedelta(hours=1)),
    }
    good, other = entry(signal("a")), entry(signal("b"))
    forged: list[tuple[dict[str, bytes], str]] = [
        ({"data": good["data"]}, "not signed"),
        (entry(signal("a"), secret="x" * 32), "not made with key 'new'"),
        (good | {"data": other["data"]}, "not made with"),
        (good | {"data": good["data"].replace(b'"100"', b'"999"')}, "not made with"),
        (good | {"key": b"another group"}, "not made with"),
        (entry(signal("a"), account="else"), "this account"),
        (entry(signal("a"), key_id="nobody"), "no key 'nobody'"),
        (entry(signal("a"), key_id="gone", secret=OLD), "not good after"),
        (entry(signal("a"), key_id="soon", secret=OLD), "not good before"),
        (entry(signal("a", "mean-1")), "may not sign for strategy 'mean-1'"),
        (entry(signal("a", None)), "a signal without a strategy"),
        ({"data": good["data"], "signature": good["signature"]}, "come together"),
    ]
    async with working(config(one_server.url, keys)) as worker:
        expected = {await put(account, fields): says for fields, says in forged}
        errors = await refused(account, len(forged))
        for entry_id, says in expected.items():
            assert says in errors[entry_id]
        assert worker.orders.statistics() == {"active": 0}


async def test_a_forger_takes_nothing_from_the_owner_of_a_signal_id(
    one_server: EmbeddedServer, account: Account
) -> None:
    """Forged before and after it, under the same id, the true signal trades once."""
    async with working(config(one_server.url)):
        true, false = entry(signal("a")), entry(signal("a", symbol="ETH/USDT"), secret="x" * 32)
        await put(account, false)
        await refused(account, 1)
        await put(account, true)
        assert (await account.end("a"))["type"] == "OrderFilled"
        await put(account, false)
        await put(account, {"data": true["data"]})
        await put(account, true)
        await account.quiet()
        letters = await account.dead(3)
        assert {letter[b"reason"] for letter in letters} == {b"signature"}
        assert (await account.end("a"))["symbol"] == "BTC/USDT"
        assert len(await account.events("positions")) == 1


TWO_DESKS = {
    "alpha": SignatureKeyConfig(
        secret=Secret(NEW), strategies=("alpha",), signal_ids=("alpha-*", "once")
    ),
    "beta": SignatureKeyConfig(secret=Secret(OLD), strategies=("beta",), signal_ids=("beta-*",)),
    "desk": SignatureKeyConfig(secret=Secret("d" * 32), signal_ids=("flatten-*",)),
}


@pytest.mark.parametrize("stolen", ["alpha-1", "once"])
async def test_one_strategys_key_cannot_use_anothers_signal_ids(
    one_server: EmbeddedServer, account: Account, stolen: str
) -> None:
    """Not before the owner does, nor after: the owner's signal trades, once."""
    async with working(config(one_server.url, TWO_DESKS)):
        thief = entry(signal(stolen, "beta", "ETH/USDT"), key_id="beta", secret=OLD)
        await put(account, thief)
        (error,) = (await refused(account, 1)).values()
        assert error.startswith(f"signal_id: key 'beta' may not sign '{stolen}'")
        await put(account, entry(signal(stolen, "alpha"), key_id="alpha"))
        assert (await account.end(stolen))["type"] == "OrderFilled"
        await put(account, thief)
        await put(account, entry(signal("beta-1", "beta", "ETH/USDT"), key_id="beta", secret=OLD))
        assert (await account.end("beta-1"))["type"] == "OrderFilled"
        letters = await account.dead(2)
        assert {letter[b"reason"] for letter in letters} == {b"signature"}
        assert (await account.end(stolen))["symbol"] == "BTC/USDT"


def close(signal_id: str, strategy_id: str | None, symbol: str = "BTC/USDT") -> Signal:
    return new_signal(
        signal_id, "paper", symbol, action="close", entry_price="100", strategy_id=strategy_id
    )


async def test_a_position_is_closed_by_its_opener_alone_where_that_is_asked(
    one_server: EmbeddedServer, account: Account
) -> None:
    """Signed or not by whomever: refused by name; the opener and flatten close it."""
    bound = configuration(
        one_server.url,
        risk=RiskConfig(max_concurrent_positions=100, close_only_own=True),
        validation=ValidationConfig(require_signature=True),
        signatures=SignaturesConfig(keys=TWO_DESKS),
    )
    async with working(bound):
        for number, symbol in enumerate(("BTC/USDT", "ETH/USDT"), start=1):
            one = signal(f"alpha-{number}", "alpha", symbol)
            await put(account, entry(one, key_id="alpha"))
            assert (await account.end(f"alpha-{number}"))["type"] == "OrderFilled"
        await put(account, entry(close("beta-1", "beta"), key_id="beta", secret=OLD))
        stranger = await account.end("beta-1")
        assert (stranger["type"], stranger["code"]) == ("OrderFailed", "NOT_THE_OPENER")
        assert (stranger["stage"], stranger["retriable"]) == ("risk", False)
        assert stranger["reason"].startswith("strategy_id: the position in BTC/USDT")
        forged = entry(close("beta-2", "alpha"), key_id="beta", secret=OLD)
        await put(account, forged)
        (letter,) = await account.dead(1)
        assert b"may not sign for strategy 'alpha'" in letter[b"error"]
        await put(account, entry(close("alpha-3", "alpha"), key_id="alpha"))
        assert (await account.end("alpha-3"))["type"] == "OrderFilled"
        settings = {
            "VALIDATION__REQUIRE_SIGNATURE": "true",
            "RISK__CLOSE_ONLY_OWN": "true",
            "SIGNATURES__KEYS__DESK__SECRET": "d" * 32,
            "SIGNATURES__KEYS__DESK__SIGNAL_IDS": "flatten-*",
        }
        flatten = ("flatten", "--reason", "x", "--key-id", "desk")
        done = await _off_loop(one_server.url, *flatten, **settings)
        assert "is HALTED, no position is open: 1 position closed, 1 attempt" in done.stdout, (
            done.stderr
        )
    reasons = [one.get("close_reason") for one in await account.events("positions")]
    assert reasons == [None, None, "signal", "flatten"]


async def test_closes_of_strangers_and_of_nobody_work_as_ever_by_default(
    one_server: EmbeddedServer, account: Account
) -> None:
    """And where closes are bound, what no strategy opened is closed by what names none."""
    cases = [("BTC", False, "beta", True), ("ETH", True, "beta", False), ("SOL", True, None, True)]
    for coin, is_bound, closer, works in cases:
        risk = RiskConfig(max_concurrent_positions=100, close_only_own=is_bound)
        async with working(configuration(one_server.url, risk=risk)):
            await account.send(f"in-{coin}", symbol=f"{coin}/USDT")
            assert (await account.end(f"in-{coin}"))["type"] == "OrderFilled"
            closing = {"action": "close", "direction": None, "strategy_id": closer}
            await account.send(f"out-{coin}", symbol=f"{coin}/USDT", **closing)
            ended = await account.end(f"out-{coin}")
            assert (ended["type"] == "OrderFilled") is works
            assert ended.get("code") == (None if works else "NOT_THE_OPENER")


async def test_the_producer_signs_what_the_worker_believes(
    one_server: EmbeddedServer, account: Account
) -> None:
    """With and without a message group; with the wrong secret nothing trades."""
    async with working(config(one_server.url, {"new": key(NEW, "trend-*")})):
        async with AsyncSignalProducer(one_server.url, key_id="new", secret=NEW) as producer:
            await producer.send(signal("a"))
            await producer.send(signal("b", symbol="ETH/USDT"), key="group")
        for name in "ab":
            assert (await account.end(name))["type"] == "OrderFilled"
        async with AsyncSignalProducer(one_server.url, key_id="new", secret=OLD) as producer:
            await producer.send(signal("c"))
        (letter,) = await account.dead()
        assert letter[b"reason"] == b"signature"
        assert await account.of("c") == []


async def test_a_key_is_replaced_without_a_pause(
    one_server: EmbeddedServer, account: Account
) -> None:
    """Old alone, both, new alone: signed with a known key a signal trades, else never."""
    phases = [
        ({"old": key(OLD)}, {"old": True, "new": False}),
        ({"old": key(OLD), "new": key(NEW)}, {"old": True, "new": True}),
        ({"new": key(NEW)}, {"old": False, "new": True}),
    ]
    secrets, dead = {"old": OLD, "new": NEW}, 0
    for phase, (keys, expected) in enumerate(phases):
        async with working(config(one_server.url, keys)):
            for key_id, trades in expected.items():
                name = f"{key_id}-{phase}"
                one = signal(name, symbol=f"{key_id.upper()}{phase}/USDT")
                await put(account, entry(one, key_id=key_id, secret=secrets[key_id]))
                if trades:
                    assert (await account.end(name))["type"] == "OrderFilled"
                    continue
                dead += 1
                letter = (await account.dead(dead))[-1]
                assert letter[b"error"].startswith(f"key_id: no key '{key_id}'".encode())
                assert await account.of(name) == []


async def test_unsigned_signals_trade_where_that_is_allowed(
    one_server: EmbeddedServer, account: Account
) -> None:
    """But a signature that is given and bad is worse than none."""
    async with working(config(one_server.url, required=False)):
        plain = entry(signal("a"))
        await put(account, {"data": plain["data"]})
        assert (await account.end("a"))["type"] == "OrderFilled"
        await put(account, entry(signal("b", symbol="ETH/USDT"), secret=OLD))
        (letter,) = await account.dead()
        assert letter[b"reason"] == b"signature"
        assert await account.of("b") == []


async def test_a_producer_in_another_language_needs_five_lines(
    one_server: EmbeddedServer, account: Account
) -> None:
    """The recipe of the documentation, without any of the worker's own code."""
    async with working(config(one_server.url)):
        data = entry(signal("a"))["data"]
        lines = [b"execution-worker.signal.v1", b"main", b"new", b"5", b"group", data]
        mac = hmac.new(NEW.encode(), b"\n".join(lines), hashlib.sha256).hexdigest()
        fields = {"data": data, "key": b"group", "key_id": b"new", "signature": mac.encode()}
        await put(account, fields)
        assert (await account.end("a"))["type"] == "OrderFilled"


# --- the commands ---


def _named(name: str, *signal_ids: str, strategies: str) -> dict[str, SignatureKeyConfig]:
    one = SignatureKeyConfig(
        secret=Secret(NEW), strategies=(strategies,), signal_ids=signal_ids or ("*",)
    )
    return {name: one}


@pytest.mark.parametrize(
    ("keys", "sections", "told"),
    [
        ({}, {}, []),
        (_named("a", strategies="a") | _named("b", strategies="a"), {}, []),
        (_named("a", "a-*", strategies="a") | _named("b", "b-*", strategies="b"), {}, []),
        (
            _named("a", "x-*", strategies="a") | _named("b", strategies="b"),
            {},
            ['keys a ("x-*") and b ("*") are of different strategies'],
        ),
        (
            _named("a", strategies="a") | _named("b", strategies="b") | _named("c", strategies="c"),
            {},
            ["so may 2 more pairs of keys"],
        ),
        ({}, {"risk": RiskConfig(close_only_own=True)}, ["any producer may claim any"]),
        (
            _named("a", strategies="a"),
            {
                "risk": RiskConfig(close_only_own=True),
                "validation": ValidationConfig(require_signature=True),
            },
            [],
        ),
    ],
)
async def test_check_warns_of_strategies_that_may_act_for_each_other(
    one_server: EmbeddedServer,
    keys: dict[str, SignatureKeyConfig],
    sections: dict[str, Any],
    told: list[str],
) -> None:
    """By signal ids that two of them may sign, and by closes bound to an unproven name."""
    configured = configuration(one_server.url, signatures=SignaturesConfig(keys=keys), **sections)
    found = [one async for one in findings(configured, SystemClock())]
    warnings = [one.detail for one in found if one.subject == "signatures"]
    assert len(warnings) == len(told)
    assert all(text in warning for warning, text in zip(warnings, told, strict=True))
    assert {one.level for one in found if one.subject == "signatures"} <= {"warn"}


def command(
    url: str, *arguments: str, stdin: str = "", **environ: str
) -> "subprocess.CompletedProcess[str]":
    variables = {f"WORKER_{name}": value for name, value in environ.items()}
    return subprocess.run(
        [sys.executable, "-m", "worker", *arguments],
        env={"PATH": "/usr/bin:/bin", "WORKER_REDIS__URL": url} | variables,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


REQUIRED = {"VALIDATION__REQUIRE_SIGNATURE": "true", "SIGNATURES__KEYS__NEW__SECRET": NEW}


async def test_submit_and_flatten_sign(
    one_server: EmbeddedServer, account: Account, tmp_path: Path
) -> None:
    """Secret from a file or from the configuration; what they sign is believed."""
    url, file = one_server.url, tmp_path / "secret"
    file.write_text(NEW + "\n")
    one, other = (entry(signal(name, symbol=f"{name}/USDT"))["data"] for name in ("BTC", "ETH"))
    async with working(config(url)):
        secret = ("--key-id", "new", "--secret-file", str(file))
        done = await _off_loop(url, "submit", *secret, stdin=one.decode())
        assert done.returncode == 0, done.stderr
        done = await _off_loop(
            url,
            "submit",
            "--key-id",
            "new",
            "--key",
            "g",
            stdin=other.decode(),
            **REQUIRED,
        )
        assert done.returncode == 0, done.stderr
        for name in ("BTC", "ETH"):
            assert (await account.end(name))["type"] == "OrderFilled"
        unsigned = await _off_loop(url, "flatten", "--reason", "x", **REQUIRED)
        assert unsigned.returncode == 1
        assert "--key-id must name a key" in unsigned.stderr
        states = [one for one in await account.events("system") if "trading_state" in one]
        assert states == []
        done = await _off_loop(url, "flatten", "--reason", "x", "--key-id", "new", **REQUIRED)
        assert "is HALTED, no position is open: 2 positions closed, 2 attempts" in done.stdout, (
            done.stderr
        )
    assert await account.redis.xlen("{main}:dead") == 0


async def _off_loop(
    url: str, *arguments: str, stdin: str = "", **environ: str
) -> "subprocess.CompletedProcess[str]":
    """The worker in this process goes on meanwhile."""
    return await asyncio.to_thread(command, url, *arguments, stdin=stdin, **environ)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["submit", "--secret-file", "x"], "needs --key-id"),
        (["submit", "--key-id", "NO"], "is not a key id"),
        (["submit", "--key-id", "k"], "signatures.keys.k is not configured here"),
        (["submit", "--key-id", "k", "--secret-file", "/no/such"], "cannot read the secret file"),
        (["submit", "--key-id", "k", "--secret-file", "/dev/null"], "secret: is empty"),
        (["submit", "--key-id", "k", "--secret-file", "/dev/zero"], "larger than 65536 bytes"),
        (["flatten", "--reason", "x", "--key-id", "trend"], 'strategies must have "*"'),
        (["flatten", "--reason", "x", "--key-id", "ids"], 'signal_ids must have "flatten-*" or'),
        (["flatten", "--reason", "x", "--key-id", "old"], "key 'old' is not good after 2020-01-01"),
    ],
)
def test_a_key_that_cannot_be_used_changes_nothing(arguments: list[str], says: str) -> None:
    """A sentence that names what is wrong, before Redis is asked anything."""
    keys = {
        "SIGNATURES__KEYS__TREND__SECRET": NEW,
        "SIGNATURES__KEYS__TREND__STRATEGIES": "trend-*",
        "SIGNATURES__KEYS__OLD__SECRET": NEW,
        "SIGNATURES__KEYS__OLD__NOT_AFTER": "2020-01-01T00:00:00Z",
        "SIGNATURES__KEYS__IDS__SECRET": NEW,
        "SIGNATURES__KEYS__IDS__SIGNAL_IDS": "trend-*",
    }
    done = command("redis://127.0.0.1:1/0", *arguments, stdin="{}", **keys)
    assert done.returncode == 1
    assert says in done.stderr
    assert NEW not in done.stderr
