"""``submit`` takes JSON in three forms and changes as little of it as it can."""

import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.cli.signal_input import InputError, parse

_NAMES = st.text(max_size=5)
_PLAIN = st.none() | st.booleans() | st.integers() | _NAMES
# Two levels written out: ``st.recursive`` draws several times as long for nothing more here.
_OBJECTS = st.dictionaries(
    _NAMES,
    _PLAIN | st.lists(_PLAIN, max_size=2) | st.dictionaries(_NAMES, _PLAIN, max_size=2),
    max_size=3,
)


def _data(document: bytes) -> list[bytes]:
    return [item.data for item in parse(document)]


@given(objects=st.lists(_OBJECTS, min_size=1, max_size=2), indent=st.sampled_from([None, 1]))
def test_an_array_gives_its_elements(objects: list[dict[str, object]], indent: int | None) -> None:
    """Each element is one signal with the same content, on one line."""
    found = _data(json.dumps(objects, indent=indent).encode())
    assert [json.loads(data) for data in found] == objects
    assert not any(b"\n" in data for data in found)


@given(objects=st.lists(_OBJECTS, min_size=1, max_size=2), end=st.sampled_from(["", "\n", "\r\n"]))
def test_json_lines_are_kept_byte_for_byte(objects: list[dict[str, object]], end: str) -> None:
    """Spacing inside a line survives; only the line ends go."""
    lines = [json.dumps(one, separators=(" , ", " : ")) for one in objects]
    assert _data(("\n".join(lines) + end).encode()) == [line.encode() for line in lines]


@given(_OBJECTS)
def test_one_object_over_many_lines_is_one_signal(one: dict[str, object]) -> None:
    """A pretty-printed object is compacted into one entry."""
    (data,) = _data(json.dumps(one, indent=2).encode())
    assert json.loads(data) == one


@pytest.mark.parametrize("number", ["1.10", "1e400", "0.1000000000000000000001", "-0.0", "1E+2"])
def test_numbers_keep_their_spelling(number: str) -> None:
    """No float stands between the file and the stream, in any of the three forms."""
    expected = b'{"p":%s}' % number.encode()
    assert _data(b'[\n {"p": %s} ]' % number.encode()) == [expected]
    assert _data(b'{\n "p": %s }' % number.encode()) == [expected]
    assert _data(expected) == [expected]
    assert Decimal(json.loads(expected, parse_float=str, parse_int=str)["p"]) == Decimal(number)


def test_a_broken_line_keeps_its_place() -> None:
    """In JSON Lines what is not JSON is submitted too, and named by its line."""
    items = parse(b'{"a":1}\n\n{broken\n{"b":2}\n')
    assert [item.data for item in items] == [b'{"a":1}', b"{broken", b'{"b":2}']
    assert [item.place for item in items] == ["line 1", "line 3", "line 4"]


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b" \n ",
        b"hello",
        b"{broken",
        b'[{"a":1}',
        b'[{"a":1}] x',
        b'{\n"a": 1,\n}',
        b"\xff\xfe",
    ],
)
def test_what_is_not_json_is_refused_as_a_whole(document: bytes) -> None:
    """A document without a single JSON object is somebody's mistake, not a signal."""
    with pytest.raises(InputError, match="the input is"):
        parse(document)


def test_an_empty_array_holds_no_signals() -> None:
    """Nothing to do is not a mistake."""
    assert parse(b"[]") == []


def test_a_byte_order_mark_is_not_part_of_the_signal() -> None:
    """Files saved by other systems work."""
    assert _data(b'\xef\xbb\xbf{"a":1}\n{"b":2}') == [b'{"a":1}', b'{"b":2}']
