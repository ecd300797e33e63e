"""The book compared with the exchanges, in rounds that end when every exchange has answered."""

import asyncio
from collections import deque
from collections.abc import Collection, Mapping
from typing import Final

import msgspec

from worker.domain.event import (
    Header,
    ReconciliationCompleted,
    Severity,
    SystemError,  # noqa: A004 (its public name)
)
from worker.domain.event_text import encode, share
from worker.domain.identity import event_id
from worker.exchanges.errors import ExchangeError
from worker.exchanges.ports import ExchangeAdapter
from worker.keeper.differences import find_differences
from worker.ledger.ports import Ledger
from worker.ledger.replies import Book
from worker.observe.metrics import Metrics
from worker.runtime.clock import Clock, utc
from worker.runtime.logger import get_logger

log = get_logger()

ROUND_EVERY_MS: Final = 60_000
#: An exchange that could not be asked is asked again after this, or after what it demands itself.
RETRY_MS: Final = 3_000
#: An event that Redis did not take is announced again after this.
ANNOUNCE_AGAIN_MS: Final = 1_000


class ExchangeState(msgspec.Struct):
    """One exchange in a comparison.

    Attributes:
        is_missing: whether this round still waits for its answer.
        why_missing: why it has not answered.
        ask_mono_ms: when to ask (again).
        suspected: the differences of its last answer.
        confirmed: those of them that the answer before had too, with the exchange's name.
    """

    is_missing: bool = False
    why_missing: str = ""
    ask_mono_ms: float = float("-inf")
    suspected: frozenset[str] = frozenset()
    confirmed: tuple[str, ...] = ()

    def miss(self, why: str, ask_mono_ms: float) -> None:
        """Note why this round has no answer, and when to ask again."""
        self.is_missing, self.why_missing, self.ask_mono_ms = True, why, ask_mono_ms

    def answer(self, name: str, differences: list[str]) -> None:
        """Note an answer; a difference is confirmed when it is seen twice in a row."""
        self.is_missing = False
        self.confirmed = tuple(f"{name} {one}" for one in differences if one in self.suspected)
        self.suspected = frozenset(differences)


class Comparison:
    """The rounds of one keeper's term of office.

    Args:
        ledger: holds the book, takes the events.
        exchanges: names of all exchanges that have to answer.
        adapters: the exchanges that have started, by name; more may come.
        metrics: shows the number of confirmed differences.
        clock: times rounds and repetitions.
        account: named in events.
    """

    def __init__(
        self,
        *,
        ledger: Ledger,
        exchanges: Collection[str],
        adapters: Mapping[str, ExchangeAdapter],
        metrics: Metrics,
        clock: Clock,
        account: str,
    ) -> None:
        self._ledger = ledger
        self._adapters = adapters
        self._metrics = metrics
        self._clock = clock
        self._account = account
        self._begun_mono_ms = float("-inf")
        self.exchanges: Mapping[str, ExchangeState] = {name: ExchangeState() for name in exchanges}
        #: Events of this round (type, id, JSON) that Redis has not taken yet.
        self._events: deque[tuple[str, str, str]] = deque()
        self._announce_mono_ms = float("-inf")
        #: When a round was last completed; None for never.
        self.compared_mono_ms: float | None = None

    @property
    def done(self) -> bool:
        """True once a round has been completed."""
        return self.compared_mono_ms is not None

    @property
    def differences(self) -> int:
        """The number of confirmed differences."""
        return sum(len(state.confirmed) for state in self.exchanges.values())

    @property
    def missing(self) -> str:
        """The exchanges without an answer in this round and why; empty if there is none."""
        return "; ".join(
            f"{name}: {state.why_missing}"
            for name, state in self.exchanges.items()
            if state.is_missing
        )

    def is_due(self) -> bool:
        """Return whether a round is to begin, an exchange to be asked, or an event announced."""
        now = self._clock.monotonic_ms()
        has_event = bool(self._events) and now >= self._announce_mono_ms
        return self._is_new_round(now) or bool(self._to_be_asked(now)) or has_event

    def _is_new_round(self, now: float) -> bool:
        return now - self._begun_mono_ms >= ROUND_EVERY_MS

    def _to_be_asked(self, now: float) -> list[str]:
        return [
            name
            for name, state in self.exchanges.items()
            if state.is_missing and state.ask_mono_ms <= now and name in self._adapters
        ]

    async def compare(self) -> None:
        """Ask the exchanges that are due and announce what differs.

        A difference counts only when it is seen twice in a row: an order may be between the
        exchange and the book at any moment. An exchange that cannot be asked keeps its earlier
        differences.

        Raises:
            LedgerError: Redis failed; events that it did not take are announced a turn later, under
                the same event ids.
        """
        now = self._clock.monotonic_ms()
        is_new = self._is_new_round(now)
        if is_new:
            self._begin_round(now)
        names = self._to_be_asked(now)
        if is_new or names:
            await self._ask_all(names, now)
        self._announce_mono_ms = self._clock.monotonic_ms() + ANNOUNCE_AGAIN_MS
        while self._events:
            await self._ledger.announce(self._events[0])
            self._events.popleft()

    def _begin_round(self, now: float) -> None:
        self._begun_mono_ms = now
        self._events.clear()  # this round finds again what still differs
        for state in self.exchanges.values():
            state.miss("has not started", now)

    async def _ask_all(self, names: list[str], now: float) -> None:
        """Ask these exchanges and add the events of their answers."""
        for name in names:  # also if Redis fails below
            self.exchanges[name].miss("has not answered yet", now + RETRY_MS)
        book = await self._ledger.book()
        await asyncio.gather(*(self._ask(name, book) for name in names))
        states = self.exchanges.values()
        is_complete = not any(state.is_missing for state in states)
        if is_complete:
            self.compared_mono_ms = self._clock.monotonic_ms()
        self._metrics.drift(self.differences)
        answered = [name for name in names if not self.exchanges[name].is_missing]
        self._add_events(len(book.positions), answered, is_complete=is_complete)

    async def _ask(self, name: str, book: Book) -> None:
        held = {
            position.symbol: position
            for key, position in book.positions.items()
            if position.exchange == name and key not in book.busy
        }
        state = self.exchanges[name]
        try:
            differences = await find_differences(self._adapters[name], held, book.busy)
        except ExchangeError as error:
            pause_ms = max(RETRY_MS, error.retry_after_s * 1000)
            log.warning("comparison_failed", exchange=name, error=str(error), retry_in_ms=pause_ms)
            state.miss(str(error), self._clock.monotonic_ms() + pause_ms)
        else:
            state.answer(name, differences)

    def _add_events(self, checked: int, answered: list[str], *, is_complete: bool) -> None:
        """Report each confirmed difference once a round, and the round when it is complete."""
        now_ms = self._clock.now_ms()
        header = share(
            Header(
                occurred_at=utc(now_ms),
                account=self._account,
                exchange="",
                symbol="",
                signal_id="",
                strategy_id=None,
                worker=self._ledger.worker,
            )
        )
        subject = f"{self._account}-{now_ms}"
        if is_complete:
            done = ReconciliationCompleted(
                checked_positions=checked,
                drift=tuple(one for state in self.exchanges.values() for one in state.confirmed),
            )
            self._events.append(encode(done, event_id(subject, "reconciled"), header)[1:])
        drift = [one for name in answered for one in self.exchanges[name].confirmed]
        for number, sentence in enumerate(drift, start=1):
            log.error("books_differ", difference=sentence)
            error = SystemError(
                component="reconciliation",
                code="POSITION_DRIFT",
                reason=sentence,
                severity=Severity.CRITICAL,
            )
            self._events.append(encode(error, event_id(subject, "drift", number), header)[1:])
