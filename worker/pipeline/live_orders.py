"""Writes down an order that goes on without its signal's entry: when it rests, fills, and ends."""

from decimal import Decimal
from typing import Final

import msgspec

from worker.domain import order_events
from worker.domain.event_text import EventText, share
from worker.domain.money import ZERO, maybe_text, text
from worker.domain.order import OrderReport, OrderState, advance, fact_of
from worker.domain.position_json import read_position
from worker.domain.position_key import position_key
from worker.domain.refusal import CancelCode
from worker.domain.signal import GTC
from worker.ledger.items import CommitItem
from worker.ledger.stored import EndedPart, OrderRow, encode_order, encode_record
from worker.ledger.turn_layouts import Rests
from worker.ledger.turns import ApplyItem, LiveOrder, Turn
from worker.pipeline.custody import Custody
from worker.pipeline.ended_line import traded
from worker.pipeline.flow import AdmittedOrder, Resting, Settlement, Told, reservation_of
from worker.pipeline.order_trades import estimate
from worker.pipeline.position_change import change_position
from worker.pipeline.settled_events import further_part, placed_event
from worker.pipeline.settlement import Ending, SettlementWriter
from worker.pipeline.sizing import Sizing
from worker.runtime.clock import Clock, utc

#: A record outlives its signal by this at least: clocks differ.
OUTLIVES_MS: Final = 60_000
_encode_request: Final = msgspec.json.Encoder().encode


class LiveOrderWriter:
    """Turns what is known of a resting order into one write; plain functions.

    Args:
        writer: writes ends down.
        worker: named in records.
        sizing: knows the stop a new position gets.
        retention_ms: how long a finished signal's record is kept.
        max_rest_ms: how long a GTC order may rest, 0 for any time.
        first_pause_ms: in how long a new order is asked for.
        clock: the events' time.
    """

    def __init__(
        self,
        writer: SettlementWriter,
        *,
        worker: str,
        sizing: Sizing,
        retention_ms: int,
        max_rest_ms: int,
        first_pause_ms: int,
        clock: Clock,
    ) -> None:
        self._writer = writer
        self._worker = worker
        self._sizing = sizing
        self._retention_ms = retention_ms
        self._max_rest_ms = max_rest_ms
        self._first_pause_ms = first_pause_ms
        self._clock = clock

    def rest(self, end: Resting, custody: Custody) -> Ending:
        """Build what is committed of an order that rests: its row, and what is known so far."""
        order, report, now_ms = end.order, end.report, self._clock.now_ms()
        request, signal = order.request, order.signal
        row = OrderRow(
            client_order_id=request.client_order_id,
            signal=signal.signal_id,
            entry=custody.entry_id,
            role=request.role.value,
            position_key=position_key(signal.exchange, signal.symbol),
            state=_state_after(OrderState.SUBMITTED, report).value,
            exchange_order_id=report.exchange_order_id,
            request=_encode_request(request).decode(),
            attempts=end.attempts,
            placed_ms=now_ms,
            filled=text(report.filled_quantity) if report.average_price is not None else "0",
            average_price=maybe_text(report.average_price) or "",
            ends_ms=self._ends_ms(order, now_ms),
        )
        header = self._writer.header(signal, utc(now_ms))
        facts = f"{header},{share(order_events.facts(request, report, end.attempts))}"
        placed = placed_event(request.client_order_id, facts, report.created_ms)
        told = Told(custody.entry_id, ZERO, None, None)
        events, position = self._filled(order, report, told, facts, header, end.attempts)
        item = CommitItem(
            entry=custody.entry_id,
            token=custody.token,
            signal=signal.signal_id,
            digest=order.digest,
            reservation=reservation_of(order),
            position_key=row.position_key,
            position=position,
            quote=order.info.quote,
            reserved=order.plan.reserved,
            expires_ms=signal.own_expiry_ms(),
            events=(placed, *events),
            rests=Rests(
                row.client_order_id, row.exchange_key, encode_order(row), self._first_pause_ms
            ),
        )
        fields = traded(order, maybe_text(report.average_price))
        fields["client_order_id"] = request.client_order_id
        fields["exchange_order_id"] = report.exchange_order_id
        fields["filled"] = row.filled
        fields["attempts"] = end.attempts
        return Ending(item=item, outcome="resting", fields=fields)

    def progress(
        self,
        turn: Turn,
        live: LiveOrder,
        order: AdmittedOrder,
        report: OrderReport,
        *,
        due_ms: int,
        ending: CancelCode | None,
    ) -> ApplyItem:
        """Build what is applied of an order that is still open: its row, and what is new.

        Args:
            turn: under which it was asked for.
            live: as the ledger has it.
            order: the same as it was admitted.
            report: the exchange's, the newest.
            due_ms: in how long it is to be asked for again.
            ending: why its cancellation has been asked for, None if it has not.
        """
        row = live.row
        header = self._writer.header(order.signal, utc(self._clock.now_ms()))
        facts = f"{header},{share(order_events.facts(order.request, report, row.attempts))}"
        told = told_of(turn, live)
        events, position = self._filled(order, report, told, facts, header, row.attempts)
        changed = msgspec.structs.replace(
            row,
            state=_state_after(OrderState(row.state), report).value,
            exchange_order_id=report.exchange_order_id or row.exchange_order_id,
            # Fills whose price is not known yet count as new once it is.
            filled=text(report.filled_quantity) if report.average_price is not None else row.filled,
            average_price=maybe_text(report.average_price) or row.average_price,
            ending=ending.value if ending is not None else row.ending,
        )
        return ApplyItem(
            turn=turn.entry_id,
            token=turn.token,
            book=turn.book,
            position=turn.position if position is None else position,
            signal=row.signal,
            client_order_id=row.client_order_id,
            exchange_key=changed.exchange_key,
            row=changed,
            due_ms=due_ms,
            quote=order.info.quote,
            events=tuple(events),
        )

    def over(self, turn: Turn, live: LiveOrder, ending: Ending) -> ApplyItem:
        """Build what is applied of an order that is over, from what its commit would have been."""
        row, item = live.row, ending.item
        record = EndedPart(
            entry=row.entry,
            digest=item.digest,
            signal=item.signal,
            state=item.record.state,
            worker=self._worker,
            admitted_at=item.record.admitted_at,
            unresolved_since=item.record.unresolved_since,
            token=turn.token,
            outcome=item.record.outcome,
        )
        outlives_ms = item.expires_ms - self._clock.now_ms() + OUTLIVES_MS
        return ApplyItem(
            turn=turn.entry_id,
            token=turn.token,
            book=turn.book,
            position=turn.position if item.position is None else item.position,
            signal=row.signal,
            client_order_id=row.client_order_id,
            exchange_key=row.exchange_key,
            row=None,
            quote=item.quote,
            exposure=item.exposure,
            realized=item.realized,
            record=encode_record(record),
            keep_ms=max(self._retention_ms, outlives_ms),
            events=item.events,
        )

    def _filled(
        self,
        order: AdmittedOrder,
        report: OrderReport,
        told: Told,
        facts: str,
        header: str,
        attempts: int,
    ) -> tuple[list[EventText], str | None]:
        """Return the events about what has traded since ``told``, and the position it makes.

        The fees are an estimate until the order is over and its trades are known.
        """
        if report.filled_quantity <= told.filled or report.average_price is None:
            return [], None
        fill = estimate(order, report)
        so_far = Settlement(
            order=order,
            report=report,
            fills=(fill,),
            filled=report.filled_quantity,
            average_price=report.average_price,
            fees=dict(fill.fees),
            attempts=attempts,
            told=told,
        )
        events = further_part(so_far, told, facts)
        now = utc(self._clock.now_ms())
        change = change_position(so_far, self._sizing, header, now)
        return [*events, *change.events], change.stored

    def _ends_ms(self, order: AdmittedOrder, now_ms: int) -> int:
        """Return when a resting order is to be cancelled, Unix milliseconds, 0 for never."""
        if order.signal.good_till is not None:
            return order.signal.good_till_ms()
        is_gtc = order.request.time_in_force in (None, GTC)
        return now_ms + self._max_rest_ms if is_gtc and self._max_rest_ms else 0


def told_of(turn: Turn, live: LiveOrder) -> Told:
    """Return the part of a live order that events have told already."""
    row = live.row
    return Told(
        row.entry,
        Decimal(row.filled),
        Decimal(row.average_price) if row.average_price else None,
        read_position(turn.position.encode()) if turn.position else None,
    )


def _state_after(state: OrderState, report: OrderReport) -> OrderState:
    """Return an order's state after a report.

    Raises:
        IllegalTransitionError: the table of states has no row for it.
    """
    return advance(state, fact_of(report.state))
