"""The real adapters against stand-ins that keep the documented limits and punish refused calls."""

import asyncio
import uuid

import pytest

from tests.integration.canned import Asked, Canned, canned_server
from tests.integration.limited import BinanceBan, FastClock, KrakenAccount
from tests.integration.test_venue_wire import an_order as wire_order
from tests.integration.test_venue_wire import trading
from tests.integration.venues import CREATE_ROUTES, adapter_for, stock
from tests.unit.parts import D, admitted_order, custody, order_request
from worker.config.keys import ReconciliationConfig
from worker.domain.order import Fact, OrderRequest, OrderState
from worker.domain.signal import OrderType
from worker.exchanges.budget.classes import RequestClass, asking
from worker.exchanges.budget.limits import Scope, Share
from worker.exchanges.ccxt.adapter import CCXTAdapter
from worker.exchanges.errors import ExchangeError, RateLimitError
from worker.pipeline.flow import Settlement, Submission
from worker.pipeline.orders import OrderManager
from worker.pipeline.reconciliation import ReconciliationHandler
from worker.pipeline.worker_state import WorkerState

SYMBOL = "BTC/USDT"


def an_order(kind: OrderType = OrderType.MARKET) -> OrderRequest:
    price = D(100) if kind is OrderType.LIMIT else None
    return order_request(
        client_order_id=uuid.uuid4().hex,
        symbol=SYMBOL,
        order_type=kind,
        price=price,
        quantity=D("0.01"),
    )


async def end(adapter: CCXTAdapter, clock: FastClock, request: OrderRequest) -> object:
    """Send an order and follow it to its end, as the pipeline's last two stages do."""
    while wait_ms := adapter.take_turn(30_000, request):
        await clock.sleep(wait_ms / 1000)
    said = await adapter.place_order(request, adapter.open_window())
    orders, held = OrderManager(), custody(10**9)
    held.order = orders.begin(request, "s-1")
    orders.note(held.order, Fact.SENT)
    orders.report(held.order, said)
    handler = ReconciliationHandler(
        ReconciliationConfig(max_wait_time=60.0),
        exchanges={"paper": adapter},
        orders=orders,
        state=WorkerState(),
        clock=clock,
    )
    info = adapter.get_symbol_info(SYMBOL)
    assert info is not None
    return await handler.handle(
        Submission(order=admitted_order(request, info=info), report=said, attempts=1), held
    )


@pytest.mark.parametrize("tier", ["starter", "intermediate", "pro"])
@pytest.mark.parametrize(("kind", "count"), [(OrderType.LIMIT, 1), (OrderType.MARKET, 8)])
async def test_every_order_on_kraken_gets_its_end(tier: str, kind: OrderType, count: int) -> None:
    """Whatever the tier: no call is refused, nobody waits for ever."""
    clock = FastClock()
    async with canned_server() as server:
        stock(server, "kraken")
        account = KrakenAccount(server, clock, tier)
        adapter = adapter_for("kraken", server.url, clock=clock, rate_tier=tier)
        await adapter.start()
        began_ms = clock.monotonic_ms()
        ends = await asyncio.gather(*(end(adapter, clock, an_order(kind)) for _ in range(count)))
        took_s = (clock.monotonic_ms() - began_ms) / 1000
        await adapter.close()
    assert all(isinstance(one, Settlement) for one in ends), ends
    assert account.refused == 0, account.calls
    assert took_s < 40, account.calls


@pytest.mark.parametrize("tier", ["starter", "pro"])
async def test_four_workers_on_one_kraken_key_are_never_refused(tier: str) -> None:
    """Each has a quarter; all thirty-two orders get their end."""
    clock = FastClock()
    async with canned_server() as server:
        stock(server, "kraken")
        account = KrakenAccount(server, clock, tier)
        adapters = [
            adapter_for("kraken", server.url, clock=clock, rate_tier=tier) for _ in range(4)
        ]
        for rank, adapter in enumerate(adapters):
            adapter.request_gate.share(Scope.KEY, Share(4, rank))
            await adapter.start()
        ends = await asyncio.gather(
            *(end(adapter, clock, an_order()) for adapter in adapters for _ in range(8))
        )
        for adapter in adapters:
            await adapter.close()
    assert all(isinstance(one, Settlement) for one in ends), ends
    assert account.refused == 0, account.calls


async def test_polls_of_many_orders_are_one_request() -> None:
    """Kraken answers for fifty transaction ids at once."""
    clock = FastClock()
    async with canned_server() as server:
        stock(server, "kraken")
        account = KrakenAccount(server, clock, "starter")
        adapter = adapter_for("kraken", server.url, clock=clock)
        await adapter.start()
        requests = [an_order(OrderType.LIMIT) for _ in range(30)]
        placed = [await adapter.place_order(one, adapter.open_window()) for one in requests]

        async def poll(one: OrderRequest, txid: str) -> None:
            with asking(RequestClass.POLL, 60.0):
                report = await adapter.get_order(one, txid)
            assert report.client_order_id == one.client_order_id

        pairs = zip(requests, placed, strict=True)
        await asyncio.gather(*(poll(one, said.exchange_order_id) for one, said in pairs))
        await adapter.close()
    assert account.calls.count("QueryOrders") <= 2


async def test_polls_of_one_symbol_on_binance_share_a_listing() -> None:
    """From three live orders on; one that is not listed any more is asked for by itself."""
    clock = FastClock()
    requests = [an_order(OrderType.LIMIT) for _ in range(12)]

    def row(one: OrderRequest, status: str) -> dict[str, object]:
        return {
            "symbol": "BTCUSDT",
            "orderId": requests.index(one) + 1,
            "clientOrderId": one.client_order_id,
            "price": "100",
            "origQty": "0.01",
            "executedQty": "0.01" if status == "FILLED" else "0",
            "cummulativeQuoteQty": "1" if status == "FILLED" else "0",
            "status": status,
            "type": "LIMIT",
            "side": "BUY",
            "time": 1_700_000_000_000,
        }

    def one_order(asked: Asked) -> dict[str, object]:
        (one,) = [o for o in requests if o.client_order_id == asked.query["origClientOrderId"]]
        return row(one, "FILLED" if one is requests[-1] else "NEW")

    async with canned_server() as server:
        stock(server, "binance")
        server.replies["GET /api/v3/order"] = one_order
        server.replies["GET /api/v3/openOrders"] = [row(one, "NEW") for one in requests[:-1]]
        adapter = adapter_for("binance", server.url, clock=clock)
        await adapter.start()

        async def poll(one: OrderRequest) -> OrderState:
            with asking(RequestClass.POLL, 60.0):
                return (await adapter.get_order(one)).state

        for _ in range(2):
            states = await asyncio.gather(*(poll(one) for one in requests))
            assert states == [OrderState.ACTIVE] * 11 + [OrderState.FILLED]
        await adapter.get_order(requests[0])  # in doubt: by itself
        await adapter.close()
        assert len(server.requests("GET /api/v3/openOrders")) <= 4
        assert len(server.requests("GET /api/v3/order")) <= 2 + 2 + 1


@pytest.mark.parametrize("status", [418, 429])
@pytest.mark.parametrize("in_header", [True, False])
async def test_nothing_is_asked_during_a_ban_and_one_probe_ends_it(
    status: int, in_header: bool
) -> None:
    """Prices, balances, polls, cancels, the clock and the markets: all of them wait."""
    clock = FastClock()
    async with canned_server() as server:
        stock(server, "binance")
        server.replies["GET /api/v3/time"] = lambda _: {"serverTime": clock.now_ms()}
        server.replies["GET /fapi/v1/time"] = lambda _: {"serverTime": clock.now_ms()}
        ban = BinanceBan(server, clock)
        adapter = adapter_for("binance", server.url, clock=clock)
        told: list[tuple[str, float]] = []
        await adapter.start()
        adapter.request_gate.on_refusal = lambda name, ms: told.append((name, ms))
        ban.ban(20, status, in_header=in_header)
        with pytest.raises(RateLimitError) as raised:
            await adapter.get_balance()
        assert 18 < raised.value.retry_after_s <= 20
        ban.after_ms.clear()
        assert ban.refused == 1

        async def ask_on() -> None:
            calls = (
                adapter.get_balance,
                adapter.measure_clock,
                adapter.refresh_markets,
                adapter.get_open_orders,
                lambda: adapter.get_order(an_order()),
                lambda: adapter.cancel_order(an_order()),
                lambda: adapter.get_ticker(SYMBOL),
                lambda: adapter.place_order(an_order(), adapter.open_window()),
            )

            async def one(call: object) -> None:
                try:
                    await call()  # type: ignore[operator]
                except ExchangeError:
                    return

            while not ban.after_ms:
                await asyncio.gather(*(one(call) for call in calls))
                await clock.sleep(0.5)

        async with asyncio.timeout(10):
            await ask_on()
        await adapter.close()
    assert ban.refused == 1
    assert [name for name, _ in told] == ["binance"]
    assert 18_000 < told[0][1] <= 20_000


async def test_bybit_is_asked_nothing_until_the_time_in_its_header() -> None:
    """10006 says itself when the account may ask again; the text does not."""
    async with trading("bybit") as (adapter, server):
        until_ms = adapter.now_ms() + 20_000
        server.replies[CREATE_ROUTES["bybit"]] = Canned(
            {"retCode": 10006, "retMsg": "Too many visits.", "result": {}},
            headers={"X-Bapi-Limit-Reset-Timestamp": str(until_ms)},
        )
        with pytest.raises(RateLimitError) as raised:
            await adapter.place_order(wire_order(), adapter.open_window())
        assert 18 < raised.value.retry_after_s <= 20
        assert adapter.request_gate.holds.held_ms() > 18_000
        with pytest.raises(RateLimitError):
            await adapter.place_order(wire_order(), adapter.open_window())
        assert len(server.requests(CREATE_ROUTES["bybit"])) == 1
