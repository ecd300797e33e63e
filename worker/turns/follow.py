"""Follows an order that rests: asks for it, cancels it when it is time, writes down what is new.

One turn takes one step. What the step is follows from the durable state and the time alone
(:func:`why_cancel`, :func:`pause_ms`), so any worker may have the next turn.
"""

from collections.abc import Mapping
from decimal import Decimal
from typing import Final

import msgspec

from worker.domain.order import TERMINAL, OrderReport, OrderRequest, OrderState
from worker.domain.plausibility import ImplausibleError, check_progress
from worker.domain.refusal import CancelCode
from worker.domain.trading_state import TradingState
from worker.exchanges.budget.classes import RequestClass, asking
from worker.exchanges.errors import ExchangeError, OrderNotFoundError, Outcome, RateLimitError
from worker.exchanges.ports import ExchangeAdapter
from worker.ledger.stored import OrderRow
from worker.ledger.turns import ApplyItem, CancelMark, LiveOrder, Turn
from worker.market.data import MarketData
from worker.pipeline.custody import Custody
from worker.pipeline.flow import (
    AdmittedOrder,
    Arrival,
    Failed,
    Lost,
    Postponed,
    Settlement,
    Submission,
    Unresolved,
)
from worker.pipeline.live_orders import LiveOrderWriter, told_of
from worker.pipeline.orders import OrderManager
from worker.pipeline.reconciliation import ReconciliationHandler
from worker.pipeline.risk import RiskManagementHandler, recorded
from worker.pipeline.settlement import Ending, SettlementWriter
from worker.pipeline.validation import ValidationHandler
from worker.pipeline.worker_state import WorkerState
from worker.runtime.clock import Clock
from worker.runtime.logger import get_logger

log = get_logger()

#: An old order is asked for once in this time at least, milliseconds ...
LONGEST_PAUSE_MS: Final = 60_000
#: ... and a younger one every so many parts of its age.
AGE_PARTS: Final = 30
#: A cancelled order whose end is not reported yet, and one of which the exchange told nothing, is
#: asked for again after this.
SOON_MS: Final = 1_000
#: A worker that cannot look at an order leaves it to another one, or to itself, after this.
NOT_HERE_MS: Final = 5_000
#: A request of a turn waits this long at most for its place in the budget, seconds.
WITHIN_S: Final = 5.0


_GOOD_TILL: Final = CancelCode.GOOD_TILL


class Later(msgspec.Struct, frozen=True, gc=False):
    """A turn that has found out nothing: another one is due after ``after_ms``."""

    after_ms: int
    reason: str


class Over(msgspec.Struct, frozen=True, gc=False):
    """A turn that has seen the end of an order; ``ending`` is for metrics and logs."""

    item: ApplyItem
    ending: Ending


class FollowOrders:
    """Takes the turns of positions for which an entry rests.

    Args:
        exchanges: by name.
        market: which exchanges have started, and their markets.
        validation: knows a signal's lifetime.
        risk: makes the order anew from its signal's record.
        reconciliation: collects the trades of an order that is over.
        writer: writes ends down.
        live_orders: writes down what an open order has done.
        orders: the orders that this process follows.
        state: of the worker; what rests is cancelled while the account may not open positions.
        first_pause_ms: how often a young order is asked for.
        clock: time.
    """

    def __init__(
        self,
        *,
        exchanges: Mapping[str, ExchangeAdapter],
        market: MarketData,
        validation: ValidationHandler,
        risk: RiskManagementHandler,
        reconciliation: ReconciliationHandler,
        writer: SettlementWriter,
        live_orders: LiveOrderWriter,
        orders: OrderManager,
        state: WorkerState,
        first_pause_ms: int,
        clock: Clock,
    ) -> None:
        self._exchanges = exchanges
        self._market = market
        self._validation = validation
        self._risk = risk
        self._reconciliation = reconciliation
        self._writer = writer
        self._live_orders = live_orders
        self._orders = orders
        self._state = state
        self._first_pause_ms = first_pause_ms
        self._clock = clock

    async def step(self, turn: Turn, custody: Custody) -> ApplyItem | Over | Later:
        """Take one step for the order that rests; returns what is to be written."""
        if not turn.orders:
            return Later(LONGEST_PAUSE_MS, "the position has no live order")
        live = turn.orders[0]
        order = self._recall(live, custody)
        if isinstance(order, Postponed):
            return Later(NOT_HERE_MS, order.reason)
        try:
            return await self._follow(turn, live, order, custody)
        finally:
            self._orders.forget(custody.order)  # whoever has the next turn begins it anew

    def _recall(self, live: LiveOrder, custody: Custody) -> AdmittedOrder | Postponed:
        """Return the order as it was admitted, and begin to follow it in its persisted state."""
        stored, record = recorded(live.record), live.record
        signal = stored.signal
        custody.signal_id = signal.signal_id
        view = self._market.known(signal.exchange, signal.symbol)
        if not view.started:
            return Postponed(reason=f"{signal.exchange} has not started")
        arrival = Arrival(
            signal=signal,
            written=b"",
            digest=record.digest,
            view=view,
            lifetime=self._validation.lifetime(signal),
            seen_ms=self._clock.now_ms(),
        )
        order = self._risk.resume(arrival, stored, record, 0.0, custody)
        if isinstance(order, AdmittedOrder):
            managed, row = custody.order, live.row
            managed.state = OrderState(row.state)
            managed.attempts, managed.exchange_order_id = row.attempts, row.exchange_order_id
        return order

    async def _follow(
        self, turn: Turn, live: LiveOrder, order: AdmittedOrder, custody: Custody
    ) -> ApplyItem | Over | Later:
        """Ask for the order; cancel it if that is due, and ask once more."""
        row, last = live.row, _last_report(live.row, order)
        report = await self._ask(order, custody, last, row.placed_ms)
        if isinstance(report, Later):
            return report
        ending, problem = CancelCode[row.ending] if row.ending else None, None
        if report.state not in TERMINAL:
            why = why_cancel(
                row,
                live.cancel,
                self._state.trading_state,
                self._clock.now_ms(),
                at_end=CancelCode.EXPIRED if order.signal.good_till is None else _GOOD_TILL,
            )
            if why is not None:
                exchange = self._exchanges[order.signal.exchange]
                problem = await request_cancel(
                    exchange, order.request, report.exchange_order_id, custody
                )
                if problem is None:
                    ending = ending or why
                again = problem or await self._ask(order, custody, report, row.placed_ms)
                if isinstance(again, Later):
                    log.warning("cancel_unproven", **_ids(row), reason=again.reason)
                else:
                    report = again
        if report.state not in TERMINAL:
            now_ms = self._clock.now_ms()
            due_ms = next_look_ms(row, now_ms, self._first_pause_ms, cancelling=ending is not None)
            if problem is not None:
                due_ms = problem.after_ms
            return self._live_orders.progress(
                turn, live, order, report, due_ms=due_ms, ending=ending
            )
        if ending is not None and not report.reason:
            report = msgspec.structs.replace(report, reason=_sentence(ending, live.cancel))
        return await self._finish(turn, live, order, report, ending, custody)

    async def _finish(
        self,
        turn: Turn,
        live: LiveOrder,
        order: AdmittedOrder,
        report: OrderReport,
        ending: CancelCode | None,
        custody: Custody,
    ) -> Over | Later:
        """Collect the trades of an order that is over, and build its end."""
        submission = Submission(order=order, report=report, attempts=live.row.attempts)
        end = await self._reconciliation.handle(submission, custody)
        match end:
            case Settlement():
                settled = msgspec.structs.replace(
                    end, told=told_of(turn, live), cancelled_for=ending
                )
                written = self._writer.settled(settled, custody)
            case Failed():
                written = self._writer.failed(end, custody)
            case Unresolved():
                return Later(SOON_MS * 5, end.reason)
            case Lost():
                return Later(SOON_MS, "the turn was lost")
        return Over(self._live_orders.over(turn, live, written), written)

    async def _ask(
        self, order: AdmittedOrder, custody: Custody, last: OrderReport, placed_ms: int
    ) -> OrderReport | Later:
        """Return the order's newest report, or when to ask again where there is none."""
        exchange = self._exchanges[order.signal.exchange]
        try:
            with asking(RequestClass.POLL, WITHIN_S):
                report = await exchange.get_order(order.request, last.exchange_order_id)
            check_progress(report, last)
        except (ExchangeError, ImplausibleError) as error:
            return put_off(error, self._clock.now_ms() - placed_ms)
        self._orders.report(custody.order, report)
        return report


async def request_cancel(
    exchange: ExchangeAdapter, request: OrderRequest, exchange_order_id: str, custody: Custody
) -> Later | None:
    """Ask for an order's cancellation under a lease that outlasts the request.

    Returns:
        When to try again where the request was not sent, or the exchange refused it.
    """
    if not custody.covers(exchange.open_window().expires_mono_ms):
        return Later(SOON_MS, "lease too short to cancel")
    try:
        await exchange.cancel_order(request, exchange_order_id)
    except OrderNotFoundError:
        return None  # it has just ended: the next look tells how
    except ExchangeError as error:
        if error.outcome is Outcome.UNKNOWN:
            return None  # it may have been cancelled: the next look tells
        return Later(max(int(error.retry_after_s * 1000), SOON_MS), str(error))
    return None


def why_cancel(
    row: OrderRow,
    mark: CancelMark | None,
    state: TradingState,
    now_ms: int,
    *,
    at_end: CancelCode = CancelCode.EXPIRED,
) -> CancelCode | None:
    """Return why a resting entry has to be cancelled now; None if it may go on.

    Args:
        row: the order.
        mark: what asks for its cancellation.
        state: the account's.
        now_ms: Unix milliseconds.
        at_end: why once its time, ``ends_ms``, has come.
    """
    if mark is not None:
        return mark.code
    if row.ending:
        return CancelCode[row.ending]  # asked for already, and it is still open
    if state is TradingState.HALTED:
        return CancelCode.HALTED
    if state is TradingState.REDUCING:
        return CancelCode.REDUCING
    if row.ends_ms and now_ms >= row.ends_ms:
        return at_end
    return None


def pause_ms(age_ms: float, first_ms: int) -> int:
    """Return in how long an order of that age is asked for again, milliseconds."""
    return max(first_ms, int(min(LONGEST_PAUSE_MS, age_ms / AGE_PARTS)))


def next_look_ms(row: OrderRow, now_ms: int, first_ms: int, *, cancelling: bool) -> int:
    """Return in how long an open order is asked for again, milliseconds.

    Args:
        row: the order.
        now_ms: Unix milliseconds.
        first_ms: how often a young order is asked for.
        cancelling: its cancellation has been asked for.
    """
    due_ms = SOON_MS if cancelling else pause_ms(now_ms - row.placed_ms, first_ms)
    left_ms = row.ends_ms - now_ms
    return min(due_ms, left_ms) if left_ms > 0 else due_ms


def put_off(error: ExchangeError | ImplausibleError, age_ms: float) -> Later:
    """Return when an order of that age is asked for again after a look that told nothing of it.

    One that the exchange does not know is asked for ever more rarely: it may never be known again.
    """
    after_ms = pause_ms(age_ms, SOON_MS) if isinstance(error, OrderNotFoundError) else SOON_MS
    if isinstance(error, RateLimitError):
        after_ms = max(int(error.retry_after_s * 1000), after_ms)
    return Later(after_ms, str(error))


def _sentence(code: CancelCode, mark: CancelMark | None) -> str:
    """Return why an order was cancelled, in a sentence."""
    by = mark.by if mark is not None else ""
    return {
        CancelCode.CLOSED: f"cancelled because signal {by} closes the position",
        CancelCode.REQUESTED: f"cancelled because {by} asked for it",
        CancelCode.EXPIRED: "it rested for execution.max_rest_seconds",
    }.get(code, "")


def _last_report(row: OrderRow, order: AdmittedOrder) -> OrderReport:
    """Return the exchange's last report as the row has it."""
    return OrderReport(
        client_order_id=row.client_order_id,
        exchange_order_id=row.exchange_order_id,
        symbol=order.request.symbol,
        state=OrderState(row.state),
        filled_quantity=Decimal(row.filled),
        average_price=Decimal(row.average_price) if row.average_price else None,
    )


def _ids(row: OrderRow) -> dict[str, str]:
    return {"signal_id": row.signal, "client_order_id": row.client_order_id}
