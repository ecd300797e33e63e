"""The only place where the parts of a worker are put together."""

import asyncio
import gc
import os
import secrets
import signal
import socket
from collections.abc import Mapping
from contextlib import AsyncExitStack
from decimal import Decimal
from functools import partial
from random import Random
from typing import Final

import msgspec

from worker import __version__
from worker.cancellation import cancel_all
from worker.clock import Clock, SystemClock, utc
from worker.config import Config, Secret
from worker.domain.market import ExchangePosition, MarketKind
from worker.domain.signature import Signatures
from worker.engine import ExecutionEngine, SideTask
from worker.errors import ConfigError
from worker.exchanges.base import ExchangeAdapter, ExchangeError, Outcome
from worker.exchanges.factory import ExchangeFactory
from worker.keeper import CHECK as RECONCILIATION
from worker.keeper import Keeper
from worker.ledger.calls import Ledger
from worker.ledger.connection import Connections
from worker.ledger.embedded import EmbeddedServer
from worker.ledger.errors import LedgerError
from worker.ledger.lease import Lease
from worker.ledger.scripts import RedisScripts
from worker.logger import Tell, get_logger, tell
from worker.market_data import MarketData
from worker.observe.http import Health, HttpServer, loop_monitor
from worker.observe.metrics import Metrics
from worker.observe.notify import Notifier
from worker.observe.tracing import Tracing, tracing_of
from worker.orders import OrderManager
from worker.pipeline import ExecutionPipeline
from worker.stages.execution import OrderExecutorHandler
from worker.stages.outcome import Scribe
from worker.stages.reconciliation import ReconciliationHandler
from worker.stages.risk import RiskManagementHandler
from worker.stages.sizing import Sizing
from worker.stages.validation import ValidationHandler

log = get_logger(__name__)

#: Pause between attempts to start an exchange, growing to the longest.
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 30.0
CLOCK_EVERY_S: Final = 30.0
#: How often it is looked whether orders can be sent.
ORDERS_EVERY_S: Final = 1.0
#: Objects made and kept before the youngest are looked through for cycles.
GC_ALLOCATIONS: Final = 20_000
#: Markets that could not be loaded anew are asked for again after this.
MARKETS_AGAIN_S: Final = 60.0
_encode = msgspec.json.Encoder().encode


def consumer_name() -> str:
    """``<host>-<pid>-<4 hex>``: new for every process."""
    host = socket.gethostname().split(".")[0] or "host"
    return f"{host}-{os.getpid()}-{secrets.token_hex(2)}"


class Worker:
    """One process's parts, wired; :meth:`run` is its whole life."""

    def __init__(
        self,
        config: Config,
        *,
        clock: Clock | None = None,
        tracing: Tracing | None = None,
        tell: Tell = tell,
    ) -> None:
        self.config = config
        self._tell = tell
        self.name = consumer_name()
        self.tracing = tracing or tracing_of(
            config.tracing, account=config.account, worker=self.name, version=__version__
        )
        self.clock = clock or SystemClock()
        self.random = Random(config.worker.seed)  # noqa: S311 (jitter, not secrets)
        self.metrics = Metrics(version=__version__, mode=config.mode)
        self.health = Health(self.clock)
        self.orders = OrderManager(clock=self.clock)
        signals = f"{{{config.account}}}:signals"
        lease_ms = int(config.worker.lease_seconds * 1000)
        self.connections = Connections(
            config.redis,
            key=signals,
            name=self.name,
            timeout_s=min(5.0, config.worker.lease_seconds / 3),
        )
        scripts = RedisScripts(
            self.connections,
            signals=signals,
            replicas=config.redis.replicas_required,
            replicas_timeout_ms=config.redis.replicas_timeout_ms,
            patience_s=config.worker.lease_seconds / 3,
        )
        scripts.on_error = lambda error: self.metrics.ledger_error(error.kind)
        #: The signals in hand, by entry id: the engine's.
        self._held: dict[str, Lease] = {}
        self.ledger = Ledger(
            scripts,
            clock=self.clock,
            worker=self.name,
            lease_ms=lease_ms,
            retention_ms=config.redis.record_retention_seconds * 1000,
            output_length=config.redis.output_max_length,
            max_waiting=config.worker.max_waiting,
            crowd=self._held,
        )
        self.factory = ExchangeFactory(
            config, self.clock, holdings=self._holdings, positions=self._positions
        )
        self.adapters = self.factory.all()
        self.market = MarketData(
            self.adapters,
            clock=self.clock,
            max_price_age_ms=config.validation.max_price_age_seconds * 1000,
            max_balance_age_ms=config.risk.max_balance_age_seconds * 1000,
            on_error=self._note_exchange_error,
            starting=self.adapters,
        )
        #: The exchanges that have started, and what is in the others' way.
        self.started: dict[str, ExchangeAdapter] = {}
        self._not_started = dict.fromkeys(self.adapters, "not yet")
        self._starts: dict[str, asyncio.Task[None]] = {}
        self.engine = self._engine()
        self.metrics.in_flight_from(lambda: self.engine.in_flight)
        self.ledger.on_batch = self._note_batch
        self.connections.on_connect = self.metrics.ledger_reconnect
        self.notifier = Notifier(os.environ)
        self.keeper = Keeper(
            ledger=self.ledger,
            exchanges=self.adapters,
            adapters=self.started,
            hands=self.engine,
            metrics=self.metrics,
            health=self.health,
            clock=self.clock,
            account=config.account,
            signal_retention_ms=config.redis.signal_retention_seconds * 1000,
        )

    def _engine(self) -> ExecutionEngine:
        config, clock = self.config, self.clock
        validation = ValidationHandler(
            config.validation,
            exchanges=config.valid_exchanges,
            max_size_pct=config.risk.max_position_size_pct,
            clock=clock,
        )
        sizing = Sizing(config.risk, account=config.account)
        risk = RiskManagementHandler(
            config.risk, sizing=sizing, ledger=self.ledger, orders=self.orders, clock=clock
        )
        execution = OrderExecutorHandler(
            config.execution,
            ledger=self.ledger,
            orders=self.orders,
            clock=clock,
            random=self.random,
            meter=self.metrics,
            draining=lambda: self.engine.draining,
        )
        reconciliation = ReconciliationHandler(
            config.reconciliation, orders=self.orders, clock=clock
        )
        scribe = Scribe(
            account=config.account,
            worker=self.name,
            sizing=sizing,
            max_slippage_pct=config.reconciliation.max_price_slippage_pct,
            clock=clock,
        )
        pipeline = ExecutionPipeline(
            signatures=Signatures(
                account=config.account,
                keys=config.signatures.signing_keys,
                required=config.validation.require_signature,
                now=lambda: utc(clock.now_ms()),
            ),
            market=self.market,
            validation=validation,
            risk=risk,
            execution=execution,
            reconciliation=reconciliation,
            scribe=scribe,
            clock=clock,
            max_deliveries=config.worker.max_deliveries,
            skew_margin_ms=config.execution.skew_margin_ms,
            watch=self.tracing.watch(self.metrics.watch) if self.tracing else self.metrics.watch,
            crowd=self._held,
        )
        return ExecutionEngine(
            ledger=self.ledger,
            pipeline=pipeline,
            scribe=scribe,
            metrics=self.metrics,
            health=self.health,
            clock=clock,
            concurrency=config.worker.concurrency,
            drain_s=config.worker.drain_seconds,
            status=self._status,
            held=self._held,
            tracing=self.tracing,
            tell=self._tell,
        )

    async def run(self) -> int:
        """Serve, start the exchanges, work until stopped, leave; returns the exit code."""
        config = self.config
        for check in ("redis", "group", "markets", RECONCILIATION):
            self.health.set(check, ok=False, detail="not yet")
        self.health.set("draining", ok=True, detail="no")
        async with AsyncExitStack() as stack:
            if self.tracing is not None:
                stack.push_async_callback(asyncio.to_thread, self.tracing.close)
            stack.push_async_callback(self.connections.close)
            stack.push_async_callback(self.factory.close)
            self._listen_for_signals()  # before anybody can see that there is a process to stop
            if config.http.host:
                server = self._serve()
                stack.callback(server.close)
                log.info("http_listening", host=config.http.host, port=server.port)
            log.info(
                "worker_started",
                worker=self.name,
                account=config.account,
                mode=config.mode,
                redis=self.connections.address,
                exchanges=sorted(self.adapters),
                version=__version__,
            )
            monitor = asyncio.create_task(loop_monitor(self.clock, self.health, self.metrics))
            stack.callback(monitor.cancel)
            if self.notifier.listening:
                notify = asyncio.create_task(self.notifier.follow(self.health, self.clock))
                stack.callback(notify.cancel)
                stack.callback(self.notifier.close)
            stack.push_async_callback(self._stop_starting)
            introduction = asyncio.create_task(self.engine.introduce())
            stack.push_async_callback(cancel_all, [introduction])
            if await self._start_exchanges():
                await introduction
                _calm_garbage_collector()
                await self.engine.run(self._side_tasks())
            log.info("worker_stopped", orders=self.orders.statistics())
        return 0

    def _serve(self) -> HttpServer:
        """Listen where configured; a second worker on one machine takes a free port instead."""
        http = self.config.http
        try:
            return HttpServer(http, self.health, self.metrics)
        except ConfigError as error:
            if error.key != "http.port":
                raise
            log.warning("http_port_taken", error=str(error), instead="a free port")
            free = msgspec.structs.replace(http, port=0)
            return HttpServer(free, self.health, self.metrics)

    def _listen_for_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal, number)

    def _on_signal(self, number: signal.Signals) -> None:
        self.notifier.stopping()
        self.metrics.draining()
        self.engine.stop()
        # In the next turn, when the waiting claim's connection is closed: from here on nothing new
        # is taken.
        said = partial(log.info, "stopping", signal=signal.Signals(number).name)
        asyncio.get_running_loop().call_soon(said)

    async def _start_exchanges(self) -> bool:
        """Start the exchanges, trying for as long as it takes; False if stopped meanwhile.

        Returns as soon as one of them works; the others go on starting beside the signals.
        """
        self._starts = {
            name: asyncio.create_task(self._start(name), name=f"start:{name}")
            for name in self.adapters
        }
        self._show_markets()
        if not self._starts:
            return True
        stopped = asyncio.create_task(self.engine.stopping())
        await asyncio.wait({stopped, *self._starts.values()}, return_when=asyncio.FIRST_COMPLETED)
        has_stopped = stopped.done()
        stopped.cancel()
        ended = [task for task in self._starts.values() if task.done()]
        if has_stopped or any(task.exception() for task in ended):
            await self._stop_starting()
        for task in ended:
            task.result()
        return not has_stopped

    async def _stop_starting(self) -> None:
        await cancel_all(self._starts.values())

    async def _start(self, name: str) -> None:
        pause = FIRST_PAUSE_S
        while True:
            try:
                await self.adapters[name].start()
            except ExchangeError as error:
                self._note_exchange_error(name, error)
                self._not_started[name] = str(error)
                self._show_markets()
                log.warning("exchange_not_ready", exchange=name, error=str(error), retry_in_s=pause)
                await self.clock.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE_S)
            else:
                break
        self.started[name] = self.adapters[name]
        del self._not_started[name]
        self.market.begin(name)
        self._show_markets()
        log.info("exchange_started", exchange=name)

    def _show_markets(self) -> None:
        waiting = "; ".join(f"{name}: {why}" for name, why in sorted(self._not_started.items()))
        self.health.set("markets", ok=not waiting, detail=waiting or "loaded")

    def _side_tasks(self) -> list[SideTask]:
        tasks: list[SideTask] = [("keeper", self.keeper.run)]
        for name, adapter in self.adapters.items():
            section = self.config.exchanges[name]
            tasks.append((f"start:{name}", lambda name=name: self._starts[name]))  # type: ignore[misc]
            tasks.append(
                (
                    f"balance:{name}",
                    lambda name=name, every=section.balance_refresh_seconds: (  # type: ignore[misc]
                        self.market.follow_balance(name, every)
                    ),
                )
            )
            if not adapter.prices_in_memory:
                tasks.append(
                    (
                        f"prices:{name}",
                        lambda name=name, every=section.ticker_refresh_seconds: (  # type: ignore[misc]
                            self.market.follow_prices(name, every)
                        ),
                    )
                )
            tasks.append((f"markets:{name}", lambda name=name: self._follow_markets(name)))  # type: ignore[misc]
            if not adapter.simulated:
                tasks.append((f"clock:{name}", lambda name=name: self._follow_clock(name)))  # type: ignore[misc]
                if section.order_transport == "websocket":
                    tasks.append((f"orders:{name}", lambda name=name: self._follow_orders(name)))  # type: ignore[misc]
        return tasks

    async def _follow_clock(self, name: str) -> None:
        """Keep measuring one exchange's clock, from its start on."""
        await self.market.until_started(name)
        while True:
            try:
                measured = await self.adapters[name].measure_clock()
            except ExchangeError as error:
                self._note_exchange_error(name, error)
            else:
                self.metrics.clock_offset(name, measured.offset_ms / 1000)
            await self.clock.sleep(CLOCK_EVERY_S)

    async def _follow_orders(self, name: str) -> None:
        """Tell whether orders can be sent, where that takes a connection made beforehand."""
        await self.market.until_started(name)
        while True:
            obstacle = self.adapters[name].obstacle
            self.health.set(f"orders:{name}", ok=not obstacle, detail=obstacle or "can be sent")
            await self.clock.sleep(ORDERS_EVERY_S)

    async def _follow_markets(self, name: str) -> None:
        """Load one exchange's markets anew from time to time, from its start on."""
        await self.market.until_started(name)
        every_s = self.config.exchanges[name].market_refresh_seconds
        wait_s = every_s
        while True:
            # Workers that were started together need not ask together.
            await self.clock.sleep(wait_s * self.random.uniform(0.9, 1.0))
            try:
                await self.adapters[name].refresh_markets()
            except ExchangeError as error:
                wait_s = min(every_s, MARKETS_AGAIN_S)
                self._note_exchange_error(name, error)
                log.warning(
                    "markets_not_refreshed", exchange=name, error=str(error), retry_in_s=wait_s
                )
            else:
                wait_s = every_s
                if not self.adapters[name].simulated:
                    gc.freeze()  # the new markets too stay out of every collection

    def _note_exchange_error(self, name: str, error: ExchangeError) -> None:
        self.metrics.exchange_error(name, error.outcome.value, type(error).__name__)
        log.debug("exchange_error", exchange=name, error=str(error), outcome=error.outcome.value)

    def _note_batch(self, step: str, size: int, seconds: float) -> None:
        self.metrics.batch(step, size)
        self.metrics.stage(step, seconds)

    def _status(self, engine: ExecutionEngine) -> bytes:
        """What the heartbeat tells the fleet about this process."""
        return _encode(
            {
                "in_flight": engine.in_flight,
                "concurrency": self.config.worker.concurrency,
                "draining": engine.draining,
                "keeper": self.keeper.is_keeper,
                "mode": self.config.mode,
                "version": __version__,
                "orders": self.orders.statistics(),
            }
        )

    async def _holdings(self, _exchange: str) -> Mapping[str, Decimal]:
        """How far all workers' simulated trading has moved each quote currency."""
        try:
            account = await self.ledger.account()
        except LedgerError as error:
            raise ExchangeError(str(error), outcome=Outcome.NOT_SENT, code="ledger") from error
        currencies = account.realized.keys() | account.exposure.keys()
        return {
            currency: account.realized.get(currency, Decimal(0))
            - account.exposure.get(currency, Decimal(0))
            for currency in currencies
        }

    async def _positions(self, exchange: str) -> list[ExchangePosition]:
        """What a simulated exchange would report: the book's own derivative positions."""
        try:
            book = await self.ledger.book()
        except LedgerError as error:
            raise ExchangeError(str(error), outcome=Outcome.NOT_SENT, code="ledger") from error
        found = []
        for position in book.positions.values():
            adapter: ExchangeAdapter | None = self.adapters.get(exchange)
            info = adapter.get_symbol_info(position.symbol) if adapter else None
            if position.exchange == exchange and info and info.kind is MarketKind.LINEAR:
                found.append(
                    ExchangePosition(
                        symbol=position.symbol,
                        direction=position.direction,
                        quantity=position.quantity,
                        entry_price=position.entry_price,
                    )
                )
        return found


def _calm_garbage_collector() -> None:
    """Leave what is here for good (code, markets) out of every collection, and collect less often.

    A signal makes hundreds of objects and next to no cycles; the default looks for some after each
    700 that stay, and a full look with an exchange's markets loaded takes tens of milliseconds.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_ALLOCATIONS, 20, 50)


async def run_worker(config: Config, tell: Tell) -> int:
    """Run one worker until it is told to stop.

    Args:
        config: all of it.
        tell: logs the one line of every signal.

    Returns:
        The exit code.

    Raises:
        ConfigError: the configuration cannot be served.
        InvariantError: something that cannot happen has happened.
    """
    if config.redis.url.reveal() != "embedded":
        return await Worker(config, tell=tell).run()
    with EmbeddedServer() as server:
        redis = msgspec.structs.replace(config.redis, url=Secret(server.url))
        log.info("embedded_server", url=server.url)
        return await Worker(msgspec.structs.replace(config, redis=redis), tell=tell).run()
