"""Ends a flatten whose command died before it could."""

from typing import ClassVar

from worker.keeper.duty import Duty
from worker.ledger.errors import LedgerError
from worker.operator.trading import Trading, TradingStateBusyError
from worker.runtime.logger import get_logger

log = get_logger()


class EndFlatten(Duty):
    """Let count again what a flatten that should be over holds back.

    Runs in the background: whoever may set the trading state may write much there, and reading it
    must not end the keeper's term.

    Args:
        trading: the account's trading state.
    """

    name: ClassVar[str] = "end_flatten"
    interval_ms: ClassVar[int] = 5_000
    in_background: ClassVar[bool] = True

    def __init__(self, trading: Trading) -> None:
        self._trading = trading

    async def run(self) -> None:
        """End it if its time is up; never raises LedgerError."""
        try:
            change = await self._trading.end_overdue()
        except (LedgerError, TradingStateBusyError) as error:
            log.warning("flatten_not_ended", error=str(error))
            return
        if change is not None:
            log.warning("flatten_ended", trading_state=change.control.trading_state)
