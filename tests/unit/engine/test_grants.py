"""What is in hand: which grant of an entry counts."""

import pytest

from tests.unit.parts import ENTRY_ID
from worker.engine.grants import InHand
from worker.ledger.replies import Delivery


def delivery(token: int) -> Delivery:
    return Delivery(
        entry_id=ENTRY_ID,
        fields={},
        token=token,
        deliveries=1,
        record=None,
        lease_mono_ms=1_000.0,
        received_mono_ms=0.0,
    )


@pytest.mark.parametrize(
    ("token", "lost", "known"),
    [(1, False, True), (2, False, True), (3, False, False), (1, True, True), (2, True, False)],
)
def test_a_grant_is_known_unless_it_is_newer_or_its_lease_was_lost(
    token: int, lost: bool, known: bool
) -> None:
    """The second grant is in hand; a lost one that is granted again is begun anew."""
    in_hand = InHand()
    lease = in_hand.take(delivery(2))
    lease.lost = lost
    assert in_hand.knows(delivery(token)) is known
    assert lease.lost is (lost or not known)


def test_what_was_let_go_leaves_its_doubt_behind() -> None:
    """Until nothing of it can arrive any more; another grant's end does not."""
    in_hand = InHand()
    older = in_hand.take(delivery(1))
    older.doubt_until_mono_ms = 500.0
    newer = in_hand.take(delivery(2))
    in_hand.let_go(older)
    assert in_hand == {ENTRY_ID: newer}
    assert newer.doubt_until_mono_ms == 500.0
    in_hand.let_go(newer)
    assert in_hand == {}
    assert in_hand.take(delivery(3)).doubt_until_mono_ms == 500.0
    in_hand.let_go(in_hand[ENTRY_ID])
    in_hand.forget_doubts(500.0)
    assert in_hand.take(delivery(4)).doubt_until_mono_ms == 0.0
