"""Watches what people change, and logs it where no Redis user can remove it.

Whoever has the operator's password can set the trading state without an event, and can remove
events, for ``XADD`` can trim. The keeper compares both with what it saw last, which it notes under
a key that only workers may write.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, ClassVar, Final

import msgspec

from worker.domain.event import (
    Severity,
    SystemError,  # noqa: A004 (its public name)
    TradingStateChanged,
)
from worker.domain.event_text import encode
from worker.domain.identity import event_id
from worker.keeper.duty import Duty
from worker.ledger.access import split_id
from worker.ledger.ports import Ledger
from worker.ledger.watching import MOST_EVENTS, Watched, WatchedEvent
from worker.operator.audit import audit_header
from worker.runtime.clock import Clock
from worker.runtime.logger import get_logger

log = get_logger()

#: Types of events that only tell of people, or of what they have changed.
_TELLING: Final = frozenset({TradingStateChanged.__name__, "OperatorAction"})


class WatchPeople(Duty):
    """Log what people change, and raise an event for what they change unseen.

    Args:
        look: notes marks and looks at the account (:func:`worker.ledger.watching.watch`).
        ledger: takes the events.
        account: the account's id.
        output_length: to how many entries workers trim an output stream.
        clock: the events' time.
    """

    name: ClassVar[str] = "watch"
    interval_ms: ClassVar[int] = 0

    def __init__(
        self,
        look: Callable[[Mapping[str, str]], Awaitable[Watched]],
        ledger: Ledger,
        *,
        account: str,
        output_length: int,
        clock: Clock,
    ) -> None:
        self._look = look
        self._ledger = ledger
        self._account = account
        self._output_length = output_length
        self._clock = clock
        #: Logged, and to be noted with the next look.
        self._seen: dict[str, str] = {}

    def begin_term(self) -> None:
        """Start from what the last keeper has noted."""
        self._seen = {}

    async def run(self) -> None:
        """Look once.

        Raises:
            LedgerError: Redis failed; what was not noted is logged again.
        """
        now = await self._look(self._seen)
        marks = dict(now.marks)
        if "event" not in marks:  # the account is watched for the first time
            self._seen = _marks(now, state=_state(now.control), event=now.system.last.decode())
            return
        if split_id(marks["event"]) > split_id(now.system.last.decode()):
            log.warning("events_renamed", stream="system", last=now.system.last.decode())
            self._seen = _marks(now, state=_state(now.control), event=now.system.last.decode())
            return  # the stream was mended: watched from here on
        announced = marks.get("state", "")
        for event in now.events:
            announced = _log(event) or announced
        is_all = len(now.events) < MOST_EVENTS
        state = _state(now.control)
        if is_all and state != announced:
            await self._raise(
                "TRADING_STATE_UNANNOUNCED",
                f"the trading state was set to {state} without an event, by somebody who wrote "
                f"the key control itself; actor {now.control.get('actor', '')!r}, reason "
                f"{now.control.get('reason', '')!r}",
            )
            announced = state
        set_by = _set_by(now.control)
        if set_by != marks.get("set_by", ""):
            log.warning("trading_state_set", **dict(now.control))
        await self._count(now, marks)
        last = now.events[-1].entry_id if now.events else marks["event"]
        self._seen = _marks(now, state=announced, event=last)

    async def _count(self, now: Watched, marks: Mapping[str, str]) -> None:
        """Compare what is missing of the streams with what was missing before."""
        letters = _removed(now.dead) - int(marks.get("dead_removed", 0))
        if letters > 0:
            log.warning("dead_letters_removed", count=letters)
        events = _removed(now.system) - int(marks.get("events_removed", 0))
        # Workers trim the stream too, but never below its length.
        if events > 0 and now.system.length < self._output_length:
            await self._raise(
                "EVENTS_REMOVED",
                f"{events} events were removed from the stream system by somebody who is no worker",
            )

    async def _raise(self, code: str, sentence: str) -> None:
        log.error("unannounced_change", code=code, reason=sentence)
        now_ms = self._clock.now_ms()
        event = SystemError(
            component="keeper", code=code, reason=sentence, severity=Severity.CRITICAL
        )
        header = audit_header(self._account, now_ms, "")
        identity = event_id(f"{self._account}-{now_ms}", code.lower())
        await self._ledger.announce(encode(event, identity, header)[1:])


def _marks(now: Watched, *, state: str, event: str) -> dict[str, str]:
    return {
        "state": state,
        "set_by": _set_by(now.control),
        "event": event,
        "events_removed": str(_removed(now.system)),
        "dead_removed": str(_removed(now.dead)),
    }


def _removed(stream: Any) -> int:
    return int(stream.added) - int(stream.length)


def _state(control: Mapping[str, str]) -> str:
    return control.get("trading_state", "ACTIVE")


def _set_by(control: Mapping[str, str]) -> str:
    return msgspec.json.encode(sorted(control.items())).decode()


def _log(event: WatchedEvent) -> str:
    """Log an event that tells of people; return the trading state that it announces, if it does."""
    try:
        data = msgspec.json.decode(event.data, type=dict[str, Any])
    except (msgspec.MsgspecError, RecursionError, ValueError):
        data = {"data": event.data}
    if event.type in _TELLING or data.get("component") == "operator":
        log.warning("operator_action", type=event.type, event_id=event.event_id, data=data)
    if event.type == TradingStateChanged.__name__:
        return str(data.get("trading_state", ""))
    return ""
