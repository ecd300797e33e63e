"""The trading state of an account."""

from enum import StrEnum


class TradingState(StrEnum):
    """Which orders an account sends: all, those that reduce a position, or none."""

    ACTIVE = "ACTIVE"
    REDUCING = "REDUCING"
    HALTED = "HALTED"

    @classmethod
    def read(cls, raw: bytes) -> "TradingState":
        """Read the ledger's text; an unknown state counts as halted, so that nothing is sent."""
        try:
            return cls(raw.decode())
        except ValueError:
            return cls.HALTED
