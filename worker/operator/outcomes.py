"""Following submitted signals to their terminal events, dead letters or earlier endings."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any, Final

import msgspec

from worker.domain.event import terminal_event
from worker.domain.order import OrderState
from worker.ledger.access import DEAD_STREAM, Access, StreamEntry
from worker.ledger.errors import LedgerUnavailableError
from worker.ledger.stored import Record, decode_record
from worker.ledger.streams import Tail

#: The streams on which a signal's end shows.
ENDING_STREAMS: Final = ("orders", DEAD_STREAM)
#: The longest wait for events, and the pause while Redis is away.
LOOK_EVERY_MS: Final = 500
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
        #: The terminal events that were read, by signal id: whose they are is to be looked up.
        self._events: dict[str, StreamEntry] = {}

    async def follow(self, timeout_s: float) -> AsyncIterator[Outcome]:
        """Yield each signal's outcome as it becomes known, at the end those that did not.

        Raises:
            LedgerError: Redis refuses for good. While it cannot be reached it is asked again.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        look_again = loop.time() + LOOK_EVERY_MS / 1_000
        while self._pending and (left_s := deadline - loop.time()) > 0:
            found: list[Outcome] = []
            wait_ms = max(1, min(LOOK_EVERY_MS, int(left_s * 1000)))
            try:
                async with asyncio.timeout_at(deadline):
                    entries = await self._tail.read(wait_ms)
                    found = await self._ended_by(entries)
                    if loop.time() >= look_again:  # also while the streams are never silent
                        found += await self._ended_before()
                        look_again = loop.time() + LOOK_EVERY_MS / 1_000
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

    async def _ended_by(self, entries: Sequence[StreamEntry]) -> list[Outcome]:
        """Return the outcomes that some entries of the streams tell.

        An event names the signal and not the entry, and another entry may have the same signal id:
        whose event it is says the record that is written with it.
        """
        found: list[Outcome] = []
        names = {one.signal_id for one in self._pending.values()}
        for entry in entries:
            if entry.stream == DEAD_STREAM:
                one = self._pending.pop(entry.text("entry_id"), None)
                found += [_dead(one, entry)] if one else []
            elif entry.text("subject") in names and terminal_event(
                entry.text("type"), entry.fields["data"]
            ):
                self._events[entry.text("subject")] = entry
        told = [one for one in self._pending.values() if one.signal_id in self._events]
        return found + await self._by_record(told)

    async def _ended_before(self) -> list[Outcome]:
        """Return the outcomes of signals that ended before: no event comes of them."""
        return await self._by_record(list(self._pending.values()))

    async def _by_record(self, waiting: Iterable[Sent]) -> list[Outcome]:
        """Return the outcomes of those whose signal's record has ended, and take them out."""
        waiting = [one for one in waiting if one.digest]
        keys = [self._access.key(f"record:{one.signal_id}") for one in waiting]
        found = []
        replies = await self._access.ask(*(("GET", key) for key in keys), atomic=False)
        for one, reply in zip(waiting, replies, strict=True):
            record = decode_record(reply) if isinstance(reply, bytes) else None
            if record is None or not record.ended_at or record.digest != one.digest:
                continue  # under way; or another signal's, then a dead letter will say so
            event = self._events.get(one.signal_id)
            if record.entry != one.entry_id:
                found.append(_repeated(one, record))
            elif event is not None:
                found.append(_ended(one, event))
            else:
                continue  # its event is on its way
            del self._pending[one.entry_id]
        return found


def _ended(one: Sent, entry: StreamEntry) -> Outcome:
    kind, event = entry.text("type"), msgspec.json.decode(entry.fields["data"])
    return Outcome(
        entry_id=one.entry_id,
        signal_id=one.signal_id,
        outcome=kind.removeprefix("Order").removeprefix("Signal").lower(),
        is_good=kind in _GOOD,
        event=event,
        code=event.get("code") or "",
        reason=event.get("reason") or event.get("result") or "",
    )


def _repeated(one: Sent, record: Record) -> Outcome:
    return Outcome(
        entry_id=one.entry_id,
        signal_id=one.signal_id,
        outcome="duplicate",
        is_good=record.state in {OrderState.FILLED, "COMPLETED"},
        reason=f"this signal has ended already, {record.state}, as entry {record.entry}",
    )


def _dead(one: Sent, letter: StreamEntry) -> Outcome:
    return Outcome(
        entry_id=one.entry_id,
        signal_id=one.signal_id,
        outcome="dead",
        is_good=False,
        code=letter.text("reason"),
        reason=f"dead letter {letter.id}: {letter.text('error')}",
    )
