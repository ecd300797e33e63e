"""What people and programs read of streams, ages and statuses."""

import json
from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.operator.statuses import GOOD
from worker.cli import wording
from worker.cli.output import screen
from worker.cli.status import banner, render, to_json
from worker.ledger.access import StreamEntry
from worker.operator.attention import needs_attention
from worker.operator.status import Status

_AT = datetime(2026, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC)


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (None, "-"),
        (0, "0 ms"),
        (999, "999 ms"),
        (1_500, "1.5 s"),
        (61_000, "1 min 1 s"),
        (7_260_000, "2 h 1 min"),
        (90_000_000, "1 d 1 h"),
    ],
)
def test_ages_are_said_in_two_units_at_most(ms: int | None, text: str) -> None:
    """An age reads as a person would say it."""
    assert wording.age(ms) == text


@given(data=st.binary(max_size=60), stream=st.sampled_from(["signals", "orders", "dead"]))
def test_any_entry_is_one_line_in_both_forms(data: bytes, stream: str) -> None:
    """Whatever bytes a producer wrote, a line stays one line and the JSON form stays JSON."""
    entry = StreamEntry(stream=stream, id="1-2", fields={"data": data, "type": b"T\x1b[31m"})
    line = wording.one_line(entry, _AT)
    assert line.isprintable()
    assert line.startswith("03:04:05.678")
    shown = json.loads(wording.as_json(entry))
    assert (shown["stream"], shown["entry_id"]) == (stream, "1-2")


def test_json_form_embeds_the_payload_as_it_was() -> None:
    """A payload that is JSON is embedded with its numbers as they were spelt."""
    entry = StreamEntry(stream="orders", id="1-2", fields={"id": b"e", "data": b'{"p": 1.10}'})
    assert wording.as_json(entry) == (
        b'{"stream":"orders","entry_id":"1-2","id":"e","data":{"p":1.10}}'
    )


@pytest.mark.parametrize(
    ("data", "shown"),
    [
        (b"\xff\xfe{", "\\xff\\xfe{"),
        (b'{"symbol": "\xff"}', '{"symbol": "\\xff"}'),
        (b'"caf\xe9"', '"caf\\xe9"'),
        (b"", ""),
    ],
)
def test_json_form_escapes_what_is_no_text(data: bytes, shown: str) -> None:
    """A dead letter may hold any bytes; its line is JSON all the same."""
    fields = {"data": data, "type": b"\xff", "entry_id": b"7-0", "reason": b"malformed"}
    entry = StreamEntry(stream="dead", id="9-1", fields=fields)
    line = json.loads(wording.as_json(entry))
    assert line["data"] == shown
    assert line["type"] == "\\xff"
    assert wording.one_line(entry, _AT).isprintable()


def test_json_form_keeps_a_letters_ids_apart() -> None:
    """Its own id for ``dead show``, and the id its entry had among the signals."""
    entry = StreamEntry(stream="dead", id="9-1", fields={"entry_id": b"7-0", "letter_id": b"mine"})
    assert json.loads(wording.as_json(entry)) == {
        "stream": "dead",
        "letter_id": "9-1",
        "entry_id": "7-0",
        "own_letter_id": "mine",
    }
    entry = StreamEntry(stream="signals", id="9-1", fields={"entry_id": b"x", "stream": b"y"})
    assert json.loads(wording.as_json(entry)) == {
        "stream": "signals",
        "entry_id": "9-1",
        "own_entry_id": "x",
        "own_stream": "y",
    }


def test_a_failure_says_code_and_reason_on_its_line() -> None:
    """The one thing a person looks for is on the line."""
    data = (
        b'{"signal_id":"s1","exchange":"paper","symbol":"A/B",'
        b'"code":"NO_POSITION","reason":"why not"}'
    )
    entry = StreamEntry(stream="orders", id="1-2", fields={"type": b"OrderFailed", "data": data})
    line = wording.one_line(entry, _AT)
    assert line.split()[1:5] == ["OrderFailed", "paper", "A/B", "s1"]
    assert line.endswith('code=NO_POSITION reason="why not"')


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1_023, "1023 B"),
        (1_024, "1.0 KiB"),
        (1_048_576, "1.0 MiB"),
        (2**31, "2048.0 MiB"),
    ],
)
def test_sizes_are_in_binary_units(count: int, text: str) -> None:
    """As bytes, KiB or MiB."""
    assert wording.size(count) == text


def test_a_good_day_needs_nobody() -> None:
    """With everything in order the list is empty and the screen says so."""
    assert needs_attention(GOOD) == []
    console = screen()
    with console.capture() as capture:
        console.print(render(GOOD))
    assert "A C T I V E" in capture.get()
    assert "Nothing needs attention." in capture.get()


def test_the_json_form_has_every_field_and_the_attention_list() -> None:
    """Programs may rely on every field of the status, amounts as text."""
    shown = json.loads(to_json(GOOD))
    assert set(shown) == {*Status.__struct_fields__, "attention"}
    assert shown["exposure"] == {"USDT": "1.5"}
    assert shown["attention"] == []


def test_a_reason_cannot_paint_the_screen() -> None:
    """Markup and escapes in an operator's reason are shown as they are, or not at all."""
    status = msgspec.structs.replace(GOOD, reason="[red]x[/red]\x1b[2J")
    console = screen()
    with console.capture() as capture:
        console.print(banner(status))
    assert "[red]x[/red]" in capture.get()
    assert "\x1b[2J" not in capture.get()
