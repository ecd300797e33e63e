"""A hint for a symbol that an exchange does not list: another spelling, another kind of market."""

import re
from collections.abc import Mapping
from typing import Final

from worker.config.keys import ExchangeConfig
from worker.domain.market import MarketKind
from worker.exchanges.ports import ExchangeAdapter

_SPELT: Final = re.compile(r"[A-Z0-9]+/[A-Z0-9]+(:[A-Z0-9]+)?")
_NO_LETTERS: Final = re.compile(r"[^A-Z0-9]")


class SymbolHints:
    """Hints for symbols that cannot be found.

    Args:
        adapters: the started exchanges by name.
        sections: their configuration.
    """

    def __init__(
        self, adapters: Mapping[str, ExchangeAdapter], sections: Mapping[str, ExchangeConfig]
    ) -> None:
        self._adapters = adapters
        self._sections = sections

    def __call__(self, exchange: str, symbol: str) -> str:
        """Return the end of a sentence about an unknown symbol; empty where there is no hint."""
        adapter, section = self._adapters.get(exchange), self._sections.get(exchange)
        if adapter is None or section is None:
            return ""
        spelt = _SPELT.fullmatch(symbol)
        if spelt is not None:
            kind = MarketKind.LINEAR if spelt[1] else MarketKind.SPOT
            if kind not in section.market_types:
                loaded = ", ".join(f'"{one}"' for one in section.market_types)
                return (
                    f"; it would be a {kind} market, and exchanges.{exchange}.market_types is "
                    f"[{loaded}]"
                )
        wanted = _letters(symbol)
        listed = list(adapter.symbols())
        near = [one for one in listed if _letters(one) == wanted]
        # A perpetual's symbol has the settlement currency behind it.
        near += [one for one in listed if _letters(one.partition(":")[0]) == wanted]
        return f"; did you mean {near[0]}?" if near else ""


def _letters(symbol: str) -> str:
    return _NO_LETTERS.sub("", symbol.upper())
