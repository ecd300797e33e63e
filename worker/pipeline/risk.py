"""Whether the account may have the order: one question to the ledger, and what it answers."""

from decimal import Decimal
from typing import Final

import msgspec

from worker.config.keys import RiskConfig
from worker.domain.limits import MAX_MILLIONTHS, millionths, refuse
from worker.domain.market import SymbolInfo
from worker.domain.money import ZERO
from worker.domain.order import Fact, OrderRequest
from worker.domain.position import Position
from worker.domain.refusal import Code, Refusal
from worker.domain.signal import OPEN, Signal
from worker.exchanges.ports import ExchangeAdapter, Resend
from worker.ledger.calls import Ledger
from worker.ledger.items import AdmitItem
from worker.ledger.replies import Admitted, Duplicate, Fenced
from worker.ledger.stored import Record
from worker.market.data import MarketData
from worker.pipeline.flow import (
    AdmittedOrder,
    Arrival,
    Failed,
    Intent,
    Lost,
    Plan,
    Postponed,
    Repeated,
    StoredIntent,
    position_key,
)
from worker.pipeline.orders import OrderManager
from worker.pipeline.sizing import Sizing, check_exit
from worker.runtime.clock import Clock
from worker.runtime.errors import InvariantError
from worker.runtime.logger import get_logger

log = get_logger()

#: A percent of one unit, as the ledger counts amounts.
MILLIONTHS_A_PERCENT: Final = Decimal(10_000)

_encode = msgspec.json.Encoder().encode
_decode_intent = msgspec.json.Decoder(StoredIntent).decode
_decode_position = msgspec.json.Decoder(Position).decode


class RiskManagementHandler:
    """The second stage: turns an intent into an order the whole fleet's limits allow.

    Args:
        config: the ``risk`` section.
        sizing: makes the order.
        ledger: where the account's limits are kept.
        market: told the price of a position that is closed where nobody knows a price.
        orders: follows what is admitted.
        clock: how old a permission is.
    """

    def __init__(
        self,
        config: RiskConfig,
        *,
        sizing: Sizing,
        ledger: Ledger,
        market: MarketData,
        orders: OrderManager,
        clock: Clock,
    ) -> None:
        self._config = config
        self._sizing = sizing
        self._ledger = ledger
        self._market = market
        self._orders = orders
        self._clock = clock
        #: In millionths of the quote currency for each unit of the balance, 0 for no limit.
        self._max_exposure = config.max_total_exposure_pct * MILLIONTHS_A_PERCENT
        self._max_loss = config.max_daily_loss_pct * MILLIONTHS_A_PERCENT

    async def handle(self, intent: Intent) -> AdmittedOrder | Failed | Repeated | Lost | Postponed:
        """Size the order, check its risk, and reserve its place under the account's limits."""
        arrival = intent.arrival
        request: OrderRequest | None = None
        price = intent.reference or ZERO
        if arrival.signal.action is OPEN:
            sized = self._sizing.entry_request(intent)
            if isinstance(sized, Refusal):
                return Failed(refusal=sized, signal=arrival.signal, digest=arrival.digest)
            request, price = sized
        return await self._admit(intent, request, price)

    async def look_for(
        self, refused: Failed, arrival: Arrival
    ) -> AdmittedOrder | Failed | Repeated | Lost | Postponed:
        """Give a refused signal, of which an order may exist, a place and a record all the same.

        Args:
            refused: how the signal fails if there is no order; the answer where none can exist.
            arrival: the signal, from before a primary that may lack writes took over.
        """
        view, signal = arrival.view, arrival.signal
        adapter, info = view.adapter, view.info
        is_opening = signal.action is OPEN
        if adapter is None or info is None or (is_opening and signal.direction is None):
            return refused
        reference = signal.entry_price or (view.ticker.last if view.ticker else None)
        intent = Intent(arrival=arrival, adapter=adapter, info=info, reference=reference)
        request: OrderRequest | None = None
        price = reference or ZERO
        if is_opening:
            sized = self._sizing.entry_request(intent) if reference is not None else None
            request = sized[0] if isinstance(sized, tuple) else self._sizing.unsized_request(intent)
        return await self._admit(intent, request, price, refused.refusal)

    async def _admit(
        self,
        intent: Intent,
        request: OrderRequest | None,
        price: Decimal,
        refusal: Refusal | None = None,
    ) -> AdmittedOrder | Failed | Repeated | Lost | Postponed:
        """Ask the ledger; with a ``refusal`` the order is only to be looked for."""
        arrival, info = intent.arrival, intent.info
        # The exchange's own time: a step of this machine's clock must not make the order look old.
        not_before_ms = intent.adapter.now_ms()
        if arrival.suspect_until_mono_ms or arrival.is_old:
            # An admission of which no record speaks may have been any time since the signal's.
            not_before_ms = min(not_before_ms, int(arrival.created_ms))
        plan = Plan(
            request=request,
            reference=intent.reference,
            refusal=refusal,
            # What is only looked for is sized by what the signal says, however much that is.
            reserved=millionths(request.quantity * price) if request and refusal is None else 0,
            not_before_ms=not_before_ms,
        )
        asked_mono_ms = self._clock.monotonic_ms()
        answer = await self._ledger.admit(self._item(intent, plan))
        if isinstance(answer, Admitted):
            order = self._admitted(intent, plan, answer, asked_mono_ms)
            breach = None if refusal is not None else check_exit(order)
            if breach is None:
                return order
            self._orders.note(order.managed, Fact.FAILED)
            return Failed(refusal=breach, signal=order.signal, digest=order.digest, order=order)
        if isinstance(answer, Fenced):
            return Lost()
        if isinstance(answer, Duplicate):
            return Repeated(signal=arrival.signal, conflict=answer.conflict)
        if refusal is not None and answer is Code.POSITION_BUSY:
            return Postponed(reason="it may have an order, and its position is busy")
        if refusal is None:
            refusal = refuse(answer, self._sentence(answer, arrival.signal, info))
        return Failed(refusal=refusal, signal=arrival.signal, digest=arrival.digest)

    def resume(
        self, arrival: Arrival, stored: StoredIntent, record: Record, absent_after_mono_ms: float
    ) -> AdmittedOrder | Postponed:
        """Go on from the record of an earlier delivery: the same order, looked up first.

        Args:
            arrival: the entry as delivered again; its signal is the record's.
            stored: what the earlier delivery meant to do.
            record: what it wrote down; the position is that of then.
            absent_after_mono_ms: from when on "not found" proves that nothing was sent.
        """
        adapter, info = arrival.view.adapter, arrival.view.info
        if adapter is None or info is None:
            signal = stored.signal
            log.warning(
                "order_market_unknown",
                signal_id=signal.signal_id,
                exchange=signal.exchange,
                symbol=signal.symbol,
                advice="it may have an order there; configure its exchange and market type again",
            )
            return Postponed(
                reason=f"{signal.exchange} {signal.symbol} is not known to this worker"
            )
        intent = Intent(arrival=arrival, adapter=adapter, info=info, reference=stored.reference)
        return msgspec.structs.replace(
            self._admitted(
                intent,
                stored,
                Admitted(record.position.encode(), 0.0, record.admitted_at),
                float("-inf"),
            ),
            look_up_first=True,
            unresolved_since=record.unresolved_since,
            absent_after_mono_ms=absent_after_mono_ms,
        )

    def _item(
        self,
        intent: Intent,
        plan: Plan,
    ) -> AdmitItem:
        arrival, config = intent.arrival, self._config
        balance = arrival.view.balance
        total = balance.total if balance is not None else ZERO
        return AdmitItem(
            entry=arrival.lease.entry_id,
            token=arrival.lease.token,
            signal=arrival.signal.signal_id,
            digest=arrival.digest,
            exchange=arrival.signal.exchange,
            position_key=position_key(arrival.signal),
            action=arrival.signal.action.value,
            quote=intent.info.quote,
            intent=_written(arrival, plan),
            notional=plan.reserved,
            max_positions=config.max_concurrent_positions,
            max_exposure=_share(total, self._max_exposure),
            max_loss=_share(total, self._max_loss),
            max_rate=config.max_orders_per_minute,
            only_look=plan.refusal is not None,
        )

    def _admitted(
        self, intent: Intent, plan: Plan, admitted: Admitted, admitted_mono_ms: float
    ) -> AdmittedOrder:
        """The order as admitted; its permission is as old as the question, not as the answer."""
        arrival, info = intent.arrival, intent.info
        is_suspect = arrival.suspect_until_mono_ms > 0
        position = _decode_position(admitted.position) if admitted.position else None
        request = plan.request
        if request is None:
            if position is None:
                raise InvariantError(f"{arrival.signal.signal_id}: admitted to close nothing")
            request = self._sizing.exit_request(arrival.signal, position, info)
            if plan.reference is None:
                # Nobody here has seen a price yet: without quotes the entry's price has to do.
                self._market.assume_price(
                    arrival.signal.exchange, arrival.signal.symbol, position.entry_price
                )
        return AdmittedOrder(
            signal=arrival.signal,
            digest=arrival.digest,
            lease=arrival.lease,
            adapter=intent.adapter,
            info=info,
            request=request,
            reference=intent.reference,
            position=position,
            reserved=plan.reserved,
            managed=self._orders.begin(request, arrival.signal.signal_id),
            not_before_ms=plan.not_before_ms,
            created_ms=arrival.created_ms,
            expires_ms=arrival.expires_ms,
            admitted_at=admitted.at_ms,
            admitted_mono_ms=admitted_mono_ms,
            pause_ms=admitted.pause_ms,
            give_up=plan.refusal,
            look_up_first=is_suspect or (arrival.is_old and _may_double(intent.adapter)),
            absent_after_mono_ms=arrival.suspect_until_mono_ms if is_suspect else float("-inf"),
        )

    def _sentence(self, code: Code, signal: Signal, info: SymbolInfo) -> str:
        config = self._config
        return {
            Code.TRADING_HALTED: "trading_state: the account is HALTED; resume it to trade again",
            Code.TRADING_REDUCING: "trading_state: the account is REDUCING; only closes may trade",
            Code.POSITION_EXISTS: f"symbol: a position in {signal.symbol} is open on "
            f"{signal.exchange}; one a symbol is allowed",
            Code.POSITION_BUSY: f"symbol: another signal is working on {signal.symbol} on "
            f"{signal.exchange} at this moment",
            Code.NO_POSITION: f"symbol: no position in {signal.symbol} is open on "
            f"{signal.exchange}",
            Code.MAX_POSITIONS: "risk.max_concurrent_positions: all "
            f"{config.max_concurrent_positions} places are taken or reserved",
            Code.MAX_EXPOSURE: "risk.max_total_exposure_pct: the order would take the account's "
            f"exposure over {config.max_total_exposure_pct}% of its {info.settle}",
            Code.DAILY_LOSS_LIMIT: "risk.max_daily_loss_pct: today's realised loss has reached "
            f"{config.max_daily_loss_pct}% of the account's {info.settle}",
            Code.ORDER_RATE_LIMIT: "risk.max_orders_per_minute: the account has sent its "
            f"{config.max_orders_per_minute} orders of this minute",
        }.get(code, code.meaning)


def _may_double(adapter: ExchangeAdapter) -> bool:
    """Whether sending an order that is there already would make another one."""
    return adapter.resend is not Resend.IDEMPOTENT


def recorded(record: Record) -> StoredIntent:
    """What an earlier delivery meant to do."""
    return _decode_intent(record.intent)


def _written(arrival: Arrival, plan: Plan) -> str:
    """A :class:`StoredIntent` as JSON, made of the signal's, which is there already."""
    return f'{_encode(plan)[:-1].decode()},"signal":{arrival.written.decode()}}}'


def _share(total: Decimal, limit: Decimal) -> int:
    """``limit`` millionths for each unit of ``total``; 0 only where it is switched off."""
    return min(max(int(total * limit), 1), MAX_MILLIONTHS) if limit else 0
