"""The facts about a worker's process that its heartbeats show the fleet."""

import socket
from typing import Protocol

import msgspec

from worker import __version__
from worker.config.digest import config_digest
from worker.config.keys import Config
from worker.engine.engine import ExecutionEngine
from worker.keeper.office import Keeper
from worker.ledger.stored_format import FORMAT
from worker.observe.health import Health
from worker.pipeline.orders import OrderManager
from worker.pipeline.worker_state import WorkerState
from worker.runtime.clock import Clock, rfc3339

_encode = msgspec.json.Encoder().encode


class Parts(Protocol):
    """The parts of a worker that it reports on."""

    config: Config
    clock: Clock
    health: Health
    state: WorkerState
    orders: OrderManager
    keeper: Keeper


class SelfReport:
    """Builds the JSON of a heartbeat.

    Args:
        worker: reported on; its keeper may be added later than this is made.
    """

    def __init__(self, worker: Parts) -> None:
        self._worker = worker
        self._host = socket.gethostname()
        self._started_at = rfc3339(worker.clock.now_ms())
        self._config_digest = config_digest(worker.config)

    def __call__(self, engine: ExecutionEngine) -> bytes:
        """Return the facts of this moment."""
        worker = self._worker
        return _encode(
            {
                "in_flight": engine.in_flight,
                "concurrency": worker.config.worker.concurrency,
                "draining": engine.draining,
                "keeper": worker.keeper.is_keeper,
                "mode": worker.config.mode,
                "version": __version__,
                "format": FORMAT,
                "host": self._host,
                "started_at": self._started_at,
                "config_digest": self._config_digest,
                "trading_state": worker.state.trading_state.value,
                "loop_lag_ms": worker.health.loop_lag_ms,
                "not_ready": worker.health.failing(),
                "orders": worker.orders.statistics(),
            }
        )
