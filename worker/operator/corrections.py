"""Corrections of the book: an operator asks for one, a worker carries it out.

The operator's Redis user can write neither the book nor exposure and profit, so a correction is a
request in the ledger. The account's keeper works out what follows from it and answers.
"""

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from worker.domain.event import CloseReason
from worker.domain.event_text import encode
from worker.domain.identity import event_id
from worker.domain.market import quote_currency
from worker.domain.money import text
from worker.domain.position import Position, correct_position
from worker.domain.position_events import changed, closed
from worker.domain.verdict import Correction, CorrectionAnswer
from worker.ledger.access import Access
from worker.ledger.inspection import StoredPosition
from worker.ledger.operator_calls import Corrected, OperatorCalls
from worker.ledger.operator_writes import (
    read_answer,
    request_correction,
    withdraw_correction,
)
from worker.operator.audit import DecisionError, audit, audit_header
from worker.runtime.clock import Clock, utc

#: How long an operator waits for a worker's answer: longer than a keeper's term, seconds.
PATIENCE_S: Final = 20.0
LOOK_EVERY_S: Final = 0.1
_encode: Final = msgspec.json.Encoder().encode


async def correct(
    calls: OperatorCalls,
    held: StoredPosition | None,
    correction: Correction,
    *,
    account: str,
    now_ms: int,
    request: str = "",
) -> tuple[Position, Position]:
    """Set a position in the book to what is really held.

    Args:
        calls: write the book.
        held: the position as the book has it; None for none.
        correction: what is held, and who says so.
        account: the account's id.
        now_ms: the events' time, Unix milliseconds.
        request: the id of the request that this answers; empty if nobody requested it.

    Returns:
        The position before and after.

    Raises:
        DecisionError: there is no such position, a signal is changing it, it has changed, or the
            request was withdrawn.
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
    )
    if corrected is Corrected.BUSY:
        raise DecisionError(f"a signal is working on {place}: try again")
    if corrected is Corrected.CHANGED:
        raise DecisionError(f"the position in {place} has just changed: look at it again")
    if corrected is Corrected.WITHDRAWN:
        raise DecisionError("the request was withdrawn")
    return before, after


async def ask_for_correction(
    access: Access,
    correction: Correction,
    *,
    clock: Clock,
    patience_s: float = PATIENCE_S,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> tuple[Position, Position]:
    """Ask the account's keeper for a correction, and wait until it is done.

    A request that nobody answers in time is withdrawn.

    Returns:
        The position before and after.

    Raises:
        DecisionError: no worker carried it out, or it does not fit the book.
        LedgerError: Redis cannot be asked.
    """
    request = secrets.token_hex(8)
    await request_correction(access, request, _encode(correction))
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
    said = msgspec.json.decode(answer, type=CorrectionAnswer)
    if said.before is None or said.after is None:
        raise DecisionError(said.refusal)
    return said.before, said.after
