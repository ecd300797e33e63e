"""Exact arithmetic: grids are never overstepped, and text is plain."""

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.domain.money import ZERO, ceil_to, floor_to, ratio, rounded_text, text, tidy

D = Decimal
values = st.decimals(D("-1e15"), D("1e15"), places=18)
positive = st.decimals(D("1e-12"), D("1e15"), places=12)
steps = st.sampled_from([D(10) ** -n for n in range(13)] + [D("0.25"), D("0.3"), D(5), D(1000)])


@given(values, steps)
def test_floor_is_the_next_multiple_below(value: Decimal, step: Decimal) -> None:
    """On the grid, not above the value, and less than a step below it."""
    exact = Fraction(value) // Fraction(step) * Fraction(step)
    assert Fraction(floor_to(value, step)) == exact


@given(values, steps)
def test_ceiling_mirrors_floor(value: Decimal, step: Decimal) -> None:
    """The smallest multiple not below a value is the negated floor of its negation."""
    assert ceil_to(value, step) == floor_to(value.copy_negate(), step).copy_negate()


@given(values, steps)
def test_rounding_twice_changes_nothing(value: Decimal, step: Decimal) -> None:
    """What is on the grid stays where it is."""
    low, high = floor_to(value, step), ceil_to(value, step)
    assert floor_to(low, step) == ceil_to(low, step) == low
    assert floor_to(high, step) == ceil_to(high, step) == high
    assert low <= value <= high


@given(values)
def test_a_step_of_zero_is_no_grid(value: Decimal) -> None:
    """Exchanges state 0 where there is no rule."""
    assert floor_to(value, ZERO) == ceil_to(value, ZERO) == value


@pytest.mark.parametrize("digits", [27, 28, 29, 39])
def test_many_nines_are_not_rounded_up_to_the_next_step(digits: int) -> None:
    """A quotient that any fixed precision would round up still counts as below the step."""
    assert floor_to(D("0." + "9" * digits), D("0.1")) == D("0.9")
    assert floor_to(D("2." + "9" * digits), D("0.3")) == D("2.7")
    assert ceil_to(D("1." + "0" * digits + "1"), D(1)) == 2


any_digits = st.builds(
    lambda n, e: D(n).scaleb(e), st.integers(-(10**40), 10**40), st.integers(-60, 5)
)


@given(any_digits)
def test_tidy_drops_zeros_only(value: Decimal) -> None:
    """Every other digit stays."""
    neat = tidy(value)
    assert neat == value
    assert neat.as_tuple().digits[-1:] != (0,) or neat == 0


@given(any_digits)
def test_a_shown_amount_has_eighteen_digits_at_most(value: Decimal) -> None:
    """Rounded half-even at the end: off by at most half of the eighteenth digit, and plain."""
    shown = rounded_text(value)
    assert abs(Fraction(D(shown)) - Fraction(value)) <= Fraction(5, 10**19)
    assert len(shown.partition(".")[2]) <= 18
    assert set(shown) <= set("-0123456789.")
    assert shown != "-0"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("0.0000000000000000015", "0.000000000000000002"),
        ("0.0000000000000000025", "0.000000000000000002"),
        ("12345678901234567890.5", "12345678901234567890.5"),
        ("1E-14", "0.00000000000001"),
    ],
)
def test_shown_amounts_by_example(value: str, shown: str) -> None:
    """Half-even at the eighteenth digit; what has fewer stays as it is."""
    assert rounded_text(D(value)) == shown


@given(values, positive)
def test_a_ratio_is_a_rounded_quotient(numerator: Decimal, denominator: Decimal) -> None:
    """Off by no more than a part in 10^49."""
    exact = Fraction(numerator) / Fraction(denominator)
    assert abs(Fraction(ratio(numerator, denominator)) - exact) <= abs(exact) / 10**49


@given(
    values | st.builds(lambda n, e: D(n).scaleb(e), st.integers(-999, 999), st.integers(-40, 40))
)
def test_text_is_plain_and_exact(value: Decimal) -> None:
    """No exponent, and it reads back as the same number."""
    shown = text(value)
    assert set(shown) <= set("-0123456789.")
    assert D(shown) == value


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("1E+3", "1000"),
        ("1E-8", "0.00000001"),
        ("0.10", "0.10"),
        ("-2.5E-7", "-0.00000025"),
        ("0", "0"),
    ],
)
def test_text_by_example(value: str, shown: str) -> None:
    """What the events show."""
    assert text(D(value)) == shown


@pytest.mark.parametrize("value", ["0", "-0", "0E-20", "-1e-21", "1e-21"])
def test_nothing_is_shown_as_a_plain_zero(value: str) -> None:
    """Neither a sign nor digits are left of an amount that rounds to nothing."""
    assert rounded_text(tidy(D(value))) == "0"
