"""The execution stage: sends an order so that the exchange accepts it at most once."""

from collections.abc import Mapping
from typing import Final, Protocol

from tenacity import AsyncRetrying, RetryCallState, wait_exponential

from worker.config.keys import ExecutionConfig
from worker.domain.money import text
from worker.domain.order import SENT, Fact, OrderReport
from worker.domain.refusal import Code, Refusal, Stage
from worker.exchanges.errors import (
    ClockSkewError,
    ExchangeError,
    InsufficientBalanceError,
    Outcome,
)
from worker.exchanges.ports import ExchangeAdapter, Resend, SendWindow
from worker.ledger.errors import LedgerUnavailableError
from worker.ledger.ports import Ledger
from worker.pipeline.custody import Custody
from worker.pipeline.error_codes import code_of
from worker.pipeline.flow import (
    AdmittedOrder,
    Failed,
    Lost,
    MaybeSent,
    NeverSent,
    Postponed,
    Submission,
    Unresolved,
)
from worker.pipeline.look_up import LookUp, LookUpMeter, SilentError
from worker.pipeline.orders import OrderManager
from worker.pipeline.permissions import PERMISSION_TTL_MS, Permissions, is_too_late
from worker.pipeline.short_wallet import cut_to_wallet, sells_coins
from worker.pipeline.worker_state import WorkerState
from worker.runtime.clock import Clock, Random
from worker.runtime.logger import get_logger


class ExecutionMeter(LookUpMeter, Protocol):
    """Counts what the stage does; metrics in production."""

    def submission(self, exchange: str, outcome: str) -> None:
        """Count one create request: accepted, refused, not_sent, throttled or unknown."""

    def retry(self, exchange: str, cause: str) -> None:
        """Count one repetition and why."""


log = get_logger()


class OrderExecutorHandler:
    """The third stage: sends, and resolves what it cannot know.

    Every attempt fixes its time window first, then checks the lease against it, and only then
    sends: a worker that was paused in between is refused by the exchange itself.

    Args:
        config: the ``execution`` section.
        exchanges: by name.
        ledger: asked again before anything is sent a second time, or long after its admission.
        orders: told what happens.
        state: of the worker; nothing new is waited for while it drains.
        clock: time.
        random: for the jitter of the backoff.
        meter: counts submissions, retries and look-ups.
    """

    def __init__(
        self,
        config: ExecutionConfig,
        *,
        exchanges: Mapping[str, ExchangeAdapter],
        ledger: Ledger,
        orders: OrderManager,
        state: WorkerState,
        clock: Clock,
        random: Random,
        meter: ExecutionMeter,
    ) -> None:
        self._config = config
        self._exchanges = exchanges
        self._ledger = ledger
        self._orders = orders
        self._state = state
        self._clock = clock
        self._random = random
        self._meter = meter
        self._look_up = LookUp(config, clock=clock, meter=meter)
        self._permissions = Permissions(ledger=ledger, state=state, clock=clock)
        self._retrying = AsyncRetrying(
            wait=wait_exponential(
                multiplier=config.base_delay, exp_base=config.backoff_factor, max=config.max_delay
            )
        )

    async def handle(
        self, order: AdmittedOrder, custody: Custody
    ) -> Submission | Failed | Lost | Postponed | Unresolved:
        """Send the order, or find that it has been sent."""
        before = order.sent_before
        found = None if isinstance(before, NeverSent) else await self._find(order, before, custody)
        result = await self._send(order, custody) if found is None else found
        if not isinstance(result, _DECIDED):
            self._orders.forget(custody.order)  # whoever gets the entry next begins it anew
        return result

    async def _find(
        self, order: AdmittedOrder, before: MaybeSent, custody: Custody
    ) -> Submission | Failed | Lost | Unresolved | None:
        """Look for what an earlier delivery may have sent; None if it may be sent now."""
        adapter = self._exchange(order)
        self._orders.note(custody.order, SENT)
        try:
            found = await self._look_up.find(adapter, order, custody, before.absent_after_mono_ms)
        except SilentError as silence:
            return self._decided(order, custody) or self._unresolved(order, custody, str(silence))
        if found is not None:
            return self._found(order, custody, found, attempts=1)
        decided = self._decided(order, custody)
        if decided is not None:
            return decided
        if order.give_up is not None:
            return self._end(order, custody, order.give_up)
        rule = adapter.resend_rule(order.request)
        if before.absent_after_mono_ms is not None and rule is Resend.NEVER:
            return self._unresolved(order, custody, _NEVER.format(adapter.name))
        return None

    def _decided(
        self, order: AdmittedOrder, custody: Custody
    ) -> Submission | Failed | Lost | Unresolved | None:
        """Return what a person says became of the order; None where nobody has said anything.

        Asked only where the exchange does not tell, or has no such order (any more).
        """
        verdict = order.verdict
        if verdict is None:
            return None
        if order.piece > 1 and verdict.filled:
            return self._unresolved(
                order,
                custody,
                f"{verdict.actor} decided that {text(verdict.filled)} traded, but the close has "
                f"{order.piece} orders, and which one is meant is not certain: decide that it is "
                "absent, then correct the position by what traded",
            )
        ordered = order.request.quantity
        is_sized = order.give_up is None or order.signal.quantity is not None or order.position
        if is_sized and verdict.filled > ordered:
            return self._unresolved(
                order,
                custody,
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
            return self._found(order, custody, verdict.report(order.request), attempts=1)
        exchange = order.signal.exchange
        reason = f"{verdict.actor} decided that it is not on {exchange}: {verdict.reason}"
        return self._fail(order, custody, Code.DECIDED_ABSENT, reason, attempts=1)

    async def _send(
        self, order: AdmittedOrder, custody: Custody
    ) -> Submission | Failed | Lost | Postponed | Unresolved:
        """Send until the exchange has it or it is known why not."""
        adapter, permission = self._exchange(order), order.permission
        attempts = 0
        while True:
            # Whatever has to be waited for is waited for first: after the last look nothing waits.
            if (
                attempts
                or permission is None
                or permission.pause_ms
                or self._clock.monotonic_ms() - permission.asked_mono_ms > PERMISSION_TTL_MS
            ):
                end = await self._permissions.renew(order, custody)
                if end is not None:
                    return self._not_permitted(order, custody, end, attempts)
            within_ms = order.lifetime.expires_ms - self._clock.now_ms()
            wait_ms = adapter.take_turn(within_ms, order.request)
            if wait_ms > 0:
                end = await self._permissions.await_turn(adapter, order, custody, wait_ms)
                if end is not None:
                    return self._not_permitted(order, custody, end, attempts)
            window = self._open_window(adapter, order, custody, attempts)
            if not isinstance(window, SendWindow):
                return window
            attempts += 1
            result = await self._attempt(adapter, order, custody, window, attempts)
            if isinstance(result, AdmittedOrder):
                order = result
            elif result is not None:
                return result

    def _open_window(
        self, adapter: ExchangeAdapter, order: AdmittedOrder, custody: Custody, attempts: int
    ) -> SendWindow | Failed | Lost | Postponed:
        """Take the last look; the window is fixed before the lease is looked at."""
        skew = abs(adapter.clock_offset.offset_ms) + adapter.clock_offset.uncertainty_ms
        if skew > self._config.max_clock_skew_ms:
            return self._fail(
                order,
                custody,
                Code.CLOCK_SKEW,
                f"this machine's clock is {skew:.0f} ms from {adapter.name}'s; "
                f"execution.max_clock_skew_ms is {self._config.max_clock_skew_ms}",
                attempts,
            )
        window = adapter.open_window()
        if self._clock.now_ms() >= order.lifetime.expires_ms:
            reason = "expires_at: passed before the order was sent"
            return self._fail(order, custody, Code.SIGNAL_EXPIRED, reason, attempts)
        if not custody.covers(window.expires_mono_ms + self._config.skew_margin_ms):
            return Lost() if custody.is_lost else Postponed(reason="lease too short to send")
        return window

    async def _attempt(
        self,
        adapter: ExchangeAdapter,
        order: AdmittedOrder,
        custody: Custody,
        window: SendWindow,
        attempts: int,
    ) -> Submission | AdmittedOrder | Failed | Lost | Postponed | Unresolved | None:
        """Send once; None to go round again, an order to go round with that one."""
        managed = custody.order
        managed.attempts = attempts
        self._orders.note(managed, SENT)
        # As long as a lease would have to last: a successor reckons back from where it ends.
        custody.doubt(window.expires_mono_ms + self._config.skew_margin_ms)
        try:
            report = await adapter.place_order(order.request, window)
        except ExchangeError as error:
            self._meter.submission(adapter.name, error.outcome.value)
            managed.error = str(error)
            if error.outcome is Outcome.UNKNOWN:
                return await self._resolve(order, custody, window, error, attempts)
            custody.clear_doubt()
            if isinstance(error, InsufficientBalanceError) and sells_coins(order):
                return await self._cut(order, custody, error, attempts)
            return await self._again(order, custody, error, attempts)
        self._meter.submission(adapter.name, "accepted")
        return self._found(order, custody, report, attempts)

    def _found(
        self, order: AdmittedOrder, custody: Custody, report: OrderReport, attempts: int
    ) -> Submission:
        custody.clear_doubt()
        self._orders.report(custody.order, report)
        return Submission(order=order, report=report, attempts=attempts)

    async def _again(
        self, order: AdmittedOrder, custody: Custody, error: ExchangeError, attempts: int
    ) -> Failed | Postponed | None:
        """After a definite "not there": wait and go round again, or give up with the reason."""
        adapter = self._exchange(order)
        retriable = error.outcome is not Outcome.REFUSED or error.transient
        if not retriable or attempts > self._config.max_retries:
            return self._give_up(order, custody, error, attempts)
        delay = self._delay(attempts)
        if isinstance(error, ClockSkewError):
            await self._measure_clock(adapter, custody)
        if error.outcome is Outcome.THROTTLED:
            delay = max(delay, error.retry_after_s)
            if adapter.request_gate is None:  # a gate tells the fleet itself, of every request
                await self._pause_fleet(adapter.name, error.retry_after_s or delay)
        if is_too_late(order, self._clock, delay):
            return self._give_up(order, custody, error, attempts)
        if self._state.draining:
            return Postponed(reason="draining before a retry")
        self._meter.retry(adapter.name, error.outcome.value)
        await self._clock.sleep(delay)
        return None

    async def _cut(
        self, order: AdmittedOrder, custody: Custody, error: ExchangeError, attempts: int
    ) -> AdmittedOrder | Failed:
        """After a sale was refused for want of coins: go on with what is there, or say the drift.

        The refusal is definite, so the same client order id may be sent again.
        """
        cut = await cut_to_wallet(self._exchange(order), order, error)
        if isinstance(cut, AdmittedOrder):
            custody.order.request = cut.request
            return cut
        return self._give_up(order, custody, cut, attempts)

    async def _measure_clock(self, adapter: ExchangeAdapter, custody: Custody) -> None:
        try:
            await adapter.measure_clock()
        except ExchangeError as error:
            custody.order.error = str(error)  # the next attempt carries the old offset

    async def _pause_fleet(self, exchange: str, seconds: float) -> None:
        try:
            await self._ledger.throttle(exchange, int(seconds * 1000))
        except LedgerUnavailableError:
            return  # this worker waits all the same; the exchange refuses the others' orders

    async def _resolve(
        self,
        order: AdmittedOrder,
        custody: Custody,
        window: SendWindow,
        error: ExchangeError,
        attempts: int,
    ) -> Submission | Failed | Lost | Postponed | Unresolved | None:
        """After an unknown outcome: ask until it is proven one way or the other."""
        adapter = self._exchange(order)
        absent_after_mono_ms = window.expires_mono_ms + adapter.visibility_ms
        try:
            found = await self._look_up.find(adapter, order, custody, absent_after_mono_ms)
        except SilentError as silence:
            return self._unresolved(order, custody, f"{error}; {silence}")
        custody.clear_doubt()
        if found is not None:
            return self._found(order, custody, found, attempts)
        if adapter.resend_rule(order.request) is Resend.NEVER:
            reason = f"{error}; {_NEVER.format(adapter.name)}"
            return self._unresolved(order, custody, reason)
        # What the exchange answered, and does not have, it has refused: in its own words.
        outcome = Outcome.REFUSED if error.answered else Outcome.NOT_SENT
        absent = ExchangeError(str(error), outcome=outcome, code=error.code)
        return await self._again(order, custody, absent, attempts)

    def _not_permitted(
        self,
        order: AdmittedOrder,
        custody: Custody,
        end: Refusal | Lost | Postponed,
        attempts: int,
    ) -> Failed | Lost | Postponed:
        if not isinstance(end, Refusal):
            return end
        return self._fail(order, custody, end.code, end.reason, attempts)

    def _exchange(self, order: AdmittedOrder) -> ExchangeAdapter:
        return self._exchanges[order.signal.exchange]

    def _unresolved(self, order: AdmittedOrder, custody: Custody, reason: str) -> Unresolved | Lost:
        if custody.is_lost:
            return Lost()
        self._orders.note(custody.order, Fact.LOST)
        return Unresolved(order=order, reason=reason)

    def _delay(self, attempts: int) -> float:
        """Return ``min(base · factor^(n-1), max)``, plus or minus the jitter, in seconds."""
        # The state tenacity gives a retried block of code; whether to go on at all is decided here.
        state = RetryCallState(self._retrying, fn=None, args=(), kwargs={})
        state.attempt_number = attempts
        jitter = 1 + self._random.uniform(-self._config.jitter, self._config.jitter)
        return self._retrying.wait(state) * jitter

    def _give_up(
        self, order: AdmittedOrder, custody: Custody, error: ExchangeError, attempts: int
    ) -> Failed:
        fact = Fact.REJECTED if error.outcome is Outcome.REFUSED else Fact.FAILED
        self._orders.note(custody.order, fact)
        return Failed(
            refusal=Refusal(
                Stage.EXECUTION, code_of(error), f"{order.signal.exchange}: {error}", attempts
            ),
            signal=order.signal,
            digest=order.digest,
            order=order,
        )

    def _fail(
        self, order: AdmittedOrder, custody: Custody, code: Code, reason: str, attempts: int
    ) -> Failed:
        return self._end(order, custody, Refusal(Stage.EXECUTION, code, reason, attempts))

    def _end(self, order: AdmittedOrder, custody: Custody, refusal: Refusal) -> Failed:
        self._orders.note(custody.order, Fact.FAILED)
        return Failed(refusal=refusal, signal=order.signal, digest=order.digest, order=order)


#: After any other end of this stage another delivery goes on.
_DECIDED: Final = (Submission, Failed)
_NEVER: Final = "not found, and {} cannot refuse a late request, so it is not sent again"
