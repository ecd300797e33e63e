"""When a limit refused an order last, as the events tell it: nothing is written for it."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec

from worker.domain.market import quote_currency
from worker.domain.refusal import Code
from worker.ledger.access import Access, StreamEntry, entries_of, split_id
from worker.operator.limits import Limit
from worker.runtime.clock import utc

#: The newest events of orders that are looked through, and how many in one reply.
MAX_SEARCHED: Final = 10_000
PAGE: Final = 1_000
#: The limits by the code they refuse with.
_LIMITS: Final[Mapping[str, str]] = {
    Code.MAX_POSITIONS: "risk.max_concurrent_positions",
    Code.MAX_EXPOSURE: "risk.max_total_exposure_pct",
    Code.DAILY_LOSS_LIMIT: "risk.max_daily_loss_pct",
    Code.ORDER_RATE_LIMIT: "risk.max_orders_per_minute",
}
_decode = msgspec.json.Decoder(dict[str, Any]).decode


async def with_last_refusals(access: Access, limits: Sequence[Limit]) -> tuple[Limit, ...]:
    """Return limits with the time of the last order that each refused.

    None where none of the newest ``MAX_SEARCHED`` events tells of one.

    Raises:
        LedgerError: Redis cannot be asked.
    """
    left = {(one.name, one.scope) for one in limits}
    found: dict[tuple[str, str], datetime] = {}
    end, searched = "+", 0
    while left and searched < MAX_SEARCHED:
        rows = await access.ask_one("XREVRANGE", access.key("orders"), end, "-", "COUNT", PAGE)
        entries = entries_of("orders", rows)
        for entry in entries:
            for limit in _refused_by(entry) & left:
                found[limit] = utc(split_id(entry.id)[0])
                left.discard(limit)
        if len(rows or ()) < PAGE:
            break
        searched, end = searched + PAGE, "(" + entries[-1].id
    return tuple(
        msgspec.structs.replace(one, last_refusal=found.get((one.name, one.scope)))
        for one in limits
    )


def _refused_by(entry: StreamEntry) -> set[tuple[str, str]]:
    """Return name and possible scopes of the limit that an event tells to have refused an order."""
    if entry.text("type") != "OrderFailed":
        return set()
    try:
        event = _decode(entry.fields.get("data", b""))
        name = _LIMITS.get(str(event.get("code")))
        return (
            {(name, "account"), (name, quote_currency(str(event.get("symbol"))))} if name else set()
        )
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError):
        return set()  # anybody may write to a stream
