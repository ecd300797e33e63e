"""Risk rules: never above a cap, always on the grid, never rounded up."""

from decimal import Decimal
from fractions import Fraction

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.parts import PERPETUAL, SPOT
from worker.domain.market import MarketKind, SymbolInfo, largest_order
from worker.domain.money import (
    MAX_MILLIONTHS,
    ZERO,
    ceil_to,
    floor_to,
    millionths,
    millionths_signed,
)
from worker.domain.order_limits import MAX_NOTIONAL, RewardRule, SizeRule, StopRule
from worker.domain.refusal import Code, Refusal, Stage
from worker.domain.signal import Direction

D = Decimal
RULE = SizeRule(default_pct=D(2), max_pct=D(5))

balances = st.integers(100, 10**11).map(lambda cents: D(cents).scaleb(-2))
prices = st.tuples(st.integers(1, 10**6), st.integers(-8, 0)).map(
    lambda parts: D(parts[0]).scaleb(parts[1])
)
percents = st.decimals(D("0.01"), D(100), places=2)
#: Of the largest position that the cap allows.
shares = st.integers(1, 11_000).map(lambda basis_points: D(basis_points).scaleb(-4))
steps = st.sampled_from([ZERO, D("0.00000001"), D("0.001"), D("0.3"), D(1), D(100)])


def size(
    *,
    asked: str | None = None,
    pct: str | None = None,
    free: str = "10000",
    price: str = "100",
    worth: str | None = None,
    info: SymbolInfo = SPOT,
) -> Decimal | Refusal:
    return RULE.quantity(
        asked=None if asked is None else D(asked),
        size_pct=None if pct is None else D(pct),
        free=D(free),
        price=D(price),
        cap_price=D(worth or price),
        info=info,
    )


def code(answer: Decimal | Refusal | None) -> Code:
    assert isinstance(answer, Refusal)
    assert answer.stage is Stage.RISK
    assert answer.reason
    return answer.code


@settings(max_examples=200, deadline=None)
@given(balances, prices, percents, percents, steps, st.none() | shares, st.none() | percents)
def test_a_size_is_never_above_the_cap_nor_off_the_grid(
    free: Decimal,
    price: Decimal,
    default: Decimal,
    cap: Decimal,
    step: Decimal,
    share: Decimal | None,
    pct: Decimal | None,
) -> None:
    """Whatever was asked: on the grid, within the cap, and not more than was asked for.

    What is refused is so for its reason: more than the cap, or less than can be traded.
    """
    rule = SizeRule(default_pct=default, max_pct=cap)
    info = msgspec.structs.replace(SPOT, quantity_step=step, min_notional=ZERO, max_quantity=ZERO)
    asked = None if share is None else (free * cap / 100 / price * share).quantize(D("1e-8"))
    answer = rule.quantity(
        asked=asked, size_pct=pct, free=free, price=price, cap_price=price, info=info
    )
    room = Fraction(free) * Fraction(cap) / 100
    wanted = Fraction(free) * Fraction(default if pct is None else pct) / 100
    hair = Fraction(1, 10**20)
    if isinstance(answer, Refusal):
        exact = min(room, wanted) / Fraction(price) if asked is None else Fraction(asked)
        if code(answer) is Code.POSITION_TOO_LARGE:
            assert exact * Fraction(price) >= room * (1 - hair)
        else:
            assert answer.code is Code.BELOW_MINIMUM
            assert exact < max(info.min_quantity, step) * (1 + D("1e-20"))
        return
    assert Fraction(answer) * Fraction(price) <= room * (1 + hair)
    assert floor_to(answer, step) == answer
    assert answer >= info.min_quantity
    if asked is not None:
        assert asked - step <= answer <= asked
    else:
        assert Fraction(answer) * Fraction(price) <= wanted * (1 + hair)


@pytest.mark.parametrize(
    ("given_size", "expected"),
    [
        ({}, "2"),  # 2% of 10,000 at 100
        ({"pct": "1.5"}, "1.5"),
        ({"pct": "5"}, "5"),
        ({"pct": "50"}, "5"),  # cut to the cap
        ({"asked": "1.23456"}, "1.2345"),  # down to the step
        ({"asked": "5"}, "5"),  # exactly the cap
        ({"price": "3"}, "66.6666"),
        ({"free": "10000000", "price": "1"}, "1000"),  # the market's largest order
        ({"worth": "125"}, "2"),  # its size follows from the price,
        ({"pct": "5", "worth": "125"}, "4"),  # the cap from what it may come to
        ({"asked": "4", "worth": "125"}, "4"),
    ],
)
def test_sizes_by_example(given_size: dict[str, str], expected: str) -> None:
    """A share of the free balance, cut to the cap, rounded down to the step."""
    assert size(**given_size) == D(expected)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given_size", "expected"),
    [
        ({"asked": "5.0001"}, Code.POSITION_TOO_LARGE),
        ({"asked": "4.0001", "worth": "125"}, Code.POSITION_TOO_LARGE),
        ({"asked": "0.00009"}, Code.BELOW_MINIMUM),
        ({"asked": "0.0499"}, Code.BELOW_MINIMUM),  # worth 4.99 of at least 5
        ({"free": "0"}, Code.BELOW_MINIMUM),
        ({"free": "-100"}, Code.BELOW_MINIMUM),
        ({"free": "249.99"}, Code.BELOW_MINIMUM),  # 2% of it is under 5
        ({"free": "0", "asked": "1"}, Code.POSITION_TOO_LARGE),
    ],
)
def test_sizes_that_are_refused(given_size: dict[str, str], expected: Code) -> None:
    """An order over the cap, or under the market's minimum, is refused with its code."""
    assert code(size(**given_size)) is expected  # type: ignore[arg-type]


def test_the_smallest_order_is_allowed() -> None:
    """An order of exactly the market's minimum value passes."""
    assert size(asked="0.05") == D("0.05")
    assert size(free="250") == D("0.05")


FEE = msgspec.structs.replace(SPOT, taker_fee=D("0.001"))


@pytest.mark.parametrize(
    ("asked", "info", "passes"),
    [
        ("0.05", FEE, False),  # 0.0499 of it are received, worth 4.99 of at least 5
        ("0.0501", FEE, True),
        ("0.0001", msgspec.structs.replace(FEE, min_notional=ZERO), False),  # nothing is left
        ("0.0002", msgspec.structs.replace(FEE, min_notional=ZERO), True),
        ("0.05", msgspec.structs.replace(FEE, kind=MarketKind.LINEAR), True),
    ],
)
def test_what_is_received_can_be_sold_again(asked: str, info: SymbolInfo, passes: bool) -> None:
    """A purchase is refused if what its fee leaves would be too little to sell."""
    answer = size(asked=asked, info=info)
    if passes:
        assert answer == D(asked)
    else:
        assert code(answer) is Code.BELOW_MINIMUM
        assert "take back" in answer.reason  # type: ignore[union-attr]


def test_more_than_the_limits_can_count_is_refused() -> None:
    """A value that Lua's doubles cannot count exactly is refused."""
    huge = msgspec.structs.replace(SPOT, max_quantity=ZERO, quantity_step=ZERO)
    free, most = str(10**15), MAX_NOTIONAL
    assert code(size(asked=str(most), price="1", free=free, info=huge)) is Code.POSITION_TOO_LARGE
    assert size(asked=str(int(most) - 1), price="1", free=free, info=huge) == int(most) - 1
    assert (millionths(most * 2), millionths_signed(-most * 2)) == (
        MAX_MILLIONTHS,
        -MAX_MILLIONTHS,
    )


STOPS = StopRule(default_pct=D(2), max_pct=D(2))


@pytest.mark.parametrize("stop", ["98", "102", "99.99", "100"])
def test_a_stop_as_far_as_allowed_passes(stop: str) -> None:
    """A stop exactly at the largest distance passes, above and below the price."""
    assert STOPS.check(D(100), D(stop)) is None


@pytest.mark.parametrize("stop", ["97.99", "102.01", "0.01"])
def test_a_stop_farther_than_allowed_is_refused(stop: str) -> None:
    """A stop just over the largest distance is refused, above and below the price."""
    refused = STOPS.check(D(100), D(stop))
    assert code(refused) is Code.STOP_LOSS_TOO_FAR
    assert refused is not None
    assert "risk.max_stop_loss_pct is 2%" in refused.reason


def test_default_stops_lie_on_the_grid() -> None:
    """2% away, rounded to the tick on the price's side: never farther than asked for."""
    assert STOPS.default_stop(Direction.LONG, D("123.45"), SPOT) == D("120.99")
    assert STOPS.default_stop(Direction.SHORT, D("123.45"), PERPETUAL) == D("125.91")


def test_a_default_stop_is_no_further_away_than_a_stop_may_be() -> None:
    """A default distance over the largest one is cut to it."""
    near = StopRule(default_pct=D(2), max_pct=D("0.5"))
    assert near.default_stop(Direction.LONG, D(100), SPOT) == D("99.5")
    assert near.check(D(100), D("99.5")) is None


@pytest.mark.parametrize(
    ("stop", "target", "passes"),
    [("98", "103", True), ("98", "102.99", False), ("102", "97", True), ("102", "97.01", False)],
)
def test_reward_over_risk(stop: str, target: str, passes: bool) -> None:
    """Reward over risk may be exactly the configured ratio, and no less."""
    answer = RewardRule(min_ratio=D("1.5")).check(D(100), D(stop), D(target))
    assert answer is None if passes else code(answer) is Code.RISK_REWARD_TOO_LOW


@given(st.decimals(D("-1e12"), D("1e12"), places=12))
def test_the_ledger_counts_against_us(amount: Decimal) -> None:
    """Exposure is rounded up, profit down: the books never look better than they are."""
    exact = Fraction(amount) * 10**6
    if abs(exact) > MAX_MILLIONTHS:  # more than the scripts can count: the most they can
        assert abs(millionths_signed(amount)) == MAX_MILLIONTHS
        return
    assert exact <= millionths(amount) < exact + 1
    assert exact - 1 < millionths_signed(amount) <= exact


def test_a_target_on_the_wrong_side_is_no_reward() -> None:
    """A target on the loss side is refused at any distance."""
    rule = RewardRule(min_ratio=D("0.5"))
    assert code(rule.check(D(104), D(99), D(101))) is Code.RISK_REWARD_TOO_LOW
    assert code(rule.check(D(96), D(101), D(99))) is Code.RISK_REWARD_TOO_LOW
    assert rule.check(D(104), D(99), D(107)) is None
    assert rule.check(D(96), D(101), D(93)) is None


# --- default stops on any grid ---


@settings(max_examples=300)
@given(
    prices,
    st.sampled_from([D("1e-14"), D("0.00000001"), D("0.01"), D("0.3"), D(1), D(5), D(1000)]),
    percents,
    percents,
    st.sampled_from([Direction.LONG, Direction.SHORT]),
)
def test_a_default_stop_is_on_its_own_side_and_within_the_limit(
    price: Decimal, tick: Decimal, default: Decimal, most: Decimal, direction: Direction
) -> None:
    """Never 0, never at the entry, never farther than allowed; else there is none."""
    rule = StopRule(default_pct=default, max_pct=most)
    info = msgspec.structs.replace(PERPETUAL, price_tick=tick)
    stop = rule.default_stop(direction, price, info)
    if stop is None:
        refused = rule.refuse_default(price, info)
        assert refused.code is Code.STOP_LOSS_TOO_FAR
        below, above = floor_to(price, tick), ceil_to(price, tick)
        nearest = (below - tick if below == price else below) or tick
        if direction is Direction.SHORT:
            nearest = above + tick if above == price else above
        is_there = 0 < nearest < price if direction is Direction.LONG else nearest > price
        assert not is_there or rule.check(price, nearest) is not None
        return
    assert 0 < stop < price if direction is Direction.LONG else stop > price
    assert rule.check(price, stop) is None
    assert floor_to(stop, tick) == stop


@pytest.mark.parametrize(
    ("direction", "price", "tick", "stop"),
    [
        (Direction.LONG, "100", "1", "98"),
        (Direction.LONG, "100", "2", "98"),
        (Direction.LONG, "100", "5", None),
        (Direction.LONG, "1", "1", None),
        (Direction.LONG, "10.3", "0.1", "10.1"),
        (Direction.SHORT, "10.3", "0.1", "10.5"),
        (Direction.SHORT, "100", "5", None),
        (Direction.SHORT, "99.9", "1", "101"),
        (Direction.LONG, "0.0000000001", "0.00000000000001", "0.000000000098"),
    ],
)
def test_default_stops_by_example(
    direction: Direction, price: str, tick: str, stop: str | None
) -> None:
    """2% away, rounded towards the price, on grids as coarse as the distance."""
    info = msgspec.structs.replace(PERPETUAL, price_tick=D(tick))
    found = STOPS.default_stop(direction, D(price), info)
    assert found == (None if stop is None else D(stop))


# --- the largest order ---


@pytest.mark.parametrize(
    ("at_market", "expected"), [(True, "3"), (False, "5")], ids=["at market", "limit"]
)
def test_a_sized_order_is_cut_to_the_markets_maximum(at_market: bool, expected: str) -> None:
    """Orders at the market's price have a maximum of their own."""
    info = msgspec.structs.replace(SPOT, max_quantity=D("5.00009"), max_market_quantity=D(3))
    found = RULE.quantity(
        asked=None,
        size_pct=None,
        free=D(10**6),
        price=D(100),
        cap_price=D(100),
        info=info,
        at_market=at_market,
    )
    assert found == D(expected)


def test_a_maximum_in_quote_units_is_judged_at_the_orders_price() -> None:
    """OKX states the largest market order on spot in USDT; a limit order has no such maximum."""
    info = msgspec.structs.replace(SPOT, max_quantity=D(0), max_market_notional=D(1_000))
    assert largest_order(info, D(300), at_market=True) == D("3.3333")
    assert largest_order(info, D(300), at_market=False) == 0
    assert largest_order(info, None, at_market=True) == 0
    rule = SizeRule(default_pct=D(50), max_pct=D(100))
    sized = rule.quantity(
        asked=None, size_pct=None, free=D(10_000), price=D(300), cap_price=D(300), info=info,
        at_market=True,
    )  # fmt: skip
    assert sized == D("3.3333")
