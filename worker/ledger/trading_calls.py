"""The trading state in Redis, read and changed; a :class:`~worker.ledger.ports.TradingCalls`."""

from collections.abc import Sequence

from worker.domain.event_text import EventText
from worker.domain.trading_asks import Ask, Control
from worker.ledger.access import Access
from worker.ledger.errors import ScriptsMissingError
from worker.ledger.operator_calls import OperatorCalls
from worker.ledger.operator_writes import change_control_plainly
from worker.ledger.published import Heartbeat, StoredControl, read_control, read_heartbeats


class RedisTrading:
    """One account's trading state.

    Args:
        access: the account.
        calls: write the changes.
    """

    def __init__(self, access: Access, calls: OperatorCalls) -> None:
        self._access = access
        self._calls = calls

    @property
    def account(self) -> str:
        """Return the account's id."""
        return self._access.account

    async def read_control(self) -> StoredControl:
        """Read the trading state, ``ACTIVE`` where none was ever set, and who asks for it."""
        return await read_control(self._access)

    async def read_heartbeats(self) -> tuple[int, dict[str, Heartbeat]]:
        """Read Redis's time (Unix ms) and every worker's last heartbeat, by name."""
        return await read_heartbeats(self._access)

    async def change_control(
        self, before: bytes, asks: Sequence[Ask], control: Control, event: EventText
    ) -> bool:
        """Store a change if nobody was faster, even with Redis just restarted and no worker."""
        try:
            return await self._calls.change_control(before, asks, control, event)
        except ScriptsMissingError:
            return await change_control_plainly(self._access, before, asks, control, event)
