"""The small parts under the exchange adapters: rounding, budgets, readings, the factory."""

import asyncio
from decimal import Decimal
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.assembly import factory as factory_module
from worker.assembly.factory import ExchangeFactory
from worker.config.keys import Config, ExchangeConfig, PaperConfig, Secret
from worker.domain.market import MarketKind, SymbolInfo
from worker.domain.order import OrderRequest, OrderState, Role, Side
from worker.domain.plausibility import ImplausibleError
from worker.domain.signal import Direction, OrderType
from worker.exchanges.binance.frames import over_sockets
from worker.exchanges.binance.order_socket import OrderSocket
from worker.exchanges.ccxt import readings
from worker.exchanges.ccxt.adapter import CCXTAdapter
from worker.exchanges.ccxt.http_session import target
from worker.exchanges.ccxt.outcomes import LocalRefusalError
from worker.exchanges.ccxt.rounding import wire_order
from worker.paper.exchange import PaperExchange
from worker.runtime.clock import Clock, SystemClock
from worker.runtime.errors import ConfigError, InvariantError

D = Decimal


class FakeClock:
    """Time that moves only when told."""

    def __init__(self) -> None:
        self.wall = 1_700_000_000_000.0
        self.mono = 5_000.0

    def now_ms(self) -> int:
        return int(self.wall)

    def monotonic_ms(self) -> float:
        return self.mono

    def advance(self, ms: float) -> None:
        self.wall += ms
        self.mono += ms

    async def sleep(self, seconds: float) -> None:
        self.advance(seconds * 1000)


def an_info(**changes: Any) -> SymbolInfo:
    """A market with a step of 0.001 and a tick of 0.05."""
    fields: dict[str, Any] = {"symbol": "A/B", "base": "A", "quote": "B", "settle": "B"}
    steps = {"quantity_step": D("0.001"), "price_tick": D("0.05")}
    return SymbolInfo(**fields | steps | changes)


def a_request(**changes: Any) -> OrderRequest:
    """A stop-limit order, which has both prices."""
    fields: dict[str, Any] = {
        "client_order_id": "c",
        "exchange": "x",
        "symbol": "A/B",
        "role": Role.ENTRY,
        "side": Side.BUY,
        "order_type": OrderType.STOP_LIMIT,
        "quantity": D("1.2345"),
        "price": D("10.07"),
        "stop_price": D("10.02"),
    }
    return OrderRequest(**fields | changes)


@given(
    st.sampled_from(list(Side)),
    st.decimals("0.001", 1_000_000, places=8),
    st.decimals("0.05", 1_000_000, places=8),
)
def test_rounding_never_buys_more_or_pays_more(side: Side, quantity: D, price: D) -> None:
    """The quantity never grows, a buy's price never rises, a sell's never falls; both on grid."""
    info = an_info()
    order = wire_order(a_request(side=side, quantity=quantity, price=price), info)
    assert D(order.amount) <= quantity
    assert D(order.amount) % info.quantity_step == 0
    assert order.price is not None
    sent = D(order.price)
    assert sent % info.price_tick == 0
    assert (sent <= price) if side is Side.BUY else (sent >= price)
    assert abs(sent - price) < info.price_tick
    assert "E" not in order.amount + order.price


def test_prices_go_only_with_kinds_that_have_them() -> None:
    """A price given with a market order would make it a quote-amount order on some exchanges."""
    assert wire_order(a_request(order_type=OrderType.MARKET), an_info()).price is None
    assert wire_order(a_request(order_type=OrderType.STOP), an_info()).price is None
    assert wire_order(a_request(order_type=OrderType.STOP), an_info()).stop_price == "10"
    for missing in ({"price": None}, {"stop_price": None}):
        with pytest.raises(LocalRefusalError):
            wire_order(a_request(**missing), an_info())


def test_quantities_become_contracts() -> None:
    """0.0125 base units of 0.01 a contract are 1.25 contracts."""
    info = an_info(contract_size=D("0.01"), quantity_step=D("0.0001"))
    assert D(wire_order(a_request(quantity=D("0.01259")), info).amount) == D("1.25")


@pytest.mark.parametrize(
    ("status", "filled", "amount", "state"),
    [
        ("open", "0", "1", OrderState.ACTIVE),
        ("open", "0.5", "1", OrderState.PARTIALLY_FILLED),
        ("closed", "1", "1", OrderState.FILLED),
        ("closed", "0.5", "1", OrderState.CANCELLED),
        ("closed", "1", "0", OrderState.FILLED),
        ("closed", "0", "1", OrderState.CANCELLED),
        ("closed", "0", "0", OrderState.SUBMITTED),
        ("canceled", "0.5", "1", OrderState.CANCELLED),
        ("canceling", "0", "1", OrderState.ACTIVE),
        ("expired", "0", "1", OrderState.EXPIRED),
        ("rejected", "0", "1", OrderState.REJECTED),
        (None, "0", "0", OrderState.SUBMITTED),
        ("something new", "0", "1", OrderState.SUBMITTED),
    ],
)
def test_states(status: str | None, filled: str, amount: str, state: OrderState) -> None:
    """A status nobody knows is not an end."""
    assert readings.order_state(status, D(filled), D(amount)) is state


#: A time that trades can have, Unix milliseconds.
MS = 1_700_000_000_000


def test_fills_are_deduplicated_ordered_and_in_base_units() -> None:
    """A repeated trade's fee counts once; a rebate stays negative."""
    trade = {"id": "9", "amount": "2", "price": "5", "timestamp": MS + 2, "fee": {"cost": "-0.1"}}
    older = {"id": "10", "amount": "1", "price": "4", "timestamp": MS + 1, "fee": None}
    found = readings.fills([trade, older, trade, {"id": "", "amount": "1"}], an_info())
    assert [fill.trade_id for fill in found] == ["10", "9"]
    assert found[1].fee == D("-0.1")
    doubled = readings.fills([trade], an_info(contract_size=D("0.5")))
    assert doubled[0].quantity == D(1)


def test_positions_are_in_base_units() -> None:
    """Contracts times what one of them is, however the exchange signs a short."""
    row = {"contracts": "-30", "side": "short", "entryPrice": "5"}
    held = readings.position(row, an_info(contract_size=D("0.01")))
    assert held is not None
    assert (held.direction, held.quantity, held.entry_price) == (Direction.SHORT, D("0.3"), D(5))
    assert readings.position({"contracts": "0"}, an_info()) is None


def a_trade(**fields: Any) -> dict[str, Any]:
    """A trade as ccxt has it."""
    return {"id": "1", "amount": "2", "price": "5", "timestamp": MS} | fields


def costs(*fees: tuple[str, str]) -> list[dict[str, str]]:
    """Fees as ccxt has them."""
    return [{"currency": currency, "cost": cost, "rate": "0.001"} for currency, cost in fees]


@pytest.mark.parametrize(
    ("fees", "expected"),
    [
        (costs(("BNB", "0.1"), ("B", "3")), (("BNB", D("0.1")), ("B", D(3)))),
        (costs(("B", "1"), ("GT", "2"), ("B", "0.5")), (("B", D("1.5")), ("GT", D(2)))),
        (costs(("B", "0"), ("GT", "2")), (("GT", D(2)),)),
        (costs(("B", "-0.1")), (("B", D("-0.1")),)),
        (costs(("B", "0")), (("", D(0)),)),
    ],
)
def test_every_fee_of_a_trade_is_kept(
    fees: list[dict[str, str]], expected: tuple[tuple[str, D], ...]
) -> None:
    """Summed by currency, the one that is told first in front."""
    (fill,) = readings.fills([a_trade(fees=fees, fee=fees[-1])], an_info())
    assert fill.fees == expected
    assert (fill.fee_currency, fill.fee) == expected[0]


@pytest.mark.parametrize("value", ["NaN", "Infinity", "abc", "1e"])
def test_text_that_is_no_finite_number_is_refused(value: str) -> None:
    """They would poison every later sum."""
    with pytest.raises(ImplausibleError):
        readings.decimal(value)


@pytest.mark.parametrize("url", ["nonsense", "ftp://x", "http://x/path", "http://x/?a=1"])
def test_base_urls_are_checked(url: str) -> None:
    """Scheme, host and port only; the key is named."""
    with pytest.raises(ConfigError, match="base_url"):
        target("exchanges.x.base_url", url)


# ---- the factory --------------------------------------------------------------------------


def a_config(mode: str, **section: Any) -> Config:
    """One exchange called ``binance``."""
    credentials = {"api_key": Secret("k"), "secret": Secret("s")}
    exchange = ExchangeConfig(**credentials | section)
    return Config(mode=mode, exchanges={"binance": exchange})  # type: ignore[arg-type]


class Recorded(CCXTAdapter):
    """Remembers its configuration."""

    def __init__(self, name: str, config: ExchangeConfig, clock: Clock) -> None:
        super().__init__(name, config, clock)
        self.given = config
        self.closed = 0

    async def close(self) -> None:
        self.closed += 1


@pytest.mark.parametrize("adapter", ["paper", "ccxt"])
@pytest.mark.parametrize("prices", ["signal", "live"])
def test_paper_mode_never_builds_anything_that_can_send(
    adapter: str, prices: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the section says, the result simulates, and its source has no credentials."""
    built: list[Recorded] = []

    def recorder(name: str, config: ExchangeConfig, clock: Clock) -> Recorded:
        built.append(Recorded(name, config, clock))
        return built[-1]

    config = a_config("paper", adapter=adapter, paper=PaperConfig(prices=prices))  # type: ignore[arg-type]
    monkeypatch.setattr(factory_module, "adapter_class", {"binance": recorder}.__getitem__)
    factory = ExchangeFactory(config, SystemClock())
    assert isinstance(factory.get("binance"), PaperExchange)
    assert len(built) == (0 if (adapter, prices) == ("paper", "signal") else 1)
    for source in built:
        assert not source.given.api_key
        assert not source.given.secret


async def test_live_mode_builds_the_real_thing_once_and_closes_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One adapter an exchange; a paper section stays paper even in live mode."""
    monkeypatch.setattr(factory_module, "adapter_class", {"binance": Recorded}.__getitem__)
    factory = ExchangeFactory(a_config("live", adapter="ccxt"), SystemClock())
    adapter = factory.get("binance")
    assert isinstance(adapter, Recorded)
    assert adapter is factory.get("binance")
    assert factory.all() == {"binance": adapter}
    assert adapter.given.api_key.reveal() == "k"
    await factory.close()
    await factory.close()
    assert adapter.closed == 1
    simulated = ExchangeFactory(a_config("live", adapter="paper"), SystemClock())
    assert isinstance(simulated.get("binance"), PaperExchange)
    with pytest.raises(ConfigError, match="nowhere"):
        factory.get("nowhere")


def test_each_exchange_has_its_adapter_and_an_unknown_one_is_never_sent_twice() -> None:
    """By ccxt_id, not by name."""
    names = {"binance": "BinanceCCXTAdapter", "okx": "OkxCCXTAdapter", "bybit": "BybitCCXTAdapter"}
    names |= {"kraken": "KrakenCCXTAdapter", "coinbase": "CoinbaseCCXTAdapter"}
    names |= {"bitget": "CCXTAdapter"}
    for ccxt_id, expected in names.items():
        config = a_config("live", adapter="ccxt", ccxt_id=ccxt_id)
        assert type(ExchangeFactory(config, SystemClock()).get("binance")).__name__ == expected
    assert CCXTAdapter.resend.value == "never"


async def test_an_exchange_ccxt_does_not_have_is_a_configuration_error() -> None:
    """Named at start."""
    section = ExchangeConfig(adapter="ccxt", ccxt_id="nosuchexchange")
    adapter = CCXTAdapter("mine", section, SystemClock())
    with pytest.raises(ConfigError, match=r"exchanges\.mine\.ccxt_id"):
        await adapter.start()


# ---- markets ------------------------------------------------------------------------------


def test_a_contracts_limits_are_in_base_units() -> None:
    """A market of 0.01 a contract takes 0.05 to 10 of the base currency, in steps of 0.01."""
    market = {
        "symbol": "A/B:B",
        "base": "A",
        "quote": "B",
        "settle": "B",
        "contract": True,
        "contractSize": "0.01",
        "precision": {"amount": "1", "price": "0.5"},
        "limits": {"amount": {"min": "5", "max": "1000"}, "cost": {"min": "7"}},
    }
    info = readings.symbol_info(market, MarketKind.LINEAR, precision_mode=4)
    assert (info.min_quantity, info.max_quantity) == (D("0.05"), D(10))
    assert (info.quantity_step, info.contract_size) == (D("0.01"), D("0.01"))
    assert (info.price_tick, info.min_notional) == (D("0.5"), D(7))
    spot = readings.symbol_info(market | {"contract": False}, MarketKind.SPOT, precision_mode=4)
    assert (spot.min_quantity, spot.max_quantity, spot.quantity_step) == (D(5), D(1000), D(1))


def test_market_kinds_are_spot_and_linear_perpetuals_only() -> None:
    """Dated futures, inverse swaps and options are not ours."""
    assert readings.market_kind({"spot": True}) is MarketKind.SPOT
    assert readings.market_kind({"swap": True, "linear": True}) is MarketKind.LINEAR
    assert readings.market_kind({"swap": True, "linear": False}) is None
    assert readings.market_kind({"future": True, "linear": True}) is None


async def test_an_order_outside_of_any_call_is_not_sent_over_a_socket() -> None:
    """Whether it was sent would be noted where nobody looks: that stops the process."""
    sent: list[str] = []

    class Connected:
        """A session whose connections are open and say nothing."""

        closed = False

        async def ws_connect(self, *_: object, **__: object) -> "Connected":
            return self

        def get_extra_info(self, _name: str) -> str:
            return "a peer"

        async def send_str(self, text: str) -> None:
            sent.append(text)

        async def close(self) -> None:
            self.closed = True

        def __aiter__(self) -> "Connected":
            return self

        async def __anext__(self) -> object:
            return await asyncio.get_running_loop().create_future()

    url, session = "wss://host/ws-api/v3", cast("Any", Connected())
    socket = OrderSocket("binance", url, session, 1_000, SystemClock())
    await socket.settled(1_000)
    assert socket.is_open
    with pytest.raises(InvariantError):
        await socket.ask("1", {"id": "1"})

    class Base:
        """What is left of ccxt's class."""

    with pytest.raises(InvariantError):
        await over_sockets(Base, {url: socket})().watch(url, "1", {"id": "1"})
    await socket.close()
    assert sent == []
