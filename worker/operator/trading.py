"""Changes of an account's trading state: requests of persons, added and taken back."""

from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from worker.domain.event import Header, OperatorAction, TradingStateChanged
from worker.domain.event_text import EventText, encode, share
from worker.domain.identity import event_id
from worker.domain.trading_asks import (
    FLATTEN,
    Ask,
    Control,
    add,
    control_of,
    is_at_least,
    is_held,
    without_overdue,
    without_persons,
)
from worker.domain.trading_state import TradingState
from worker.ledger.ports import TradingCalls
from worker.ledger.published import StoredControl
from worker.operator.request import new_request_id
from worker.runtime.clock import Clock, rfc3339, utc
from worker.runtime.errors import WorkerError

#: How often a change is tried while others change the state too.
MAX_TRIES: Final = 20
#: The actor of what the account's keeper changes.
KEEPER: Final = "keeper"


class TradingStateBusyError(WorkerError):
    """Others kept changing the trading state at the same time; nothing was changed."""


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """The state in force before and after a change, and who asks for what now."""

    before: TradingState
    control: Control
    asks: tuple[Ask, ...]


class Holding(msgspec.Struct, frozen=True, kw_only=True):
    """The live workers that act by a trading state, those that do not yet, and the silent ones."""

    held: tuple[str, ...]
    missing: tuple[str, ...]
    silent: tuple[str, ...]


class Trading:
    """One account's trading state.

    Every method raises :class:`~worker.ledger.errors.LedgerError` when Redis cannot be asked.

    Args:
        calls: read and change the state.
        clock: the events' time.
        silent_after_ms: a worker not heard from in this long does not count as alive.
    """

    def __init__(self, calls: TradingCalls, *, clock: Clock, silent_after_ms: int) -> None:
        self._calls = calls
        self._clock = clock
        self._silent_after_ms = silent_after_ms

    async def read(self) -> StoredControl:
        """Read the state in force and who asks for it."""
        return await self._calls.read_control()

    async def ask(self, state: TradingState, *, reason: str, actor: str) -> Change:
        """Ask for a state that is not ``ACTIVE``; the strictest that anybody asks for is in force.

        Args:
            state: what the actor asks for instead of what he asked for before.
            reason: why.
            actor: who.
        """

        def change(asks: Sequence[Ask], at: str) -> tuple[Ask, ...]:
            return add(asks, Ask(asker=actor, state=state, reasons=(reason,), at=at))

        return await self._change(change, action=ACTIONS[state], actor=actor, reason=reason)

    async def begin_flatten(self, *, reason: str, actor: str, lasts_ms: int) -> Change:
        """Ask for ``REDUCING`` while a flatten runs, which holds the requests before it back.

        Args:
            reason: why.
            actor: who.
            lasts_ms: the flatten is over after this time, also if nobody ends it.
        """
        until_ms = self._clock.now_ms() + lasts_ms

        def change(asks: Sequence[Ask], at: str) -> tuple[Ask, ...]:
            new = Ask(
                asker=FLATTEN + actor,
                state=TradingState.REDUCING,
                reasons=(reason,),
                at=at,
                flattens=True,
                until_ms=until_ms,
            )
            return add(asks, new)

        return await self._change(change, action="flatten", actor=actor, reason=reason)

    async def end_flatten(self, then: TradingState, *, reason: str, actor: str) -> Change:
        """End a flatten; the actor asks for ``then``, unless he asked for more before."""

        def change(asks: Sequence[Ask], at: str) -> tuple[Ask, ...]:
            left = [one for one in asks if one.asker != FLATTEN + actor]
            asked = next((one.state for one in left if one.asker == actor), TradingState.ACTIVE)
            if then is TradingState.ACTIVE or (asked is not then and is_at_least(asked, then)):
                return tuple(left)
            return add(left, Ask(asker=actor, state=then, reasons=(reason,), at=at))

        return await self._change(change, action="flatten", actor=actor, reason=reason)

    async def end_overdue(self) -> Change | None:
        """End the flattens that should be over and whose commands did not end them.

        What others asked for before them counts again; the flatten's actor asks for ``REDUCING``.
        None if there is no such flatten.
        """
        now_ms = self._clock.now_ms()
        overdue = [one for one in (await self.read()).asks if one.is_over(now_ms)]
        if not overdue:
            return None
        who = ", ".join(one.asker.removeprefix(FLATTEN) for one in overdue)
        reason = f"the flatten of {who} did not end in its time"
        return await self._change(
            lambda asks, _at: tuple(asks), action="flatten", actor=KEEPER, reason=reason
        )

    async def is_flattening(self, actor: str) -> bool:
        """Return whether this actor's flatten still counts; a ``resume`` ends it."""
        return any(one.asker == FLATTEN + actor for one in (await self.read()).asks)

    async def resume(self, *, reason: str, actor: str, forgive: bool = False) -> Change:
        """Take back what every person asks for; with ``forgive`` also what limits ask for."""

        def change(asks: Sequence[Ask], _at: str) -> tuple[Ask, ...]:
            return () if forgive else without_persons(asks)

        return await self._change(change, action="resume", actor=actor, reason=reason)

    async def holding(self, state: TradingState) -> Holding:
        """Read which live workers act by ``state`` or a stricter one."""
        at_ms, heartbeats = await self._calls.read_heartbeats()
        live = {
            name: beat
            for name, beat in heartbeats.items()
            if at_ms - beat.at_ms <= self._silent_after_ms
        }
        held = tuple(
            name for name, beat in live.items() if is_held(beat.status.get("trading_state"), state)
        )
        return Holding(
            held=held,
            missing=tuple(name for name in live if name not in held),
            silent=tuple(name for name in heartbeats if name not in live),
        )

    async def _change(
        self,
        change: Callable[[Sequence[Ask], str], tuple[Ask, ...]],
        *,
        action: str,
        actor: str,
        reason: str,
    ) -> Change:
        """Store changed requests, again from the start where another was faster."""
        for _ in range(MAX_TRIES):
            stored = await self.read()
            now_ms = self._clock.now_ms()
            at = rfc3339(now_ms)
            asks = change(without_overdue(stored.asks, now_ms), at)
            control = control_of(asks, actor=actor, reason=reason, at=at)
            before = stored.control.trading_state
            moment = f"{now_ms}-{new_request_id()}"
            event = self._event(moment, action, actor, reason, before, control.trading_state)
            if await self._calls.change_control(stored.raw, asks, control, event):
                return Change(before=before, control=control, asks=asks)
        raise TradingStateBusyError(
            f"the trading state of account {self._calls.account} was changed by others "
            f"{MAX_TRIES} times while this tried to change it: try again"
        )

    def _event(
        self,
        moment: str,
        action: str,
        actor: str,
        reason: str,
        before: TradingState,
        after: TradingState,
    ) -> EventText:
        header = share(
            Header(
                occurred_at=utc(self._clock.now_ms()),
                account=self._calls.account,
                exchange="",
                symbol="",
                signal_id="",
                strategy_id=None,
                worker="",
            )
        )
        identity = event_id(f"{self._calls.account}-{moment}-{actor}", action)
        if before is after:
            told = OperatorAction(
                action=action,
                subject="trading_state",
                actor=actor,
                reason=reason,
                before=before.value,
                after=after.value,
            )
            return encode(told, identity, header)
        changed = TradingStateChanged(
            trading_state=after.value,
            previous=before.value,
            reason=reason,
            actor=actor,
            before=before.value,
            after=after.value,
        )
        return encode(changed, identity, header)


#: The commands that ask for the states.
ACTIONS: Final = {
    TradingState.ACTIVE: "resume",
    TradingState.REDUCING: "reduce",
    TradingState.HALTED: "halt",
}
