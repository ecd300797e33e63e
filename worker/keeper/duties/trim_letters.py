"""Keeps the stream of dead letters within its bounds."""

from typing import ClassVar, Final

from worker.config.keys import Config
from worker.domain.event import (
    Header,
    Severity,
    SystemError,  # noqa: A004 (its public name)
)
from worker.domain.event_text import encode, share
from worker.domain.identity import event_id
from worker.keeper.duty import Duty
from worker.ledger.ports import Ledger
from worker.observe.metrics import Metrics
from worker.runtime.clock import Clock, utc
from worker.runtime.logger import get_logger

log = get_logger()

#: Events about trimmed letters are at least so far apart; the next one tells what came between.
SAY_EVERY_MS: Final = 60_000
#: Calls of one run at most, so that the keeper's other duties have their turn.
MAX_CALLS: Final = 16


class TrimLetters(Duty):
    """Remove the oldest dead letters beyond the bounds, and say so: each was somebody's signal.

    Args:
        ledger: removes them, takes the event.
        config: how many are kept, how much memory they may take; the account named in events.
        metrics: counts what is removed.
        clock: the event's time, and the distance between two.
    """

    name: ClassVar[str] = "trim_letters"
    interval_ms: ClassVar[int] = 2_000

    def __init__(self, ledger: Ledger, config: Config, metrics: Metrics, clock: Clock) -> None:
        self._ledger = ledger
        self._max_letters = config.redis.dead_max_length
        self._max_bytes = config.redis.dead_max_bytes
        self._metrics = metrics
        self._clock = clock
        self._account = config.account
        self._unsaid = 0
        self._said_mono_ms = float("-inf")

    async def run(self) -> None:
        """Remove what is too much; logged, counted and announced if there was any.

        Raises:
            LedgerError: Redis failed.
        """
        for _ in range(MAX_CALLS):
            trimmed = await self._ledger.trim_letters(self._max_letters, self._max_bytes)
            if trimmed.letters:
                self._unsaid += trimmed.letters
                self._metrics.letters_trimmed(trimmed.letters)
                log.warning(
                    "dead_letters_trimmed", letters=trimmed.letters, field_bytes=trimmed.bytes
                )
            if not trimmed.more:
                break
        now = self._clock.monotonic_ms()
        if self._unsaid and now - self._said_mono_ms >= SAY_EVERY_MS:
            self._said_mono_ms = now
            await self._announce()

    async def _announce(self) -> None:
        now_ms = self._clock.now_ms()
        header = Header(
            occurred_at=utc(now_ms),
            account=self._account,
            exchange="",
            symbol="",
            signal_id="",
            strategy_id=None,
            worker=self._ledger.worker,
        )
        event = SystemError(
            component="keeper",
            code="DEAD_LETTERS_TRIMMED",
            reason=f"the {self._unsaid} oldest dead letters were removed: redis.dead_max_length is "
            f"{self._max_letters}, redis.dead_max_bytes {self._max_bytes}",
            severity=Severity.WARNING,
        )
        identity = event_id(f"{self._account}-{now_ms}", "dead_letters_trimmed")
        await self._ledger.announce(encode(event, identity, share(header))[1:])
        self._unsaid = 0
