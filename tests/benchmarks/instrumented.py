"""A worker or a simulated exchange that notes when each order reaches it, and is the same else.

``python -m tests.benchmarks.instrumented run`` is ``python -m worker run`` with one line around
``PaperExchange.place_order`` and ``CCXTAdapter.place_order``; ``... simulator ARGUMENTS`` is the
exchange simulator with one around its intake of requests and of frames: both are noted once they
are read whole, before anything is looked at. The monotonic clock is the machine's, so times of
different processes compare. On exit the notes go to the file that ``BENCHMARK_TIMES`` names: a
list of (what, client order id, nanoseconds), msgpack.
"""

import asyncio
import os
import sys
import time
from pathlib import Path
from typing import Any, Final

import msgspec

TIMES: Final = "BENCHMARK_TIMES"
#: What a note is about.
REACHED, ANSWERED = "reached", "answered"
Note = tuple[str, str, int]
_notes: list[Note] = []


def read(path: Path) -> dict[str, dict[str, int]]:
    """The notes of an ended process: by what, the time of each client order id, nanoseconds."""
    found: dict[str, dict[str, int]] = {REACHED: {}, ANSWERED: {}}
    for what, client_id, at_ns in msgspec.msgpack.decode(path.read_bytes(), type=list[Note]):
        found[what][client_id] = at_ns
    return found


def _around_place_order(adapter: type[Any]) -> None:
    place = adapter.place_order

    async def place_order(self: Any, request: Any, window: Any) -> Any:
        _notes.append((REACHED, request.client_order_id, time.monotonic_ns()))
        report = await place(self, request, window)
        _notes.append((ANSWERED, request.client_order_id, time.monotonic_ns()))
        return report

    adapter.place_order = place_order


def _worker(arguments: list[str]) -> int:
    if os.environ.get("WORKER_MODE") == "live":
        from worker.exchanges.ccxt.adapter import CCXTAdapter  # noqa: PLC0415 (imports ccxt)

        _around_place_order(CCXTAdapter)
    else:
        from worker.paper.exchange import PaperExchange  # noqa: PLC0415

        _around_place_order(PaperExchange)
    from worker.cli.main import main  # noqa: PLC0415

    return main(arguments)


def _simulator(arguments: list[str]) -> int:
    from tests.exchange_simulator.__main__ import _main, _parser  # noqa: PLC0415
    from tests.exchange_simulator.simulator import Pending, Simulator  # noqa: PLC0415

    arrive, arrive_frame = Simulator.arrive, Simulator.arrive_frame

    def noting(
        self: Simulator, method: str, path: str, query: str, body: str, api_key: str | None
    ) -> Pending:
        at_ns = time.monotonic_ns()
        pending = arrive(self, method, path, query, body, api_key)
        if method == "POST":
            client_id = pending.params.get("newClientOrderId", "")
            _notes.append((REACHED, client_id, at_ns))
        return pending

    def noting_frame(self: Simulator, path: str, frame: dict[str, Any]) -> Pending:
        at_ns = time.monotonic_ns()
        pending = arrive_frame(self, path, frame)
        _notes.append((REACHED, pending.params.get("newClientOrderId", ""), at_ns))
        return pending

    Simulator.arrive = noting  # type: ignore[method-assign]
    Simulator.arrive_frame = noting_frame  # type: ignore[method-assign]
    asyncio.run(_main(_parser().parse_args(arguments)))
    return 0


def main(arguments: list[str]) -> int:
    """Run the worker or the simulator, and leave the notes behind."""
    try:
        if arguments[:1] == ["simulator"]:
            return _simulator(arguments[1:])
        return _worker(arguments)
    finally:
        Path(os.environ[TIMES]).write_bytes(msgspec.msgpack.encode(_notes))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
