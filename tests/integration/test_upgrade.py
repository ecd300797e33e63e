"""An account that an older version has written: left alone while that works, else converted whole.

``fixtures/format_1.json`` is every key of an account as the last version of format 1 left it when
its worker was killed: ETH/USDT held, a part of it sold again; SOL/USDT:USDT held short; a close of
BTC/USDT in doubt, an opening and a close that wait behind it; a dead letter; the worker's
heartbeat. What a keeper writes for a term only is left out. Times in it are of 2024, bytes that are
no text in base64.
"""

import base64
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.integration.accounts import Account, configuration, working
from tests.integration.fleets import Fleet, fleet_on
from worker.assembly.worker import Worker
from worker.cli import check
from worker.config.keys import Config
from worker.domain.position_json import read_position
from worker.domain.verdict import Verdict
from worker.ledger import conversion
from worker.ledger.conversion import OlderWorkersError, bring_up_to_date
from worker.ledger.errors import LedgerUnavailableError
from worker.ledger.stored import read_book_row
from worker.ledger.stored_format import FORMAT
from worker.operator.reader import AccountReader
from worker.runtime.clock import SystemClock
from worker.runtime.embedded_server import EmbeddedServer
from worker.runtime.errors import ConfigError

D = Decimal
DUMP = Path(__file__).parent / "fixtures" / "format_1.json"
OLD = "old-host-65bd"


def _raw(value: Any) -> bytes:
    return base64.b64decode(value["base64"]) if isinstance(value, dict) else str(value).encode()


async def _restore(redis: Any) -> None:
    """Write the account of the dump; what waits in it was produced just now."""
    for key, stored in json.loads(DUMP.read_text()).items():
        kind, value = stored["type"], stored["value"]
        if kind == "string":
            await redis.set(key, _raw(value))
        elif kind == "hash":
            await redis.hset(key, mapping={_raw(name): _raw(one) for name, one in value})
        elif kind == "zset":
            await redis.zadd(key, {_raw(member): score for member, score in value})
        else:
            assert kind == "stream"
            await _restore_stream(redis, key, value)


async def _restore_stream(redis: Any, key: str, value: dict[str, Any]) -> None:
    now = datetime.now(UTC).isoformat()
    for entry_id, fields in value["entries"]:
        entry = {_raw(name): _raw(one) for name, one in fields}
        if key == "{main}:signals" and b'"wait-' in entry[b"data"]:
            waiting = json.loads(entry[b"data"]) | {"created_at": now}
            entry[b"data"] = json.dumps(waiting).encode()
        await redis.xadd(key, entry, id=entry_id)
    for group in value["groups"]:
        await redis.xgroup_create(key, group["name"], id=group["last"])
        for entry_id, consumer, deliveries in group["pending"]:
            await redis.xclaim(
                key, group["name"], consumer, 0, [entry_id],
                retrycount=deliveries, force=True, justid=True,
            )  # fmt: skip


@pytest.fixture
async def fleet(one_server: EmbeddedServer) -> AsyncIterator[Fleet]:
    """The account of the dump, and ledgers on it."""
    async with fleet_on(one_server.url) as fleet:
        await fleet.redis.flushall()
        await _restore(fleet.redis)
        yield fleet


def _config(fleet: Fleet) -> Config:
    return configuration(
        fleet.url, paper={"fee_pct": D(0), "spread_bps": D(0), "slippage_bps": D(0)}
    )


async def _beat(fleet: Fleet, *, ago_ms: int) -> None:
    """Let the old worker have been heard of so long ago."""
    _, status = (await fleet.hash("workers"))[OLD].split(" ", 1)
    await fleet.redis.hset("{main}:workers", OLD, f"{await fleet.now_ms() - ago_ms} {status}")


async def _everything(fleet: Fleet) -> dict[bytes, Any]:
    return {key: await fleet.redis.dump(key) for key in await fleet.redis.keys("*")}


async def _book(fleet: Fleet) -> dict[str, bytes]:
    return {
        key.decode(): read_book_row(raw).position
        for key, raw in (await fleet.redis.hgetall("{main}:book")).items()
    }


async def test_while_an_old_worker_may_be_alive_nothing_is_touched(fleet: Fleet) -> None:
    """The new one does not start, says whom it waits for, and has written nothing."""
    await _beat(fleet, ago_ms=30_000)
    before = await _everything(fleet)
    with pytest.raises(OlderWorkersError, match=rf"may be alive: {OLD} \(heard of \d+ s ago\)"):
        await Worker(_config(fleet)).run()
    assert await _everything(fleet) == before


async def test_an_account_of_format_1_goes_on_where_it_was(fleet: Fleet) -> None:
    """Positions, an order in doubt, what waits behind it, a dead letter: all is gone on with."""
    config = _config(fleet)
    verdict = Verdict(
        actor="ann", reason="seen", filled=D("0.01"), price=D("66000.5"),
        fee=D("0.66"), fee_currency="USDT",
    )  # fmt: skip
    async with AccountReader(config) as reader:
        await reader.decisions.decide("close-btc", verdict)
    account = Account(fleet.url)
    try:
        async with working(config):
            assert (await account.end("close-btc"))["type"] == "OrderFilled"
            assert [(await account.end(f"wait-{n}"))["type"] for n in (1, 2)] == ["OrderFilled"] * 2
            close = {"action": "close", "direction": None}
            await account.send("end-eth", symbol="ETH/USDT", entry_price="3200", **close)
            await account.send("end-sol", symbol="SOL/USDT:USDT", entry_price="140", **close)
            await account.end("end-eth")
            await account.end("end-sol")
            await account.quiet()
            status = json.loads((await fleet.hash("workers")).popitem()[1].split(" ", 1)[1])
        closed = {
            event["symbol"]: event
            for event in await account.events("positions")
            if event["type"] == "PositionClosed" and event["signal_id"] in {"close-btc", "end-eth",
                                                                            "end-sol"}
        }  # fmt: skip
    finally:
        await account.close()
    btc, eth, sol = (closed[name] for name in ("BTC/USDT", "ETH/USDT", "SOL/USDT:USDT"))
    # Bought for 650.10250075 and a thousandth of that, as the dump has it; sold for 660.005.
    assert D(btc["realized_pnl"]) == D("660.005") - D("0.66") - D("650.10250075") * D("1.001")
    # Of 0.7 bought at 3000.5200105 with the same fee, 0.3 had earned 27.9074424018.
    rest = D("0.4") * 3200 - D("0.4") * D("3000.5200105") * D("1.001")
    assert D(eth["realized_pnl"]) == D("27.9074424018") + rest
    assert (eth["quantity"], eth["entry_price"]) == ("0.7", "3000.5200105")
    assert D(sol["realized_pnl"]) == 3 * (D("151.0073455") * D("0.999") - 140)
    assert await fleet.hash("book") == {}
    assert await fleet.hash("totals") == {"USDT": "0"}
    assert len(await fleet.stream("dead")) == 1
    assert (await fleet.hash("format"))["version"] == str(FORMAT) == str(status["format"])


async def test_rows_keep_what_they_show_and_their_reservations(fleet: Fleet) -> None:
    """Each position reads the same before and after; who reserved one still does."""
    rows = await fleet.redis.hgetall("{main}:book")
    before = {key: read_position(raw) for key, raw in (await _book(fleet)).items()}
    scripts = fleet["new"]._scripts
    assert await bring_up_to_date(scripts, worker="new", lease_ms=3_000) == 3
    after = await _book(fleet)
    assert {key: read_position(raw) for key, raw in after.items()} == before
    assert all(msgspec.json.encode(before[key]) == raw for key, raw in after.items())
    assert await fleet.reserved("closing") == {"paper:BTC/USDT": "close-btc"}
    assert {key: read_book_row(raw).reservation for key, raw in rows.items()} == {
        key: read_book_row(raw).reservation
        for key, raw in (await fleet.redis.hgetall("{main}:book")).items()
    }
    again = await _everything(fleet)
    assert await bring_up_to_date(scripts, worker="newer", lease_ms=3_000) == 0
    assert await _everything(fleet) == again


async def test_a_conversion_broken_off_is_gone_on_with(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every position is old or new, never in between; the format is written down last."""
    monkeypatch.setattr(conversion, "PORTION", 1)
    scripts = fleet["new"]._scripts
    run = scripts.run
    steps: list[str] = []

    async def broken(name: str, *arguments: Any) -> Any:
        if name == "convert":
            steps.append(arguments[3])
        if steps.count("rows") == 2:
            raise LedgerUnavailableError("gone", kind="test")
        return await run(name, *arguments)

    monkeypatch.setattr(scripts, "run", broken)
    with pytest.raises(LedgerUnavailableError):
        await bring_up_to_date(scripts, worker="new", lease_ms=3_000)
    assert sum(b"entry_value" in raw for raw in (await _book(fleet)).values()) == 1
    assert await fleet.hash("format") == {}
    monkeypatch.setattr(scripts, "run", run)
    assert await bring_up_to_date(scripts, worker="new", lease_ms=3_000) == 2
    assert (await fleet.hash("format"))["version"] == str(FORMAT)


async def test_an_old_worker_that_comes_back_stops_the_conversion(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looked at in each step, on the server: none follows after its heartbeat."""
    monkeypatch.setattr(conversion, "PORTION", 1)
    scripts = fleet["new"]._scripts
    run = scripts.run

    async def and_back(name: str, *arguments: Any) -> Any:
        reply = await run(name, *arguments)
        if name == "convert" and arguments[3] == "rows":
            await _beat(fleet, ago_ms=0)
        return reply

    monkeypatch.setattr(scripts, "run", and_back)
    with pytest.raises(OlderWorkersError):
        await bring_up_to_date(scripts, worker="new", lease_ms=3_000)
    assert sum(b"entry_value" in raw for raw in (await _book(fleet)).values()) == 1
    assert await fleet.hash("format") == {}


async def test_a_newer_format_stops_the_start(fleet: Fleet) -> None:
    """With a sentence; nothing is written. `check` says the same."""
    await fleet.redis.hset("{main}:format", "version", FORMAT + 1)
    before = await _everything(fleet)
    with pytest.raises(ConfigError, match="format 3 and this version knows 2: start a version"):
        await Worker(_config(fleet)).run()
    assert await _everything(fleet) == before
    (found,) = await _findings(fleet)
    assert found.level == "FAIL"
    assert "format 3 and this version knows 2" in found.detail


async def test_check_names_old_workers(fleet: Fleet) -> None:
    """They keep a start from succeeding; without them the account is fine."""
    await _beat(fleet, ago_ms=2_000)
    (found,) = await _findings(fleet)
    assert (found.level, OLD in found.detail) == ("FAIL", True)
    await _beat(fleet, ago_ms=61_000)
    (found,) = await _findings(fleet)
    assert found.level == "ok"


async def _findings(fleet: Fleet) -> list[check.Finding]:
    config = _config(fleet)
    found = [one async for one in check.findings(config, SystemClock())]
    return [one for one in found if one.subject == "redis"]
