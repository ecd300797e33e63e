"""The book compared with the exchanges, in rounds that end when every one has answered."""

import asyncio
from collections import deque
from collections.abc import Collection, Mapping
from decimal import Decimal
from typing import Final

import msgspec

from worker.domain.event import (
    Header,
    ReconciliationCompleted,
    Severity,
    SystemError,  # noqa: A004 (its public name)
    encode,
    share,
)
from worker.domain.identity import event_id
from worker.domain.market import ExchangePosition, MarketKind
from worker.domain.money import ZERO, text
from worker.domain.position import Position
from worker.domain.signal import Direction
from worker.exchanges.errors import ExchangeError
from worker.exchanges.ports import ExchangeAdapter
from worker.ledger.calls import Ledger
from worker.ledger.replies import Book
from worker.observe.metrics import Metrics
from worker.runtime.clock import Clock, utc
from worker.runtime.logger import get_logger

log = get_logger()

ROUND_EVERY_MS: Final = 60_000
#: An exchange that could not be asked is asked again after this, or after what it said itself.
RETRY_MS: Final = 3_000
#: An event that Redis did not take is tried again after this.
SAY_AGAIN_MS: Final = 1_000
#: A balance may be this much smaller than the book says before that counts as drift (dust, fees).
TOLERANCE: Final = Decimal("0.002")


class Missing(msgspec.Struct, frozen=True):
    """An exchange that a round has not heard yet: why, and when it is asked (again)."""

    why: str
    again_mono_ms: float


class Comparison:
    """Compares for as long as one keeper is in office.

    Args:
        ledger: the account.
        exchanges: names of all that have to answer.
        adapters: those that have started, by name; more may come.
        metrics: shown how much differs.
        clock: time.
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
        self._exchanges = exchanges
        self._adapters = adapters
        self._metrics = metrics
        self._clock = clock
        self._account = account
        self._begun_mono_ms = float("-inf")
        self._missing: dict[str, Missing] = {}
        #: What differed when each exchange was last asked, and what did so the time before as well.
        self._suspected: dict[str, frozenset[str]] = {}
        self._confirmed: dict[str, tuple[str, ...]] = {}
        #: Events of this round that Redis has not taken yet.
        self._unsaid: deque[tuple[str, str, str]] = deque()
        self._say_again_mono_ms = float("-inf")
        #: Whether a round has been completed.
        self.done = False

    @property
    def missing(self) -> str:
        """Which exchanges this round has not heard and why, in words; empty if there is none."""
        return "; ".join(f"{name}: {one.why}" for name, one in self._missing.items())

    def is_due(self) -> bool:
        """Whether a new round is to begin, an exchange to be asked, or more to be said."""
        now = self._clock.monotonic_ms()
        has_to_say = bool(self._unsaid) and now >= self._say_again_mono_ms
        return self._is_new_round(now) or bool(self._to_be_asked(now)) or has_to_say

    def _is_new_round(self, now: float) -> bool:
        return now - self._begun_mono_ms >= ROUND_EVERY_MS

    def _to_be_asked(self, now: float) -> list[str]:
        return [
            name
            for name, one in self._missing.items()
            if one.again_mono_ms <= now and name in self._adapters
        ]

    async def compare(self) -> None:
        """Ask the exchanges that are due and say what differs.

        A difference counts only when it is seen twice in a row: an order may be between the
        exchange and the book at any moment. An exchange that cannot be asked leaves what was known
        of it as it was.

        Raises:
            LedgerError: Redis failed; what was heard and not said is said a turn later, under the
                same event ids.
        """
        now = self._clock.monotonic_ms()
        is_new = self._is_new_round(now)
        if is_new:
            self._begun_mono_ms = now
            self._unsaid.clear()  # this round says it again, if it still is so
            self._missing = {name: Missing("has not started", now) for name in self._exchanges}
        names = self._to_be_asked(now)
        if is_new or names:
            await self._hear(names, now)
        self._say_again_mono_ms = self._clock.monotonic_ms() + SAY_AGAIN_MS
        while self._unsaid:
            await self._ledger.announce(self._unsaid[0])
            self._unsaid.popleft()

    async def _hear(self, names: list[str], now: float) -> None:
        """Ask these exchanges, and note what there is to say."""
        for name in names:  # also if Redis fails below
            self._missing[name] = Missing("has not answered yet", now + RETRY_MS)
        book = await self._ledger.book()
        await asyncio.gather(*(self._ask(name, book) for name in names))
        answered = [name for name in names if name not in self._missing]
        if not self._missing:
            self.done = True
        self._metrics.drift(sum(map(len, self._confirmed.values())))
        self._note(len(book.positions), answered)

    async def _ask(self, name: str, book: Book) -> None:
        held = {
            position.symbol: position
            for key, position in book.positions.items()
            if position.exchange == name and key not in book.busy
        }
        try:
            found = await _differences(self._adapters[name], held, book.busy)
        except ExchangeError as error:
            pause_ms = max(RETRY_MS, error.retry_after_s * 1000)
            log.warning("comparison_failed", exchange=name, error=str(error), retry_in_ms=pause_ms)
            again = self._clock.monotonic_ms() + pause_ms
            self._missing[name] = Missing(str(error), again)
            return
        del self._missing[name]
        before = self._suspected.get(name, frozenset())
        self._suspected[name] = frozenset(found)
        self._confirmed[name] = tuple(f"{name} {one}" for one in found if one in before)

    def _note(self, checked: int, answered: list[str]) -> None:
        """Say each confirmed difference once a round, and the round when it is complete."""
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
        drift = tuple(sentence for name in answered for sentence in self._confirmed[name])
        if not self._missing:
            done = ReconciliationCompleted(
                checked_positions=checked,
                drift=tuple(one for found in self._confirmed.values() for one in found),
            )
            self._unsaid.append(encode(done, event_id(subject, "reconciled"), header)[1:])
        for number, sentence in enumerate(drift, start=1):
            log.error("books_differ", difference=sentence)
            error = SystemError(
                component="reconciliation",
                code="POSITION_DRIFT",
                reason=sentence,
                severity=Severity.CRITICAL,
            )
            self._unsaid.append(encode(error, event_id(subject, "drift", number), header)[1:])


async def _differences(
    adapter: ExchangeAdapter, held: Mapping[str, Position], busy: frozenset[str]
) -> list[str]:
    """What one exchange says differently from the book, a sentence each."""
    found: list[str] = []
    spot: dict[str, Position] = {}
    linear: dict[str, Position] = {}
    for symbol, position in held.items():
        info = adapter.get_symbol_info(symbol)
        if info is None:
            found.append(
                f"{symbol}: the book has a position in a market the exchange does not list"
            )
            continue
        (linear if info.kind is MarketKind.LINEAR else spot)[symbol] = position
    if spot and adapter.balances_show_spot_positions:
        found += await _spot_differences(adapter, spot)
    there = {position.symbol: position for position in await adapter.get_positions()}
    for symbol in linear.keys() | there.keys():
        if f"{adapter.name}:{symbol}" in busy:
            continue
        sentence = _compare_one(symbol, linear.get(symbol), there.get(symbol))
        if sentence:
            found.append(sentence)
    return found


async def _spot_differences(adapter: ExchangeAdapter, held: Mapping[str, Position]) -> list[str]:
    """A spot position needs at least its quantity of the base currency; shorts are lent."""
    needed: dict[str, Decimal] = {}
    for symbol, position in held.items():
        info = adapter.get_symbol_info(symbol)
        if info is not None and position.direction is Direction.LONG:
            needed[info.base] = needed.get(info.base, ZERO) + position.quantity
    if not needed:
        return []
    balances = await adapter.get_balance(MarketKind.SPOT)
    return [
        f"{currency}: the book needs {text(quantity)}, the exchange holds "
        f"{text(balances[currency].total) if currency in balances else '0'}"
        for currency, quantity in sorted(needed.items())
        if (balances[currency].total if currency in balances else ZERO) < quantity * (1 - TOLERANCE)
    ]


def _compare_one(symbol: str, ours: Position | None, theirs: ExchangePosition | None) -> str | None:
    if ours is None and theirs is not None:
        return f"{symbol}: {theirs.direction} {text(theirs.quantity)} is not in the book"
    if ours is not None and theirs is None:
        return f"{symbol}: the book's {ours.direction} {text(ours.quantity)} is not there"
    if ours is None or theirs is None:
        return None
    if ours.direction is theirs.direction and ours.quantity == theirs.quantity:
        return None
    return (
        f"{symbol}: the book has {ours.direction} {text(ours.quantity)}, the exchange "
        f"{theirs.direction} {text(theirs.quantity)}"
    )
