"""Positions of the first stored format, read as sums."""

import json
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.parts import position
from worker.domain.money import ZERO, ratio, shown, shown_ratio
from worker.domain.position import Position, write_off
from worker.domain.position_json import FirstForm, encode_position, in_sums, read_position
from worker.domain.signal import Direction

D = Decimal
OLD: dict[str, Any] = {
    "position_id": "p-1",
    "exchange": "paper",
    "symbol": "BTC/USDT",
    "direction": "long",
    "quantity": "1",
    "opened_quantity": "1",
    "entry_price": "100",
    "opened_at": "2026-01-01T00:00:00Z",
    "signal_id": "s-0",
}

amounts = st.decimals(D("0.0001"), D(1000), places=4)


def _read(**fields: Any) -> Position:
    return read_position(json.dumps(OLD | fields).encode())


def test_todays_form_is_read_as_it_is() -> None:
    """Nothing is worked out from it."""
    held = position(entry_fee=D("0.1"), fees={"USDT": D("0.1")})
    assert read_position(encode_position(held)) == held


def test_a_position_that_nothing_was_sold_of() -> None:
    """Cost, fee and the opener's wishes are there; nothing was earned."""
    held = _read(fee="0.2", entry_fee_open="0.2", fees={"USDT": "0.2"}, stop_loss="98")
    assert (held.quantity, held.cost, held.entry_price) == (D(1), D(100), D(100))
    assert (held.fee, held.fees, held.realized_pnl) == (D("0.2"), {"USDT": D("0.2")}, ZERO)
    assert (held.stop_loss, held.signal_id, held.earlier) == (D(98), "s-0", None)
    assert write_off(held)[1] == D("-0.2")


@pytest.mark.parametrize("direction", Direction)
def test_what_was_sold_of_it_has_earned_what_it_had(direction: Direction) -> None:
    """Half is sold: profit, prices and fees show what they did; the rest is charged its own."""
    sold = {"exit_quantity": "1", "exit_value": "110", "realized_pnl": "9.7"}
    fees = {"fee": "0.4", "entry_fee_open": "0.1", "fees": {"USDT": "0.4"}}
    held = _read(direction=direction.value, opened_quantity="2", **sold, **fees)
    assert (held.realized_pnl, held.fee, held.exit_price) == (D("9.7"), D("0.4"), D(110))
    assert (held.quantity, held.opened_quantity, held.cost) == (D(1), D(2), D(100))
    ended, lost = write_off(held)
    assert (lost, ended.realized_pnl) == (D("-0.1"), D("9.6"))


@given(amounts, amounts, amounts, amounts, st.sampled_from(Direction))
def test_a_rounded_mean_is_undone(
    one: Decimal, other: Decimal, price: Decimal, higher: Decimal, direction: Direction
) -> None:
    """What two purchases cost comes back exactly, although their mean price was rounded."""
    cost = one * price + other * higher
    mean = ratio(cost, one + other)
    whole = {"quantity": str(one + other), "opened_quantity": str(one + other)}
    held = _read(**whole, direction=direction.value, entry_price=str(mean))
    assert held.cost == cost
    assert held.entry_price == shown_ratio(cost, one + other)


def test_what_is_no_position_is_said_by_todays_form() -> None:
    """The message is about what this version writes."""
    with pytest.raises(msgspec.ValidationError, match="unknown field `opened_quantity`"):
        _read(entry_quantity="1")
    with pytest.raises(msgspec.MsgspecError):
        read_position(b'{"held": 1}')


def test_the_recorded_rows_are_read() -> None:
    """Those that the upgrade is rehearsed with, written by the last version of format 1."""
    dump = Path(__file__).parents[2] / "integration" / "fixtures" / "format_1.json"
    for _, row in json.loads(dump.read_text())["{main}:book"]["value"]:
        raw = row[row.index("{") :].encode()
        old = msgspec.json.decode(raw, type=FirstForm)
        held = in_sums(old)
        assert held == read_position(raw)
        assert (held.quantity, held.opened_quantity) == (old.quantity, old.opened_quantity)
        assert (held.entry_price, held.fee) == (shown(old.entry_price), old.fee)
        assert held.realized_pnl == shown(old.realized_pnl)
        ended, _ = write_off(held)
        assert ended.realized_pnl == shown(old.realized_pnl - old.entry_fee_open)


@given(amounts, amounts, st.integers(-3, 3))
def test_a_shown_quotient_is_rounded_once(one: Decimal, other: Decimal, nudge: int) -> None:
    """Half to even at the 18th place, also where the digits after it are a five and many zeros."""
    step = D("1e-18")
    half = shown_ratio(one, other) + step / 2
    numerator = half * other + nudge * D("1e-60")
    exact = Fraction(numerator) / Fraction(other)
    scaled = exact * 10**18
    assert shown_ratio(numerator, other) * 10**18 == round(scaled)
