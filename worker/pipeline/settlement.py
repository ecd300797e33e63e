"""What is written for each way a signal can end: events, book, record, dead letter."""

from datetime import datetime
from decimal import Decimal

import msgspec

from worker.domain import order_events
from worker.domain.event import (
    EventText,
    Header,
    OrderPlaced,
    Severity,
    SystemError,  # noqa: A004 (its public name)
    announce,
    encode,
    maybe_text,
    share,
)
from worker.domain.identity import client_order_id, event_id
from worker.domain.limits import millionths, millionths_signed
from worker.domain.money import BPS, HUNDRED, ZERO, ratio, text
from worker.domain.order import BUY, CANCELLED, FILLED, Fill, OrderState, average_price
from worker.domain.position import (
    Position,
    enlarge_position,
    open_position,
    reduce_position,
    split_fills,
)
from worker.domain.position_events import changed, close_reason, closed, opened
from worker.domain.refusal import DeadReason, Refusal
from worker.domain.signal import OPEN, Signal
from worker.ledger.items import CommitItem
from worker.ledger.lease import Lease
from worker.pipeline.flow import (
    AdmittedOrder,
    Failed,
    Malformed,
    Repeated,
    Settlement,
    Unresolved,
    leg_of,
    position_key,
    reservation_of,
)
from worker.pipeline.sizing import Sizing
from worker.runtime.clock import Clock, rfc3339, utc
from worker.runtime.errors import InvariantError

_encode = msgspec.json.Encoder().encode


class Ending(msgspec.Struct, frozen=True, kw_only=True):
    """One signal's end: what to commit, and what the canonical log line and metrics say."""

    item: CommitItem
    outcome: str
    fields: dict[str, object]
    settlement: Settlement | None = None
    refusal: Refusal | None = None
    realized: Decimal = ZERO
    slippage_bps: Decimal | None = None


class OutcomeRecord(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What the record keeps of a finished order, for ``execution-worker order``."""

    state: OrderState
    client_order_id: str
    exchange_order_id: str
    filled_quantity: str
    average_price: str | None
    realized_pnl: str
    attempts: int


class Scribe:
    """Turns the end of a chain into one commit.

    Args:
        account: named in every event.
        worker: named in every event.
        sizing: knows the stop a new position gets.
        max_slippage_pct: above it a fill is flagged.
        clock: the events' time.
    """

    def __init__(
        self,
        *,
        account: str,
        worker: str,
        sizing: Sizing,
        max_slippage_pct: Decimal,
        clock: Clock,
    ) -> None:
        self._account = account
        self._worker = worker
        self._sizing = sizing
        self._max_slippage_bps = max_slippage_pct * HUNDRED
        self._clock = clock

    def settled(self, end: Settlement) -> Ending:
        """An order that is over: its events, and the position it opened or reduced."""
        order, report = end.order, end.report
        request, signal = order.request, order.signal
        now_ms = self._clock.now_ms()
        now = utc(now_ms)
        header = self._header(signal, now)
        is_whole = report.state is FILLED
        slippage = _slippage_bps(order, end.average_price)
        filled, average = text(end.filled), maybe_text(end.average_price)
        position, realized, changes = self._position(end, header, now)
        events = self._order_events(end, header, filled, average, slippage, now_ms)
        item = CommitItem(
            entry=order.lease.entry_id,
            token=order.lease.token,
            signal=signal.signal_id,
            digest=order.digest,
            state=FILLED if is_whole else CANCELLED,
            outcome=_encode(
                OutcomeRecord(
                    state=report.state,
                    client_order_id=request.client_order_id,
                    exchange_order_id=report.exchange_order_id,
                    filled_quantity=filled,
                    average_price=average,
                    realized_pnl=text(realized),
                    attempts=end.attempts,
                )
            ).decode(),
            admitted_at=order.admitted_at,
            unresolved_since=order.unresolved_since,
            events=(*events, *changes),
            reservation=reservation_of(order),
            position_key=position_key(signal),
            position=_book(order.position, position),
            quote=order.info.quote,
            exposure=_worth(position) - _worth(order.position) - order.reserved,
            reserved=order.reserved,
            realized=millionths_signed(realized) if realized else 0,
            expires_ms=_says_until_ms(signal),
        )
        return Ending(
            item=item,
            outcome="filled" if is_whole else "cancelled",
            fields={
                "client_order_id": request.client_order_id,
                "exchange_order_id": report.exchange_order_id,
                "filled": filled,
                "attempts": end.attempts,
            },
            settlement=end,
            realized=realized,
            slippage_bps=slippage,
        )

    def failed(self, end: Failed, lease: Lease) -> Ending:
        """No order: one event, and the reservation (if there is one) given back."""
        refusal, order, signal = end.refusal, end.order, end.signal
        client_id = (
            order.request.client_order_id
            if order
            else client_order_id(self._account, signal.signal_id, leg_of(signal))
        )
        event = order_events.failed(refusal, client_id)
        header = self._header(signal, utc(self._clock.now_ms()))
        state = OrderState.REJECTED if refusal.exchange_order_id else OrderState.FAILED
        outcome = {"state": state.value, "stage": refusal.stage, "code": refusal.code,
                   "reason": refusal.reason, "attempts": refusal.attempts}  # fmt: skip
        item = CommitItem(
            entry=lease.entry_id,
            token=lease.token,
            signal=signal.signal_id,
            digest=end.digest,
            state=state.value,
            outcome=_encode(outcome).decode(),
            admitted_at=order.admitted_at if order else 0,
            unresolved_since=order.unresolved_since if order else 0,
            events=(encode(event, event_id(client_id, "failed"), header),),
            reservation=reservation_of(order) if order else "",
            position_key=position_key(signal),
            quote=order.info.quote if order else "",
            exposure=-order.reserved if order else 0,
            reserved=order.reserved if order else 0,
            expires_ms=_says_until_ms(signal),
        )
        return Ending(
            item=item,
            outcome="failed",
            fields={"stage": refusal.stage, "code": refusal.code, "reason": refusal.reason},
            refusal=refusal,
        )

    def exhausted(self, end: Failed, lease: Lease, deliveries: int) -> Ending:
        """A signal whose every delivery died: its failure, and a dead letter beside it."""
        ending = self.failed(end, lease)
        dead = self._dead(DeadReason.DELIVERIES_EXHAUSTED, end.refusal.reason, lease, deliveries)
        return msgspec.structs.replace(
            ending, item=msgspec.structs.replace(ending.item, dead=dead), outcome="dead"
        )

    def repeated(self, end: Repeated, lease: Lease, deliveries: int) -> Ending:
        """A used signal id: acknowledged; with other content it is a dead letter."""
        if end.conflict:
            return self.conflict(end.signal.signal_id, lease, deliveries)
        item = CommitItem(
            entry=lease.entry_id, token=lease.token, signal=end.signal.signal_id, duplicate=True
        )
        return Ending(item=item, outcome="duplicate", fields={})

    def conflict(self, signal_id: str, lease: Lease, deliveries: int) -> Ending:
        """A signal id used again for something else: a dead letter."""
        error = (
            f"signal_id: {signal_id} was used for a signal with other content; "
            "a new signal needs a new id"
        )
        item = CommitItem(
            entry=lease.entry_id,
            token=lease.token,
            signal=signal_id,
            duplicate=True,
            dead=self._dead(DeadReason.CONFLICT, error, lease, deliveries),
        )
        return Ending(item=item, outcome="conflict", fields={"error": error})

    def malformed(self, end: Malformed, lease: Lease, deliveries: int) -> Ending:
        """An entry that is no signal: a dead letter."""
        return Ending(
            item=CommitItem(
                entry=lease.entry_id,
                token=lease.token,
                duplicate=True,
                dead=self._dead(end.reason, end.error, lease, deliveries),
            ),
            outcome="dead",
            fields={"reason": end.reason, "error": end.error},
        )

    def unresolved(self, end: Unresolved) -> tuple[str, str, str]:
        """The event that says so, as the ledger takes it: type, id, JSON."""
        order, client_id = end.order, end.order.request.client_order_id
        header = self._header(order.signal, utc(self._clock.now_ms()))
        event = SystemError(
            component="execution",
            code="ORDER_UNRESOLVED",
            reason=f"{client_id} on {order.request.exchange}: {end.reason}; "
            "the keeper goes on asking, the symbol waits",
            severity=Severity.CRITICAL,
        )
        _, kind, identity, data = encode(event, event_id(client_id, "unresolved"), header)
        return kind, identity, data

    def _header(self, signal: Signal, now: datetime) -> str:
        """What every event about ``signal`` says."""
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

    def _order_events(
        self,
        end: Settlement,
        header: str,
        filled: str,
        average: str | None,
        slippage_bps: Decimal | None,
        now_ms: int,
    ) -> list[EventText]:
        """The events about the order: that it was placed, each part of it that traded, its end."""
        order, report, fills = end.order, end.report, end.fills
        client_id, quote = order.request.client_order_id, order.info.quote
        is_whole = report.state is FILLED
        facts = f"{header},{share(order_events.placed(order.request, report, end.attempts))}"
        events = [announce(OrderPlaced, event_id(client_id, "placed"), facts)]
        if not is_whole or len(fills) > 1:
            events += _partials(client_id, fills[:-1] if is_whole else fills, facts)
        if is_whole:
            whole = order_events.filled(
                filled,
                average,
                end.fees,
                quote,
                slippage_bps=slippage_bps,
                slippage_exceeded=slippage_bps is not None
                and slippage_bps > self._max_slippage_bps,
                latency_ms=_latency_ms(order.lease, now_ms),
            )
            events.append(encode(whole, event_id(client_id, "filled"), facts))
        else:
            cut = order_events.cancelled(filled, average, end.fees, quote, report)
            events.append(encode(cut, event_id(client_id, "cancelled"), facts))
        return events

    def _position(
        self, end: Settlement, header: str, now: datetime
    ) -> tuple[Position | None, Decimal, list[EventText]]:
        """The position after the fills, the profit they realised, and the events about it."""
        order = end.order
        if not end.fills:
            return order.position, ZERO, []
        if order.position is None:
            position = self._opened(order, end.fills, now)
            return position, ZERO, [_opening(position, header)]
        if order.signal.action is OPEN:
            return self._joined(end, order.position, header, now)
        position, realized = reduce_position(order.position, end.fills, order.info)
        return position, realized, [_reduced(end, position, realized, header, now)]

    def _joined(
        self, end: Settlement, held: Position, header: str, now: datetime
    ) -> tuple[Position, Decimal, list[EventText]]:
        """An entry found after another one had taken its place: the exchange nets the two.

        That takes a fail-over that lost its record (``RiskManagementHandler.look_for``).
        """
        order = end.order
        if order.signal.direction is held.direction:
            position = enlarge_position(held, end.fills, order.info)
            return position, ZERO, [_changed(end, position, ZERO, header, "enlarged by signal")]
        closing, opening = split_fills(end.fills, held.quantity)
        position, realized = reduce_position(held, closing, order.info)
        events = [_reduced(end, position, realized, header, now)]
        if opening:
            position = self._opened(order, opening, now)
            events.append(_opening(position, header))
        return position, realized, events

    def _opened(self, order: AdmittedOrder, fills: tuple[Fill, ...], now: datetime) -> Position:
        signal = order.signal
        if signal.direction is None:
            raise InvariantError(f"{signal.signal_id}: an entry without a direction was admitted")
        price = average_price(fills) or ZERO
        return open_position(
            position_id=order.request.client_order_id,
            exchange=signal.exchange,
            direction=signal.direction,
            fills=fills,
            info=order.info,
            opened_at=now,
            signal_id=signal.signal_id,
            strategy_id=signal.strategy_id,
            stop_loss=self._sizing.stop_loss(signal, price, order.info),
            take_profit=signal.take_profit,
        )

    def _dead(
        self, reason: DeadReason, error: str, lease: Lease, deliveries: int
    ) -> tuple[str, ...]:
        return (
            "reason", reason.value,
            "error", error,
            "entry_id", lease.entry_id,
            "deliveries", str(deliveries),
            "worker", self._worker,
            "at", rfc3339(self._clock.now_ms()),
        )  # fmt: skip


def _partials(client_id: str, fills: tuple[Fill, ...], facts: str) -> list[EventText]:
    """An event about each of ``fills``."""
    return [
        encode(part, event_id(client_id, "partial", number), facts)
        for number, part in enumerate(order_events.partly_filled(fills), start=1)
    ]


def _opening(position: Position, header: str) -> EventText:
    """The event about a new position."""
    return encode(opened(position), event_id(position.position_id, "opened"), header)


def _changed(
    end: Settlement, position: Position, realized: Decimal, header: str, reason: str
) -> EventText:
    """The event about a position that has become larger or smaller."""
    event = changed(position, realized, reason)
    return encode(event, event_id(end.order.request.client_order_id, "changed"), header)


def _reduced(
    end: Settlement,
    position: Position,
    realized: Decimal,
    header: str,
    now: datetime,
) -> EventText:
    """The event about a position that an exit has made smaller, or ended."""
    if position.quantity:
        return _changed(end, position, realized, header, "reduced by signal")
    event = closed(position, now, close_reason(end.order.signal))
    return encode(event, event_id(end.order.request.client_order_id, "closed"), header)


def _says_until_ms(signal: Signal) -> int:
    """Until when the signal says itself that it may be traded, Unix milliseconds; 0 for nothing."""
    return int(signal.expires_at.timestamp() * 1000) if signal.expires_at is not None else 0


def _worth(position: Position | None) -> int:
    """What a position counts for in the account's exposure."""
    return millionths(position.cost) if position is not None and position.quantity else 0


def _book(before: Position | None, after: Position | None) -> str | None:
    """What the book is to hold: None for no change, "" for no position."""
    if after is before:
        return None
    return _encode(after).decode() if after is not None and after.quantity else ""


def _slippage_bps(order: AdmittedOrder, average: Decimal | None) -> Decimal | None:
    """How much worse than the reference the fill was, in hundredths of a percent."""
    if average is None or not order.reference:
        return None
    worse = average - order.reference if order.request.side is BUY else order.reference - average
    return ratio(worse * BPS, order.reference)


def _latency_ms(lease: Lease, now_ms: int) -> int:
    """How long the entry has been on the stream: Redis put the time of its coming into its id."""
    arrived_ms, _, _ = lease.entry_id.partition("-")
    latency_ms = now_ms - int(arrived_ms)
    return latency_ms if latency_ms > 0 else 0  # clocks differ
