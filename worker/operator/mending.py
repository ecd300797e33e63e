"""Streams that were given an id ahead of Redis's clock, brought back to it."""

from collections.abc import AsyncIterator, Sequence
from typing import Final

import msgspec

from worker.domain.event import (
    Header,
    Severity,
    SystemError,  # noqa: A004 (its public name)
)
from worker.domain.event_text import encode, share
from worker.domain.identity import event_id
from worker.ledger.operator_calls import OperatorCalls
from worker.ledger.words import Mending
from worker.operator.request import new_request_id
from worker.runtime.clock import Clock, utc

#: Entries copied in one step, during which the server answers nobody else: some 10 ms.
PORTION: Final = 2_000


class MendedStream(msgspec.Struct, frozen=True, kw_only=True):
    """A stream that was looked at: mended or sound, its entries, and how many got a new id."""

    name: str
    mended: bool
    entries: int
    renamed: int


class StreamMending:
    """Mends the streams of an account.

    Args:
        calls: take the steps.
        clock: the event's time.
        account: named in the event.
    """

    def __init__(self, calls: OperatorCalls, *, clock: Clock, account: str) -> None:
        self._calls = calls
        self._clock = clock
        self._account = account

    async def mend(
        self, names: Sequence[str], *, actor: str, portion: int = PORTION
    ) -> AsyncIterator[MendedStream]:
        """Mend those of some streams that need it, with one event on ``system`` about them.

        Interrupted, it is taken up by the next call. Entries with an id ahead of Redis's clock get
        one of now, in their order; all others keep theirs.

        Args:
            names: short names.
            actor: who does it, for the event.
            portion: how many entries to copy in one step.

        Yields:
            What was found and done, stream by stream.

        Raises:
            LedgerError: Redis cannot be asked, or refuses.
        """
        mended, request = [], new_request_id()
        for name in names:
            step = await self._calls.mend_stream(name, portion, request)
            while step.status is Mending.COPYING:
                step = await self._calls.mend_stream(name, portion, request)
            is_mended = step.status is Mending.MENDED
            if is_mended:
                mended.append(name)
            yield MendedStream(
                name=name, mended=is_mended, entries=step.entries, renamed=step.renamed
            )
        if mended:
            await self._announce(mended, actor, request)

    async def _announce(self, mended: Sequence[str], actor: str, request: str) -> None:
        now_ms = self._clock.now_ms()
        header = Header(
            occurred_at=utc(now_ms),
            account=self._account,
            exchange="",
            symbol="",
            signal_id="",
            strategy_id=None,
            worker="",
        )
        event = SystemError(
            component="operator",
            code="STREAM_MENDED",
            reason=f"{actor} mended the streams {', '.join(mended)}: entries with an id ahead of "
            "Redis's clock have new ones",
            severity=Severity.WARNING,
        )
        identity = event_id(f"{self._account}-{now_ms}-{request}", "stream_mended")
        await self._calls.announce(encode(event, identity, share(header)))
