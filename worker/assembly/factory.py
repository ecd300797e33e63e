"""Builds the adapters the configuration asks for, one an exchange, and closes them all.

The one rule that must never break: in ``mode = "paper"`` nothing built here can send a real order.
The real adapter that lends a simulated exchange its markets and prices is given no credentials.
"""

import asyncio
import importlib
from collections.abc import Awaitable, Callable, Mapping
from decimal import Decimal
from typing import Final, Protocol

import msgspec

from worker.config.keys import Config, ExchangeConfig
from worker.domain.market import ExchangePosition
from worker.exchanges.ports import ExchangeAdapter
from worker.runtime.clock import Clock
from worker.runtime.errors import ConfigError
from worker.runtime.secret import Secret

Holdings = Callable[[str], Awaitable[Mapping[str, Decimal]]]
Positions = Callable[[str], Awaitable[list[ExchangePosition]]]


class AdapterClass(Protocol):
    """What builds a real adapter."""

    def __call__(self, name: str, config: ExchangeConfig, clock: Clock, /) -> ExchangeAdapter:
        """One exchange, not started."""


#: Adapters by ccxt id, as ``module:class``: importing one imports ccxt, so only the used one is.
_ADAPTERS: Final[Mapping[str, str]] = {
    "binance": "worker.exchanges.binance.adapter:BinanceCCXTAdapter",
    "bybit": "worker.exchanges.bybit.adapter:BybitCCXTAdapter",
    "coinbase": "worker.exchanges.coinbase.adapter:CoinbaseCCXTAdapter",
    "kraken": "worker.exchanges.kraken.adapter:KrakenCCXTAdapter",
    "okx": "worker.exchanges.okx.adapter:OkxCCXTAdapter",
}
_ANY_ADAPTER: Final = "worker.exchanges.ccxt.adapter:CCXTAdapter"


class ExchangeFactory:
    """Adapters by the exchange's name in configuration.

    Args:
        config: the whole configuration; ``mode`` and ``exchanges`` are read.
        clock: handed to every adapter.
        holdings: for simulated exchanges, see ``PaperExchange``.
        positions: for simulated exchanges, see ``PaperExchange``.
    """

    def __init__(
        self,
        config: Config,
        clock: Clock,
        *,
        holdings: Holdings | None = None,
        positions: Positions | None = None,
    ) -> None:
        self._config = config
        self._clock = clock
        self._holdings = holdings
        self._positions = positions
        self._registered: dict[str, AdapterClass] = {}
        self._built: dict[str, ExchangeAdapter] = {}

    def register(self, ccxt_id: str, adapter: AdapterClass) -> None:
        """Use ``adapter`` for ``ccxt_id`` from now on, before or instead of the built-in one."""
        self._registered[ccxt_id] = adapter

    def get(self, name: str) -> ExchangeAdapter:
        """The adapter of exchange ``name``, built on first use and not started.

        Raises:
            ConfigError: if there is no such exchange in the configuration, or it cannot be built.
        """
        if name not in self._built:
            section = self._config.exchanges.get(name)
            if section is None:
                raise ConfigError(f"exchanges.{name}", "no such exchange is configured")
            self._built[name] = self._build(name, section)
        return self._built[name]

    def all(self) -> dict[str, ExchangeAdapter]:
        """Every configured exchange by name."""
        return {name: self.get(name) for name in self._config.exchanges}

    async def close(self) -> None:
        """Close every adapter that was built; idempotent."""
        built, self._built = list(self._built.values()), {}
        results = await asyncio.gather(
            *(adapter.close() for adapter in built), return_exceptions=True
        )
        for result in results:
            if isinstance(result, BaseException):
                raise result

    def _build(self, name: str, section: ExchangeConfig) -> ExchangeAdapter:
        if section.adapter == "ccxt" and self._config.mode == "live":
            return self._real(name, section)
        lent = section.adapter == "ccxt" or section.paper.prices == "live"
        source = self._real(name, _without_credentials(section)) if lent else None
        # Imported here like the real ones: a live worker never loads the simulation.
        from worker.paper.exchange import PaperExchange  # noqa: PLC0415

        return PaperExchange(
            name,
            section,
            self._clock,
            price_source=source,
            holdings=self._holdings,
            positions=self._positions,
        )

    def _real(self, name: str, section: ExchangeConfig) -> ExchangeAdapter:
        ccxt_id = section.ccxt_id or name
        adapter = self._registered.get(ccxt_id)
        if adapter is None:
            module, _, class_name = _ADAPTERS.get(ccxt_id, _ANY_ADAPTER).partition(":")
            adapter = getattr(importlib.import_module(module), class_name)
        return adapter(name, section, self._clock)


def _without_credentials(section: ExchangeConfig) -> ExchangeConfig:
    """For markets and prices only, which come over REST."""
    return msgspec.structs.replace(
        section, api_key=Secret(), secret=Secret(), password=Secret(), order_transport="rest"
    )
