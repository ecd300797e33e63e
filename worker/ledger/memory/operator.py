"""The calls of operators on an account in memory, and the keeper's calls for people."""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from functools import partial
from typing import Final

import msgspec

from worker.domain.event_text import EventText
from worker.domain.money import millionths, millionths_signed
from worker.domain.position import Position
from worker.domain.position_json import read_position
from worker.domain.position_key import PositionKey
from worker.domain.trading_asks import Ask, Control
from worker.domain.verdict import Verdict
from worker.ledger.inspection import StoredPosition
from worker.ledger.layouts import StreamCounts
from worker.ledger.memory.account import MemoryAccount
from worker.ledger.memory.steps import Steps
from worker.ledger.memory.stream import Stream, text_of_order
from worker.ledger.operator_calls import Corrected, Decided, encode_asks
from worker.ledger.published import Heartbeat, StoredControl, heartbeats_of
from worker.ledger.watching import MOST_EVENTS, Watched, WatchedEvent

_encode: Final = msgspec.json.Encoder().encode


class MemoryOperator:
    """An operator's calls, and the keeper's for people, on an account in memory.

    Args:
        account: which.
        steps: runs the steps.
    """

    def __init__(self, account: MemoryAccount, steps: Steps) -> None:
        self._account = account
        self._steps = steps

    @property
    def account(self) -> str:
        """Return the account's id."""
        return self._account.account

    # -- the trading state ---------------------------------------------------------------------

    async def read_control(self) -> StoredControl:
        """Read the trading state in force and who asks for it."""
        return await self._steps.run("read_control", self._account.control.stored)

    async def read_heartbeats(self) -> tuple[int, dict[str, Heartbeat]]:
        """Read the account's time and every worker's last heartbeat, by name."""
        return await self._steps.run("read_heartbeats", partial(_heartbeats, self._account))

    async def change_control(
        self, before: bytes, asks: Sequence[Ask], control: Control, event: EventText
    ) -> bool:
        """Store who asks for which trading state; False if somebody else was faster."""
        step = partial(change_control, self._account, before, encode_asks(asks), control, event)
        return await self._steps.run("control", step)

    # -- decisions -----------------------------------------------------------------------------

    async def decide(self, signal_id: str, verdict: Verdict, audit: EventText) -> Decided | str:
        """Store the decision on an unresolved order, with the event about it."""
        step = partial(decide, self._account, signal_id, _encode(verdict), audit)
        return await self._steps.run("decide", step)

    async def requested_corrections(self) -> dict[str, bytes]:
        """Return some of the corrections that operators ask for, JSON by request id."""
        return await self._steps.run("requested_corrections", self._account.corrections.some)

    async def refuse_correction(self, request: str, answer: bytes) -> None:
        """Answer a request that is not carried out."""
        step = partial(_refuse, self._account, request, answer)
        await self._steps.run("refuse_correction", step)

    async def held(self, key: PositionKey) -> StoredPosition | None:
        """Return one position of the book; None if the account holds none under ``key``."""
        raw = (await self._steps.run("read_book", partial(self._account.book.row, key))).position
        return StoredPosition(key=key, position=read_position(raw), raw=raw) if raw else None

    async def correct(
        self,
        before: StoredPosition,
        after: Position,
        realized: Decimal,
        *,
        quote: str,
        event: EventText,
        audit: EventText,
        request: str = "",
        answer: bytes = b"",
        valid_until_ms: int = 0,
    ) -> Corrected:
        """Replace a position in the book, or remove it where ``after`` holds nothing."""
        change = Correction(
            key=before.key,
            before=before.raw,
            after=_encode(after) if after.quantity else b"",
            quote=quote,
            exposure=millionths(after.cost) - millionths(before.position.cost),
            profit=millionths_signed(realized),
            events=(event, audit),
            signal=before.position.signal_id,
            request=request,
            answer=answer,
            valid_until_ms=valid_until_ms,
        )
        return await self._steps.run("correct", partial(correct, self._account, change))

    # -- watching ------------------------------------------------------------------------------

    async def watch(self, marks: Mapping[str, str]) -> Watched:
        """Note ``marks`` for the next keeper, and look at what has changed since."""
        return await self._steps.run("watch", partial(watch, self._account, dict(marks)))


def change_control(
    account: MemoryAccount, before: bytes, asks: bytes, control: Control, event: EventText
) -> bool:
    """Change who asks for which trading state, if nobody else has changed it since it was read."""
    stored = account.control
    if stored.event_id == event[2]:
        return True  # repeated
    if stored.asks != before:
        return False
    stored.event_id, stored.asks, stored.control = event[2], asks, control
    account.outputs.tell(event, "", account.now_ms())
    account.bell.ring(account.now_ms())
    return True


def decide(
    account: MemoryAccount, signal_id: str, verdict: bytes, audit: EventText
) -> Decided | str:
    """Store what a person says became of an unresolved order; the keeper acts on it."""
    now_ms = account.now_ms()
    record = account.records.find(signal_id, now_ms)
    if record is None:
        is_parked = account.records.stored(signal_id, now_ms) is not None
        return Decided.LOST if is_parked else Decided.UNKNOWN
    if record.entry not in account.queue.unresolved:
        return record.state
    if account.queue.verdicts.get(record.entry) != verdict:
        account.queue.verdicts[record.entry] = verdict
        account.outputs.tell(audit, signal_id, now_ms)
    return Decided.NOTED


class Correction(msgspec.Struct, frozen=True, kw_only=True):
    """A change of a position, as people say it really is; amounts in millionths."""

    key: str
    before: bytes
    after: bytes
    quote: str
    exposure: int
    profit: int
    events: tuple[EventText, EventText]
    signal: str
    request: str
    answer: bytes
    valid_until_ms: int


def correct(account: MemoryAccount, change: Correction) -> Corrected:
    """Make a position what a person says it really is."""
    now_ms, row = account.now_ms(), account.book.row(change.key)
    if change.request and change.request not in account.corrections.asked:
        return Corrected.WITHDRAWN
    if row.reservation:
        return Corrected.BUSY
    if row.position == change.after:
        return Corrected.DONE
    if row.position != change.before:
        return Corrected.CHANGED
    if change.request and now_ms > change.valid_until_ms:
        return Corrected.LATE
    account.book.settle(change.key, change.after, is_ours=True)
    account.sums.change_exposure(change.quote, change.exposure)
    account.sums.book_profit(change.quote, change.profit, now_ms)
    for event in change.events:
        account.outputs.tell(event, change.signal, now_ms)
    if change.request:
        account.corrections.end(change.request, change.answer, now_ms)
    return Corrected.DONE


def watch(account: MemoryAccount, marks: Mapping[str, str]) -> Watched:
    """Return what people may have changed since the keeper looked last."""
    noted = account.control.marks
    noted.update(marks)
    system = account.stream("system")
    return Watched(
        control=account.control.fields(),
        marks=dict(noted),
        system=_counts(system),
        dead=_counts(account.stream("dead")),
        events=tuple(
            WatchedEvent(
                entry_id=entry.id,
                type=entry.text("type"),
                event_id=entry.text("id"),
                data=entry.text("data"),
            )
            for entry in account.read("system", noted["event"])[:MOST_EVENTS]
        )
        if "event" in noted
        else (),
    )


def _counts(stream: Stream) -> StreamCounts:
    return StreamCounts(stream.added, len(stream), text_of_order(stream.last).encode())


def _refuse(account: MemoryAccount, request: str, answer: bytes) -> None:
    if request in account.corrections.asked:
        account.corrections.end(request, answer, account.now_ms())


def _heartbeats(account: MemoryAccount) -> tuple[int, dict[str, Heartbeat]]:
    raw = {
        name.encode(): str(beat.at_ms).encode() + b" " + beat.status
        for name, beat in account.office.workers.items()
    }
    return account.now_ms(), heartbeats_of(raw)
