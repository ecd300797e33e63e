"""Following submitted signals to their terminal events, dead letters or earlier endings."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any, Final

import msgspec

from worker.domain.event import TERMINAL_EVENTS
from worker.domain.order import OrderState
from worker.ledger.access import DEAD_STREAM, Access, StreamEntry
from worker.ledger.errors import LedgerUnavailableError
from worker.ledger.stored import decode_record
from worker.ledger.streams import Tail

#: The streams on which a signal's end shows.
ENDING_STREAMS: Final = ("orders", DEAD_STREAM)
#: The longest wait for events, and the pause while Redis is away.
LOOK_EVERY_MS: Final = 500
#: The names of terminal events; ``SignalCompleted`` ends a signal that needs no order of its own.
TERMINAL: Final = frozenset(event.__name__ for event in TERMINAL_EVENTS) | {"SignalCompleted"}
_GOOD: Final = frozenset({"OrderFilled", "SignalCompleted"})


class Sent(msgspec.Struct, frozen=True):
    """A submitted signal: its entry, its id, and its digest, empty where it is malformed."""

    entry_id: str
    signal_id: str
    digest: str = ""


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """The end of a signal, as far as it is known.

    ``outcome`` is ``filled``, ``completed``, ``cancelled``, ``failed``, ``dead``, ``duplicate`` or
    ``unknown``; ``is_good`` is None where it is not known. ``event`` is the terminal event, where
    there was one; ``reason`` a sentence, where something is to be said.
    """

    entry_id: str
    signal_id: str
    outcome: str
    is_good: bool | None
    event: dict[str, Any] | None = None
    code: str = ""
    reason: str = ""


class Outcomes:
    """Follows submitted signals to their ends.

    Args:
        access: the account.
        tail: of ``ENDING_STREAMS``, started before the signals were submitted.
        sent: the signals.
    """

    def __init__(self, access: Access, tail: Tail, sent: Iterable[Sent]) -> None:
        self._access = access
        self._tail = tail
        self._pending = {one.entry_id: one for one in sent}

    async def follow(self, timeout_s: float) -> AsyncIterator[Outcome]:
        """Yield each signal's outcome as it becomes known, at the end those that did not.

        Raises:
            LedgerError: Redis refuses for good. While it cannot be reached it is asked again.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        while self._pending and (left_s := deadline - loop.time()) > 0:
            found: list[Outcome] = []
            wait_ms = max(1, min(LOOK_EVERY_MS, int(left_s * 1000)))
            try:
                async with asyncio.timeout_at(deadline):
                    entries = await self._tail.read(wait_ms)
                    found = [one for entry in entries for one in self._ended_by(entry)]
                    if not entries:
                        found += await self._repeated()
            except LedgerUnavailableError:
                await asyncio.sleep(min(wait_ms / 1000, max(deadline - loop.time(), 0)))
            except TimeoutError:
                pass
            for outcome in found:
                yield outcome
        for outcome in self.unknown(f"not known after {timeout_s:g} s"):
            yield outcome

    def unknown(self, reason: str) -> list[Outcome]:
        """Return the outcome of every signal that has none yet: not known."""
        pending, self._pending = self._pending, {}
        return [
            Outcome(
                entry_id=one.entry_id,
                signal_id=one.signal_id,
                outcome="unknown",
                is_good=None,
                reason=reason,
            )
            for one in pending.values()
        ]

    def _ended_by(self, entry: StreamEntry) -> list[Outcome]:
        if entry.stream == DEAD_STREAM:
            one = self._pending.pop(entry.text("entry_id"), None)
            return [_dead(one, entry)] if one else []
        kind = entry.text("type")
        if kind not in TERMINAL:
            return []
        subject, event = entry.text("subject"), msgspec.json.decode(entry.fields["data"])
        ended = [one for one in self._pending.values() if one.signal_id == subject and one.digest]
        # Another signal under the same id becomes a dead letter; a repetition ends with the first.
        ended = [one for one in ended if one.digest == ended[0].digest]
        for one in ended:
            del self._pending[one.entry_id]
        return [
            Outcome(
                entry_id=one.entry_id,
                signal_id=one.signal_id,
                outcome=kind.removeprefix("Order").removeprefix("Signal").lower(),
                is_good=kind in _GOOD,
                event=event,
                code=event.get("code") or "",
                reason=event.get("reason") or event.get("result") or "",
            )
            for one in ended
        ]

    async def _repeated(self) -> list[Outcome]:
        """Return the outcomes of repetitions of signals that have ended before: no event comes."""
        waiting = [one for one in self._pending.values() if one.digest]
        keys = [self._access.key(f"record:{one.signal_id}") for one in waiting]
        found = []
        replies = await self._access.ask(*(("GET", key) for key in keys), atomic=False)
        for one, reply in zip(waiting, replies, strict=True):
            record = decode_record(reply) if isinstance(reply, bytes) else None
            if record is None or not record.ended_at or record.entry == one.entry_id:
                continue
            if record.digest != one.digest:
                continue  # a dead letter will say so
            del self._pending[one.entry_id]
            outcome = Outcome(
                entry_id=one.entry_id,
                signal_id=one.signal_id,
                outcome="duplicate",
                is_good=record.state == OrderState.FILLED,
                reason=f"a repetition of {record.entry}, which ended {record.state}",
            )
            found.append(outcome)
        return found


def _dead(one: Sent, letter: StreamEntry) -> Outcome:
    return Outcome(
        entry_id=one.entry_id,
        signal_id=one.signal_id,
        outcome="dead",
        is_good=False,
        code=letter.text("reason"),
        reason=f"dead letter {letter.id}: {letter.text('error')}",
    )
