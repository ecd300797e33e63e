"""Operators' decisions: the outcome of an order in doubt, the quantity really held.

Every decision is written to the stream ``system`` with its author and reason.
"""

from decimal import Decimal

from worker.domain.money import text
from worker.domain.position import Position
from worker.domain.position_key import position_key
from worker.domain.verdict import Correction, Verdict
from worker.ledger.access import Access
from worker.ledger.errors import NotPermittedError, ScriptsMissingError
from worker.ledger.inspection import StoredPosition, find_position
from worker.ledger.operator_calls import Decided, OperatorCalls
from worker.ledger.operator_writes import keeper_name
from worker.operator.audit import DecisionError, audit, audit_header
from worker.operator.corrections import ask_for_correction, correct
from worker.operator.request import new_request_id
from worker.runtime.clock import Clock

__all__ = ["DecisionError", "Decisions"]


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
        now_ms = self._clock.now_ms()
        event = audit(
            "ORDER_DECIDED",
            f"{verdict.actor} decided that the order of {signal_id} {became}: {verdict.reason}",
            f"{signal_id}-{now_ms}-{new_request_id()}",
            audit_header(self._access.account, now_ms, signal_id),
        )
        decided = await self._calls.decide(signal_id, verdict, event)
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

        The account's keeper does it. Without one it is done from here, if this Redis user may
        write the book: the user ``operator`` may not.

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
            DecisionError: there is no such position, a signal is changing it, it has changed, or
                no worker carried it out.
            LedgerError: Redis cannot be asked.
        """
        correction = Correction(
            exchange=exchange,
            symbol=symbol,
            quantity=quantity,
            price=price,
            actor=actor,
            reason=reason,
        )
        held = await self._held(exchange, symbol)
        if held is not None and await keeper_name(self._access):
            return await ask_for_correction(
                self._access, correction, held.position, clock=self._clock
            )
        account, now_ms = self._access.account, self._clock.now_ms()
        try:
            return await correct(self._calls, held, correction, account=account, now_ms=now_ms)
        except (NotPermittedError, ScriptsMissingError):
            raise DecisionError(
                "no worker of the account is running, and this Redis user may not change the book "
                "itself: start a worker (halt first if it must not trade), then correct; nothing "
                "was changed"
            ) from None

    async def _held(self, exchange: str, symbol: str) -> StoredPosition | None:
        return await find_position(self._access, position_key(exchange, symbol))
