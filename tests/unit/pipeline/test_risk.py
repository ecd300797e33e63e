"""Risk: what is reserved for an order, and what each answer of the ledger makes of it."""

from typing import Any, cast

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from tests.unit.parts import (
    ENTRY_ID,
    PERPETUAL,
    SPOT,
    START_MS,
    SYMBOL,
    D,
    FakeLedger,
    ManualClock,
    ScriptedExchange,
    arrival,
    custody,
    position,
    signal,
)
from worker.config.keys import RiskConfig
from worker.domain.order import OrderState, Side
from worker.domain.refusal import Code, Stage
from worker.domain.signal import OrderType
from worker.exchanges.ports import ClockOffset
from worker.ledger.limit_rows import NO_LIMITS, Kind, LimitRow
from worker.ledger.replies import Admitted, Duplicate, Fenced
from worker.ledger.stored import Record
from worker.market.data import MarketData
from worker.pipeline.account_limits import AccountLimits
from worker.pipeline.flow import (
    AdmittedOrder,
    Completed,
    Failed,
    Lost,
    MaybeSent,
    NeverSent,
    Permission,
    Postponed,
    Repeated,
    StoredPlan,
    ValidSignal,
)
from worker.pipeline.orders import OrderManager
from worker.pipeline.risk import RiskManagementHandler, recorded
from worker.pipeline.sizing import Sizing
from worker.runtime.errors import InvariantError

LONG = msgspec.json.encode(position())
CLOSE: dict[str, Any] = {"action": "close", "direction": None, "strength": None}


class Desk:
    """The stage with fakes around it."""

    def __init__(self, **config: Any) -> None:
        self.clock = ManualClock()
        self.ledger = FakeLedger()
        self.orders = OrderManager()
        self.exchange = ScriptedExchange(self.clock)
        #: Prices the market was told, as exchange, symbol, price.
        self.assumed: list[tuple[str, str, D]] = []
        self.custody = custody()
        self.handler = RiskManagementHandler(
            RiskConfig(**config),
            sizing=Sizing(RiskConfig(**config), account="main"),
            exchanges={"paper": self.exchange},
            market=cast("MarketData", self),
            orders=self.orders,
        )

    def assume_price(self, exchange: str, symbol: str, price: D) -> None:
        self.assumed.append((exchange, symbol, price))

    def valid(
        self, *, info: Any = SPOT, reference: str | None = "100", **fields: Any
    ) -> ValidSignal:
        balance = fields.pop("free", "10000")
        suspect = fields.pop("suspect_until_mono_ms", None)
        case = arrival(
            signal(**fields),
            info=info,
            free=balance,
            suspect_until_mono_ms=suspect,
        )
        return ValidSignal(
            arrival=case,
            info=info,
            reference=None if reference is None else D(reference),
        )

    async def judge(
        self, valid: ValidSignal
    ) -> AdmittedOrder | Failed | Repeated | Completed | Lost | Postponed:
        """Propose an order, ask the ledger, and decide by its answer."""
        proposal = self.handler.propose(valid, self.custody)
        if isinstance(proposal, Failed):
            return proposal
        asked_mono_ms = self.clock.ms
        (answer,) = await self.ledger.admit([proposal.item])
        return self.handler.decide(proposal, answer, asked_mono_ms, self.custody)

    async def handle(
        self, **fields: Any
    ) -> AdmittedOrder | Failed | Repeated | Completed | Lost | Postponed:
        return await self.judge(self.valid(**fields))

    async def admitted(self, **fields: Any) -> AdmittedOrder:
        order = await self.handle(**fields)
        assert isinstance(order, AdmittedOrder)
        return order

    async def refused(self, **fields: Any) -> Failed:
        ended = await self.handle(**fields)
        assert isinstance(ended, Failed)
        assert ended.refusal.stage is Stage.RISK
        return ended


# --- the order ---


async def test_what_is_admitted_is_followed_and_may_be_sent_at_once() -> None:
    """Nothing of a fresh signal can be at the exchange, so nothing is looked for."""
    desk = Desk()
    order = await desk.admitted()
    assert desk.custody.order.state is OrderState.PENDING
    assert order.sent_before == NeverSent()
    assert order.permission == Permission(0.0, 0.0)


async def test_what_the_signal_alone_decides_never_reaches_the_ledger() -> None:
    """No round trip for an order that cannot be; nothing is reserved, nothing followed."""
    desk = Desk()
    ended = await desk.refused(quantity="5.1")
    assert ended.refusal.code is Code.POSITION_TOO_LARGE
    assert ended.order is None
    assert desk.ledger.admitted == []
    assert desk.orders.statistics() == {"active": 0}


# --- what is reserved ---


async def test_the_admission_says_all_the_ledger_needs() -> None:
    """Amounts in millionths, shares of the whole balance, zero where a limit is off."""
    desk = Desk(
        max_total_exposure_pct=D(50),
        max_daily_loss_pct=D("2.5"),
        max_orders_per_minute=7,
        max_concurrent_positions=4,
    )
    await desk.admitted(quantity="1.5")
    (item,) = desk.ledger.admitted
    assert (item.entry, item.token, item.signal) == (ENTRY_ID, 1, "s-1")
    assert (item.exchange, item.position_key, item.action) == ("paper", f"paper:{SYMBOL}", "open")
    assert item.notional == 150_000_000
    assert item.limits.rows == (
        LimitRow("book", Kind.COUNT, 1, 4, Code.MAX_POSITIONS),
        LimitRow("USDT", Kind.SUM, False, 5_000_000_000, Code.MAX_EXPOSURE),
        LimitRow("USDT", Kind.LOSS, 0, 250_000_000, Code.DAILY_LOSS_LIMIT),
        LimitRow("rate", Kind.WINDOW, 1, 7, Code.ORDER_RATE_LIMIT),
    )
    stored = msgspec.json.decode(item.plan, type=StoredPlan)
    assert stored.request is not None
    assert stored.request.quantity == D("1.5")
    assert stored.not_before_ms == START_MS
    assert stored.reserved == item.notional


def test_limits_that_are_off_have_no_row_and_those_that_are_on_always() -> None:
    """A limit of 1% of nothing is still a limit."""
    off = AccountLimits(RiskConfig())
    assert [(row.kind, row.most) for row in off.of("USDT", D(100)).rows] == [
        (Kind.COUNT, RiskConfig().max_concurrent_positions),
        (Kind.SUM, False),  # counted all the same
    ]
    on = AccountLimits(RiskConfig(max_total_exposure_pct=D(1), max_daily_loss_pct=D(1)))
    assert [row.most for row in on.of("USDT", D(0)).rows][1:] == [1, 1]


async def test_a_close_has_no_limits() -> None:
    """Whatever is configured: no limit holds up a close."""
    desk = Desk(max_total_exposure_pct=D(1), max_daily_loss_pct=D(1), max_orders_per_minute=1)
    desk.ledger.admissions = [Admitted(LONG, 0.0)]
    await desk.admitted(**CLOSE)
    assert desk.ledger.admitted[0].limits is NO_LIMITS


def test_the_rows_of_a_currency_stay_until_its_balance_changes() -> None:
    """Orders of one currency share one object, so that it is sent once; whatever comes between."""
    limits = AccountLimits(RiskConfig(max_total_exposure_pct=D(50)))
    balance, other = D(100), D(300)
    first = limits.of("USDT", balance)
    assert limits.of("EUR", other).rows[1][::3] == ("EUR", 150_000_000)
    assert limits.of("USDT", balance) is first
    assert limits.of("USDT", other).rows[1][::3] == ("USDT", 150_000_000)


async def test_a_close_without_any_price_states_the_entrys() -> None:
    """A market without quotes stands there; where a price is known nothing is assumed."""
    for reference, assumed in ((None, [("paper", SYMBOL, D(100))]), ("99", [])):
        desk = Desk()
        desk.ledger.admissions = [Admitted(LONG, 0.0)]
        await desk.admitted(reference=reference, **CLOSE)
        assert desk.assumed == assumed


async def test_an_order_is_never_older_than_its_admission_by_the_exchanges_clock() -> None:
    """``not_before_ms`` is in the exchange's time."""
    desk = Desk()
    desk.exchange.clock_offset = ClockOffset(offset_ms=-700.0)
    assert (await desk.admitted()).plan.not_before_ms == START_MS - 700


async def test_after_lost_writes_an_order_is_looked_up_first() -> None:
    """An order of this signal may exist of which no record speaks."""
    order = await Desk().admitted(suspect_until_mono_ms=1234.0)
    assert order.sent_before == MaybeSent(1234.0)


# --- closing ---


async def test_a_close_follows_from_what_the_ledger_says_is_held() -> None:
    """Its order is made after admission, so admission reserves nothing for it."""
    desk = Desk()
    desk.ledger.admissions = [Admitted(msgspec.json.encode(position(quantity=D("1.5"))), 0.0)]
    order = await desk.admitted(**CLOSE)
    assert (order.request.quantity, order.request.side) == (D("1.5"), Side.SELL)
    assert order.request.reduce_only
    assert desk.ledger.admitted[0].notional == 0


@pytest.mark.parametrize(
    ("fields", "held", "code"),
    [
        ({"direction": "short"}, {}, Code.NO_POSITION),
        ({}, {"quantity": D("0.00009")}, Code.BELOW_MINIMUM),
    ],
)
async def test_a_close_that_fits_no_position_gives_its_place_back(
    fields: dict[str, Any], held: dict[str, Any], code: Code
) -> None:
    """It was admitted, so its end must name the order whose reservation is to go."""
    desk = Desk()
    desk.ledger.admissions = [Admitted(msgspec.json.encode(position(**held)), 0.0)]
    ended = await desk.refused(**(CLOSE | fields))
    assert ended.refusal.code is code
    assert ended.order is not None
    assert desk.orders.statistics() == {"active": 0, "failed": 1}


async def test_admitted_to_close_nothing_is_a_broken_invariant() -> None:
    """The ledger never admits a close without a position."""
    with pytest.raises(InvariantError, match="admitted to close nothing"):
        await Desk().handle(**CLOSE)


# --- the ledger's answers ---


@pytest.mark.parametrize("conflict", [False, True])
async def test_a_used_id_is_told_apart_from_a_conflict(conflict: bool) -> None:
    """A used signal id is a duplicate for the same content, a conflict for other content."""
    desk = Desk()
    desk.ledger.admissions = [Duplicate(conflict=conflict)]
    ended = await desk.handle()
    assert isinstance(ended, Repeated)
    assert ended.conflict is conflict


async def test_a_fenced_worker_lets_go() -> None:
    """An admission answered with `fenced` ends as lost."""
    desk = Desk()
    desk.ledger.admissions = [Fenced()]
    assert isinstance(await desk.handle(), Lost)


@pytest.mark.parametrize(
    ("code", "says"),
    [
        (Code.TRADING_HALTED, "HALTED"),
        (Code.TRADING_REDUCING, "only closes"),
        (Code.POSITION_EXISTS, SYMBOL),
        (Code.POSITION_BUSY, SYMBOL),
        (Code.NO_POSITION, SYMBOL),
        (Code.MAX_POSITIONS, "risk.max_concurrent_positions: all 3"),
        (Code.MAX_EXPOSURE, "risk.max_total_exposure_pct"),
        (Code.DAILY_LOSS_LIMIT, "risk.max_daily_loss_pct"),
        (Code.ORDER_RATE_LIMIT, "risk.max_orders_per_minute"),
    ],
)
async def test_each_refusal_of_the_ledger_has_a_sentence(code: Code, says: str) -> None:
    """Each refusal names the key or field to change, and reserves nothing."""
    desk = Desk()
    desk.ledger.admissions = [code]
    ended = await desk.refused()
    assert ended.refusal.code is code
    assert says in ended.refusal.reason
    assert ": " in ended.refusal.reason
    assert ended.order is None


# --- going on from a record ---


@settings(max_examples=50, deadline=None)
@given(
    st.sampled_from(["long", "short"]),
    st.sampled_from(OrderType),
    st.decimals(D("0.1"), D("4.9"), places=3),
    st.decimals(D(98), D(102), places=3),
)
async def test_every_delivery_makes_the_same_order(
    direction: str, kind: OrderType, quantity: Any, price: Any
) -> None:
    """What a successor reads from the record is, field for field, what was going to be sent."""
    desk, later = Desk(), Desk()
    fields: dict[str, Any] = {
        "direction": direction,
        "order_type": kind.value,
        "quantity": str(quantity),
        "entry_price": str(price) if kind.needs_price else None,
        "stop_price": str(price) if kind.needs_stop_price else None,
        "metadata": {"a": 1},
    }
    first = await desk.handle(info=PERPETUAL, **fields)
    if not isinstance(first, AdmittedOrder):
        return
    record = written(plan=desk.ledger.admitted[0].plan)
    stored = recorded(record)
    case = arrival(stored.signal, info=PERPETUAL, price="250", free="3")
    again = later.handler.resume(case, stored, record, 77.0, later.custody)
    assert isinstance(again, AdmittedOrder)
    assert again.request == first.request
    assert (again.signal, again.digest) == (first.signal, first.digest)
    assert again.plan.reference == first.plan.reference
    assert again.plan.not_before_ms == first.plan.not_before_ms
    assert again.sent_before == MaybeSent(77.0)
    assert again.permission is None


def written(**fields: Any) -> Record:
    """The record an earlier delivery left behind."""
    return Record(entry="1-0", signal="s-1", state="ADMITTED", **fields)


async def test_a_resumed_close_follows_from_the_position_as_it_was() -> None:
    """The record keeps the position; the exit is derived again, the same."""
    desk = Desk()
    desk.ledger.admissions = [Admitted(LONG, 0.0)]
    first = await desk.admitted(**CLOSE)
    stored = msgspec.json.decode(desk.ledger.admitted[0].plan, type=StoredPlan)
    record = written(position=LONG.decode(), admitted_at=1_700_000_000_000)
    case = arrival(stored.signal)
    again = desk.handler.resume(case, stored, record, 0.0, desk.custody)
    assert isinstance(again, AdmittedOrder)
    assert again.request == first.request
    assert again.position == first.position
    assert again.admitted_at == 1_700_000_000_000


async def test_a_market_this_worker_does_not_know_is_left_to_another() -> None:
    """It cannot look the order up, so it must not decide; but somebody has to know."""
    desk = Desk()
    stored = StoredPlan(signal=signal(), request=None, reference=None, reserved=0, not_before_ms=0)
    unknown = arrival(signal(), info=None)
    with capture_logs() as lines:
        resumed = desk.handler.resume(unknown, stored, written(), 0.0, desk.custody)
    assert isinstance(resumed, Postponed)
    (line,) = lines
    assert (line["log_level"], line["event"]) == ("warning", "order_market_unknown")
    assert (line["signal_id"], line["exchange"], line["symbol"]) == ("s-1", "paper", SYMBOL)
