"""The simulated exchange's markets: well-known ones, numbered test assets, and configured ones."""

import re
from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import Final

from worker.domain.market import MarketKind, SymbolInfo
from worker.runtime.errors import ConfigError

# fmt: off
BASES: Final = (
    "BTC", "ETH", "BNB", "SOL", "XRP", "ADA", "DOGE", "AVAX", "DOT", "LINK", "LTC", "BCH", "TRX",
    "MATIC", "POL", "UNI", "ATOM", "ETC", "XLM", "FIL", "NEAR", "APT", "ARB", "OP", "SUI", "INJ",
    "TIA", "SEI", "TON", "SHIB", "PEPE", "WIF", "BONK", "HBAR", "ICP", "VET", "ALGO", "AAVE", "MKR",
    "GRT", "SAND", "MANA", "AXS", "EOS", "XTZ", "THETA", "FTM", "RUNE", "EGLD", "FLOW", "CHZ",
    "CRV", "LDO", "SNX", "COMP", "DYDX", "GMX", "IMX", "STX", "KAS", "JUP", "PYTH", "RENDER",
    "FET", "ENA", "WLD",
)
# fmt: on
#: Quotes that are money, and the two coins that other coins are quoted in.
MONEY_QUOTES: Final = ("USDT", "USDC", "USD", "EUR")
COIN_QUOTES: Final = ("BTC", "ETH")
LINEAR_SETTLES: Final = ("USDT", "USDC")

#: Fine enough for any price a signal may state: the price is not known when a market is built.
PRICE_TICK: Final = Decimal("1e-18")
SPOT_STEP: Final = Decimal("0.000001")
LINEAR_STEP: Final = Decimal("0.001")
_MIN_NOTIONAL: Final = {"BTC": Decimal("0.0001"), "ETH": Decimal("0.001")}
_MIN_MONEY: Final = Decimal(5)

#: The most markets kept in memory; each can be built again in microseconds.
MAX_CACHED_MARKETS: Final = 10_000

_UNIFIED = re.compile(r"([A-Z0-9]{1,20})/([A-Z0-9]{1,20})(?::([A-Z0-9]{1,20}))?")
_NUMBERED = re.compile(r"[A-Z]{1,10}[0-9]{1,7}")


class PaperMarkets:
    """Every market one simulated exchange lists, built when first asked for.

    Args:
        kinds: which kinds of market are loaded (``market_types``).
        extra: symbols listed whatever their kind and currencies (``paper.symbols``).
        fee: taker and maker fee, a fraction of the value.
        where: the configuration key to blame for a malformed ``extra``.
    """

    def __init__(
        self, *, kinds: Iterable[MarketKind], extra: Iterable[str], fee: Decimal, where: str
    ) -> None:
        self._kinds = frozenset(kinds)
        self._fee = fee
        self._extra = tuple(extra)
        self._cache: dict[str, SymbolInfo] = {}
        self._pinned: dict[str, SymbolInfo] = {}
        for symbol in self._extra:
            match = _UNIFIED.fullmatch(symbol)
            if match is None or match[3] not in {None, match[2]}:
                raise ConfigError(
                    where, f"{symbol!r} is not a symbol of the form BASE/QUOTE or BASE/QUOTE:QUOTE"
                )
            self._pinned[symbol] = self._make(symbol, match[1], match[2], match[3])
        quotes = dict.fromkeys((*MONEY_QUOTES, *COIN_QUOTES))
        quotes.update(dict.fromkeys(info.quote for info in self._pinned.values()))
        #: Every currency something is quoted in.
        self.quotes = tuple(quotes)

    def get(self, symbol: str) -> SymbolInfo | None:
        """Return the market's rules, or None for a symbol that is not listed."""
        info = self._cache.get(symbol)
        if info is None:
            info = self._find(symbol)
            if info is not None:
                if len(self._cache) >= MAX_CACHED_MARKETS:
                    self._cache.clear()
                self._cache[symbol] = info
        return info

    def symbols(self) -> Iterator[str]:
        """Yield every listed symbol but the numbered ones, which have no end."""
        yield from self._pinned
        for base in BASES:
            for quote in (*MONEY_QUOTES, *COIN_QUOTES):
                names = [f"{base}/{quote}", f"{base}/{quote}:{quote}"]
                yield from (n for n in names if n not in self._pinned and self.get(n) is not None)

    def _find(self, symbol: str) -> SymbolInfo | None:
        pinned = self._pinned.get(symbol)
        if pinned is not None:
            return pinned
        match = _UNIFIED.fullmatch(symbol)
        if match is None:
            return None
        base, quote, settle = match.groups()
        known = base in _BASE_SET or _NUMBERED.fullmatch(base) is not None
        listed = quote in MONEY_QUOTES or (
            quote in COIN_QUOTES and base != quote and (base, quote) != ("BTC", "ETH")
        )
        if not (known and listed):
            return None
        kind = MarketKind.SPOT if settle is None else MarketKind.LINEAR
        if kind not in self._kinds:
            return None
        if settle is not None and (settle != quote or settle not in LINEAR_SETTLES):
            return None
        return self._make(symbol, base, quote, settle)

    def _make(self, symbol: str, base: str, quote: str, settle: str | None) -> SymbolInfo:
        step = SPOT_STEP if settle is None else LINEAR_STEP
        return SymbolInfo(
            symbol=symbol,
            base=base,
            quote=quote,
            settle=settle or quote,
            kind=MarketKind.SPOT if settle is None else MarketKind.LINEAR,
            shortable=True,
            price_tick=PRICE_TICK,
            quantity_step=step,
            min_quantity=step,
            min_notional=_MIN_NOTIONAL.get(quote, _MIN_MONEY),
            taker_fee=self._fee,
            maker_fee=self._fee,
        )


_BASE_SET: Final = frozenset(BASES)
