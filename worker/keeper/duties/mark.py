"""Publishes the sheet: wallets, marks of open positions, and how old the comparison is."""

import asyncio
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import ClassVar, Final

from worker.domain.sheet import MarkRow, Sheet, WalletRow
from worker.exchanges.ports import ExchangeAdapter
from worker.keeper.comparison import Comparison
from worker.keeper.duty import Duty
from worker.ledger.errors import LedgerError
from worker.ledger.ports import Ledger
from worker.ledger.replies import Book
from worker.market.data import MarketData
from worker.runtime.clock import Clock
from worker.runtime.logger import get_logger

log = get_logger()

#: How often the sheet is published while a position is open, and otherwise.
OPEN_EVERY_MS: Final = 5_000
IDLE_EVERY_MS: Final = 60_000
#: A sheet that is not renewed is gone after this.
LIFETIME_MS: Final = 600_000
#: An exchange that has not told its wallets and prices by then is left out of this sheet, seconds.
WAIT_S: Final = 4.0


class MarkAccount(Duty):
    """Read wallets and prices from the worker's market data, and publish them for the account.

    The market data keep what is asked for here fresh in the background, within each exchange's
    budget of requests.

    Args:
        ledger: has the book, takes the sheet.
        market: has wallets and prices.
        exchanges: those that have started, by name; more may come.
        comparison: returns the comparison of this term; None without one.
        limits: by configuration key, published as they are.
        clock: time.
    """

    name: ClassVar[str] = "mark"
    interval_ms: ClassVar[int] = OPEN_EVERY_MS
    in_background: ClassVar[bool] = True

    def __init__(
        self,
        ledger: Ledger,
        market: MarketData,
        exchanges: Mapping[str, ExchangeAdapter],
        comparison: Callable[[], Comparison | None],
        limits: Mapping[str, Decimal],
        clock: Clock,
    ) -> None:
        self._ledger = ledger
        self._market = market
        self._exchanges = exchanges
        self._comparison = comparison
        self._limits = dict(limits)
        self._clock = clock
        self._begun_mono_ms = 0.0
        #: When a sheet was last published, and how many exchanges it was of.
        self._published_mono_ms = float("-inf")
        self._published_of = 0

    def begin_term(self) -> None:
        """Publish at once, and count the term from now."""
        self._begun_mono_ms = self._clock.monotonic_ms()
        self._published_mono_ms = float("-inf")

    async def run(self) -> None:
        """Publish one sheet, rarely while nothing is open; never raises LedgerError."""
        try:
            book = await self._ledger.book()
            age_ms = self._clock.monotonic_ms() - self._published_mono_ms
            is_open = bool(book.positions or book.busy)
            is_of_all = self._published_of == len(self._exchanges)
            if not is_open and is_of_all and age_ms < IDLE_EVERY_MS:
                return
            names = list(self._exchanges)
            found = await asyncio.gather(*(self._read(name, book) for name in names))
            comparison = self._comparison()
            compared = comparison.compared_mono_ms if comparison is not None else None
            now = self._clock.monotonic_ms()
            sheet = Sheet(
                wallets=tuple(row for wallets, _, _ in found for row in wallets),
                marks=tuple(row for _, marks, _ in found for row in marks),
                unknown={name: why for name, (_, _, why) in zip(names, found, strict=True) if why},
                limits=self._limits,
                compared_ms=None if compared is None else int(now - compared),
                term_ms=int(now - self._begun_mono_ms),
                differences=comparison.differences if comparison is not None else 0,
            )
            if await self._ledger.publish(sheet, LIFETIME_MS):
                self._published_mono_ms, self._published_of = now, len(names)
        except LedgerError as error:
            log.warning("sheet_not_published", error=str(error))

    async def _read(self, name: str, book: Book) -> tuple[list[WalletRow], list[MarkRow], str]:
        """Return one exchange's wallets, its marks, and why its wallets are not known."""
        symbols = sorted({one.symbol for one in book.positions.values() if one.exchange == name})
        try:
            async with asyncio.timeout(WAIT_S):
                held = await self._market.holdings(name)
                marks = await self._market.marks(name, symbols)
        except TimeoutError:
            return [], [], f"did not answer within {WAIT_S:g} s"
        wallets = [
            WalletRow(
                exchange=name,
                wallet=kind.value,
                currency=currency,
                free=balance.free,
                total=balance.total,
            )
            for kind, balances in held.items()
            for currency, balance in sorted(balances.items())
            if balance.total or balance.free
        ]
        rows = [MarkRow(exchange=name, symbol=one, price=price) for one, price in marks.items()]
        missing = [kind.value for kind in self._exchanges[name].wallets if kind not in held]
        return wallets, rows, f"no balance of {', '.join(missing)}" if missing else ""
