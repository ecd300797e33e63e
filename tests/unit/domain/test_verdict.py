"""What a person may say of an order, and what nobody can have meant."""

import pytest

from worker.ledger.replies import read_verdict


def test_a_verdict_is_read() -> None:
    """Amounts as text."""
    told = read_verdict(b'{"actor":"me","reason":"r","filled":"2","price":"100"}')
    assert told is not None
    assert (str(told.filled), str(told.price)) == ("2", "100")


@pytest.mark.parametrize(
    "raw",
    [
        b"x",
        b"{}",
        b"[" * 4_000,
        b'{"actor":"me","reason":"r","more":1}',
        b'{"actor":"me","reason":"r","filled":"-5","price":"100"}',
        b'{"actor":"me","reason":"r","filled":"NaN","price":"100"}',
        b'{"actor":"me","reason":"r","filled":"1e999999999","price":"100"}',
        b'{"actor":"me","reason":"r","filled":"5","price":"0"}',
        b'{"actor":"me","reason":"r","filled":"5","price":"1","fee":"-1"}',
    ],
)
def test_what_nobody_can_have_meant_is_no_verdict(raw: bytes) -> None:
    """Whoever has the operator's password may write anything there; no worker ends over it."""
    assert read_verdict(raw) is None
