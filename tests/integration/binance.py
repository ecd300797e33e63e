"""Orders for Binance, and an adapter that sends them to the simulated exchange."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import pytest

from tests.exchange_simulator import Server, Settings, serve
from worker.config.keys import ExchangeConfig, Secret
from worker.domain.market import MarketKind
from worker.domain.order import OrderRequest, Role, Side
from worker.domain.signal import OrderType, TimeInForce
from worker.exchanges.binance.adapter import BinanceCCXTAdapter
from worker.exchanges.errors import ExchangeError
from worker.runtime.clock import SystemClock

SPOT, LINEAR = "BTC/USDT", "BTC/USDT:USDT"
KEY, SECRET = "sim-key-0123456789", "sim-secret-9876543210"
D = Decimal
#: Where orders for each symbol go over a WebSocket.
SOCKETS = {SPOT: "/ws-api/v3", LINEAR: "/ws-fapi/v1"}
WEBSOCKET: dict[str, Any] = {"order_transport": "websocket"}
#: What a fault strikes: the frame of an order, the making of a connection.
CREATE: dict[str, Any] = {"method": "POST", "path": r"/ws-.*rder\.place$"}
CONNECT: dict[str, Any] = {"method": "GET", "path": "/ws-"}
_ids = itertools.count(1)


def an_order(symbol: str = SPOT, **changes: Any) -> OrderRequest:
    """A market buy of 0.01 BTC under a fresh client id, unless changed."""
    fields: dict[str, Any] = {
        "client_order_id": f"{next(_ids):032x}",
        "exchange": "binance",
        "symbol": symbol,
        "role": Role.ENTRY,
        "side": Side.BUY,
        "order_type": OrderType.MARKET,
        "quantity": D("0.01"),
    }
    return OrderRequest(**fields | changes)


def a_limit(symbol: str = SPOT, price: str = "55000", **changes: Any) -> OrderRequest:
    """A good-till-cancelled limit buy, which rests at the default price."""
    fields: dict[str, Any] = {"order_type": OrderType.LIMIT, "price": D(price)}
    return an_order(symbol, **fields | {"time_in_force": TimeInForce.GTC} | changes)


def a_stop(symbol: str = SPOT, stop: str = "55000", **changes: Any) -> OrderRequest:
    """A protective sell that triggers at ``stop``."""
    fields: dict[str, Any] = {
        "order_type": OrderType.STOP,
        "stop_price": D(stop),
        "side": Side.SELL,
        "role": Role.STOP_LOSS,
        "reduce_only": symbol == LINEAR,
    }
    return an_order(symbol, **fields | changes)


@asynccontextmanager
async def trading(
    *, config: dict[str, Any] | None = None, **settings: Any
) -> AsyncIterator[tuple[BinanceCCXTAdapter, Server]]:
    """A started adapter and the simulator it trades on."""
    chosen: dict[str, Any] = {"api_key": KEY, "secret": SECRET, "base_balance": D(100)}
    async with serve(Settings(**chosen | settings)) as server:
        adapter = an_adapter(server.url, **config or {})
        await adapter.start()
        try:
            yield adapter, server
        finally:
            await adapter.close()


def an_adapter(url: str, **changes: Any) -> BinanceCCXTAdapter:
    """A Binance adapter for both market kinds."""
    fields: dict[str, Any] = {
        "adapter": "ccxt",
        "api_key": Secret(KEY),
        "secret": Secret(SECRET),
        "base_url": url,
        "ws_base_url": url.replace("http:", "ws:"),
        "market_types": (MarketKind.SPOT, MarketKind.LINEAR),
    }
    return BinanceCCXTAdapter("binance", ExchangeConfig(**fields | changes), SystemClock())


async def all_open(adapter: BinanceCCXTAdapter) -> None:
    """Wait until orders can be sent over every socket there is."""
    for socket in adapter._sockets.values():
        while not socket.is_open:
            await socket.settled(10_000)
            await asyncio.sleep(0)


async def failure(adapter: BinanceCCXTAdapter, request: OrderRequest) -> ExchangeError:
    """What placing ``request`` fails with."""
    with pytest.raises(ExchangeError) as raised:
        await adapter.place_order(request, adapter.open_window())
    return raised.value


def connections(server: Server, path: str = "/ws-api/v3", outcome: str = "101") -> int:
    """How many connections were made, or attempted with that outcome."""
    return server.simulator.counts[f"GET {path}", outcome]


async def hang_up(adapter: BinanceCCXTAdapter, server: Server) -> None:
    """Close every connection as Binance does after a day, and wait until the adapter knows."""
    before = {socket: socket._ws for socket in adapter._sockets.values()}
    for connection in tuple(server.sockets):
        await connection.ws.close()
    for _ in range(100_000):
        if not any(ws is socket._ws and socket.is_open for socket, ws in before.items()):
            return
        await asyncio.sleep(0)
    raise AssertionError("the adapter did not notice")
