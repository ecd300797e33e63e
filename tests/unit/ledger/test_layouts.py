"""Layouts: what Python encodes and reads has exactly their columns."""

from typing import Any

import msgspec
import pytest

from worker.domain.refusal import Code
from worker.ledger.items import (
    AdmitItem,
    CommitItem,
    RecordEnd,
    admission_arguments,
    outcome_arguments,
)
from worker.ledger.layouts import (
    ADMIT,
    ADMIT_PLAIN,
    COMMIT,
    COMMIT_PLAIN,
    EVENT,
    LAYOUTS,
    AdmissionRow,
    ClaimReply,
    DeadLetterTail,
    DeliveryRow,
    read_row,
    require,
)
from worker.ledger.limit_rows import BOOK, NO_LIMITS, RATE, Kind, LimitRow, Limits, limits_of
from worker.ledger.replies import read_account, read_admission, read_deliveries
from worker.ledger.stored import Record, Reservation, array_start, decode_record, encode_record
from worker.runtime.errors import InvariantError

TAIL = DeadLetterTail(
    reason="malformed", error="no", entry_id="1-0", deliveries="1", worker="w", at="now"
)
PLACES = LimitRow(BOOK, Kind.COUNT, 1, 3, Code.MAX_POSITIONS)
RATE_ROW = LimitRow(RATE, Kind.WINDOW, 1, 5, Code.ORDER_RATE_LIMIT)
#: What the server adds to the record of an admission.
AT_ADMISSION = b"".join(msgspec.msgpack.encode(value) for value in (5, 0, "{}"))


def an_admission(limits: Limits = NO_LIMITS) -> AdmitItem:
    values: dict[str, Any] = {name: f"the {name}" for name in AdmitItem.__struct_fields__}
    return AdmitItem(**(values | {"limits": limits}))


def an_outcome(**fields: Any) -> CommitItem:
    values: dict[str, Any] = {name: f"the {name}" for name in COMMIT}
    record = RecordEnd(state="the state", outcome="the outcome", admitted_at=5)
    return CommitItem(record=record, **(values | {"events": (), "dead": None} | fields))


def as_bytes(text: bytes | str | int) -> bytes:
    assert isinstance(text, bytes)
    return text


def test_every_layout_names_each_column_once() -> None:
    """No layout has a column twice, so a name is one number."""
    for name, columns in LAYOUTS.items():
        assert len(set(columns)) == len(columns) > 0, name


def test_an_admission_is_encoded_in_the_order_of_its_layout() -> None:
    """An encoded admission has the columns of ADMIT in order, and nothing else."""
    columns, _ = an_admission().encode("w")
    assert columns == tuple(f"the {name}" for name in ADMIT_PLAIN)


def test_orders_with_the_same_limits_share_their_rows() -> None:
    """Whatever comes between them: the same object is sent once; a close names none."""
    one, other = limits_of(PLACES, RATE_ROW), limits_of(PLACES)
    orders = [an_admission(limits) for limits in (one, NO_LIMITS, one, other, one)]
    count, *tables, parts, columns = admission_arguments(orders, "w")[:5]
    assert (count, tables, parts) == (2, [one.packed, other.packed], 1)
    unpacked = msgspec.msgpack.decode(array_start(len(ADMIT) * 5) + as_bytes(columns))
    ends = [ADMIT.index("first_limit"), ADMIT.index("last_limit")]
    spans = [[unpacked[len(ADMIT) * n + end] for end in ends] for n in range(5)]
    assert spans == [[0, 5], [0, -5], [0, 5], [10, 10], [0, 5]]


def test_the_rows_of_limits_come_before_the_orders() -> None:
    """Both packed, with how many arguments each takes, also where there is no row."""
    limits = limits_of(PLACES)
    count, packed, orders, _, record = admission_arguments([an_admission(limits)], "w")
    assert (count, orders) == (1, 1)
    assert packed == b"".join(map(msgspec.msgpack.encode, PLACES))
    assert decode_record(as_bytes(record) + AT_ADMISSION).plan == "the plan"
    assert admission_arguments([an_admission()], "w")[:2] == [0, 1]


def test_an_outcome_is_encoded_in_the_order_of_its_layout() -> None:
    """All columns, then those of each event; the JSON travels apart."""
    events = (("orders", "OrderFilled", "e-1", "{}"), ("system", "SystemError", "e-2", "[]"))
    columns, texts = an_outcome(events=events, dead=TAIL).encode("w")
    assert len(columns) == len(COMMIT) + len(EVENT) * 2
    named = dict(zip(COMMIT, columns, strict=False))
    assert {named[name] for name in COMMIT_PLAIN} == {f"the {name}" for name in COMMIT_PLAIN}
    assert named["position"] == "the position"
    assert named["dead"] == TAIL.pairs()
    assert named["events"] == 2
    assert columns[len(COMMIT) :] == (
        "orders",
        "OrderFilled",
        "e-1",
        "system",
        "SystemError",
        "e-2",
    )
    assert texts[1:] == ["{}", "[]"]


def test_a_script_gets_false_where_there_is_no_value() -> None:
    """Lua's nil would leave a gap in the list."""
    columns, _ = an_outcome(position=None).encode("w")
    named = dict(zip(COMMIT, columns, strict=True))
    assert (named["position"], named["dead"]) == (False, False)
    assert None not in columns


def test_the_beginning_of_a_record_has_its_columns() -> None:
    """With the end that the server adds it is the record."""
    _, (begun,) = an_admission().encode("w")
    record = decode_record(begun + AT_ADMISSION)
    assert (record.entry, record.signal, record.plan) == ("the entry", "the signal", "the plan")
    assert (record.admitted_at, record.position, record.ended_at) == (5, "{}", 0)
    _, (ended,) = an_outcome(token=7).encode("w")
    record = decode_record(as_bytes(ended) + msgspec.msgpack.encode(9))
    assert (record.state, record.token, record.outcome) == ("the state", 7, "the outcome")
    assert (record.admitted_at, record.ended_at) == (5, 9)


def test_a_record_of_the_wrong_part_is_none() -> None:
    """A worker encodes the part that its script completes, not a whole record."""
    whole = Record(entry="1-0", signal="s", state="FILLED")
    with pytest.raises(msgspec.MsgspecError):
        decode_record(encode_record(whole) + msgspec.msgpack.encode(9))


def test_the_texts_of_all_items_follow_their_columns() -> None:
    """A packed argument, then a record and the JSON of each event, item by item."""
    events = (("orders", "OrderFilled", "e-1", "{}"),)
    count, _, *texts = outcome_arguments([an_outcome(), an_outcome(events=events)], "w")
    assert (count, len(texts), texts[-1]) == (1, 3, "{}")


def test_a_dead_letter_ends_with_each_name_and_value() -> None:
    """Names too, for people read the stream."""
    assert TAIL.pairs()[:4] == ["reason", "malformed", "error", "no"]
    assert len(TAIL.pairs()) == 2 * len(LAYOUTS["DEAD_LETTER"])


def test_a_reservation_is_the_word_that_is_stored() -> None:
    """The scripts compare it with the same word."""
    assert [kind.value for kind in Reservation] == ["", "opening", "closing", "resting"]


# --- replies of another width ---


@pytest.mark.parametrize(
    "reply", [[[], [0, 0, b"p"], b"0-0", 0], [[], [], [], b"", 0, 0, [], [], 0], b"", None]
)
def test_a_reply_of_another_width_is_refused(reply: Any) -> None:
    """With a sentence that says what it should be and what it is."""
    with pytest.raises(
        InvariantError, match=r"must have the 8 values of ClaimReply \(deliv.*, not "
    ):
        read_row(ClaimReply, reply)


@pytest.mark.parametrize("more", [[], [1, 2]])
def test_a_delivery_of_another_width_is_refused(more: list[int]) -> None:
    """A reply with one column more or less than DELIVERY raises."""
    row = [2, 2, b"", None, 0, None, []]
    wrong = row + more if more else row[:-1]
    with pytest.raises(InvariantError, match=DeliveryRow.__name__):
        read_deliveries(
            [b"1-0", wrong],
            lease_mono_ms=0,
            received_mono_ms=0,
            data_loss_ms=0,
            settled_mono_ms=0,
        )


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ([b"admitted", b"", 0], AdmissionRow.__name__),
        ([b"refused", b"NO_POSITION"], "RefusalRow"),
        (b"perhaps", "cannot be answered with b'perhaps'"),
    ],
)
def test_an_answer_to_an_admission_of_another_width_is_refused(row: Any, complaint: str) -> None:
    """An answer of another width raises, and is never read as a duplicate."""
    with pytest.raises(InvariantError, match=complaint):
        read_admission(row, 0)


def test_an_account_of_another_width_is_refused() -> None:
    """Its numbers have no names, so a wrong one would be shown as another."""
    with pytest.raises(InvariantError, match="AccountReply"):
        read_account([0] * 9, max_waiting=1, max_group_waiting=1)


def test_a_broken_rule_stops_the_program() -> None:
    """A broken rule about layouts raises; the rules are checked on import."""
    with pytest.raises(InvariantError, match="layouts: so it is not"):
        require(False, "so it is not")
