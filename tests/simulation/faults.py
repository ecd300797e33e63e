"""What may go wrong at one call of a worker to Redis or to the exchange, and who decides it."""

from collections.abc import Callable, Sequence
from enum import StrEnum
from random import Random
from typing import Final, Protocol

import msgspec


class Fault(StrEnum):
    """What happens to one call."""

    NONE = "none"
    SLOW = "slow"  # the request takes long to arrive
    SLOW_REPLY = "slow_reply"
    LOST_REQUEST = "lost_request"  # an error, and it was not executed
    LOST_REPLY = "lost_reply"  # an error, although it was executed
    LATE = "late"  # an error at once, executed later
    CRASH_BEFORE = "crash_before"  # the worker dies before the request leaves
    CRASH_AFTER = "crash_after"  # the request leaves, then the worker dies
    PAUSE_BEFORE = "pause_before"  # the worker stops before the request leaves
    PAUSE_AFTER = "pause_after"  # the request leaves, then the worker stops
    # The exchange only:
    NOT_SENT = "not_sent"
    THROTTLED = "throttled"
    BUSY = "busy"  # refused, may be tried again
    REFUSED = "refused"


class Strike(msgspec.Struct, frozen=True):
    """One fault; ``seconds`` is how long it delays, stops or takes to be noticed."""

    fault: Fault
    seconds: float = 0.0


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """One call about to be made: ``place`` is redis or exchange, ``subject`` what it carries."""

    place: str
    name: str
    worker: str
    subject: str = ""


class Faults(Protocol):
    """Decides the fault of every call."""

    def strike(self, call: Call, now_s: float) -> Strike:
        """The fault of this call."""


UNHARMED: Final = Strike(Fault.NONE)


class NoFaults:
    """Everything works."""

    def strike(self, call: Call, now_s: float) -> Strike:
        """None, always."""
        return UNHARMED


class Rates(msgspec.Struct, frozen=True, kw_only=True):
    """How often each kind of fault strikes, as a fraction of the calls."""

    redis: dict[Fault, float] = {}
    exchange: dict[Fault, float] = {}


#: Calls that decide about an order are struck more often than those made all the time.
_WEIGHTS: Final = {
    "place": 4.0, "get": 2.0, "cancel": 3.0, "trades": 2.0,
    "time": 0.3, "ticker": 0.3, "balance": 0.3, "positions": 0.3,
    "admit": 4.0, "commit": 4.0, "authorize": 4.0, "park": 4.0, "release": 4.0, "adopt": 2.0,
    "claim": 1.5, "elect": 0.5, "wait": 0.5, "read_account": 0.5,
}  # fmt: skip


class RandomFaults:
    """Faults drawn at ``rates`` until ``until_s`` of virtual time.

    Args:
        random: the seed's.
        rates: how often each strikes.
        until_s: when they stop.
        outages: (place, from, until) in which nothing there answers, seconds.
        lease_s: pauses are drawn around it.
    """

    def __init__(
        self,
        random: Random,
        rates: Rates,
        *,
        until_s: float,
        lease_s: float,
        outages: Sequence[tuple[str, float, float]] = (),
    ) -> None:
        self._random = random
        self._tables = {
            "redis": list(rates.redis.items()),
            "exchange": list(rates.exchange.items()),
        }
        self._until_s = until_s
        self._outages = outages
        self._lease_s = lease_s

    def strike(self, call: Call, now_s: float) -> Strike:
        """Draw."""
        if now_s >= self._until_s:
            return UNHARMED
        for place, start_s, end_s in self._outages:
            if place == call.place and start_s <= now_s < end_s:
                return Strike(Fault.LOST_REQUEST if place == "redis" else Fault.NOT_SENT)
        drawn = self._random.random() / _WEIGHTS.get(call.name, 1.0)
        for fault, rate in self._tables[call.place]:
            drawn -= rate
            if drawn < 0:
                return Strike(fault, self._seconds(fault))
        return UNHARMED

    def _seconds(self, fault: Fault) -> float:
        random = self._random
        if fault in {Fault.PAUSE_BEFORE, Fault.PAUSE_AFTER}:
            return random.choice((0.3, 1.0, 1.5)) * self._lease_s * random.uniform(0.7, 1.5)
        if random.random() < 0.5:
            return random.uniform(0.01, 0.3)
        return random.uniform(0.3, 4.0)


class Rule(msgspec.Struct, kw_only=True):
    """One strike of a scenario: at the ``nth`` call that matches, or at every one from it on.

    Calls before ``after_s`` or from ``until_s`` on do not match.
    """

    place: str
    name: str
    strike: Strike
    nth: int = 1
    always: bool = False
    worker: str = ""
    subject: str = ""
    after_s: float = 0.0
    until_s: float = float("inf")
    seen: int = 0

    def matches(self, call: Call, now_s: float) -> bool:
        """Whether this call is one of those counted."""
        return (
            call.place == self.place
            and self.after_s <= now_s < self.until_s
            and call.name == self.name
            and (not self.worker or call.worker == self.worker)
            and self.subject in call.subject
        )


class Script:
    """Faults a scenario lays down, in order; the first rule that is due strikes.

    Args:
        rules: as laid down.
        also: called with every call before the rules are looked at.
    """

    def __init__(self, *rules: Rule, also: Callable[[Call], None] = lambda _call: None) -> None:
        self.rules = rules
        self._also = also
        self.struck = 0

    def strike(self, call: Call, now_s: float) -> Strike:
        """The first due rule's."""
        self._also(call)
        found = UNHARMED
        for rule in self.rules:
            if rule.matches(call, now_s):
                rule.seen += 1
                due = rule.seen == rule.nth or (rule.always and rule.seen > rule.nth)
                if due and found is UNHARMED:
                    found = rule.strike
        self.struck += found is not UNHARMED
        return found
