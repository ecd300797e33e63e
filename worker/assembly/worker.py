"""The only place where the parts of a worker are put together."""

import asyncio
import os
import secrets
import signal
import socket
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial
from random import Random
from typing import TYPE_CHECKING

import msgspec

from worker import __version__
from worker.assembly.api_keys import ApiKeys
from worker.assembly.backing import Backing, MemoryBacking, in_redis, ledger_terms
from worker.assembly.budget_sharing import SharedBudgets
from worker.assembly.exchange_supervisor import ExchangeSupervisor, note_exchange_error
from worker.assembly.factory import ExchangeFactory
from worker.assembly.introduction import introduce
from worker.assembly.people import duties_to_people
from worker.assembly.self_report import SelfReport
from worker.assembly.stages import Stages
from worker.config.keys import Config, Secret
from worker.domain.money import use_exact_arithmetic
from worker.engine.engine import ExecutionEngine, SideTask
from worker.keeper.comparison import Comparison
from worker.keeper.duties.adopt import AdoptUnresolved
from worker.keeper.duties.compare import CompareBooks
from worker.keeper.duties.mark import MarkAccount
from worker.keeper.duties.publish import PublishAccount
from worker.keeper.duties.sweep import Sweep
from worker.keeper.duties.trim_letters import TrimLetters
from worker.keeper.office import Keeper
from worker.keeper.readiness import CHECK as RECONCILIATION
from worker.keeper.readiness import Readiness
from worker.market.data import MarketData
from worker.observe.health import Health, loop_monitor
from worker.observe.http import HttpServer
from worker.observe.metrics import Metrics
from worker.observe.notify import Notifier
from worker.observe.tracing import Tracing, tracing_of
from worker.paper.account import PaperAccount
from worker.paper.fleet_orders import FleetOrders
from worker.pipeline.orders import OrderManager
from worker.pipeline.worker_state import WorkerState
from worker.runtime.cancellation import cancel_all
from worker.runtime.clock import Clock, SystemClock
from worker.runtime.embedded_server import EmbeddedServer
from worker.runtime.errors import ConfigError
from worker.runtime.garbage_collector import calm_garbage_collector
from worker.runtime.logger import LogSignal, get_logger, log_signal

if TYPE_CHECKING:
    from worker.ledger.memory.account import MemoryAccount

log = get_logger()

#: How long the exchanges wait for the ledger before they start all the same, seconds.
INTRODUCTION_S = 2.0


def consumer_name() -> str:
    """``<host>-<pid>-<4 hex>``: new for every process."""
    host = socket.gethostname().split(".")[0] or "host"
    return f"{host}-{os.getpid()}-{secrets.token_hex(2)}"


class Worker:
    """One process's parts, wired; :meth:`run` is its whole life.

    Parts are built in the order in which they need each other: what observes the worker, the
    ledger with its connections to Redis, the exchanges (simulated ones read the account from the
    ledger), market data, the engine with its pipeline, the supervisor that starts the exchanges,
    and the keeper.

    Args:
        config: the whole configuration.
        clock: this machine's clocks unless given.
        account: keeps the ledger in this process instead of Redis, for tests.
        tracing: as configured unless given.
        log_signal: logs the one line of every signal.
    """

    def __init__(
        self,
        config: Config,
        *,
        clock: Clock | None = None,
        account: "MemoryAccount | None" = None,
        tracing: Tracing | None = None,
        log_signal: LogSignal = log_signal,
    ) -> None:
        self.config = config
        self._log_signal = log_signal
        self.name = consumer_name()
        self.tracing = tracing or tracing_of(
            config.tracing, account=config.account, worker=self.name, version=__version__
        )
        self.clock = clock or SystemClock()
        self.random = Random(config.worker.seed)  # noqa: S311 (jitter, not secrets)
        self.metrics = Metrics(version=__version__, mode=config.mode, account=config.account)
        self.health = Health(self.clock, ("redis", "group", "markets", RECONCILIATION))
        self.state = WorkerState()
        self.orders = OrderManager(clock=self.clock)
        self.budgets = SharedBudgets()
        self.backing = self._backing(account)
        self.ledger = self.backing.ledger
        self.factory = ExchangeFactory(
            config,
            self.clock,
            account=PaperAccount(self.ledger),
            resting=FleetOrders(self.backing.resting, self.clock),
        )
        self.adapters = self.factory.all()
        self.budgets.attach(self.adapters.values(), self.ledger, self.metrics)
        self.market = MarketData(
            self.adapters,
            clock=self.clock,
            max_price_age_ms=config.validation.max_price_age_seconds * 1000,
            max_balance_age_ms=config.risk.max_balance_age_seconds * 1000,
            on_error=partial(note_exchange_error, self.metrics),
            prices=self.factory.price_sources,
            starting=self.adapters,
        )
        self.engine = self._engine()
        self.metrics.in_flight_from(lambda: self.engine.in_flight)
        self.api_keys = ApiKeys(
            self.adapters,
            sections=config.exchanges,
            account=config.account,
            ledger=self.ledger,
            clock=self.clock,
        )
        self.supervisor = ExchangeSupervisor(
            self.adapters,
            sections=config.exchanges,
            market=self.market,
            metrics=self.metrics,
            health=self.health,
            clock=self.clock,
            random=self.random,
            stopping=self.engine.stopping,
            api_keys=self.api_keys,
        )
        self.notifier = Notifier(os.environ)
        self.keeper = self._keeper()

    def _backing(self, account: "MemoryAccount | None") -> Backing:
        config, metrics = self.config, self.metrics
        terms = ledger_terms(
            config, worker=self.name, clock=self.clock, budgets=self.budgets, metrics=metrics
        )
        if account is not None:
            return MemoryBacking(account, terms)
        return in_redis(config, terms, metrics=metrics, random=self.random)

    def _engine(self) -> ExecutionEngine:
        config, clock = self.config, self.clock
        stages = Stages(
            config,
            worker=self.name,
            exchanges=self.adapters,
            market=self.market,
            ledger=self.ledger,
            orders=self.orders,
            state=self.state,
            clock=clock,
            random=self.random,
            meter=self.metrics,
        )
        return ExecutionEngine(
            ledger=self.ledger,
            pipeline=stages.pipeline(),
            follow=stages.follow_orders(),
            state=self.state,
            metrics=self.metrics,
            health=self.health,
            clock=clock,
            concurrency=config.worker.concurrency,
            drain_s=config.worker.drain_seconds,
            status=SelfReport(self),
            tracing=self.tracing,
            log_signal=self._log_signal,
        )

    def _keeper(self) -> Keeper:
        compare = CompareBooks(self.new_comparison)
        retention_ms = self.config.redis.signal_retention_seconds * 1000
        return Keeper(
            ledger=self.ledger,
            duties=[
                compare,
                AdoptUnresolved(self.ledger, self.engine),
                PublishAccount(self.ledger, self.metrics),
                MarkAccount(
                    self.ledger,
                    self.market,
                    self.supervisor.started,
                    lambda: compare.comparison,
                    self.config.risk.account_limits,
                    self.clock,
                ),
                Sweep(self.ledger, retention_ms, self.metrics),
                TrimLetters(self.ledger, self.config, self.metrics, self.clock),
                *duties_to_people(self.config, self.backing, self.clock),
            ],
            readiness=Readiness(compare, self.health),
            drain=self.engine,
            metrics=self.metrics,
            clock=self.clock,
            # The keeper asks every exchange; whoever may not must leave that to others.
            stands=lambda: not self.api_keys.is_waiting,
        )

    def new_comparison(self) -> Comparison:
        """Return the comparison of the book with the exchanges for one term of the keeper."""
        return Comparison(
            ledger=self.ledger,
            exchanges=self.adapters,
            adapters=self.supervisor.started,
            metrics=self.metrics,
            clock=self.clock,
            account=self.config.account,
        )

    async def run(self) -> int:
        """Serve HTTP, start the exchanges, work until stopped; returns the exit code."""
        config = self.config
        self.health.set("draining", ok=True, detail="no")
        async with AsyncExitStack() as stack:
            if self.tracing is not None:
                stack.push_async_callback(asyncio.to_thread, self.tracing.close)
            stack.push_async_callback(self.close)
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
                redis=self.backing.address,
                exchanges=sorted(self.adapters),
                version=__version__,
            )
            monitor = asyncio.create_task(
                loop_monitor(self.clock, self.health, self.metrics.loop_lag)
            )
            stack.callback(monitor.cancel)
            if self.notifier.listening:
                notify = asyncio.create_task(self.notifier.follow(self.health, self.clock))
                stack.callback(notify.cancel)
                stack.callback(self.notifier.close)
            stack.push_async_callback(self.supervisor.stop)
            await self.trade(on_start=calm_garbage_collector)
            log.info("worker_stopped", orders=self.orders.statistics())
        return 0

    async def close(self) -> None:
        """Close the exchanges and the connections to the ledger."""
        try:
            await self.factory.close()
        finally:
            await self.backing.close()

    async def trade(self, *, on_start: Callable[[], None] = lambda: None) -> None:
        """Start the exchanges, then work until stopped; what a process needs besides is not here.

        Args:
            on_start: called once every exchange that is needed has started.
        """
        introduction = asyncio.create_task(introduce(self))
        try:
            # An exchange may want nothing to be asked for now: the ledger knows it.
            await asyncio.wait({introduction}, timeout=INTRODUCTION_S)
            if introduction.done():
                introduction.result()  # an account that this version must leave alone
            if await self.supervisor.start() and await introduction:
                on_start()
                await self.engine.run(self._side_tasks())
        finally:
            await cancel_all([introduction])

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
        # Logged in the next iteration of the loop, when the waiting claim's connection is closed:
        # from then on nothing new is taken.
        note = partial(log.info, "stopping", signal=signal.Signals(number).name)
        asyncio.get_running_loop().call_soon(note)

    def _side_tasks(self) -> list[SideTask]:
        tasks = [*self.factory.side_tasks(), *self.supervisor.side_tasks()]
        return [("keeper", self.keeper.run), *tasks]


async def run_worker(config: Config, log_signal: LogSignal) -> int:
    """Run one worker until it is told to stop.

    Args:
        config: all of it.
        log_signal: logs the one line of every signal.

    Returns:
        The exit code.

    Raises:
        ConfigError: the configuration cannot be served.
        InvariantError: something that cannot happen has happened.
    """
    use_exact_arithmetic()
    if config.redis.url.reveal() != "embedded":
        return await Worker(config, log_signal=log_signal).run()
    with EmbeddedServer() as server:
        redis = msgspec.structs.replace(config.redis, url=Secret(server.url))
        log.info("embedded_server", url=server.url)
        return await Worker(
            msgspec.structs.replace(config, redis=redis), log_signal=log_signal
        ).run()
