"""Made-up signals of about 300 bytes that all fill: each symbol opened, then closed, in turn."""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from tests.benchmarks.wire import pack

#: What a stream entry's payload is padded to.
PAYLOAD_BYTES: Final = 300
#: Symbols in play at a time: as many opened, then as many closed.
IN_PLAY: Final = 100
ACCOUNT: Final = "main"
SIGNALS: Final = "{main}:signals"
ORDERS: Final = "{main}:orders"
GROUP: Final = "execution"
_encode = msgspec.json.Encoder().encode


def symbol(number: int) -> str:
    """One of the simulated exchange's numbered test assets."""
    return f"COIN{number}/USDT"


def payload(
    signal_id: str, name: str, action: str, *, exchange: str = "paper", price: str = "101.25"
) -> bytes:
    """One signal as JSON; a stop and a target belong to the opening ones."""
    fields: dict[str, Any] = {
        "signal_id": signal_id,
        "created_at": datetime.now(UTC).isoformat(),
        "exchange": exchange,
        "symbol": name,
        "action": action,
        "entry_price": price,
        "strategy_id": "benchmark",
    }
    if action == "open":
        fields |= {
            "direction": "long",
            "strength": 0.82,
            "confluence_score": 7.5,
            "stop_loss": f"{float(price) * 0.99:.2f}",
            "take_profit": f"{float(price) * 1.03:.2f}",
        }
    bare = len(_encode(fields | {"metadata": {"note": ""}}))
    return _encode(fields | {"metadata": {"note": "x" * max(PAYLOAD_BYTES - bare, 1)}})


def pairs(
    count: int, *, symbols: int = IN_PLAY, prefix: str = "b", first_symbol: int = 0
) -> Iterator[tuple[str, bytes]]:
    """``count`` signals as (signal id, payload).

    Blocks of up to ``IN_PLAY`` symbols are opened and then closed, going round all ``symbols``;
    an odd rest stays open.
    """
    block, done, start = min(symbols, IN_PLAY), 0, 0
    while done < count:
        names = [symbol(first_symbol + (start + n) % symbols) for n in range(block)]
        names = names[: max((count - done + 1) // 2, 1)]
        for action in ("open", "close"):
            for name in names[: count - done]:
                signal_id = f"{prefix}-{done:07}"
                yield signal_id, payload(signal_id, name, action)
                done += 1
        start += block


def commands(payloads: Iterable[bytes]) -> Iterator[bytes]:
    """Packed ``XADD`` commands that put payloads on the stream."""
    for data in payloads:
        yield pack("XADD", SIGNALS, "*", "data", data)
