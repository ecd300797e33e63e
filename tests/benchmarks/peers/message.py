"""The job every peer does: decode one JSON signal of 300 bytes, write one event with ``XADD``."""

from datetime import UTC, datetime
from typing import Any, Final

import msgspec

EVENTS: Final = "events"
_BYTES: Final = 300


class Message(msgspec.Struct, kw_only=True):
    """A signal, as far as a handler looks at it."""

    signal_id: str
    created_at: datetime
    exchange: str
    symbol: str
    action: str
    direction: str
    strength: float
    confluence_score: float
    entry_price: str
    strategy_id: str
    metadata: dict[str, Any]


_decode = msgspec.json.Decoder(Message).decode


def payload(number: int) -> str:
    """One message as JSON."""
    message = Message(
        signal_id=f"peer-{number:08}",
        created_at=datetime.now(UTC),
        exchange="paper",
        symbol=f"COIN{number % 100}/USDT",
        action="open",
        direction="long",
        strength=0.82,
        confluence_score=7.5,
        entry_price="101.25",
        strategy_id="benchmark",
        metadata={"note": ""},
    )
    message.metadata["note"] = "x" * (_BYTES - len(msgspec.json.encode(message)))
    return msgspec.json.encode(message).decode()


def event(data: str | bytes | dict[str, Any]) -> dict[str, str]:
    """Decode a message, or check what its queue has decoded; returns the fields of its event."""
    message = msgspec.convert(data, Message) if isinstance(data, dict) else _decode(data)
    return {"type": "OrderFilled", "subject": message.signal_id, "data": message.symbol}
