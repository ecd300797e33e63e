"""The account's one keeper: unresolved orders, housekeeping, and comparing the books.

Every worker runs this; a lease in Redis makes one of them the keeper. Nothing here is needed for a
signal to be executed, so losing the keeper for a term costs nothing but time.
"""

from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import Final

from worker.clock import Clock, utc
from worker.domain.event import ReconciliationCompleted, Severity, SystemError, encode  # noqa: A004
from worker.domain.identity import event_id
from worker.domain.market import ExchangePosition, MarketKind
from worker.domain.money import ZERO, text
from worker.domain.position import Position
from worker.domain.signal import Direction
from worker.exchanges.base import ExchangeAdapter, ExchangeError
from worker.ledger.calls import Delivery, Ledger
from worker.ledger.errors import LedgerError
from worker.logger import get_logger
from worker.observe.metrics import Metrics

log = get_logger(__name__)

TERM_MS: Final = 15_000
SWEEP_EVERY_MS: Final = 60_000
RECONCILE_EVERY_MS: Final = 60_000
#: Unresolved orders looked up at the same time.
MAX_ADOPTED: Final = 8
#: A balance may be this much smaller than the book says before that counts as drift (dust, fees).
TOLERANCE: Final = Decimal("0.002")


class Keeper:
    """Elected by a lease.

    Args:
        ledger: the account.
        adapters: those that have started, by exchange name.
        take: starts work on deliveries (the engine's).
        metrics: for the account's gauges, which only the keeper shows.
        clock: time.
        account: named in events.
        signal_retention_ms: how long acknowledged signals stay on their stream.
    """

    def __init__(
        self,
        *,
        ledger: Ledger,
        adapters: Mapping[str, ExchangeAdapter],
        take: Callable[[Iterable[Delivery]], None],
        metrics: Metrics,
        clock: Clock,
        account: str,
        signal_retention_ms: int,
    ) -> None:
        self._ledger = ledger
        self._adapters = adapters
        self._take = take
        self._metrics = metrics
        self._clock = clock
        self._account = account
        self._signal_retention_ms = signal_retention_ms
        self._swept_mono_ms = float("-inf")
        self._compared_mono_ms = float("-inf")
        self._suspected: frozenset[str] = frozenset()
        self.is_keeper = False

    async def run(self) -> None:
        """Stand for election and do the keeper's duties, for ever."""
        while True:
            try:
                await self._turn()
            except LedgerError as error:
                self._set_keeper(elected=False)
                log.warning("keeper_interrupted", error=str(error))
            await self._clock.sleep(TERM_MS / 15_000)

    async def _turn(self) -> None:
        self._set_keeper(elected=await self._ledger.elect(TERM_MS))
        if not self.is_keeper:
            return
        self._take(await self._ledger.adopt(MAX_ADOPTED))
        self._metrics.account(await self._ledger.account())
        now = self._clock.monotonic_ms()
        if now - self._swept_mono_ms >= SWEEP_EVERY_MS:
            self._swept_mono_ms = now
            await self._sweep()
        if now - self._compared_mono_ms >= RECONCILE_EVERY_MS:
            self._compared_mono_ms = now
            await self.compare()

    def _set_keeper(self, *, elected: bool) -> None:
        if elected is not self.is_keeper:
            log.info("keeper_elected" if elected else "keeper_resigned")
        self.is_keeper = elected
        self._metrics.keeper(elected=elected)

    async def _sweep(self) -> None:
        orphans, trimmed, removed = await self._ledger.sweep(self._signal_retention_ms)
        if orphans or trimmed or removed:
            log.info("swept", orphans=orphans, trimmed=trimmed, consumers_removed=removed)

    async def compare(self) -> tuple[str, ...]:
        """Compare the book with the exchanges and say what differs.

        A difference counts only when it is seen twice in a row: an order may be between the
        exchange and the book at any moment.

        Returns:
            What differs, a sentence each.
        """
        book = await self._ledger.book()
        drift: list[str] = []
        for name, adapter in tuple(self._adapters.items()):  # more may start meanwhile
            held = {
                position.symbol: position
                for key, position in book.positions.items()
                if position.exchange == name and key not in book.busy
            }
            try:
                found = await _differences(adapter, held, book.busy)
            except ExchangeError as error:
                log.warning("comparison_failed", exchange=name, error=str(error))
                continue
            drift += [f"{name} {sentence}" for sentence in found]
        confirmed = tuple(sentence for sentence in drift if sentence in self._suspected)
        self._suspected = frozenset(drift)
        await self._say(len(book.positions), confirmed)
        return confirmed

    async def _say(self, checked: int, drift: tuple[str, ...]) -> None:
        now_ms = self._clock.now_ms()
        common = {
            "occurred_at": utc(now_ms),
            "account": self._account,
            "exchange": "",
            "symbol": "",
            "signal_id": "",
            "strategy_id": None,
            "worker": self._ledger.worker,
        }
        done = ReconciliationCompleted(
            event_id=event_id(f"{self._account}-{now_ms}", "reconciled"),
            checked_positions=checked,
            drift=drift,
            **common,  # type: ignore[arg-type]
        )
        await self._ledger.announce(encode(done)[1:])
        self._metrics.drift(len(drift))
        for number, sentence in enumerate(drift, start=1):
            log.error("books_differ", difference=sentence)
            error = SystemError(
                event_id=event_id(f"{self._account}-{now_ms}", "drift", number),
                component="reconciliation",
                code="POSITION_DRIFT",
                reason=sentence,
                severity=Severity.CRITICAL,
                **common,  # type: ignore[arg-type]
            )
            await self._ledger.announce(encode(error)[1:])


async def _differences(
    adapter: ExchangeAdapter, held: Mapping[str, Position], busy: frozenset[str]
) -> list[str]:
    """What one exchange says differently from the book, a sentence each."""
    spot: dict[str, Position] = {}
    linear: dict[str, Position] = {}
    for symbol, position in held.items():
        info = adapter.get_symbol_info(symbol)
        if info is None:
            return [f"{symbol}: the book has a position in a market the exchange does not list"]
        (linear if info.kind is MarketKind.LINEAR else spot)[symbol] = position
    found = await _spot_differences(adapter, spot) if spot else []
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
        if info is not None and position.direction is Direction.LONG and not adapter.simulated:
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
