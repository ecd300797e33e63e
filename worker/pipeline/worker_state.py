"""The worker's own state that stages look at: the account's trading state, and draining."""

import asyncio

from worker.domain.trading_state import TradingState


class WorkerState:
    """Written by the engine alone: by its heartbeat, and when it is told to stop.

    Attributes:
        trading_state: of the account, as the last heartbeat said.
        draining: whether the worker is to stop: nothing new is begun.
    """

    def __init__(self) -> None:
        self.trading_state = TradingState.ACTIVE
        self.draining = False
        self._drains = asyncio.Event()

    @property
    def may_open(self) -> bool:
        """Return whether the account may open positions now."""
        return self.trading_state is TradingState.ACTIVE

    def drain(self) -> None:
        """Begin nothing new from here on."""
        self.draining = True
        self._drains.set()

    async def until_draining(self) -> None:
        """Wait until the worker has been told to stop."""
        await self._drains.wait()
