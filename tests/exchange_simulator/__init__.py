"""A simulated Binance (spot and USDⓈ-M futures) that real ccxt trades against, with faults.

``async with serve(Settings(symbols=50)) as server`` runs one in the test's own event loop;
``SimulatorThread`` and ``simulator_process`` run one beside a synchronous test.
"""

from tests.exchange_simulator.client import (
    ControlClient,
    ControlError,
    SimulatorThread,
    simulator_process,
)
from tests.exchange_simulator.faults import Rule
from tests.exchange_simulator.server import Server, serve
from tests.exchange_simulator.simulator import Settings, Simulator

__all__ = [
    "ControlClient",
    "ControlError",
    "Rule",
    "Server",
    "Settings",
    "Simulator",
    "SimulatorThread",
    "serve",
    "simulator_process",
]
