"""Events: the fields of the contract, decimals as plain text, and codes that explain themselves."""

import json
import re
from decimal import Decimal
from typing import Any, get_args

import msgspec
import pytest

from tests.unit.parts import START
from worker.domain import event as events
from worker.domain.event import (
    STREAM_OF,
    TERMINAL_EVENTS,
    CloseReason,
    Event,
    ExchangeTime,
    Header,
    OperatorAction,
    OrderCancelled,
    OrderFacts,
    OrderFailed,
    OrderFilled,
    OrderPartiallyFilled,
    OrderPlaced,
    PositionChanged,
    PositionClosed,
    PositionOpened,
    ReconciliationCompleted,
    Severity,
    SignalCompleted,
    SystemError,  # noqa: A004 (its public name)
    TradingStateChanged,
    payload_struct,
    terminal_event,
)
from worker.domain.event_text import check_parts, encode, share
from worker.domain.money import maybe_text
from worker.domain.order import Role, Side
from worker.domain.refusal import CancelCode, Code, Stage
from worker.domain.signal import Action, Direction, OrderType

COMMON: dict[str, Any] = {
    "occurred_at": START,
    "account": "main",
    "exchange": "paper",
    "symbol": "BTC/USDT",
    "signal_id": "s-1",
    "strategy_id": None,
    "worker": "w-1",
    "metadata": msgspec.Raw(b'{"a" : 1}'),
}
PLACED: dict[str, Any] = {
    "client_order_id": "c",
    "exchange_order_id": "x",
    "role": Role.ENTRY,
    "side": Side.BUY,
    "order_type": OrderType.LIMIT,
    "quantity": "1",
    "price": "100",
    "attempts": 1,
    "parent": None,
}
TIMED: dict[str, Any] = {"exchange_time": START}
TRADED: dict[str, Any] = {
    "filled_quantity": "1",
    "average_price": "100",
    "fee": "0.1",
    "fee_currency": "USDT",
    "fees": {"USDT": "0.1"},
}
POSITION: dict[str, Any] = {
    "position_id": "p",
    "direction": Direction.LONG,
    "quantity": "1",
    "entry_price": "100",
}
EXAMPLES: list[Event] = [
    OrderPlaced(**TIMED),
    OrderPartiallyFilled(
        last_quantity="1",
        last_price="100",
        filled_quantity="1",
        average_price="100",
    ),
    OrderFilled(**TRADED, slippage_bps="1", slippage_exceeded=False, latency_ms=4),
    OrderCancelled(**TRADED, code=CancelCode.REQUESTED, reason="asked for"),
    OrderFailed(
        stage=Stage.RISK,
        code=Code.MAX_POSITIONS,
        reason="all taken",
        retriable=True,
        attempts=0,
        role=Role.EXIT,
    ),
    SignalCompleted(action=Action.CLOSE, result="a resting entry was ended", target="s-0"),
    PositionOpened(**POSITION, stop_loss="98", take_profit=None, fee="0.1"),
    PositionChanged(**POSITION, realized_pnl="-0.5", reason="reduced"),
    PositionClosed(
        **POSITION,
        exit_price="110",
        realized_pnl="9.8",
        realized_pnl_pct="9.8",
        fee="0.2",
        fees={"USDT": "0.2"},
        opened_at=START,
        closed_at=START,
        close_reason=CloseReason.SIGNAL,
    ),
    SystemError(component="execution", code="X", reason="r", severity=Severity.CRITICAL),
    TradingStateChanged(
        trading_state="HALTED",
        previous="ACTIVE",
        reason="drill",
        actor="me",
        before="ACTIVE",
        after="HALTED",
    ),
    OperatorAction(
        action="halt",
        subject="trading_state",
        actor="me",
        reason="drill",
        before="HALTED",
        after="HALTED",
    ),
    ReconciliationCompleted(checked_positions=2, drift=("one",)),
]

#: What every event of a placed order says.
OF_AN_ORDER = (
    "client_order_id exchange_order_id role side order_type quantity price attempts parent "
    "exchange_time"
)
#: What contract.md, section 3, lists for each type, beside the common fields.
CONTRACT = {
    "OrderPlaced": OF_AN_ORDER,
    "OrderPartiallyFilled": f"{OF_AN_ORDER} last_quantity last_price filled_quantity average_price",
    "OrderFilled": f"{OF_AN_ORDER} filled_quantity average_price fee fee_currency slippage_bps "
    "latency_ms terminal",
    "OrderCancelled": f"{OF_AN_ORDER} filled_quantity reason code terminal",
    "OrderFailed": "stage code reason retriable attempts client_order_id role parent terminal",
    "SignalCompleted": "action result target terminal",
    "PositionOpened": "position_id direction quantity entry_price stop_loss take_profit fee",
    "PositionChanged": "quantity entry_price realized_pnl reason",
    "PositionClosed": "exit_price quantity realized_pnl realized_pnl_pct fee opened_at closed_at "
    "close_reason",
    "SystemError": "component code reason severity",
}
STREAMS = {"Order": "orders", "Signal": "orders", "Position": "positions"}
BY_NAME = {type(one).__name__: one for one in EXAMPLES}
PARTS = {Header: COMMON, OrderFacts: PLACED, ExchangeTime: TIMED}
one_each = pytest.mark.parametrize("one", EXAMPLES, ids=BY_NAME)


def encoded(one: Event) -> tuple[str, str, str, str]:
    """An example with the parts its kind shares."""
    parts = (share(part(**PARTS[part])) for part in type(one).parts)  # type: ignore[arg-type]
    return encode(one, "e-1", ",".join(parts))


def test_every_event_has_an_example() -> None:
    """A new kind of event is checked here too."""
    assert {type(one) for one in EXAMPLES} == set(STREAM_OF)


@one_each
def test_an_event_has_the_fields_of_the_contract(one: Event) -> None:
    """Every common field and every listed one is in the JSON, null where there is no value."""
    stream, kind, identity, data = encoded(one)
    said = json.loads(data)
    common = set(COMMON) | {"type", "event_id"}
    assert common <= set(said)
    assert set(CONTRACT.get(kind, "").split()) <= set(said)
    assert said["type"] == kind == type(one).__name__
    assert said["event_id"] == identity == "e-1"
    prefix = next((stream for name, stream in STREAMS.items() if kind.startswith(name)), "system")
    assert stream == prefix


@one_each
def test_an_event_reads_back_as_itself(one: Event) -> None:
    """Encoding loses nothing: the parts' fields, then its own, and no others."""
    read = msgspec.json.decode(encoded(one)[3], type=payload_struct(type(one)), strict=True)
    own = {name: getattr(one, name) for name in one.__struct_fields__}
    parts = [PARTS[part] for part in type(one).parts]
    expected = {"event_id": "e-1", **{k: v for part in parts for k, v in part.items()}, **own}
    assert {name: getattr(read, name) for name in read.__struct_fields__} == expected
    assert list(json.loads(encoded(one)[3])) == ["type", *expected]


@one_each
def test_an_event_carries_metadata_untouched_and_times_with_their_zone(one: Event) -> None:
    """Metadata stays byte for byte; times are RFC 3339 in UTC."""
    data = encoded(one)[3]
    assert '"metadata":{"a" : 1}' in data
    assert '"occurred_at":"2026-03-01T12:00:00Z"' in data


def test_events_of_any_kind_can_be_read_as_one_union() -> None:
    """``type`` tells them apart, which is how a consumer reads a stream."""
    union = msgspec.json.Decoder(tuple_union(payload_struct(kind) for kind in STREAM_OF))
    read = [union.decode(encoded(one)[3]) for one in EXAMPLES]
    assert [type(one).__name__ for one in read] == list(BY_NAME)


def tuple_union(kinds: Any) -> Any:
    whole: Any = None
    for kind in kinds:
        whole = kind if whole is None else whole | kind
    return whole


class Nothing(Event, kw_only=True, frozen=True):
    """Adds no field of its own."""


class Sparse(Event, kw_only=True, frozen=True, omit_defaults=True):
    """May leave its only field out."""

    note: str = ""


class Repeating(Event, kw_only=True, frozen=True):
    """Has a field that the header has."""

    symbol: str


class Tagged(Event, kw_only=True, frozen=True, tag=True):
    """Would state its type twice."""

    note: str


@pytest.mark.parametrize("kind", [Nothing, Sparse, Repeating, Tagged])
def test_an_event_whose_text_could_not_be_joined_is_refused(kind: type[Event]) -> None:
    """Joining members with commas needs one at least in each part, and no name twice."""
    with pytest.raises(TypeError, match=kind.__name__):
        check_parts(kind)


def test_decimals_are_text_without_an_exponent() -> None:
    """The declared form of a decimal admits no exponent, and ``maybe_text`` makes none."""
    pattern = re.compile(get_args(events.DecimalText)[1].pattern)
    for value in ("1E+3", "1E-12", "-2.50", "0", "1e20"):
        shown = maybe_text(Decimal(value))
        assert shown is not None
        assert pattern.fullmatch(shown)
        assert Decimal(shown) == Decimal(value)
    assert maybe_text(None) is None
    assert pattern.fullmatch("1E+3") is None


def test_four_events_end_a_signal() -> None:
    """Filled, cancelled, failed, completed: every decoded signal has one of these, exactly once."""
    assert {kind.__name__ for kind in TERMINAL_EVENTS} == {
        "OrderFilled",
        "OrderCancelled",
        "OrderFailed",
        "SignalCompleted",
    }


@one_each
def test_only_the_end_of_a_signal_says_terminal(one: Event) -> None:
    """The four that may end a signal say so by themselves; no other type has the field."""
    said = json.loads(encoded(one)[3])
    assert said.get("terminal") is (True if type(one) in TERMINAL_EVENTS else None)


@one_each
def test_a_terminal_event_is_told_from_the_others(one: Event) -> None:
    """By what it says; one of an older worker, which does not say it, by its type."""
    _, kind, _, data = encoded(one)
    said = json.loads(data)
    is_end = type(one) in TERMINAL_EVENTS
    assert terminal_event(kind, data.encode()) == (said if is_end else None)
    older = {name: value for name, value in said.items() if name != "terminal"}
    assert terminal_event(kind, json.dumps(older).encode()) == (older if is_end else None)
    another = json.dumps(said | {"terminal": False}).encode()
    assert terminal_event(kind, another) is None


@pytest.mark.parametrize("code", CancelCode)
def test_a_code_of_a_cancelled_order_explains_itself(code: CancelCode) -> None:
    """Upper snake case, and a sentence of its own."""
    assert code.value == code.name == str(code)
    assert code.meaning.endswith(".")


def test_a_fee_that_is_not_known_yet_is_null() -> None:
    """A position is opened by its first fill, whose fee the exchange may tell later."""
    event = PositionOpened(**POSITION, stop_loss=None, take_profit=None, fee=None)
    assert json.loads(encoded(event)[3])["fee"] is None


@pytest.mark.parametrize("code", Code)
def test_a_code_explains_itself(code: Code) -> None:
    """Upper snake case, and a sentence of its own."""
    assert re.fullmatch(r"[A-Z][A-Z_]+", code)
    assert code.value == code.name == str(code)
    assert code.meaning.endswith(".")
    assert len(code.meaning) > 15
    assert isinstance(code.retriable, bool)


def test_meanings_are_not_shared() -> None:
    """Two codes that mean the same would be one."""
    assert len({code.meaning for code in Code}) == len(Code)


def test_codes_read_back_from_their_text() -> None:
    """The ledger sends them as text."""
    assert all(Code[str(code)] is code for code in Code)
