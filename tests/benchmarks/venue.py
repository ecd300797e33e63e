"""The exchange simulator as a process of its own, and a worker that trades there through ccxt."""

from pathlib import Path
from typing import Any, Final

import msgspec

from tests.benchmarks.instrumented import TIMES
from tests.benchmarks.processes import Child, Stage

EXCHANGE: Final = "binance"
KEY, SECRET = "simulated-key-of-the-benchmarks", "simulated-secret-of-the-benchmarks"


class Ready(msgspec.Struct):
    """What the simulator says when it listens."""

    url: str


class Venue:
    """One simulator beside a stage's other processes.

    Args:
        where: the stage.
        symbols: generated markets beside the dozen well-known ones.
        notes: where it leaves the times at which orders reached it; it does not measure without.
    """

    def __init__(self, where: Stage, *, symbols: int = 0, notes: Path | None = None) -> None:
        arguments = [
            *("--symbols", str(symbols), "--api-key", KEY, "--secret", SECRET),
            *("--base-balance", "1000000"),
        ]
        command = ["-m", "tests.exchange_simulator", *arguments]
        if notes is not None:
            command = ["-m", "tests.benchmarks.instrumented", "simulator", *arguments]
        self.child: Child = where.start(command, {TIMES: str(notes)} if notes else None)
        where.until(lambda: self.child.log.read_bytes().endswith(b"\n"), child=self.child)
        self.url = msgspec.json.decode(self.child.log.read_bytes(), type=Ready).url

    def settings(self, order_transport: str = "rest") -> dict[str, Any]:
        """The worker settings that trade here."""
        exchange = f"exchanges__{EXCHANGE}"
        return {
            "mode": "live",
            "exchanges__paper__adapter": "",
            "exchanges__paper__paper__balance": "",
            f"{exchange}__adapter": "ccxt",
            f"{exchange}__api_key": KEY,
            f"{exchange}__secret": SECRET,
            f"{exchange}__base_url": self.url,
            f"{exchange}__ws_base_url": self.url.replace("http:", "ws:"),
            f"{exchange}__order_transport": order_transport,
        }


def symbol(number: int) -> str:
    """One of the generated markets."""
    return f"C{number:03}/USDT"
