"""The pipeline: which way a delivery takes, and what it means for the proof of absence."""

import asyncio
import json
from collections.abc import Collection
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from tests.unit.parts import (
    ENTRY_ID,
    START,
    START_MS,
    D,
    FakeLedger,
    ManualClock,
    ScriptedExchange,
    custody,
    not_found,
    payload,
    position,
    report,
    signal,
    ticker,
    trouble,
)
from worker.config.keys import ExecutionConfig, ReconciliationConfig, RiskConfig, ValidationConfig
from worker.domain.market import Balance, MarketKind, Ticker
from worker.domain.refusal import Code, Stage
from worker.domain.signal import MalformedSignalError
from worker.domain.signature import Signatures, SigningKey, signed_fields
from worker.exchanges.errors import Outcome
from worker.ledger.replies import Admitted, Delivery, Duplicate
from worker.ledger.stored import Record
from worker.market.data import MarketData
from worker.pipeline.execution import OrderExecutorHandler
from worker.pipeline.flow import (
    AdmittedOrder,
    Arrival,
    EarlyEnd,
    Postponed,
    Proposal,
    Resting,
    Settlement,
    Submission,
    Unresolved,
    ValidSignal,
)
from worker.pipeline.live_orders import LiveOrderWriter
from worker.pipeline.orders import OrderManager
from worker.pipeline.pipeline import ExecutionPipeline, decode
from worker.pipeline.reconciliation import ReconciliationHandler
from worker.pipeline.risk import RiskManagementHandler
from worker.pipeline.settlement import Ending, SettlementWriter
from worker.pipeline.sizing import Sizing
from worker.pipeline.validation import ValidationHandler
from worker.pipeline.worker_state import WorkerState
from worker.runtime.clock import Random, utc


class Quiet:
    """A meter nobody reads."""

    def submission(self, exchange: str, outcome: str) -> None:
        """Count nothing."""

    def retry(self, exchange: str, cause: str) -> None:
        """Count nothing."""

    def lookup(self, exchange: str, result: str) -> None:
        """Count nothing."""


class Rich(ScriptedExchange):
    """An exchange with money on it."""

    #: Whether its prices and balances never come.
    silent = False

    async def get_ticker(self, symbol: str) -> Ticker:
        if self.silent:
            await asyncio.Event().wait()
        return ticker(symbol=symbol)

    async def get_balance(self, kind: MarketKind = MarketKind.SPOT) -> dict[str, Balance]:
        if self.silent:
            await asyncio.Event().wait()
        return {"USDT": Balance(free=D(10_000), total=D(10_000))}


class Line:
    """The whole pipeline on fakes."""

    def __init__(
        self, *keys: SigningKey, signed: bool = False, starting: Collection[str] = ()
    ) -> None:
        self.clock = clock = ManualClock()
        self.ledger = FakeLedger()
        ledger = self.ledger.as_ledger()
        self.orders = orders = OrderManager()
        self.exchange = Rich(clock)
        self.exchange.placing = [report()]
        self.exchange.looking = [not_found()]
        self.custody = custody(10**9)
        exchanges = {"paper": self.exchange}
        state = WorkerState()
        sizing = Sizing(RiskConfig(), account="main")
        self.market = MarketData(
            exchanges,
            clock=clock,
            max_price_age_ms=5_000,
            max_balance_age_ms=30_000,
            on_error=lambda name, error: None,
            starting=starting,
        )
        risk = RiskManagementHandler(
            RiskConfig(),
            sizing=sizing,
            exchanges=exchanges,
            market=self.market,
            orders=orders,
        )
        validation = ValidationHandler(ValidationConfig(), exchanges=["paper"], max_size_pct=D(5))
        writer = SettlementWriter(
            account="main",
            worker="w-1",
            sizing=sizing,
            max_slippage_pct=D(1),
            max_life_ms=86_400_000,
            clock=clock,
        )
        self.pipeline = ExecutionPipeline(
            signatures=Signatures(
                account="main", keys=keys, required=signed, now=lambda: utc(clock.now_ms())
            ),
            market=self.market,
            exchanges=exchanges,
            validation=validation,
            risk=risk,
            execution=OrderExecutorHandler(
                ExecutionConfig(),
                exchanges=exchanges,
                ledger=ledger,
                orders=orders,
                state=state,
                clock=clock,
                random=Random(1),
                meter=Quiet(),
            ),
            reconciliation=ReconciliationHandler(
                ReconciliationConfig(),
                exchanges=exchanges,
                orders=orders,
                state=state,
                clock=clock,
            ),
            writer=writer,
            live_orders=LiveOrderWriter(
                writer,
                worker="w-1",
                sizing=sizing,
                retention_ms=1_000,
                max_rest_ms=0,
                first_pause_ms=2_000,
                clock=clock,
            ),
            orders=orders,
            clock=clock,
            max_deliveries=5,
            skew_margin_ms=1_000,
        )

    async def run(self, data: bytes | None = None, **fields: Any) -> Any:
        whole: dict[str, Any] = {
            "entry_id": ENTRY_ID,
            "fields": {b"data": payload() if data is None else data},
            "token": 1,
            "deliveries": 1,
            "record": None,
            "lease_mono_ms": 15_000.0,
            "received_mono_ms": self.clock.ms,
        }
        delivery = Delivery(**(whole | fields))
        end = await self._follow(self.pipeline.begin(delivery, self.custody))
        return self.pipeline.write(end, delivery, self.custody)

    async def _follow(
        self, step: Arrival | Proposal | AdmittedOrder | EarlyEnd
    ) -> Settlement | Resting | EarlyEnd:
        """Take one signal through every step, as the engine does with a batch of them."""
        if isinstance(step, Arrival):
            if self.pipeline.needs_market(step):
                step = await self.pipeline.ask_market(step)
            valid = self.pipeline.validate(step, self.custody)
            step = (
                self.pipeline.propose(valid, self.custody)
                if isinstance(valid, ValidSignal)
                else valid
            )
        while isinstance(step, Proposal):
            asked_mono_ms = self.clock.ms
            (answer,) = await self.ledger.admit([step.item])
            step = self.pipeline.decide(step, answer, asked_mono_ms, self.custody)
        if not isinstance(step, AdmittedOrder):
            return step
        sent = await self.pipeline.send(step, self.custody)
        if not isinstance(sent, Submission):
            return sent
        return await self.pipeline.follow(sent, self.custody)

    async def recorded(self, **signal_fields: Any) -> Record:
        """What a first delivery of a signal leaves behind."""
        await self.run(payload(**signal_fields))
        self.exchange.calls.clear()
        return Record(
            entry="1-0",
            signal="s-1",
            state="ADMITTED",
            plan=self.ledger.admitted[-1].plan,
        )

    @property
    def placed(self) -> int:
        return len(self.exchange.times("place"))


def kinds(end: Any) -> list[str]:
    assert isinstance(end, Ending), end
    return [kind for _, kind, _, _ in end.item.events]


def dead(end: Any) -> dict[str, str]:
    assert isinstance(end, Ending), end
    assert end.item.dead is not None
    return end.item.dead._asdict()


async def test_a_signal_becomes_a_position() -> None:
    """All four stages, one admission, one order."""
    line = Line()
    assert kinds(await line.run()) == ["OrderPlaced", "OrderFilled", "PositionOpened"]
    assert len(line.ledger.admitted) == line.placed == 1


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({b"data": b"{"}, "data: "),
        ({}, "data: the entry has no such field"),
        ({b"data": payload(), b"type": b"OrderFilled"}, "type: 'OrderFilled'"),
        ({b"data": payload(), b"type": b"\xff" * 200}, "type: "),
        ({b"data": payload(quantity="NaN")}, "quantity: "),
    ],
)
async def test_what_is_no_signal_is_a_dead_letter(fields: dict[bytes, bytes], says: str) -> None:
    """With the field and the rule; nothing was asked of ledger or exchange."""
    line = Line()
    end = await line.run(fields=fields)
    assert dead(end)["reason"] == "malformed"
    assert dead(end)["error"].startswith(says)
    assert len(dead(end)["error"]) < 300
    assert kinds(end) == []
    assert line.exchange.calls == []
    assert line.ledger.admitted == []


@pytest.mark.parametrize(
    ("fields", "code"),
    [({}, Code.GROUP_FULL), ({"action": "close", "direction": None}, Code.POSITION_BUSY)],
)
async def test_a_surplus_signal_ends_with_the_code_of_its_kind(
    fields: dict[str, Any], code: Code
) -> None:
    """One retriable refusal; nothing was asked of ledger or exchange."""
    line = Line()
    sent = {name: value for name, value in fields.items() if value is not None}
    end = await line.run(payload(**sent), is_surplus=True)
    assert kinds(end) == ["OrderFailed"]
    assert (end.refusal.code, end.refusal.stage) == (code, Stage.VALIDATION)
    assert end.refusal.code.retriable
    assert "worker.max_group_waiting" in end.refusal.reason
    if code is Code.POSITION_BUSY:  # those that wait may close less than it would have
        assert "this close was not tried: send a new one" in end.refusal.reason
    assert line.exchange.calls == []
    assert line.ledger.admitted == []


async def test_a_surplus_entry_that_is_no_signal_is_a_dead_letter() -> None:
    """As any other."""
    assert dead(await Line().run(b"{", is_surplus=True))["reason"] == "malformed"


async def test_what_was_admitted_is_no_surplus() -> None:
    """Its order may be at the exchange: it goes on whatever the mark says."""
    line = Line()
    record = await line.recorded()
    line.exchange.looking = [report()]
    end = await line.run(record=record, deliveries=2, is_surplus=True)
    assert "OrderFilled" in kinds(end)


async def test_a_surplus_signal_that_may_have_an_order_is_looked_up_first() -> None:
    """Made before a primary took over that may lack its record."""
    line = Line()
    end = await line.run(is_surplus=True, data_loss_ms=START_MS + 10**9, settled_mono_ms=0.0)
    assert end.refusal.code is Code.GROUP_FULL
    assert line.exchange.times("look")


async def test_the_error_of_a_dead_letter_is_short() -> None:
    """It quotes what the producer sent, which may be long."""
    end = await Line().run(payload(**{"n" * 60_000: 1}))
    assert len(dead(end)["error"]) <= 400
    assert end.fields["error"] == dead(end)["error"]


def test_the_type_may_be_left_out() -> None:
    """Extra stream fields do not matter; ``type``, where given, must be right."""
    fields = {b"data": payload(), b"traceparent": b"00-x", b"key": b"any"}
    assert decode(fields) == decode(fields | {b"type": b"TradingSignalGenerated"}) == signal()
    with pytest.raises(MalformedSignalError, match="type"):
        decode(fields | {b"type": b""})


async def test_a_refusal_ends_the_chain_early() -> None:
    """No admission, no order; one terminal event."""
    line = Line()
    assert kinds(await line.run(payload(strength=None))) == ["OrderFailed"]
    assert line.ledger.admitted == []
    assert line.placed == 0


async def test_closes_and_orders_admitted_before_wait_for_no_price() -> None:
    """A market data outage holds up openings only."""
    line = Line()
    record = await line.recorded()
    line.exchange.silent = True
    line.clock.ms += 60_000  # nothing in memory is fresh any more
    line.ledger.admissions = [Admitted(msgspec.json.encode(position()), 0.0)]
    close = payload(action="close", direction=None, expires_at="2026-03-01T13:00:00Z")
    async with asyncio.timeout(1):
        assert "PositionClosed" in kinds(await line.run(close))
        assert kinds(await line.run(record=record, deliveries=2)) == ["OrderFailed"]  # too old
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await line.run(payload(expires_at="2026-03-01T13:00:00Z"))


async def test_a_signal_for_an_exchange_that_has_not_started_comes_again() -> None:
    """Neither refused nor lost: until it starts, or the signal expires by the ordinary rule."""
    line = Line(starting=["paper"])
    for _ in range(3):
        assert await line.run() == Postponed(reason="paper has not started yet")
    assert line.ledger.admitted == []
    line.market.begin("paper")
    assert kinds(await line.run()) == ["OrderPlaced", "OrderFilled", "PositionOpened"]

    late = Line(starting=["paper"])
    late.clock.ms += 31_000
    (_, _, _, event) = (await late.run()).item.events[0]
    assert json.loads(event)["code"] == "SIGNAL_EXPIRED"


async def test_a_bad_signal_fails_whether_its_exchange_has_started_or_not() -> None:
    """What is wrong with it does not depend on the market."""
    line = Line(starting=["paper"])
    assert kinds(await line.run(payload(strength=None))) == ["OrderFailed"]
    assert kinds(await line.run(payload(exchange="nowhere"))) == ["OrderFailed"]


async def test_what_may_have_been_sent_is_not_given_up_before_the_exchange_can_be_asked() -> None:
    """Admitted before, or perhaps so: there is nobody to look it up with."""
    record = await Line().recorded()
    line = Line(starting=["paper"])
    not_yet = Postponed(reason="paper has not started yet")
    assert await line.run(record=record, deliveries=9) == not_yet
    line.clock.ms += 31_000
    assert await line.run(data_loss_ms=START_MS + 1_000, settled_mono_ms=0.0) == not_yet


@pytest.mark.parametrize("conflict", [False, True])
async def test_a_used_id_sends_nothing(conflict: bool) -> None:
    """A duplicate is silent, a conflict a dead letter."""
    line = Line()
    line.ledger.admissions = [Duplicate(conflict=conflict)]
    end = await line.run()
    assert kinds(end) == []
    assert end.outcome == ("conflict" if conflict else "duplicate")
    assert line.placed == 0


# --- signatures ---

KEY = SigningKey(key_id="k-1", secret=b"s" * 32, strategies=("trend-*",))


def entry(data: bytes, key: SigningKey = KEY, account: str = "main") -> dict[bytes, bytes]:
    """A signed entry as a worker receives it."""
    fields = signed_fields({"data": data}, account=account, key_id=key.key_id, secret=key.secret)
    return {name.encode(): value for name, value in fields.items()}


async def test_a_signed_signal_trades() -> None:
    """Required or not, a good signature of its strategy's key is let through."""
    for signed in (True, False):
        line = Line(KEY, signed=signed)
        end = await line.run(fields=entry(payload(strategy_id="trend-7")))
        assert "OrderFilled" in kinds(end)


FORGED = [
    ({b"data": payload(strategy_id="trend-7")}, "signature: the entry is not signed"),
    (entry(payload(strategy_id="trend-7"), account="other"), "signature: not made with key 'k-1'"),
    (entry(payload(strategy_id="trend-7")) | {b"key": b"x"}, "signature: not made with"),
    (entry(payload(strategy_id="mean-1")), "strategy_id: key 'k-1' may not sign for strategy"),
    (entry(payload()), "strategy_id: key 'k-1' may not sign for a signal without a strategy"),
    (entry(b"{}") | {b"data": payload(strategy_id="trend-7")}, "signature: not made with"),
    (entry(b"{}") | {b"data": b"\xff{"}, "signature: not made with"),
]


@pytest.mark.parametrize("deliveries", [1, 6])
@pytest.mark.parametrize(("fields", "says"), FORGED)
async def test_a_forged_entry_ends_as_itself_only(
    fields: dict[bytes, bytes], says: str, deliveries: int
) -> None:
    """A dead letter; no event, no record under its signal id, nothing asked of anybody."""
    line = Line(KEY, signed=True)
    end = await line.run(fields=fields, deliveries=deliveries)
    assert dead(end)["reason"] == "signature"
    assert dead(end)["error"].startswith(says)
    assert (end.item.signal, end.item.digest, end.item.duplicate) == ("", "", True)
    assert kinds(end) == []
    assert line.exchange.calls == []
    assert line.ledger.admitted == []


async def test_a_given_signature_must_be_good_even_where_none_is_required() -> None:
    """Neither an unknown key nor half a signature passes for unsigned."""
    good = entry(payload(strategy_id="trend-7"))
    for fields in (
        good | {b"key_id": b"k-2"},
        good | {b"signature": b"0" * 64},
        {name: value for name, value in good.items() if name != b"signature"},
        {name: value for name, value in good.items() if name != b"key_id"},
    ):
        assert dead(await Line(KEY).run(fields=fields))["reason"] == "signature"
    assert "OrderFilled" in kinds(await Line(KEY).run())


async def test_what_was_admitted_goes_on_after_its_key_has_expired() -> None:
    """Its order may be at the exchange: it was believed before it was sent."""
    line = Line(KEY)
    record = await line.recorded()
    line.exchange.looking = [report()]
    late = msgspec.structs.replace(KEY, not_after=START)
    line.pipeline._signatures = Line(late, signed=True).pipeline._signatures
    end = await line.run(record=record, deliveries=2, fields=entry(payload()))
    assert "OrderFilled" in kinds(end)


# --- later deliveries ---


async def test_a_delivery_with_a_record_never_admits_again() -> None:
    """Its limits are reserved already; the order is looked up and found."""
    line = Line()
    record = await line.recorded()
    line.exchange.looking = [report()]
    end = await line.run(record=record, deliveries=2)
    assert "OrderFilled" in kinds(end)
    assert len(line.ledger.admitted) == 1
    assert [name for name, _ in line.exchange.calls] == ["look"]


async def test_the_record_decides_not_the_entry() -> None:
    """The body may be gone from the stream; the record has all that is needed."""
    line = Line()
    record = await line.recorded(quantity="1")
    end = await line.run(record=record, deliveries=2, fields={})
    assert D(json.loads(end.item.events[0][3])["quantity"]) == 1
    assert line.placed == 1


@pytest.mark.parametrize(
    ("overdue_ms", "visibility_ms", "earliest"),
    [
        (0, 2_000, 1_000),
        (700, 2_000, 300),
        (0, 0, 0),
        (20_000, 3_000, 1_000),  # Redis's clock was set forward: that long has not passed
    ],
)
async def test_absence_is_proven_by_the_earlier_leases_end(
    overdue_ms: int, visibility_ms: int, earliest: float
) -> None:
    """The last request's deadline lay a margin before that end; then it may take its time."""
    line = Line()
    record = await line.recorded()
    line.exchange.visibility_ms = visibility_ms
    start = line.clock.ms
    end = await line.run(record=record, deliveries=2, overdue_ms=overdue_ms)
    assert kinds(end)[0] == "OrderPlaced"
    proof = line.exchange.times("look")[-1] - start
    assert earliest <= proof <= earliest + 1


async def test_too_many_dead_deliveries_with_a_record_only_look() -> None:
    """Absent: a failure and a dead letter. Found: it ends as it ended."""
    line = Line()
    record = await line.recorded()
    end = await line.run(record=record, deliveries=6)
    assert kinds(end) == ["OrderFailed"]
    assert dead(end)["reason"] == "deliveries_exhausted"
    assert line.placed == 0
    line.exchange.looking = [report()]
    assert "OrderFilled" in kinds(await line.run(record=record, deliveries=6))


async def test_too_many_dead_deliveries_without_a_record() -> None:
    """Nothing was sent, nothing is: a dead letter, and the one terminal event of a signal."""
    line = Line()
    end = await line.run(deliveries=6)
    assert kinds(end) == ["OrderFailed"]
    assert json.loads(end.item.events[0][3])["code"] == "DELIVERIES_EXHAUSTED"
    assert dead(end)["reason"] == "deliveries_exhausted"
    assert end.item.reservation == ""
    assert line.exchange.calls == []
    assert kinds(await line.run(b"\xff", deliveries=6)) == []


async def test_the_fifth_delivery_is_still_tried() -> None:
    """``max_deliveries`` of 5 means five."""
    assert "OrderFilled" in kinds(await Line().run(deliveries=5))


async def test_an_unresolved_order_stays_so_until_proof() -> None:
    """Neither failed nor sent again while the exchange says nothing."""
    line = Line()
    record = await line.recorded()
    line.exchange.looking = [trouble(Outcome.UNKNOWN)]
    assert isinstance(await line.run(record=record, deliveries=2), Unresolved)
    assert line.placed == 0
    assert line.orders.statistics()["active"] == 0


async def test_a_market_that_is_gone_postpones_what_was_admitted() -> None:
    """Another worker may know it; this one must not decide."""
    line = Line()
    record = await line.recorded()
    line.exchange.markets.clear()
    assert isinstance(await line.run(record=record, deliveries=2), Postponed)


# --- after a primary that may lack writes ---


@pytest.mark.parametrize(
    ("loss_ms", "created", "suspicious"),
    [
        (0, START, False),
        (START_MS - 1_000, START, False),
        (START_MS - 40, START, True),
        (START_MS - 1_000, START - timedelta(seconds=2), True),
    ],
)
async def test_only_signals_older_than_a_loss_are_suspect(
    loss_ms: int, created: Any, suspicious: bool
) -> None:
    """By the entry's time or the signal's own, whichever is earlier."""
    line = Line()
    data = payload(created_at=created.isoformat(), expires_at="2026-03-02T00:00:00Z")
    end = await line.run(data, data_loss_ms=loss_ms, settled_mono_ms=4_000.0)
    assert "OrderFilled" in kinds(end)
    assert bool(line.exchange.times("look")) is suspicious
    if suspicious:
        assert line.exchange.times("place")[0] >= 4_000 + line.exchange.visibility_ms


@pytest.mark.parametrize(("age_s", "looks"), [(4, False), (6, True)])
async def test_an_old_signal_is_looked_up_before_it_is_sent(age_s: int, looks: bool) -> None:
    """A whole fleet may have been lost, and with it whoever knew that it was sent."""
    line = Line()
    created = (START - timedelta(seconds=age_s)).isoformat()
    end = await line.run(payload(created_at=created))
    assert "OrderFilled" in kinds(end)
    assert (len(line.exchange.times("look")), line.placed) == (int(looks), 1)


async def test_an_old_signal_that_traded_is_not_sent_again() -> None:
    """The order is found, however long before this admission it was made."""
    line = Line()
    line.exchange.looking = [report(created_ms=START_MS - 5_500)]
    created = (START - timedelta(seconds=6)).isoformat()
    end = await line.run(payload(created_at=created))
    assert "OrderFilled" in kinds(end)
    assert line.placed == 0


async def test_a_worn_out_signal_is_looked_for_where_writes_were_lost() -> None:
    """Its admission may be among them: "nothing was sent" would be a guess."""
    line = Line()
    line.exchange.looking = [report()]
    lost: dict[str, Any] = {"data_loss_ms": START_MS, "settled_mono_ms": 1_000.0}
    end = await line.run(deliveries=6, **lost)
    assert "OrderFilled" in kinds(end)
    assert line.placed == 0


async def test_what_is_only_looked_for_reserves_nothing() -> None:
    """Its size is whatever the signal says, and it may not exist."""
    line = Line()
    line.ledger.admissions = [Code.MAX_POSITIONS, Admitted(b"", 0.0)]
    data = payload(quantity="100000000000000")
    await line.run(data, data_loss_ms=START_MS, settled_mono_ms=1_000.0)
    assert line.ledger.admitted[-1].only_look
    assert line.ledger.admitted[-1].notional == 0


async def test_an_order_of_a_lost_record_is_found_again() -> None:
    """Admitted afresh, looked up, found: not sent twice."""
    line = Line()
    line.exchange.looking = [report()]
    end = await line.run(data_loss_ms=START_MS, settled_mono_ms=1_000.0)
    assert "OrderFilled" in kinds(end)
    assert line.placed == 0


TAKEN = Admitted(msgspec.json.encode(position(quantity=D(1), entry_price=D(90))), 0.0)


async def test_an_order_whose_place_is_taken_joins_what_is_there() -> None:
    """Its record was lost, the symbol has another position since, and the exchange has both."""
    line = Line()
    line.ledger.admissions = [Code.POSITION_EXISTS, TAKEN]
    line.exchange.looking = [report()]
    end = await line.run(data_loss_ms=START_MS, settled_mono_ms=1_000.0)
    assert kinds(end) == ["OrderPlaced", "OrderFilled", "PositionChanged"]
    assert line.ledger.admitted[-1].only_look
    assert end.item.reservation == "closing"
    assert line.placed == 0


async def test_a_taken_place_refuses_what_was_never_sent() -> None:
    """The exchange proves that there is no order: then the refusal is the truth."""
    line = Line()
    line.ledger.admissions = [Code.POSITION_EXISTS, TAKEN]
    line.exchange.looking = [not_found()]
    end = await line.run(data_loss_ms=START_MS, settled_mono_ms=1_000.0)
    assert kinds(end) == ["OrderFailed"]
    assert line.exchange.times("look")[-1] >= 1_000.0 + line.exchange.visibility_ms
    assert (line.placed, end.item.position) == (0, None)
    assert end.item.exposure == 0


async def test_the_end_is_the_same_whoever_writes_it() -> None:
    """Event ids and book of a first delivery and of its successor do not differ."""
    first, second = Line(), Line()
    whole = await first.run()
    record = await second.recorded()
    second.exchange.looking = [report()]
    again = await second.run(record=record, deliveries=2)
    assert [e[:3] for e in whole.item.events] == [e[:3] for e in again.item.events]
    before = msgspec.json.decode(whole.item.position)
    after = msgspec.json.decode(again.item.position)
    assert before | {"opened_at": None} == after | {"opened_at": None}
    assert first.orders.statistics() == {"active": 0, "filled": 1}
