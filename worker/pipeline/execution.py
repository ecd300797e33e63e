"""Sending an order so that the exchange accepts it at most once, whatever is lost on the way."""

from collections.abc import Callable
from typing import Final, Protocol

from tenacity import AsyncRetrying, RetryCallState, wait_exponential

from worker.config.keys import ExecutionConfig
from worker.domain.money import text
from worker.domain.order import Fact, OrderReport
from worker.domain.refusal import Code, Refusal, Stage
from worker.domain.trading_state import TradingState
from worker.exchanges.errors import (
    ClockSkewError,
    CredentialsError,
    ExchangeError,
    InsufficientBalanceError,
    Outcome,
)
from worker.exchanges.ports import Resend, SendWindow
from worker.ledger.calls import Ledger
from worker.ledger.errors import LedgerUnavailableError
from worker.pipeline.flow import (
    AdmittedOrder,
    Failed,
    Lost,
    Postponed,
    Submission,
    Unresolved,
)
from worker.pipeline.look_up import LookUp, LookUpMeter, SilentError
from worker.pipeline.orders import OrderManager
from worker.runtime.clock import Clock, Random
from worker.runtime.logger import get_logger


class ExecutionMeter(LookUpMeter, Protocol):
    """What the stage reports; metrics in production."""

    def submission(self, exchange: str, outcome: str) -> None:
        """Count one create request: accepted, refused, not_sent, throttled or unknown."""

    def retry(self, exchange: str, cause: str) -> None:
        """Count one repetition and why."""


log = get_logger()
#: By itself, as in :mod:`worker.domain.signal`.
_SENT: Final = Fact.SENT
#: An admission older than this is looked at again before its order is sent.
AUTHORIZATION_TTL_MS = 250.0


class OrderExecutorHandler:
    """The third stage.

    Every attempt fixes its time window first, then checks the lease against it, and only then
    sends: a worker that was paused in between is refused by the exchange itself.

    Args:
        config: the ``execution`` section.
        ledger: asked again before anything is sent a second time, or long after its admission.
        orders: told what happens.
        clock: time.
        random: for the jitter of the backoff.
        meter: counts submissions, retries and look-ups.
        draining: whether the worker is about to stop; nothing new is waited for then.
    """

    def __init__(
        self,
        config: ExecutionConfig,
        *,
        ledger: Ledger,
        orders: OrderManager,
        clock: Clock,
        random: Random,
        meter: ExecutionMeter,
        draining: Callable[[], bool],
    ) -> None:
        self._config = config
        self._ledger = ledger
        self._orders = orders
        self._clock = clock
        self._random = random
        self._meter = meter
        self._draining = draining
        self._look_up = LookUp(config, clock=clock, meter=meter)
        self._retrying = AsyncRetrying(
            wait=wait_exponential(
                multiplier=config.base_delay, exp_base=config.backoff_factor, max=config.max_delay
            )
        )

    async def handle(
        self, order: AdmittedOrder
    ) -> Submission | Failed | Lost | Postponed | Unresolved:
        """Send the order, or find that it has been sent."""
        found = await self._find(order) if order.look_up_first else None
        result = await self._send(order) if found is None else found
        if not isinstance(result, _DECIDED):
            self._orders.forget(order.managed)  # whoever gets the entry next begins it anew
        return result

    async def _find(self, order: AdmittedOrder) -> Submission | Failed | Lost | Unresolved | None:
        """Look for what an earlier delivery may have sent; None if it may be sent now."""
        self._orders.note(order.managed, Fact.SENT)
        try:
            found = await self._look_up.find(order, order.absent_after_mono_ms)
        except SilentError as silence:
            return self._decided(order) or self._unresolved(order, str(silence))
        if found is not None:
            return self._found(order, found, attempts=1)
        decided = self._decided(order)
        if decided is not None:
            return decided
        if order.give_up is not None:
            return self._end(order, order.give_up)
        was_sent = order.absent_after_mono_ms > float("-inf")
        if was_sent and order.adapter.resend is Resend.NEVER:
            return self._unresolved(order, _NEVER.format(order.adapter.name))
        return None

    def _decided(self, order: AdmittedOrder) -> Submission | Failed | Lost | Unresolved | None:
        """What a person says became of the order; None where nobody has said anything.

        Asked only where the exchange does not tell, or has no such order (any more).
        """
        verdict = order.verdict
        if verdict is None:
            return None
        ordered = order.request.quantity
        is_sized = order.give_up is None or order.signal.quantity is not None
        if is_sized and verdict.filled > ordered:
            return self._unresolved(
                order,
                f"{verdict.actor} decided that {text(verdict.filled)} traded, but only "
                f"{text(ordered)} was ordered: decide again",
            )
        log.warning(
            "order_decided",
            signal_id=order.signal.signal_id,
            client_order_id=order.request.client_order_id,
            filled=text(verdict.filled),
            actor=verdict.actor,
            reason=verdict.reason,
        )
        if verdict.filled:
            return self._found(order, verdict.report(order.request), attempts=1)
        reason = f"{verdict.actor} decided that it is not on {order.adapter.name}: {verdict.reason}"
        return self._fail(order, Code.DECIDED_ABSENT, reason, attempts=1)

    async def _send(
        self, order: AdmittedOrder
    ) -> Submission | Failed | Lost | Postponed | Unresolved:
        """Send until the exchange has it or it is known why not."""
        attempts = 0
        while True:
            # Whatever has to be waited for is waited for first: after the last look nothing waits.
            age_ms = self._clock.monotonic_ms() - order.admitted_mono_ms
            if attempts or order.pause_ms or age_ms > AUTHORIZATION_TTL_MS:
                end = await self._authorize(order, attempts)
                if end is not None:
                    return end
            wait_ms = order.adapter.take_turn(order.expires_ms - self._clock.now_ms())
            if wait_ms > 0:
                end = await self._await_turn(order, wait_ms, attempts)
                if end is not None:
                    return end
            window = self._open_window(order, attempts)
            if not isinstance(window, SendWindow):
                return window
            attempts += 1
            result = await self._attempt(order, window, attempts)
            if result is not None:
                return result

    def _open_window(
        self, order: AdmittedOrder, attempts: int
    ) -> SendWindow | Failed | Lost | Postponed:
        """Take the last look; the window is fixed before the lease is looked at."""
        adapter = order.adapter
        skew = abs(adapter.clock_offset.offset_ms) + adapter.clock_offset.uncertainty_ms
        if skew > self._config.max_clock_skew_ms:
            return self._fail(
                order,
                Code.CLOCK_SKEW,
                f"this machine's clock is {skew:.0f} ms from {adapter.name}'s; "
                f"execution.max_clock_skew_ms is {self._config.max_clock_skew_ms}",
                attempts,
            )
        window = adapter.open_window()
        if self._clock.now_ms() >= order.expires_ms:
            return self._fail(
                order, Code.SIGNAL_EXPIRED, "expires_at: passed before the order was sent", attempts
            )
        if not order.lease.covers(window.expires_mono_ms + self._config.skew_margin_ms):
            return Lost() if order.lease.lost else Postponed(reason="lease too short to send")
        return window

    async def _await_turn(
        self, order: AdmittedOrder, wait_ms: float, attempts: int
    ) -> Failed | Lost | Postponed | None:
        """Wait for the order's turn under ``max_orders_per_second``, then ask the ledger again."""
        name = order.adapter.name
        while True:
            if self._draining():
                return Postponed(reason="draining before its turn to be sent")
            if self._too_late(order, wait_ms / 1000):
                return self._fail(
                    order,
                    Code.RATE_LIMITED,
                    f"exchanges.{name}.max_orders_per_second: its turn comes in {wait_ms:.0f} ms, "
                    "later than the signal lives",
                    attempts,
                )
            await self._clock.sleep(wait_ms / 1000)
            turn_mono_ms = self._clock.monotonic_ms()
            end = await self._authorize(order, attempts)
            if end is not None:
                return end
            if self._clock.monotonic_ms() - turn_mono_ms <= AUTHORIZATION_TTL_MS:
                return None
            # A pause of the exchange came in between: its turn is over, and so are all others'.
            wait_ms = order.adapter.take_turn(order.expires_ms - self._clock.now_ms())
            if wait_ms <= 0:
                return None

    async def _authorize(
        self, order: AdmittedOrder, attempts: int
    ) -> Failed | Lost | Postponed | None:
        """Ask the ledger again: still ours, still allowed, not paused."""
        while True:
            asked_mono_ms = self._clock.monotonic_ms()
            try:
                answer = await self._ledger.authorize(
                    order.lease.entry_id, order.lease.token, order.adapter.name
                )
            except LedgerUnavailableError:
                return Postponed(reason="Redis cannot say whether the order may be sent")
            if not answer.held:
                order.lease.lost = True
                return Lost()
            state = answer.trading_state
            opening = order.position is None
            if state is TradingState.HALTED or (state is TradingState.REDUCING and opening):
                code = (
                    Code.TRADING_HALTED if state is TradingState.HALTED else Code.TRADING_REDUCING
                )
                return self._fail(
                    order, code, f"trading_state: the account became {state}", attempts
                )
            if not answer.pause_ms:
                age_ms = self._clock.monotonic_ms() - asked_mono_ms
                if age_ms <= AUTHORIZATION_TTL_MS or self._too_late(order, 0.0):
                    return None
                continue  # the answer was so long on its way that it may no longer hold
            if self._draining():
                return Postponed(reason="draining during an exchange's pause")
            if self._too_late(order, answer.pause_ms / 1000):
                return self._fail(
                    order,
                    Code.RATE_LIMITED,
                    f"{order.adapter.name} asked for {answer.pause_ms:.0f} ms without orders, "
                    "longer than the signal lives",
                    attempts,
                )
            await self._clock.sleep(answer.pause_ms / 1000)

    async def _attempt(
        self, order: AdmittedOrder, window: SendWindow, attempts: int
    ) -> Submission | Failed | Lost | Postponed | Unresolved | None:
        """Send once; None to go round again."""
        name = order.adapter.name
        order.managed.attempts = attempts
        self._orders.note(order.managed, _SENT)
        # As long as a lease would have to last: a successor reckons back from where it ends.
        order.lease.doubt_until_mono_ms = window.expires_mono_ms + self._config.skew_margin_ms
        try:
            report = await order.adapter.place_order(order.request, window)
        except ExchangeError as error:
            self._meter.submission(name, error.outcome.value)
            order.managed.error = str(error)
            if error.outcome is Outcome.UNKNOWN:
                return await self._resolve(order, window, error, attempts)
            order.lease.doubt_until_mono_ms = 0.0
            return await self._again(order, error, attempts)
        self._meter.submission(name, "accepted")
        return self._found(order, report, attempts)

    def _found(self, order: AdmittedOrder, report: OrderReport, attempts: int) -> Submission:
        order.lease.doubt_until_mono_ms = 0.0
        self._orders.report(order.managed, report)
        return Submission(order=order, report=report, attempts=attempts)

    async def _again(
        self, order: AdmittedOrder, error: ExchangeError, attempts: int
    ) -> Failed | Postponed | None:
        """After a definite "not there": wait and go round again, or give up with the reason."""
        retriable = error.outcome is not Outcome.REFUSED or error.transient
        if not retriable or attempts > self._config.max_retries:
            return self._give_up(order, error, attempts)
        delay = self._delay(attempts)
        if isinstance(error, ClockSkewError):
            await self._measure_clock(order)
        if error.outcome is Outcome.THROTTLED:
            delay = max(delay, error.retry_after_s)
            await self._pause_fleet(order.adapter.name, error.retry_after_s or delay)
        if self._too_late(order, delay):
            return self._give_up(order, error, attempts)
        if self._draining():
            return Postponed(reason="draining before a retry")
        self._meter.retry(order.adapter.name, error.outcome.value)
        await self._clock.sleep(delay)
        return None

    async def _measure_clock(self, order: AdmittedOrder) -> None:
        try:
            await order.adapter.measure_clock()
        except ExchangeError as error:
            order.managed.error = str(error)  # the next attempt carries the old offset

    async def _pause_fleet(self, exchange: str, seconds: float) -> None:
        try:
            await self._ledger.throttle(exchange, int(seconds * 1000))
        except LedgerUnavailableError:
            return  # this worker waits all the same, the others will be told by the exchange

    async def _resolve(
        self, order: AdmittedOrder, window: SendWindow, error: ExchangeError, attempts: int
    ) -> Submission | Failed | Lost | Postponed | Unresolved | None:
        """After an unknown outcome: ask until it is proven one way or the other."""
        absent_after = window.expires_mono_ms + order.adapter.visibility_ms
        try:
            found = await self._look_up.find(order, absent_after)
        except SilentError as silence:
            return self._unresolved(order, f"{error}; {silence}")
        order.lease.doubt_until_mono_ms = 0.0
        if found is not None:
            return self._found(order, found, attempts)
        if order.adapter.resend is Resend.NEVER:
            return self._unresolved(order, f"{error}; {_NEVER.format(order.adapter.name)}")
        absent = ExchangeError(str(error), outcome=Outcome.NOT_SENT, code=error.code)
        return await self._again(order, absent, attempts)

    def _unresolved(self, order: AdmittedOrder, reason: str) -> Unresolved | Lost:
        if order.lease.lost:
            return Lost()
        self._orders.note(order.managed, Fact.LOST)
        return Unresolved(order=order, reason=reason)

    def _delay(self, attempts: int) -> float:
        """``min(base · factor^(n-1), max)``, plus or minus the jitter, in seconds."""
        # The state tenacity gives a retried block of code; whether to go on at all is decided here.
        state = RetryCallState(self._retrying, fn=None, args=(), kwargs={})
        state.attempt_number = attempts
        jitter = 1 + self._random.uniform(-self._config.jitter, self._config.jitter)
        return self._retrying.wait(state) * jitter

    def _too_late(self, order: AdmittedOrder, delay_s: float) -> bool:
        return self._clock.now_ms() + delay_s * 1000 >= order.expires_ms

    def _give_up(self, order: AdmittedOrder, error: ExchangeError, attempts: int) -> Failed:
        fact = Fact.REJECTED if error.outcome is Outcome.REFUSED else Fact.FAILED
        self._orders.note(order.managed, fact)
        return Failed(
            refusal=Refusal(
                Stage.EXECUTION, _code_of(error), f"{order.adapter.name}: {error}", attempts
            ),
            signal=order.signal,
            digest=order.digest,
            order=order,
        )

    def _fail(self, order: AdmittedOrder, code: Code, reason: str, attempts: int) -> Failed:
        return self._end(order, Refusal(Stage.EXECUTION, code, reason, attempts))

    def _end(self, order: AdmittedOrder, refusal: Refusal) -> Failed:
        self._orders.note(order.managed, Fact.FAILED)
        return Failed(refusal=refusal, signal=order.signal, digest=order.digest, order=order)


#: After any other end of this stage another delivery goes on.
_DECIDED: Final = (Submission, Failed)
_NEVER: Final = "not found, and {} cannot refuse a late request, so it is not sent again"


def _code_of(error: ExchangeError) -> Code:
    if isinstance(error, InsufficientBalanceError):
        return Code.INSUFFICIENT_BALANCE
    if isinstance(error, CredentialsError):
        return Code.CREDENTIALS_REFUSED
    if isinstance(error, ClockSkewError):
        return Code.CLOCK_SKEW
    if error.outcome is Outcome.THROTTLED:
        return Code.RATE_LIMITED
    if error.outcome is Outcome.NOT_SENT:
        return Code.EXCHANGE_UNAVAILABLE
    return Code.ORDER_REJECTED
