"""What the account may do."""

from enum import StrEnum


class TradingState(StrEnum):
    """What the account may do."""

    ACTIVE = "ACTIVE"
    REDUCING = "REDUCING"
    HALTED = "HALTED"

    @classmethod
    def read(cls, raw: bytes) -> "TradingState":
        """Anything unknown counts as halted: in doubt nothing is sent."""
        try:
            return cls(raw.decode())
        except ValueError:
            return cls.HALTED
