"""Fuzzes the replies of an exchange: one place of a good reply is replaced by something hostile.

``python -m tests.fuzz.replies --seconds 600 --seed 7`` runs through all exchanges in turn; a
failure says with which seed and turn it is found again.

What must hold: a call ends with a report or with an error of the adapter's own; nothing that
cannot be true is in a report; a reply that was not understood is no refusal of the order, and no
proof that there is none.
"""

import argparse
import asyncio
import json
import random
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any, Final

from tests.exchange_simulator.alterations import Path, altered, places
from tests.exchange_simulator.server import Server
from tests.exchange_simulator.simulator import Pending
from tests.exchanges.bench import lifted_limits
from tests.exchanges.venues import SPACES, VENUES, Venue
from worker.domain.market import MarketKind
from worker.domain.order import OrderReport, OrderRequest, OrderState, Role, Side
from worker.domain.signal import OrderType, TimeInForce
from worker.exchanges.ccxt.adapter import CCXTAdapter
from worker.exchanges.discovery import adapter_class
from worker.exchanges.errors import ExchangeError, OrderNotFoundError, Outcome
from worker.runtime.clock import SystemClock

D = Decimal
#: Texts that stand in the reply instead of what was there.
HOSTILE: Final = (
    *(
        "null",
        "true",
        '""',
        '"x"',
        "[1]",
        '{"a": {}}',
        "-1",
        '"-1"',
        "0",
        '"0"',
        "NaN",
        "-Infinity",
    ),
    *("1e999", '"NaN"', '"Infinity"', "1e999999999", '"1e999999999"', '"1e-999999999"', '"1e400"'),
    *('"-0.5"', '"1_000"', "1" * 10_000, '"' + "9" * 5_000 + '"', '"' + "x" * 200_000 + '"'),
    *("[" * 100 + "]" * 100, '"\\u0000\\u001b[31m"', '"1970-01-01T00:00:00Z"', '"١٢"'),
    *('"9999-12-31T23:59:59Z"', "9999999999999999", "253402300799000", '"BUY"', '"sell"', '"SELL"'),
    *('"FILLED"', '"CANCELED"', '"canceled"', '"closed"', '"OPEN"', '"LIMIT"', '"100000000"'),
    *('"0.000000000000000000001"', "1e-30", '"' + "0." + "1" * 300 + '"'),
)
#: Names under which a reply says how the request went: another value may be a real refusal.
_VERDICTS: Final = {
    *("code", "msg", "retCode", "retMsg", "sCode", "sMsg", "subCode", "error", "errors", "success"),
    *("error_response", "failure_reason", "success_response", "results"),
}
#: Names of our own id: a row under another one is another order.
_IDS: Final = frozenset(("clientOrderId", "orderLinkId", "clOrdId", "cl_ord_id", "client_order_id"))
OPERATIONS: Final = ("create", "look_up", "trades", "cancel", "price", "balance", "open_orders")
_CALLS: Final = frozenset({"create", "look_up", "trades", "cancel"})


class Fuzzed:
    """One exchange's adapter, and the simulator whose replies are spoilt.

    Args:
        venue: the exchange.
        server: its simulator, served.
        adapter: started.
        chance: decides what is spoilt.
    """

    def __init__(
        self, venue: Venue, server: Server, adapter: CCXTAdapter, chance: random.Random
    ) -> None:
        self._venue = venue
        self._server = server
        self._adapter = adapter
        self._chance = chance
        self._number = 0
        #: What the last turn did, for whoever reads of its failure.
        self.told = ""

    async def turn(self) -> None:
        """Make one call, one place of one of its replies spoilt, and check what it says.

        Raises:
            AssertionError: it breaks what must hold.
        """
        kind = self._chance.choice(self._venue.kinds)
        operation = self._chance.choice(OPERATIONS)
        request = self._request(kind, rests=operation == "cancel" or self._chance.random() < 0.5)
        report = None
        if operation in _CALLS - {"create"}:
            report = await self._adapter.place_order(request, self._adapter.open_window())
        spoilt: list[Path] = []
        self._server.alter = lambda pending, body: self._spoil(pending, body, spoilt)
        self.told = f"{self._venue.name} {kind} {operation}"
        try:
            async with asyncio.timeout(10):
                answer = await self._call(operation, request, report)
        except ExchangeError as error:
            self._check_error(error, operation, spoilt)
        else:
            self._check_answer(answer, request)
        finally:
            self._server.alter = None
            self._adapter.request_gate.holds.lift()

    async def _call(self, operation: str, request: OrderRequest, report: OrderReport | None) -> Any:
        adapter = self._adapter
        match operation:
            case "create":
                return await adapter.place_order(request, adapter.open_window())
            case "look_up":
                known = self._chance.random() < 0.5 and report is not None
                return await adapter.get_order(
                    request, report.exchange_order_id if known and report else ""
                )
            case "trades":
                assert report is not None
                return await adapter.get_trades(request, report)
            case "cancel":
                assert report is not None
                return await adapter.cancel_order(request, report.exchange_order_id)
            case "price":
                return await adapter.get_ticker(request.symbol)
            case "balance":
                return await adapter.get_balance(self._chance.choice(adapter.wallets))
            case _:
                return await adapter.get_open_orders(request.symbol)

    def _request(self, kind: MarketKind, *, rests: bool) -> OrderRequest:
        self._number += 1
        symbol = "FUZ/USDT" + (":USDT" if kind is MarketKind.LINEAR else "")
        return OrderRequest(
            client_order_id=f"{self._number:032x}",
            exchange=self._venue.name,
            symbol=symbol,
            role=Role.ENTRY,
            side=Side.BUY,
            order_type=OrderType.LIMIT,
            quantity=D(2),
            price=D("90") if rests else D("110"),
            time_in_force=TimeInForce.GTC,
        )

    def _spoil(self, pending: Pending, body: bytes, spoilt: list[Path]) -> bytes:
        del pending
        found = places(body)
        if not found or (spoilt and self._chance.random() < 0.7):
            return body
        path, before = self._chance.choice(found)
        # A list without its rows is an honest "nothing there".
        may_go = not isinstance(before, list | dict) and isinstance(path[-1], str)
        goes = may_go and self._chance.random() < 0.15
        text = None if goes else self._chance.choice(HOSTILE)
        spoilt.append(path)
        self.told += f", {'.'.join(map(str, path))} = {text and text[:40]}"
        return altered(body, path, text)

    def _check_error(self, error: ExchangeError, operation: str, spoilt: list[Path]) -> None:
        names = {name for path in spoilt for name in path}
        assert len(str(error)) < 1_000, "a long text is not cut"
        if names & _VERDICTS or not spoilt:
            return
        if operation in _CALLS - {"trades"}:  # asked for trades of no order, it refuses honestly
            assert error.outcome in {Outcome.UNKNOWN, Outcome.THROTTLED} or names & _IDS, error
        assert not isinstance(error, OrderNotFoundError) or names & _IDS, error

    def _check_answer(self, answer: Any, request: OrderRequest) -> None:
        if isinstance(answer, OrderReport):
            assert D(0) <= answer.filled_quantity <= request.quantity, answer
            assert len(answer.reason) <= 300
            assert answer.client_order_id == request.client_order_id
            if answer.state is OrderState.FILLED:
                assert answer.filled_quantity > 0, answer
            if answer.average_price is not None:
                assert D(0) < answer.average_price < 200, answer
        for fill in _fills(answer):
            assert D(0) < fill.quantity <= request.quantity, fill
            assert D(0) < fill.price < 200, fill
            assert fill.fee.is_finite()
            if fill.fee_currency in {"FUZ", "USDT"}:
                assert abs(fill.fee) < fill.quantity * fill.price, fill
        if isinstance(answer, dict):
            assert all(one.free >= 0 for one in answer.values()), answer
        if hasattr(answer, "bid"):
            assert min(answer.bid, answer.ask, answer.last) > 0, answer


def _fills(answer: Any) -> Iterator[Any]:
    if isinstance(answer, OrderReport):
        yield from answer.fills
    if isinstance(answer, tuple):
        yield from answer


@asynccontextmanager
async def fuzzing(venue: Venue, seed: int | str) -> AsyncIterator[Fuzzed]:
    """An exchange whose replies are spoilt, by a seed."""
    simulator = venue.simulator()
    for kind in venue.kinds:
        simulator.add_market("FUZ", SPACES[kind])
    server = Server(simulator)
    await server.start()
    with lifted_limits(venue):
        adapter = adapter_class(venue.name)(venue.name, venue.config(server.url), SystemClock())
    assert isinstance(adapter, CCXTAdapter)
    try:
        await adapter.start()
        yield Fuzzed(venue, server, adapter, random.Random(f"{venue.name}:{seed}"))
    finally:
        await adapter.close()
        await server.stop()


async def fuzz(venue: Venue, seed: int | str, *, turns: int = 0, seconds: float = 0.0) -> int:
    """Take so many turns, or turns for so long; returns how many."""
    done, until = 0, time.monotonic() + seconds
    async with fuzzing(venue, seed) as fuzzed:
        while done < turns or time.monotonic() < until:
            try:
                await fuzzed.turn()
            except Exception as error:
                error.add_note(f"seed {seed}, turn {done}: {fuzzed.told}")
                raise
            done += 1
    return done


def main() -> int:
    """Fuzz for as long as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000)
    parser.add_argument("--exchange", choices=sorted(VENUES), action="append")
    chosen = parser.parse_args()
    names = chosen.exchange or sorted(VENUES)
    for name in names:
        seconds = chosen.seconds / len(names)
        turns = asyncio.run(fuzz(VENUES[name], chosen.seed, seconds=seconds))
        print(json.dumps({"exchange": name, "seed": chosen.seed, "turns": turns}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
