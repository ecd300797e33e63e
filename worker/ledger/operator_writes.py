"""Writes of operators without a script: requests to the workers, a state in an emergency."""

from collections.abc import Sequence
from typing import Any, Final

from redis.exceptions import ResponseError, WatchError

from worker.domain.event_text import EventText
from worker.domain.trading_asks import Ask, Control
from worker.domain.trading_state import TradingState
from worker.ledger.access import Access
from worker.ledger.errors import EXHAUSTED, LedgerError, translate
from worker.ledger.operator_calls import encode_asks
from worker.ledger.published import unix_ms

#: A stream whose last id is this takes no more entries.
LARGEST_ID: Final = b"18446744073709551615-18446744073709551615"


async def change_control_plainly(
    access: Access, before: bytes, asks: Sequence[Ask], control: Control, event: EventText
) -> bool:
    """Do what the script ``control`` does without it, on a server that lost its scripts.

    One transaction, which somebody else's change of the hash ``control`` stops; unlike the script,
    a server whose memory is full refuses it.

    Args:
        access: the account.
        before: the requests as they were read.
        asks: the requests as they are to be.
        control: the state that follows from them.
        event: about the change.

    Returns:
        False if somebody else has changed them since; nothing was written then.

    Raises:
        LedgerError: Redis cannot be asked, or refuses; also where the event cannot be written.
            Trading is not resumed then; a stricter state is in force, and the error says so.
    """
    key, wanted = access.key("control"), encode_asks(asks)
    async with access.client() as client, client.pipeline(transaction=True) as pipeline:
        await pipeline.watch(key)
        found: Any = await pipeline.execute_command("HMGET", key, "event", "asks")
        last, stored = found
        if last == event[2].encode():
            return True  # repeated
        if (stored or b"") != before:
            return False
        if control.trading_state is TradingState.ACTIVE:
            await _expect_room(pipeline, access)
        pipeline.multi()
        pipeline.execute_command(
            "HSET", key, "event", event[2], "asks", wanted,
            "trading_state", control.trading_state.value,
            "reason", control.reason, "actor", control.actor, "at", control.changed_at,
        )  # fmt: skip
        _, kind, identity, data = event
        pipeline.execute_command(
            "XADD", access.key("system"), "*",
            "type", kind, "id", identity, "subject", "", "data", data,
        )  # fmt: skip
        pipeline.execute_command("XADD", access.key("bell"), "MAXLEN", 1, "*", "r", "1")
        try:
            # Commands of a transaction do not stop one another; the bell only wakes workers sooner.
            changed, added, _bell = await pipeline.execute(raise_on_error=False)
        except WatchError:
            return False
        if isinstance(changed, Exception):
            raise changed
        if isinstance(added, Exception):
            raise LedgerError(
                f"the trading state is {control.trading_state.value} now, but without an event: "
                f"{translate(added)}"
            )
    return True


async def _expect_room(pipeline: Any, access: Access) -> None:
    """Raise unless the stream ``system`` takes another entry."""
    try:
        info = await pipeline.execute_command("XINFO STREAM", access.key("system"))
    except ResponseError as error:
        if "no such key" not in str(error):
            raise
        return
    if info["last-generated-id"] == LARGEST_ID:
        raise ResponseError(f"the stream system has {EXHAUSTED}; nothing was changed")


async def append_event_plainly(access: Access, event: EventText) -> None:
    """Write one event without a script, which only a running worker may load.

    Raises:
        LedgerError: Redis cannot be asked, or refuses.
    """
    stream, kind, identity, data = event
    await access.ask_one(
        "XADD", access.key(stream), "*",
        "type", kind, "id", identity, "subject", "", "data", data,
    )  # fmt: skip


async def keeper_name(access: Access) -> str:
    """Read which worker is the account's keeper; empty if none is.

    Raises:
        LedgerError: Redis cannot be asked, or refuses.
    """
    name = await access.ask_one("GET", access.key("keeper"))
    return str(name.decode(errors="replace")) if name else ""


async def redis_time_ms(access: Access) -> int:
    """Read Redis's clock, Unix milliseconds.

    Raises:
        LedgerError: Redis cannot be asked, or refuses.
    """
    return unix_ms(await access.ask_one("TIME"))


async def request_correction(access: Access, request: str, correction: bytes) -> None:
    """Ask the workers for a correction (JSON) under a new id.

    Raises:
        LedgerError: Redis cannot be asked, or refuses.
    """
    await access.ask_one("HSET", access.key("corrections"), request, correction)


async def read_answer(access: Access, request: str) -> bytes | None:
    """Read the answer to a requested correction, JSON; None while there is none.

    Raises:
        LedgerError: Redis cannot be asked, or refuses.
    """
    answer: bytes | None = await access.ask_one("GET", access.key(f"corrected:{request}"))
    return answer


async def withdraw_correction(access: Access, request: str) -> bool:
    """Withdraw a requested correction; whether it was still there to withdraw.

    Raises:
        LedgerError: Redis cannot be asked, or refuses.
    """
    return bool(await access.ask_one("HDEL", access.key("corrections"), request))
