"""Every branch of a signal's life: read, validate, admit, send, follow, write down.

What waits for nothing is a plain function; :meth:`ExecutionPipeline.ask_market`, ``send`` and
``follow`` wait for the exchange. The engine takes a whole batch of entries through one step after
the other (``worker.engine.batches``).
"""

from collections.abc import Mapping
from typing import assert_never

import msgspec

from worker.domain.order import TERMINAL
from worker.domain.refusal import Code, DeadReason, Refusal, Stage
from worker.domain.signal import OPEN, MalformedSignalError, Signal, decode_signal
from worker.domain.signature import SignatureError, Signatures, check_scope
from worker.exchanges.ports import ExchangeAdapter
from worker.ledger.replies import Admission, Delivery
from worker.ledger.stored import Record
from worker.market.data import MarketData, MarketView
from worker.pipeline.custody import Custody
from worker.pipeline.execution import OrderExecutorHandler
from worker.pipeline.flow import (
    AdmittedOrder,
    Arrival,
    Completed,
    EarlyEnd,
    Failed,
    Lost,
    Malformed,
    Postponed,
    Proposal,
    Repeated,
    Resting,
    Settlement,
    Submission,
    Unresolved,
    ValidSignal,
    may_rest,
)
from worker.pipeline.live_orders import LiveOrderWriter
from worker.pipeline.orders import OrderManager
from worker.pipeline.pieces import Pieces, leaves_something
from worker.pipeline.reconciliation import ReconciliationHandler
from worker.pipeline.risk import RiskManagementHandler, recorded
from worker.pipeline.settlement import Ending, SettlementWriter
from worker.pipeline.validation import ValidationHandler
from worker.runtime.clock import Clock
from worker.runtime.counted import count_of

#: A lease is noticed to have ended within about this time.
MAX_OVERDUE_MS = 1_000
#: A signal first delivered later than this is looked up before it is sent: a whole fleet and what
#: Redis knew may have been lost since an earlier delivery sent it.
OLD_MS = 5_000


class ExecutionPipeline:
    """Takes deliveries to their ends.

    Args:
        signatures: which entries are signed as they must be.
        market: what is known of markets, prices and balances.
        exchanges: by name.
        validation: the four stages, in order ...
        risk: ...
        execution: ...
        reconciliation: ...
        writer: writes ends down.
        live_orders: writes down what goes on without its entry.
        orders: told what this worker no longer follows.
        clock: time.
        max_deliveries: how many deliveries may die before a signal is given up.
        skew_margin_ms: how long before a lease's end its last request may have been accepted.
    """

    def __init__(
        self,
        *,
        signatures: Signatures,
        market: MarketData,
        exchanges: Mapping[str, ExchangeAdapter],
        validation: ValidationHandler,
        risk: RiskManagementHandler,
        execution: OrderExecutorHandler,
        reconciliation: ReconciliationHandler,
        writer: SettlementWriter,
        live_orders: LiveOrderWriter,
        orders: OrderManager,
        clock: Clock,
        max_deliveries: int,
        skew_margin_ms: int,
    ) -> None:
        self._signatures = signatures
        self._market = market
        self._exchanges = exchanges
        self._validation = validation
        self._risk = risk
        self._execution = execution
        self._reconciliation = reconciliation
        self._pieces = Pieces(risk, execution, reconciliation)
        self._writer = writer
        self._live_orders = live_orders
        self._orders = orders
        self._clock = clock
        self._max_deliveries = max_deliveries
        self._skew_margin_ms = skew_margin_ms

    # -- before the ledger is asked ------------------------------------------------------------

    def begin(
        self, delivery: Delivery, custody: Custody
    ) -> Arrival | Proposal | AdmittedOrder | EarlyEnd:
        """Read one delivery.

        Returns:
            A signal to validate; an order that an earlier delivery admitted; an order that is only
            to be looked for; or the signal's end.
        """
        if delivery.record is not None:
            return self._resume(delivery, delivery.record, custody)
        if delivery.deliveries > self._max_deliveries:
            return self._exhaust(delivery, custody)
        signal = self._read(delivery)
        if not isinstance(signal, Signal):
            return signal
        arrival = self._arrive(delivery, signal, custody)
        return self._refuse_surplus(arrival, custody) if delivery.is_surplus else arrival

    def needs_market(self, arrival: Arrival) -> bool:
        """Return whether an entry lacks a price or a balance that the exchange may tell."""
        # A close must not wait for prices and balances it does not need.
        return arrival.signal.action is OPEN and self._market.is_lacking(arrival.view)

    async def ask_market(self, arrival: Arrival) -> Arrival:
        """Ask the exchange for what memory lacks."""
        view = await self._market.complete(arrival.view)
        now_ms = self._clock.now_ms()
        is_old = now_ms - arrival.lifetime.created_ms > OLD_MS
        return msgspec.structs.replace(arrival, view=view, seen_ms=now_ms, is_old=is_old)

    def validate(self, arrival: Arrival, custody: Custody) -> ValidSignal | Proposal | EarlyEnd:
        """Take one signal through validation."""
        valid = self._validation.check(arrival)
        if isinstance(valid, ValidSignal):
            return valid
        return self._refused(valid, arrival, custody)

    def propose(self, valid: ValidSignal, custody: Custody) -> Proposal | EarlyEnd:
        """Size the signal's order, and build the question to the ledger."""
        proposal = self._risk.propose(valid, custody)
        if isinstance(proposal, Proposal):
            return proposal
        return self._refused(proposal, valid.arrival, custody)

    def decide(
        self, proposal: Proposal, answer: Admission, asked_mono_ms: float, custody: Custody
    ) -> AdmittedOrder | Proposal | EarlyEnd:
        """Return what the ledger's answer means: an order to send, one to look for, or the end."""
        decided = self._risk.decide(proposal, answer, asked_mono_ms, custody)
        if isinstance(decided, AdmittedOrder):
            return decided
        is_first = proposal.plan.refusal is None
        if isinstance(decided, Failed) and decided.order is None and is_first:
            return self._refused(decided, proposal.valid.arrival, custody)
        return decided

    def _refused(self, failed: Failed, arrival: Arrival, custody: Custody) -> Proposal | EarlyEnd:
        """End a refused signal, unless there may be an order of it of which no record speaks."""
        is_suspect = arrival.suspect_until_mono_ms is not None
        is_unknown = failed.refusal.code is Code.UNKNOWN_SYMBOL
        if not arrival.view.started and (is_unknown or is_suspect):
            # Which markets it has, or whether it has an order of this signal, it cannot tell yet.
            return _not_started(arrival.signal)
        return self._risk.propose_look_up(failed, arrival, custody) if is_suspect else failed

    def _read(self, delivery: Delivery) -> Signal | Malformed:
        """Return the entry's signal, if it may be believed.

        A bad signature is the end of an entry, not of a signal: whoever has no key must not be able
        to end, or to take, the signal id of somebody who has one.
        """
        try:
            key = self._signatures.key_of(delivery.fields)
            signal = decode(delivery.fields)
            if key is not None:
                check_scope(key, signal.strategy_id, signal.signal_id)
        except SignatureError as error:
            return Malformed(reason=DeadReason.SIGNATURE, error=str(error))
        except MalformedSignalError as error:
            return Malformed(reason=DeadReason.MALFORMED, error=str(error))
        return signal

    def _exhaust(self, delivery: Delivery, custody: Custody) -> Proposal | EarlyEnd:
        """End an entry that no delivery brought as far as an admission."""
        error = f"{_deliveries(delivery)} died before an order was admitted; nothing was sent"
        signal = self._read(delivery)
        if isinstance(signal, Malformed):
            if signal.reason is DeadReason.SIGNATURE:
                return signal
            return Malformed(reason=DeadReason.DELIVERIES_EXHAUSTED, error=error)
        refusal = Refusal(Stage.EXECUTION, Code.DELIVERIES_EXHAUSTED, error)
        failed = Failed(refusal=refusal, signal=signal, digest=signal.digest())
        arrival = self._arrive(delivery, signal, custody)
        if arrival.suspect_until_mono_ms is None:
            return failed
        return self._risk.propose_look_up(failed, arrival, custody)

    def _refuse_surplus(self, arrival: Arrival, custody: Custody) -> Proposal | EarlyEnd:
        """End a signal that its message group has no room for."""
        signal = arrival.signal
        if signal.action is OPEN:
            refusal = Refusal(
                Stage.VALIDATION,
                Code.GROUP_FULL,
                "as many signals wait already as worker.max_group_waiting allows in its message "
                "group, or worker.max_waiting in all",
            )
        else:
            refusal = Refusal(
                Stage.VALIDATION,
                Code.POSITION_BUSY,
                "as many closes, cancels and protects as worker.max_group_waiting allows wait "
                f"already in its message group; this {signal.action.value} was not tried: send a "
                "new one once they have ended, if it is still wanted",
            )
        failed = Failed(refusal=refusal, signal=signal, digest=arrival.digest)
        return self._refused(failed, arrival, custody)

    def _resume(
        self, delivery: Delivery, record: Record, custody: Custody
    ) -> AdmittedOrder | Postponed:
        """Go on with a signal that was admitted: its order may be at the exchange already."""
        stored = recorded(record)
        arrival = self._arrive(delivery, stored.signal, custody)
        if not arrival.view.started:
            return _not_started(stored.signal)
        absent_after = self._absent_after_mono_ms(arrival, delivery)
        order = self._risk.resume(arrival, stored, record, absent_after, custody)
        if not isinstance(order, AdmittedOrder):
            return order
        if delivery.verdict is not None:
            order = msgspec.structs.replace(order, verdict=delivery.verdict)
        if delivery.deliveries > self._max_deliveries:
            order = msgspec.structs.replace(
                order,
                give_up=Refusal(
                    Stage.EXECUTION,
                    Code.DELIVERIES_EXHAUSTED,
                    f"{_deliveries(delivery)} died (worker.max_deliveries is "
                    f"{self._max_deliveries}) and {stored.signal.exchange} has no order of it",
                ),
            )
        return order

    def _arrive(self, delivery: Delivery, signal: Signal, custody: Custody) -> Arrival:
        custody.signal_id = signal.signal_id
        view = self._market.known(signal.exchange, signal.symbol, signal.entry_price)
        lifetime = self._validation.lifetime(signal)
        suspect_until_mono_ms = None
        if delivery.data_loss_ms and _is_older(delivery, lifetime.created_ms):
            suspect_until_mono_ms = delivery.settled_mono_ms + self._visibility_ms(view)
        written, now_ms = signal.written(), self._clock.now_ms()
        return Arrival(
            signal=signal,
            written=written,
            digest=signal.digest(written),
            view=view,
            lifetime=lifetime,
            suspect_until_mono_ms=suspect_until_mono_ms,
            seen_ms=now_ms,
            is_old=now_ms - lifetime.created_ms > OLD_MS,
        )

    def _absent_after_mono_ms(self, arrival: Arrival, delivery: Delivery) -> float:
        """Return from when on "not found" proves that no earlier delivery's request was accepted.

        A request's deadline lies ``skew_margin_ms`` before the end of the lease it was sent under.
        """
        # No more than a living fleet sees: a step of Redis's clock is not time that has passed.
        overdue_ms = min(delivery.overdue_ms, MAX_OVERDUE_MS)
        lease_ended = delivery.received_mono_ms - overdue_ms
        proof_mono_ms = lease_ended - self._skew_margin_ms + self._visibility_ms(arrival.view)
        return max(proof_mono_ms, arrival.suspect_until_mono_ms or 0.0)

    def _visibility_ms(self, view: MarketView) -> int:
        exchange = self._exchanges.get(view.exchange)
        return exchange.visibility_ms if exchange is not None else 0

    # -- the exchange --------------------------------------------------------------------------

    async def send(
        self, order: AdmittedOrder, custody: Custody
    ) -> Submission | Failed | Lost | Postponed | Unresolved:
        """Send the order, or find that it has been sent."""
        result = await self._execution.handle(order, custody)
        if isinstance(result, Failed) and result.order is not None:
            return await self._reconciliation.check_refused(result)
        return result

    async def follow(
        self, submission: Submission, custody: Custody
    ) -> Settlement | Resting | Failed | Lost | Postponed | Unresolved:
        """Follow the order to its end and its trades, then those that close what it left.

        An entry that may rest is not waited for: turns follow it.
        """
        if may_rest(submission.order):
            submission = await self._reconciliation.ask_once(submission, custody)
            if submission.report.state not in TERMINAL:
                self._orders.forget(custody.order)  # whoever gets the turn goes on
                return Resting(
                    order=submission.order,
                    report=submission.report,
                    attempts=submission.attempts,
                )
        end = await self._reconciliation.handle(submission, custody)
        if not isinstance(end, Settlement) or not leaves_something(end):
            return end
        return await self._pieces.finish(end, custody)

    # -- writing it down -----------------------------------------------------------------------

    def write(
        self, end: Settlement | Resting | EarlyEnd, delivery: Delivery, custody: Custody
    ) -> Ending | Unresolved | Postponed | Lost:
        """Build what is to be committed, or return why there is nothing yet."""
        match end:
            case Settlement():
                return self._writer.settled(end, custody)
            case Resting():
                return self._live_orders.rest(end, custody)
            case Completed():
                return self._writer.completed(end, custody)
            case Failed():
                if end.refusal.code is Code.DELIVERIES_EXHAUSTED:
                    return self._writer.exhausted(end, custody, delivery.deliveries)
                return self._writer.failed(end, custody)
            case Repeated():
                return self._writer.repeated(end, custody, delivery.deliveries)
            case Malformed():
                return self._writer.malformed(end, custody, delivery.deliveries)
            case Unresolved() | Postponed() | Lost():
                return end
            case _:
                assert_never(end)

    def conflict(self, signal_id: str, delivery: Delivery, custody: Custody) -> Ending:
        """Build the dead letter of an entry whose signal id was used for another signal."""
        return self._writer.conflict(signal_id, custody, delivery.deliveries)

    def unresolved(self, end: Unresolved) -> tuple[str, str, str]:
        """Build the event about an order in doubt: type, id, JSON."""
        return self._writer.unresolved(end)


def decode(fields: Mapping[bytes, bytes]) -> Signal:
    """Return the signal of one stream entry.

    Raises:
        MalformedSignalError: with a sentence that names the field and the rule.
    """
    kind = fields.get(b"type", b"TradingSignalGenerated")
    if kind != b"TradingSignalGenerated":
        shown = kind[:64].decode(errors="replace")
        raise MalformedSignalError(f"type: {shown!r} is not 'TradingSignalGenerated'")
    data = fields.get(b"data")
    if data is None:
        raise MalformedSignalError("data: the entry has no such field")
    return decode_signal(data)


def _not_started(signal: Signal) -> Postponed:
    return Postponed(reason=f"{signal.exchange} has not started yet")


def _is_older(delivery: Delivery, created_ms: float) -> bool:
    """Return whether the signal is from before a primary took over that may lack writes."""
    entry_ms = int(delivery.entry_id.partition("-")[0])
    return min(entry_ms, created_ms) <= delivery.data_loss_ms


def _deliveries(delivery: Delivery) -> str:
    """Return the number of deliveries before this one, in words."""
    return count_of(delivery.deliveries - 1, "delivery", "deliveries")
