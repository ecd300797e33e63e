"""The simulated exchange: the same order on any instance, and never better or worse than stated."""

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.config.keys import ExchangeConfig, PaperConfig
from worker.domain.market import ExchangePosition, MarketKind, SymbolInfo, Ticker
from worker.domain.order import OrderReport, OrderRequest, OrderState, Role, Side
from worker.domain.signal import Direction, OrderType, TimeInForce
from worker.exchanges.errors import (
    ClockSkewError,
    ExchangeError,
    InvalidOrderError,
    OrderNotFoundError,
    Outcome,
)
from worker.exchanges.ports import ExchangeAdapter, Resend
from worker.paper import exchange as paper_module
from worker.paper import local_orders
from worker.paper import orders as paper_orders
from worker.paper.exchange import PaperExchange
from worker.paper.markets import BASES, PaperMarkets
from worker.runtime.errors import ConfigError

D = Decimal
BTC = "BTC/USDT"
FREE: dict[str, Any] = {"fee_pct": D(0), "spread_bps": D(0), "slippage_bps": D(0)}


class ManualClock:
    """A clock that moves only when somebody sleeps on it."""

    def __init__(self) -> None:
        self.ms = 1_000_000.0
        self.slept: list[float] = []

    def now_ms(self) -> int:
        return int(self.ms)

    def monotonic_ms(self) -> float:
        return self.ms

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.ms += seconds * 1_000


def exchange(*, clock: ManualClock | None = None, **paper: Any) -> PaperExchange:
    kinds = (MarketKind.SPOT, MarketKind.LINEAR)
    config = ExchangeConfig(market_types=kinds, paper=PaperConfig(**paper))
    return PaperExchange("paper", config, clock or ManualClock())


def order(client_id: str = "c1", **fields: Any) -> OrderRequest:
    given_fields: dict[str, Any] = {
        "client_order_id": client_id,
        "exchange": "paper",
        "symbol": BTC,
        "role": Role.ENTRY,
        "side": Side.BUY,
        "order_type": OrderType.MARKET,
        "quantity": D(1),
    }
    return OrderRequest(**(given_fields | fields))


def limit(price: str, client_id: str = "c1", **fields: Any) -> OrderRequest:
    return order(client_id, order_type=OrderType.LIMIT, price=D(price), **fields)


async def place(
    on: PaperExchange, request: OrderRequest, price: Decimal | str | None = "100"
) -> OrderReport:
    if price is not None:
        on.assume_price(request.symbol, D(price))
    return await on.place_order(request, on.open_window())


def timeless(report: OrderReport) -> OrderReport:
    fills = tuple(msgspec.structs.replace(fill, at_ms=0) for fill in report.fills)
    return msgspec.structs.replace(report, fills=fills, created_ms=0)


prices = st.decimals(D("0.0001"), D(1_000_000), places=6)
quantities = st.decimals(D(1), D(100_000), places=5)
sides = st.sampled_from(Side)
rates = st.sampled_from([0.0, 0.3, 1.0])
forces = st.sampled_from([None, *TimeInForce])


@settings(max_examples=100, deadline=None)
@given(prices, quantities, sides, rates, forces, st.none() | prices, st.text("0f", min_size=1))
async def test_an_order_fares_the_same_on_every_instance(
    price: Decimal,
    quantity: Decimal,
    side: Side,
    rate: float,
    force: TimeInForce | None,
    limit_price: Decimal | None,
    client_id: str,
) -> None:
    """Seed, client id, request and price decide; what else an instance did does not."""
    request = order(
        client_id,
        side=side,
        quantity=quantity,
        time_in_force=force,
        order_type=OrderType.LIMIT if limit_price else OrderType.MARKET,
        price=limit_price,
        reduce_only=True,
    )
    first, second = exchange(partial_fill_rate=rate), exchange(partial_fill_rate=rate)
    second._clock.ms += 86_400_000  # type: ignore[attr-defined]
    await place(second, order("another"))
    assert timeless(await place(first, request, price)) == timeless(
        await place(second, request, price)
    )


@settings(max_examples=100, deadline=None)
@given(prices, prices, quantities, sides, rates, forces)
async def test_a_limit_never_fills_worse_than_its_price_nor_beyond_its_quantity(
    price: Decimal,
    limit_price: Decimal,
    quantity: Decimal,
    side: Side,
    rate: float,
    force: TimeInForce | None,
) -> None:
    """Also after the market moved; the fills add up to what the report says."""
    on = exchange(partial_fill_rate=rate)
    request = limit(
        str(limit_price), side=side, quantity=quantity, time_in_force=force, reduce_only=True
    )
    await place(on, request, price)
    on.assume_price(BTC, limit_price)
    report = await on.get_order(request)
    assert sum(fill.quantity for fill in report.fills) == report.filled_quantity <= quantity
    for fill in report.fills:
        assert fill.price <= limit_price if side is Side.BUY else fill.price >= limit_price
    if force in {None, TimeInForce.GTC} and not rate:
        assert report.state is OrderState.FILLED


@pytest.mark.parametrize(
    ("side", "paid"), [(Side.BUY, D("50010")), (Side.SELL, D("49990"))], ids=["buy", "sell"]
)
async def test_a_market_order_pays_half_the_spread_slippage_and_the_fee(
    side: Side, paid: Decimal
) -> None:
    """2 bps of spread are 1 on each side, 1 bp slips, and 0.1% of the value is the fee."""
    on = exchange(spread_bps=D(2), slippage_bps=D(1), fee_pct=D("0.1"))
    report = await place(on, order(side=side, quantity=D("0.5")), "50000")
    assert report.state is OrderState.FILLED
    assert report.average_price == paid
    (fill,) = report.fills
    assert (fill.quantity, fill.price) == (D("0.5"), paid)
    assert (fill.fee, fill.fee_currency) == (paid * D("0.5") * D("0.001"), "USDT")


async def test_the_price_of_a_fill_is_on_the_tick_and_against_the_taker() -> None:
    """Rounding never gives the taker a better price, and never a price of 0."""
    on = exchange(spread_bps=D(0), slippage_bps=D("0.0001"))
    bought = await place(on, order("b", quantity=D(1_000_000)), "0.00012345")
    sold = await place(on, order("s", side=Side.SELL, quantity=D(1_000_000)), "0.00012345")
    assert (bought.average_price, sold.average_price) == (D("0.00012346"), D("0.00012344"))
    dust = order("d", side=Side.SELL, quantity=D(1_000), role=Role.EXIT)
    assert (await place(on, dust, "0.00000001")).average_price == D("0.0000000099999999")
    least = order("e", side=Side.SELL, quantity=D(1_000), role=Role.EXIT)
    assert (await place(on, least, "1e-18")).average_price == D("1e-18")


async def test_a_limit_at_exactly_the_assumed_price_is_touched() -> None:
    """The signal's own price fills, at the limit, whatever the spread."""
    on = exchange(spread_bps=D(50), slippage_bps=D(50))
    report = await place(on, limit("100"))
    assert (report.state, report.average_price) == (OrderState.FILLED, D(100))


async def test_a_marketable_limit_pays_the_market_not_its_own_price() -> None:
    """A buyer who would pay 200 in a market of 100 pays about 100."""
    report = await place(exchange(**FREE), limit("200"))
    assert report.average_price == D(100)


async def test_a_resting_limit_fills_at_its_own_price_when_the_market_comes() -> None:
    """It is the maker: a later, better market does not change its price."""
    on = exchange()
    assert (await place(on, limit("90"))).state is OrderState.ACTIVE
    on.assume_price(BTC, D("90.01"))
    assert (await on.get_order(order())).state is OrderState.ACTIVE
    on.assume_price(BTC, D(80))
    report = await on.get_order(order())
    assert (report.state, report.average_price) == (OrderState.FILLED, D(90))
    assert await on.get_open_orders() == []


async def test_a_limit_rests_while_no_price_is_known() -> None:
    """Nothing is made up; the first assumed price decides."""
    on = exchange()
    assert (await place(on, limit("90"), None)).state is OrderState.ACTIVE
    on.assume_price(BTC, D(85))
    assert (await on.get_order(order())).average_price == D(90)


@pytest.mark.parametrize(
    ("side", "crossing", "resting", "reached"),
    [(Side.BUY, "100", "99.99", "98"), (Side.SELL, "100", "100.01", "102")],
)
async def test_a_post_only_order_never_trades_at_once(
    side: Side, crossing: str, resting: str, reached: str
) -> None:
    """At a price that meets the market it is refused; else it rests, and fills as any other."""
    on = exchange()
    with pytest.raises(ExchangeError) as raised:
        await place(on, limit(crossing, side=side, reduce_only=True, post_only=True))
    assert (raised.value.outcome, raised.value.code) == (Outcome.REFUSED, "POST_ONLY")
    request = limit(resting, "c2", side=side, reduce_only=True, post_only=True)
    assert (await place(on, request)).state is OrderState.ACTIVE
    on.assume_price(BTC, D(reached))
    assert (await on.get_order(request)).average_price == D(resting)


@pytest.mark.parametrize("force", [TimeInForce.IOC, TimeInForce.FOK])
async def test_an_immediate_order_that_meets_nobody_is_cancelled_at_once(
    force: TimeInForce,
) -> None:
    """It never rests."""
    on = exchange()
    report = await place(on, limit("90", time_in_force=force))
    assert (report.state, report.filled_quantity) == (OrderState.CANCELLED, D(0))
    assert report.reason
    on.assume_price(BTC, D(80))
    assert (await on.get_order(order())) == report


@pytest.mark.parametrize(
    ("force", "state", "fills"),
    [
        (None, OrderState.PARTIALLY_FILLED, 1),
        (TimeInForce.GTC, OrderState.PARTIALLY_FILLED, 1),
        (TimeInForce.IOC, OrderState.CANCELLED, 1),
        (TimeInForce.FOK, OrderState.CANCELLED, 0),
    ],
)
async def test_a_partial_fill_leaves_the_rest_to_the_time_in_force(
    force: TimeInForce | None, state: OrderState, fills: int
) -> None:
    """GTC stays open, IOC gives up the rest, FOK gives up everything."""
    on = exchange(partial_fill_rate=1.0)
    report = await place(on, limit("100", time_in_force=force))
    assert (report.state, len(report.fills)) == (state, fills)
    assert report.filled_quantity < 1
    assert bool(await on.get_open_orders(BTC)) is (state is OrderState.PARTIALLY_FILLED)


async def test_the_rest_of_a_partial_fill_stays_open_until_cancelled() -> None:
    """Later prices do not fill it; cancelling keeps what was filled."""
    on = exchange(partial_fill_rate=1.0)
    placed = await place(on, order())
    on.assume_price(BTC, D(1))
    assert await on.get_order(order()) == placed
    await on.cancel_order(order())
    report = await on.get_order(order())
    assert (report.state, report.fills) == (OrderState.CANCELLED, placed.fills)
    with pytest.raises(OrderNotFoundError):
        await on.cancel_order(order())


async def test_one_step_is_not_divided() -> None:
    """A partial fill is whole steps; an order of one step fills."""
    on = exchange(partial_fill_rate=1.0)
    report = await place(on, order(quantity=D("0.000001")), "10000000")
    assert report.state is OrderState.FILLED


async def test_rates_are_kept_over_many_orders() -> None:
    """A rate of 30% picks about 30%, by client id, for rejects and partial fills apart."""
    on = exchange(partial_fill_rate=0.3, reject_rate=0.3)
    rejected = partial = 0
    for number in range(1_000):
        try:
            report = await place(on, order(f"c{number}"))
        except InvalidOrderError:
            rejected += 1
        else:
            partial += report.state is OrderState.PARTIALLY_FILLED
    assert 240 <= rejected <= 360
    assert 0.24 <= partial / (1_000 - rejected) <= 0.36


async def test_a_rejected_order_is_rejected_again_and_not_there() -> None:
    """The draw belongs to the client id."""
    on = exchange(reject_rate=1.0)
    for _ in range(2):
        with pytest.raises(InvalidOrderError) as caught:
            await place(on, order())
        assert (caught.value.outcome, caught.value.code) == (Outcome.REFUSED, "PAPER_REJECTED")
    with pytest.raises(OrderNotFoundError):
        await on.get_order(order())


STOPS = [
    # role, side, stop, price that waits, price that triggers
    (Role.STOP_LOSS, Side.SELL, "95", "96", "95"),
    (Role.STOP_LOSS, Side.BUY, "105", "104", "105"),
    (Role.TAKE_PROFIT, Side.SELL, "105", "104", "105"),
    (Role.TAKE_PROFIT, Side.BUY, "95", "96", "95"),
    (Role.ENTRY, Side.BUY, "105", "100", "110"),
]


@pytest.mark.parametrize(("role", "side", "stop", "before", "at"), STOPS)
async def test_a_stop_triggers_when_the_price_reaches_it(
    role: Role, side: Side, stop: str, before: str, at: str
) -> None:
    """Then it trades at the market's price, not at the trigger's."""
    on = exchange(**FREE)
    request = order(role=role, side=side, order_type=OrderType.STOP, stop_price=D(stop))
    assert (await place(on, request, before)).state is OrderState.ACTIVE
    on.assume_price(BTC, D(at))
    report = await on.get_order(request)
    assert (report.state, report.average_price) == (OrderState.FILLED, D(at))


@pytest.mark.parametrize(("role", "side", "stop", "before", "at"), STOPS)
async def test_a_stop_already_through_trades_at_once(
    role: Role, side: Side, stop: str, before: str, at: str
) -> None:
    """There is nothing to wait for."""
    request = order(role=role, side=side, order_type=OrderType.STOP, stop_price=D(stop))
    assert (await place(exchange(), request, at)).state is OrderState.FILLED
    assert (await place(exchange(), request, before)).state is OrderState.ACTIVE


async def test_a_triggered_stop_limit_rests_until_its_limit_is_met() -> None:
    """The trigger makes it a limit order; it is not untriggered by a price that returns."""
    on = exchange(**FREE)
    request = order(side=Side.SELL, order_type=OrderType.STOP_LIMIT, stop_price=D(95), price=D(94))
    await place(on, request)
    on.assume_price(BTC, D(93))
    assert (await on.get_order(request)).state is OrderState.ACTIVE
    on.assume_price(BTC, D(99))
    report = await on.get_order(request)
    assert (report.state, report.average_price) == (OrderState.FILLED, D(94))


async def test_an_immediate_stop_limit_waits_for_its_trigger_only() -> None:
    """Once triggered it fills or ends."""
    on = exchange()
    request = order(
        side=Side.SELL,
        order_type=OrderType.STOP_LIMIT,
        stop_price=D(95),
        price=D(94),
        time_in_force=TimeInForce.IOC,
    )
    assert (await place(on, request)).state is OrderState.ACTIVE
    on.assume_price(BTC, D(93))
    assert (await on.get_order(request)).state is OrderState.CANCELLED


async def test_a_repeated_client_order_id_returns_the_first_order() -> None:
    """Whatever the second request says: that is what makes sending again safe."""
    on = exchange()
    assert on.resend is Resend.IDEMPOTENT
    first = await place(on, order())
    assert await place(on, order(quantity=D(7), side=Side.SELL), "500") == first
    assert await on.get_trades(order(), first) == first.fills


REFUSED = [
    ({"symbol": "NOPE/USDT"}, "UNKNOWN_SYMBOL"),
    ({"quantity": D("0.0000001")}, "INVALID_ORDER"),
    ({"quantity": D("1.0000001")}, "INVALID_ORDER"),
    ({"quantity": D(0)}, "INVALID_ORDER"),
    ({"quantity": D("-1")}, "INVALID_ORDER"),
    ({"price": D(100)}, "INVALID_ORDER"),
    ({"order_type": OrderType.LIMIT}, "INVALID_ORDER"),
    ({"order_type": OrderType.STOP}, "INVALID_ORDER"),
    ({"order_type": OrderType.LIMIT, "price": D("1.0000000000000000001")}, "INVALID_ORDER"),
    ({"order_type": OrderType.LIMIT, "price": D(-1)}, "INVALID_ORDER"),
    ({"quantity": D("0.01")}, "MIN_NOTIONAL"),
]


@pytest.mark.parametrize(("fields", "code"), REFUSED)
async def test_what_no_exchange_would_take_is_refused(fields: dict[str, Any], code: str) -> None:
    """A definitive no, with a code, and no order left behind."""
    on = exchange()
    with pytest.raises(InvalidOrderError) as caught:
        await place(on, order(**fields))
    assert (caught.value.outcome, caught.value.code) == (Outcome.REFUSED, code)
    assert str(caught.value)
    with pytest.raises(OrderNotFoundError):
        await on.get_order(order())


@pytest.mark.parametrize("fields", [{"role": Role.EXIT}, {"reduce_only": True}])
async def test_a_position_may_be_closed_below_the_minimum(fields: dict[str, Any]) -> None:
    """An exit is not held to the minimum notional of an entry."""
    report = await place(exchange(), order(quantity=D("0.01"), side=Side.SELL, **fields))
    assert report.state is OrderState.FILLED


async def test_a_market_order_without_a_price_was_never_sent() -> None:
    """NOT_SENT: it may be tried again once a price is known."""
    on = exchange()
    with pytest.raises(ExchangeError) as caught:
        await place(on, order(), None)
    assert (caught.value.outcome, caught.value.code) == (Outcome.NOT_SENT, "NO_PRICE")
    assert (await place(on, order())).state is OrderState.FILLED


async def test_a_request_that_arrives_after_its_window_is_refused() -> None:
    """As an exchange refuses what a paused worker sends late."""
    clock = ManualClock()
    on = exchange(clock=clock)
    on.assume_price(BTC, D(100))
    window = on.open_window()
    clock.ms = window.expires_mono_ms + 0.1
    with pytest.raises(ClockSkewError) as caught:
        await on.place_order(order(), window)
    assert caught.value.outcome is Outcome.REFUSED
    assert caught.value.transient


async def test_latency_is_waited_on_the_clock() -> None:
    """The order executes half-way; without latency nothing is waited for."""
    clock = ManualClock()
    on = exchange(clock=clock, latency_ms=80.0)
    report = await place(on, order())
    assert clock.slept == [0.04, 0.04]
    assert report.created_ms == 1_000_040
    await on.get_order(order())
    assert clock.slept == [0.04, 0.04, 0.08]
    quick = ManualClock()
    await place(exchange(clock=quick), order())
    assert quick.slept == []


async def test_memory_is_bounded_and_open_orders_are_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The newest finished orders stay; open ones stay however old."""
    monkeypatch.setattr(paper_orders, "MAX_FINISHED_ORDERS", 3)
    monkeypatch.setattr(paper_module, "MAX_ASSUMED_PRICES", 2)
    on = exchange()
    await place(on, limit("50", "open"))
    for number in range(5):
        await place(on, order(f"c{number}", symbol=f"COIN{number}/USDT"))
    assert (await on.get_order(order("open"))).state is OrderState.ACTIVE
    for number in range(5):
        if number < 2:
            with pytest.raises(OrderNotFoundError):
                await on.get_order(order(f"c{number}"))
        else:
            assert (await on.get_order(order(f"c{number}"))).state is OrderState.FILLED
    assert [on.last_price(f"COIN{n}/USDT") for n in range(5)] == [None, None, None, 100, 100]


@pytest.mark.parametrize(("bound", "symbol"), [("MAX_MARKETS", "ETH/USDT"), ("MAX_IN_MARKET", BTC)])
async def test_open_orders_are_limited(
    bound: str, symbol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One more is refused, and may succeed once another has ended."""
    monkeypatch.setattr(local_orders, bound, 1)
    on = exchange()
    await place(on, limit("50", "a"))
    with pytest.raises(InvalidOrderError) as caught:
        await place(on, limit("50", "b", symbol=symbol))
    assert (caught.value.code, caught.value.transient) == ("TOO_MANY_ORDERS", True)
    await on.cancel_order(order("a"))
    assert (await place(on, limit("50", "b", symbol=symbol))).state is OrderState.ACTIVE


async def test_trades_are_those_of_the_order_or_of_the_report_in_hand() -> None:
    """An instance that does not know the order can still tell what a report already says."""
    on, other = exchange(), exchange()
    report = await place(on, order())
    assert await on.get_trades(order(), report) == report.fills
    assert await other.get_trades(order(), report) == report.fills
    bare = msgspec.structs.replace(report, fills=())
    with pytest.raises(OrderNotFoundError):
        await other.get_trades(order(), bare)


async def test_an_order_is_found_by_the_exchanges_id_too() -> None:
    """For an adopted order whose client id is not at hand."""
    on = exchange()
    report = await place(on, order())
    assert await on.get_order(order(""), report.exchange_order_id) == report


async def test_the_ledgers_holdings_and_positions_are_the_exchanges() -> None:
    """All workers' trades count, and an instance keeps no books of its own."""
    spot, held, gone = (
        ExchangePosition(symbol=symbol, direction=Direction.LONG, quantity=D(1), entry_price=D(150))
        for symbol in ("SOL/USDT", "SOL/USDT:USDT", "GONE/USDT:USDT")
    )
    asked: list[str] = []

    class Fleet:
        async def holdings(self, exchange: str) -> Mapping[str, Decimal]:
            asked.append(exchange)
            return {"USDT": D(-250), "SOL": D("2.5")}

        async def positions(self, exchange: str) -> list[ExchangePosition]:
            asked.append(exchange)
            return [spot, held, gone]

    config = ExchangeConfig(
        paper=PaperConfig(balance=D(1_000)), market_types=(MarketKind.SPOT, MarketKind.LINEAR)
    )
    on = PaperExchange("okx", config, ManualClock(), account=Fleet())
    await place(on, order())
    balance = await on.get_balance()
    assert (balance["USDT"].free, balance["SOL"].free) == (D(750), D("2.5"))
    assert await on.get_positions() == [held]
    assert asked == ["okx", "okx"]


async def test_without_a_ledger_nothing_has_moved() -> None:
    """Every quote currency, a coin other coins are quoted in among them, is at its start."""
    on = exchange(balance=D(1_000))
    await place(on, order())
    await place(on, order("perpetual", symbol="BTC/USDT:USDT"))
    balance = await on.get_balance()
    assert {"USDT", "EUR", "BTC"} < set(balance)
    assert {(one.free, one.total) for one in balance.values()} == {(D(1_000), D(1_000))}
    assert await on.get_positions() == []


async def test_a_ticker_surrounds_the_assumed_price() -> None:
    """Half the spread on each side; unknown prices are an error, and left out of a batch."""
    on = exchange(spread_bps=D(2))
    on.assume_price(BTC, D(50_000))
    ticker = await on.get_ticker(BTC)
    assert (ticker.bid, ticker.last, ticker.ask) == (D(49_995), D(50_000), D(50_005))
    assert list(await on.get_tickers([BTC, "ETH/USDT"])) == [BTC]
    with pytest.raises(ExchangeError):
        await on.get_ticker("ETH/USDT")
    with pytest.raises(ValueError, match="positive"):
        on.assume_price(BTC, D(0))


KNOWN = ["BTC/USDT", "ETH/BTC", "SOL/ETH", "BTC/EUR", "BTC/USDT:USDT", "SOL/USDC:USDC"]
NUMBERED = ["COIN17/USDT", "A0/USD", "ABCDEFGHIJ1234567/BTC", "COIN17/USDT:USDT"]
UNKNOWN = [
    "NOPE/USDT", "BTC/BTC", "BTC/ETH", "BTC/JPY", "BTCUSDT", "btc/USDT", "", "/", "BTC/",
    "COIN/USDT", "BTC/USDT:USDC", "BTC/EUR:EUR", "BTC/USDT:", "17/USDT", "COIN12345678/USDT",
    "BTC/USDT\n", "ABCDEFGHIJK1/USDT", "BTC/USDT:USDT-261225",
]  # fmt: skip


@pytest.mark.parametrize("symbol", KNOWN + NUMBERED)
def test_a_listed_market_has_rules_for_any_price(symbol: str) -> None:
    """Fine ticks, a step, a minimum, fees as a fraction, and shorts."""
    on = exchange(fee_pct=D("0.1"))
    info = on.get_symbol_info(symbol)
    assert info is not None
    assert info is on.get_symbol_info(symbol)
    assert info.symbol == symbol
    assert f"{info.base}/{info.quote}" == symbol.partition(":")[0]
    assert info.kind is (MarketKind.LINEAR if ":" in symbol else MarketKind.SPOT)
    assert info.shortable
    assert (info.taker_fee, info.settle) == (D("0.001"), info.quote)
    assert 0 < info.price_tick <= D("0.00000001")
    assert info.min_quantity == info.quantity_step == D("0.001" if ":" in symbol else "0.000001")


@pytest.mark.parametrize("symbol", UNKNOWN)
def test_anything_else_is_unknown(symbol: str) -> None:
    """None, not an error: the signal is refused by validation."""
    assert exchange().get_symbol_info(symbol) is None


def test_only_the_configured_kinds_of_market_are_loaded() -> None:
    """``market_types`` holds for the simulated exchange too; named symbols are always there."""
    config = ExchangeConfig(paper=PaperConfig(symbols=("XAU/JPY", "TSLA/USD:USD")))
    on = PaperExchange("paper", config, ManualClock())
    assert on.get_symbol_info("BTC/USDT:USDT") is None
    assert on.get_symbol_info("XAU/JPY") is not None
    assert on.get_symbol_info("TSLA/USD:USD") is not None


async def test_a_named_symbols_quote_has_a_balance_too() -> None:
    """Otherwise a position in it could never be sized."""
    on = exchange(symbols=("XAU/JPY",))
    assert (await on.get_balance())["JPY"].free == D(100_000)


def test_every_listed_symbol_has_rules_and_is_listed_once() -> None:
    """Listing and look-up agree."""
    on = exchange(symbols=(BTC, "XAU/JPY"))
    listed = list(on.symbols())
    assert len(listed) == len(set(listed)) > 5 * len(BASES)
    assert {BTC, "XAU/JPY", "ETH/BTC", "SOL/USDT:USDT"} < set(listed)
    assert all(on.get_symbol_info(symbol) is not None for symbol in listed)


def test_made_up_markets_do_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many symbols are asked for, memory is bounded."""
    monkeypatch.setattr("worker.paper.markets.MAX_CACHED_MARKETS", 10)
    markets = PaperMarkets(kinds=[MarketKind.SPOT], extra=(), fee=D(0), where="")
    assert all(markets.get(f"COIN{n}/USDT") for n in range(100))
    assert len(markets._cache) <= 10


def test_a_malformed_symbol_names_the_key() -> None:
    """It stops the start."""
    with pytest.raises(ConfigError, match=r"exchanges\.paper\.paper\.symbols: 'BTCUSDT'"):
        exchange(symbols=("BTCUSDT",))


class Source(PaperExchange):
    """A stand-in for a real exchange: own markets, own book."""

    def __init__(self, ticker: Ticker | ExchangeError) -> None:
        super().__init__("real", ExchangeConfig(), ManualClock())
        self.ticker = ticker
        self.calls: list[str] = []
        self.info = SymbolInfo(
            symbol=BTC,
            base="BTC",
            quote="USDT",
            settle="USDT",
            price_tick=D("0.5"),
            quantity_step=D("0.1"),
            max_quantity=D(5),
            taker_fee=D("0.9"),
        )

    async def start(self) -> None:
        self.calls.append("start")

    async def refresh_markets(self) -> bool:
        self.calls.append("refresh")
        return True

    async def close(self) -> None:
        self.calls.append("close")

    async def get_ticker(self, symbol: str) -> Ticker:
        if isinstance(self.ticker, ExchangeError):
            raise self.ticker
        return self.ticker

    async def get_tickers(self, symbols: Iterable[str]) -> dict[str, Ticker]:
        return {symbol: await self.get_ticker(symbol) for symbol in symbols}

    def get_symbol_info(self, symbol: str) -> SymbolInfo | None:
        return self.info if symbol == BTC else None

    def symbols(self) -> Iterable[str]:
        return [BTC]


def live(source: ExchangeAdapter, **paper: Any) -> PaperExchange:
    config = ExchangeConfig(paper=PaperConfig(prices="live", **paper))
    return PaperExchange("paper", config, ManualClock(), price_source=source)


def book(bid: str, ask: str) -> Ticker:
    return Ticker(symbol=BTC, bid=D(bid), ask=D(ask), last=D(bid), at_ms=0)


async def test_live_prices_fill_against_the_real_book() -> None:
    """A buyer meets the ask plus slippage, up to the market's tick; the spread is the book's."""
    source = Source(book("99.5", "100.5"))
    on = live(source, spread_bps=D(500), slippage_bps=D(10))
    await on.start()
    on.assume_price(BTC, D(7))
    bought = await place(on, order("b"), None)
    sold = await place(on, order("s", side=Side.SELL), None)
    assert (bought.average_price, sold.average_price) == (D(101), D(99))
    await on.refresh_markets()
    await on.close()
    assert source.calls == ["start", "refresh", "close"]


async def test_the_sources_markets_are_lent_with_paper_fees_and_shorts() -> None:
    """Its steps and limits hold; a market loaded anew is seen."""
    source = Source(book("1", "2"))
    on = live(source, fee_pct=D("0.2"))
    info = on.get_symbol_info(BTC)
    assert info is not None
    assert (info.price_tick, info.taker_fee, info.shortable) == (D("0.5"), D("0.002"), True)
    assert on.get_symbol_info(BTC) is info
    source.info = msgspec.structs.replace(source.info, price_tick=D(2))
    fresh = on.get_symbol_info(BTC)
    assert fresh is not None
    assert fresh.price_tick == 2
    assert on.get_symbol_info("ETH/USDT") is None
    assert list(on.symbols()) == [BTC]
    with pytest.raises(InvalidOrderError, match="maximum"):
        await place(on, order(quantity=D(6)), None)


async def test_a_resting_order_meets_live_prices_when_looked_at() -> None:
    """There is no feed: a look-up asks the market first."""
    source = Source(book("100", "101"))
    on = live(source)
    await place(on, limit("90"), None)
    await place(on, limit("80", "c2"), None)
    assert len(await on.get_open_orders(BTC)) == 2
    source.ticker = book("84", "85")
    assert (await on.get_order(order())).average_price == D(90)
    assert [report.client_order_id for report in await on.get_open_orders()] == ["c2"]


async def test_an_order_whose_price_could_not_be_had_was_not_sent() -> None:
    """Even when the price request itself is in doubt."""
    on = live(Source(ExchangeError("timed out", outcome=Outcome.UNKNOWN)))
    with pytest.raises(ExchangeError) as caught:
        await place(on, order(), None)
    assert caught.value.outcome is Outcome.NOT_SENT


def test_it_needs_no_measuring_and_holds_no_coins() -> None:
    """Wherever its prices come from: its clock is ours, and its balances are of quote money."""
    for on in (exchange(), live(Source(book("1", "2")))):
        assert not on.has_own_clock
        assert not on.keeps_order_connection
        assert not on.balances_show_spot_positions


def test_live_prices_need_a_source() -> None:
    """A configuration error, not a surprise at the first order."""
    with pytest.raises(ConfigError, match="prices"):
        exchange(prices="live")


def test_its_name_reads_like_a_status_line() -> None:
    """For logs and assertions."""
    assert repr(exchange()) == "<PaperExchange paper: 0 finished>"
