"""Text made safe to show, in words and in JSON."""

import json
import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from worker.runtime.printable import printable, printable_json

#: Controls (C0, DEL, C1), direction, no width, line ends, tags above U+FFFF.
_HOSTILE = (
    "\x00\x1b\x7f\x80\x9b\x9f\u061c\u200b\u200e\u202a\u202e\u2028\u2029\u2066\u2069\ufeff\U000e0041"
)
_ANY = st.text(st.characters(exclude_categories=()))


def test_every_hostile_character_is_escaped_and_said() -> None:
    """By its number, in as few digits as say it."""
    assert printable("\x1b[2J\x9b2J\u202e\U000e0041") == r"\x1b[2J\x9b2J\u202e\U000e0041"
    assert printable("\ud800") == r"\ud800"
    assert printable("Zürich 東京 😀 a b") == "Zürich 東京 😀 a b"


def test_json_is_escaped_as_json_is() -> None:
    """Two units above U+FFFF, so that any parser reads it."""
    assert printable_json('"\x9b\u202e\U000e0041ü\x7f"'.encode()) == (
        r'"\u009b\u202e\udb40\udc41ü\u007f"'.encode()
    )
    plain = b'{"a":"\\u001b"}'
    assert printable_json(plain) is plain


@given(_ANY)
def test_what_is_printable_stays_and_nothing_else_is_left(text: str) -> None:
    """Also the second time."""
    shown = printable(text + _HOSTILE)
    assert shown.isprintable()
    assert not any(unicodedata.category(c) in {"Cc", "Cf", "Cs", "Zl", "Zp"} for c in shown)
    assert printable(shown) == shown
    if text.isprintable():
        assert printable(text) == text


@given(st.recursive(_ANY, lambda inner: st.lists(inner) | st.dictionaries(_ANY, inner)))
def test_a_program_reads_the_same_json(value: object) -> None:
    """Escapes are another spelling, of keys too."""
    document = json.dumps([value, _HOSTILE], ensure_ascii=False, separators=(",", ":"))
    try:
        encoded = document.encode()
    except UnicodeEncodeError:  # a lone surrogate can only be in a document as an escape
        encoded = json.dumps([value, _HOSTILE], separators=(",", ":")).encode()
    shown = printable_json(encoded)
    assert shown.decode().isprintable()
    assert json.loads(shown) == [value, _HOSTILE]
