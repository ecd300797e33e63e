"""The risk stage: may the account have the order? One question to the ledger, and its answer."""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import assert_never

import msgspec

from worker.config.keys import RiskConfig
from worker.domain.money import ZERO, millionths
from worker.domain.order import Fact, OrderRequest, average_price, total_quantity
from worker.domain.position import Position, is_untradable, reduce_position
from worker.domain.position_json import read_position
from worker.domain.position_key import position_key
from worker.domain.refusal import Code, Refusal, refuse
from worker.domain.signal import OPEN
from worker.exchanges.ports import ExchangeAdapter, Resend
from worker.ledger.items import AdmitItem
from worker.ledger.limit_rows import NO_LIMITS
from worker.ledger.replies import (
    Admission,
    Admitted,
    Blocked,
    Duplicate,
    EndedFirst,
    Fenced,
    Waits,
)
from worker.ledger.stored import Record
from worker.market.data import MarketData
from worker.pipeline.account_limits import AccountLimits
from worker.pipeline.custody import Custody
from worker.pipeline.flow import (
    AdmittedOrder,
    Arrival,
    Completed,
    Failed,
    Lost,
    MaybeSent,
    NeverSent,
    Permission,
    Plan,
    Postponed,
    Proposal,
    Repeated,
    SentBefore,
    Settlement,
    StoredPlan,
    ValidSignal,
    WriteOff,
)
from worker.pipeline.orders import OrderManager
from worker.pipeline.refusal_sentences import sentence
from worker.pipeline.sizing import Sizing, check_exit
from worker.runtime.errors import InvariantError
from worker.runtime.logger import get_logger

log = get_logger()

_encode = msgspec.json.Encoder().encode
_decode_plan = msgspec.json.Decoder(StoredPlan).decode


class RiskManagementHandler:
    """The second stage: turns a valid signal into an order that the whole fleet's limits allow.

    Plain functions: :meth:`propose` makes the question, the ledger answers it, :meth:`decide` says
    what the answer means.

    Args:
        config: the ``risk`` section.
        sizing: makes the order.
        exchanges: by name; asked for their time, and how they treat a repeated order.
        market: told the price of a position that is closed where nobody knows a price.
        orders: follows what is admitted.
    """

    def __init__(
        self,
        config: RiskConfig,
        *,
        sizing: Sizing,
        exchanges: Mapping[str, ExchangeAdapter],
        market: MarketData,
        orders: OrderManager,
    ) -> None:
        self._config = config
        self._sizing = sizing
        self._exchanges = exchanges
        self._market = market
        self._orders = orders
        self._close_only_own = config.close_only_own
        self._limits = AccountLimits(config)
        #: Those of the quote currency and balance seen last: the next order often has the same.
        self._limits_seen, self._limits_quote, self._limits_total = NO_LIMITS, "", ZERO

    def propose(self, valid: ValidSignal, custody: Custody) -> Proposal | Failed:
        """Size the order, check its risk, and build the question to the ledger."""
        arrival = valid.arrival
        request: OrderRequest | None = None
        price = valid.reference or ZERO
        if arrival.signal.action is OPEN:
            sized = self._sizing.entry_request(valid)
            if not isinstance(sized, tuple):
                return Failed(refusal=sized, signal=arrival.signal, digest=arrival.digest)
            request, price = sized
        return self._proposal(valid, custody, request, price)

    def propose_look_up(
        self, refused: Failed, arrival: Arrival, custody: Custody
    ) -> Proposal | Failed:
        """Ask for a record for a refused signal of which an order may exist all the same.

        Args:
            refused: how the signal fails if there is no order; returned where none can exist.
            arrival: the signal, from before a primary that may lack writes took over.
            custody: of its entry.
        """
        view, signal = arrival.view, arrival.signal
        info = view.info
        is_opening = signal.action is OPEN
        if info is None or (is_opening and signal.direction is None):
            return refused
        reference = signal.entry_price or (view.ticker.last if view.ticker else None)
        valid = ValidSignal(arrival=arrival, info=info, reference=reference)
        request: OrderRequest | None = None
        price = reference or ZERO
        if is_opening:
            sized = self._sizing.entry_request(valid) if reference is not None else None
            request = sized[0] if isinstance(sized, tuple) else self._sizing.unsized_request(valid)
        return self._proposal(valid, custody, request, price, refused.refusal)

    def _proposal(
        self,
        valid: ValidSignal,
        custody: Custody,
        request: OrderRequest | None,
        price: Decimal,
        refusal: Refusal | None = None,
    ) -> Proposal:
        """Build the question; with a ``refusal`` the order is only to be looked for."""
        arrival = valid.arrival
        # The exchange's own time: a step of this machine's clock must not make the order look old.
        not_before_ms = self._exchanges[arrival.signal.exchange].now_ms()
        if arrival.suspect_until_mono_ms is not None or arrival.is_old:
            # An admission of which no record speaks may have been any time since the signal's.
            not_before_ms = min(not_before_ms, int(arrival.lifetime.created_ms))
        plan = Plan(
            request=request,
            reference=valid.reference,
            refusal=refusal,
            # What is only looked for is sized by what the signal says, however much that is.
            reserved=millionths(request.quantity * price) if request and refusal is None else 0,
            not_before_ms=not_before_ms,
        )
        return Proposal(valid=valid, plan=plan, item=self._item(valid, plan, custody))

    def decide(
        self, proposal: Proposal, answer: Admission, asked_mono_ms: float, custody: Custody
    ) -> AdmittedOrder | Failed | Repeated | Completed | Lost | Postponed:
        """Return what the ledger's answer, to a question asked at ``asked_mono_ms``, means."""
        valid, refusal = proposal.valid, proposal.plan.refusal
        arrival = valid.arrival
        match answer:
            case Admitted():
                permission = Permission(asked_mono_ms, answer.pause_ms)
                return self._admitted(proposal, answer, permission, custody)
            case Fenced():
                return Lost()
            case Duplicate():
                return Repeated(signal=arrival.signal, conflict=answer.conflict)
            case Code() | Blocked():
                code = answer if isinstance(answer, Code) else Code.POSITION_BUSY
                if refusal is not None and code is Code.POSITION_BUSY:
                    return Postponed(reason="it may have an order, and its position is busy")
                if refusal is None:
                    why = sentence(answer, arrival.signal, valid.info, self._config)
                    refusal = refuse(code, why)
                return Failed(refusal=refusal, signal=arrival.signal, digest=arrival.digest)
            case Waits():
                return Postponed(reason="the entry that rests for its position is cancelled first")
            case EndedFirst():
                return Completed(
                    signal=arrival.signal,
                    digest=arrival.digest,
                    result=f"the resting entry of {answer.target} was cancelled before it traded; "
                    "there was nothing else to close",
                    target=answer.target,
                )
            case _:
                assert_never(answer)

    def _admitted(
        self, proposal: Proposal, admitted: Admitted, permission: Permission, custody: Custody
    ) -> AdmittedOrder | Failed:
        """Build the order of a signal admitted just now."""
        valid, plan = proposal.valid, proposal.plan
        arrival, signal = valid.arrival, valid.arrival.signal
        sent_before: SentBefore = NeverSent()
        if arrival.suspect_until_mono_ms is not None:
            sent_before = MaybeSent(arrival.suspect_until_mono_ms)
        elif arrival.is_old and self._may_double(signal.exchange):
            sent_before = MaybeSent(None)
        order = self._order(valid, plan, admitted, sent_before, permission, custody)
        if order.position is None or plan.refusal is not None:
            return order
        order = _judged(order, order.position, arrival)
        if order.give_up is None:
            return order
        self._orders.note(custody.order, Fact.FAILED)
        return Failed(refusal=order.give_up, signal=signal, digest=order.digest, order=order)

    def resume(
        self,
        arrival: Arrival,
        stored: StoredPlan,
        record: Record,
        absent_after_mono_ms: float,
        custody: Custody,
    ) -> AdmittedOrder | Postponed:
        """Go on from the record of an earlier delivery: the same order, looked up first.

        Args:
            arrival: the entry as delivered again; its signal is the record's.
            stored: what the earlier delivery meant to do.
            record: what it wrote down; the position is that of then.
            absent_after_mono_ms: from when on "not found" proves that nothing was sent.
            custody: of the entry.
        """
        info = arrival.view.info
        if info is None:
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
        order = self._order(
            ValidSignal(arrival=arrival, info=info, reference=stored.reference),
            stored,
            Admitted(record.position.encode(), 0.0, record.admitted_at),
            MaybeSent(absent_after_mono_ms),
            None,
            custody,
        )
        order = msgspec.structs.replace(order, unresolved_since=record.unresolved_since)
        if order.position is None or order.give_up is not None or order.signal.action is OPEN:
            return order
        return _judged(order, order.position, arrival)  # its refusal may not have been written

    def next_piece(self, ended: Sequence[Settlement], custody: Custody) -> AdmittedOrder | None:
        """Build the next order of a close that one order could not have, and begin to follow it.

        Args:
            ended: its orders so far, all of them filled.
            custody: of the entry.

        Returns:
            The order, for what is left of the position then; None where nothing more is to close.
        """
        first = ended[0].order
        if first.position is None or first.signal.action is OPEN:
            return None
        fills = tuple(fill for end in ended for fill in end.fills)
        wanted = first.signal.quantity or first.position.quantity
        closed = total_quantity(fills)
        if closed >= wanted or is_untradable(wanted - closed, average_price(fills), first.info):
            return None
        left, _ = reduce_position(first.position, fills, first.info)
        if not left.quantity:
            return None
        piece = len(ended) + 1
        request = self._sizing.exit_request(
            first.signal, left, first.info, piece=piece, closed=closed
        )
        if is_untradable(request.quantity, average_price(fills), first.info):
            return None
        custody.order = self._orders.begin(request, first.signal.signal_id)
        return msgspec.structs.replace(
            first, request=request, position=left, permission=None, piece=piece
        )

    def _item(self, valid: ValidSignal, plan: Plan, custody: Custody) -> AdmitItem:
        arrival = valid.arrival
        signal, balance = arrival.signal, arrival.view.balance
        only_look, limits = plan.refusal is not None, NO_LIMITS
        if signal.action is OPEN and not only_look:
            quote, total = valid.info.quote, balance.total if balance is not None else ZERO
            if total is not self._limits_total or quote != self._limits_quote:
                self._limits_total, self._limits_quote = total, quote
                self._limits_seen = self._limits.of(quote, total)
            limits = self._limits_seen
        # More than 15 arguments by name would be gathered in a dictionary first.
        item = AdmitItem(
            entry=custody.entry_id,
            token=custody.token,
            signal=signal.signal_id,
            digest=arrival.digest,
            exchange=signal.exchange,
            position_key=position_key(signal.exchange, signal.symbol),
            action=signal.action,
            plan=_written(arrival, plan),
            notional=plan.reserved,
            only_look=only_look,
            limits=limits,
        )
        if self._close_only_own:
            return msgspec.structs.replace(item, opener=signal.strategy_id or "")
        return item

    def _order(
        self,
        valid: ValidSignal,
        plan: Plan,
        admitted: Admitted,
        sent_before: SentBefore,
        permission: Permission | None,
        custody: Custody,
    ) -> AdmittedOrder:
        """Build the order as admitted, and begin to follow it."""
        arrival, info = valid.arrival, valid.info
        signal = arrival.signal
        position = read_position(admitted.position) if admitted.position else None
        request = plan.request
        if request is None:
            if position is None:
                raise InvariantError(f"{signal.signal_id}: admitted to close nothing")
            request = self._sizing.exit_request(signal, position, info)
            if plan.reference is None:
                # Nobody here has seen a price yet: without quotes the entry's price has to do.
                self._market.assume_price(signal.exchange, signal.symbol, position.entry_price)
        custody.order = self._orders.begin(request, signal.signal_id)
        return AdmittedOrder(
            signal=signal,
            digest=arrival.digest,
            lifetime=arrival.lifetime,
            info=info,
            request=request,
            position=position,
            plan=plan,
            admitted_at=admitted.at_ms,
            sent_before=sent_before,
            permission=permission,
            give_up=plan.refusal,
        )

    def _may_double(self, exchange: str) -> bool:
        """Return whether sending an order that is there already would make another one."""
        return self._exchanges[exchange].resend is not Resend.IDEMPOTENT


def _judged(order: AdmittedOrder, position: Position, arrival: Arrival) -> AdmittedOrder:
    """Return a close with the reason not to send it, where there is one."""
    ticker = arrival.view.ticker
    market = ticker.last if ticker is not None else None
    breach = check_exit(order.signal, position, order.request, order.info, market)
    if breach is None:
        return order
    dust = breach.code is Code.BELOW_MINIMUM and is_untradable(
        position.quantity, market, order.info
    )
    return msgspec.structs.replace(
        order, give_up=breach, write_off=WriteOff.UNTRADABLE if dust else None
    )


def recorded(record: Record) -> StoredPlan:
    """Return what an earlier delivery meant to do."""
    return _decode_plan(record.plan)


def _written(arrival: Arrival, plan: Plan) -> str:
    """Encode a :class:`StoredPlan`; the signal's JSON is there already, and put in as text."""
    return f'{_encode(plan)[:-1].decode()},"signal":{arrival.written.decode()}}}'
