"""Leases: renewed three times in their life by the heartbeat, given back when work stops."""

from collections.abc import Callable, Iterable

from worker.engine.grants import Grants
from worker.ledger.errors import LedgerError
from worker.ledger.ports import Ledger
from worker.observe.health import Health
from worker.observe.metrics import Metrics
from worker.pipeline.custody import Custody
from worker.pipeline.worker_state import WorkerState
from worker.runtime.clock import Clock
from worker.runtime.logger import get_logger

log = get_logger()


class Leases:
    """Keeps the leases of the entries in hand.

    Args:
        ledger: the Redis side.
        grants: the entries in hand.
        state: told the account's trading state, which every heartbeat brings.
        metrics: shown the trading state and how many leases are held.
        health: told when Redis does not answer.
        clock: time.
        status: builds what the heartbeat tells the fleet about this worker, JSON.
    """

    def __init__(
        self,
        *,
        ledger: Ledger,
        grants: Grants,
        state: WorkerState,
        metrics: Metrics,
        health: Health,
        clock: Clock,
        status: Callable[[], bytes],
    ) -> None:
        self._ledger = ledger
        self._grants = grants
        self._state = state
        self._metrics = metrics
        self._health = health
        self._clock = clock
        self._status = status

    async def keep(self) -> None:
        """Renew every lease three times in its life, for ever."""
        while True:
            await self.renew()
            await self._clock.sleep(self._ledger.lease_ms / 3000)

    async def renew(self) -> None:
        """Send one heartbeat, two where the trading state has changed, so that the fleet learns it.

        A lease whose entry is another's is lost.
        """
        if await self._beat():
            await self._beat()

    async def _beat(self) -> bool:
        """Send one heartbeat; return whether it brought another trading state."""
        held = self._grants.held()
        self._grants.forget_doubts(self._clock.monotonic_ms())
        try:
            lost, state, expires = await self._ledger.heartbeat(
                [(custody.entry_id, custody.token) for custody in held], self._status()
            )
        except LedgerError as error:
            self._health.set("redis", ok=False, detail=str(error))
            return False  # leases run out by themselves; nothing is sent under one that has
        for custody in held:
            if custody.entry_id in lost:
                custody.lose()
            else:
                custody.renew(expires)
        before = self._state.trading_state
        if state is not before:
            log.warning("trading_state", state=state.value, before=before.value)
            self._state.trading_state = state
        self._metrics.trading_state(state.value)
        self._metrics.leases(len(held))
        return state is not before

    async def give_back(
        self, custodies: Iterable[Custody], *, hold_ms: int = 0, died: bool = False
    ) -> int | None:
        """Give entries back, each held back at least until its doubt is over.

        Args:
            custodies: of the entries.
            hold_ms: how long nobody gets them at least.
            died: whether the delivery counts as one that died.

        Returns:
            How many were still ours; None where Redis did not take it: the leases run out.
        """
        now = self._clock.monotonic_ms()
        entries = [
            (one.entry_id, one.token, max(hold_ms, one.doubt_ms(now)), died) for one in custodies
        ]
        try:
            return await self._ledger.release(entries) if entries else 0
        except LedgerError as error:
            log.warning(
                "release_failed", entry_ids=[entry_id for entry_id, *_ in entries], error=str(error)
            )
            return None
