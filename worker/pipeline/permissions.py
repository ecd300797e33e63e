"""Permission to send an order: asked of the ledger again whenever time has passed."""

from typing import Final

from worker.domain.refusal import Code, Refusal, Stage
from worker.domain.trading_state import TradingState
from worker.exchanges.ports import ExchangeAdapter
from worker.ledger.errors import LedgerUnavailableError
from worker.ledger.ports import Ledger
from worker.pipeline.custody import Custody
from worker.pipeline.flow import AdmittedOrder, Lost, Postponed
from worker.pipeline.worker_state import WorkerState
from worker.runtime.clock import Clock

#: A permission older than this, milliseconds, is asked for again before the order is sent.
PERMISSION_TTL_MS: Final = 250.0


class Permissions:
    """Waits for whatever an order has to wait for, and asks whether it may still be sent.

    Args:
        ledger: knows grants, the trading state, and the pauses that exchanges asked for.
        state: of the worker; nothing is waited for while it drains.
        clock: time.
    """

    def __init__(self, *, ledger: Ledger, state: WorkerState, clock: Clock) -> None:
        self._ledger = ledger
        self._state = state
        self._clock = clock

    async def renew(
        self, order: AdmittedOrder, custody: Custody
    ) -> Refusal | Lost | Postponed | None:
        """Ask the ledger again: still ours, still allowed, not paused. None if it may be sent."""
        exchange = order.signal.exchange
        while True:
            asked_mono_ms = self._clock.monotonic_ms()
            try:
                answer = await self._ledger.authorize(custody.entry_id, custody.token, exchange)
            except LedgerUnavailableError:
                return Postponed(reason="Redis cannot say whether the order may be sent")
            if not answer.held:
                custody.lose()
                return Lost()
            forbidden = _forbidden(answer.trading_state, is_opening=order.position is None)
            if forbidden is not None:
                return forbidden
            if not answer.pause_ms:
                age_ms = self._clock.monotonic_ms() - asked_mono_ms
                if age_ms <= PERMISSION_TTL_MS or is_too_late(order, self._clock, 0.0):
                    return None
                continue  # the answer was so long on its way that it may no longer hold
            if self._state.draining:
                return Postponed(reason="draining during an exchange's pause")
            if is_too_late(order, self._clock, answer.pause_ms / 1000):
                return _refuse(
                    Code.RATE_LIMITED,
                    f"{exchange} asked for {answer.pause_ms:.0f} ms without orders, "
                    "longer than the signal lives",
                )
            await self._clock.sleep(answer.pause_ms / 1000)

    async def await_turn(
        self, adapter: ExchangeAdapter, order: AdmittedOrder, custody: Custody, wait_ms: float
    ) -> Refusal | Lost | Postponed | None:
        """Wait for the order's turn in the request budget, then ask the ledger, then take it."""
        while True:
            if self._state.draining:
                return Postponed(reason="draining before its turn to be sent")
            if is_too_late(order, self._clock, wait_ms / 1000):
                return _refuse(
                    Code.RATE_LIMITED,
                    f"its turn under {adapter.name}'s limits of requests and "
                    f"exchanges.{adapter.name}.max_orders_per_second comes in {wait_ms:.0f} ms, "
                    "later than the signal lives",
                )
            await self._clock.sleep(wait_ms / 1000)
            end = await self.renew(order, custody)
            if end is not None:
                return end
            # Taken after the asking, so that nothing waits between the turn and the sending.
            within_ms = order.lifetime.expires_ms - self._clock.now_ms()
            wait_ms = adapter.take_turn(within_ms, order.request)
            if wait_ms <= 0:
                return None


def is_too_late(order: AdmittedOrder, clock: Clock, delay_s: float) -> bool:
    """Return whether the order's signal will have expired in ``delay_s`` seconds."""
    return clock.now_ms() + delay_s * 1000 >= order.lifetime.expires_ms


def _forbidden(state: TradingState, *, is_opening: bool) -> Refusal | None:
    """Return why the account's trading state forbids the order, if it does."""
    if state is TradingState.HALTED:
        return _refuse(Code.TRADING_HALTED, f"trading_state: the account became {state}")
    if state is TradingState.REDUCING and is_opening:
        return _refuse(Code.TRADING_REDUCING, f"trading_state: the account became {state}")
    return None


def _refuse(code: Code, reason: str) -> Refusal:
    return Refusal(Stage.EXECUTION, code, reason)
