"""Entries that rest, on a real server with the simulated exchange: acknowledged, then followed."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from tests.integration.accounts import TERMINAL, Account, configuration, working
from tests.integration.fleets import until
from worker.config.keys import Config, UpdatesConfig
from worker.runtime.embedded_server import EmbeddedServer

D = Decimal


@pytest.fixture
async def account(server: EmbeddedServer) -> AsyncIterator[Account]:
    made = Account(server.url)
    yield made
    await made.close()


def often(url: str, **sections: Any) -> Config:
    """A configuration whose resting orders are asked for often."""
    return configuration(url, updates=UpdatesConfig(poll_seconds=0.05), **sections)


def kinds(events: list[dict[str, Any]]) -> list[str]:
    return [event["type"] for event in events]


async def rests(account: Account, signal_id: str) -> None:
    """Wait until a signal's order has been placed and its entry acknowledged."""

    async def placed() -> bool:
        return "OrderPlaced" in kinds(await account.of(signal_id))

    await until(placed, what=f"{signal_id} rests")
    await account.quiet()


async def send_stop(account: Account, signal_id: str = "in", **fields: Any) -> None:
    """Send a stop entry at 110 while the market is at 100: it rests."""
    await account.send(
        signal_id, order_type="stop", stop_price="110", entry_price="100", quantity="2", **fields
    )
    await rests(account, signal_id)


async def trade_at(account: Account, price: str) -> None:
    """State a price, again and again, until the entry that rests has ended.

    A worker that has just started learns within a second for which markets orders rest.
    """
    for number in range(100):
        await account.send(f"price-{number}", entry_price=price, quantity="1")
        await account.end(f"price-{number}")
        if any(event["type"] in TERMINAL for event in await account.of("in")):
            return


async def left(account: Account) -> list[str]:
    """The keys that speak of live orders."""
    names = ("live", "agenda", "turns", "exchange-ids", "book")
    keys = [f"{{main}}:{name}" for name in names]
    return [key for key in keys if await account.redis.exists(key)] + [
        key.decode() for key in await account.redis.keys("{main}:order:*")
    ]


async def test_an_entry_rests_and_fills_when_its_price_comes(
    server: EmbeddedServer, account: Account
) -> None:
    async with working(often(server.url)):
        await send_stop(account)
        assert kinds(await account.of("in")) == ["OrderPlaced"]
        assert await account.pending() == 0
        await account.send("price", entry_price="111", quantity="1")
        refused = await account.end("price")
        assert refused["code"] == "POSITION_BUSY"
        assert "signal in rests" in refused["reason"]
        filled = await account.end("in")
        assert filled["type"] == "OrderFilled"
        assert D(filled["filled_quantity"]) == 2
        assert kinds(await account.of("in")) == ["OrderPlaced", "OrderFilled", "PositionOpened"]
        await account.send("out", action="close", direction=None, entry_price="112")
        assert (await account.end("out"))["type"] == "OrderFilled"
        assert await left(account) == []


async def test_a_close_cancels_what_rests_first(server: EmbeddedServer, account: Account) -> None:
    async with working(often(server.url)):
        await send_stop(account)
        await account.send("out", action="close", direction=None)
        ended = await account.end("out")
        assert ended["type"] == "SignalCompleted"
        assert ended["target"] == "in"
        cancelled = await account.end("in")
        assert cancelled["type"] == "OrderCancelled"
        assert cancelled["code"] == "CLOSED"
        assert "signal out closes" in cancelled["reason"]
        await account.quiet()
        assert await left(account) == []


async def test_a_part_of_a_resting_entry_is_a_position_at_once(
    server: EmbeddedServer, account: Account
) -> None:
    paper = {"fee_pct": D(0), "spread_bps": D(0), "slippage_bps": D(0), "partial_fill_rate": 1.0}
    async with working(often(server.url, paper=paper)):
        await account.send("in", order_type="limit", entry_price="100", quantity="2")
        await rests(account, "in")
        assert kinds(await account.of("in")) == [
            "OrderPlaced",
            "OrderPartiallyFilled",
            "PositionOpened",
        ]
        part = (await account.of("in"))[1]["filled_quantity"]
        assert 0 < D(part) < 2
        await account.send("out", action="close", direction=None, entry_price="100")
        await account.end("out")
        assert (await account.end("in"))["filled_quantity"] == part
        closed = [one for one in await account.events("positions") if one["signal_id"] == "out"]
        assert D(closed[-1]["quantity"]) <= D(part)


@pytest.mark.parametrize("state", ["REDUCING", "HALTED"])
async def test_what_rests_is_cancelled_when_nothing_may_open(
    server: EmbeddedServer, account: Account, state: str
) -> None:
    async with working(often(server.url)):
        await send_stop(account)
        await account.redis.hset("{main}:control", "trading_state", state)
        cancelled = await account.end("in")
        assert cancelled["type"] == "OrderCancelled"
        assert cancelled["code"] == state
        assert await left(account) == []


async def test_a_good_till_order_ends_at_its_time(server: EmbeddedServer, account: Account) -> None:
    """A worker cancels it then, not before, and says why."""
    async with working(often(server.url)):
        till = datetime.now(UTC) + timedelta(seconds=3)
        await send_stop(account, time_in_force="GTD", good_till=till.isoformat())
        cancelled = await account.end("in")
        assert (cancelled["type"], cancelled["code"]) == ("OrderCancelled", "GOOD_TILL")
        assert datetime.fromisoformat(cancelled["occurred_at"]) >= till
        assert await left(account) == []


async def test_another_worker_follows_what_one_has_left(
    server: EmbeddedServer, account: Account
) -> None:
    config = often(server.url)
    async with working(config):
        await send_stop(account)
    async with working(config):
        await trade_at(account, "111")
        assert (await account.end("in"))["type"] == "OrderFilled"
        assert kinds(await account.of("in")) == ["OrderPlaced", "OrderFilled", "PositionOpened"]
