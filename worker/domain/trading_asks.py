"""Requests for a trading state, by asker, and the state that follows from them.

Everybody who wants an account to trade less is remembered until he takes it back, so that nobody
else's request loosens his. The strictest state asked for is in force.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final

import msgspec

from worker.domain.trading_state import TradingState

#: How many reasons of one asker are kept; the oldest and the newest of more.
MAX_REASONS: Final = 8
#: A longer reason is cut.
MAX_REASON_CHARS: Final = 1_000
_STRICTNESS: Final = {TradingState.ACTIVE: 0, TradingState.REDUCING: 1, TradingState.HALTED: 2}
_LIMIT: Final = "limit:"
#: A running flatten asks under its actor's name behind this.
FLATTEN: Final = "flatten:"
#: How long a flatten lasts that does not say until when: as one with the default timeout.
UNDATED_FLATTEN_MS: Final = 120_000


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """One asker's request; ``asker`` is a person (``user@host``) or ``limit:<configuration key>``.

    A running ``flatten`` needs orders that close: it holds back the requests made before it, and
    itself asks for nothing looser than ``REDUCING``. It is over at ``until_ms`` (Unix ms) at the
    latest, even where its command could not say so; without that, as an older version of this
    software wrote it, within :data:`UNDATED_FLATTEN_MS` of ``at`` (RFC 3339).
    """

    asker: str
    state: TradingState
    reasons: tuple[str, ...]
    at: str
    flattens: bool = False
    until_ms: int | msgspec.UnsetType = msgspec.UNSET

    @property
    def is_of_limit(self) -> bool:
        """Return whether a limit asks, not a person."""
        return self.asker.startswith(_LIMIT)

    def is_over(self, now_ms: float) -> bool:
        """Return whether this is a flatten whose time is up."""
        if not self.flattens:
            return False
        if self.until_ms is not msgspec.UNSET:
            return self.until_ms <= now_ms
        try:
            begun_ms = datetime.fromisoformat(self.at).timestamp() * 1000
        except (ValueError, OverflowError, OSError):
            return True
        return abs(now_ms - begun_ms) >= UNDATED_FLATTEN_MS


class Control(msgspec.Struct, frozen=True, kw_only=True):
    """The trading state in force: why, by whom and since when (RFC 3339); empty for never."""

    trading_state: TradingState
    reason: str
    actor: str
    changed_at: str


def add(asks: Iterable[Ask], new: Ask) -> tuple[Ask, ...]:
    """Return the requests with a new one, which replaces the same asker's.

    Its earlier reasons are kept where it asks for the same state again.
    """
    kept = [one for one in asks if one.asker != new.asker]
    before = next((one for one in asks if one.asker == new.asker), None)
    reasons = tuple(reason[:MAX_REASON_CHARS] for reason in new.reasons if reason)
    if before is not None and before.state is new.state and before.flattens == new.flattens:
        reasons = tuple(dict.fromkeys((*before.reasons, *reasons)))
    if len(reasons) > MAX_REASONS:
        reasons = (reasons[0], *reasons[1 - MAX_REASONS :])
    return (*kept, msgspec.structs.replace(new, reasons=reasons))


def without_persons(asks: Iterable[Ask]) -> tuple[Ask, ...]:
    """Return what remains once no person asks for anything any more."""
    return tuple(one for one in asks if one.is_of_limit)


def without_overdue(asks: Sequence[Ask], now_ms: float) -> tuple[Ask, ...]:
    """Return the requests with each flatten that is over as an ordinary one of its actor.

    It holds nothing back any more; where its actor asks for as much himself, nothing is left of it.
    """
    askers = {one.asker for one in asks}
    left = []
    for one in asks:
        actor = one.asker.removeprefix(FLATTEN)
        if not one.is_over(now_ms):
            left.append(one)
        elif actor not in askers:
            left.append(Ask(asker=actor, state=one.state, reasons=one.reasons, at=one.at))
    return tuple(left)


def held_back(asks: Sequence[Ask]) -> tuple[Ask, ...]:
    """Return the requests for more than the state in force, which a running flatten holds back."""
    state = state_of(asks)
    return tuple(one for one in asks if _STRICTNESS[one.state] > _STRICTNESS[state])


def in_force(asks: Iterable[Ask]) -> tuple[Ask, ...]:
    """Return the requests for the strictest state that count now, in the order they were made."""
    counting = list(asks)
    begun = max((n for n, one in enumerate(counting) if one.flattens), default=0)
    counting = counting[begun:]
    strictest = max((_STRICTNESS[one.state] for one in counting), default=0)
    return tuple(one for one in counting if _STRICTNESS[one.state] == strictest)


def state_of(asks: Iterable[Ask]) -> TradingState:
    """Return the state in force."""
    counting = in_force(asks)
    return counting[0].state if counting else TradingState.ACTIVE


def is_at_least(state: TradingState, other: TradingState) -> bool:
    """Return whether a state forbids all that the other one forbids."""
    return _STRICTNESS[state] >= _STRICTNESS[other]


def is_held(told: object, state: TradingState) -> bool:
    """Return whether a worker that tells ``told`` acts by ``state``, or by a stricter one."""
    held = TradingState.read(told.encode()) if isinstance(told, str) else TradingState.ACTIVE
    return held is state if state is TradingState.ACTIVE else is_at_least(held, state)


def control_of(asks: Iterable[Ask], *, actor: str, reason: str, at: str) -> Control:
    """Return the state that follows, with every reason for it.

    Args:
        asks: all requests.
        actor: who changed them last; the state is said to be his unless only others ask for it.
        reason: his, said where nobody asks for anything.
        at: when, RFC 3339.
    """
    counting = in_force(asks)
    if not counting:
        return Control(trading_state=TradingState.ACTIVE, reason=reason, actor=actor, changed_at=at)
    reasons = dict.fromkeys(reason for one in counting for reason in one.reasons)
    own = any(one.asker.removeprefix(FLATTEN) == actor for one in counting)
    persons = [one for one in counting if not one.is_of_limit] or list(counting)
    return Control(
        trading_state=counting[-1].state,
        reason="; ".join(reasons),
        actor=actor if own else persons[-1].asker,
        changed_at=at if own else persons[-1].at,
    )
