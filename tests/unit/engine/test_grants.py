"""What is in hand: which grant of an entry counts."""

import pytest

from tests.unit.parts import ENTRY_ID
from worker.engine.grants import Grants
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
    """A grant in hand is known; a newer one, or the same one after its loss, is not."""
    grants = Grants()
    custody = grants.take(delivery(2))
    if lost:
        custody.lose()
    assert grants.knows(delivery(token)) is known
    assert custody.is_lost is (lost or not known)


def test_what_was_let_go_leaves_its_doubt_behind() -> None:
    """The doubt of a grant stays after it ends, until no request under it can still arrive."""
    grants = Grants()
    older = grants.take(delivery(1))
    older.doubt(500.0)
    newer = grants.take(delivery(2))
    grants.let_go(older)
    assert grants.held() == [newer]
    assert newer.doubt_until_mono_ms == 500.0
    grants.let_go(newer)
    assert grants.held() == []
    third = grants.take(delivery(3))
    assert third.doubt_until_mono_ms == 500.0
    grants.let_go(third)
    grants.forget_doubts(500.0)
    assert grants.take(delivery(4)).doubt_until_mono_ms is None


def test_the_later_of_two_doubts_counts() -> None:
    """Of the doubts that two grants of an entry left, the later end counts."""
    grants = Grants()
    first = grants.take(delivery(1))
    first.doubt(900.0)
    grants.let_go(first)
    second = grants.take(delivery(2))
    assert second.doubt_until_mono_ms == 900.0
    second.doubt(400.0)
    assert grants.take(delivery(3)).doubt_until_mono_ms == 400.0
