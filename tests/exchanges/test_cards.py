"""Every card on every exchange."""

import pytest

from tests.exchanges.conftest import Session
from tests.exchanges.seats import Seat, seats

_SEATS = [
    pytest.param(
        seat.venue.name,
        seat,
        id=seat.name,
        marks=[pytest.mark.xfail(reason=seat.pending, strict=True)] if seat.pending else [],
    )
    for seat in seats()
    if not seat.cannot
]


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(("session", "seat"), _SEATS, indirect=["session"], scope="module")
async def test_card(session: Session, seat: Seat) -> None:
    """The adapter does what the card says, and wallet and book agree afterwards."""
    await session.play(seat)
