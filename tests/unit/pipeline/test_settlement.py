"""What is written for each end of a signal: the sequence of events, the book, the dead letter."""

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.parts import (
    ENTRY_ID,
    PERPETUAL,
    SPOT,
    START,
    START_MS,
    SYMBOL,
    D,
    ManualClock,
    admitted_order,
    custody,
    fill,
    order_request,
    position,
    report,
    signal,
)
from worker.config.keys import RiskConfig
from worker.domain.fees import total_fees
from worker.domain.identity import client_order_id
from worker.domain.market import SymbolInfo
from worker.domain.money import millionths
from worker.domain.order import Fill, OrderState, Role, Side, average_price
from worker.domain.order_events import cancel_code, why_ended
from worker.domain.position import Position
from worker.domain.refusal import CancelCode, Code, DeadReason, Refusal, Stage
from worker.domain.signal import OrderType, TimeInForce
from worker.domain.verdict import Verdict
from worker.ledger.items import CommitItem
from worker.pipeline.flow import (
    AdmittedOrder,
    Failed,
    Malformed,
    MaybeSent,
    NeverSent,
    Repeated,
    SentBefore,
    Settlement,
    Told,
    Unresolved,
)
from worker.pipeline.settlement import SettlementWriter
from worker.pipeline.sizing import Sizing

ENTRY_CLIENT_ID = client_order_id("main", "s-1", "entry")
EXIT_CLIENT_ID = client_order_id("main", "s-1", "exit")
CLOSE: dict[str, Any] = {"action": "close", "direction": None}
DAY_MS = 86_400_000
MARKET_ORDER: dict[str, Any] = {}
RESTING: dict[str, Any] = {
    "order_type": OrderType.LIMIT, "price": D(100), "time_in_force": TimeInForce.GTC,
}  # fmt: skip
MAKES: dict[str, Any] = {"post_only": True}
AT_ONCE = RESTING | {"time_in_force": TimeInForce.IOC}


class Desk:
    """A settlement writer, and settlements for it to write down."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.custody = custody(token=3)
        self.writer = SettlementWriter(
            account="main",
            worker="w-1",
            sizing=Sizing(RiskConfig(), account="main"),
            max_slippage_pct=D(1),
            max_life_ms=DAY_MS,
            clock=self.clock,
        )

    def order(
        self,
        *,
        held: Position | None = None,
        joins: bool = False,
        quantity: str = "2",
        works: Mapping[str, Any] = MARKET_ORDER,
        info: SymbolInfo = SPOT,
        reference: str | None = "100",
        **fields: Any,
    ) -> AdmittedOrder:
        opens = held is None or joins
        buys = (fields.get("direction") != "short") is opens
        request = order_request(
            client_order_id=ENTRY_CLIENT_ID if opens else EXIT_CLIENT_ID,
            role=Role.ENTRY if opens else Role.EXIT,
            side=Side.BUY if buys else Side.SELL,
            quantity=D(quantity),
            reduce_only=not opens,
            **works,
        )
        return admitted_order(
            request,
            signal=signal(**({} if opens else CLOSE) | fields),
            info=info,
            reference=reference,
            position=held,
            reserved=200_000_000 if opens else 0,
        )

    def settled(
        self,
        state: OrderState,
        *fills: Fill,
        reason: str = "",
        attempts: int = 1,
        cancelled_for: CancelCode | None = None,
        sent_before: SentBefore | None = None,
        created_ms: int = START_MS,
        told: Told | None = None,
        **order: Any,
    ) -> CommitItem:
        admitted = self.order(**order)
        if sent_before is not None:
            admitted = msgspec.structs.replace(admitted, sent_before=sent_before)
        end = Settlement(
            order=admitted,
            report=report(
                state, *fills, reason=reason, filled_quantity=D(0), created_ms=created_ms
            )(admitted.request),
            fills=fills,
            filled=sum((one.quantity for one in fills), D(0)),
            average_price=average_price(fills),
            fees=total_fees(fills),
            attempts=attempts,
            cancelled_for=cancelled_for,
            told=told,
        )
        return self.writer.settled(end, self.custody).item


def told(item: CommitItem) -> list[dict[str, Any]]:
    """The events' JSON, checked against what their stream entries say."""
    events = []
    for stream, kind, identity, data in item.events:
        event = json.loads(data)
        assert (event["type"], event["event_id"]) == (kind, identity)
        assert stream == ("orders" if kind.startswith("Order") else "positions")
        assert event["signal_id"] == "s-1"
        assert (event["account"], event["worker"]) == ("main", "w-1")
        events.append(event)
    return events


def kinds(item: CommitItem) -> list[str]:
    return [kind for _, kind, _, _ in item.events]


def booked(item: CommitItem) -> Position:
    assert item.position
    return msgspec.json.decode(item.position, type=Position)


# --- entries ---


def told_part(quantity: str) -> Told:
    """What events have told of a resting entry so far: a part, with fees by estimate."""
    return Told(ENTRY_ID, D(quantity), D(100), position(quantity=D(quantity)))


def test_the_end_of_a_resting_entry_corrects_the_position_under_an_id_of_its_own() -> None:
    """The estimate told the same filled quantity before; its trades have another fee."""
    item = Desk().settled(
        OrderState.CANCELLED, fill("1", "100", "0.002", "BTC"), works=RESTING, told=told_part("1")
    )
    assert "PositionOpened" not in kinds(item)
    (changed,) = (event for event in told(item) if event["type"] == "PositionChanged")
    assert changed["event_id"] == f"{ENTRY_CLIENT_ID}-changed-end"
    assert changed["quantity"] == "0.998"


def test_a_position_that_was_told_stays_one_however_small_it_turns_out() -> None:
    """It is held, and counts for the exposure, as its trades say."""
    info = msgspec.structs.replace(SPOT, min_quantity=D(1))
    item = Desk().settled(
        OrderState.CANCELLED,
        fill("1", "100", "0.002", "BTC"),
        works=RESTING,
        told=told_part("1"),
        info=info,
    )
    assert booked(item).quantity == D("0.998")
    assert item.exposure == 99_800_000 - 200_000_000  # in place of what was reserved
    assert kinds(item)[-1] == "PositionChanged"


def test_an_entry_filled_whole_in_one_trade() -> None:
    """Placed, filled, opened; the book holds the position and its exposure."""
    item = Desk().settled(OrderState.FILLED, fill("2", "101", "0.2"), attempts=2)
    placed, filled, opened = told(item)
    assert kinds(item) == ["OrderPlaced", "OrderFilled", "PositionOpened"]
    assert placed["event_id"] == f"{ENTRY_CLIENT_ID}-placed"
    assert placed["client_order_id"] == ENTRY_CLIENT_ID
    assert placed["exchange_order_id"] == "X1"
    assert (placed["role"], placed["side"], placed["order_type"]) == ("entry", "buy", "market")
    assert (placed["quantity"], placed["price"], placed["attempts"]) == ("2", None, 2)
    assert (filled["filled_quantity"], filled["average_price"]) == ("2", "101")
    assert (filled["fee"], filled["fee_currency"], filled["fees"]) == (
        "0.2",
        "USDT",
        {"USDT": "0.2"},
    )
    assert filled["slippage_bps"] == "100"
    assert filled["slippage_exceeded"] is False
    assert filled["latency_ms"] == 40  # the entry came 40 ms before the clock's start
    assert (opened["quantity"], opened["entry_price"], opened["fee"]) == ("2", "101", "0.2")
    assert (opened["stop_loss"], opened["take_profit"]) == ("98.98", None)
    assert (item.record.state, item.signal, item.entry, item.token) == (
        "FILLED",
        "s-1",
        ENTRY_ID,
        3,
    )
    assert (item.reservation, item.position_key) == ("opening", f"paper:{SYMBOL}")
    assert booked(item).position_id == opened["position_id"] == ENTRY_CLIENT_ID
    assert (item.quote, item.realized) == ("USDT", 0)
    assert item.exposure == 202_000_000 - 200_000_000  # what it is worth less what was reserved
    assert item.dead is None


def test_an_entry_filled_in_pieces() -> None:
    """One event for each fill but the last, with running sums; the last is OrderFilled."""
    pieces = (fill("1", "100"), fill("0.5", "102"), fill("0.5", "104"))
    item = Desk().settled(OrderState.FILLED, *pieces)
    _, first, second, filled, _ = told(item)
    assert kinds(item) == [
        "OrderPlaced",
        "OrderPartiallyFilled",
        "OrderPartiallyFilled",
        "OrderFilled",
        "PositionOpened",
    ]
    assert first["event_id"] == f"{ENTRY_CLIENT_ID}-partial-1"
    assert (first["last_quantity"], first["last_price"]) == ("1", "100")
    assert (first["filled_quantity"], first["average_price"]) == ("1", "100")
    assert second["event_id"] == f"{ENTRY_CLIENT_ID}-partial-2"
    assert (second["last_quantity"], second["filled_quantity"]) == ("0.5", "1.5")
    assert D(second["average_price"]).quantize(D("0.0001")) == D("100.6667")
    assert D(filled["filled_quantity"]) == 2
    assert filled["average_price"] == "101.5"


def test_an_entry_filled_in_part_and_cancelled() -> None:
    """What traded is a position; the order's end is a cancellation."""
    item = Desk().settled(
        OrderState.CANCELLED,
        fill("0.5", "100", "0.05"),
        cancelled_for=CancelCode.NOT_FILLED_IN_TIME,
    )
    _, partial, cancelled, opened = told(item)
    assert kinds(item) == [
        "OrderPlaced",
        "OrderPartiallyFilled",
        "OrderCancelled",
        "PositionOpened",
    ]
    assert partial["filled_quantity"] == cancelled["filled_quantity"] == "0.5"
    assert cancelled["reason"] == "not filled in the time allowed"
    assert cancelled["fee"] == "0.05"
    assert opened["quantity"] == "0.5"
    assert item.record.state == "CANCELLED"
    assert item.exposure == 50_000_000 - 200_000_000


@pytest.mark.parametrize(
    ("state", "reason", "shown"),
    [
        (
            OrderState.CANCELLED,
            "",
            "the exchange ended it: nothing to trade against, or its time was up",
        ),
        (OrderState.CANCELLED, "by the user", "by the user"),
        (
            OrderState.EXPIRED,
            "",
            "the exchange ended it: nothing to trade against, or its time was up",
        ),
        (OrderState.EXPIRED, "IOC", "IOC"),
    ],
)
def test_an_entry_that_never_traded(state: OrderState, reason: str, shown: str) -> None:
    """Placed and cancelled; no position, and all that was reserved is given back."""
    item = Desk().settled(state, reason=reason)
    _, cancelled = told(item)
    assert kinds(item) == ["OrderPlaced", "OrderCancelled"]
    assert cancelled["reason"] == shown
    assert (cancelled["filled_quantity"], cancelled["average_price"]) == ("0", None)
    assert item.position is None
    assert item.exposure == -200_000_000


@pytest.mark.parametrize(
    ("state", "works", "asked", "earlier", "code"),
    [
        (OrderState.CANCELLED, RESTING, CancelCode.NOT_FILLED_IN_TIME, False, None),
        (OrderState.CANCELLED, RESTING, CancelCode.HALTED, True, None),
        (OrderState.CANCELLED, RESTING, CancelCode.REDUCING, False, None),
        (OrderState.CANCELLED, RESTING, None, False, CancelCode.BY_EXCHANGE),
        (OrderState.CANCELLED, RESTING, None, True, CancelCode.OTHER),
        (OrderState.CANCELLED, AT_ONCE, None, True, CancelCode.BY_EXCHANGE),
        (OrderState.CANCELLED, MARKET_ORDER, None, True, CancelCode.BY_EXCHANGE),
        (OrderState.EXPIRED, RESTING, None, False, CancelCode.EXPIRED),
        (OrderState.EXPIRED, RESTING, CancelCode.HALTED, False, CancelCode.EXPIRED),
        (OrderState.EXPIRED, RESTING | MAKES, None, False, CancelCode.BY_EXCHANGE),
        (OrderState.EXPIRED, AT_ONCE, None, False, CancelCode.BY_EXCHANGE),
        (OrderState.EXPIRED, MARKET_ORDER, None, False, CancelCode.BY_EXCHANGE),
        (OrderState.REJECTED, RESTING, CancelCode.HALTED, False, CancelCode.BY_EXCHANGE),
    ],
)
def test_a_cancelled_order_says_why_by_evidence(
    state: OrderState,
    works: Mapping[str, Any],
    asked: CancelCode | None,
    earlier: bool,
    code: CancelCode | None,
) -> None:
    """Asked for by us where the exchange calls it cancelled; else its own word, or not known."""
    item = Desk().settled(
        state,
        works=works,
        cancelled_for=asked,
        sent_before=MaybeSent(0.0) if earlier else NeverSent(),
    )
    assert told(item)[-1]["code"] == (code or asked)


def test_a_cancel_that_a_person_decided_has_no_cause_known() -> None:
    """The exchange did not tell, and a verdict says what traded, not why the rest did not."""
    request = order_request()
    decided = Verdict(actor="me", reason="their support", filled=D(1), price=D(100))
    code = cancel_code(decided.report(request), request, None, is_ours=False)
    assert code is CancelCode.OTHER


@pytest.mark.parametrize("state", [OrderState.EXPIRED, OrderState.CANCELLED])
def test_a_post_only_order_that_would_have_taken_says_so(state: OrderState) -> None:
    """Some exchanges refuse such an order, others accept it and end it at once."""
    item = Desk().settled(state, works=RESTING | MAKES)
    assert "post_only" in told(item)[-1]["reason"]


@pytest.mark.parametrize("code", CancelCode)
def test_a_cancelled_order_says_why_in_a_sentence(code: CancelCode) -> None:
    """Every code has one where the exchange states none."""
    request = order_request(**RESTING)
    ended = report(OrderState.CANCELLED)(request)
    assert why_ended(ended, request, D(0), "", code, is_cut=False)


def test_exactly_one_event_is_terminal() -> None:
    """The order's last event ends the signal, whatever else is told about it."""
    whole = Desk().settled(OrderState.FILLED, fill("1", "100"), fill("1", "101"))
    cut = Desk().settled(OrderState.CANCELLED, fill("1", "100"))
    for item in (whole, cut):
        ends = [one["type"] for one in told(item) if one.get("terminal")]
        assert ends == [kind for kind in kinds(item) if kind in {"OrderFilled", "OrderCancelled"}]


def test_pieces_of_a_close_name_the_order_they_are_part_of() -> None:
    """The whole close goes by the id of its first order; later ones name it as their parent."""
    desk, held = Desk(), position(quantity=D(2))
    ends = []
    for number, client_id in enumerate((EXIT_CLIENT_ID, "second"), 1):
        order = desk.order(held=held, quantity="1")
        request = msgspec.structs.replace(order.request, client_order_id=client_id)
        ends.append(
            Settlement(
                order=msgspec.structs.replace(order, request=request, piece=number),
                report=report(OrderState.FILLED, fill("1", "100"))(request),
                fills=(fill("1", "100"),),
                filled=D(1),
                average_price=D(100),
                fees={},
                attempts=1,
            )
        )
    trades = ends[0].fills + ends[1].fills
    whole = msgspec.structs.replace(
        ends[0],
        order=desk.order(held=held),
        fills=trades,
        filled=D(2),
        pieces=tuple(ends),
    )
    orders = [one for one in told(desk.writer.settled(whole, desk.custody).item) if "parent" in one]
    assert [(one["type"], one["client_order_id"], one["parent"]) for one in orders] == [
        ("OrderPlaced", EXIT_CLIENT_ID, None),
        ("OrderPartiallyFilled", EXIT_CLIENT_ID, None),
        ("OrderPlaced", "second", EXIT_CLIENT_ID),
        ("OrderPartiallyFilled", "second", EXIT_CLIENT_ID),
        ("OrderFilled", EXIT_CLIENT_ID, None),
    ]


def test_events_say_when_the_exchange_says_that_it_happened() -> None:
    """Placed when it accepted the order, filled when the last trade was; null where unknown."""
    trades = [fill("1", "100", at_ms=START_MS + 20), fill("1", "100", at_ms=START_MS + 1_500)]
    placed, partial, filled, _ = told(Desk().settled(OrderState.FILLED, *trades))
    assert placed["exchange_time"] == "2026-03-01T12:00:00Z"
    assert partial["exchange_time"] == "2026-03-01T12:00:00.020000Z"
    assert filled["exchange_time"] == "2026-03-01T12:00:01.500000Z"
    placed, cancelled = told(Desk().settled(OrderState.CANCELLED, created_ms=0))
    assert placed["exchange_time"] is None
    assert cancelled["exchange_time"] is None


def test_a_short_opens_a_short() -> None:
    """Its default stop lies above, its slippage is what it sold too cheaply."""
    item = Desk().settled(
        OrderState.FILLED, fill("2", "99"), direction="short", symbol=PERPETUAL.symbol
    )
    _, filled, opened = told(item)
    assert (filled["side"], filled["slippage_bps"]) == ("sell", "100")
    assert (opened["direction"], opened["stop_loss"]) == ("short", "100.98")


@pytest.mark.parametrize(
    ("price", "bps", "exceeded"),
    [("101", "100", False), ("101.01", "101", True), ("98", "-200", False)],
)
def test_slippage_is_flagged_above_its_limit(price: str, bps: str, exceeded: bool) -> None:
    """1% is 100 basis points; a better price is negative."""
    filled = told(Desk().settled(OrderState.FILLED, fill("2", price)))[1]
    assert (filled["slippage_bps"], filled["slippage_exceeded"]) == (bps, exceeded)


def test_without_a_reference_there_is_no_slippage() -> None:
    """Null rather than a guess."""
    filled = told(Desk().settled(OrderState.FILLED, fill("2", "100"), reference=None))[1]
    assert filled["slippage_bps"] is None
    assert filled["slippage_exceeded"] is False


def test_fees_in_several_currencies_are_listed() -> None:
    """The quote's first where there is one, else the first one met."""
    mixed = told(
        Desk().settled(
            OrderState.FILLED, fill("1", "100", "0.01", "BNB"), fill("1", "100", "0.1", "USDT")
        )
    )[2]
    assert (mixed["fee"], mixed["fee_currency"]) == ("0.1", "USDT")
    assert mixed["fees"] == {"BNB": "0.01", "USDT": "0.1"}
    only = told(Desk().settled(OrderState.FILLED, fill("2", "100", "0.01", "BNB")))[1]
    assert (only["fee"], only["fee_currency"]) == ("0.01", "BNB")
    none = told(Desk().settled(OrderState.FILLED, fill("2", "100")))[1]
    assert (none["fee"], none["fee_currency"], none["fees"]) == ("0", "USDT", {})


# --- exits ---

HELD = position(quantity=D(2), entry_fee=D("0.2"))


def test_a_whole_close() -> None:
    """Placed, filled, closed, with profit net of all fees; the book is empty again."""
    item = Desk().settled(OrderState.FILLED, fill("2", "110", "0.2"), held=HELD)
    placed, filled, closed = told(item)
    assert kinds(item) == ["OrderPlaced", "OrderFilled", "PositionClosed"]
    assert (placed["role"], placed["side"]) == ("exit", "sell")
    assert filled["slippage_bps"] == "-1000"
    assert closed["event_id"] == f"{EXIT_CLIENT_ID}-closed"
    assert closed["position_id"] == "p-1"
    assert (closed["quantity"], closed["entry_price"], closed["exit_price"]) == ("2", "100", "110")
    assert (closed["realized_pnl"], closed["fee"]) == ("19.6", "0.4")
    assert closed["realized_pnl_pct"] == "9.8"
    assert closed["close_reason"] == "signal"
    assert closed["opened_at"] == closed["closed_at"] == START.isoformat().replace("+00:00", "Z")
    assert item.position == ""
    assert (item.reservation, item.exposure) == ("closing", -200_000_000)
    assert item.realized == 19_600_000


def test_a_partial_close() -> None:
    """The position is changed, the rest stays in the book and in the exposure."""
    item = Desk().settled(OrderState.FILLED, fill("0.5", "90"), held=HELD, quantity="0.5")
    changed = told(item)[-1]
    assert kinds(item) == ["OrderPlaced", "OrderFilled", "PositionChanged"]
    assert changed["event_id"] == f"{EXIT_CLIENT_ID}-changed"
    assert (changed["quantity"], changed["entry_price"]) == ("1.5", "100")
    assert changed["realized_pnl"] == "-5.05"
    assert changed["reason"]
    assert booked(item).quantity == D("1.5")
    assert item.exposure == 150_000_000 - 200_000_000
    assert item.realized == -5_050_000


def test_a_close_that_never_traded_changes_nothing() -> None:
    """The position stays as it was, its place is free for another close."""
    item = Desk().settled(OrderState.CANCELLED, held=HELD)
    assert kinds(item) == ["OrderPlaced", "OrderCancelled"]
    assert item.position is None
    assert (item.reservation, item.exposure, item.realized) == ("closing", 0, 0)


def test_a_flatten_says_so() -> None:
    """Closes made by the ``flatten`` command carry its prefix."""
    desk = Desk()
    item = desk.settled(
        OrderState.FILLED, fill("2", "100"), held=HELD, signal_id="flatten-20260301-BTC"
    )
    assert json.loads(item.events[-1][3])["close_reason"] == "flatten"


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(st.decimals(D("0.0001"), D(5), places=4), st.decimals(D(1), D(200), places=2)),
        max_size=4,
    ),
    st.sampled_from([OrderState.FILLED, OrderState.CANCELLED, OrderState.EXPIRED]),
    st.booleans(),
)
def test_exposure_adds_up_and_every_end_has_one_terminal_event(
    trades: list[tuple[Any, Any]], state: OrderState, closing: bool
) -> None:
    """However it ends: one terminal event, ids that differ, exposure equal to what is held."""
    fills = tuple(fill(*trade) for trade in trades)
    if state is OrderState.FILLED and not fills:
        return
    big = position(quantity=D(50)) if closing else None
    item = Desk().settled(state, *fills, held=big)
    names = kinds(item)
    assert sum(names.count(kind) for kind in ("OrderFilled", "OrderCancelled", "OrderFailed")) == 1
    assert len({identity for _, _, identity, _ in item.events}) == len(item.events)
    before = 5_000_000_000 if closing else 200_000_000
    after = before + item.exposure
    if item.position is None:
        assert after == (before if closing else 0)
    else:
        assert after == (millionths(booked(item).cost) if item.position else 0)


# --- no order ---


def refused(order: AdmittedOrder | None = None, **fields: Any) -> Failed:
    refusal = Refusal(Stage.RISK, Code.MAX_POSITIONS, "all three are taken", **fields)
    one = order.signal if order else signal()
    return Failed(refusal=refusal, signal=one, digest=one.digest(), order=order)


def test_a_refusal_before_admission_reserves_nothing() -> None:
    """One event with stage, code, sentence, and whether a new signal may do better."""
    ending = Desk().writer.failed(refused(), custody())
    (failed,) = told(ending.item)
    assert failed["event_id"] == f"{ENTRY_CLIENT_ID}-failed"
    assert (failed["stage"], failed["code"]) == ("risk", "MAX_POSITIONS")
    assert failed["reason"] == "all three are taken"
    assert (failed["retriable"], failed["attempts"]) == (True, 0)
    assert failed["client_order_id"] is None
    assert (ending.item.reservation, ending.item.exposure) == ("", 0)
    assert (ending.item.record.state, ending.outcome) == ("FAILED", "failed")


@pytest.mark.parametrize(
    ("held", "reservation", "exposure"), [(None, "opening", -200_000_000), (HELD, "closing", 0)]
)
def test_a_refusal_after_admission_gives_its_place_back(
    held: Position | None, reservation: str, exposure: int
) -> None:
    """The event names the order that was tried; the position is left alone."""
    desk = Desk()
    order = desk.order(held=held)
    ending = desk.writer.failed(refused(order, attempts=4, exchange_order_id="X9"), desk.custody)
    (failed,) = told(ending.item)
    assert (failed["attempts"], failed["exchange_order_id"]) == (4, "X9")
    assert failed["client_order_id"] == order.request.client_order_id
    assert (ending.item.reservation, ending.item.exposure) == (reservation, exposure)
    assert ending.item.position is None
    assert ending.item.record.state == "REJECTED"


def test_exhausted_deliveries_are_a_failure_and_a_dead_letter() -> None:
    """The producer is told, and the entry is kept for a person."""
    desk = Desk()
    order = desk.order()
    ending = desk.writer.exhausted(refused(order), desk.custody, 6)
    assert kinds(ending.item) == ["OrderFailed"]
    dead = dead_fields(ending.item)
    assert (dead["reason"], dead["deliveries"]) == ("deliveries_exhausted", "6")
    assert ending.item.reservation == "opening"


def dead_fields(item: CommitItem) -> dict[str, str]:
    assert item.dead is not None
    return item.dead._asdict()


def test_a_malformed_entry_is_only_a_dead_letter() -> None:
    """No event, for there is no signal; the fields are the contract's."""
    item = (
        Desk()
        .writer.malformed(Malformed(reason=DeadReason.MALFORMED, error="data: no"), custody(), 2)
        .item
    )
    assert item.events == ()
    assert (item.signal, item.reservation) == ("", "")
    assert dead_fields(item) == {
        "reason": "malformed",
        "error": "data: no",
        "entry_id": ENTRY_ID,
        "deliveries": "2",
        "worker": "w-1",
        "at": "2026-03-01T12:00:00.000Z",
    }


def test_a_repeated_signal_is_acknowledged_in_silence() -> None:
    """Its first one had or will have the event."""
    item = Desk().writer.repeated(Repeated(signal=signal(), conflict=False), custody(), 1).item
    assert (item.events, item.dead, item.duplicate) == ((), None, True)


def test_a_conflict_is_a_dead_letter() -> None:
    """An id used again for other content: the sentence says what to do."""
    ending = Desk().writer.repeated(Repeated(signal=signal(), conflict=True), custody(), 1)
    assert dead_fields(ending.item)["reason"] == ending.outcome == "conflict"
    assert dead_fields(ending.item)["error"].startswith("signal_id: s-1 ")
    assert ending.item.events == ()


def test_an_unresolved_order_pages_somebody() -> None:
    """A critical system error that names order, exchange and reason."""
    desk = Desk()
    kind, identity, data = desk.writer.unresolved(
        Unresolved(order=desk.order(), reason="no answer")
    )
    said = json.loads(data)
    assert (kind, identity) == ("SystemError", f"{ENTRY_CLIENT_ID}-unresolved")
    assert (said["code"], said["severity"]) == ("ORDER_UNRESOLVED", "critical")
    for part in (ENTRY_CLIENT_ID, "paper", "no answer"):
        assert part in said["reason"]


# --- an entry that was found after another had taken its place ---


def test_an_entry_found_later_enlarges_a_position_of_its_direction() -> None:
    """One net position: quantity and cost of both, and no profit."""
    item = Desk().settled(
        OrderState.FILLED, fill("2", "130"), held=position(entry_price=D(100)), joins=True
    )
    assert kinds(item) == ["OrderPlaced", "OrderFilled", "PositionChanged"]
    after = booked(item)
    assert (after.quantity, after.entry_price) == (D(3), D(120))
    assert (item.reservation, item.realized) == ("closing", 0)
    assert item.exposure == millionths(D(360)) - millionths(D(100)) - 200_000_000


@pytest.mark.parametrize(
    ("quantity", "events", "left"),
    [
        ("0.4", ["PositionChanged"], ("long", D("0.6"))),
        ("1", ["PositionClosed"], None),
        ("3", ["PositionClosed", "PositionOpened"], ("short", D(2))),
    ],
)
def test_an_entry_found_later_nets_a_position_of_the_other_direction(
    quantity: str, events: list[str], left: tuple[str, Decimal] | None
) -> None:
    """It reduces, ends, or turns what is there, as the exchange did."""
    item = Desk().settled(
        OrderState.FILLED,
        fill(quantity, "110"),
        held=position(entry_price=D(100)),
        joins=True,
        direction="short",
        info=PERPETUAL,
    )
    assert kinds(item) == ["OrderPlaced", "OrderFilled", *events]
    if left is None:
        assert item.position == ""
    else:
        after = booked(item)
        assert (after.direction, after.quantity) == left
    assert item.realized == 10_000_000 * min(D(quantity), D(1))


IN_A_THOUSAND_YEARS = "3026-03-01T12:00:00Z"


@pytest.mark.parametrize(
    ("expires_at", "kept_ms"),
    [
        ("2026-03-01T13:00:00Z", 3_600_000),
        ("2026-03-02T12:00:00Z", DAY_MS),
        ("2026-03-02T12:00:00.001Z", DAY_MS),
        (IN_A_THOUSAND_YEARS, DAY_MS),
        ("9999-12-31T23:59:59Z", DAY_MS),
    ],
)
def test_a_refused_signal_is_remembered_no_longer_than_signals_live(
    expires_at: str, kept_ms: int
) -> None:
    """Whatever it says of its own expiry, which nothing has checked."""
    desk = Desk()
    said = signal(expires_at=expires_at)
    refusal = Refusal(Stage.VALIDATION, Code.LIFETIME_TOO_LONG, "expires_at: no")
    item = desk.writer.failed(Failed(refusal=refusal, signal=said, digest="d"), desk.custody).item
    assert item.expires_ms == START_MS + kept_ms


def test_an_admitted_signal_is_remembered_until_it_expires() -> None:
    """By the rules of the worker that validated it, which may differ from this one's."""
    desk = Desk()
    order = desk.order(expires_at=IN_A_THOUSAND_YEARS)
    expires_ms = int(order.lifetime.expires_ms)
    refusal = Refusal(Stage.EXECUTION, Code.ORDER_REJECTED, "no", exchange_order_id="x-1")
    failed = Failed(refusal=refusal, signal=order.signal, digest="d", order=order)
    assert desk.writer.failed(failed, desk.custody).item.expires_ms == expires_ms
    traded = desk.settled(OrderState.FILLED, fill("2", "100"), expires_at=IN_A_THOUSAND_YEARS)
    assert traded.expires_ms == expires_ms
    looked_for = msgspec.structs.replace(
        order, plan=msgspec.structs.replace(order.plan, refusal=refusal)
    )
    absent = msgspec.structs.replace(failed, order=looked_for)
    assert desk.writer.failed(absent, desk.custody).item.expires_ms == START_MS + DAY_MS
