"""Command line of the exchange simulator: prints one JSON line when ready, stops on SIGTERM."""

import argparse
import asyncio
import json
import os
import signal
import sys
from decimal import Decimal

import msgspec

from tests.exchange_simulator.faults import Rule
from tests.exchange_simulator.server import serve
from tests.exchange_simulator.simulator import Settings


def _parser() -> argparse.ArgumentParser:
    defaults = Settings()
    parser = argparse.ArgumentParser(prog="tests.exchange_simulator", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 picks a free one")
    parser.add_argument("--symbols", type=int, default=0, help="generated markets to add")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--api-key", default=defaults.api_key)
    parser.add_argument("--secret", default=defaults.secret)
    parser.add_argument("--quote-balance", type=Decimal, default=defaults.quote_balance)
    parser.add_argument("--base-balance", type=Decimal, default=defaults.base_balance)
    parser.add_argument("--maker-rate", type=Decimal, default=defaults.maker_rate)
    parser.add_argument("--taker-rate", type=Decimal, default=defaults.taker_rate)
    parser.add_argument("--spread-bps", type=Decimal, default=defaults.spread_bps)
    parser.add_argument("--fills-per-order", type=int, default=defaults.fills_per_order)
    parser.add_argument("--clock-offset-ms", type=int, default=0)
    parser.add_argument("--weight-limit", type=int, default=None, help="per minute")
    parser.add_argument("--order-limit", type=int, default=None, help="per 10 s")
    parser.add_argument(
        "--futures-engine-window-code", type=int, choices=(-1021, -5028), default=-1021
    )
    parser.add_argument(
        "--faults", default="[]", help="JSON list of fault rules in force from the start"
    )
    return parser


async def _main(arguments: argparse.Namespace) -> None:
    given = vars(arguments)
    host, port = given.pop("host"), given.pop("port")
    rules = msgspec.json.decode(given.pop("faults"), type=list[Rule])
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with serve(Settings(**given), host, port) as server:
        for rule in rules:
            server.simulator.faults.add(rule)
        ready = {"ready": True, "port": server.port, "url": server.url, "pid": os.getpid()}
        sys.stdout.write(json.dumps(ready) + "\n")
        sys.stdout.flush()
        await stop.wait()


if __name__ == "__main__":
    asyncio.run(_main(_parser().parse_args()))
