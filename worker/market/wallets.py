"""Balances of one exchange's wallets, kept in memory and read again when they are too old."""

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Final

from worker.domain.market import Balance, MarketKind
from worker.exchanges.errors import ExchangeError, Outcome
from worker.exchanges.ports import ExchangeAdapter
from worker.market.refresh import ACTIVE_FOR_S, NEVER, Refresh
from worker.runtime.clock import Clock

_NOTHING: Final = Balance(free=Decimal(0), total=Decimal(0))


class Wallet:
    """One wallet's balances with the time they were read.

    Args:
        adapter: the exchange.
        kind: of market, by which the exchange is asked for the wallet.
        clock: for ages.
        max_age_ms: older balances count as unknown.
        on_error: called for every failed reading, with the exchange's name.
    """

    def __init__(
        self,
        adapter: ExchangeAdapter,
        kind: MarketKind,
        *,
        clock: Clock,
        max_age_ms: float,
        on_error: Callable[[str, ExchangeError], None],
    ) -> None:
        self._adapter = adapter
        self._kind = kind
        self._clock = clock
        self._max_age_ms = max_age_ms
        self._on_error = on_error
        self._refresh = Refresh()
        self._held: Mapping[str, Balance] = {}
        self._read_mono_ms = NEVER
        self._wanted_mono_ms = NEVER

    def known(self, currency: str, now_mono_ms: float) -> Balance | None:
        """Return the balance in memory, zero for a currency not held; None if it is too old."""
        self._wanted_mono_ms = now_mono_ms
        if now_mono_ms - self._read_mono_ms > self._max_age_ms:
            return None
        return self._held.get(currency, _NOTHING)

    def is_in_use(self, now_mono_ms: float) -> bool:
        """Return True if a signal has wanted a balance lately: only then it is kept fresh."""
        return now_mono_ms - self._wanted_mono_ms <= ACTIVE_FOR_S * 1000

    async def ask(self, currency: str) -> Balance | None:
        """Read the balances, unless another reader just did; None if that fails or is pointless."""
        failures = self._refresh.failures
        if self._refresh.is_pointless(self._clock.monotonic_ms()):
            return None
        async with self._refresh.lock:
            balance = self.known(currency, self._clock.monotonic_ms())
            if balance is not None:
                return balance
            if self._refresh.failures != failures or not await self._read():
                return None
            return self._held.get(currency, _NOTHING)

    async def holdings(self) -> Mapping[str, Balance] | None:
        """Return every balance, read from the exchange where memory is too old; None if unknown."""
        if self.known("", self._clock.monotonic_ms()) is None and await self.ask("") is None:
            return None
        return self._held

    async def refresh(self) -> None:
        """Read the balances."""
        async with self._refresh.lock:
            await self._read()

    async def _read(self) -> bool:
        """Read the balances and return True if that worked; the caller holds the lock."""
        asked = self._clock.monotonic_ms()
        try:
            held = await self._adapter.get_balance(self._kind)
        except ExchangeError as error:
            throttled = error.outcome is Outcome.THROTTLED
            self._refresh.fail(asked, self._clock.monotonic_ms(), throttled=throttled)
            self._on_error(self._adapter.name, error)
            return False
        self._refresh.succeed()
        self._held, self._read_mono_ms = held, asked
        return True


def wallets_of(
    adapter: ExchangeAdapter,
    *,
    clock: Clock,
    max_age_ms: float,
    on_error: Callable[[str, ExchangeError], None],
) -> dict[MarketKind, Wallet]:
    """Return the wallet that pays for each kind of market; kinds may share one."""
    own = {
        kind: Wallet(adapter, kind, clock=clock, max_age_ms=max_age_ms, on_error=on_error)
        for kind in adapter.wallets
    }
    return dict.fromkeys(MarketKind, own[adapter.wallets[0]]) | own
