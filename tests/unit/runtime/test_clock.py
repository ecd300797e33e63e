"""Times as they are written."""

import re
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.runtime.clock import rfc3339


@given(st.integers(0, 4_102_444_800_000))
def test_a_written_time_is_the_same_millisecond(ms: int) -> None:
    """RFC 3339 in UTC, always with three digits, so that texts sort as times do."""
    written = rfc3339(ms)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", written)
    assert round(datetime.fromisoformat(written).timestamp() * 1_000) == ms


@pytest.mark.parametrize("ms", [253_402_300_800_000, 2**64 - 1])
def test_a_time_that_no_date_can_tell_is_the_last_moment(ms: int) -> None:
    """An entry's id may claim any time, and is shown all the same."""
    assert rfc3339(ms).startswith("9999-12-31T23:59:59.")
