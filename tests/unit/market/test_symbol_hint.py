"""What is said of a symbol that an exchange does not list."""

from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from worker.config.keys import ExchangeConfig
from worker.domain.market import MarketKind
from worker.exchanges.ports import ExchangeAdapter
from worker.market.symbol_hint import SymbolHints


def hints(symbols: Iterable[str], *kinds: MarketKind) -> SymbolHints:
    adapter = cast("ExchangeAdapter", SimpleNamespace(symbols=lambda: symbols))
    return SymbolHints({"x": adapter}, {"x": ExchangeConfig(market_types=kinds)})


@pytest.mark.parametrize(
    ("symbol", "listed", "kinds", "says"),
    [
        ("BTC/USDT:USDT", ["BTC/USDT"], ["spot"],
         '; it would be a linear market, and exchanges.x.market_types is ["spot"]'),
        ("BTC/USDT", ["BTC/USDT:USDT"], ["linear"],
         '; it would be a spot market, and exchanges.x.market_types is ["linear"]'),
        ("BTCUSDT", ["ETH/USDT", "BTC/USDT"], ["spot"], "; did you mean BTC/USDT?"),
        ("btc_usdt", ["BTC/USDT"], ["spot"], "; did you mean BTC/USDT?"),
        ("BTCUSDT", ["BTC/USDT:USDT"], ["linear"], "; did you mean BTC/USDT:USDT?"),
        ("BTC/USDT", ["BTC/USDT:USDT"], ["spot", "linear"], "; did you mean BTC/USDT:USDT?"),
        ("NO/SUCH", ["BTC/USDT"], ["spot"], ""),
        ("", ["BTC/USDT"], ["spot"], ""),
    ],
)  # fmt: skip
def test_kind_and_spelling_are_told(
    symbol: str, listed: list[str], kinds: list[Any], says: str
) -> None:
    """The key to change, or the symbol that was meant; nothing where neither is known."""
    assert hints(listed, *map(MarketKind, kinds))("x", symbol) == says


def test_an_exchange_that_has_not_started_gives_no_hint() -> None:
    """Nor does one that is not configured."""
    assert hints([])("y", "BTCUSDT") == ""
