"""Starts a worker's exchanges, each for as long as it takes, and keeps their data fresh."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from typing import Any, Final

from worker.assembly.api_keys import ApiKeys
from worker.config.keys import ExchangeConfig
from worker.engine.engine import SideTask
from worker.exchanges.errors import ExchangeError
from worker.exchanges.findings import AccountFinding, Level
from worker.exchanges.ports import ExchangeAdapter
from worker.market.data import MarketData
from worker.observe.health import Health
from worker.observe.metrics import Metrics
from worker.runtime.cancellation import cancel_all
from worker.runtime.clock import Clock, Random
from worker.runtime.garbage_collector import exempt_from_collection
from worker.runtime.logger import get_logger

log = get_logger()

#: Pause between attempts to start an exchange, doubled up to the longest.
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 30.0
CLOCK_EVERY_S: Final = 30.0
#: How often readiness is updated with whether orders can be sent.
ORDERS_EVERY_S: Final = 1.0
#: After markets could not be loaded they are asked for again within this time.
MARKETS_AGAIN_S: Final = 60.0


class ExchangeSupervisor:
    """The exchanges of one worker, from the first attempt to start them on.

    Args:
        adapters: by exchange name.
        sections: their configuration, by the same names.
        market: keeps prices and balances fresh, of each exchange from its start on.
        metrics: counts errors, shows the exchanges' clocks.
        health: shows why markets are missing or orders cannot be sent.
        clock: time.
        random: spreads the requests of workers that were started together.
        stopping: waits until the worker is to stop.
        api_keys: says which exchange's key this worker may use.

    Attributes:
        started: the exchanges that have started, by name.
    """

    def __init__(
        self,
        adapters: Mapping[str, ExchangeAdapter],
        *,
        sections: Mapping[str, ExchangeConfig],
        market: MarketData,
        metrics: Metrics,
        health: Health,
        clock: Clock,
        random: Random,
        stopping: Callable[[], Coroutine[Any, Any, object]],
        api_keys: ApiKeys | None = None,
    ) -> None:
        self._adapters = adapters
        self._sections = sections
        self._market = market
        self._metrics = metrics
        self._health = health
        self._clock = clock
        self._random = random
        self._stopping = stopping
        self._api_keys = api_keys
        if api_keys is not None:
            api_keys.on_change = self._on_key
        self.started: dict[str, ExchangeAdapter] = {}
        #: Why each of the others has not started.
        self._not_started = dict.fromkeys(adapters, "not yet")
        self._starts: dict[str, asyncio.Task[None]] = {}
        #: The findings about each account that readiness shows.
        self._shown: dict[str, tuple[AccountFinding, ...]] = {}

    async def start(self) -> bool:
        """Start the exchanges, trying for as long as it takes; False if stopped meanwhile.

        Returns as soon as one of them works; the others go on starting beside the signals.

        Raises:
            ConfigError: an exchange cannot work as it is configured.
        """
        if self._api_keys is not None:
            self._api_keys.begin()
        self._starts = {
            name: asyncio.create_task(self._start(name), name=f"start:{name}")
            for name in self._adapters
        }
        self._show_markets()
        if not self._starts:
            return True
        stopped = asyncio.create_task(self._stopping())
        await asyncio.wait({stopped, *self._starts.values()}, return_when=asyncio.FIRST_COMPLETED)
        has_stopped = stopped.done()
        stopped.cancel()
        ended = [task for task in self._starts.values() if task.done()]
        if has_stopped or any(task.exception() for task in ended):
            await self.stop()
        for task in ended:
            task.result()
        return not has_stopped

    async def stop(self) -> None:
        """Cancel the attempts to start that still go on, and let others use the API keys."""
        await cancel_all(self._starts.values())
        if self._api_keys is not None:
            await self._api_keys.stop()

    def side_tasks(self) -> list[SideTask]:
        """Return what runs beside the signals: starts not yet done, and keeping data fresh."""
        market = self._market
        tasks: list[SideTask] = []
        for name, adapter in self._adapters.items():
            section = self._sections[name]
            balance_s, prices_s = section.balance_refresh_seconds, section.ticker_refresh_seconds
            tasks.append((f"start:{name}", partial(self._await_start, name)))
            tasks.append((f"balance:{name}", partial(market.follow_balance, name, balance_s)))
            if market.is_quoted(name):
                tasks.append((f"prices:{name}", partial(market.follow_prices, name, prices_s)))
            tasks.append((f"markets:{name}", partial(self._follow_markets, name)))
            if adapter.has_own_clock:
                tasks.append((f"clock:{name}", partial(self._follow_clock, name)))
            if adapter.keeps_order_connection or adapter.workers_per_key:
                tasks.append((f"orders:{name}", partial(self._follow_orders, name)))
        return tasks

    async def _start(self, name: str) -> None:
        pause = FIRST_PAUSE_S
        while True:
            if self._api_keys is not None:
                self._on_key(name)
                await self._api_keys.until_free(name)
            try:
                await self._adapters[name].start()
            except ExchangeError as error:
                self._show_account(name)
                note_exchange_error(self._metrics, name, error)
                self._not_started[name] = str(error)
                self._show_markets()
                log.warning("exchange_not_ready", exchange=name, error=str(error), retry_in_s=pause)
                await self._clock.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE_S)
            else:
                break
        self.started[name] = self._adapters[name]
        del self._not_started[name]
        self._market.begin(name)
        self._show_markets()
        self._show_account(name)
        log.info("exchange_started", exchange=name)

    def _on_key(self, name: str) -> None:
        """Show why an exchange does not start, where that is another worker's use of its key."""
        if name in self._not_started and self._api_keys is not None:
            self._not_started[name] = self._api_keys.reason(name) or "not yet"
            self._show_markets()

    async def _await_start(self, name: str) -> None:
        """Wait until one exchange has started; an error that makes that impossible is raised."""
        await self._starts[name]

    def _show_markets(self) -> None:
        waiting = "; ".join(f"{name}: {why}" for name, why in sorted(self._not_started.items()))
        self._health.set("markets", ok=not waiting, detail=waiting or "loaded")

    def _show_account(self, name: str) -> None:
        """Show what the account's settings at one exchange mean, where they were read."""
        findings = self._adapters[name].findings
        if not findings or findings == self._shown.get(name):
            return
        self._shown[name] = findings
        worse = [one for one in findings if one.level is not Level.OK]
        usable = all(one.level is not Level.FAIL for one in findings)
        detail = "; ".join(map(str, worse)) or "can be traded as it is set"
        self._health.set(f"account:{name}", ok=usable, detail=detail)
        for one in worse if name in self.started else ():
            log.warning("account_setting", exchange=name, setting=one.setting, says=one.sentence)

    async def _follow_clock(self, name: str) -> None:
        """Keep measuring one exchange's clock, from its start on."""
        await self._market.until_started(name)
        while True:
            try:
                measured = await self._adapters[name].measure_clock()
            except ExchangeError as error:
                note_exchange_error(self._metrics, name, error)
            else:
                self._metrics.clock_offset(name, measured.offset_ms / 1000)
            await self._clock.sleep(CLOCK_EVERY_S)

    async def _follow_orders(self, name: str) -> None:
        """Keep readiness up to date with whether one exchange can be sent orders."""
        await self._market.until_started(name)
        while True:
            obstacle = self._adapters[name].obstacle
            self._health.set(f"orders:{name}", ok=not obstacle, detail=obstacle or "can be sent")
            await self._clock.sleep(ORDERS_EVERY_S)

    async def _follow_markets(self, name: str) -> None:
        """Load one exchange's markets again from time to time, from its start on."""
        await self._market.until_started(name)
        every_s = self._sections[name].market_refresh_seconds
        wait_s = every_s
        while True:
            # Workers that were started together need not ask together.
            await self._clock.sleep(wait_s * self._random.uniform(0.9, 1.0))
            try:
                has_loaded = await self._adapters[name].refresh_markets()
                if has_loaded:
                    await self._adapters[name].refresh_findings()
            except ExchangeError as error:
                wait_s = min(every_s, MARKETS_AGAIN_S)
                note_exchange_error(self._metrics, name, error)
                log.warning(
                    "markets_not_refreshed", exchange=name, error=str(error), retry_in_s=wait_s
                )
            else:
                wait_s = every_s
                self._show_account(name)
                if has_loaded:
                    exempt_from_collection()


def note_exchange_error(metrics: Metrics, name: str, error: ExchangeError) -> None:
    """Count a failed call to exchange ``name`` that is simply repeated later."""
    metrics.exchange_error(name, error.outcome.value, type(error).__name__)
    log.debug("exchange_error", exchange=name, error=str(error), outcome=error.outcome.value)
