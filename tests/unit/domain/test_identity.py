"""Names: pure functions, the same for ever, and in a form every exchange accepts."""

import hashlib
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.domain.identity import (
    account_key,
    client_order_id,
    event_id,
    is_account,
    payload_digest,
)

NAMESPACE = uuid.UUID("6f1f2d7e-90a5-5c57-8a30-3f1c7f2f5b11")


@given(st.text(max_size=40), st.text(max_size=70), st.text(max_size=20))
def test_a_client_order_id_is_a_version_5_uuid(account: str, signal_id: str, leg: str) -> None:
    """It equals the standard library's UUIDv5 of ``account/signal/leg`` in our namespace."""
    expected = uuid.uuid5(NAMESPACE, f"{account}/{signal_id}/{leg}").hex
    assert client_order_id(account, signal_id, leg) == expected


@pytest.mark.parametrize(
    ("account", "signal_id", "leg", "expected"),
    [
        ("main", "sig-1", "entry", "270fbe733b725cb48e10fe9d2f85d0e1"),
        ("main", "sig-1", "exit", "ee84f940d06656aea8988a3539ec7943"),
        ("main", "sig-1", "stop_loss", "35e79275eb1d52f6bf23bc718ce0fcac"),
        ("desk-7", "2026-03-01T12:00:00.000Z:BTC", "entry", "ce8aaedadb44518eae3e06d7f58a59ca"),
    ],
)
def test_client_order_ids_never_change(
    account: str, signal_id: str, leg: str, expected: str
) -> None:
    """These literals are for all time: another id would let a redelivered signal trade again."""
    assert client_order_id(account, signal_id, leg) == expected


def test_legs_accounts_and_signals_have_ids_of_their_own() -> None:
    """No two of them share an id."""
    ids = {
        client_order_id(account, signal_id, leg)
        for account in ("main", "other")
        for signal_id in ("a", "b")
        for leg in ("entry", "exit", "stop_loss", "take_profit")
    }
    assert len(ids) == 16


@given(st.text(max_size=70))
def test_a_client_order_id_fits_every_exchange(signal_id: str) -> None:
    """32 lower-case hex digits: within Binance's 36, OKX's 32, Bybit's 36, Kraken's UUID form."""
    made = client_order_id("main", signal_id, "entry")
    assert len(made) == 32
    assert set(made) <= set("0123456789abcdef")


def test_an_accounts_keys_share_a_hash_tag() -> None:
    """Which is public: producers and consumers write the same names."""
    assert account_key("main", "signals") == "{main}:signals"


def test_event_ids_tell_first_and_further_apart() -> None:
    """The first of a kind has no number, the others theirs."""
    assert event_id("abc", "filled") == "abc-filled"
    assert [event_id("abc", "partial", n) for n in (1, 2)] == ["abc-partial-1", "abc-partial-2"]


@given(st.binary(max_size=200))
def test_a_payload_digest_is_blake2b(data: bytes) -> None:
    """16 bytes of BLAKE2b as hex."""
    assert payload_digest(data) == hashlib.blake2b(data, digest_size=16).hexdigest()


@pytest.mark.parametrize("name", ["main", "a", "0", "desk-7", "a" * 32])
def test_names_an_account_may_have(name: str) -> None:
    """Lower-case letters, digits and inner hyphens, at most 32."""
    assert is_account(name)


@pytest.mark.parametrize("name", ["", "-a", "A", "a" * 33, "a b", "a{b}", "main\n", "ä"])
def test_names_an_account_may_not_have(name: str) -> None:
    """Anything that could break out of the hash tag, or be taken for another key."""
    assert not is_account(name)
