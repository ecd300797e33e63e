"""Positions: what fills make of them, to the last digit of every fee."""

import itertools
from decimal import Decimal
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.unit.parts import PERPETUAL, SPOT, START, SYMBOL, fill, position
from worker.domain.fees import coins_taken, fee_in_quote, total_fees
from worker.domain.market import MarketKind, SymbolInfo
from worker.domain.money import ZERO, floor_to, shown, shown_ratio
from worker.domain.order import Fill, total_quantity, total_value
from worker.domain.position import (
    Position,
    correct_position,
    enlarge_position,
    open_position,
    reduce_position,
)
from worker.domain.signal import Direction
from worker.domain.split_fills import split_fills

D = Decimal
NO_STEP = msgspec.structs.replace(SPOT, quantity_step=ZERO, min_quantity=ZERO, min_notional=ZERO)

quantities = st.decimals(D("0.0001"), D(1000), places=4)
prices = st.decimals(D("0.01"), D(100_000), places=2)
fees = st.decimals(D(0), D(5), places=4)
currencies = st.sampled_from(["USDT", "BTC", "BNB"])
directions = st.sampled_from(Direction)


def _paid(trade: Fill, more_fees: dict[str, Decimal]) -> Fill:
    return msgspec.structs.replace(trade, more_fees=tuple(more_fees.items()))


#: A trade with fees in any currencies, and some of one order.
trades = st.builds(
    _paid,
    st.builds(fill, quantities, prices, fees, currencies),
    st.dictionaries(currencies, fees, max_size=2),
)
fills = st.lists(trades, min_size=1, max_size=4).map(
    lambda found: tuple(
        msgspec.structs.replace(one, trade_id=f"t{n}") for n, one in enumerate(found)
    )
)


def opened(trades: tuple[Fill, ...], direction: Direction = Direction.LONG) -> Position:
    return open_position(
        position_id="p-1",
        exchange="paper",
        direction=direction,
        fills=trades,
        info=NO_STEP,
        opened_at=START,
        signal_id="s-1",
        strategy_id=None,
        stop_loss=None,
        take_profit=None,
    )


def test_a_position_is_read_with_and_without_the_fields_it_has_not_yet() -> None:
    """The book leaves them out; earlier versions wrote them."""
    held = opened((fill("2", "100"),))
    short = msgspec.json.encode(held)
    whole = msgspec.json.encode(msgspec.structs.asdict(held))
    assert b"exit_value" not in short
    assert b"exit_value" in whole
    assert msgspec.json.decode(short, type=Position) == held
    assert msgspec.json.decode(whole, type=Position) == held


def test_opening_by_example() -> None:
    """Two fills, a fee in each of three currencies: averages, sums, and what was received."""
    one = opened(
        (fill("1", "100", "0.1"), fill("3", "104", "0.003", "BTC"), fill("1", "100", "2", "BNB"))
    )
    assert one.entry_price == D("102.4")
    assert one.quantity == one.opened_quantity == D("4.997")  # the base fee came out of it
    assert one.fees == {"USDT": D("0.1"), "BTC": D("0.003"), "BNB": D(2)}
    assert one.fee == D("0.412")  # 0.1 + 0.003 · 104; BNB cannot be converted from the fill
    assert one.realized_pnl == 0
    assert one.symbol == SYMBOL
    assert one.exit_price is None
    assert one.realized_pnl_pct == 0


def test_a_trade_that_cost_in_several_currencies_is_charged_for_all() -> None:
    """Each comes into its own sum; the base one out of what was bought; each is cut in two."""
    trade = _paid(fill("2", "100", "0.1"), {"BTC": D("0.002"), "BNB": D(3)})
    one = opened((trade,))
    assert one.fees == {"USDT": D("0.1"), "BTC": D("0.002"), "BNB": D(3)}
    assert one.quantity == D("1.998")
    assert one.fee == D("0.3")  # 0.1 + 0.002 · 100
    first, rest = split_fills((trade,), D("0.5"))
    assert total_fees(first) == {"USDT": D("0.025"), "BTC": D("0.0005"), "BNB": D("0.75")}
    assert total_fees(rest) == {"USDT": D("0.075"), "BTC": D("0.0015"), "BNB": D("2.25")}


def test_a_short_receives_what_it_sold() -> None:
    """A base fee does not shrink what a short owes."""
    assert opened((fill("2", "100", "0.01", "BTC"),), Direction.SHORT).quantity == 2


def test_closing_by_example() -> None:
    """Bought at 100, sold at 110, 0.1 fee each way: 9.8 earned, which is 9.8%."""
    before = opened((fill("1", "100", "0.1"),))
    after, realized = reduce_position(before, (fill("1", "110", "0.1"),), NO_STEP)
    assert realized == after.realized_pnl == D("9.8")
    assert after.quantity == 0
    assert after.exit_price == 110
    assert after.realized_pnl_pct == D("9.8")
    assert after.fee == D("0.2")
    assert after.opened_quantity == 1


def test_a_partial_close_charges_its_share_of_the_entry_fee() -> None:
    """A quarter sold pays a quarter of the entry's fee; the last piece pays what is left."""
    before = opened((fill("4", "100", "0.4"),))
    quarter, first = reduce_position(before, (fill("1", "110"),), NO_STEP)
    assert first == D("9.9")
    assert quarter.quantity == 3
    assert quarter.entry_fee_open == D("0.3")
    closed, second = reduce_position(quarter, (fill("3", "110"),), NO_STEP)
    assert second == D("29.7")
    assert closed.realized_pnl == D("39.6")
    assert closed.entry_fee_open == 0


@pytest.mark.parametrize(
    ("left", "info", "remains"),
    [
        ("0.00009", PERPETUAL, False),
        ("0.0001", PERPETUAL, True),
        ("0.0499", PERPETUAL, True),  # what only reduces may be worth less than the minimum
        ("0.0499", SPOT, False),
        ("0.05", SPOT, True),  # worth 5 at 100, the minimum
    ],
)
def test_dust_that_cannot_be_traded_counts_as_closed(
    left: str, info: SymbolInfo, remains: bool
) -> None:
    """What is left must not keep the symbol, and a place under the limits, occupied."""
    before = position(quantity=D(1) + D(left))
    after, _ = reduce_position(before, (fill("1", "100"),), info)
    assert (after.quantity > 0) is remains


@settings(max_examples=100, deadline=None)
@given(fills, fills, directions)
def test_two_entries_together_are_what_one_would_have_been(
    first: tuple[Fill, ...], second: tuple[Fill, ...], direction: Direction
) -> None:
    """Every sum of an enlarged position is that of all its fills."""
    before = opened(first, direction)
    assume(before.quantity > 0)  # fees that took all leave no position
    assert enlarge_position(before, second, SPOT) == opened((*first, *second), direction)


@settings(max_examples=100, deadline=None)
@given(fills, quantities)
def test_fills_are_split_without_losing_any(entry: tuple[Fill, ...], quantity: Decimal) -> None:
    """The first part is what was asked for, and both together are the whole, fees included."""
    first, rest = split_fills(entry, quantity)
    bought = total_quantity(entry)
    assert total_quantity(first) == min(quantity, bought)
    assert total_quantity(first) + total_quantity(rest) == bought
    assert total_value(first) + total_value(rest) == total_value(entry)
    assert total_fees((*first, *rest)) == total_fees(entry)
    assert all(fill.quantity > 0 for fill in (*first, *rest))


def test_selling_more_than_is_held_leaves_nothing() -> None:
    """A position is never negative."""
    after, realized = reduce_position(position(), (fill("1.5", "110"),), SPOT)
    assert after.quantity == 0
    assert realized == 15


@settings(max_examples=100, deadline=None)
@given(fills, prices, fees, directions)
def test_profit_is_what_came_in_less_what_went_out(
    entry: tuple[Fill, ...], price: Decimal, fee: Decimal, direction: Direction
) -> None:
    """For a whole close: the change in value less every fee paid in money, to the last digit.

    A fee taken out of the coins that were bought shows in that fewer are sold.
    """
    before = opened(entry, direction)
    assume(before.quantity > 0)
    trade = fill(before.quantity, price, fee)
    after, realized = reduce_position(before, (trade,), NO_STEP)
    assert after.realized == profit_of(entry, (trade,), direction)
    assert realized == after.realized_pnl == shown(after.realized)


def profit_of(entries: tuple[Fill, ...], exits: tuple[Fill, ...], direction: Direction) -> Decimal:
    """Proceeds less cost, less every fee that was not taken out of the coins bought."""
    sign = 1 if direction is Direction.LONG else -1
    _, in_coins = coins_taken(entries, direction, SPOT)
    paid = sum((fee_in_quote(one, SPOT) for one in (*entries, *exits)), ZERO) - in_coins
    return sign * (total_value(exits) - total_value(entries)) - paid


#: A trade as numbers; and where a list of trades is cut into orders.
exits_of = st.lists(st.tuples(quantities, prices, fees), min_size=1, max_size=5)
cuts = st.lists(st.booleans(), min_size=5, max_size=5)


def in_orders(trades: list[Fill], cut: list[bool]) -> list[tuple[Fill, ...]]:
    """The trades in their order, a new order where ``cut`` says so."""
    orders: list[tuple[Fill, ...]] = [()]
    for trade, ends in zip(trades, itertools.cycle(cut), strict=False):
        orders[-1] = (*orders[-1], trade)
        if ends:
            orders.append(())
    return [one for one in orders if one]


def booked(
    entries: list[tuple[Fill, ...]], exits: list[tuple[Fill, ...]], direction: Direction
) -> tuple[Position, Decimal]:
    """The book after orders one by one, and the sum of what its events said was realised."""
    held = opened(entries[0], direction)
    for order in entries[1:]:
        held = enlarge_position(held, order, NO_STEP)
    total = ZERO
    for order in exits:
        held, realized = reduce_position(held, order, NO_STEP)
        total += realized
    return held, total


@settings(max_examples=200, deadline=None)
@given(fills, exits_of, directions, st.randoms(use_true_random=False), cuts, cuts, currencies)
def test_the_book_does_not_depend_on_order_or_partition(
    entry: tuple[Fill, ...],
    pieces: list[tuple[Decimal, Decimal, Decimal]],
    direction: Direction,
    random: Random,
    entry_cuts: list[bool],
    exit_cuts: list[bool],
    currency: str,
) -> None:
    """Fills in any order, in any number of orders: the same book, and the same sum of profits."""
    exits = [fill(*piece, currency, f"x{n}") for n, piece in enumerate(pieces)]
    sold = sum((one.quantity + abs(one.fee) for one in exits), ZERO)
    entries = [*entry, fill(sold + 50, "50", "0.5")]  # there is always enough to sell
    whole, at_once = booked([tuple(entries)], [tuple(exits)], direction)
    random.shuffle(entries)
    random.shuffle(exits)
    parts, total = booked(in_orders(entries, entry_cuts), in_orders(exits, exit_cuts), direction)
    assert parts == whole
    assert total == at_once == whole.realized_pnl
    # ... and the last piece leaves nothing behind.
    rest = fill(whole.quantity, "77.7", "0.1")
    ended, last = reduce_position(parts, (rest,), NO_STEP)
    assert ended.quantity == 0
    assert total + last == ended.realized_pnl == shown(ended.realized)
    if currency != "BTC":
        assert ended.realized == profit_of(tuple(entries), (*exits, rest), direction)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.booleans(), quantities, prices, fees, currencies), max_size=8),
    directions,
)
def test_entries_between_exits_lose_nothing(story: list[Any], direction: Direction) -> None:
    """Whatever was closed in between: in the end the profit is exactly that of all trades."""
    trades = [fill("10", "100", "0.01")]
    held, total = opened((trades[0],), direction), ZERO
    exits: list[Fill] = []
    for enters, quantity, price, fee, currency in story:
        if enters:
            trades.append(fill(quantity, price, fee, currency))
            before = held.realized_pnl
            held = enlarge_position(held, (trades[-1],), SPOT)
            assume(held.quantity > 0)
            assert held.realized_pnl == before  # an entry earns nothing, and undoes nothing
        else:
            money = "USDT" if currency == "BTC" else currency
            part = floor_to(min(quantity, held.quantity / 3), D("0.0001"))
            assume(part > 0)
            exits.append(fill(part, price, fee, money))
            held, realized = reduce_position(held, (exits[-1],), NO_STEP)
            total += realized
    exits.append(fill(held.quantity, "77.7", "0.1"))
    ended, last = reduce_position(held, (exits[-1],), NO_STEP)
    assert ended.realized == profit_of(tuple(trades), tuple(exits), direction)
    assert total + last == ended.realized_pnl
    assert ended.opened_quantity == total_quantity(tuple(exits))
    assert ended.fee == sum(fee_in_quote(one, SPOT) for one in (*trades, *exits))


def test_an_entry_after_an_exit_is_averaged_with_what_is_left() -> None:
    """1 at 100, half of it sold at 110, half bought at 200: what is held cost 150 a unit."""
    half, earned = reduce_position(opened((fill("1", "100"),)), (fill("0.5", "110"),), NO_STEP)
    held = enlarge_position(half, (fill("0.5", "200"),), NO_STEP)
    assert (held.quantity, held.entry_price, held.cost) == (D(1), D(150), D(150))
    assert (held.opened_quantity, held.realized_pnl, earned) == (D("1.5"), D(5), D(5))
    ended, last = reduce_position(held, (fill("1", "150"),), NO_STEP)
    assert (last, ended.realized_pnl, ended.exit_quantity) == (ZERO, D(5), D(1))
    assert ended.exit_price == shown_ratio(D(205), D("1.5"))


def test_thirds_lose_nothing() -> None:
    """Three closes of a third each: the shares are rounded, their sum is not."""
    held, total = opened((fill("3", "100.000000000000000001", "0.1"),)), ZERO
    for _ in range(3):
        held, realized = reduce_position(held, (fill("1", "100"),), NO_STEP)
        total += realized
    assert total == held.realized_pnl == held.realized == D("-0.100000000000000003")


def test_what_a_part_realised_is_written_without_idle_zeros() -> None:
    """The difference of two profits has as many digits as the longer one."""
    held = opened((fill("2", "100"),))
    half, first = reduce_position(held, (fill("1", "110.123456"),), NO_STEP)
    _, second = reduce_position(half, (fill("1", "105"),), NO_STEP)
    assert (str(first), str(second)) == ("10.123456", "5")


@settings(max_examples=100, deadline=None)
@given(quantities, prices, prices, fees)
def test_long_and_short_are_mirror_images(
    quantity: Decimal, first: Decimal, second: Decimal, fee: Decimal
) -> None:
    """What a long earns without fees a short loses; fees hurt both alike."""
    results = []
    for direction in Direction:
        before = opened((fill(quantity, first, fee),), direction)
        results.append(reduce_position(before, (fill(quantity, second, fee),), NO_STEP)[1])
    assert results[0] + results[1] == -4 * fee


@given(st.lists(st.tuples(fees, currencies), max_size=6))
def test_fees_are_summed_by_currency(charged: list[tuple[Decimal, str]]) -> None:
    """Nothing is lost between currencies, and no zero is listed."""
    paid = tuple(fill("1", "100", *one) for one in charged)
    fees_of = total_fees(paid)
    assert sum(fees_of.values()) == sum(one.fee for one in paid)
    assert set(fees_of) == {one.fee_currency for one in paid if one.fee}
    assert all(fees_of.values())


def test_a_rebate_is_a_gain() -> None:
    """A negative fee raises the profit and what was received."""
    before = opened((fill("1", "100", "-0.001", "BTC"),))
    assert before.quantity == D("1.001")
    _, realized = reduce_position(before, (fill("1.001", "100", "-0.1"),), NO_STEP)
    assert realized == D("0.2")


@settings(max_examples=50, deadline=None)
@given(fills, directions)
def test_a_position_survives_the_book(entry: tuple[Fill, ...], direction: Direction) -> None:
    """Written to the ledger as JSON and read back it is the same, to the last digit."""
    one = opened(entry, direction)
    assert msgspec.json.decode(msgspec.json.encode(one), type=Position) == one


# --- corrections by hand ---


@given(fills, directions, quantities, prices)
def test_a_correction_is_a_trade_without_fees(
    entry: tuple[Fill, ...], direction: Direction, quantity: Decimal, price: Decimal
) -> None:
    """Less is what an exit of the difference leaves, more what another entry leaves."""
    before = opened(entry, direction)
    if quantity == before.quantity or before.quantity <= 0:
        return
    after, realized = correct_position(before, quantity, price)
    difference = abs(before.quantity - quantity)
    if quantity < before.quantity:
        assert (after, realized) == reduce_position(before, (fill(difference, price),), NO_STEP)
    else:
        assert (after, realized) == (
            enlarge_position(before, (fill(difference, price),), NO_STEP),
            ZERO,
        )
    assert after.quantity == quantity


def test_a_position_corrected_to_nothing_is_closed() -> None:
    """Its profit is that of the price it went for, less the entry's fee."""
    held = position(entry_fee=D("0.1"), fees={"USDT": D("0.1")})
    after, realized = correct_position(held, ZERO, D(90))
    assert (after.quantity, after.exit_price, realized) == (ZERO, D(90), D("-10.1"))
    assert (after.realized_pnl, after.fees) == (D("-10.1"), {"USDT": D("0.1")})


# --- the wallet is the book ---

fee_currencies = st.sampled_from(["BTC", "USDT", "BNB"])
stories = st.lists(
    st.tuples(
        st.booleans(),
        st.integers(1, 10**6).map(lambda n: D(n).scaleb(-4)),
        st.integers(1, 10**6).map(lambda n: D(n).scaleb(-9)),
        st.integers(-10, 100).map(lambda n: D(n).scaleb(-4)),
        fee_currencies,
    ),
    min_size=1,
    max_size=6,
)


@settings(max_examples=300, deadline=None)
@given(stories, st.sampled_from([SPOT, PERPETUAL]))
def test_the_wallet_is_the_book(story: list[Any], info: SymbolInfo) -> None:
    """Purchases and sales, fees in any coin: what is held is what the exchange's own sums say."""
    info = msgspec.structs.replace(info, quantity_step=D(0), min_quantity=D(0), min_notional=D(0))
    wallet = spent = D(0)
    held: Position | None = None
    for buys, asked, price, rate, currency in [(True, *story[0][1:]), *story[1:]]:
        quantity = asked
        if not buys:
            assert held is not None
            quantity = min(asked, held.quantity / 2)
        fee = quantity * rate * (price if currency == "USDT" else 1)
        trade = (fill(quantity, price, fee, currency),)
        is_coin = info.kind is MarketKind.SPOT and currency == "BTC"
        wallet += (quantity if buys else -quantity) - (fee if is_coin else 0)
        spent += quantity * price * (1 if buys else -1) + (fee if currency == "USDT" else 0)
        if info.kind is not MarketKind.SPOT and currency == "BTC":
            spent += fee * price
        if held is None:
            held = opened_on(info, trade)
        elif buys:
            held = enlarge_position(held, trade, info)
        else:
            held, _ = reduce_position(held, trade, info)
            if not held.quantity:
                return  # all of it went, with the fee
        assert held.quantity == wallet
    assert held is not None
    # Sold at its cost, what is left brings back what was spent, less what was lost, to the digit.
    ended, _ = reduce_position(held, (fill(held.quantity, "1"),), info)
    assert ended.realized == held.quantity - spent


def opened_on(info: SymbolInfo, trade: tuple[Fill, ...]) -> Position:
    """A long position on ``info``."""
    return open_position(
        position_id="p",
        exchange="x",
        direction=Direction.LONG,
        fills=trade,
        info=info,
        opened_at=START,
        signal_id="s",
        strategy_id=None,
        stop_loss=None,
        take_profit=None,
    )


def test_bought_and_half_sold_with_fees_in_the_base_coin() -> None:
    """BNB/USDT, fees in BNB: 10 bought, 5 sold, each with 0.075% in the coin itself."""
    bought = opened_on(SPOT, (fill("10", "100", "0.0075", "BTC"),))
    assert bought.quantity == D("9.9925")
    left, _ = reduce_position(bought, (fill("5", "100", "0.00375", "BTC"),), SPOT)
    assert left.quantity == D("4.98875")


@pytest.mark.parametrize("direction", [Direction.LONG, Direction.SHORT])
def test_no_fee_changes_the_quantity_of_a_derivative(direction: Direction) -> None:
    """The close leaves nothing that nobody books."""
    entry = (fill("10", "100", "0.0075", "BTC"),)
    info = PERPETUAL
    held = msgspec.structs.replace(opened_on(info, entry), direction=direction)
    assert held.quantity == 10
    left, _ = reduce_position(held, (fill("5", "100", "0.00375", "BTC"),), info)
    assert left.quantity == 5


def test_what_the_exchange_does_not_hold_is_closed_with_the_rest() -> None:
    """A wallet a little short of the book."""
    held = opened_on(SPOT, (fill("10", "100"),))
    left, realized = reduce_position(held, (fill("9.99", "110"),), SPOT, D("0.01"))
    assert left.quantity == 0
    assert realized == D("99.9")
