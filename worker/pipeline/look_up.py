"""Looks an order up at the exchange until it is found, or proven not to be there."""

from typing import Final, Protocol

from worker.config.keys import ExecutionConfig
from worker.domain.order import OrderReport
from worker.exchanges.errors import ExchangeError, OrderNotFoundError
from worker.exchanges.ports import ExchangeAdapter
from worker.pipeline.custody import Custody
from worker.pipeline.flow import AdmittedOrder
from worker.runtime.clock import Clock

#: Pauses between look-ups of one order, seconds: the first, and the longest.
FIRST_LOOKUP_S: Final = 0.1
LONGEST_LOOKUP_S: Final = 2.0
#: A loop's timers have a grain of a millisecond and may fire half of one early.
TIMER_GRAIN_S: Final = 0.001


class SilentError(Exception):
    """No answer of the exchange has proven anything in time."""


class LookUpMeter(Protocol):
    """Counts look-ups; metrics in production."""

    def lookup(self, exchange: str, result: str) -> None:
        """Count one look-up: found, absent or unknown."""


class LookUp:
    """Proves that an order is there, or that it is not and never will be.

    "Not found" proves nothing while a request may still be on its way: only an answer to a
    question asked after the last request's deadline does.

    Args:
        config: the ``execution`` section.
        clock: time.
        meter: counts look-ups.
    """

    def __init__(self, config: ExecutionConfig, *, clock: Clock, meter: LookUpMeter) -> None:
        self._clock = clock
        self._meter = meter
        self._patience_ms = config.max_lookup_seconds * 1000
        #: How much older than its admission an order of ours may look, by the exchange's time.
        self._margin_ms = config.skew_margin_ms + config.max_clock_skew_ms

    async def find(
        self,
        adapter: ExchangeAdapter,
        order: AdmittedOrder,
        custody: Custody,
        absent_after_mono_ms: float | None,
    ) -> OrderReport | None:
        """Ask the exchange for the order by its client id.

        Returns:
            The report, or None once "not found" was the answer to a question asked after
            ``absent_after_mono_ms`` (local monotonic; None where any answer is proof).

        Raises:
            SilentError: no proof within ``execution.max_lookup_seconds``.
        """
        name = adapter.name
        give_up = self._clock.monotonic_ms() + self._patience_ms
        pause = FIRST_LOOKUP_S
        while True:
            asked = self._clock.monotonic_ms()
            has_answer = False
            try:
                report = await adapter.get_order(order.request)
            except OrderNotFoundError:
                if absent_after_mono_ms is None or asked >= absent_after_mono_ms:
                    self._meter.lookup(name, "absent")
                    return None
                problem, has_answer = "not found, which proves nothing yet", True
            except ExchangeError as error:
                self._meter.lookup(name, "unknown")
                problem = str(error)
            else:
                if self._is_ours(order, report):
                    self._meter.lookup(name, "found")
                    return report
                problem = f"an older order {report.exchange_order_id} has the same client order id"
            now = self._clock.monotonic_ms()
            # It waited for its turn in the request budget: the next answer is proof.
            is_proof_next = (
                has_answer and absent_after_mono_ms is not None and now >= absent_after_mono_ms
            )
            if custody.is_lost or (now > give_up and not is_proof_next):
                raise SilentError(problem)
            wait_s = 0.0 if is_proof_next else pause
            if absent_after_mono_ms is not None and now < absent_after_mono_ms:
                wait_s = min(pause, (absent_after_mono_ms - now) / 1000 + TIMER_GRAIN_S)
            await self._clock.sleep(max(wait_s, TIMER_GRAIN_S))
            pause = min(pause * 2, LONGEST_LOOKUP_S)

    def _is_ours(self, order: AdmittedOrder, report: OrderReport) -> bool:
        """Return whether a report is of our order: ids are unique among open orders only."""
        return (
            not report.created_ms or report.created_ms >= order.plan.not_before_ms - self._margin_ms
        )
