"""The yardstick on an exchange: ccxt's own ``create_order`` and nothing around it.

``python -m tests.benchmarks.bare_ccxt URL PORT rest`` makes as many market orders, one at a time,
as the list ``bare:go`` on the Redis at PORT asks for, and answers on ``bare:done`` with the times:
(client order id, start, end), monotonic nanoseconds. With ``websocket`` they are ccxt.pro's
``create_order_ws``, over a socket that is open already. ccxt's throttle is off, as in the worker.
"""

import asyncio
import importlib
import sys
import time
from itertools import count
from typing import Any
from urllib.parse import urlsplit

import msgspec
import uvloop

from tests.benchmarks.venue import KEY, SECRET
from tests.benchmarks.wire import Wire

SYMBOL, AMOUNT = "BTC/USDT", 0.02


def _exchange(url: str, transport: str) -> Any:
    library = "ccxt.pro" if transport == "websocket" else "ccxt.async_support"
    exchange = importlib.import_module(library).binance(
        {
            "apiKey": KEY,
            "secret": SECRET,
            "enableRateLimit": False,
            "options": {"fetchMarkets": {"types": ["spot"]}, "fetchCurrencies": False},
        }
    )
    exchange.has["fetchCurrencies"] = False
    to = urlsplit(url)
    for name, address in exchange.urls["api"].items():
        if isinstance(address, str):
            parts = urlsplit(address)._replace(scheme=to.scheme, netloc=to.netloc)
            exchange.urls["api"][name] = parts.geturl()
    if transport == "websocket":
        sockets = exchange.urls["api"]["ws"]["ws-api"]
        sockets["spot"] = f"ws://{to.netloc}{urlsplit(sockets['spot']).path}"
    return exchange


async def _main(url: str, port: int, transport: str) -> None:
    exchange, numbers = _exchange(url, transport), count()
    await exchange.load_markets()
    create = exchange.create_order
    if transport == "websocket":
        create = exchange.create_order_ws
        await create(SYMBOL, "market", "buy", AMOUNT)  # connects
    with Wire(port, timeout_s=3_600) as wire:
        wire.call("SET", "bare:ready", 1)
        while True:
            wanted = int(wire.call("BLPOP", "bare:go", 0)[1])
            times: list[tuple[str, int, int]] = []
            for _ in range(wanted):
                client_id, side = (
                    f"bare{next(numbers):08}",
                    "buy" if len(times) % 2 == 0 else "sell",
                )
                started = time.monotonic_ns()
                await create(SYMBOL, "market", side, AMOUNT, None, {"newClientOrderId": client_id})
                times.append((client_id, started, time.monotonic_ns()))
                await asyncio.sleep(0.001)
            wire.call("LPUSH", "bare:done", msgspec.msgpack.encode(times))


if __name__ == "__main__":
    uvloop.run(_main(sys.argv[1], int(sys.argv[2]), sys.argv[3]))
