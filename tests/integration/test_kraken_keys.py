"""Kraken's nonces in order, and one worker a key unless the key has a nonce window."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from tests.integration.canned import Asked, CannedServer
from tests.integration.fleets import Fleet, fleet_on
from tests.integration.test_venue_wire import CREATED, ID, an_order
from tests.integration.venues import CREATE_ROUTES, adapter_for, stock
from worker.assembly.api_keys import ApiKeys, key_digest
from worker.config.keys import ExchangeConfig, Secret
from worker.domain.market import MarketKind
from worker.domain.order import OrderRequest
from worker.exchanges.ccxt.adapter import CCXTAdapter
from worker.exchanges.errors import ExchangeError, Outcome
from worker.runtime.clock import SystemClock
from worker.runtime.embedded_server import EmbeddedServer

PRIVATE = "/0/private/"


class Strict(CannedServer):
    """A stand-in that looks at nonces, as Kraken does, at the end of a journey of uneven length.

    Args:
        window: the key's nonce window: how far behind the highest nonce a new one may be.
        journey_s: the longest time between reading a request and looking at it.
    """

    def __init__(self, window: int = 0, journey_s: float = 0.0) -> None:
        super().__init__()
        self.window = window
        self.journey_s = journey_s
        self.used: set[int] = set()
        self.refused = 0
        self.under_way = self.most_under_way = 0
        #: Paths whose replies wait for ``released``.
        self.held: set[str] = set()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request; a private one only with a good nonce."""
        if not request.path.startswith(PRIVATE):
            return await super().handle(request)
        body = (await request.read()).decode()
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        await asyncio.sleep(random.uniform(0, self.journey_s))
        self.under_way -= 1
        nonce = int(Asked("POST", request.path, {}, body, {}).fields["nonce"])
        if nonce in self.used or nonce <= max(self.used, default=0) - self.window:
            self.refused += 1
            return web.json_response({"error": ["EAPI:Invalid nonce"]})
        self.used.add(nonce)
        response = await super().handle(request)
        if request.path in self.held:
            await self.released.wait()
        return response


@asynccontextmanager
async def strict_server(**options: Any) -> AsyncIterator[Strict]:
    server = Strict(**options)
    runner = web.ServerRunner(web.Server(server.handle, access_log=None), shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    stock(server, "kraken")
    server.replies[CREATE_ROUTES["kraken"]] = CREATED["kraken"]
    try:
        yield server
    finally:
        server.released.set()
        await runner.cleanup()


def numbered(number: int) -> OrderRequest:
    return an_order(client_order_id=f"{number:032x}")


async def place(adapter: CCXTAdapter, number: int) -> None:
    await adapter.place_order(numbered(number), adapter.open_window())


async def test_requests_of_one_worker_never_overtake_each_other() -> None:
    """Orders, balances and look-ups at once, however long each one's way is."""
    async with strict_server(journey_s=0.02) as server:
        adapter = adapter_for("kraken", server.url)
        await adapter.start()
        server.replies["POST /0/private/OpenOrders"] = {"error": [], "result": {"open": {}}}
        server.replies["POST /0/private/ClosedOrders"] = {"error": [], "result": {"closed": {}}}
        calls: list[Any] = [place(adapter, number) for number in range(32)]
        calls += [adapter.get_balance() for _ in range(8)]
        calls += [adapter.get_order(an_order()) for _ in range(4)]
        ended = await asyncio.gather(*calls, return_exceptions=True)
        assert server.refused == 0
        assert ended[:32] == [None] * 32
        assert len(server.requests(CREATE_ROUTES["kraken"])) == 32
        assert server.most_under_way == 1
        await adapter.close()


async def test_a_reply_that_does_not_come_holds_nobody_up() -> None:
    """The request has arrived long before; those behind it are sent meanwhile."""
    async with strict_server() as server:
        adapter = adapter_for("kraken", server.url)
        await adapter.start()
        server.held.add("/0/private/BalanceEx")
        hung = asyncio.create_task(adapter.get_balance())
        await asyncio.sleep(0.05)
        async with asyncio.timeout(2):
            await place(adapter, 1)
        assert not hung.done()
        server.released.set()
        await hung
        assert server.refused == 0
        await adapter.close()


async def test_an_order_whose_window_ends_in_the_line_is_not_sent() -> None:
    """It was not sent, for sure, and nothing of it reaches the wire."""
    async with strict_server() as server:
        adapter = adapter_for("kraken", server.url, clock=SystemClock())
        await adapter.start()
        window = adapter.open_window()
        turn = await adapter._turns.take()  # type: ignore[attr-defined]
        late = asyncio.create_task(
            adapter.place_order(
                an_order(),
                type(window)(window.timestamp_ms, 10, adapter._clock.monotonic_ms() + 10),
            )
        )
        await asyncio.sleep(0.05)
        turn.end()
        with pytest.raises(ExchangeError) as raised:
            await late
        assert (raised.value.outcome, raised.value.code) == (Outcome.NOT_SENT, "window_over")
        assert server.requests(CREATE_ROUTES["kraken"]) == []
        await adapter.close()


async def test_workers_that_share_a_key_with_a_window_use_no_nonce_twice() -> None:
    """Each has a seat, and requests may overtake each other within the window."""
    async with strict_server(window=10_000, journey_s=0.05) as server:
        workers = [adapter_for("kraken", server.url, nonce_window=10_000) for _ in range(4)]
        for seat, adapter in enumerate(workers):
            adapter.take_seat(seat)
            await adapter.start()
        calls = [place(adapter, n) for n, adapter in enumerate(workers * 16)]
        ended = await asyncio.gather(*calls, return_exceptions=True)
        assert server.refused == 0
        assert ended == [None] * 64
        assert server.most_under_way > 4
        for adapter in workers:
            await adapter.close()


# ---- who may use a key ----------------------------------------------------------------------


@pytest.fixture
async def fleet(one_server: EmbeddedServer) -> AsyncIterator[Fleet]:
    async with fleet_on(one_server.url) as made:
        yield made


class Quick(SystemClock):
    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(min(seconds, 0.01))


def keys_of(fleet: Fleet, worker: str, *keys: str, **changes: Any) -> ApiKeys:
    """What keeps a worker's seats, at exchanges k0, k1 … with these API keys."""
    sections, adapters = {}, {}
    for number, key in enumerate(keys):
        name = f"k{number}"
        adapters[name] = adapter_for("kraken", "", api_key=Secret(key), **changes)
        sections[name] = ExchangeConfig(
            adapter="ccxt", ccxt_id="kraken", api_key=Secret(key), market_types=(MarketKind.SPOT,)
        )
    return ApiKeys(adapters, sections=sections, account="main", ledger=fleet[worker], clock=Quick())


async def settled(*all_keys: ApiKeys) -> None:
    """Wait until every worker has asked twice more."""
    for _ in range(2):
        for keys in all_keys:
            await keys._turn()


async def test_a_second_worker_on_a_key_is_refused_by_name_and_takes_over(fleet: Fleet) -> None:
    """Nothing is sent with the key meanwhile; it says who has it and what to do."""
    first, second = keys_of(fleet, "w1", "KEY"), keys_of(fleet, "w2", "KEY")
    first.begin()
    await asyncio.wait_for(first.until_free("k0"), 5)
    second.begin()
    await settled(second)
    assert second.reason("k0")
    reason = second.reason("k0")
    assert "worker w1" in reason
    assert "exchanges.k0.api_key" in reason
    assert "exchanges.k0.nonce_window" in reason
    adapter = second._places["k0"].adapter
    assert adapter.obstacle == reason
    assert (first.is_waiting, first.reason("k0")) == (False, "")
    await first.stop()
    await asyncio.wait_for(second.until_free("k0"), 5)
    assert (second.reason("k0"), adapter.obstacle) == ("", "")
    await settled(second)
    assert second.is_waiting is False
    await second.stop()
    assert await fleet.redis.keys("*key:*") == []


async def test_a_worker_that_dies_loses_the_key_with_its_term(fleet: Fleet) -> None:
    """And no sooner."""
    digest = "d" * 24
    assert (await fleet["w1"].take_seat("k", digest, 1, 60_000)).number == 0
    refused = await fleet["w2"].take_seat("k", digest, 1, 60_000)
    assert (refused.number, refused.holder) == (-1, "w1:k")
    assert (await fleet["w1"].take_seat("k", digest, 1, 1)).number == 0  # renewed, to end soon
    await asyncio.sleep(0.01)
    assert (await fleet["w2"].take_seat("k", digest, 1, 60_000)).number == 0
    assert (await fleet["w1"].take_seat("k", digest, 1, 60_000)).holder == "w2:k"
    assert (await fleet["w1"].take_seat("k", digest, 1, 0)).number == -1  # not its own to give up
    assert (await fleet["w1"].take_seat("k", digest, 1, 60_000)).number == -1


async def test_keys_of_their_own_and_windows_let_everybody_work(fleet: Fleet) -> None:
    """With a window each worker has another seat."""
    one, two = keys_of(fleet, "w1", "KEY1"), keys_of(fleet, "w2", "KEY2")
    await settled(one, two)
    assert not one.is_waiting
    assert not two.is_waiting
    shared = [keys_of(fleet, f"s{n}", "KEY3", nonce_window=10_000) for n in range(3)]
    await settled(*shared)
    seats = [keys._places["k0"].adapter._nonces.seat for keys in shared]  # type: ignore[attr-defined]
    assert seats == [0, 1, 2]
    assert not any(keys.is_waiting for keys in shared)


async def test_a_worker_has_all_of_its_keys_or_waits_for_the_first(fleet: Fleet) -> None:
    """Two workers with the same two keys: not one key each, where nobody could compare both."""
    one, two = keys_of(fleet, "w1", "A", "B"), keys_of(fleet, "w2", "A", "B")
    await settled(one, two)
    assert not one.is_waiting
    assert "worker w1" in two.reason("k0")
    assert two.reason("k1")
    await one.stop()
    same = keys_of(fleet, "w3", "C", "C")  # one key under two names in one worker
    await settled(same)
    assert same.reason("k0") == ""
    assert "worker w3" in same.reason("k1")


async def test_without_the_key_nothing_private_is_sent(fleet: Fleet) -> None:
    """Orders fail as not sent, public questions go on."""
    async with strict_server() as server:
        adapter = adapter_for("kraken", server.url)
        await adapter.start()
        server.asked.clear()
        adapter.lose_seat("worker w1 has it")
        for call in (place(adapter, 1), adapter.get_balance(), adapter.get_order(an_order())):
            with pytest.raises(ExchangeError, match="worker w1 has it") as raised:
                await call
            assert raised.value.outcome is Outcome.NOT_SENT
        assert server.asked == []
        await adapter.measure_clock()
        assert server.asked
        adapter.take_seat(0)
        await place(adapter, 2)
        await adapter.close()


def test_a_digest_gives_nothing_away() -> None:
    """Other keys and other accounts have others; the key itself is nowhere in it."""
    section = ExchangeConfig(api_key=Secret("KEY"))
    digest = key_digest("main", section)
    assert digest == key_digest("main", ExchangeConfig(api_key=Secret("KEY"), sandbox=True))
    assert digest != key_digest("other", section)
    assert digest != key_digest("main", ExchangeConfig(api_key=Secret("KEY2")))
    assert "KEY" not in digest
    assert ID not in digest
