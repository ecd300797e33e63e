"""Breaking lines to a width: columns stay aligned, numbers whole."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.cli.lines import LEAST_AFTER_HEAD, fitted

_WORDS = st.one_of(
    st.from_regex(r"[a-z]{1,90}", fullmatch=True),
    st.from_regex(r"[a-z]{1,20}=[a-z-]{0,90}", fullmatch=True),
    st.from_regex(r"-?[0-9]{1,20}\.[0-9]{1,18}", fullmatch=True),
    st.from_regex(r"[a-z_]{1,20}=[0-9]{1,18}\.[0-9]{1,12}", fullmatch=True),
    st.just("="),
)


@given(
    words=st.lists(_WORDS, max_size=12),
    width=st.integers(60, 200),
    indent=st.integers(0, 20),
)
def test_no_line_is_longer_and_no_number_is_cut(words: list[str], width: int, indent: int) -> None:
    """Whatever the words: the same text comes out, and every number in one piece."""
    lines = fitted(" ".join(words), width, indent)
    assert all(len(line) <= width for line in lines)
    assert "".join("".join(lines).split()) == "".join(words)
    for number in re.findall(r"(?:^|=)(-?\d[\d.]*)$", "\n".join(words), re.M):
        assert any(number in line for line in lines)


@given(st.text(max_size=300))
def test_without_a_width_a_line_is_whole(text: str) -> None:
    """A pipe has a line an entry."""
    assert fitted(text, None, 4, 10) == [text]


@pytest.mark.parametrize("rest", ["short", "long " * 30])
def test_aligned_columns_stay_or_go_for_all_lines(rest: str) -> None:
    """Whether a line is short or long, its head is like that of the others."""
    head = f"{'12:00:00':<10}{'x':<20}"
    wide = fitted(head + rest, len(head) + LEAST_AFTER_HEAD, 4, len(head))
    assert wide[0].startswith(head)
    narrow = fitted(head + rest, len(head) + LEAST_AFTER_HEAD - 1, 4, len(head))
    assert narrow[0].startswith("12:00:00 x ")
    assert all(line.startswith("    ") for line in (*wide[1:], *narrow[1:]))
