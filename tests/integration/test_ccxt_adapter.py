"""The Binance adapter against the simulated exchange: real ccxt, real HTTP, scripted faults."""

import asyncio
import gc
import logging
import warnings
from typing import Any

import pytest

from tests.exchange_simulator import Settings, serve
from tests.integration.binance import (
    KEY,
    LINEAR,
    SECRET,
    SPOT,
    D,
    a_limit,
    a_stop,
    all_open,
    an_adapter,
    an_order,
    trading,
)
from tests.unit.parts import market_view
from worker.config.keys import Secret
from worker.domain.market import Balance, MarketKind
from worker.domain.order import OrderState, Role, Side
from worker.domain.signal import Direction, OrderType, TimeInForce
from worker.exchanges.binance import order_socket
from worker.exchanges.errors import (
    ClockSkewError,
    CredentialsError,
    ExchangeError,
    InsufficientBalanceError,
    InvalidOrderError,
    OrderNotFoundError,
    Outcome,
    RateLimitError,
)
from worker.market.data import MarketData
from worker.runtime.clock import SystemClock


async def test_spot_market_order_reports_fills_and_fees_at_once() -> None:
    """The create reply is complete: state, average, and each fill with its fee."""
    async with trading(fills_per_order=3) as (adapter, _):
        report = await adapter.place_order(request := an_order(), adapter.open_window())
        assert report.state is OrderState.FILLED
        assert report.client_order_id == request.client_order_id
        assert report.filled_quantity == D("0.01")
        assert sum(fill.quantity for fill in report.fills) == D("0.01")
        assert len(report.fills) == 3
        assert {fill.fee_currency for fill in report.fills} == {"BTC"}
        assert sum(fill.fee for fill in report.fills) == D("0.00001")
        assert report.created_ms > 0
        assert await adapter.get_trades(request, report) == report.fills
        found = await adapter.get_order(request)
        assert (found.state, found.filled_quantity) == (OrderState.FILLED, D("0.01"))
        assert found.created_ms == report.created_ms


async def test_futures_market_order_needs_a_call_for_its_fees_and_opens_a_position() -> None:
    """The report has the fill but no trades; get_trades has both; the position is in base units."""
    async with trading() as (adapter, _):
        request = an_order(LINEAR, side=Side.SELL, quantity=D("0.02"))
        report = await adapter.place_order(request, adapter.open_window())
        assert (report.state, report.filled_quantity) == (OrderState.FILLED, D("0.02"))
        assert report.fills == ()
        (fill,) = await adapter.get_trades(request, report)
        assert (fill.quantity, fill.fee_currency) == (D("0.02"), "USDT")
        assert fill.fee == D("0.02") * fill.price * D("0.001")
        (held,) = await adapter.get_positions()
        assert (held.symbol, held.direction, held.quantity) == (LINEAR, Direction.SHORT, D("0.02"))
        assert held.entry_price == report.average_price


@pytest.mark.parametrize("symbol", [SPOT, LINEAR])
async def test_limit_order_rests_is_listed_and_is_cancelled_by_client_id(symbol: str) -> None:
    """Placed, found, listed, cancelled; cancelling again says there is no such open order."""
    async with trading() as (adapter, server):
        request = a_limit(symbol, "55000.017")
        report = await adapter.place_order(request, adapter.open_window())
        assert report.state is OrderState.ACTIVE
        sent = server.simulator.orders()[-1]
        assert sent.price == D("55000.01" if symbol == SPOT else "55000.0")  # never above the limit
        listed = await adapter.get_open_orders(symbol)
        assert [one.client_order_id for one in listed] == [request.client_order_id]
        assert len(await adapter.get_open_orders()) == 1
        server.simulator.fill(request.client_order_id, "0.004")
        half = await adapter.get_order(request)
        assert (half.state, half.filled_quantity) == (OrderState.PARTIALLY_FILLED, D("0.004"))
        await adapter.cancel_order(request)
        gone = await adapter.get_order(request)
        assert (gone.state, gone.filled_quantity) == (OrderState.CANCELLED, D("0.004"))
        with pytest.raises(OrderNotFoundError):
            await adapter.cancel_order(request)
        assert await adapter.get_open_orders() == []


@pytest.mark.parametrize("symbol", [SPOT, LINEAR])
async def test_sell_prices_are_rounded_up(symbol: str) -> None:
    """A sell limit never goes out under its price."""
    async with trading() as (adapter, server):
        if symbol == LINEAR:
            await adapter.place_order(an_order(LINEAR), adapter.open_window())
        request = a_limit(symbol, "65000.011", side=Side.SELL, reduce_only=symbol == LINEAR)
        await adapter.place_order(request, adapter.open_window())
        sent = server.simulator.orders()[-1]
        assert sent.price == D("65000.02" if symbol == SPOT else "65000.1")
        assert sent.reduce_only is (symbol == LINEAR)


async def test_futures_stop_lives_in_the_algo_book_and_is_followed_through_its_trigger() -> None:
    """Created, found, listed by clientAlgoId; after the trigger the real order's fill counts."""
    async with trading() as (adapter, server):
        await adapter.place_order(an_order(LINEAR), adapter.open_window())
        stop = a_stop(LINEAR)
        report = await adapter.place_order(stop, adapter.open_window())
        assert report.state is OrderState.ACTIVE
        assert server.simulator.orders()[-1].kind == "algo"
        assert [one.client_order_id for one in await adapter.get_open_orders(LINEAR)] == [
            stop.client_order_id
        ]
        server.simulator.set_price("BTCUSDT", "54900")
        found = await adapter.get_order(stop)
        assert (found.state, found.filled_quantity) == (OrderState.FILLED, D("0.01"))
        assert found.client_order_id == stop.client_order_id
        assert found.created_ms == report.created_ms
        (fill,) = await adapter.get_trades(stop, found)
        assert fill.quantity == D("0.01")
        assert await adapter.get_positions() == []
        with pytest.raises(OrderNotFoundError):
            await adapter.cancel_order(stop)


async def test_futures_stop_and_stop_limit_are_cancelled_before_and_after_the_trigger() -> None:
    """Untriggered: in the algo book; triggered into a resting limit: among the ordinary orders."""
    async with trading() as (adapter, server):
        await adapter.place_order(an_order(LINEAR), adapter.open_window())
        plain = a_stop(LINEAR)
        await adapter.place_order(plain, adapter.open_window())
        await adapter.cancel_order(plain)
        assert (await adapter.get_order(plain)).state is OrderState.CANCELLED
        limit = a_stop(LINEAR, order_type=OrderType.STOP_LIMIT, price=D("56000"))
        await adapter.place_order(limit, adapter.open_window())
        server.simulator.set_price("BTCUSDT", "54900")
        assert (await adapter.get_order(limit)).state is OrderState.ACTIVE
        await adapter.cancel_order(limit)
        assert (await adapter.get_order(limit)).state is OrderState.CANCELLED


async def test_spot_stops_trigger_and_take_profits_lie_on_the_other_side() -> None:
    """A stop-loss sells below, a take-profit above; creation time is known although untriggered."""
    async with trading() as (adapter, server):
        loss = a_stop(SPOT)
        profit = a_stop(SPOT, "65000", role=Role.TAKE_PROFIT)
        for request in (loss, profit):
            report = await adapter.place_order(request, adapter.open_window())
            assert report.state is OrderState.ACTIVE
            assert report.created_ms > 0
        server.simulator.set_price("BTCUSDT", "65100")
        assert (await adapter.get_order(profit)).state is OrderState.FILLED
        assert (await adapter.get_order(loss)).state is OrderState.ACTIVE
        server.simulator.set_price("BTCUSDT", "54900")
        assert (await adapter.get_order(loss)).state is OrderState.FILLED


async def test_immediate_or_cancel_and_fill_or_kill_end_at_once() -> None:
    """Time in force goes out with limit orders, and what is left expires."""
    async with trading() as (adapter, _):
        for force in (TimeInForce.IOC, TimeInForce.FOK):
            request = a_limit(time_in_force=force)
            report = await adapter.place_order(request, adapter.open_window())
            assert report.state is OrderState.EXPIRED
            assert report.filled_quantity == 0


async def test_each_kind_of_market_is_paid_for_from_its_own_wallet() -> None:
    """What is spent on one does not change what the other may be sized with."""
    async with trading(quote_balance=D(1000)) as (adapter, _):
        market = MarketData(
            {"binance": adapter},
            clock=SystemClock(),
            max_price_age_ms=5_000,
            max_balance_age_ms=30_000,
            on_error=lambda _name, error: pytest.fail(str(error)),
        )
        request = an_order(SPOT, quantity=D("0.01"))
        report = await adapter.place_order(request, adapter.open_window())
        spent = sum((fill.quantity * fill.price for fill in report.fills), D(0))
        assert spent > 500
        spot = (await market_view(market, "binance", SPOT)).balance
        linear = (await market_view(market, "binance", LINEAR)).balance
        assert spot == Balance(free=1000 - spent, total=1000 - spent)
        assert linear == Balance(free=D(1000), total=D(1000))
        assert "BTC" in await adapter.get_balance(MarketKind.SPOT)
        assert "BTC" not in await adapter.get_balance(MarketKind.LINEAR)


async def test_tickers_cover_both_markets() -> None:
    """Prices come for one symbol or for many."""
    async with trading() as (adapter, _):
        one = await adapter.get_ticker(LINEAR)
        assert one.bid < one.last < one.ask
        many = await adapter.get_tickers([SPOT, "ETH/USDT", LINEAR])
        assert set(many) == {SPOT, "ETH/USDT", LINEAR}
        assert many[LINEAR].bid == one.bid
        assert await adapter.get_tickers([]) == {}


async def test_prices_come_from_the_day_statistics_where_the_book_ticker_fails() -> None:
    """One missing endpoint does not leave every signal without a reference price."""
    async with trading() as (adapter, server):
        server.simulator.add_fault(path="bookTicker", action="http_status", status=404, body="gone")
        one = await adapter.get_ticker(SPOT)
        many = await adapter.get_tickers([SPOT, "ETH/USDT", LINEAR])
        assert one.last > 0
        assert set(many) == {SPOT, "ETH/USDT", LINEAR}
        assert server.simulator.counts["GET /api/v3/ticker/24hr", "200"] >= 2


async def test_markets_are_those_of_the_configured_types_with_exact_rules() -> None:
    """Steps, minima and fees are exact decimals; an unknown symbol is None, and not sent."""
    async with trading(config={"market_types": (MarketKind.SPOT,)}) as (adapter, server):
        assert LINEAR not in adapter.symbols()
        info = adapter.get_symbol_info(SPOT)
        assert info is not None
        assert (info.base, info.quote, info.kind) == ("BTC", "USDT", MarketKind.SPOT)
        assert (info.price_tick, info.quantity_step) == (D("0.01"), D("0.00001"))
        assert (info.min_notional, info.taker_fee) == (D(5), D("0.001"))
        assert adapter.get_symbol_info("NO/SUCH") is None
        accepted = len(server.simulator.orders())
        for request in (an_order("NO/SUCH"), an_order(quantity=D("0.000001")), a_limit(price="0")):
            with pytest.raises(InvalidOrderError) as raised:
                await adapter.place_order(request, adapter.open_window())
            assert raised.value.outcome is Outcome.REFUSED
        assert len(server.simulator.orders()) == accepted


@pytest.mark.parametrize("transport", ["rest", "websocket"])
async def test_a_request_delayed_past_its_window_is_refused_by_the_exchange(transport: str) -> None:
    """The deadline is the exchange's to enforce: 400 ms late for a window of 200 ms."""
    config = {"recv_window_ms": 200, "order_transport": transport}
    async with trading(config=config) as (adapter, server):
        server.simulator.add_fault(method="POST", path="order", delay_ms=400)
        for symbol in (SPOT, LINEAR):
            with pytest.raises(ClockSkewError) as raised:
                await adapter.place_order(request := an_order(symbol), adapter.open_window())
            assert (raised.value.outcome, raised.value.transient) == (Outcome.REFUSED, True)
            with pytest.raises(OrderNotFoundError):
                await adapter.get_order(request)
        assert server.simulator.orders() == []


async def test_the_window_is_fixed_before_sending_and_an_old_one_is_not_sent() -> None:
    """The timestamp on the wire is the window's; a window that is over stays here."""
    async with trading() as (adapter, server):
        opened = adapter.open_window()
        window = type(opened)(opened.timestamp_ms - 50, opened.valid_ms, opened.expires_mono_ms)
        await adapter.place_order(an_order(), window)
        order = server.simulator.orders()[-1]
        assert order.conditions.window.timestamp_ms == window.timestamp_ms
        assert order.conditions.window.recv_window_ms == window.valid_ms == 5_000
        over = type(window)(window.timestamp_ms, window.valid_ms, 0.0)
        with pytest.raises(ExchangeError) as raised:
            await adapter.place_order(an_order(), over)
        assert raised.value.outcome is Outcome.NOT_SENT
        assert len(server.simulator.orders()) == 1


@pytest.mark.parametrize("offset_ms", [-90_000, 0, 90_000])
async def test_the_exchanges_clock_is_measured_and_used(offset_ms: int) -> None:
    """With its clock a minute and a half off, orders are still stamped in the exchange's time."""
    async with trading(clock_offset_ms=offset_ms) as (adapter, _):
        assert abs(adapter.clock_offset.offset_ms - offset_ms) < 50
        assert 0 < adapter.clock_offset.uncertainty_ms < 50
        report = await adapter.place_order(an_order(LINEAR), adapter.open_window())
        assert report.state is OrderState.FILLED


FAULTS: list[tuple[dict[str, Any], Outcome]] = [
    ({"action": "drop_before"}, Outcome.UNKNOWN),
    ({"action": "drop_after"}, Outcome.UNKNOWN),
    ({"action": "drop_after", "reset": True}, Outcome.UNKNOWN),
    ({"action": "no_reply_before"}, Outcome.UNKNOWN),
    ({"action": "no_reply_after"}, Outcome.UNKNOWN),
    ({"action": "cut_response"}, Outcome.UNKNOWN),
    ({"action": "empty_200"}, Outcome.UNKNOWN),
    ({"action": "truncated_json_200"}, Outcome.UNKNOWN),
    ({"preset": "429"}, Outcome.THROTTLED),
    ({"preset": "418"}, Outcome.THROTTLED),
    ({"preset": "429_1015"}, Outcome.THROTTLED),
    ({"preset": "400_1015"}, Outcome.THROTTLED),
    ({"preset": "429_1003"}, Outcome.THROTTLED),
    ({"preset": "403_waf"}, Outcome.THROTTLED),
    ({"preset": "503_1008"}, Outcome.THROTTLED),
    ({"preset": "502_html", "when": "after"}, Outcome.UNKNOWN),
    ({"preset": "504_html", "when": "after"}, Outcome.UNKNOWN),
    ({"preset": "503_unknown", "when": "after"}, Outcome.UNKNOWN),
    ({"preset": "500_1006", "when": "after"}, Outcome.UNKNOWN),
    ({"preset": "408_1007", "when": "after"}, Outcome.UNKNOWN),
    ({"preset": "503_1007", "when": "before"}, Outcome.UNKNOWN),
    ({"preset": "400_1016"}, Outcome.REFUSED),
    ({"preset": "401_2015"}, Outcome.REFUSED),
    ({"action": "reject", "code": -2010, "msg": "Duplicate order sent."}, Outcome.UNKNOWN),
]


@pytest.mark.parametrize("transport", ["rest", "websocket"])
@pytest.mark.parametrize("symbol", [SPOT, LINEAR])
async def test_every_fault_gives_its_outcome_and_never_denies_an_accepted_order(
    symbol: str, transport: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the exchange took the order, the outcome is UNKNOWN; and each order went out once."""
    monkeypatch.setattr(order_socket, "SHORTEST_CYCLE_S", 0.0)
    config = {"timeout_ms": 400, "order_transport": transport}
    async with trading(config=config) as (adapter, server):
        for fault, on_rest in FAULTS:
            # A page in place of a frame: nobody can tell whose it is.
            paged = transport == "websocket" and fault.get("preset") == "403_waf"
            outcome = Outcome.UNKNOWN if paged else on_rest
            server.simulator.faults.clear()
            server.simulator.add_fault(method="POST", path="order", count=1, **fault)
            request = an_order(symbol)
            before = len(server.simulator.orders())
            await all_open(adapter)
            adapter.request_gate.holds.lift()
            with pytest.raises(ExchangeError) as raised:
                await adapter.place_order(request, adapter.open_window())
            assert raised.value.outcome is outcome, (fault, raised.value)
            accepted = server.simulator.orders()[before:]
            assert len(accepted) <= 1
            if accepted:
                assert raised.value.outcome is Outcome.UNKNOWN
                assert (await adapter.get_order(request)).state is OrderState.FILLED
            elif outcome is Outcome.UNKNOWN:
                with pytest.raises(OrderNotFoundError):
                    await adapter.get_order(request)
            for text in (str(raised.value), repr(raised.value)):
                assert KEY not in text
                assert SECRET not in text
                assert "signature" not in text
        assert server.simulator.duplicates() == {}


@pytest.mark.parametrize("transport", ["rest", "websocket"])
async def test_throttling_carries_the_time_to_wait(transport: str) -> None:
    """Retry-After in seconds, from the reply's header or the error frame's data."""
    async with trading(config={"order_transport": transport}) as (adapter, server):
        server.simulator.add_fault(method="POST", path="order", count=1, preset="418")
        with pytest.raises(RateLimitError) as raised:
            await adapter.place_order(an_order(), adapter.open_window())
        assert raised.value.retry_after_s == 30.0


async def test_a_repeated_client_id_is_a_question_not_a_refusal() -> None:
    """The first order is there: look up. Its report is the first one's."""
    async with trading() as (adapter, server):
        request = a_limit()
        first = await adapter.place_order(request, adapter.open_window())
        with pytest.raises(ExchangeError) as raised:
            await adapter.place_order(request, adapter.open_window())
        assert raised.value.outcome is Outcome.UNKNOWN
        found = await adapter.get_order(request)
        assert found.exchange_order_id == first.exchange_order_id
        assert len(server.simulator.orders()) == 1


async def test_late_visibility_is_not_found_then_found() -> None:
    """An accepted order may be invisible for a moment; that is what visibility_ms is for."""
    async with trading() as (adapter, server):
        server.simulator.add_fault(method="POST", path="order", late_visibility_ms=150, count=1)
        request = an_order()
        await adapter.place_order(request, adapter.open_window())
        with pytest.raises(OrderNotFoundError):
            await adapter.get_order(request)
        await asyncio.sleep(0.16)
        assert (await adapter.get_order(request)).state is OrderState.FILLED


async def test_lack_of_funds_is_told_apart() -> None:
    """On both markets."""
    async with trading(quote_balance=D(10)) as (adapter, _):
        for symbol in (SPOT, LINEAR):
            with pytest.raises(InsufficientBalanceError) as raised:
                await adapter.place_order(an_order(symbol, quantity=D(1)), adapter.open_window())
            assert raised.value.outcome is Outcome.REFUSED


async def test_bad_credentials_stop_the_start_and_leave_nothing_open() -> None:
    """A wrong key and a wrong secret; the adapter has closed itself."""
    async with serve(Settings(api_key=KEY, secret=SECRET)) as server:
        for change in ({"api_key": Secret("other-key")}, {"secret": Secret("other-secret")}):
            adapter = an_adapter(server.url, **change)
            with pytest.raises(CredentialsError) as raised:
                await adapter.start()
            assert "other-" not in str(raised.value)
            assert "closed" in repr(adapter)


async def test_without_credentials_public_data_still_comes() -> None:
    """As the source of a simulated exchange's prices; orders and balances are refused here."""
    async with serve(Settings(api_key=KEY, secret=SECRET)) as server:
        adapter = an_adapter(server.url, api_key=Secret(), secret=Secret())
        await adapter.start()
        assert (await adapter.get_ticker(SPOT)).last > 0
        with pytest.raises(CredentialsError) as raised:
            await adapter.place_order(an_order(), adapter.open_window())
        assert raised.value.outcome is Outcome.REFUSED
        assert server.simulator.orders() == []
        await adapter.close()


async def test_turns_are_counted_and_an_order_is_sent_at_once_whatever_they_say() -> None:
    """Two at once, the third has to wait; inside a window nothing waits any more."""
    async with trading(config={"max_orders_per_second": 2.0}) as (adapter, server):
        turns = [adapter.take_turn(within_ms=10_000) for _ in range(4)]
        assert turns[:2] == [0, 0]
        assert 400 < turns[2] <= 500
        assert 900 < turns[3] <= 1_000
        assert adapter.take_turn(within_ms=600) > 600  # too late for this one: not taken
        while adapter.take_turn(within_ms=60_000) < 10_000:
            pass
        window = adapter.open_window()
        async with asyncio.timeout(5):
            await asyncio.gather(*(adapter.place_order(an_order(), window) for _ in range(6)))
        assert len(server.simulator.orders()) == 6


@pytest.mark.parametrize("transport", ["rest", "websocket"])
async def test_closing_twice_leaves_no_warning(
    caplog: pytest.LogCaptureFixture, transport: str
) -> None:
    """Neither from aiohttp's sessions nor from ccxt's destructors; and it can start again."""
    with warnings.catch_warnings(record=True) as caught, caplog.at_level(logging.WARNING):
        warnings.simplefilter("always")
        async with trading(config={"order_transport": transport}) as (adapter, _):
            await adapter.get_balance()
            await adapter.close()
            await adapter.close()
            with pytest.raises(ExchangeError, match="not started") as raised:
                await adapter.get_balance()
            assert raised.value.outcome is Outcome.NOT_SENT
            del raised
            await adapter.start()
            await adapter.place_order(an_order(), adapter.open_window())
        del adapter
        gc.collect()
    assert [str(one.message) for one in caught if issubclass(one.category, ResourceWarning)] == []
    assert caplog.records == []


@pytest.mark.parametrize("transport", ["rest", "websocket"])
async def test_concurrent_calls_do_not_mix_their_outcomes(transport: str) -> None:
    """Forty orders in flight, every other one refused: each caller gets its own answer."""
    async with trading(config={"order_transport": transport}) as (adapter, server):
        good = [an_order(quantity=D("0.01")) for _ in range(20)]
        bad = [an_order(symbol="ETH/USDT", quantity=D("9000000")) for _ in range(20)]
        requests = [one for pair in zip(good, bad, strict=True) for one in pair]
        results = await asyncio.gather(
            *(adapter.place_order(one, adapter.open_window()) for one in requests),
            return_exceptions=True,
        )
        for request, result in zip(requests, results, strict=True):
            if request.symbol == SPOT:
                assert not isinstance(result, BaseException)
                assert result.client_order_id == request.client_order_id
            else:
                assert isinstance(result, ExchangeError)
                assert result.outcome is Outcome.REFUSED
        assert len(server.simulator.orders()) == 20
