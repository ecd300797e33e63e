"""A short run of the fuzz of replies on every exchange; ``tests/fuzz/replies.py`` runs longer."""

import pytest

from tests.exchanges.venues import VENUES
from tests.fuzz.replies import fuzz


@pytest.mark.parametrize("venue", sorted(VENUES))
async def test_nothing_hostile_in_a_reply_is_booked_or_taken_for_an_answer(venue: str) -> None:
    """One place of a reply at a time: an error of the adapter's own, or a report that can be."""
    assert await fuzz(VENUES[venue], "short", turns=100) == 100
