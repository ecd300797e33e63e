"""Signatures: whatever is altered, the signature no longer fits; keys open what they are for."""

import hashlib
import hmac
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from worker.domain.signature import (
    SignatureError,
    Signatures,
    Signer,
    SigningKey,
    check_scope,
    is_key_id,
    is_signal_id_pattern,
    shared_signal_ids,
    sign,
    signed_bytes,
    signed_fields,
)

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SECRET = b"0123456789abcdef0123456789abcdef"
KEY = SigningKey(key_id="k-1", secret=SECRET, strategies=("*",))
DATA = b'{"signal_id": "s-1", "quantity": "1"}'
_SAFE = st.text("abcdefghijklmnopqrstuvwxyz0123456789-", min_size=1, max_size=8)
PARTS = st.fixed_dictionaries(
    {
        "account": _SAFE,
        "key_id": _SAFE,
        "key": st.binary(max_size=12) | st.sampled_from([b"1\n", b"\n1\nx", b"0\n\n"]),
        "data": st.binary(max_size=24) | st.sampled_from([b"1\n", b"\n1\nx"]),
    }
)


def signatures(
    *keys: SigningKey, required: bool = True, account: str = "main", now: datetime = NOW
) -> Signatures:
    return Signatures(account=account, keys=keys, required=required, now=lambda: now)


def entry(key: SigningKey = KEY) -> dict[bytes, bytes]:
    signed = signed_fields({"data": DATA}, account="main", key_id=key.key_id, secret=key.secret)
    return {name.encode(): value for name, value in signed.items()}


def refusal(fields: dict[bytes, bytes], **options: Any) -> str:
    with pytest.raises(SignatureError) as caught:
        signatures(*options.pop("keys", [KEY]), **options).key_of(fields)
    return str(caught.value)


def test_it_is_plain_hmac_sha256_over_documented_lines() -> None:
    """Written out by hand: what a producer in any other language has to do."""
    message = b"execution-worker.signal.v1\nmain\nk-1\n11\nbinance:ETH\n" + DATA
    expected = hmac.new(SECRET, message, hashlib.sha256).hexdigest()
    fields = _grouped(b"binance:ETH")
    assert fields[b"signature"].decode() == expected
    assert fields[b"key_id"] == b"k-1"
    assert fields[b"data"] == DATA
    assert signatures(KEY).key_of(fields) is KEY


def _grouped(group: bytes) -> dict[bytes, bytes]:
    signed = signed_fields(
        {"data": DATA, "key": group}, account="main", key_id="k-1", secret=SECRET
    )
    return {name.encode(): value for name, value in signed.items()}


def test_a_signer_signs_with_its_key_or_changes_nothing() -> None:
    """What both the client and the commands put on the stream."""
    entry = {"data": DATA, "key": b"g"}
    signed = Signer("main", "k-1", SECRET.decode()).sign(entry)
    assert signed == signed_fields(entry, account="main", key_id="k-1", secret=SECRET)
    none = Signer("main")
    assert (none.sign(entry), bool(none)) == (entry, False)


def test_this_format_never_changes() -> None:
    """A fixed example: producers out there have computed the same."""
    fixed = "6d27ecd5a4d4deeb021375db58d8bac21d3a760c1e58a6a31ba60d3cce96d6f6"
    assert sign(SECRET, account="main", key_id="k-1", key=b"", data=DATA) == fixed


@given(PARTS, PARTS)
def test_no_two_entries_are_signed_alike(one: dict[str, Any], other: dict[str, Any]) -> None:
    """What is signed tells every part: nothing can be moved from one field into another."""
    assume(one != other)
    assert signed_bytes(**one) != signed_bytes(**other)


@given(data=st.binary(max_size=200), group=st.binary(max_size=40), draw=st.data())
def test_an_altered_byte_anywhere_is_noticed(data: bytes, group: bytes, draw: Any) -> None:
    """In payload, group, key id or signature: changed, added or removed."""
    signed = signed_fields(
        {"data": data, "key": group}, account="main", key_id="k-1", secret=SECRET
    )
    fields = {name.encode(): value for name, value in signed.items()}
    assert signatures(KEY).key_of(fields) is KEY
    name = draw.draw(st.sampled_from([b"data", b"key", b"key_id", b"signature"]))
    altered = bytearray(fields[name])
    place = draw.draw(st.integers(0, len(altered)))
    if place < len(altered) and draw.draw(st.booleans()):
        altered[place] ^= draw.draw(st.integers(1, 255))
    elif place < len(altered) and draw.draw(st.booleans()):
        del altered[place]
    else:
        altered.insert(place, draw.draw(st.integers(0, 255)))
    with pytest.raises(SignatureError):
        signatures(KEY, required=False).key_of(fields | {name: bytes(altered)})


@given(st.binary(min_size=1, max_size=64))
def test_another_secret_makes_another_signature(secret: bytes) -> None:
    """Only the configured secret opens."""
    assume(secret != SECRET)
    other = msgspec.structs.replace(KEY, secret=secret)
    assert "not made with key" in refusal(entry(key=other))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({b"signature": None, b"key_id": None}, "not signed"),
        ({b"signature": None}, "signature: signature and key_id come together"),
        ({b"key_id": None}, "key_id: signature and key_id come together"),
        ({b"key_id": b"k-2"}, "no key 'k-2' is configured"),
        ({b"key_id": b""}, "no key '' is configured"),
        ({b"key_id": b"\xff" * 1_000}, "no key "),
        ({b"signature": b""}, "not 64 lower-case hex digits"),
        ({b"signature": b"A" * 64}, "not 64 lower-case hex digits"),
        ({b"signature": b"0" * 64 + b"\n"}, "not 64 lower-case hex digits"),
        ({b"signature": b"0" * 64}, "not made with key 'k-1'"),
        ({b"data": None}, "not made with key 'k-1'"),
        ({b"key": b"binance:BTC/USDT"}, "not made with key 'k-1'"),
    ],
)
def test_what_is_not_well_signed_is_named(change: dict[bytes, bytes | None], says: str) -> None:
    """The message names the field; it never says what would have been right."""
    changed = entry() | change
    fields = {name: value for name, value in changed.items() if value is not None}
    told = refusal(fields)
    assert says in told
    assert len(told) < 300
    assert entry()[b"signature"].decode() not in told


def test_an_account_believes_only_what_was_meant_for_it() -> None:
    """The same entry on another account's stream is worth nothing."""
    assert "this account" in refusal(entry(), account="other")


def test_an_empty_group_is_no_group() -> None:
    """As the ledger has it: both are grouped by exchange and symbol."""
    assert entry()[b"signature"] == _grouped(b"")[b"signature"]


def test_unsigned_is_let_through_only_where_it_may_be() -> None:
    """No signature and none required: no key is named, nothing is checked."""
    assert signatures(KEY, required=False).key_of({b"data": DATA}) is None
    assert signatures(required=False).key_of({b"data": DATA}) is None


@pytest.mark.parametrize(
    ("offset_s", "good"), [(-1, False), (0, True), (59, True), (60, False), (61, False)]
)
def test_a_key_is_good_for_its_time(offset_s: int, good: bool) -> None:
    """From ``not_before`` on, until just before ``not_after``."""
    key = msgspec.structs.replace(KEY, not_before=NOW, not_after=NOW + timedelta(seconds=60))
    at = NOW + timedelta(seconds=offset_s)
    if good:
        assert signatures(key, now=at).key_of(entry()) is key
    else:
        assert "is not good" in refusal(entry(), keys=[key], now=at)


def test_keys_are_replaced_one_by_one() -> None:
    """Both are good while producers move over; then the old one ends, the new one stays."""
    old = msgspec.structs.replace(KEY, not_after=NOW + timedelta(hours=1))
    new = SigningKey(key_id="k-2", secret=b"n" * 32, strategies=("*",))
    for at, allowed in [(NOW, {"k-1", "k-2"}), (NOW + timedelta(hours=2), {"k-2"})]:
        seen = set()
        for key in (old, new):
            try:
                found = signatures(old, new, now=at).key_of(entry(key=key))
            except SignatureError:
                continue
            assert found is key
            seen.add(key.key_id)
        assert seen == allowed


@pytest.mark.parametrize(
    ("patterns", "strategy", "covered"),
    [
        (("*",), None, True),
        (("*",), "anything", True),
        (("trend-*",), "trend-7", True),
        (("trend-*",), "trend-", True),
        (("trend-*",), "trend", False),
        (("trend-*",), "Trend-7", False),
        (("trend-*",), None, False),
        (("a", "b"), "b", True),
        (("a", "b"), "ab", False),
        (("a*c",), "a*c", True),
        (("a*c",), "abc", False),
        (("[ab]",), "a", False),
    ],
)
def test_a_key_signs_for_its_strategies(
    patterns: tuple[str, ...], strategy: str | None, covered: bool
) -> None:
    """Exact ids, or beginnings with ``*`` at the end; nothing else is a pattern."""
    key = msgspec.structs.replace(KEY, strategies=patterns)
    assert key.covers(strategy) is covered
    if covered:
        check_scope(key, strategy, "s-1")
    else:
        with pytest.raises(SignatureError, match="may not sign for"):
            check_scope(key, strategy, "s-1")


@pytest.mark.parametrize(
    ("patterns", "signal_id", "allowed"),
    [
        (("*",), "s-1", True),
        (("alpha-*",), "alpha-1", True),
        (("alpha-*",), "alpha-", True),
        (("alpha-*",), "alpha", False),
        (("alpha-*",), "Alpha-1", False),
        (("alpha-*",), "beta-alpha-1", False),
        (("alpha-*", "once"), "once", True),
        (("once",), "once-more", False),
    ],
)
def test_a_key_signs_only_its_signal_ids(
    patterns: tuple[str, ...], signal_id: str, allowed: bool
) -> None:
    """Exact ids, or beginnings; also for a strategy that the key is for."""
    key = msgspec.structs.replace(KEY, signal_ids=patterns)
    assert key.may_use(signal_id) is allowed
    if allowed:
        check_scope(key, "trend", signal_id)
    else:
        with pytest.raises(
            SignatureError, match=f"^signal_id: key 'k-1' may not sign '{signal_id}'"
        ):
            check_scope(key, "trend", signal_id)


@pytest.mark.parametrize(
    ("pattern", "is_one"),
    [
        ("*", True),
        ("alpha-*", True),
        ("A.b_c:d-1", True),
        ("x" * 64, True),
        ("x" * 63 + "*", True),
        ("", False),
        ("x" * 65, False),
        ("x" * 64 + "*", False),
        ("*-alpha", False),
        ("a*b", False),
        ("a**", False),
        ("alpha-?", False),
        ("[ab]*", False),
        ("alpha *", False),
        ("alpha\n", False),
        ("\xe9*", False),
    ],
)
def test_a_pattern_of_signal_ids_could_match_one(pattern: str, is_one: bool) -> None:
    """A pattern that no signal id can match is a mistake."""
    assert is_signal_id_pattern(pattern) is is_one


_PATTERNS = st.lists(st.text("ab", max_size=3).map(lambda t: t + "*") | st.text("ab", min_size=1,
    max_size=3), min_size=1, max_size=3).map(tuple)  # fmt: skip
_IDS = [a + b + c + d for a in "ab" for b in ("", *"ab") for c in ("", *"ab") for d in ("", *"ab")]


@given(_PATTERNS, _PATTERNS)
def test_shared_ids_are_those_that_both_keys_may_sign(
    first: tuple[str, ...], second: tuple[str, ...]
) -> None:
    """Told exactly where there is such an id; never of two keys of the same strategies."""
    one = msgspec.structs.replace(KEY, strategies=("one",), signal_ids=first)
    two = msgspec.structs.replace(KEY, key_id="k-2", strategies=("two",), signal_ids=second)
    shared = any(one.may_use(name) and two.may_use(name) for name in _IDS)
    assert bool(list(shared_signal_ids([one, two]))) is shared
    same = msgspec.structs.replace(two, strategies=("one",))
    assert list(shared_signal_ids([one, same])) == []


def test_a_key_never_shows_its_secret() -> None:
    """Neither alone nor in a container that is logged."""
    assert "0123" not in f"{KEY!r} {[KEY]} {KEY}"


@pytest.mark.parametrize(
    ("name", "good"),
    [("k", True), ("trend-2026_b", True), ("", False), ("K", False), ("a--b", False),
     ("a\n", False), ("a" * 32, True), ("a" * 33, False), ("-a", False)],
)  # fmt: skip
def test_key_ids(name: str, good: bool) -> None:
    """Lower-case words joined by single signs: they fit TOML keys and variables."""
    assert is_key_id(name) is good
