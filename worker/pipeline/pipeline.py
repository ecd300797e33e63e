"""A signal's whole life on one screen: decode, validate, admit, send, confirm, write down."""

from collections.abc import Mapping

import msgspec

from worker.domain.refusal import Code, DeadReason, Refusal, Stage
from worker.domain.signal import OPEN, MalformedSignalError, Signal, decode_signal
from worker.domain.signature import SignatureError, Signatures, check_strategy
from worker.ledger.lease import Lease
from worker.ledger.replies import Delivery
from worker.ledger.stored import Record
from worker.market.data import MarketData
from worker.pipeline.chain import Chain, Crowd, Watch, others_first
from worker.pipeline.execution import OrderExecutorHandler
from worker.pipeline.flow import (
    AdmittedOrder,
    Arrival,
    Ended,
    Failed,
    Lost,
    Malformed,
    Postponed,
    Repeated,
    Settlement,
    Unresolved,
)
from worker.pipeline.reconciliation import ReconciliationHandler
from worker.pipeline.risk import RiskManagementHandler, recorded
from worker.pipeline.settlement import Ending, Scribe
from worker.pipeline.validation import ValidationHandler
from worker.runtime.clock import Clock
from worker.runtime.logger import bind_ids

#: A lease is noticed to have ended within about this time.
MAX_OVERDUE_MS = 1_000
#: A signal first delivered later than this is looked up before it is sent: a whole fleet and what
#: Redis knew may have been lost since an earlier delivery sent it.
OLD_MS = 5_000


class ExecutionPipeline:
    """Takes one delivery to its end; every branch of a signal's life is in this file.

    Args:
        signatures: which entries are signed as they must be.
        market: what is known of markets, prices and balances.
        validation: the four stages, in order ...
        risk: ...
        execution: ...
        reconciliation: ...
        scribe: writes the end down.
        clock: time.
        max_deliveries: how many deliveries may die before a signal is given up.
        watch: who is told how long each stage took.
        crowd: the signals that are in hand now.
        skew_margin_ms: how long before a lease's end its last request may have been accepted.
    """

    def __init__(
        self,
        *,
        signatures: Signatures,
        market: MarketData,
        validation: ValidationHandler,
        risk: RiskManagementHandler,
        execution: OrderExecutorHandler,
        reconciliation: ReconciliationHandler,
        scribe: Scribe,
        clock: Clock,
        max_deliveries: int,
        skew_margin_ms: int,
        watch: Watch,
        crowd: Crowd,
    ) -> None:
        self._signatures = signatures
        self._market = market
        self._expires_ms = validation.expires_ms
        self._risk = risk
        self._scribe = scribe
        self._clock = clock
        self._max_deliveries = max_deliveries
        self._skew_margin_ms = skew_margin_ms
        self._crowd = crowd
        self._whole = (
            Chain.of(watch, crowd, "validation", validation.handle)
            .then("risk", risk.handle)
            .then("execution", execution.handle)
            .then("reconciliation", reconciliation.handle)
        )
        self._finish = Chain.of(watch, crowd, "execution", execution.handle).then(
            "reconciliation", reconciliation.handle
        )

    async def run(self, delivery: Delivery, lease: Lease) -> Ending | Unresolved | Postponed | Lost:
        """Take one delivery as far as it goes now.

        Returns:
            An ending to commit, or why there is none yet.
        """
        if delivery.record is not None:
            end = await self._go_on(delivery, delivery.record, lease)
        elif delivery.deliveries > self._max_deliveries:
            end = await self._exhaust(delivery, lease)
        else:
            end = await self._begin(delivery, lease)
        if len(self._crowd) > 1:
            await others_first()
        return self._write(end, delivery, lease)

    async def _begin(self, delivery: Delivery, lease: Lease) -> Settlement | Ended:
        """A signal nobody has admitted yet: all four stages."""
        signal = self._read(delivery)
        if not isinstance(signal, Signal):
            return signal
        # A close must not wait for prices and balances it does not need.
        arrival = await self._arrive(delivery, lease, signal, ask=signal.action is OPEN)
        end = await self._whole.run(arrival)
        if isinstance(end, Settlement):
            return end
        if (
            isinstance(end, Failed)
            and not arrival.view.started
            and (end.refusal.code is Code.UNKNOWN_SYMBOL or arrival.suspect_until_mono_ms)
        ):
            # Which markets it has, or whether it has an order of this signal, it cannot tell yet.
            return _not_started(signal)
        if isinstance(end, Failed) and end.order is None:
            return await self._look_for(end, arrival)
        return end

    async def _look_for(self, failed: Failed, arrival: Arrival) -> Settlement | Ended:
        """A failure without an order, unless there may be one of which no record speaks."""
        if not arrival.suspect_until_mono_ms:
            return failed
        # It may have been admitted and sent before the writes that said so were lost.
        looked_for = await self._risk.look_for(failed, arrival)
        if not isinstance(looked_for, AdmittedOrder):
            return looked_for
        return await self._finish.run(looked_for)

    def _read(self, delivery: Delivery) -> Signal | Malformed:
        """The entry's signal, if it may be believed.

        A bad signature is the end of an entry, not of a signal: whoever has no key must not be able
        to end, or to take, the signal id of somebody who has one.
        """
        try:
            key = self._signatures.key_of(delivery.fields)
            signal = decode(delivery.fields)
            if key is not None:
                check_strategy(key, signal.strategy_id)
        except SignatureError as error:
            return Malformed(reason=DeadReason.SIGNATURE, error=str(error))
        except MalformedSignalError as error:
            return Malformed(reason=DeadReason.MALFORMED, error=str(error))
        return signal

    async def _exhaust(self, delivery: Delivery, lease: Lease) -> Settlement | Ended:
        end = self._exhausted(delivery)
        if isinstance(end, Malformed):
            return end
        return await self._look_for(end, await self._arrive(delivery, lease, end.signal, ask=False))

    def _exhausted(self, delivery: Delivery) -> Failed | Malformed:
        """The end of an entry that no delivery brought as far as an admission."""
        error = (
            f"{delivery.deliveries - 1} deliveries died before an order was admitted; "
            "nothing was sent"
        )
        signal = self._read(delivery)
        if isinstance(signal, Malformed):
            if signal.reason is DeadReason.SIGNATURE:
                return signal
            return Malformed(reason=DeadReason.DELIVERIES_EXHAUSTED, error=error)
        refusal = Refusal(Stage.EXECUTION, Code.DELIVERIES_EXHAUSTED, error)
        return Failed(refusal=refusal, signal=signal, digest=signal.digest())

    async def _go_on(self, delivery: Delivery, record: Record, lease: Lease) -> Settlement | Ended:
        """A signal that was admitted before: its order may be at the exchange already."""
        stored = recorded(record)
        arrival = await self._arrive(delivery, lease, stored.signal, ask=False)
        if not arrival.view.started:
            return _not_started(stored.signal)
        order = self._risk.resume(arrival, stored, record, self._proof_mono_ms(arrival, delivery))
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
                    f"{delivery.deliveries - 1} deliveries died (worker.max_deliveries is "
                    f"{self._max_deliveries}) and {order.adapter.name} has no order of it",
                ),
            )
        return await self._finish.run(order)

    async def _arrive(
        self, delivery: Delivery, lease: Lease, signal: Signal, *, ask: bool
    ) -> Arrival:
        bind_ids(entry_id=delivery.entry_id, signal_id=signal.signal_id)
        if signal.entry_price is not None:
            self._market.assume_price(signal.exchange, signal.symbol, signal.entry_price)
        view = await self._market.view(signal.exchange, signal.symbol, ask=ask)
        created_ms = signal.created_ms
        suspect_until_mono_ms = 0.0
        if delivery.data_loss_ms and _is_older(delivery, created_ms):
            visibility_ms = view.adapter.visibility_ms if view.adapter else 0
            suspect_until_mono_ms = delivery.settled_mono_ms + visibility_ms
        written = signal.written()
        return Arrival(
            signal=signal,
            written=written,
            digest=signal.digest(written),
            lease=lease,
            view=view,
            created_ms=created_ms,
            expires_ms=self._expires_ms(signal, created_ms),
            suspect_until_mono_ms=suspect_until_mono_ms,
            is_old=self._clock.now_ms() - created_ms > OLD_MS,
        )

    def _proof_mono_ms(self, arrival: Arrival, delivery: Delivery) -> float:
        """From when on "not found" proves that no earlier delivery's request was accepted.

        A request's deadline lies ``skew_margin_ms`` before the end of the lease it was sent under.
        """
        visibility_ms = arrival.view.adapter.visibility_ms if arrival.view.adapter else 0
        # No more than a living fleet sees: a step of Redis's clock is not time that has passed.
        overdue_ms = min(delivery.overdue_ms, MAX_OVERDUE_MS)
        lease_ended = delivery.received_mono_ms - overdue_ms
        return max(
            lease_ended - self._skew_margin_ms + visibility_ms, arrival.suspect_until_mono_ms
        )

    def _write(
        self, end: Settlement | Ended, delivery: Delivery, lease: Lease
    ) -> Ending | Unresolved | Postponed | Lost:
        if isinstance(end, Settlement):
            return self._scribe.settled(end)
        if isinstance(end, Failed):
            if end.refusal.code is Code.DELIVERIES_EXHAUSTED:
                return self._scribe.exhausted(end, lease, delivery.deliveries)
            return self._scribe.failed(end, lease)
        if isinstance(end, Repeated):
            return self._scribe.repeated(end, lease, delivery.deliveries)
        if isinstance(end, Malformed):
            return self._scribe.malformed(end, lease, delivery.deliveries)
        return end


def decode(fields: Mapping[bytes, bytes]) -> Signal:
    """The signal of one stream entry.

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
    """Whether the signal was made before a primary took over that may lack writes."""
    entry_ms = int(delivery.entry_id.partition("-")[0])
    return min(entry_ms, created_ms) <= delivery.data_loss_ms
