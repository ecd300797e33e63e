"""Fixed jobs whose instructions say what this build of Python, or of the server, costs.

``python -m tests.benchmarks.instructions.reference ROUNDS`` runs the one in Python: classes,
coroutines, dictionaries, text, decimals, JSON and msgspec, in about the proportions of a signal. It
must never change: the committed counts are of exactly this code.
"""

import gc
import hashlib
import json
import os
import sys
from collections.abc import Coroutine
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import msgspec

from tests.benchmarks.instructions import callgrind
from tests.benchmarks.wire import Wire

#: Rounds of two runs in Python; their difference is counted, so that start-up is not.
FEW, MANY = 20, 220
#: Calls of the script that are counted.
CALLS: Final = 20
#: The job on the server: keys, hashes, streams, msgpack and text, as in the ledger's scripts.
SCRIPT: Final = """
local sum = 0
for n = 1, 50 do
  local id = n .. '-0'
  redis.call('HSET', KEYS[1], id, cmsgpack.pack(id, n, 'worker', {'filled', n * 3}))
  local parts = {cmsgpack.unpack(redis.call('HGET', KEYS[1], id))}
  redis.call('ZADD', KEYS[2], n, id)
  redis.call('XADD', KEYS[3], '*', 'type', parts[3], 'data', string.rep(parts[4][1], 20))
  local whole, rest = string.match(id, '^(%d+)-(%d+)$')
  sum = sum + tonumber(whole) + #rest
end
redis.call('DEL', KEYS[1], KEYS[2], KEYS[3])
return sum
"""
KEYS: Final = ("{reference}:hash", "{reference}:set", "{reference}:stream")
#: Arguments of ``EVAL``.
EVAL: Final = ("EVAL", SCRIPT, len(KEYS), *KEYS)


class _Order(msgspec.Struct, frozen=True, kw_only=True):
    symbol: str
    price: Decimal
    quantity: Decimal
    tags: tuple[str, ...] = ()


class _Book:
    def __init__(self) -> None:
        self.orders: dict[str, _Order] = {}

    async def add(self, order: _Order) -> Decimal:
        self.orders[order.symbol] = order
        return await self.value(order.symbol)

    async def value(self, symbol: str) -> Decimal:
        order = self.orders[symbol]
        return (order.price * order.quantity).quantize(Decimal("0.01"))


def _round(number: int, book: _Book) -> int:
    """Do everything once; return a checksum."""
    symbol = f"COIN{number % 10}/USDT"
    text = json.dumps({"symbol": symbol, "price": "101.25", "quantity": "0.375", "tags": ["a"]})
    order = msgspec.json.decode(text, type=_Order)
    changed = msgspec.structs.replace(order, price=order.price + number, tags=("a", symbol))
    value = _result(book.add(changed))
    packed = msgspec.msgpack.encode((symbol, str(value), number, "ADMITTED"))
    digest = hashlib.sha256(packed).hexdigest()[:16]
    words = {word: len(word) for word in f"{digest} {symbol} {value}".replace("/", " ").split()}
    line = json.loads(msgspec.json.encode({"digest": digest, "words": words, "value": str(value)}))
    total = 0
    for name, length in sorted(line["words"].items()):
        total = (total * 31 + length + len(name)) & 0xFFFFFF
    return total


def _result(coroutine: Coroutine[Any, Any, Decimal]) -> Decimal:
    """Return the result of a coroutine that waits for nothing."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        value: Decimal = end.value
        return value
    raise AssertionError("the coroutine waits")


def main(rounds: int) -> None:
    """Run the job in Python and print its checksum."""
    gc.disable()  # when it runs depends on what was imported
    book = _Book()
    total = 0
    for number in range(rounds):
        total = (total + _round(number, book)) & 0xFFFFFF
    sys.stdout.write(f"{total}\n")


def python(directory: Path) -> float:
    """Return the instructions of one round of the job in Python.

    Args:
        directory: for callgrind's files.
    """
    module = [sys.executable, "-m", "tests.benchmarks.instructions.reference"]
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    few, many = (
        callgrind.count([*module, str(rounds)], directory / "reference.out", environment)
        for rounds in (FEW, MANY)
    )
    return (many - few) / (MANY - FEW)


def server(wire: Wire, counter: callgrind.Counter) -> float:
    """Return the instructions of one call of the job on the server.

    Args:
        wire: a connection to the server.
        counter: the server's instructions.
    """
    for _ in range(CALLS):  # compile it, and let the server's memory settle
        wire.call(*EVAL)
    counter.ask()
    counter.read()
    for _ in range(CALLS):
        wire.call(*EVAL)
    counter.ask()
    return counter.read() / CALLS


if __name__ == "__main__":
    main(int(sys.argv[1]))
