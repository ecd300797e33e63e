"""The table of order states: what is legal is pinned, all else raises."""

import inspect
import itertools
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.parts import D, fill
from worker.domain import order
from worker.domain.order import (
    TERMINAL,
    TRANSITIONS,
    Fact,
    IllegalTransitionError,
    OrderState,
    Side,
    advance,
    average_price,
    fact_of,
    opening_side,
)
from worker.domain.signal import Direction

#: Rows are states, columns facts, in the order of the enum; "." cannot happen.
TABLE = """
                  sent      accepted         triggered        part_filled      filled cancelled rejected expired failed lost
PENDING           SUBMITTED .                .                .                .      .         .        .       FAILED .
SUBMITTED         SUBMITTED ACTIVE           TRIGGERED        PARTIALLY_FILLED FILLED CANCELLED REJECTED EXPIRED FAILED UNRESOLVED
ACTIVE            .         ACTIVE           TRIGGERED        PARTIALLY_FILLED FILLED CANCELLED REJECTED EXPIRED .      .
TRIGGERED         .         TRIGGERED        TRIGGERED        PARTIALLY_FILLED FILLED CANCELLED REJECTED EXPIRED .      .
PARTIALLY_FILLED  .         PARTIALLY_FILLED PARTIALLY_FILLED PARTIALLY_FILLED FILLED CANCELLED .        EXPIRED .      .
FILLED            .         .                FILLED           .                FILLED .         .        .       .      .
CANCELLED         .         .                .                CANCELLED        FILLED CANCELLED .        .       .      .
REJECTED          .         .                .                .                .      .         REJECTED .       .      .
EXPIRED           .         .                .                EXPIRED          FILLED .         .        EXPIRED .      .
FAILED            .         .                .                .                .      .         .        .       FAILED .
UNRESOLVED        SUBMITTED ACTIVE           TRIGGERED        PARTIALLY_FILLED FILLED CANCELLED REJECTED EXPIRED FAILED UNRESOLVED
"""  # noqa: E501 (a table)


def pinned() -> dict[tuple[OrderState, Fact], OrderState | None]:
    head, *rows = [line.split() for line in TABLE.strip().splitlines()]
    return {
        (OrderState(row[0]), Fact(fact)): None if cell == "." else OrderState(cell)
        for row in rows
        for fact, cell in zip(head, row[1:], strict=True)
    }


PINNED = pinned()


def test_the_pinned_table_is_complete() -> None:
    """Every state meets every fact."""
    assert set(PINNED) == set(itertools.product(OrderState, Fact))


@pytest.mark.parametrize(("pair", "after"), PINNED.items(), ids=str)
def test_every_pair_of_state_and_fact(
    pair: tuple[OrderState, Fact], after: OrderState | None
) -> None:
    """A legal pair leads to the pinned state, any other raises and names both."""
    if after is not None:
        assert advance(*pair) is after
        return
    with pytest.raises(IllegalTransitionError, match=rf"'{pair[1]}' cannot follow {pair[0]}"):
        advance(*pair)


def test_every_row_has_its_reason() -> None:
    """A legal transition says in a few words, on its line, why it is one."""
    rows = re.findall(r"^    \(_S\.\w+, Fact\.\w+\): .*$", inspect.getsource(order), re.MULTILINE)
    assert len(rows) == len(TRANSITIONS)
    for row in rows:
        assert re.search(r"  # \w+,? \w+", row), row


def test_nothing_leaves_a_terminal_state_but_a_late_fill() -> None:
    """A cancelled or expired order may turn out filled; nothing else comes back to life."""
    leaving = {
        (state, fact, after)
        for (state, fact), after in TRANSITIONS.items()
        if state in TERMINAL and after is not state
    }
    assert leaving == {
        (OrderState.CANCELLED, Fact.FILLED, OrderState.FILLED),
        (OrderState.EXPIRED, Fact.FILLED, OrderState.FILLED),
    }


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from(Fact), max_size=12))
def test_an_order_that_traded_never_looks_untraded(facts: list[Fact]) -> None:
    """No sequence of facts leads from a fill back to a state without one."""
    state, traded = OrderState.PENDING, False
    for fact in facts:
        try:
            state = advance(state, fact)
        except IllegalTransitionError:
            continue
        traded = traded or fact in {Fact.PART_FILLED, Fact.FILLED}
        if traded:
            assert state not in {OrderState.PENDING, OrderState.SUBMITTED, OrderState.FAILED}
            assert state not in {OrderState.ACTIVE, OrderState.REJECTED, OrderState.UNRESOLVED}
            assert state is not OrderState.TRIGGERED


def test_a_state_is_terminal_or_can_still_end() -> None:
    """From every state that is not terminal some fact leads to one that is."""
    for state in set(OrderState) - TERMINAL:
        reachable = {after for (before, _), after in TRANSITIONS.items() if before is state}
        assert reachable & TERMINAL


def test_every_state_an_exchange_reports_is_a_fact() -> None:
    """The states of our own making are no exchange's to report."""
    ours = {OrderState.PENDING, OrderState.FAILED, OrderState.UNRESOLVED}
    for state in set(OrderState) - ours:
        known = OrderState.ACTIVE if state is OrderState.SUBMITTED else state
        assert advance(OrderState.SUBMITTED, fact_of(state)) is known
    for state in ours:
        with pytest.raises(KeyError):
            fact_of(state)


def test_sides_are_opposites() -> None:
    """A long opens with a buy, a short with a sell; each undoes the other."""
    assert opening_side(Direction.LONG) is Side.BUY
    assert opening_side(Direction.SHORT) is Side.SELL
    assert [side.opposite for side in Side] == [Side.SELL, Side.BUY]


def test_the_average_price_is_weighted_by_quantity() -> None:
    """Three at 10 and one at 20 cost 12.5 on average; nothing costs nothing."""
    assert average_price((fill("3", "10"), fill("1", "20"))) == D("12.5")
    assert average_price((fill("0.1", "7.77"),)) == D("7.77")
    assert average_price(()) is None
