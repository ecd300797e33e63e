"""The events that tell of operators' decisions."""

from worker.domain.event import (
    Header,
    Severity,
    SystemError,  # noqa: A004 (its public name)
)
from worker.domain.event_text import EventText, encode, share
from worker.domain.identity import event_id
from worker.domain.position import Position
from worker.runtime.clock import utc
from worker.runtime.errors import WorkerError


class DecisionError(WorkerError):
    """The decision does not fit what the ledger has; the message says why."""


def audit(code: str, sentence: str, subject: str, header: str) -> EventText:
    """Return the event about a decision, for the stream ``system``.

    Args:
        code: of the decision.
        sentence: who decided what, and why.
        subject: what the event's id follows from, together with the code.
        header: the shared part of the decision's events (:func:`audit_header`).
    """
    event = SystemError(component="operator", code=code, reason=sentence, severity=Severity.WARNING)
    return encode(event, event_id(subject, code.lower()), header)


def audit_header(
    account: str, now_ms: int, signal_id: str, position: Position | None = None
) -> str:
    """Return what the events of one decision share."""
    return share(
        Header(
            occurred_at=utc(now_ms),
            account=account,
            exchange=position.exchange if position else "",
            symbol=position.symbol if position else "",
            signal_id=signal_id,
            strategy_id=position.strategy_id if position else None,
            worker="",
        )
    )
