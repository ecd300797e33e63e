"""Tables fit their screen: whole numbers, columns dropped by priority, cards where it is narrow."""

import io
from collections.abc import Sequence
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from worker.cli import lines, wording
from worker.cli.tables import NARROW, Column, Table

COLUMNS = (
    Column("position"),
    Column("quantity", right=True),
    Column("entry", drop=2, right=True),
    Column("opened", drop=3),
    Column("signal", drop=1),
    Column("why", drop=4, least=10),
)
ROW = ("binance BTC/USDT", "0.12345678", "65012.12", "01-02 03:04:05", "s" * 20, "because " * 6)


def drawn(width: int, rows: Sequence[Sequence[str]] = (ROW,)) -> list[str]:
    console = Console(markup=False, width=width)
    with console.capture() as capture:
        console.print(Table(COLUMNS, rows))
    return [line.rstrip() for line in capture.get().splitlines()]


@given(width=st.integers(NARROW, 250))
def test_a_shown_cell_is_whole_on_one_line(width: int) -> None:
    """At any width a column is there with every digit, or it is not there."""
    heading, _, first, *_ = drawn(width)
    for column, cell in zip(COLUMNS[:-1], ROW, strict=False):
        assert (column.name in heading) == (cell in first)
    assert all(len(line) <= width for line in drawn(width))
    assert ROW[0] in first
    assert ROW[1] in first


def test_columns_go_by_priority() -> None:
    """The widest has all, each narrower one lacks those that matter less."""
    table = Table(COLUMNS, [ROW])
    assert [len(table.fitting(width)) for width in (120, 90, 80, 75, 55, 40)] == [6, 6, 5, 4, 3, 2]
    assert table.fitting(55) == (0, 1, 4)
    assert table.fitting(20) == ()


@pytest.mark.parametrize("width", [30, 60, NARROW - 1])
def test_a_narrow_screen_shows_cards_with_everything(width: int) -> None:
    """Every value is there, whole, on its own line with its name."""
    lines = drawn(width, [ROW, ("okx ETH/USDT", "1", "", "", "x", "")])
    assert lines[0] == "binance BTC/USDT"
    assert ["quantity", "0.12345678"] in [line.split() for line in lines]
    assert ["opened", "01-02", "03:04:05"] in [line.split() for line in lines]
    assert "okx ETH/USDT" in lines
    assert sum("entry" in line for line in lines) == 1  # an empty value has no line


@given(length=st.integers(20, 60), cell=st.text("abc", max_size=70))
def test_a_column_that_may_be_folded_takes_no_room_from_the_others(length: int, cell: str) -> None:
    """Short or long: what is beside it is whole or not there."""
    columns = (Column("id", least=16), Column("market"), Column("last", drop=1))
    console = Console(width=NARROW, record=True, file=io.StringIO())
    console.print(Table(columns, [(cell, "m" * length, "1700000000000-0")]))
    shown = console.export_text()
    assert ("1700000000000-0" in shown) is ("last" in shown) is ("170" in shown)
    assert "m" * length in shown


def test_what_cannot_be_dropped_and_does_not_fit_becomes_cards() -> None:
    """Nothing is ever cut."""
    lines = drawn(80, [("x" * 70, "1" * 30, "", "", "", "")])
    assert lines[:2] == ["x" * 70, "  quantity  " + "1" * 30]


def test_a_cell_cannot_paint_the_screen() -> None:
    """Control characters of foreign text are escaped, markup is text."""
    text = "\n".join(drawn(120, [("[red]a\x1b[2J", "1\n2", "", "", "", "")]))
    assert "[red]a\\x1b[2J" in text
    assert "1\\x0a2" in text


@pytest.mark.parametrize(
    ("given_value", "shown"),
    [
        ("65012.10", "65012.10"),
        ("65012.123456789", "65012.1235"),
        ("0.00001234", "0.00001234"),
        ("1E-8", "0.00000001"),
        ("0.000012345678912", "0.0000123456789"),
        ("1234567890123", "1234567890123"),
        ("0", "0"),
        ("33.333333333333333333", "33.3333333"),
    ],
)
def test_a_price_keeps_its_grid_and_an_average_is_rounded(given_value: str, shown: str) -> None:
    """People read ticks; programs read ``--json``."""
    assert wording.price(Decimal(given_value)) == shown


@pytest.mark.parametrize(
    ("given_value", "shown"),
    [
        ("12.3456", "12.35"),
        ("-0.5", "-0.50"),
        ("0", "0.00"),
        ("0E-18", "0.00"),
        ("0.00123456", "0.0012"),
        ("-1234567.891", "-1234567.89"),
        ("0.0912", "0.091"),
        ("0.00000000000000001", "0.000000000000000010"),
    ],
)
def test_money_has_two_digits_that_say_something(given_value: str, shown: str) -> None:
    """Two digits, or the first two of a small amount: a loss is never shown as none."""
    assert wording.money(Decimal(given_value)) == shown


def test_numbers_of_things_are_in_the_right_form() -> None:
    """One close, two closes, no positions."""
    assert wording.count_of(1, "close") == "1 close"
    assert wording.count_of(0, "position") == "0 positions"
    assert wording.count_of(2, "entry", "entries") == "2 entries"


def test_columns_is_honoured_where_output_is_piped() -> None:
    """Whoever pipes may say how wide it is to be; nonsense is ignored."""
    assert lines.screen_width({"COLUMNS": "60"}) == 60
    assert lines.screen_width({"COLUMNS": "wide"}) == lines.screen_width({}) == 160
    assert lines.screen_width({"COLUMNS": "0"}) == 160
