"""Closes of more than one order may have: further orders under ids of their own, one at a time.

The position, the market's maximum and what has traded say which order comes next, so a worker that
takes the signal over walks the same way: it looks each piece up before it would send it, as it does
with a signal's only order. A piece is sent only once the one before it is over and known to the
last trade.
"""

from decimal import Decimal
from typing import Final

import msgspec

from worker.domain.fees import total_fees
from worker.domain.money import ZERO
from worker.domain.order import CANCELLED, FILLED, average_price, total_quantity
from worker.domain.order_events import code_of_refusal
from worker.pipeline.custody import Custody
from worker.pipeline.execution import OrderExecutorHandler
from worker.pipeline.flow import (
    AdmittedOrder,
    Failed,
    Lost,
    MaybeSent,
    Postponed,
    Settlement,
    Submission,
    Unresolved,
)
from worker.pipeline.reconciliation import ReconciliationHandler
from worker.pipeline.risk import RiskManagementHandler

#: The most orders of one close; what is left then needs another signal.
MAX_PIECES: Final = 100


class Pieces:
    """Sends what the market's largest order has left of a close.

    Args:
        risk: says which order comes next.
        execution: sends it.
        reconciliation: follows it to its end.
    """

    def __init__(
        self,
        risk: RiskManagementHandler,
        execution: OrderExecutorHandler,
        reconciliation: ReconciliationHandler,
    ) -> None:
        self._risk = risk
        self._execution = execution
        self._reconciliation = reconciliation

    async def finish(
        self, first: Settlement, custody: Custody
    ) -> Settlement | Lost | Postponed | Unresolved:
        """Close the rest, if there is one; returns how all of it ended together."""
        ended = [first]
        while len(ended) < MAX_PIECES and _may_go_on(ended[-1]):
            piece = self._risk.next_piece(ended, custody)
            if piece is None:
                break
            end = await self._trade(piece, custody)
            if isinstance(end, Failed):
                return await self._reconciliation.check_cut(_joined(ended, end))
            if not isinstance(end, Settlement):
                return end
            ended.append(end)
        whole = first if len(ended) == 1 else _joined(ended)
        return await self._reconciliation.check_cut(whole)

    async def _trade(
        self, piece: AdmittedOrder, custody: Custody
    ) -> Settlement | Failed | Lost | Postponed | Unresolved:
        sent = await self._execution.handle(piece, custody)
        if isinstance(sent, Submission):
            return await self._reconciliation.handle(sent, custody)
        return await self._reconciliation.check_refused(sent) if isinstance(sent, Failed) else sent


def leaves_something(end: Settlement) -> bool:
    """Return whether an order has left something of what its signal is to close."""
    position = end.order.position
    return position is not None and end.filled < (end.order.signal.quantity or position.quantity)


def _may_go_on(end: Settlement) -> bool:
    """Return whether the order traded whole, by the exchange's own word, and may be followed.

    An order that an earlier delivery sent may be smaller than this one would send it, for the
    market's maximum was another one then: others may have followed it.
    """
    order = end.order
    is_whole = end.filled >= order.request.quantity or isinstance(order.sent_before, MaybeSent)
    return (
        end.report.state is FILLED
        and is_whole
        and order.write_off is None
        and not order.missing
        # A person's word is about one order, which the exchange did not tell of.
        and bool(end.report.exchange_order_id)
        and not order.request.order_type.needs_stop_price
    )


def _ordered(end: Settlement) -> Decimal:
    """Return what was ordered: all that traded, where the exchange calls that the whole."""
    return end.filled if end.report.state is FILLED else end.order.request.quantity


def _joined(ended: list[Settlement], failed: Failed | None = None) -> Settlement:
    """Return the end of a close from those of its pieces, and why no more of them follow."""
    first, last = ended[0], ended[-1]
    fills = tuple(fill for end in ended for fill in end.fills)
    ordered = sum((_ordered(end) for end in ended), ZERO)
    report = msgspec.structs.replace(last.report, exchange_order_id=first.report.exchange_order_id)
    write_off, code = last.order.write_off, last.cancelled_for
    if failed is not None and failed.order is not None:
        ordered += failed.order.request.quantity
        write_off = failed.order.write_off
        reason = (
            f"closed in pieces, {len(ended)} of them filled, then {failed.refusal.code}: "
            f"{failed.refusal.reason}; what is left needs another close"
        )
        report = msgspec.structs.replace(report, state=CANCELLED, reason=reason)
        code = code_of_refusal(failed.refusal.code)
    request = msgspec.structs.replace(first.order.request, quantity=ordered)
    order = msgspec.structs.replace(
        first.order, request=request, missing=last.order.missing, write_off=write_off
    )
    return Settlement(
        order=order,
        report=report,
        fills=fills,
        filled=total_quantity(fills),
        average_price=average_price(fills),
        fees=total_fees(fills),
        attempts=sum(end.attempts for end in ended) + (failed.refusal.attempts if failed else 0),
        pieces=tuple(ended),
        cancelled_for=code,
    )
