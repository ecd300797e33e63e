"""The account's trading state, and who asks for which."""

from worker.domain.trading_asks import Control
from worker.domain.trading_state import TradingState
from worker.ledger.published import StoredControl, control_of_hash


class TradingControl:
    """The state in force, ``ACTIVE`` where none was ever set.

    Attributes:
        control: the state, why, by whom and since when; None where it was never set.
        asks: who asks for which state, JSON; empty for nobody.
        event_id: of the event about the last change.
        marks: what the keeper has seen and logged of what people do.
    """

    def __init__(self) -> None:
        self.control: Control | None = None
        self.asks = b""
        self.event_id = ""
        self.marks: dict[str, str] = {}

    @property
    def state(self) -> TradingState:
        """Return the trading state in force."""
        return self.control.trading_state if self.control else TradingState.ACTIVE

    def fields(self) -> dict[str, str]:
        """Return the state's fields as text; none where it was never set."""
        if self.control is None:
            return {}
        return {
            "trading_state": self.control.trading_state.value,
            "reason": self.control.reason,
            "actor": self.control.actor,
            "at": self.control.changed_at,
        }

    def stored(self) -> StoredControl:
        """Return the state in force and who asks for it."""
        raw = {name.encode(): value.encode() for name, value in self.fields().items()}
        return control_of_hash(raw | {b"asks": self.asks})
