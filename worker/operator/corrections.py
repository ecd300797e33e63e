"""Corrections of the book: an operator asks for one, a worker carries it out.

The operator's Redis user can write neither the book nor exposure and profit, so a correction is a
request in the ledger. The account's keeper works out what follows from it and answers.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

import msgspec

from worker.domain.event import CloseReason
from worker.domain.event_text import encode
from worker.domain.identity import event_id
from worker.domain.market import quote_currency
from worker.domain.money import text
from worker.domain.position import Position, correct_position
from worker.domain.position_events import changed, closed
from worker.domain.position_key import position_key
from worker.domain.verdict import Correction, CorrectionAnswer, CorrectionRequest
from worker.ledger.access import Access
from worker.ledger.errors import LedgerError
from worker.ledger.inspection import StoredPosition
from worker.ledger.operator_calls import Corrected
from worker.ledger.operator_writes import (
    read_answer,
    redis_time_ms,
    request_correction,
    withdraw_correction,
)
from worker.ledger.ports import CorrectionCalls
from worker.operator.audit import DecisionError, audit, audit_header
from worker.operator.request import new_request_id
from worker.runtime.clock import Clock, utc

#: How long an operator waits for a worker's answer: longer than a keeper's term, seconds.
PATIENCE_S: Final = 20.0
LOOK_EVERY_S: Final = 0.1
_encode: Final = msgspec.json.Encoder().encode


async def correct(
    calls: CorrectionCalls,
    held: StoredPosition | None,
    correction: Correction,
    *,
    account: str,
    now_ms: int,
    request: str = "",
    valid_until_ms: int = 0,
) -> tuple[Position, Position]:
    """Set a position in the book to what is really held.

    Args:
        calls: write the book.
        held: the position as the book has it; None for none.
        correction: what is held, and who says so.
        account: the account's id.
        now_ms: the events' time, Unix milliseconds.
        request: the id of the request that this answers; empty if nobody requested it.
        valid_until_ms: until when it may be carried out, Redis time.

    Returns:
        The position before and after.

    Raises:
        DecisionError: there is no such position, a signal is changing it, it has changed, or the
            request was withdrawn or is over.
        LedgerError: Redis cannot be asked.
    """
    exchange, symbol, quantity = correction.exchange, correction.symbol, correction.quantity
    place = f"{symbol} on {exchange}"
    if held is None:
        raise DecisionError(f"the book has no position {exchange} {symbol}")
    before = held.position
    if quantity == before.quantity:
        raise DecisionError(f"the book has {text(quantity)} of {place} already")
    after, realized = correct_position(before, quantity, correction.price)
    header = audit_header(account, now_ms, before.signal_id, before)
    subject = f"{before.position_id}-{now_ms}"
    by = f"corrected by {correction.actor}: {correction.reason}"
    if quantity:
        event = encode(changed(after, realized, by), event_id(subject, "corrected"), header)
    else:
        end = closed(after, utc(now_ms), CloseReason.EXTERNAL)
        event = encode(end, event_id(subject, "closed"), header)
    sentence = (
        f"{correction.actor} corrected {place} from {text(before.quantity)} to {text(quantity)}, "
        f"traded at {text(correction.price)}: {correction.reason}"
    )
    corrected = await calls.correct(
        held,
        after,
        realized,
        quote=quote_currency(symbol),
        event=event,
        audit=audit("POSITION_CORRECTED", sentence, subject, header),
        request=request,
        answer=_encode(CorrectionAnswer(before=before, after=after)),
        valid_until_ms=valid_until_ms,
    )
    if corrected is Corrected.BUSY:
        raise DecisionError(f"a signal is working on {place}: try again")
    if corrected is Corrected.CHANGED:
        raise DecisionError(f"the position in {place} has just changed: look at it again")
    if corrected is Corrected.WITHDRAWN:
        raise DecisionError("the request was withdrawn")
    if corrected is Corrected.LATE:
        raise DecisionError("the request came too late: nobody waits for it any more")
    return before, after


async def carry_out(
    calls: CorrectionCalls, request: str, asked: CorrectionRequest, *, account: str, now_ms: int
) -> None:
    """Do what a request asks, if the book still holds the position that its author saw.

    Raises:
        DecisionError: as :func:`correct`, or the position is another one.
        LedgerError: Redis cannot be asked.
    """
    held = await calls.held(position_key(asked.exchange, asked.symbol))
    if held is not None:
        position, seen = held.position, asked.seen_quantity
        if (position.position_id, position.quantity) != (asked.position_id, seen):
            raise DecisionError(
                f"the position in {asked.symbol} on {asked.exchange} has changed since it was "
                f"looked at ({text(seen)} then, {text(position.quantity)} now): look at it again"
            )
    await correct(
        calls,
        held,
        asked,
        account=account,
        now_ms=now_ms,
        request=request,
        valid_until_ms=asked.valid_until_ms,
    )


async def ask_for_correction(
    access: Access,
    correction: Correction,
    seen: Position,
    *,
    clock: Clock,
    patience_s: float = PATIENCE_S,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> tuple[Position, Position]:
    """Ask the account's keeper for a correction, and wait until it is done.

    A request that nobody answers in time is withdrawn, and so is one whose author stops waiting.
    Where that cannot be done, the keeper refuses it as too late.

    Args:
        access: the account.
        correction: what is held, and who says so.
        seen: the position as the author saw it in the book; no other is corrected.
        clock: measures the waiting.
        patience_s: how long to wait.
        sleep: waits.

    Returns:
        The position before and after.

    Raises:
        DecisionError: no worker carried it out, or it does not fit the book.
        LedgerError: Redis cannot be asked.
    """
    request = new_request_id()
    asked = CorrectionRequest(
        **msgspec.structs.asdict(correction),
        position_id=seen.position_id,
        seen_quantity=seen.quantity,
        valid_until_ms=await redis_time_ms(access) + int(patience_s * 1000),
    )
    try:
        await request_correction(access, request, _encode(asked))
        answer = await _wait_for_answer(
            access, request, clock=clock, patience_s=patience_s, sleep=sleep
        )
    finally:  # also where the wait was broken off; a request that was answered is gone
        with suppress(LedgerError):
            await withdraw_correction(access, request)
    said = msgspec.json.decode(answer, type=CorrectionAnswer)
    if said.before is None or said.after is None:
        raise DecisionError(said.refusal)
    return said.before, said.after


async def _wait_for_answer(
    access: Access,
    request: str,
    *,
    clock: Clock,
    patience_s: float,
    sleep: Callable[[float], Awaitable[None]],
) -> bytes:
    """Return the answer to a request; one that is still there after the wait is withdrawn."""
    until_ms = clock.monotonic_ms() + patience_s * 1000
    while (answer := await read_answer(access, request)) is None:
        if clock.monotonic_ms() < until_ms:
            await sleep(LOOK_EVERY_S)
        elif await withdraw_correction(access, request):
            raise DecisionError(
                f"no worker has carried the correction out in {patience_s:g} s; it was withdrawn, "
                "nothing was changed"
            )
        else:  # taken up in this very moment
            until_ms += LOOK_EVERY_S * 1000
            await sleep(LOOK_EVERY_S)
    return answer
