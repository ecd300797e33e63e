"""Operators' decisions: the outcome of an order in doubt, the quantity really held.

Every decision is written to the stream ``system`` with its author and reason.
"""

from decimal import Decimal

from worker.domain.event import (
    CloseReason,
    Header,
    Severity,
    SystemError,  # noqa: A004 (its public name)
)
from worker.domain.event_text import EventText, encode, share
from worker.domain.identity import event_id
from worker.domain.market import quote_currency
from worker.domain.money import text
from worker.domain.position import Position, correct_position
from worker.domain.position_events import changed, closed
from worker.domain.position_key import position_key
from worker.domain.verdict import Verdict
from worker.ledger.access import Access
from worker.ledger.inspection import StoredPosition, find_position
from worker.ledger.operator_calls import Corrected, Decided, OperatorCalls
from worker.runtime.clock import Clock, utc
from worker.runtime.errors import WorkerError


class DecisionError(WorkerError):
    """The decision does not fit what the ledger has; the message says why."""


class Decisions:
    """Decides unresolved orders and corrects positions.

    Args:
        access: the account.
        calls: writes the decisions.
        clock: the events' time.
    """

    def __init__(self, access: Access, calls: OperatorCalls, *, clock: Clock) -> None:
        self._access = access
        self._calls = calls
        self._clock = clock

    async def decide(self, signal_id: str, verdict: Verdict) -> None:
        """State what became of a signal's unresolved order.

        The account's keeper settles the order so the next time it asks the exchange, unless the
        exchange reports the order then.

        Raises:
            DecisionError: no order of this signal is unresolved.
            LedgerError: Redis cannot be asked.
        """
        became = "is not there"
        if verdict.filled:
            became = f"filled {text(verdict.filled)} at {text(verdict.price)}"
        audit = self._audit(
            "ORDER_DECIDED",
            f"{verdict.actor} decided that the order of {signal_id} {became}: {verdict.reason}",
            f"{signal_id}-{self._clock.now_ms()}",
            self._header(signal_id),
        )
        decided = await self._calls.decide(signal_id, verdict, audit)
        if decided == Decided.NOTED:
            return
        if decided == Decided.UNKNOWN:
            raise DecisionError(f"no order of signal {signal_id} is known")
        if decided == Decided.LOST:
            raise DecisionError(
                f"the admission of signal {signal_id} was lost with a primary: nothing can be "
                "decided of its order; cancel or close it on the exchange, which then reports it"
            )
        raise DecisionError(f"the order of signal {signal_id} is not unresolved: it is {decided}")

    async def correct(
        self,
        exchange: str,
        symbol: str,
        *,
        quantity: Decimal,
        price: Decimal,
        actor: str,
        reason: str,
    ) -> tuple[Position, Position]:
        """Set a position in the book to what is really held.

        Args:
            exchange: the position's.
            symbol: as signals spell it.
            quantity: really held, base units; 0 for nothing.
            price: at which the difference traded, quote units.
            actor: who states it.
            reason: for the record.

        Returns:
            The position before and after.

        Raises:
            DecisionError: there is no such position, a signal is changing it, or it has changed.
            LedgerError: Redis cannot be asked.
        """
        held = await self._held(exchange, symbol)
        before = held.position
        if quantity == before.quantity:
            raise DecisionError(f"the book has {text(quantity)} of {symbol} on {exchange} already")
        after, realized = correct_position(before, quantity, price)
        header = self._header(before.signal_id, before)
        now_ms = self._clock.now_ms()
        subject = f"{before.position_id}-{now_ms}"
        audit = self._audit(
            "POSITION_CORRECTED",
            f"{actor} corrected {symbol} on {exchange} from {text(before.quantity)} to "
            f"{text(quantity)}, traded at {text(price)}: {reason}",
            subject,
            header,
        )
        if quantity:
            change = changed(after, realized, f"corrected by {actor}: {reason}")
            event = encode(change, event_id(subject, "corrected"), header)
        else:
            end = closed(after, utc(now_ms), CloseReason.EXTERNAL)
            event = encode(end, event_id(subject, "closed"), header)
        corrected = await self._calls.correct(
            held, after, realized, quote=quote_currency(symbol), event=event, audit=audit
        )
        if corrected is Corrected.BUSY:
            raise DecisionError(f"a signal is working on {symbol} on {exchange}: try again")
        if corrected is Corrected.CHANGED:
            raise DecisionError(
                f"the position in {symbol} on {exchange} has just changed: look at it again"
            )
        return before, after

    async def _held(self, exchange: str, symbol: str) -> StoredPosition:
        held = await find_position(self._access, position_key(exchange, symbol))
        if held is None:
            raise DecisionError(f"the book has no position {exchange} {symbol}")
        return held

    def _audit(self, code: str, sentence: str, subject: str, header: str) -> EventText:
        event = SystemError(
            component="operator", code=code, reason=sentence, severity=Severity.WARNING
        )
        return encode(event, event_id(subject, code.lower()), header)

    def _header(self, signal_id: str, position: Position | None = None) -> str:
        return share(
            Header(
                occurred_at=utc(self._clock.now_ms()),
                account=self._access.account,
                exchange=position.exchange if position else "",
                symbol=position.symbol if position else "",
                signal_id=signal_id,
                strategy_id=position.strategy_id if position else None,
                worker="",
            )
        )
