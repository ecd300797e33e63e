"""The seeded path of prices."""

from decimal import Decimal
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.paper.test_exchange import ManualClock, exchange, order
from worker.config.loading import load_config
from worker.domain.order import OrderState, Side
from worker.domain.signal import OrderType
from worker.paper.walk import SPAN_S, PriceWalk, middles_of
from worker.runtime.errors import ConfigError

D = Decimal
BTC = "BTC/USDT"
NOW_S = 1_800_000_000
PINNED = ["98.56038876", "98.56530583", "98.56738692", "98.31591332", "100.8853612"]


def walk(seed: int = 0, swing: str = "5") -> PriceWalk:
    return PriceWalk(seed, middle=D(100), middles={"ETH/USDT": D(4000)}, swing_pct=D(swing))


def test_the_path_is_the_documented_one() -> None:
    """The same digits on every machine, for ever: orders that rest are judged by it."""
    prices = [walk().price(BTC, (NOW_S + second) * 1000) for second in (0, 1, 2, 3_600, 86_400)]
    assert [str(price) for price in prices] == PINNED


def test_it_depends_on_seed_symbol_and_second_alone() -> None:
    """Another of these, another price; within a second it stays."""
    at = NOW_S * 1000
    assert walk().price(BTC, at) == walk().price(BTC, at + 999)
    assert len({walk().price(BTC, at), walk(1).price(BTC, at), walk().price("SOL/USDT", at)}) == 3
    assert 3_800 <= walk().price("ETH/USDT", at) <= 4_200


@given(st.integers(0, 2**33), st.integers(-5, 5), st.sampled_from(["5", "0.1", "90"]))
def test_it_never_leaves_its_bounds(second: int, seed: int, swing: str) -> None:
    """Around the middle, at most ``walk_swing_pct`` away."""
    share = D(swing) / 100
    assert 100 * (1 - share) <= walk(seed, swing).price(BTC, second * 1000) <= 100 * (1 + share)


def test_it_moves_in_small_steps() -> None:
    """From second to second far less than over an hour."""
    prices = [walk().price(BTC, (NOW_S + second) * 1000) for second in range(3_600)]
    steps = [abs(a - b) for a, b in pairwise(prices)]
    assert max(steps) < D("0.02")
    assert max(prices) - min(prices) > 5 * max(steps)


@settings(deadline=None)
@given(
    st.integers(NOW_S - SPAN_S, NOW_S + SPAN_S), st.integers(0, 900), st.booleans(),
    st.integers(-200, 200),
)  # fmt: skip
def test_the_first_price_through_a_level_is_found(
    after: int,
    length: int,
    rises: bool,
    offset: int,
) -> None:
    """As looking at every second would find it."""
    path = walk()
    level = path.price(BTC, after * 1000) + D(offset) / 1000
    found = path.first_through(
        BTC, level, rises=rises, after_ms=after * 1000 + 500, until_ms=(after + length) * 1000
    )
    expected = None
    for second in range(after + 1, after + length + 1):
        price = path.price(BTC, second * 1000)
        if price >= level if rises else price <= level:
            expected = (second * 1000, price)
            break
    assert found == expected


def test_a_long_wait_is_looked_through_quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of the path that cannot reach the level are left out."""
    draws = 0
    draw = PriceWalk._random

    def counted(self: PriceWalk, symbol: str, second: int, most: int) -> int:
        nonlocal draws
        draws += 1
        return draw(self, symbol, second, most)

    monkeypatch.setattr(PriceWalk, "_random", counted)
    month = 30 * 86_400_000
    at = NOW_S * 1000
    assert walk().first_through(BTC, D(106), rises=True, after_ms=at, until_ms=at + month) is None
    assert draws <= 2 * 42


async def test_a_walking_exchange_quotes_fills_and_ignores_what_signals_state() -> None:
    """Every instance the same, at the same time."""
    clock = ManualClock()
    clock.ms = NOW_S * 1000.0
    paper = {"prices": "walk", "spread_bps": D(2), "slippage_bps": D(0), "walk_middle": D(50)}
    first, second = (exchange(clock=clock, **paper) for _ in range(2))
    first.assume_price(BTC, D(1))
    ticker = await first.get_ticker(BTC)
    assert ticker == await second.get_ticker(BTC)
    assert ticker.bid < ticker.last < ticker.ask
    assert await first.get_tickers([BTC]) == {BTC: ticker}
    report = await first.place_order(order(), first.open_window())
    assert report.average_price == ticker.ask


@pytest.mark.parametrize("side", Side)
async def test_a_resting_order_fills_when_the_path_reaches_it(side: Side) -> None:
    """At the second of the path, however late it is looked at."""
    clock = ManualClock()
    clock.ms = NOW_S * 1000.0
    on = exchange(clock=clock, prices="walk")
    path = walk()
    start = path.price(BTC, int(clock.ms))
    level = (start * (D("0.9995") if side is Side.BUY else D("1.0005"))).quantize(D("0.0001"))
    request = order(side=side, order_type=OrderType.LIMIT, price=level)
    placed = await on.place_order(request, on.open_window())
    assert placed.state is OrderState.ACTIVE
    clock.ms += 864_000_000
    found = path.first_through(
        BTC, level, rises=side is Side.SELL, after_ms=NOW_S * 1000, until_ms=int(clock.ms)
    )
    assert found is not None
    clock.ms = found[0] - 1.0
    assert (await on.get_order(request)).state is OrderState.ACTIVE
    assert len(await on.get_open_orders()) == 1
    clock.ms += 500_000
    assert await on.get_open_orders() == []
    (fill,) = (await on.get_order(request)).fills
    assert (fill.at_ms, fill.price) == (found[0], level)


def test_middles_are_configured_by_symbol() -> None:
    """``BASE/QUOTE=PRICE`` each; anything else names the key."""
    assert middles_of(("BTC/USDT=50000", "ETH/USDT:USDT=0.05")) == {
        "BTC/USDT": D(50_000),
        "ETH/USDT:USDT": D("0.05"),
    }
    key = "WORKER_EXCHANGES__PAPER__PAPER__WALK_MIDDLES"
    config = load_config(None, {key: "BTC/USDT=50000,SOL/USDT=0.05"})
    assert config.exchanges["paper"].paper.walk_middles == ("BTC/USDT=50000", "SOL/USDT=0.05")
    for wrong in ("BTC/USDT", "BTC/USDT=0", "BTC/USDT=-1", "BTC/USDT=1e5", "BTC=1"):
        with pytest.raises(ConfigError, match="walk_middles"):
            load_config(None, {key: wrong})
