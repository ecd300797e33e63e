"""Where the time of one signal goes: each layer by itself, on batches of one call, in one process.

``python -m tests.benchmarks.stages``. The worker's own parts, put together as
``worker.assembly.worker`` does, but taken in step: all signals of a batch through one layer, then
through the next. What is timed is this process's own processor time; for the three scripts also the
server's, from ``INFO commandstats``, and the round trip. What the layers leave of a signal's whole
time is the event loop's: tasks, futures, waking up.
"""

import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from random import Random
from statistics import median
from typing import Any, Final, TypeVar

import uvloop

from tests.benchmarks import signals
from tests.benchmarks.processes import BenchmarkError, Stage, stage, worker_environment
from tests.benchmarks.report import Report, Table, options
from tests.benchmarks.wire import Wire
from worker.config.keys import Config
from worker.config.loading import load_config
from worker.domain.signal import Signal
from worker.engine.counting import count_end
from worker.engine.group_calls import MAX_BATCH
from worker.ledger.calls import RedisLedger
from worker.ledger.connection import Connections
from worker.ledger.replies import Delivery
from worker.ledger.scripts import RedisScripts
from worker.ledger.wire import Argument
from worker.market.data import MarketData, MarketView
from worker.observe.logs import configure_logging
from worker.observe.metrics import Metrics
from worker.paper.exchange import PaperExchange
from worker.paper.prices import SignalPrices
from worker.pipeline.custody import Custody
from worker.pipeline.execution import OrderExecutorHandler
from worker.pipeline.flow import (
    AdmittedOrder,
    Arrival,
    Proposal,
    Settlement,
    Submission,
    ValidSignal,
)
from worker.pipeline.orders import OrderManager
from worker.pipeline.pipeline import decode
from worker.pipeline.reconciliation import ReconciliationHandler
from worker.pipeline.risk import RiskManagementHandler
from worker.pipeline.settlement import SettlementWriter
from worker.pipeline.sizing import Sizing
from worker.pipeline.validation import ValidationHandler
from worker.pipeline.worker_state import WorkerState
from worker.runtime.clock import SystemClock
from worker.runtime.logger import LogSignal

NAME: Final = "stages"
BATCH: Final = MAX_BATCH
BATCHES, QUICK_BATCHES = 60, 10
#: The first batches load scripts and warm caches; they are not counted.
_WARM_UP: Final = 4
_WORKER: Final = "stages"
#: In the order a signal meets them; the scripts' calls are part of the layer before them in code,
#: and apart here.
LAYERS: Final[dict[str, str]] = {
    "claim": "claim: send, parse the reply",
    "deliver": "deliveries from the reply",
    "decode": "decode the signal",
    "digest": "digest of its content",
    "view": "market, price, balance",
    "validate": "validation stage",
    "risk": "risk stage: size, encode the record",
    "admit": "admit: send, parse the reply",
    "execute": "execution stage, paper order",
    "reconcile": "reconciliation stage",
    "write": "events, position, record",
    "encode": "encode the commit, read its answer",
    "commit": "commit: send, parse the reply",
    "report": "metrics and the log line",
}
_SCRIPTS: Final = ("claim", "admit", "commit")


class Clocks:
    """Processor time a layer, microseconds a signal; of scripts the server's and the trip's too."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self.cpu: dict[str, float] = dict.fromkeys(LAYERS, 0.0)
        self.server: dict[str, float] = dict.fromkeys(_SCRIPTS, 0.0)
        self.trip: dict[str, float] = dict.fromkeys(_SCRIPTS, 0.0)
        self._inside = 0.0

    @contextmanager
    def layer(self, name: str) -> Iterator[None]:
        """Time a whole batch's stay in one layer; a script's call inside counts for the script."""
        self._inside = 0.0
        started = time.thread_time()
        yield
        self.cpu[name] += (time.thread_time() - started - self._inside) * 1e6 / BATCH

    @contextmanager
    def script(self, name: str) -> Iterator[None]:
        """Time one call of a script."""
        whole = time.thread_time()
        before = self._server_us()
        cpu, wall = time.thread_time(), time.perf_counter()
        yield
        cpu, wall = time.thread_time() - cpu, time.perf_counter() - wall
        if name in _SCRIPTS:
            self.cpu[name] += cpu * 1e6 / BATCH
            self.trip[name] += wall * 1e6 / BATCH
            self.server[name] += (self._server_us() - before) / BATCH
        self._inside += time.thread_time() - whole

    def _server_us(self) -> float:
        """What scripts have taken on the server so far, microseconds."""
        rows = self._wire.info("commandstats")
        return sum(
            float(dict(part.split("=", 1) for part in row.split(","))["usec"])
            for name, row in rows.items()
            if name in {"cmdstat_evalsha", "cmdstat_eval"}
        )


class TimedScripts(RedisScripts):
    """The scripts, each call timed."""

    clocks: Clocks

    async def run(self, name: str, *arguments: Argument) -> Any:
        """Run one script."""
        with self.clocks.script(name):
            return await super().run(name, *arguments)

    async def run_durably(self, name: str, *arguments: Argument) -> Any:
        """Run one script and wait for replicas, of which there are none."""
        with self.clocks.script(name):
            return await super().run_durably(name, *arguments)


class Parts:
    """A worker's parts, put together for one batch at a time.

    Args:
        config: the worker's.
        clocks: what is told the times.
        log_signal: logs a signal's line.
    """

    def __init__(self, config: Config, clocks: Clocks, log_signal: LogSignal) -> None:
        clock = self.clock = SystemClock()
        self.clocks = clocks
        self.log_signal = log_signal
        self.connections = Connections(
            config.redis, key=signals.SIGNALS, name=_WORKER, timeout_s=5.0
        )
        scripts = TimedScripts(self.connections, signals=signals.SIGNALS)
        scripts.clocks = clocks
        self.ledger = RedisLedger(scripts, clock=clock, worker=_WORKER)
        self.metrics = Metrics(version="benchmark", mode=config.mode)
        orders = OrderManager()
        state = WorkerState()
        adapter = PaperExchange("paper", config.exchanges["paper"], clock)
        exchanges = {"paper": adapter}
        self.market = MarketData(
            exchanges,
            clock=clock,
            max_price_age_ms=5_000,
            max_balance_age_ms=30_000,
            on_error=_complain,
            prices={"paper": SignalPrices(adapter)},
        )
        self.validation = ValidationHandler(
            config.validation,
            exchanges=config.valid_exchanges,
            max_size_pct=config.risk.max_position_size_pct,
        )
        sizing = Sizing(config.risk, account=config.account)
        self.risk = RiskManagementHandler(
            config.risk, sizing=sizing, exchanges=exchanges, market=self.market, orders=orders
        )
        self.execution = OrderExecutorHandler(
            config.execution,
            exchanges=exchanges,
            ledger=self.ledger,
            orders=orders,
            state=state,
            clock=clock,
            random=Random(1),
            meter=self.metrics,
        )
        self.reconciliation = ReconciliationHandler(
            config.reconciliation, exchanges=exchanges, orders=orders, state=state, clock=clock
        )
        self.writer = SettlementWriter(
            account=config.account,
            worker=_WORKER,
            sizing=sizing,
            max_slippage_pct=config.reconciliation.max_price_slippage_pct,
            max_life_ms=config.max_life_s * 1000,
            clock=clock,
        )

    async def batch(self) -> None:
        """Take one batch through every layer.

        Raises:
            BenchmarkError: some signal did not get through.
        """
        layer = self.clocks.layer
        with layer("deliver"):
            deliveries = (await self.ledger.claim(BATCH)).deliveries
        if len(deliveries) != BATCH:
            raise BenchmarkError(f"{len(deliveries)} of {BATCH} signals were claimed")
        custodies = [
            Custody(delivery.entry_id, delivery.token, delivery.lease_mono_ms)
            for delivery in deliveries
        ]
        valid = await self._valid(deliveries)
        with layer("risk"):
            proposed = [self.risk.propose(*one) for one in zip(valid, custodies, strict=True)]
            proposals = _only(Proposal, proposed)
            asked_mono_ms = self.clock.monotonic_ms()
            answers = await self.ledger.admit([proposal.item for proposal in proposals])
            decided = [
                self.risk.decide(proposal, answer, asked_mono_ms, custody)
                for proposal, answer, custody in zip(proposals, answers, custodies, strict=True)
            ]
        orders = _only(AdmittedOrder, decided)
        with layer("execute"):
            sent = [
                await self.execution.handle(*one) for one in zip(orders, custodies, strict=True)
            ]
        submissions = _only(Submission, sent)
        with layer("reconcile"):
            settled = [
                await self.reconciliation.handle(*one)
                for one in zip(submissions, custodies, strict=True)
            ]
        ends = _only(Settlement, settled)
        with layer("write"):
            endings = [self.writer.settled(*one) for one in zip(ends, custodies, strict=True)]
        with layer("encode"):
            await self.ledger.commit([ending.item for ending in endings])
        with layer("report"):
            for ending in endings:
                count_end(self.metrics, ending.outcome, ending, 0.001)
                self.log_signal("signal_ended", {"outcome": ending.outcome, **ending.fields})

    async def _view(self, signal: Signal) -> MarketView:
        view = self.market.known(signal.exchange, signal.symbol, signal.entry_price)
        return await self.market.complete(view) if self.market.is_lacking(view) else view

    async def _valid(self, deliveries: Sequence[Delivery]) -> list[ValidSignal]:
        layer = self.clocks.layer
        with layer("decode"):
            read = [decode(delivery.fields) for delivery in deliveries]
        with layer("digest"):
            written = [signal.written() for signal in read]
            digests = [signal.digest(one) for signal, one in zip(read, written, strict=True)]
        with layer("view"):
            views = [await self._view(signal) for signal in read]
        arrivals = [
            Arrival(
                signal=signal,
                written=one,
                digest=digest,
                view=view,
                lifetime=self.validation.lifetime(signal),
                seen_ms=self.clock.now_ms(),
            )
            for signal, one, digest, view in zip(read, written, digests, views, strict=True)
        ]
        with layer("validate"):
            valid = [self.validation.check(arrival) for arrival in arrivals]
        return _only(ValidSignal, valid)


def _complain(name: str, error: Exception) -> None:
    raise BenchmarkError(f"{name}: {error}") from error


T = TypeVar("T")


def _only(kind: type[T], found: Sequence[object]) -> list[T]:
    good = [one for one in found if isinstance(one, kind)]
    if len(good) != len(found):
        raise BenchmarkError(f"a signal ended early: {found[0]!r}")
    return good


async def _run(where: Stage, batches: int, number: int, log_signal: LogSignal) -> Clocks:
    """One run: its layers' times, microseconds a signal."""
    payloads = signals.backlog((batches + _WARM_UP) * BATCH, f"s{number}", symbols=BATCH)
    where.wire.pour(signals.commands(payloads))
    config = load_config(None, worker_environment(where.server.url, 0))
    with Wire(where.server.port) as wire:
        parts = Parts(config, Clocks(wire), log_signal)
        for n in range(batches + _WARM_UP):
            if n == _WARM_UP:
                counted = Clocks(wire)
                parts.clocks = counted
                parts.ledger._scripts.clocks = counted  # type: ignore[attr-defined]
            await parts.batch()
        await parts.connections.close()
    for times in (counted.cpu, counted.server, counted.trip):
        for name in times:
            times[name] /= batches
    return counted


def main(argv: Sequence[str] | None = None) -> None:
    """Run the benchmark."""
    chosen = options(NAME, __doc__, argv)
    batches = QUICK_BATCHES if chosen.quick else BATCHES
    report = Report(NAME, chosen)
    with tempfile.TemporaryFile("w") as lines:
        config = load_config(None, {"WORKER_LOG__FORMAT": "json"})
        log_signal = configure_logging(config.log, lines, ())
        for number in range(chosen.runs):
            with stage(chosen.server) as where, report.meter.around():
                where.make_group()
                report.server = where.server_name()
                clocks = uvloop.run(_run(where, batches, number, log_signal))
            for name, value in clocks.cpu.items():
                report.add(f"{name}: cpu", "µs/signal", value)
            for name in _SCRIPTS:
                report.add(f"{name}: server", "µs/signal", clocks.server[name])
                report.add(f"{name}: round trip", "µs/signal", clocks.trip[name])
            report.progress(f"run {number + 1}/{chosen.runs}")
    report.tables.append(_table(report))
    report.finish()


def _table(report: Report) -> Table:
    def middle(name: str) -> float:
        return median(report.values(name))

    whole = sum(middle(f"{name}: cpu") for name in LAYERS)
    rows = []
    for name, title in LAYERS.items():
        values = report.values(f"{name}: cpu")
        both = ("server", "round trip") if name in _SCRIPTS else ()
        rows.append(
            [
                title,
                f"{median(values):.1f}",
                f"{min(values):.1f} to {max(values):.1f}",
                f"{median(values) / whole:.0%}",
                *([f"{middle(f'{name}: {what}'):.1f}" for what in both] or ["", ""]),
            ]
        )
    server = sum(middle(f"{name}: server") for name in _SCRIPTS)
    trips = sum(middle(f"{name}: round trip") for name in _SCRIPTS)
    rows.append(["all layers", f"{whole:.1f}", "", "", f"{server:.1f}", f"{trips:.1f}"])
    return Table(
        name=NAME,
        title=f"Where the time of one signal goes, microseconds a signal in batches of {BATCH}",
        columns=["layer", "worker CPU", "runs", "share", "server", "round trip"],
        rows=rows,
        note="Server: the script's own time by INFO commandstats. Round trip: from the call to the "
        "parsed reply, the worker's and the server's part included.",
    )


if __name__ == "__main__":
    main(sys.argv[1:])
