"""A blocking client of the control API, and simulators to run beside a synchronous test."""

import asyncio
import contextlib
import http.client
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import urlencode, urlsplit

from tests.exchange_simulator.server import Server
from tests.exchange_simulator.simulator import Settings, Simulator

_ROOT = Path(__file__).resolve().parents[2]
_START_LIMIT_S = 30.0


class ControlError(Exception):
    """The simulator refused a control request."""


class ControlClient:
    """Calls ``/_sim/`` endpoints of a simulator in another thread or process.

    Args:
        url: where the simulator listens, ``http://host:port``.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._address = urlsplit(url)

    def call(self, method: str, name: str, /, **arguments: Any) -> Any:
        """Make one control request and return its JSON; raises ControlError when refused."""
        path, body = f"/_sim/{name}", None
        if method == "POST":
            body = json.dumps(arguments, default=str)
        elif arguments:
            path += "?" + urlencode(arguments)
        connection = http.client.HTTPConnection(
            self._address.hostname or "", self._address.port, timeout=30
        )
        with contextlib.closing(connection):
            connection.request(method, path, body, {"Content-Type": "application/json"})
            reply = connection.getresponse()
            data = json.loads(reply.read())
        if reply.status != 200:
            raise ControlError(f"{method} {path}: {data['error']}")
        return data

    def add_fault(self, **rule: Any) -> int:
        """Put a fault rule in force; returns its id."""
        return int(self.call("POST", "faults", **rule)["ids"][0])

    def clear_faults(self) -> None:
        """Take every fault rule out of force."""
        self.call("DELETE", "faults")

    def faults(self) -> list[dict[str, Any]]:
        """List fault rules with their counters."""
        return list(self.call("GET", "faults")["rules"])

    def orders(self, **narrow: Any) -> list[dict[str, Any]]:
        """List accepted orders; narrow by symbol, market, client_id, status, kind, since."""
        return list(self.call("GET", "orders", **narrow)["orders"])

    def duplicates(self) -> dict[str, list[dict[str, Any]]]:
        """Return client ids accepted more than once, with their orders."""
        return dict(self.call("GET", "duplicates")["duplicates"])

    def requests(self, recent: int = 0) -> dict[str, Any]:
        """Return request counts by endpoint and outcome, and the last ``recent`` requests."""
        return dict(self.call("GET", "requests", recent=recent))

    def set_price(self, symbol: str, price: Any = None, **more: Any) -> None:
        """Move a quote (market, bid, ask, spread_bps as in ``Simulator.set_price``)."""
        self.call("POST", "price", symbol=symbol, price=price, **more)

    def balances(self) -> dict[str, Any]:
        """Return spot balances, the futures wallet and the open positions."""
        return dict(self.call("GET", "balances"))

    def set_balances(self, spot: dict[str, Any] | None = None, futures_wallet: Any = None) -> None:
        """Set free spot balances and the futures wallet."""
        self.call("POST", "balances", spot=spot or {}, futures_wallet=futures_wallet)

    def set_clock_offset(self, offset_ms: int) -> None:
        """Shift the exchange's clock against this machine's."""
        self.call("POST", "clock", offset_ms=offset_ms)

    def fill(self, client_id: str, quantity: Any = None) -> dict[str, Any]:
        """Fill a resting order at its own price."""
        return dict(self.call("POST", "fill", client_id=client_id, quantity=quantity))

    def reset(self) -> None:
        """Forget everything."""
        self.call("POST", "reset")


class SimulatorThread:
    """A simulator on its own event loop in its own thread: ``with SimulatorThread() as sim``.

    Use ``url`` for the code under test and ``control`` for everything else; the ``Simulator``
    itself belongs to the other thread.
    """

    def __init__(self, settings: Settings | None = None) -> None:
        self._server = Server(Simulator(settings))
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="exchange-simulator", daemon=True)
        self._started = threading.Event()
        self._stop = asyncio.Event()
        self.control = ControlClient("")

    @property
    def url(self) -> str:
        """Where it listens."""
        return self._server.url

    def __enter__(self) -> "SimulatorThread":
        self._thread.start()
        if not self._started.wait(_START_LIMIT_S):
            raise RuntimeError("the simulator thread did not start")
        self.control = ControlClient(self.url)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(_START_LIMIT_S)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._main())

    async def _main(self) -> None:
        await self._server.start()
        self._started.set()
        await self._stop.wait()
        await self._server.stop()


@contextmanager
def simulator_process(*arguments: str) -> Iterator[ControlClient]:
    """Run ``python -m tests.exchange_simulator`` with ``arguments`` until the block ends."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.exchange_simulator", *arguments],
        cwd=_ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        line = process.stdout.readline() if process.stdout else ""
        if not line:
            raise RuntimeError(f"the simulator ended with {process.wait()} before it was ready")
        yield ControlClient(json.loads(line)["url"])
    finally:
        process.terminate()
        process.wait(_START_LIMIT_S)
        if process.stdout:
            process.stdout.close()
