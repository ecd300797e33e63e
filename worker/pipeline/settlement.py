"""Builds what is committed for each way a signal can end: events, book, record, dead letter."""

from datetime import datetime
from decimal import Decimal

import msgspec

from worker.domain import order_events
from worker.domain.event import (
    Header,
    Severity,
    SystemError,  # noqa: A004 (its public name)
)
from worker.domain.event_text import encode, share
from worker.domain.identity import client_order_id, event_id
from worker.domain.money import (
    HUNDRED,
    ZERO,
    maybe_rounded_text,
    millionths_signed,
    rounded_text,
    text,
)
from worker.domain.order import CANCELLED, FILLED, OrderState
from worker.domain.position_key import position_key
from worker.domain.refusal import DeadReason, Refusal
from worker.domain.signal import Signal
from worker.ledger.items import CommitItem, RecordEnd
from worker.ledger.layouts import DeadLetterTail
from worker.ledger.stored import Reservation
from worker.pipeline import settlement_figures as figures
from worker.pipeline.custody import Custody
from worker.pipeline.ended_line import asked_for, traded
from worker.pipeline.flow import (
    Completed,
    Failed,
    Malformed,
    Repeated,
    Settlement,
    Unresolved,
    leg_of,
    reservation_of,
)
from worker.pipeline.position_change import alarms, change_after_failure, change_position
from worker.pipeline.settled_events import events_of, traded_whole
from worker.pipeline.sizing import Sizing
from worker.runtime.clock import Clock, rfc3339, utc
from worker.runtime.logger import PlainFields

_encode = msgspec.json.Encoder().encode


class Ending(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One signal's end: the item to commit, the fields of its log line, and what metrics count."""

    item: CommitItem
    outcome: str
    fields: PlainFields
    settlement: Settlement | None = None
    refusal: Refusal | None = None
    realized: Decimal = ZERO
    slippage_bps: Decimal | None = None

    @property
    def rests(self) -> bool:
        """Return whether the signal has not ended: its order goes on without the entry."""
        return self.item.rests is not None


class OrderSummary(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The part of a record that is kept of a finished order, for ``execution-worker order``."""

    state: OrderState
    client_order_id: str
    exchange_order_id: str
    filled_quantity: str
    average_price: str | None
    realized_pnl: str
    attempts: int


class SettlementWriter:
    """Turns a signal's end into one commit; plain functions.

    Args:
        account: named in every event.
        worker: named in every event.
        sizing: knows the stop a new position gets.
        max_slippage_pct: above it a fill is flagged.
        max_life_ms: how long from now a signal may live at most, to be one that still trades.
        clock: the events' time.
    """

    def __init__(
        self,
        *,
        account: str,
        worker: str,
        sizing: Sizing,
        max_slippage_pct: Decimal,
        max_life_ms: float,
        clock: Clock,
    ) -> None:
        self._account = account
        self._worker = worker
        self._sizing = sizing
        self._max_slippage_bps = max_slippage_pct * HUNDRED
        self._max_life_ms = int(max_life_ms)
        self._clock = clock

    def settled(self, end: Settlement, custody: Custody) -> Ending:
        """Build the end of an order that is over: its events, and the position it changed."""
        order, report = end.order, end.report
        request, signal = order.request, order.signal
        now_ms = self._clock.now_ms()
        now = utc(now_ms)
        header = self.header(signal, now)
        is_whole = traded_whole(end)
        slippage = figures.slippage_bps(order, end.average_price)
        filled, average = text(end.filled), maybe_rounded_text(end.average_price)
        change = change_position(end, self._sizing, header, now)
        entry_id = end.told.entry_id if end.told is not None else custody.entry_id
        latency_ms = figures.latency_ms(entry_id, now_ms)
        events = events_of(
            end,
            header,
            filled,
            average,
            slippage,
            latency_ms,
            change.note,
            slippage_exceeded=slippage is not None and slippage > self._max_slippage_bps,
            is_whole=is_whole,
        )
        events += change.events
        if change.note:
            events += alarms(order, change, header, is_whole=is_whole)
        summary = OrderSummary(
            state=report.state if is_whole or report.state is not FILLED else CANCELLED,
            client_order_id=request.client_order_id,
            exchange_order_id=report.exchange_order_id,
            filled_quantity=filled,
            average_price=average,
            realized_pnl=rounded_text(change.realized),
            attempts=end.attempts,
        )
        record = RecordEnd(
            state=FILLED if is_whole else CANCELLED,
            outcome=_encode(summary).decode(),
            admitted_at=order.admitted_at,
            unresolved_since=order.unresolved_since,
        )
        item = CommitItem(
            entry=custody.entry_id,
            token=custody.token,
            signal=signal.signal_id,
            digest=order.digest,
            record=record,
            events=tuple(events),
            reservation=reservation_of(order),
            position_key=position_key(signal.exchange, signal.symbol),
            position=change.stored,
            quote=order.info.quote,
            exposure=change.exposure - order.plan.reserved,
            reserved=order.plan.reserved,
            realized=millionths_signed(change.realized) if change.realized else 0,
            expires_ms=signal.own_expiry_ms(),
        )
        fields = traded(order, average)
        fields["client_order_id"] = request.client_order_id
        fields["exchange_order_id"] = report.exchange_order_id
        fields["filled"] = filled
        fields["attempts"] = end.attempts
        return Ending(
            item=item,
            outcome="filled" if is_whole else "cancelled",
            fields=fields,
            settlement=end,
            realized=change.realized,
            slippage_bps=slippage,
        )

    def failed(self, end: Failed, custody: Custody) -> Ending:
        """Build the end of a signal without an order: one event, and its reservation given back."""
        refusal, order, signal = end.refusal, end.order, end.signal
        client_id = (
            order.request.client_order_id
            if order
            else client_order_id(self._account, signal.signal_id, leg_of(signal))
        )
        role = order.request.role if order else leg_of(signal)
        event = order_events.failed(refusal, client_id, role)
        now = utc(self._clock.now_ms())
        header = self.header(signal, now)
        ended = change_after_failure(end, header, now)
        state = OrderState.REJECTED if refusal.exchange_order_id else OrderState.FAILED
        outcome = {"state": state.value, "stage": refusal.stage, "code": refusal.code,
                   "reason": refusal.reason, "attempts": refusal.attempts}  # fmt: skip
        item = CommitItem(
            entry=custody.entry_id,
            token=custody.token,
            signal=signal.signal_id,
            digest=end.digest,
            record=RecordEnd(
                state=state.value,
                outcome=_encode(outcome).decode(),
                admitted_at=order.admitted_at if order else 0,
                unresolved_since=order.unresolved_since if order else 0,
            ),
            events=(
                encode(event, event_id(client_id, "failed"), header),
                *ended.events,
                *(alarms(order, ended, header, is_whole=False) if order else ()),
            ),
            reservation=reservation_of(order) if order else Reservation.NONE,
            position_key=position_key(signal.exchange, signal.symbol),
            position=ended.stored,
            quote=order.info.quote if order else "",
            exposure=ended.exposure - (order.plan.reserved if order else 0),
            realized=millionths_signed(ended.realized) if ended.realized else 0,
            reserved=order.plan.reserved if order else 0,
            expires_ms=self._believed_expiry_ms(end),
        )
        return Ending(
            item=item,
            outcome="failed",
            fields={
                **(traded(order, None) if order else asked_for(signal)),
                "stage": refusal.stage,
                "code": refusal.code,
                "reason": refusal.reason,
            },
            refusal=refusal,
            realized=ended.realized,
        )

    def completed(self, end: Completed, custody: Custody) -> Ending:
        """Build the end of a signal that needed no order of its own."""
        signal = end.signal
        event = order_events.completed(signal.action, end.result, end.target)
        header = self.header(signal, utc(self._clock.now_ms()))
        outcome = {"state": "COMPLETED", "result": end.result, "target": end.target}
        item = CommitItem(
            entry=custody.entry_id,
            token=custody.token,
            signal=signal.signal_id,
            digest=end.digest,
            record=RecordEnd(state="COMPLETED", outcome=_encode(outcome).decode()),
            events=(encode(event, event_id(signal.signal_id, "completed"), header),),
            expires_ms=min(signal.own_expiry_ms(), self._clock.now_ms() + self._max_life_ms),
        )
        fields = asked_for(signal)
        fields["result"] = end.result
        return Ending(item=item, outcome="completed", fields=fields)

    def exhausted(self, end: Failed, custody: Custody, deliveries: int) -> Ending:
        """Build the end of a signal whose every delivery died: its failure and a dead letter."""
        ending = self.failed(end, custody)
        dead = self._dead(DeadReason.DELIVERIES_EXHAUSTED, end.refusal.reason, custody, deliveries)
        return msgspec.structs.replace(
            ending, item=msgspec.structs.replace(ending.item, dead=dead), outcome="dead"
        )

    def repeated(self, end: Repeated, custody: Custody, deliveries: int) -> Ending:
        """Build the end of a used signal id: a duplicate, or a conflict if the content differs."""
        if end.conflict:
            return self.conflict(end.signal.signal_id, custody, deliveries)
        item = CommitItem(
            entry=custody.entry_id, token=custody.token, signal=end.signal.signal_id, duplicate=True
        )
        return Ending(item=item, outcome="duplicate", fields=asked_for(end.signal))

    def conflict(self, signal_id: str, custody: Custody, deliveries: int) -> Ending:
        """Build the dead letter of a signal id that was used for another signal."""
        error = (
            f"signal_id: {signal_id} was used for a signal with other content; "
            "a new signal needs a new id"
        )
        item = CommitItem(
            entry=custody.entry_id,
            token=custody.token,
            signal=signal_id,
            duplicate=True,
            dead=self._dead(DeadReason.CONFLICT, error, custody, deliveries),
        )
        return Ending(item=item, outcome="conflict", fields={"error": error})

    def malformed(self, end: Malformed, custody: Custody, deliveries: int) -> Ending:
        """Build the dead letter of an entry that is no signal."""
        return Ending(
            item=CommitItem(
                entry=custody.entry_id,
                token=custody.token,
                duplicate=True,
                dead=self._dead(end.reason, end.error, custody, deliveries),
            ),
            outcome="dead",
            fields={"reason": end.reason, "error": end.error},
        )

    def unresolved(self, end: Unresolved) -> tuple[str, str, str]:
        """Build `SystemError` ``ORDER_UNRESOLVED`` as the ledger takes it: type, id, JSON."""
        order, client_id = end.order, end.order.request.client_order_id
        header = self.header(order.signal, utc(self._clock.now_ms()))
        event = SystemError(
            component="execution",
            code="ORDER_UNRESOLVED",
            reason=f"{client_id} on {order.request.exchange}: {end.reason}; "
            "the keeper goes on asking, the symbol waits",
            severity=Severity.CRITICAL,
        )
        _, kind, identity, data = encode(event, event_id(client_id, "unresolved"), header)
        return kind, identity, data

    def _believed_expiry_ms(self, end: Failed) -> int:
        """Return a failed signal's own ``expires_at``, within bounds where it was never validated.

        What was admitted may trade until then by the rules of the worker that validated it.
        """
        expires_ms, order = end.signal.own_expiry_ms(), end.order
        is_valid = order is not None and order.plan.refusal is None
        return expires_ms if is_valid else min(expires_ms, self._clock.now_ms() + self._max_life_ms)

    def header(self, signal: Signal, now: datetime) -> str:
        """Build the members that every event about ``signal`` has."""
        return share(
            Header(
                occurred_at=now,
                account=self._account,
                exchange=signal.exchange,
                symbol=signal.symbol,
                signal_id=signal.signal_id,
                strategy_id=signal.strategy_id,
                worker=self._worker,
                metadata=signal.metadata,
            )
        )

    def _dead(
        self, reason: DeadReason, error: str, custody: Custody, deliveries: int
    ) -> DeadLetterTail:
        return DeadLetterTail(
            reason=reason.value,
            error=error,
            entry_id=custody.entry_id,
            deliveries=str(deliveries),
            worker=self._worker,
            at=rfc3339(self._clock.now_ms()),
        )
