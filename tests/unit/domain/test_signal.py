"""Decoding a signal: every rule of the contract, and a sentence for each breach."""

import json
import re
from datetime import UTC, datetime
from decimal import Decimal
from string import ascii_letters, digits
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.parts import START, document, payload, signal
from worker.domain.signal import (
    MAX_PAYLOAD_BYTES,
    MAX_SENTENCE,
    Action,
    Direction,
    MalformedSignalError,
    OrderType,
    Signal,
    TimeInForce,
    decode_signal,
)

D = Decimal
SIMPLE = settings(max_examples=100, deadline=None)


def refusal(data: bytes) -> str:
    """The sentence ``data`` is refused with."""
    with pytest.raises(MalformedSignalError) as caught:
        decode_signal(data)
    return str(caught.value)


def with_raw(name: str, raw: str | bytes) -> bytes:
    """A valid payload with one more field whose value is written as it stands."""
    text = raw.encode() if isinstance(raw, str) else raw
    return payload()[:-1] + f', "{name}": '.encode() + text + b"}"


# --- what is accepted ---


def test_every_field_of_the_contract_is_read() -> None:
    """A signal that uses all fields decodes to exactly these values."""
    one = signal(
        signal_id="desk-7:2026.03_A",
        order_type="stop_limit",
        time_in_force="GTC",
        entry_price="101.5",
        stop_price=101,
        stop_loss="99.00",
        take_profit=110.25,
        quantity="0.5",
        expires_at="2026-03-01T13:00:00+01:00",
        strategy_id="breakout",
        metadata={"run": 3},
    )
    assert one == Signal(
        signal_id="desk-7:2026.03_A",
        created_at=START,
        exchange="paper",
        symbol="BTC/USDT",
        action=Action.OPEN,
        direction=Direction.LONG,
        strength=0.8,
        confluence_score=7.5,
        order_type=OrderType.STOP_LIMIT,
        time_in_force=TimeInForce.GTC,
        entry_price=D("101.5"),
        stop_price=D(101),
        stop_loss=D("99.00"),
        take_profit=D("110.25"),
        quantity=D("0.5"),
        expires_at=datetime(2026, 3, 1, 12, tzinfo=UTC),
        strategy_id="breakout",
        metadata=msgspec.Raw(b'{"run": 3}'),
    )


def test_only_four_fields_are_needed_to_decode() -> None:
    """What else a kind of signal needs is validation's to say; defaults are the contract's."""
    bare = decode_signal(
        b'{"signal_id":"a","created_at":"2026-03-01T12:00:00Z","exchange":"x","symbol":"A/B"}'
    )
    assert (bare.action, bare.order_type, bare.time_in_force) == ("open", "market", None)
    assert bare.metadata == msgspec.Raw(b"null")
    assert (bare.direction, bare.quantity, bare.expires_at) == (None, None, None)


@SIMPLE
@given(st.decimals(D("1e-18"), D("1e18"), allow_nan=False, allow_infinity=False, places=18))
def test_a_decimal_is_the_same_as_text_and_as_number(value: Decimal) -> None:
    """No binary floating point lies between the wire and the value."""
    as_text, as_number = with_raw("quantity", f'"{value:f}"'), with_raw("quantity", f"{value:f}")
    if value == 0:
        assert refusal(as_text).startswith("quantity: ")
        return
    assert decode_signal(as_text).quantity == decode_signal(as_number).quantity == value


@SIMPLE
@given(st.text(f"{ascii_letters}{digits}._:-", min_size=1, max_size=64))
def test_any_id_of_the_contracts_form_is_accepted(name: str) -> None:
    """``^[A-Za-z0-9._:-]{1,64}$``."""
    assert signal(signal_id=name).signal_id == name


# --- what is refused, with the field's name and the rule in the sentence ---

REFUSED: list[tuple[str, dict[str, Any], str, str]] = [
    ("an empty id", {"signal_id": ""}, "signal_id", "1 to 64 letters"),
    ("a long id", {"signal_id": "a" * 65}, "signal_id", "1 to 64 letters"),
    ("an id with a space", {"signal_id": "a b"}, "signal_id", "1 to 64 letters"),
    ("an id with a line break at its end", {"signal_id": "a\n"}, "signal_id", "line break"),
    ("an id that is a number", {"signal_id": 7}, "signal_id", "7 is not"),
    ("no zone", {"created_at": "2026-03-01T12:00:00"}, "created_at", "with its zone"),
    ("a number for a time", {"created_at": 1772366400}, "created_at", "date and time"),
    ("a date for a time", {"created_at": "2026-03-01"}, "created_at", "date and time"),
    ("no zone in the expiry", {"expires_at": "2026-03-01T12:00:00"}, "expires_at", "with its zone"),
    ("an empty exchange", {"exchange": ""}, "exchange", "1 to 32 characters"),
    ("a huge symbol", {"symbol": "B" * 65}, "symbol", "1 to 64 characters"),
    ("an unknown action", {"action": "buy"}, "action", '"buy"'),
    ("an unknown direction", {"direction": "up"}, "direction", '"up"'),
    ("an unknown order type", {"order_type": "iceberg"}, "order_type", '"iceberg"'),
    ("an unknown time in force", {"time_in_force": "DAY"}, "time_in_force", '"DAY"'),
    ("a strength over 1", {"strength": 1.01}, "strength", "from 0 to 1"),
    ("a strength under 0", {"strength": -0.01}, "strength", "from 0 to 1"),
    ("a strength as text", {"strength": "0.5"}, "strength", '"0.5" is not a number'),
    ("a confluence over 10", {"confluence_score": 10.5}, "confluence_score", "from 0 to 10"),
    ("a confluence under 0", {"confluence_score": -1}, "confluence_score", "from 0 to 10"),
    ("a bool for a number", {"confluence_score": True}, "confluence_score", "true is not"),
    ("a bool for a decimal", {"quantity": True}, "quantity", "true is not"),
    ("a word for a decimal", {"stop_loss": "tight"}, "stop_loss", "decimal"),
    ("a comma in a decimal", {"entry_price": "1,000"}, "entry_price", "decimal"),
    ("zero", {"quantity": 0}, "quantity", "greater than 0"),
    ("minus zero", {"quantity": "-0"}, "quantity", "greater than 0"),
    ("a negative price", {"take_profit": "-5"}, "take_profit", "greater than 0"),
    ("a negative size", {"size_pct": -1}, "size_pct", "greater than 0"),
    ("a number too large to be real", {"quantity": "1e19"}, "quantity", "1e18"),
    ("a number too fine to be real", {"entry_price": "1e-19"}, "entry_price", "1e-18"),
    ("a number without end", {"entry_price": "1." + "1" * 40}, "entry_price", "40 digits"),
    ("a misspelt stop", {"stop_los": "99"}, "stop_los", "did you mean stop_loss?"),
    ("a list for metadata", {"metadata": [1]}, "metadata", "JSON object"),
    ("text for metadata", {"metadata": "{"}, "metadata", "JSON object"),
    ("a number for metadata", {"metadata": 5}, "metadata", "JSON object"),
    ("a long strategy", {"strategy_id": "s" * 129}, "strategy_id", "at most 128 characters"),
]


@pytest.mark.parametrize(
    ("fields", "field", "rule"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED]
)
def test_a_breach_is_refused_with_its_field_and_its_rule(
    fields: dict[str, Any], field: str, rule: str
) -> None:
    """The producer can tell from the sentence what to change."""
    sentence = refusal(payload(**fields))
    assert field in sentence
    assert rule in sentence


@pytest.mark.parametrize(
    ("field", "choices"),
    [
        ("action", "open, close"),
        ("direction", "long, short"),
        ("order_type", "market, limit, stop, stop_limit"),
        ("time_in_force", "GTC, GTD, IOC, FOK"),
    ],
)
def test_what_a_field_may_be_is_told(field: str, choices: str) -> None:
    """Where it is one of a few things, whatever the type of the wrong value."""
    for wrong in ('"up"', "7", '["up"]'):
        data = payload(**{field: None})[:-1] + f', "{field}": {wrong}}}'.encode()
        assert refusal(data) == f"{field}: {wrong} is not one of {choices}"


@pytest.mark.parametrize("name", ["signal_id", "created_at", "exchange", "symbol"])
def test_a_missing_required_field_is_named(name: str) -> None:
    """An absent required field is named in the refusal."""
    assert name in refusal(json.dumps(document(**{name: None})).encode())


NOT_FINITE = ["NaN", "sNaN", "Infinity", "-Infinity", "nan", "-inf"]


@pytest.mark.parametrize("value", NOT_FINITE)
@pytest.mark.parametrize("field", ["entry_price", "stop_loss", "quantity", "size_pct"])
def test_a_decimal_must_be_finite(field: str, value: str) -> None:
    """Text that Python's Decimal takes for NaN or infinity is no number here."""
    assert refusal(payload(**{field: value})).startswith(f"{field}: ")


@pytest.mark.parametrize("literal", ["NaN", "Infinity", "-Infinity", "nan", "1e", "0x10", "01"])
def test_a_number_outside_jsons_grammar_is_refused(literal: str) -> None:
    """A literal such as ``NaN`` makes the whole payload no JSON."""
    assert "not a JSON object" in refusal(with_raw("quantity", literal))
    assert not FOREIGN.search(refusal(with_raw("quantity", literal)))


def test_a_number_that_overflows_is_refused() -> None:
    """``1e400`` is neither infinity nor a quantity; for a float it is out of range."""
    assert refusal(with_raw("quantity", "1e400")).startswith("quantity: 1E+400 is outside")
    strength = payload(strength=None)[:-1] + b', "strength": 1e400}'
    assert refusal(strength) == "strength: 1e400 is not a number from 0 to 1"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00",
        b"null",
        b"[]",
        b'"text"',
        b"17",
        b"{",
        b"{'signal_id': 'a'}",
        payload() + b"x",
        payload() + payload(),
        b"\xef\xbb\xbf" + payload(),
        payload().decode().encode("utf-16"),
        b"[" * 60_000,
        with_raw("metadata", "[" * 30_000 + "]" * 30_000),
        with_raw("strategy_id", b'"\xff\xfe"'),
        with_raw("strategy_id", b'"\x01"'),
        with_raw("strategy_id", b'"\\ud800"'),
    ],
    ids=range(17),
)
def test_what_is_not_a_json_object_is_refused_whole(data: bytes) -> None:
    """Broken, nested without end, or in another encoding: one sentence about ``data``."""
    assert refusal(data).startswith("data: not a JSON object: ")
    assert not FOREIGN.search(refusal(data))


def test_a_payload_has_a_largest_size() -> None:
    """64 KiB is still read; a byte more is refused by its size without being parsed."""
    whole = payload()
    fitting = whole + b" " * (MAX_PAYLOAD_BYTES - len(whole))
    assert decode_signal(fitting) == decode_signal(whole)
    assert refusal(fitting + b" ") == "data: 65537 bytes is more than the 65536 a signal may have"


def test_metadata_has_a_largest_size() -> None:
    """4 KiB as written, counted in bytes."""
    room = 4_096 - len('{"note": ""}')
    fitting = signal(metadata={"note": "x" * room})
    assert len(bytes(fitting.metadata)) == 4_096
    assert refusal(payload(metadata={"note": "x" * (room + 1)})).startswith("metadata: 4097 bytes")


@pytest.mark.parametrize("raw", [b'{"a": "\xff"}', b'{"\xc3": 1}', b'{"a": {"b": "\xed\xa0\x80"}}'])
def test_metadata_that_could_not_be_written_into_an_event_is_refused(raw: bytes) -> None:
    """Metadata is passed on as it stands, so it must be text that can be passed on."""
    assert refusal(with_raw("metadata", raw)).startswith("metadata: ")


def test_metadata_is_kept_byte_for_byte() -> None:
    """Its own spacing and the order of its keys survive; only the space around it goes."""
    raw = '{"b" : 1.10,  "a": [ 1e5, "\\u00e9é" ]}'
    assert bytes(decode_signal(with_raw("metadata", f"  {raw} ")).metadata) == raw.encode()


@pytest.mark.parametrize("space", ["", " ", "\n\t"])
@pytest.mark.parametrize("name", ["strength", "direction", "signal_id", "metadata"])
def test_a_field_given_twice_is_refused(name: str, space: str) -> None:
    """Which of the two is meant nobody can tell, however the text is spaced."""
    value = json.dumps(document(metadata={"a": {}})[name])
    again = f'{{"{name}"{space}:{value},'.encode() + payload(metadata={"a": {}})[1:]
    assert refusal(again) == f"{name}: given more than once"


@SIMPLE
@given(st.text(alphabet='":,{}\\a ', max_size=12), st.sampled_from([(",", ":"), (" , ", " : ")]))
def test_no_text_looks_like_a_field_given_twice(text: str, separators: tuple[str, str]) -> None:
    """Neither in a value, nor as a name within ``metadata``, where names are the producer's own."""
    whole = document(strategy_id=text, metadata={text: {"signal_id": text}, "signal_id": 1})
    one = decode_signal(json.dumps(whole, separators=separators).encode())
    assert one.strategy_id == text


def test_a_field_given_twice_beside_metadata_without_end_is_refused() -> None:
    """What is nested too deeply to be looked through is not taken on trust."""
    deep = '{"a":' * 600 + "1" + "}" * 600
    data = payload()[:-1] + b', "symbol": "A/B", "metadata": ' + deep.encode() + b"}"
    assert "symbol: given more than once" in refusal(data) or "nested too deeply" in refusal(data)


@pytest.mark.parametrize(
    "written", ['"65_000"', '" 65000 "', '"65000 "', '"\u0666\u0665"', '"6\\u0035"']
)
def test_a_number_is_written_in_ascii(written: str) -> None:
    """As the published schema has it; Python's own reading of numbers is more generous."""
    assert refusal(with_raw("entry_price", written)).startswith("entry_price: ")


@pytest.mark.parametrize(
    "written", ['"65000"', "65000", '"6.5e4"', "6.5E+4", '"+65000.00"', "65000.0"]
)
def test_a_number_may_be_written_as_json_or_text(written: str) -> None:
    """All of them are the same price."""
    assert decode_signal(with_raw("entry_price", written)).entry_price == 65_000


@SIMPLE
@given(st.binary(max_size=200) | st.text(max_size=80).map(str.encode))
def test_nothing_but_a_refusal_comes_of_noise(data: bytes) -> None:
    """Whatever the bytes, decoding ends in a refusal whose sentence is not empty."""
    assert ": " in refusal(data)


#: Words of the library's own texts, which speak of Python.
FOREIGN = re.compile(
    r"Expected|got `|`|regex|\$\.|malformed|codec|Invalid|Object (miss|cont)|>=|<="
)


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(sorted(document(quantity=1, metadata={}, expires_at="x", stop_los=1))),
    st.none() | st.booleans() | st.integers() | st.text("aé\n\x7f\u202e", max_size=90),
)
def test_no_refusal_speaks_the_librarys_language(field: str, value: Any) -> None:
    """A sentence says in words which field, what it is, and what it must be; on one line."""
    sentence = f"{field}: "
    try:
        decode_signal(json.dumps(document(**{field: value}), ensure_ascii=False).encode())
    except MalformedSignalError as error:
        sentence = str(error)
    assert sentence.startswith(f"{field}: ")
    assert not FOREIGN.search(sentence)
    assert len(sentence) < 200


def test_a_long_value_is_cut_and_a_repeated_one_not_guessed() -> None:
    """What is shown of a value is short, and it is the value that is wrong."""
    assert refusal(with_raw("symbol", json.dumps("B" * 9_000))).count("B") < 80
    twice = b'{"strength": "x", "strength": 1, ' + payload()[1:]
    assert refusal(twice) == "strength: not a number from 0 to 1"


def test_a_missing_field_is_named_with_its_rule() -> None:
    """The first one that is missing, and what it must be."""
    assert refusal(b"{}").startswith("signal_id: it is missing, and must be 1 to 64 letters")


names = st.text(max_size=5)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
flat_values = scalars | st.lists(scalars, max_size=3) | st.dictionaries(names, scalars, max_size=3)
json_values = (
    flat_values
    | st.lists(flat_values, max_size=3)
    | st.dictionaries(names, flat_values, max_size=3)
)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(sorted(document(quantity=1, metadata={}, expires_at="x"))), json_values)
def test_any_value_in_any_field_is_taken_or_refused(field: str, value: Any) -> None:
    """No value crashes the decoder; what is taken reads the same when written again."""
    try:
        decoded = decode_signal(json.dumps(document(**{field: value})).encode())
    except MalformedSignalError:
        return
    assert decode_signal(msgspec.json.encode(decoded)) == decoded


# --- derived values ---


def test_a_signal_expires_when_it_says_or_by_its_age() -> None:
    """``expires_at`` wins; else ``created_at`` and the configured age."""
    one, said = signal(), signal(expires_at="2026-03-01T12:00:05Z")
    assert one.created_ms == START.timestamp() * 1000
    assert one.expires_ms(one.created_ms, 30_000) == one.created_ms + 30_000
    assert said.expires_ms(said.created_ms, 30_000) == one.created_ms + 5_000


def test_the_end_of_time_is_no_trap() -> None:
    """A created_at whose age no date can state does not crash the worker."""
    late = signal(created_at="9999-12-31T23:59:59Z")
    assert late.expires_ms(late.created_ms, 30_000) > late.created_ms


def test_the_digest_ignores_what_is_not_content() -> None:
    """White space and the order of keys, in metadata too, make no other signal."""
    fields = document(metadata={"a": 1, "b": {"d": 2, "c": 3}}, quantity="1.5")
    turned = dict(reversed(fields.items()))
    turned["metadata"] = {"b": {"c": 3, "d": 2}, "a": 1}
    one = decode_signal(json.dumps(fields).encode())
    other = decode_signal(json.dumps(turned, indent=2).encode())
    assert one.digest() == other.digest()


@pytest.mark.parametrize(
    "change",
    [
        {"quantity": "1.6"},
        {"direction": "short"},
        {"metadata": {"a": 2}},
        {"stop_loss": "1"},
        {"created_at": "2026-03-01T12:00:01Z"},
        {"good_till": "2026-03-01T12:00:01Z"},
        {"post_only": True},
    ],
)
def test_the_digest_tells_different_content_apart(change: dict[str, Any]) -> None:
    """Any change of content is another signal."""
    base: dict[str, Any] = {"quantity": "1.5", "metadata": {"a": 1}}
    assert signal(**base).digest() != signal(**(base | change)).digest()


@pytest.mark.parametrize(
    ("fields", "digest"),
    [
        ({}, "a1ded7b1f473a686f15f92268cfd42c6"),
        (
            {
                "order_type": "limit",
                "entry_price": "100",
                "time_in_force": "IOC",
                "metadata": {"b": 1, "a": 2},
            },
            "f5db4c36ee9a69243fd1268fb360f716",
        ),
    ],
)
def test_the_digest_is_the_one_of_older_versions(fields: dict[str, Any], digest: str) -> None:
    """A signal that was sent before an upgrade is a repetition after it, not a conflict."""
    assert signal(**fields).digest() == digest
    assert signal(**fields, good_till=None, post_only=False).digest() == digest


def test_fields_that_older_versions_lack_are_written_only_if_used() -> None:
    """An older worker reads the record of any signal that does not use them."""
    new = {"good_till", "post_only"}
    unused = json.loads(signal().written())
    assert unused.keys() == set(Signal.__struct_fields__) - new
    for used in ({"good_till": "2026-03-01T13:00:00Z"}, {"post_only": True}):
        assert json.loads(signal(**used).written()).keys() == set(Signal.__struct_fields__)
        assert signal(**used).digest() != signal().digest()


def test_what_metadata_holds_is_written_as_it_is() -> None:
    """Even where it looks like a field of the signal."""
    for fields in ({}, {"post_only": True}):
        data = payload(**fields)[:-1] + b',"metadata":{"good_till":null,"post_only":false,"a":1}}'
        one = decode_signal(data)
        assert one.written().endswith(b'"metadata":{"good_till":null,"post_only":false,"a":1}}')


def test_a_signal_is_not_sent_after_its_order_would_have_ended() -> None:
    """``good_till`` bounds the expiry, whichever of both comes first."""
    early, late = signal(good_till="2026-03-01T12:00:05Z"), signal(good_till="2030-01-01T00:00:00Z")
    assert early.expires_ms(early.created_ms, 30_000) == early.created_ms + 5_000
    assert late.expires_ms(late.created_ms, 30_000) == late.created_ms + 30_000
    assert early.good_till_ms() == early.created_ms + 5_000
    assert signal().good_till_ms() == 0


@SIMPLE
@given(
    st.decimals(D("0.00001"), D(10**6), places=5),
    st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5), max_size=3),
)
def test_the_digest_survives_being_recorded(quantity: Decimal, metadata: dict[str, Any]) -> None:
    """A successor that reads the signal back from the record computes the same digest."""
    one = signal(quantity=str(quantity), metadata=metadata)
    again = msgspec.json.decode(msgspec.json.encode(one), type=Signal)
    assert again == one
    assert again.digest() == one.digest()


LONG = "9" * 60_000


@pytest.mark.parametrize(
    "fields",
    [
        {"x" * 60_000: 1},
        {"action": "z" * 60_000},
        {"entry_price": "9" * 60_000},
        {"signal_id": "s" * 60_000},
        {"entry_price": "NaN" + "9" * 60_000},
        {"\x9b" * 9_000: 1},
    ],
)
def test_what_is_said_of_a_payload_is_short(fields: dict[str, Any]) -> None:
    """However much of it is quoted: the sentence goes into a log and a dead letter."""
    with pytest.raises(MalformedSignalError) as caught:
        decode_signal(json.dumps(document() | fields).encode())
    assert len(str(caught.value)) <= MAX_SENTENCE


def test_a_name_given_twice_is_told_shortly() -> None:
    """Also one in a text that msgspec reads."""
    one = json.dumps(document())[:-1]
    data = f'{one},"metadata":{{}},"metadata":{{"{"y" * 3_000}":1}}}}'.encode()
    with pytest.raises(MalformedSignalError, match=r"^metadata: given more than once$"):
        decode_signal(data)
