"""Sending: every outcome, every pause, and never twice without proof."""

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
    admitted_order,
    custody,
    not_found,
    order_request,
    report,
    signal,
    trouble,
)
from worker.config.keys import ExecutionConfig
from worker.domain.order import OrderRequest, OrderState, Role
from worker.domain.refusal import Code, Refusal, Stage
from worker.domain.signal import Signal
from worker.domain.trading_state import TradingState
from worker.domain.verdict import Verdict
from worker.exchanges.budget.requests import RequestGate
from worker.exchanges.errors import (
    ClockSkewError,
    CredentialsError,
    ExchangeError,
    InsufficientBalanceError,
    InvalidOrderError,
    Outcome,
    RateLimitError,
)
from worker.exchanges.ports import ClockOffset, Resend
from worker.ledger.errors import LedgerUnavailableError
from worker.ledger.replies import Authorization
from worker.pipeline.custody import Custody
from worker.pipeline.execution import OrderExecutorHandler
from worker.pipeline.flow import (
    AdmittedOrder,
    Failed,
    Lifetime,
    Lost,
    MaybeSent,
    Permission,
    Postponed,
    Submission,
    Unresolved,
)
from worker.pipeline.orders import OrderManager
from worker.pipeline.permissions import PERMISSION_TTL_MS
from worker.pipeline.worker_state import WorkerState
from worker.runtime.clock import Random

GONE = LedgerUnavailableError("gone", kind="connection")


class Meter:
    """Counts what the stage reports."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def submission(self, exchange: str, outcome: str) -> None:
        self.said.append(f"submission {outcome}")

    def retry(self, exchange: str, cause: str) -> None:
        self.said.append(f"retry {cause}")

    def lookup(self, exchange: str, result: str) -> None:
        self.said.append(f"lookup {result}")


class Desk:
    """The stage with fakes around it; jitter is off unless a test turns it on."""

    def __init__(self, **config: Any) -> None:
        self.clock = ManualClock()
        self.ledger = FakeLedger()
        self.orders = OrderManager()
        self.exchange = ScriptedExchange(self.clock)
        self.exchange.placing = [report()]
        self.exchange.looking = [not_found()]
        self.meter = Meter()
        self.random = Random(4)
        self.state_of_worker = WorkerState()
        self.custody = custody(expires_mono_ms=10**9)
        self.handler = OrderExecutorHandler(
            ExecutionConfig(**({"jitter": 0.0} | config)),
            exchanges={"paper": self.exchange},
            ledger=self.ledger.as_ledger(),
            orders=self.orders,
            state=self.state_of_worker,
            clock=self.clock,
            random=self.random,
            meter=self.meter,
        )

    def order(
        self, *, closing: bool = False, pause_ms: float = 0.0, **fields: Any
    ) -> AdmittedOrder:
        one: Signal = fields.pop("signal", None) or signal()
        request = order_request(symbol=one.symbol, role=Role.EXIT if closing else Role.ENTRY)
        self.custody.order = self.orders.begin(request, one.signal_id)
        whole: dict[str, Any] = {
            "signal": one,
            "lifetime": Lifetime(one.created_ms, one.expires_ms(one.created_ms, 3_600_000)),
            "permission": Permission(self.clock.ms, pause_ms),
        }
        return admitted_order(request, **(whole | fields))

    async def send(self, **fields: Any) -> Any:
        return await self.handler.handle(self.order(**fields), self.custody)

    @property
    def placed(self) -> int:
        """How many create requests were sent."""
        return len(self.exchange.times("place"))

    @property
    def state(self) -> OrderState:
        return self.custody.order.state


def failure(ended: Any) -> Code:
    assert isinstance(ended, Failed), ended
    assert ended.refusal.stage is Stage.EXECUTION
    assert ended.refusal.reason
    assert ended.order is not None
    return ended.refusal.code


# --- the hot path ---


async def test_a_fresh_order_costs_one_request_and_nothing_else() -> None:
    """A fresh order is sent without look-up, further question to Redis, or pause."""
    desk = Desk()
    sent = await desk.send()
    assert isinstance(sent, Submission)
    assert (sent.attempts, sent.report.exchange_order_id) == (1, "X1")
    assert desk.exchange.calls == [("place", 0.0)]
    assert desk.ledger.authorized == 0
    assert desk.clock.slept == []
    assert desk.meter.said == ["submission accepted"]
    assert desk.state is OrderState.FILLED


async def test_an_accepted_order_leaves_no_doubt() -> None:
    """Once an order is accepted, no request for it is in doubt."""
    desk = Desk()
    await desk.send()
    assert desk.custody.doubt_until_mono_ms is None


async def test_while_a_request_is_under_way_the_lease_is_in_doubt() -> None:
    """A request is in doubt until its deadline plus the margin for clocks."""
    desk = Desk()
    seen: list[float | None] = []

    def note(request: OrderRequest) -> Any:
        seen.append(desk.custody.doubt_until_mono_ms)
        return report()(request)

    desk.exchange.placing = [note]
    await desk.send()
    assert seen == [5_000.0 + 1_000.0]


# --- refusals and retries ---

REFUSALS: list[tuple[ExchangeError, Code]] = [
    (trouble(Outcome.REFUSED), Code.ORDER_REJECTED),
    (InvalidOrderError("price", outcome=Outcome.REFUSED), Code.ORDER_REJECTED),
    (InsufficientBalanceError("funds", outcome=Outcome.REFUSED), Code.INSUFFICIENT_BALANCE),
    (CredentialsError("key", outcome=Outcome.REFUSED), Code.CREDENTIALS_REFUSED),
]


@pytest.mark.parametrize(("error", "code"), REFUSALS, ids=str)
async def test_a_definite_no_is_not_asked_again(error: ExchangeError, code: Code) -> None:
    """A definite refusal ends after one request, with the exchange's own words."""
    desk = Desk()
    desk.exchange.placing = [error]
    ended = await desk.send()
    assert failure(ended) is code
    assert ended.refusal.reason == f"paper: {error}"
    assert ended.refusal.attempts == desk.placed == 1
    assert desk.clock.slept == []
    assert desk.state is OrderState.REJECTED
    assert desk.custody.doubt_until_mono_ms is None


@pytest.mark.parametrize(
    ("error", "code", "state"),
    [
        (trouble(Outcome.NOT_SENT), Code.EXCHANGE_UNAVAILABLE, OrderState.FAILED),
        (trouble(Outcome.THROTTLED), Code.RATE_LIMITED, OrderState.FAILED),
        (trouble(Outcome.REFUSED, transient=True), Code.ORDER_REJECTED, OrderState.REJECTED),
        (
            ClockSkewError("early", outcome=Outcome.REFUSED, transient=True),
            Code.CLOCK_SKEW,
            OrderState.REJECTED,
        ),
    ],
)
async def test_what_may_pass_is_tried_again_with_growing_pauses(
    error: ExchangeError, code: Code, state: OrderState
) -> None:
    """Three retries after 1, 2 and 4 seconds; then the failure says how often it was tried."""
    desk = Desk()
    desk.exchange.placing = [error]
    ended = await desk.send()
    assert failure(ended) is code
    assert desk.placed == ended.refusal.attempts == 4
    assert desk.clock.slept == [1.0, 2.0, 4.0]
    assert desk.state is state


async def test_a_retry_can_succeed() -> None:
    """The submission counts all attempts, and each retry asked Redis first."""
    desk = Desk()
    desk.exchange.placing = [trouble(Outcome.NOT_SENT), trouble(Outcome.NOT_SENT), report()]
    sent = await desk.send()
    assert isinstance(sent, Submission)
    assert sent.attempts == 3
    assert desk.ledger.authorized == 2
    assert desk.meter.said == [
        "submission not_sent",
        "retry not_sent",
        "submission not_sent",
        "retry not_sent",
        "submission accepted",
    ]


async def test_every_attempt_is_the_same_order() -> None:
    """The same client order id, quantity and price each time."""
    desk = Desk()
    desk.exchange.placing = [trouble(Outcome.NOT_SENT), report()]
    await desk.send()
    first, second = desk.exchange.requests
    assert first == second


@pytest.mark.parametrize("retries", [0, 1, 6])
async def test_the_number_of_retries_and_the_longest_pause_are_configured(retries: int) -> None:
    """``max_retries`` further attempts, no pause over ``max_delay``."""
    desk = Desk(max_retries=retries, base_delay=0.5, backoff_factor=3.0, max_delay=5.0)
    desk.exchange.placing = [trouble(Outcome.NOT_SENT)]
    await desk.send()
    assert desk.placed == retries + 1
    assert desk.clock.slept == [0.5, 1.5, 4.5, 5.0, 5.0, 5.0][:retries]


async def test_jitter_stays_within_its_fraction_and_varies() -> None:
    """±25% around each pause, not the same one every time."""
    ratios = []
    for seed in range(60):
        desk = Desk(jitter=0.25)
        desk.random.seed(seed)
        desk.exchange.placing = [trouble(Outcome.NOT_SENT)]
        await desk.send()
        ratios += [took / due for took, due in zip(desk.clock.slept, (1, 2, 4), strict=True)]
    assert 0.75 <= min(ratios) < 0.8
    assert 1.2 < max(ratios) <= 1.25
    assert 0.95 < sum(ratios) / len(ratios) < 1.05


# --- time runs out ---


async def test_nothing_is_sent_after_the_expiry() -> None:
    """A signal that expires between admission and sending is not sent."""
    desk = Desk()
    ended = await desk.send(signal=signal(expires_at=START.isoformat()))
    assert failure(ended) is Code.SIGNAL_EXPIRED
    assert ended.refusal.attempts == desk.placed == 0
    assert desk.state is OrderState.FAILED


async def test_no_retry_is_waited_for_that_would_come_too_late() -> None:
    """The failure keeps the cause: the exchange was unavailable, not the signal old."""
    desk = Desk()
    desk.exchange.placing = [trouble(Outcome.NOT_SENT)]
    soon = (START + timedelta(seconds=2)).isoformat()
    ended = await desk.send(signal=signal(expires_at=soon))
    assert failure(ended) is Code.EXCHANGE_UNAVAILABLE
    assert desk.clock.slept == [1.0]
    assert desk.placed == 2


async def test_a_lease_too_short_for_the_request_postpones_it() -> None:
    """Deadline and margin must lie within the lease: nothing is sent, nothing is decided."""
    desk = Desk()
    desk.custody.expires_mono_ms = 5_000.0 + 1_000.0 - 1
    assert isinstance(await desk.send(), Postponed)
    assert desk.placed == 0


async def test_a_lease_just_long_enough_is_enough() -> None:
    """A request whose deadline plus margin ends together with the lease is sent."""
    desk = Desk()
    desk.custody.expires_mono_ms = 5_000.0 + 1_000.0
    assert isinstance(await desk.send(), Submission)


async def test_a_lost_lease_ends_it() -> None:
    """Without the lease not one request is sent: another worker has the entry."""
    desk = Desk()
    desk.custody.lose()
    assert isinstance(await desk.send(), Lost)
    assert desk.placed == 0


async def test_the_window_is_fixed_before_the_lease_is_checked() -> None:
    """The lease is checked against the window that is sent, so a pause makes the request late."""
    desk = Desk()
    steps: list[tuple[str, float]] = []
    opening = desk.exchange.open_window

    class Watched(Custody):
        def covers(self, mono_ms: float) -> bool:
            steps.append(("lease", mono_ms))
            return super().covers(mono_ms)

    def open_window() -> Any:
        window = opening()
        steps.append(("window", window.expires_mono_ms))
        desk.clock.ms += 60_000  # the process was stopped here
        return window

    desk.exchange.open_window = open_window  # type: ignore[method-assign]
    desk.custody = Watched(ENTRY_ID, 1, 10.0**9)
    assert isinstance(await desk.send(), Submission)
    assert steps == [("window", 5_000.0), ("lease", 6_000.0)]


# --- its turn ---


class Counted(Desk):
    """A desk with two orders a second, a burst of which is spent already."""

    def __init__(self, **config: Any) -> None:
        super().__init__(**config)
        self.exchange.budget = RequestGate("paper", {}, self.clock, orders_per_second=2.0)
        assert [self.exchange.take_turn(0.0) for _ in range(2)] == [0.0, 0.0]


async def test_an_order_waits_for_its_turn_before_it_may_be_sent() -> None:
    """The wait comes before the last look, so the window begins with the sending."""
    desk = Counted()
    assert isinstance(await desk.send(), Submission)
    assert desk.clock.slept == [0.5]
    assert desk.ledger.authorized == 1  # the admission is as old as the wait
    assert desk.exchange.times("place") == [500.0]


async def test_a_turn_that_has_come_costs_nothing() -> None:
    """A turn that has come is taken without sleep or question to the ledger."""
    desk = Desk()
    desk.exchange.budget = RequestGate("paper", {}, desk.clock, orders_per_second=2.0)
    assert isinstance(await desk.send(), Submission)
    assert desk.clock.slept == []
    assert desk.ledger.authorized == 0


@pytest.mark.parametrize(
    ("answer", "end"),
    [
        (Authorization(held=True, trading_state=TradingState.HALTED, pause_ms=0.0), Failed),
        (Authorization(held=False, trading_state=TradingState.ACTIVE, pause_ms=0.0), Lost),
        (GONE, Postponed),
    ],
)
async def test_what_happens_during_the_wait_for_a_turn_counts(answer: Any, end: type) -> None:
    """After a halt, a fence or an outage during the wait for a turn, nothing is sent."""
    desk = Counted()
    desk.ledger.authorizations = [answer]
    assert isinstance(await desk.send(), end)
    assert desk.clock.slept == [0.5]
    assert desk.placed == 0


async def test_a_lease_that_ends_during_the_wait_for_a_turn_postpones_the_order() -> None:
    """The lease is held against the window, and the window opens after the wait."""
    desk = Counted()
    desk.custody.expires_mono_ms = 5_000.0 + 1_000.0 + 499
    assert isinstance(await desk.send(), Postponed)
    assert desk.placed == 0


async def test_a_turn_later_than_the_signal_lives_is_not_waited_for() -> None:
    """It fails at once, and the turn stays for another."""
    desk = Counted()
    soon = (START + timedelta(milliseconds=400)).isoformat()
    ended = await desk.send(signal=signal(expires_at=soon))
    assert failure(ended) is Code.RATE_LIMITED
    assert "exchanges.paper.max_orders_per_second" in ended.refusal.reason
    assert desk.clock.slept == []
    assert isinstance(await desk.send(), Submission)
    assert desk.clock.slept == [0.5]


async def test_no_turn_is_waited_for_while_draining() -> None:
    """A draining worker postpones an order whose turn has not come."""
    desk = Counted()
    desk.state_of_worker.drain()
    assert isinstance(await desk.send(), Postponed)
    assert desk.clock.slept == []


async def test_a_turn_that_passed_during_an_exchanges_pause_is_taken_anew() -> None:
    """Otherwise all that wait would be sent together when the pause ends."""
    desk = Counted()
    desk.ledger.authorizations = [authorization(pause_ms=3_000.0), authorization()]
    sleep = desk.clock.sleep

    async def others_go_first(seconds: float) -> None:
        await sleep(seconds)
        if seconds == 3.0:
            assert [desk.exchange.take_turn(0.0) for _ in range(2)] == [0.0, 0.0]

    desk.clock.sleep = others_go_first  # type: ignore[method-assign]
    assert isinstance(await desk.send(), Submission)
    assert desk.clock.slept == [0.5, 3.0, 0.5]


# --- asking Redis again ---


def authorization(
    state: TradingState = TradingState.ACTIVE, *, held: bool = True, pause_ms: float = 0.0
) -> Authorization:
    return Authorization(held=held, trading_state=state, pause_ms=pause_ms)


async def test_an_old_admission_is_looked_at_again() -> None:
    """A permission at its age limit is used; a millisecond over, the ledger is asked once."""
    desk = Desk()
    await desk.send(permission=Permission(desk.clock.ms - PERMISSION_TTL_MS))
    assert desk.ledger.authorized == 0
    await desk.send(permission=Permission(desk.clock.ms - PERMISSION_TTL_MS - 1))
    assert desk.ledger.authorized == 1


@pytest.mark.parametrize(
    ("state", "closing", "code"),
    [
        (TradingState.HALTED, False, Code.TRADING_HALTED),
        (TradingState.HALTED, True, Code.TRADING_HALTED),
        (TradingState.REDUCING, False, Code.TRADING_REDUCING),
        (TradingState.REDUCING, True, None),
    ],
)
async def test_halted_between_attempts(
    state: TradingState, closing: bool, code: Code | None
) -> None:
    """What was admitted before the halt is not sent after it; reducing lets closes through."""
    desk = Desk()
    desk.exchange.placing = [trouble(Outcome.NOT_SENT), report()]
    desk.ledger.authorizations = [authorization(state)]
    held = msgspec.UNSET if closing else None
    ended = await desk.send(closing=closing, position=held)
    if code is None:
        assert isinstance(ended, Submission)
        return
    assert failure(ended) is code
    assert ended.refusal.attempts == desk.placed == 1


async def test_fenced_between_attempts() -> None:
    """A worker fenced between two attempts sends nothing more and marks its lease lost."""
    desk = Desk()
    desk.exchange.placing = [trouble(Outcome.NOT_SENT)]
    desk.ledger.authorizations = [authorization(held=False)]
    assert isinstance(await desk.send(), Lost)
    assert desk.custody.is_lost
    assert desk.placed == 1


async def test_without_redis_nothing_is_sent_again() -> None:
    """A retry needs the trading state, so while Redis is away nothing is sent."""
    desk = Desk()
    desk.exchange.placing = [trouble(Outcome.NOT_SENT)]
    desk.ledger.authorizations = [GONE]
    assert isinstance(await desk.send(), Postponed)
    assert desk.placed == 1


async def test_the_fleets_pause_is_waited_out_and_asked_about_again() -> None:
    """A pause that was lengthened meanwhile is waited for too."""
    desk = Desk()
    desk.ledger.authorizations = [
        authorization(pause_ms=700.0),
        authorization(pause_ms=200.0),
        authorization(),
    ]
    assert isinstance(await desk.send(pause_ms=900.0), Submission)
    assert desk.clock.slept == [0.7, 0.2]
    assert desk.ledger.authorized == 3


async def test_a_pause_longer_than_the_signal_fails_it() -> None:
    """A pause that outlasts the signal fails it at once, without waiting."""
    desk = Desk()
    desk.ledger.authorizations = [authorization(pause_ms=60_000.0)]
    soon = (START + timedelta(seconds=30)).isoformat()
    ended = await desk.send(pause_ms=60_000.0, signal=signal(expires_at=soon))
    assert failure(ended) is Code.RATE_LIMITED
    assert desk.clock.slept == []
    assert desk.placed == 0


async def test_a_draining_worker_waits_for_nothing() -> None:
    """A draining worker waits neither for a pause nor for a retry."""
    desk = Desk()
    desk.state_of_worker.drain()
    desk.ledger.authorizations = [authorization(pause_ms=500.0)]
    assert isinstance(await desk.send(pause_ms=500.0), Postponed)
    desk.exchange.placing = [trouble(Outcome.NOT_SENT)]
    assert isinstance(await desk.send(), Postponed)
    assert desk.clock.slept == []


# --- rate limits and clocks ---


async def test_a_throttled_worker_slows_the_whole_fleet() -> None:
    """A throttled worker waits as long as the exchange asked, and stores that for the fleet."""
    desk = Desk()
    told = RateLimitError("slow down", outcome=Outcome.THROTTLED, retry_after_s=7.5)
    desk.exchange.placing = [told, report()]
    assert isinstance(await desk.send(), Submission)
    assert desk.ledger.throttled == [("paper", 7_500)]
    assert desk.clock.slept == [7.5]


async def test_a_pause_shorter_than_the_backoff_does_not_shorten_it() -> None:
    """Of the exchange's pause and the backoff, the longer one is waited."""
    desk = Desk()
    told = RateLimitError("slow down", outcome=Outcome.THROTTLED, retry_after_s=0.2)
    desk.exchange.placing = [told, report()]
    await desk.send()
    assert desk.clock.slept == [1.0]
    assert desk.ledger.throttled == [("paper", 200)]


async def test_a_skewed_clock_is_measured_before_the_next_attempt() -> None:
    """The exchange refused the timestamp: a new offset may put it right."""
    desk = Desk()
    desk.exchange.placing = [
        ClockSkewError("-1021", outcome=Outcome.REFUSED, transient=True),
        report(),
    ]
    assert isinstance(await desk.send(), Submission)
    assert [name for name, _ in desk.exchange.calls] == ["place", "clock", "place"]


@pytest.mark.parametrize(
    ("offset", "uncertainty", "sent"),
    [(1_000, 0, True), (-900, 100, True), (-1_000, 1, False), (600, 401, False)],
)
async def test_too_much_skew_stops_sending(offset: float, uncertainty: float, sent: bool) -> None:
    """Nothing is sent if offset plus uncertainty, either way, is over the limit."""
    desk = Desk()
    desk.exchange.clock_offset = ClockOffset(offset_ms=offset, uncertainty_ms=uncertainty)
    ended = await desk.send()
    if sent:
        assert isinstance(ended, Submission)
    else:
        assert failure(ended) is Code.CLOCK_SKEW
    assert desk.placed == sent


# --- unknown outcomes ---


async def test_an_unknown_outcome_that_is_found_is_a_submission() -> None:
    """An order found after a lost reply goes on as if it had been accepted."""
    desk = Desk()
    desk.exchange.placing = [trouble(Outcome.UNKNOWN)]
    desk.exchange.looking = [report(OrderState.ACTIVE)]
    sent = await desk.send()
    assert isinstance(sent, Submission)
    assert sent.attempts == desk.placed == 1
    assert desk.meter.said == ["submission unknown", "lookup found"]
    assert desk.custody.doubt_until_mono_ms is None


async def test_not_found_counts_only_after_deadline_and_visibility() -> None:
    """Only a question asked after both may prove absence; then the same order goes again."""
    desk = Desk()
    desk.exchange.placing = [trouble(Outcome.UNKNOWN), report()]
    sent = await desk.send()
    assert isinstance(sent, Submission)
    first, second = desk.exchange.times("place")
    proof = desk.exchange.times("look")[-1]
    assert first + 5_000 + desk.exchange.visibility_ms <= proof <= second
    assert all(at < 7_000 for at in desk.exchange.times("look")[:-1])
    assert desk.meter.said == [
        "submission unknown",
        "lookup absent",
        "retry not_sent",
        "submission accepted",
    ]


async def test_an_order_that_shows_up_late_is_found() -> None:
    """An order found at the third look-up is never sent again."""
    desk = Desk()
    desk.exchange.placing = [trouble(Outcome.UNKNOWN)]
    desk.exchange.looking = [not_found(), not_found(), report()]
    assert isinstance(await desk.send(), Submission)
    assert desk.placed == 1


async def test_errors_prove_nothing_however_often() -> None:
    """Silence for ``max_lookup_seconds`` leaves the order unresolved and the lease in doubt."""
    desk = Desk(max_lookup_seconds=20.0)
    desk.exchange.placing = [trouble(Outcome.UNKNOWN)]
    desk.exchange.looking = [trouble(Outcome.UNKNOWN)]
    ended = await desk.send()
    assert isinstance(ended, Unresolved)
    assert "it was unknown" in ended.reason
    assert desk.placed == 1
    assert 20_000 < desk.clock.ms < 23_000
    assert desk.state is OrderState.UNRESOLVED
    assert desk.custody.doubt_until_mono_ms is not None
    assert desk.custody.doubt_until_mono_ms > 0


async def test_errors_before_and_after_the_deadline_do_not_hide_the_proof() -> None:
    """One "not found" after the deadline is proof, whatever errors surround it."""
    desk = Desk()
    desk.exchange.placing = [trouble(Outcome.UNKNOWN), report()]
    desk.exchange.looking = [trouble(Outcome.UNKNOWN)] * 9 + [not_found()]
    assert isinstance(await desk.send(), Submission)
    assert desk.placed == 2


async def test_an_older_order_with_the_same_id_is_not_ours() -> None:
    """Created before our first attempt could be: neither found nor proof of absence."""
    desk = Desk()
    desk.exchange.placing = [trouble(Outcome.UNKNOWN)]
    desk.exchange.looking = [report(created_ms=START_MS - 2_001)]
    ended = await desk.send()
    assert isinstance(ended, Unresolved)
    assert "older order X1" in ended.reason
    assert desk.placed == 1


@pytest.mark.parametrize("created_ms", [START_MS - 2_000, START_MS, 0])
async def test_an_order_as_old_as_ours_or_of_unknown_age_is_ours(created_ms: int) -> None:
    """An order within the clock margins, or without a time, counts as ours."""
    desk = Desk()
    desk.exchange.placing = [trouble(Outcome.UNKNOWN)]
    desk.exchange.looking = [report(created_ms=created_ms)]
    assert isinstance(await desk.send(), Submission)


async def test_where_a_late_request_cannot_be_refused_nothing_is_sent_again() -> None:
    """With ``Resend.NEVER`` an absent order stays unresolved for a person to decide."""
    desk = Desk()
    desk.exchange.resend = Resend.NEVER
    desk.exchange.placing = [trouble(Outcome.UNKNOWN)]
    ended = await desk.send()
    assert isinstance(ended, Unresolved)
    assert desk.placed == 1


async def test_the_rule_for_sending_again_may_depend_on_the_order() -> None:
    """An exchange whose conditional orders know no deadline: the order's own rule counts."""
    desk = Desk()
    assert desk.exchange.resend is Resend.AFTER_DEADLINE
    desk.exchange.resend_rule = lambda _: Resend.NEVER  # type: ignore[method-assign, assignment]
    desk.exchange.placing = [trouble(Outcome.UNKNOWN)]
    ended = await desk.send()
    assert isinstance(ended, Unresolved)
    assert desk.placed == 1


async def test_a_lease_lost_during_the_search_ends_it() -> None:
    """A worker that loses its lease stops searching; its successor searches."""
    desk = Desk()
    desk.exchange.placing = [trouble(Outcome.UNKNOWN)]

    def lose(_: OrderRequest) -> ExchangeError:
        desk.custody.lose()
        return not_found()

    desk.exchange.looking = [lose]
    assert isinstance(await desk.send(), Lost)
    assert len(desk.exchange.times("look")) == 1


async def test_an_unknown_outcome_after_the_last_retry_gives_up_only_with_proof() -> None:
    """With no retry left, proven absence is a failure, not an unresolved order."""
    desk = Desk(max_retries=0)
    desk.exchange.placing = [trouble(Outcome.UNKNOWN)]
    assert failure(await desk.send()) is Code.EXCHANGE_UNAVAILABLE
    assert desk.state is OrderState.FAILED


# --- later deliveries ---


async def test_a_later_delivery_looks_before_it_sends() -> None:
    """A later delivery that finds the order sends nothing."""
    desk = Desk()
    desk.exchange.looking = [report()]
    sent = await desk.send(sent_before=MaybeSent(0.0))
    assert isinstance(sent, Submission)
    assert desk.placed == 0
    assert [name for name, _ in desk.exchange.calls] == ["look"]


async def test_a_later_delivery_sends_only_after_proof() -> None:
    """It waits until an earlier request can no longer arrive, and asks Redis before it sends."""
    desk = Desk()
    sent = await desk.send(sent_before=MaybeSent(3_000.0), permission=None)
    assert isinstance(sent, Submission)
    assert desk.exchange.times("look")[-1] >= 3_000
    assert desk.exchange.times("place")[0] >= 3_000
    assert desk.ledger.authorized == 1


async def test_a_later_delivery_of_a_dead_signal_only_looks() -> None:
    """With ``give_up`` an absent order fails for good, and a found one goes on as usual."""
    desk = Desk()
    why = Refusal(Stage.EXECUTION, Code.DELIVERIES_EXHAUSTED, "six died")
    ended = await desk.send(sent_before=MaybeSent(0.0), give_up=why)
    assert failure(ended) is Code.DELIVERIES_EXHAUSTED
    assert ended.refusal.reason == "six died"
    desk.exchange.looking = [report()]
    assert isinstance(await desk.send(sent_before=MaybeSent(0.0), give_up=why), Submission)
    assert desk.placed == 0


async def test_a_later_delivery_that_learns_nothing_is_unresolved() -> None:
    """Where look-ups fail, an order that may have been sent is unresolved."""
    desk = Desk()
    desk.exchange.looking = [trouble(Outcome.UNKNOWN)]
    assert isinstance(await desk.send(sent_before=MaybeSent(0.0)), Unresolved)
    assert desk.placed == 0


async def test_a_later_delivery_where_nothing_may_be_sent_twice_is_unresolved() -> None:
    """On an exchange without deadlines "not found" is no proof."""
    desk = Desk()
    desk.exchange.resend = Resend.NEVER
    ended = await desk.send(sent_before=MaybeSent(0.0))
    assert isinstance(ended, Unresolved)
    assert "not sent again" in ended.reason


# --- what is left behind ---


@pytest.mark.parametrize("ending", [Lost, Postponed, Unresolved])
async def test_an_order_that_went_elsewhere_is_not_followed_any_more(ending: type) -> None:
    """An order that goes to another worker is neither active nor counted here any more."""
    desk = Desk()
    if ending is Lost:
        desk.custody.lose()
    if ending is Postponed:
        desk.custody.expires_mono_ms = 0.0
    desk.exchange.placing = desk.exchange.looking = [trouble(Outcome.UNKNOWN)]
    assert isinstance(await desk.send(), ending)
    assert desk.orders.statistics()["active"] == 0
    assert desk.orders.find("c1") is None


async def test_a_custody_names_the_entry_it_is_for() -> None:
    """A custody prints as the entry's id, its token and the end of its lease."""
    assert repr(custody()) == f"<Custody {ENTRY_ID} token 1 until 15000 ms>"


# --- a person's decision ---

DECIDED = Verdict(actor="ann@desk", reason="support ticket 7")
TRADED = Verdict(
    actor="ann@desk", reason="seen", filled=D("0.5"), price=D(101), fee=D("0.1"), fee_currency="BNB"
)
SILENT = trouble(Outcome.UNKNOWN)


async def in_doubt(verdict: Verdict | None, answer: Any, resend: Resend = Resend.NEVER) -> Any:
    """An order an earlier delivery may have sent, looked up with ``answer``; desk and end."""
    desk = Desk(max_lookup_seconds=1)
    desk.exchange.resend = resend
    desk.exchange.looking = [answer]
    return desk, await desk.send(sent_before=MaybeSent(0.0), verdict=verdict)


@pytest.mark.parametrize("answer", [SILENT, not_found()], ids=["silent", "not found"])
async def test_without_a_decision_an_order_nobody_tells_of_stays_unresolved(answer: Any) -> None:
    """Without a verdict, an order that the exchange does not report stays unresolved."""
    desk, end = await in_doubt(None, answer)
    assert isinstance(end, Unresolved)
    assert desk.placed == 0


@pytest.mark.parametrize("resend", Resend)
@pytest.mark.parametrize("answer", [SILENT, not_found()], ids=["silent", "not found"])
async def test_an_order_decided_to_be_absent_fails_and_is_never_sent_again(
    answer: Any, resend: Resend
) -> None:
    """An order decided absent fails with the actor and reason of the verdict."""
    desk, end = await in_doubt(DECIDED, answer, resend)
    assert failure(end) is Code.DECIDED_ABSENT
    assert "ann@desk" in end.refusal.reason
    assert "support ticket 7" in end.refusal.reason
    assert desk.placed == 0
    assert desk.state is OrderState.FAILED


@pytest.mark.parametrize("resend", Resend)
@pytest.mark.parametrize("answer", [SILENT, not_found()], ids=["silent", "not found"])
async def test_an_order_decided_to_have_traded_is_settled_so(answer: Any, resend: Resend) -> None:
    """What was not traded counts as cancelled; the fee is kept; nothing is sent."""
    desk, end = await in_doubt(TRADED, answer, resend)
    assert isinstance(end, Submission)
    assert (end.report.state, end.report.filled_quantity) == (OrderState.CANCELLED, D("0.5"))
    (trade,) = end.report.fills
    assert (trade.quantity, trade.price, trade.fee, trade.fee_currency) == (
        D("0.5"),
        D(101),
        D("0.1"),
        "BNB",
    )
    assert desk.placed == 0


async def test_an_order_decided_to_have_traded_whole_is_filled() -> None:
    """A verdict over the whole quantity settles the order as filled."""
    desk, end = await in_doubt(msgspec.structs.replace(TRADED, filled=D(2)), SILENT)
    assert isinstance(end, Submission)
    assert end.report.state is desk.state is OrderState.FILLED


@pytest.mark.parametrize("answer", [SILENT, not_found()], ids=["silent", "not found"])
@pytest.mark.parametrize("resend", Resend)
async def test_a_decision_that_cannot_be_right_changes_nothing(answer: Any, resend: Resend) -> None:
    """A verdict over more than was ordered leaves the order unresolved, and says so."""
    desk, end = await in_doubt(msgspec.structs.replace(TRADED, filled=D(3)), answer, resend)
    assert isinstance(end, Unresolved)
    assert "only 2 was ordered" in end.reason
    assert desk.placed == 0


async def test_what_an_order_without_a_size_of_its_own_traded_is_believed() -> None:
    """Looked for after its admission was lost, it has the market's step for a quantity."""
    desk = Desk(max_lookup_seconds=1)
    desk.exchange.looking = [SILENT]
    given_up = Refusal(Stage.RISK, Code.BALANCE_UNKNOWN, "no balance")
    end = await desk.send(
        sent_before=MaybeSent(0.0),
        give_up=given_up,
        verdict=msgspec.structs.replace(TRADED, filled=D(3)),
    )
    assert isinstance(end, Submission)
    assert end.report.filled_quantity == 3


async def test_a_not_found_asked_before_its_time_proves_nothing_however_late_it_comes() -> None:
    """The request may have arrived after the question; only a question asked later proves it."""
    desk = Desk(max_lookup_seconds=60)

    def slowly(_request: OrderRequest) -> Any:
        desk.clock.ms += 3_000
        return not_found()

    desk.exchange.looking = [slowly, report()]
    end = await desk.send(sent_before=MaybeSent(2_000.0))
    assert isinstance(end, Submission)
    assert desk.placed == 0
    assert len(desk.exchange.times("look")) == 2


@pytest.mark.parametrize("verdict", [DECIDED, TRADED], ids=["absent", "traded"])
async def test_what_the_exchange_tells_counts_more_than_a_decision(verdict: Verdict) -> None:
    """An order that the exchange reports is settled by that report, whatever the verdict."""
    _, end = await in_doubt(verdict, report())
    assert isinstance(end, Submission)
    assert (end.report.exchange_order_id, end.report.state) == ("X1", OrderState.FILLED)
