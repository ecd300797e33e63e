"""Builds the adapter of every configured exchange, and closes them all.

The one rule that must never break: in ``mode = "paper"`` nothing built here can send a real order.
The real adapter that lends a simulated exchange its markets and prices is given no credentials.
"""

import asyncio

import msgspec

from worker.config.keys import Config, ExchangeConfig
from worker.engine.engine import SideTask
from worker.exchanges.discovery import adapter_class
from worker.exchanges.ports import ExchangeAdapter
from worker.market.prices import PriceSource
from worker.paper.account import PaperAccount
from worker.paper.fleet_orders import FleetOrders
from worker.runtime.clock import Clock
from worker.runtime.errors import ConfigError
from worker.runtime.secret import Secret


def is_simulated(config: Config, name: str) -> bool:
    """Return True if exchange ``name`` is only simulated: no real order is ever sent there."""
    return config.mode == "paper" or config.exchanges[name].adapter == "paper"


def takes_signal_prices(config: Config, name: str) -> bool:
    """Return True if exchange ``name`` trades at the prices that signals state."""
    return is_simulated(config, name) and config.exchanges[name].paper.prices == "signal"


class ExchangeFactory:
    """Adapters by the exchange's name in configuration.

    Args:
        config: the whole configuration; ``mode`` and ``exchanges`` are read.
        clock: handed to every adapter.
        account: what all workers together have traded on simulated exchanges.
        resting: the orders that rest at simulated exchanges.

    Attributes:
        price_sources: for the exchanges built whose prices are not their own quotes, by name.
    """

    def __init__(
        self,
        config: Config,
        clock: Clock,
        *,
        account: PaperAccount | None = None,
        resting: FleetOrders | None = None,
    ) -> None:
        self._config = config
        self._clock = clock
        self._account = account
        self._resting = resting
        self.price_sources: dict[str, PriceSource] = {}
        self._built: dict[str, ExchangeAdapter] = {}

    def get(self, name: str) -> ExchangeAdapter:
        """Return the adapter of exchange ``name``, built on first use and not started.

        Raises:
            ConfigError: if there is no such exchange in the configuration, or it cannot be built.
        """
        if name not in self._built:
            section = self._config.exchanges.get(name)
            if section is None:
                raise ConfigError(f"exchanges.{name}", "no such exchange is configured")
            self._built[name] = (
                self._simulated(name, section)
                if is_simulated(self._config, name)
                else self._real(name, section)
            )
        return self._built[name]

    def all(self) -> dict[str, ExchangeAdapter]:
        """Return the adapter of every configured exchange by name."""
        return {name: self.get(name) for name in self._config.exchanges}

    def side_tasks(self) -> list[SideTask]:
        """Return what runs beside the signals: showing prices to orders that rest."""
        sees_prices = any(
            is_simulated(self._config, name) and section.paper.prices != "walk"
            for name, section in self._config.exchanges.items()
        )
        if self._resting is None or not sees_prices:
            return []
        return [("resting", self._resting.run)]

    async def close(self) -> None:
        """Close every adapter that was built; idempotent."""
        built, self._built = list(self._built.values()), {}
        results = await asyncio.gather(
            *(adapter.close() for adapter in built), return_exceptions=True
        )
        for result in results:
            if isinstance(result, BaseException):
                raise result

    def _simulated(self, name: str, section: ExchangeConfig) -> ExchangeAdapter:
        lent = section.adapter == "ccxt" or section.paper.prices == "live"
        source = self._real(name, _without_credentials(section)) if lent else None
        # Imported here like the real ones: a live worker never loads the simulation.
        from worker.paper.exchange import PaperExchange  # noqa: PLC0415
        from worker.paper.prices import SignalPrices  # noqa: PLC0415

        exchange = PaperExchange(
            name,
            section,
            self._clock,
            price_source=source,
            account=self._account,
            resting=self._resting,
        )
        if takes_signal_prices(self._config, name):
            self.price_sources[name] = SignalPrices(exchange)
        return exchange

    def _real(self, name: str, section: ExchangeConfig) -> ExchangeAdapter:
        return adapter_class(section.ccxt_id or name)(name, section, self._clock)


def _without_credentials(section: ExchangeConfig) -> ExchangeConfig:
    """Return the section for reading markets and prices only, over REST."""
    return msgspec.structs.replace(
        section, api_key=Secret(), secret=Secret(), password=Secret(), order_transport="rest"
    )
