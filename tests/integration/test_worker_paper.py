"""The whole worker in this process, on a real server, with the simulated exchange."""

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.integration.accounts import TERMINAL, Account, configuration, from_now, working
from tests.integration.fleets import GROUP, SIGNALS, until
from worker.config.keys import (
    RedisConfig,
    RiskConfig,
    Secret,
    ValidationConfig,
    WorkerConfig,
)
from worker.domain.identity import client_order_id
from worker.runtime.embedded_server import EmbeddedServer

D = Decimal


@pytest.fixture
async def account(server: EmbeddedServer) -> AsyncIterator[Account]:
    made = Account(server.url)
    yield made
    await made.close()


def kinds(events: list[dict[str, Any]]) -> list[str]:
    return [event["type"] for event in events]


# --- life of a position ---


async def test_a_position_is_opened_and_closed(server: EmbeddedServer, account: Account) -> None:
    """Open at 100, close at 110: the events of both, the profit, and nothing left behind."""
    async with working(configuration(server.url)) as worker:
        await account.send("in", quantity="2", stop_loss="99", metadata={"run": 7})
        opened = await account.end("in")
        await account.send("out", action="close", direction=None, entry_price="110")
        closed = await account.end("out")
        await account.quiet()
        assert kinds(await account.of("in")) == ["OrderPlaced", "OrderFilled", "PositionOpened"]
        assert kinds(await account.of("out")) == ["OrderPlaced", "OrderFilled", "PositionClosed"]
        assert opened["client_order_id"] == client_order_id("main", "in", "entry")
        assert closed["client_order_id"] == client_order_id("main", "out", "exit")
        assert opened["metadata"] == {"run": 7}
        assert opened["worker"] == worker.name
        entry, exit_ = (await account.of("in"))[-1], (await account.of("out"))[-1]
        assert entry["stop_loss"] == "99"
        assert D(entry["quantity"]) == 2
        assert D(exit_["realized_pnl"]) == 20
        assert D(exit_["realized_pnl_pct"]) == 10
        assert exit_["position_id"] == entry["position_id"]
        assert exit_["close_reason"] == "signal"
        numbers = await worker.ledger.account()
        assert numbers.realized == {"USDT": 20}
        assert set(numbers.exposure.values()) <= {D(0)}
        assert (numbers.open_positions, numbers.leases, numbers.pending) == (0, 0, 0)
        assert worker.orders.statistics() == {"active": 0, "filled": 2}


async def test_a_position_is_closed_in_parts(server: EmbeddedServer, account: Account) -> None:
    """Changed, changed, closed; profits add up; a fourth close has nothing to close."""
    async with working(configuration(server.url)):
        await account.send("in", quantity="4")
        for number, quantity in enumerate(("1", "1.5", None, "1"), start=1):
            await account.send(
                f"out-{number}", action="close", quantity=quantity, entry_price="101"
            )
        assert (await account.end("out-4"))["code"] == "NO_POSITION"
        changes = await account.events("positions")
        assert kinds(changes) == [
            "PositionOpened",
            "PositionChanged",
            "PositionChanged",
            "PositionClosed",
        ]
        assert [D(change["quantity"]) for change in changes] == [4, 3, D("1.5"), 4]
        assert D(changes[-1]["realized_pnl"]) == 4


async def test_signals_of_a_symbol_run_in_the_order_they_came(
    server: EmbeddedServer, account: Account
) -> None:
    """Three workers, ten symbols, open and close alternating: not one finds the other's place."""
    config = configuration(server.url)
    for round_ in range(6):
        for coin in range(10):
            await account.send(
                f"s-{coin}-{round_}",
                symbol=f"AA{coin}/USDT",
                action="close" if round_ % 2 else "open",
                direction=None if round_ % 2 else "long",
            )
    async with working(config), working(config), working(config):
        await account.end("s-9-5")
        await account.quiet()
        orders = await account.events("orders")
    ends = [event for event in orders if event["type"] in TERMINAL]
    assert [event["type"] for event in ends] == ["OrderFilled"] * 60
    for coin in range(10):
        order = [e["signal_id"] for e in ends if e["symbol"] == f"AA{coin}/USDT"]
        assert order == [f"s-{coin}-{round_}" for round_ in range(6)]
    ids = [event["event_id"] for event in orders]
    assert len(set(ids)) == len(ids)


async def test_workers_share_one_limit(server: EmbeddedServer, account: Account) -> None:
    """Forty entries of different symbols, three workers, five places: five positions."""
    config = configuration(server.url, risk=RiskConfig(max_concurrent_positions=5))
    for number in range(40):
        await account.send(f"s-{number}", symbol=f"AB{number}/USDT")
    async with working(config), working(config), working(config):
        ends = [await account.end(f"s-{number}") for number in range(40)]
    assert kinds(ends).count("OrderFilled") == 5
    assert [end["code"] for end in ends if "code" in end] == ["MAX_POSITIONS"] * 35


# --- bad input ---

MALFORMED: dict[str, tuple[bytes, str, str]] = {
    "no JSON": (b"buy!", "data", "not a JSON object"),
    "no UTF-8": (b'{"signal_id": "\xff"}', "data", "UTF-8"),
    "68 kilobytes": (b"[" + b" " * 68_000 + b"]", "data", "65536"),
    "a megabyte": (b"[" + b" " * 1_000_000 + b"]", "entry too large", "73728"),
    "half a document": (b'{"signal_id": "a"', "data", "ends too early"),
    "a list": (b"[1]", "data", "object"),
    "nothing": (b"", "data", "ends too early"),
}
BAD_FIELDS: dict[str, tuple[dict[str, Any], str, str]] = {
    "a misspelt stop": ({"stop_los": "99"}, "stop_los", "did you mean"),
    "a price that is none": ({"entry_price": "NaN"}, "entry_price", "finite"),
    "an endless price": ({"entry_price": "Infinity"}, "entry_price", "finite"),
    "a huge quantity": ({"quantity": "1e400"}, "quantity", "outside"),
    "a time without its zone": (
        {"created_at": "2026-03-01T12:00:00"},
        "created_at",
        "with its zone",
    ),
    "a strength as text": ({"strength": "strong"}, "strength", "number"),
    "a bad id": ({"signal_id": "no spaces"}, "signal_id", "letters"),
    "a list of metadata": ({"metadata": []}, "metadata", "object"),
}
REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    "a stop on the wrong side": ({"stop_loss": "101"}, "STOP_LOSS_WRONG_SIDE", "stop_loss"),
    "a target on the wrong side": ({"take_profit": "99"}, "TAKE_PROFIT_WRONG_SIDE", "take_profit"),
    "an unknown symbol": ({"symbol": "NO/SUCH"}, "UNKNOWN_SYMBOL", "symbol"),
    "an unknown exchange": ({"exchange": "mtgox"}, "UNKNOWN_EXCHANGE", "exchange"),
    "no direction": ({"direction": None}, "MISSING_FIELD", "direction"),
    "too weak a signal": ({"confluence_score": 1}, "CONFLUENCE_TOO_LOW", "confluence_score"),
    "too large a size": ({"size_pct": 50}, "SIZE_OUT_OF_RANGE", "size_pct"),
    "an old signal": ({"created_at": "2020-01-01T00:00:00Z"}, "SIGNAL_EXPIRED", "expires_at"),
    "the end of time": (
        {"created_at": "9999-12-31T23:59:59Z"},
        "SIGNAL_FROM_FUTURE",
        "created_at",
    ),
    "a life without end": (
        {"expires_at": "9999-12-31T23:59:59Z"},
        "LIFETIME_TOO_LONG",
        "expires_at",
    ),
    "nothing to close": ({"action": "close", "direction": None}, "NO_POSITION", "symbol"),
}


async def test_bad_input_ends_where_the_contract_says_and_work_goes_on(
    server: EmbeddedServer, account: Account
) -> None:
    """Dead letters and failures name the field and the rule; the next good signal trades."""
    async with working(configuration(server.url)):
        sent: dict[str, tuple[str, str]] = {}
        for data, field, rule in MALFORMED.values():
            sent[await account.send_raw(data)] = (field, rule)
        for fields, field, rule in BAD_FIELDS.values():
            name = fields.get("signal_id", f"bad-{len(sent)}")
            rest = {key: value for key, value in fields.items() if key != "signal_id"}
            sent[await account.send(name, **rest)] = (field, rule)
        letters = await account.dead(len(sent))
        told = {one[b"entry_id"].decode(): one for one in letters}
        assert set(told) == set(sent)
        for entry_id, (field, rule) in sent.items():
            letter = told[entry_id]
            assert letter[b"reason"] == b"malformed"
            assert field in letter[b"error"].decode()
            assert rule in letter[b"error"].decode()
            assert letter[b"deliveries"] == b"1"
            assert b"data" in letter
        assert await account.events("orders") == []
        for number, (fields, code, field) in enumerate(REFUSED.values()):
            await account.send(f"refused-{number}", **fields)
            ended = await account.end(f"refused-{number}")
            assert (ended["type"], ended["code"]) == ("OrderFailed", code)
            assert ended["reason"].startswith(f"{field}: ")
        await account.send("good")
        assert (await account.end("good"))["type"] == "OrderFilled"
        await account.quiet()


async def test_an_entry_without_data_or_of_another_type_is_dead(
    server: EmbeddedServer, account: Account
) -> None:
    """Whatever somebody puts on the stream by mistake."""
    async with working(configuration(server.url)):
        await account.redis.xadd(SIGNALS, {"hello": "world"})
        await account.redis.xadd(SIGNALS, {"type": "OrderFilled", "data": "{}"})
        first, second = await account.dead(2)
        assert first[b"hello"] == b"world"
        assert first[b"error"].startswith(b"data: ")
        assert second[b"error"].startswith(b"type: ")


# --- ids used twice ---


async def test_a_repeated_signal_trades_once(server: EmbeddedServer, account: Account) -> None:
    """In the same group and in another, while the first runs and long after."""
    made = datetime.now(UTC).isoformat()
    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    fields: dict[str, Any] = {"created_at": made, "expires_at": later}
    async with working(configuration(server.url)):
        for key in (None, None, "elsewhere"):
            await account.send("twice", key=key, **fields)
        await account.end("twice")
        await account.quiet()
        await account.send("twice", **fields)
        await account.quiet()
        assert kinds(await account.of("twice")) == [
            "OrderPlaced",
            "OrderFilled",
            "PositionOpened",
        ]
        assert await account.redis.xlen("{main}:dead") == 0


async def test_a_used_id_for_something_else_is_a_dead_letter(
    server: EmbeddedServer, account: Account
) -> None:
    """After a trade, and after a refusal; the first outcome stands."""
    async with working(configuration(server.url)):
        await account.send("a")
        await account.send("b", strength=None)
        await account.end("a")
        await account.end("b")
        await account.send("a", symbol="ETH/USDT")
        await account.send("b", symbol="SOL/USDT")
        letters = await account.dead(2)
        assert {one[b"reason"] for one in letters} == {b"conflict"}
        assert all(b"signal_id: " in one[b"error"] for one in letters)
        await account.quiet()
        assert len(await account.events("positions")) == 1


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"expires_at": "3026-01-01T00:00:00Z"}, "LIFETIME_TOO_LONG"),
        (
            {"created_at": "3025-12-31T12:00:00Z", "expires_at": "3026-01-01T00:00:00Z"},
            "SIGNAL_FROM_FUTURE",
        ),
        ({"expires_at": "3026-01-01T00:00:00Z", "action": "close"}, "LIFETIME_TOO_LONG"),
        ({"expires_at": "3026-01-01T00:00:00Z", "symbol": "NO/SUCH"}, "LIFETIME_TOO_LONG"),
    ],
)
async def test_the_record_of_a_refused_signal_has_a_bound(
    server: EmbeddedServer, account: Account, fields: dict[str, Any], code: str
) -> None:
    """No expiry that a producer writes keeps a record longer than a signal may live."""
    config = configuration(
        server.url,
        redis=RedisConfig(url=Secret(server.url), record_retention_seconds=60),
        validation=ValidationConfig(max_signal_lifetime_seconds=3_600, max_clock_ahead_seconds=5),
    )
    async with working(config):
        await account.send("far", **fields)
        await account.send("near", expires_at=from_now(minutes=59), confluence_score=0)
        assert (await account.end("far"))["code"] == code
        assert (await account.end("far"))["retriable"] is False
        assert (await account.end("near"))["code"] == "CONFLUENCE_TOO_LOW"
        await account.quiet()
        far_ms, near_ms = [
            await account.redis.pttl(f"{{main}}:record:{n}") for n in ("far", "near")
        ]
        assert 3_500_000 < far_ms <= 3_600_000 + 5_000 + 60_000
        assert 3_540_000 < near_ms <= 3_600_000, "while it could trade if it came again"


@pytest.mark.parametrize("character", ["a", "\x01", "\U0001f4a3", "\u202e"])
async def test_what_a_refused_signal_leaves_is_small(
    server: EmbeddedServer, account: Account, character: str
) -> None:
    """The longest text in every field: event and record stay within what security.md states."""
    filler = json.dumps({"m": ""})
    fields: dict[str, Any] = {
        "symbol": character * 64,
        "exchange": character * 32,
        "strategy_id": character * 128,
        "metadata": {"m": "m" * (4_096 - len(filler))},
        "entry_price": "0." + "1" * 17,
    }
    async with working(configuration(server.url)):
        for name, exchange in (("a" * 64, "paper"), ("b" * 64, fields["exchange"])):
            await account.send(name, **fields | {"exchange": exchange})
            assert (await account.end(name))["type"] == "OrderFailed"
            assert await account.redis.strlen(f"{{main}}:record:{name}") < 2_000
        assert await account.redis.xlen("{main}:dead") == 0
        for _, event in await account.redis.xrange("{main}:orders"):
            assert sum(len(name) + len(value) for name, value in event.items()) < 8_000


# --- trading states ---


async def test_halted_and_reducing(server: EmbeddedServer, account: Account) -> None:
    """Halted: nothing goes. Reducing: closes go. Resumed: all as before."""
    control = "{main}:control"
    async with working(configuration(server.url)):
        await account.send("held")
        await account.end("held")
        await account.redis.hset(control, "trading_state", "HALTED")
        await account.send("open-1", symbol="ETH/USDT")
        await account.send("close-1", action="close", direction=None)
        assert (await account.end("open-1"))["code"] == "TRADING_HALTED"
        assert (await account.end("close-1"))["code"] == "TRADING_HALTED"
        await account.redis.hset(control, "trading_state", "REDUCING")
        await account.send("open-2", symbol="ETH/USDT")
        await account.send("close-2", action="close", direction=None)
        assert (await account.end("open-2"))["code"] == "TRADING_REDUCING"
        assert (await account.end("close-2"))["type"] == "OrderFilled"
        await account.redis.hset(control, "trading_state", "ACTIVE")
        await account.send("open-3", symbol="ETH/USDT")
        assert (await account.end("open-3"))["type"] == "OrderFilled"


# --- stopping ---


async def test_draining_finishes_what_is_in_hand_and_leaves(
    server: EmbeddedServer, account: Account
) -> None:
    """Orders under way end; nothing new is begun; nothing of the worker stays in Redis."""
    config = configuration(server.url, paper={"latency_ms": 300.0})
    async with working(config) as worker:
        await account.send("begun")
        await account.send("behind", action="close", direction=None)

        async def busy() -> bool:
            return worker.engine.in_flight > 0

        await until(busy, what="the first order is under way")
    assert (await account.end("begun"))["type"] == "OrderFilled"
    assert await account.of("behind") == []
    assert await account.redis.hgetall("{main}:workers") == {}
    assert await account.redis.get("{main}:keeper") is None
    assert await account.redis.zcard("{main}:leases") == 0
    async with working(configuration(server.url)):
        assert (await account.end("behind"))["type"] == "OrderFilled"


async def test_a_second_stop_hands_back_at_once(server: EmbeddedServer, account: Account) -> None:
    """What was under way is in doubt; its successor finds it or sends it again, once."""
    slow = configuration(
        server.url, paper={"latency_ms": 800.0}, worker=WorkerConfig(seed=1, drain_seconds=60)
    )
    async with working(slow) as worker:
        await account.send("begun", expires_at=from_now(hours=1))

        async def sent() -> bool:
            return any(order.attempts for order in worker.orders.active())

        await until(sent, what="the order is being sent")
        worker.engine.stop()
    assert await account.of("begun") == []
    assert await account.pending() == 1
    async with working(configuration(server.url)):
        assert (await account.end("begun"))["type"] == "OrderFilled"
    assert kinds(await account.of("begun")) == ["OrderPlaced", "OrderFilled", "PositionOpened"]


# --- Redis comes and goes ---


@pytest.fixture
async def own(server: EmbeddedServer, tmp_path: Path) -> AsyncIterator[EmbeddedServer]:
    """A server that a test may kill, with its data on disk."""
    arguments = ("--appendonly", "yes", "--appendfsync", "always")
    with EmbeddedServer(binary=server._binary, directory=tmp_path, arguments=arguments) as made:
        yield made


async def test_a_restarted_server_with_its_data_changes_nothing(own: EmbeddedServer) -> None:
    """Killed and started again under load: every signal ends exactly once."""
    account = Account(own.url)
    async with working(configuration(own.url)):
        for number in range(30):
            await account.send(f"s-{number}", symbol=f"AC{number}/USDT")
        await account.end("s-0")
        own.kill()
        own.start()
        await account.redis.connection_pool.disconnect()
        ends = [await account.end(f"s-{number}") for number in range(30)]
        assert set(kinds(ends)) == {"OrderFilled"}
        await account.quiet()
        orders = await account.events("orders")
        assert len({event["event_id"] for event in orders}) == len(orders)
    await account.close()


@pytest.mark.parametrize("how", ["flushed", "restarted empty", "group destroyed"])
async def test_an_emptied_server_is_worked_on_again(
    server: EmbeddedServer, tmp_path: Path, how: str
) -> None:
    """The group is created anew and the next signal trades; no restart of the worker is needed."""
    with EmbeddedServer(binary=server._binary, directory=tmp_path) as own:
        account = Account(own.url)
        async with working(configuration(own.url)):
            await account.send("before")
            await account.end("before")
            if how == "flushed":
                await account.redis.flushall()
            elif how == "restarted empty":
                own.kill()
                own.start()
                await account.redis.connection_pool.disconnect()
            else:
                await account.redis.xgroup_destroy(SIGNALS, GROUP)
            await account.send("after", symbol="ETH/USDT")
            assert (await account.end("after"))["type"] == "OrderFilled"
            await account.quiet()
            expected = 3 if how == "group destroyed" else 0
            assert len(await account.of("before")) == expected
        await account.close()


async def test_a_worker_started_before_its_server_waits_for_it(
    server: EmbeddedServer, tmp_path: Path
) -> None:
    """Not ready, not dead."""
    late = EmbeddedServer(binary=server._binary, directory=tmp_path)
    async with working(configuration(late.url)) as worker:

        async def noticed() -> bool:
            return worker.ledger.lost_replies > 0

        await until(noticed, what="the worker has found nobody there")
        with late:
            account = Account(late.url)
            await account.send("s")
            assert (await account.end("s"))["type"] == "OrderFilled"
            await account.close()
            worker.engine.stop()


async def test_low_standards_are_a_matter_of_configuration(
    server: EmbeddedServer, account: Account
) -> None:
    """``validation`` keys reach the stage."""
    strict = ValidationConfig(min_signal_strength=0.9, min_confluence_score=0.0)
    async with working(configuration(server.url, validation=strict)):
        await account.send("weak")
        assert (await account.end("weak"))["code"] == "STRENGTH_TOO_LOW"
        await account.send("strong", strength=0.9, confluence_score=0)
        assert (await account.end("strong"))["type"] == "OrderFilled"
