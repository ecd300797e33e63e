"""Made-up signals of about 300 bytes that all fill: each symbol opened, then closed, in turn."""

from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import msgspec

from tests.benchmarks.wire import pack
from worker.domain.identity import client_order_id
from worker.domain.order import Role

#: What a stream entry's payload is padded to.
PAYLOAD_BYTES: Final = 300
#: Symbols in play at a time: as many opened, then as many closed.
IN_PLAY: Final = 100
PRICE: Final = "101.25"
ACCOUNT: Final = "main"
SIGNALS: Final = "{main}:signals"
ORDERS: Final = "{main}:orders"
GROUP: Final = "execution"
_encode = msgspec.json.Encoder().encode


class Signal(NamedTuple):
    """One signal: its id, the leg its order is, its payload."""

    signal_id: str
    leg: Role
    data: bytes

    @property
    def client_id(self) -> str:
        """The client order id its order will have."""
        return client_order_id(ACCOUNT, self.signal_id, self.leg)


def symbol(number: int) -> str:
    """One of the simulated exchange's numbered test assets."""
    return f"COIN{number}/USDT"


def payload(
    signal_id: str, name: str, action: str, *, exchange: str = "paper", price: str = PRICE
) -> bytes:
    """One signal as JSON; a stop and a target belong to the opening ones, where there is a price.

    Args:
        signal_id: new for every signal.
        name: the symbol.
        action: ``open`` or ``close``.
        exchange: its configured name.
        price: what the simulated exchange takes for the market's; empty where there is a market.
    """
    fields: dict[str, Any] = {
        "signal_id": signal_id,
        "created_at": datetime.now(UTC).isoformat(),
        "exchange": exchange,
        "symbol": name,
        "action": action,
        "strategy_id": "benchmark",
    }
    if action == "open":
        fields |= {
            "direction": "long",
            "strength": 0.82,
            "confluence_score": 7.5,
        }
    if price:
        fields["entry_price"] = price
    if price and action == "open":
        fields["stop_loss"] = f"{float(price) * 0.99:.2f}"
        fields["take_profit"] = f"{float(price) * 1.03:.2f}"
    bare = len(_encode(fields | {"metadata": {"note": ""}}))
    return _encode(fields | {"metadata": {"note": "x" * max(PAYLOAD_BYTES - bare, 1)}})


def pairs(
    count: int,
    prefix: str,
    *,
    symbols: int = IN_PLAY,
    start: int = 0,
    name_of: Callable[[int], str] = symbol,
    exchange: str = "paper",
    price: str = PRICE,
) -> Iterator[Signal]:
    """``count`` signals whose ids begin with ``prefix``.

    Blocks of up to ``IN_PLAY`` symbols are opened and then closed, going round all ``symbols``.
    ``count`` has to be even, or a position stays open.
    """
    block, done = min(symbols, IN_PLAY), 0
    while done < count:
        names = [name_of((start + n) % symbols) for n in range(block)]
        names = names[: max((count - done + 1) // 2, 1)]
        for action in ("open", "close"):
            for name in names[: count - done]:
                signal_id = f"{prefix}-{done:07}"
                data = payload(signal_id, name, action, exchange=exchange, price=price)
                yield Signal(signal_id, Role.ENTRY if action == "open" else Role.EXIT, data)
                done += 1
        start += block


def openings(count: int, prefix: str, *, first: int) -> list[bytes]:
    """Payloads that open ``count`` positions, in symbols from number ``first`` on."""
    return [payload(f"{prefix}-{n:07}", symbol(first + n), "open") for n in range(count)]


def commands(payloads: Iterable[bytes]) -> Iterator[bytes]:
    """Packed ``XADD`` commands that put payloads on the stream."""
    for data in payloads:
        yield pack("XADD", SIGNALS, "*", "data", data)


def backlog(count: int, prefix: str, **more: Any) -> list[bytes]:
    """Payloads of ``count`` signals; further arguments as :func:`pairs` takes them."""
    return [signal.data for signal in pairs(count, prefix, **more)]
