"""The reconciliation stage: follows an accepted order to its end and gets its trades."""

import math
from collections.abc import Mapping
from typing import Final

from worker.config.keys import ReconciliationConfig
from worker.domain.fees import estimated_fee, total_fees
from worker.domain.money import ZERO
from worker.domain.order import (
    TERMINAL,
    Fill,
    OrderReport,
    OrderState,
    average_price,
    total_quantity,
)
from worker.domain.refusal import Code, Refusal, Stage
from worker.exchanges.errors import ExchangeError, OrderNotFoundError
from worker.exchanges.ports import ExchangeAdapter
from worker.pipeline.custody import Custody
from worker.pipeline.flow import (
    AdmittedOrder,
    Failed,
    Lost,
    Settlement,
    Submission,
    Unresolved,
)
from worker.pipeline.orders import OrderManager
from worker.pipeline.worker_state import WorkerState
from worker.runtime.clock import Clock
from worker.runtime.logger import get_logger

log = get_logger()
#: By itself, as in :mod:`worker.domain.signal`.
_REJECTED: Final = OrderState.REJECTED

#: How often an order's trades are asked for until they add up to its filled quantity.
TRADE_LOOKUPS: Final = 4
#: The longest pause between two requests to cancel, seconds (or ``poll_interval`` if longer).
LONGEST_PAUSE_S: Final = 2.0


class ReconciliationHandler:
    """The last stage: takes the create response if it is terminal, else polls, at last cancels.

    Args:
        config: the ``reconciliation`` section.
        exchanges: by name.
        orders: told what the exchange reports.
        state: of the worker; open entries are cancelled while the account may not open positions.
        clock: time.
    """

    def __init__(
        self,
        config: ReconciliationConfig,
        *,
        exchanges: Mapping[str, ExchangeAdapter],
        orders: OrderManager,
        state: WorkerState,
        clock: Clock,
    ) -> None:
        self._config = config
        self._exchanges = exchanges
        self._orders = orders
        self._state = state
        self._clock = clock

    async def handle(
        self, submission: Submission, custody: Custody
    ) -> Settlement | Failed | Lost | Unresolved:
        """Wait for the order to end, cancelling what is still open after ``max_wait_time``."""
        order, report = submission.order, submission.report
        if report.state not in TERMINAL:
            ended = await self._follow(order, custody, report)
            if not isinstance(ended, OrderReport):
                self._orders.forget(custody.order)  # another delivery goes on
                return ended
            report = ended
        if report.state is _REJECTED and not report.filled_quantity:
            return Failed(
                refusal=Refusal(
                    Stage.RECONCILIATION,
                    Code.ORDER_REJECTED,
                    f"{order.signal.exchange} rejected it: {report.reason or 'no reason given'}",
                    submission.attempts,
                    report.exchange_order_id,
                ),
                signal=order.signal,
                digest=order.digest,
                order=order,
            )
        fills = _reported_fills(report)
        if fills is None:
            fills = await self._look_up_fills(order, report) or _decided_fills(order, report)
        if fills is None:
            self._orders.forget(custody.order)  # another delivery goes on
            reason = f"{order.signal.exchange} does not tell the order's trades"
            return Lost() if custody.is_lost else Unresolved(order=order, reason=reason)
        return Settlement(
            order=order,
            report=report,
            fills=fills,
            filled=total_quantity(fills),
            average_price=average_price(fills),
            fees=total_fees(fills),
            attempts=submission.attempts,
        )

    async def _follow(
        self, order: AdmittedOrder, custody: Custody, report: OrderReport
    ) -> OrderReport | Lost | Unresolved:
        """Poll until the order ends; have it cancelled when its time is up, or nothing may open.

        A request to cancel that fails is repeated, ever more rarely, for as long again.
        """
        started = self._clock.monotonic_ms()
        patience_ms = self._config.max_wait_time * 1000
        pause_s = self._config.poll_interval
        cancel_at_ms, tries = patience_ms, 0
        if report.state is OrderState.SUBMITTED:
            report = await self._poll(order, custody, report)
        while report.state not in TERMINAL:
            waited = self._clock.monotonic_ms() - started
            if custody.is_lost:
                return Lost()
            if not tries and order.position is None and not self._state.may_open:
                cancel_at_ms = waited
            if waited >= cancel_at_ms and (waited < 2 * patience_ms or not tries):
                tries += 1
                wish_s = await self._cancel(order, report)
                waited = self._clock.monotonic_ms() - started
                cancel_at_ms = waited + max(pause_s, wish_s) * 1000
                pause_s = min(2 * pause_s, max(LONGEST_PAUSE_S, self._config.poll_interval))
            elif waited >= 2 * patience_ms:
                return Unresolved(
                    order=order,
                    reason=f"{order.signal.exchange} neither fills nor cancels the order",
                )
            else:
                await self._clock.sleep(self._config.poll_interval)
            report = await self._poll(order, custody, report)
        return report

    async def _poll(self, order: AdmittedOrder, custody: Custody, last: OrderReport) -> OrderReport:
        """Return the order's newest report, the last one if the exchange does not answer."""
        try:
            report = await self._exchange(order).get_order(order.request, last.exchange_order_id)
        except ExchangeError as error:
            log.warning(
                "order_poll_failed",
                client_order_id=order.request.client_order_id,
                exchange=order.signal.exchange,
                error=str(error),
            )
            return last
        self._orders.report(custody.order, report)
        return report

    async def _cancel(self, order: AdmittedOrder, report: OrderReport) -> float:
        """Ask for the order's cancellation.

        Returns:
            How long to wait at least before asking again, in seconds: for ever once the exchange
            has taken the request.
        """
        try:
            await self._exchange(order).cancel_order(order.request, report.exchange_order_id)
        except OrderNotFoundError:
            return math.inf  # it has just ended; the next poll tells how
        except ExchangeError as error:
            log.warning(
                "cancel_failed",
                client_order_id=order.request.client_order_id,
                exchange=order.signal.exchange,
                error=str(error),
            )
            return error.retry_after_s
        return math.inf

    def _exchange(self, order: AdmittedOrder) -> ExchangeAdapter:
        return self._exchanges[order.signal.exchange]

    async def _look_up_fills(
        self, order: AdmittedOrder, report: OrderReport
    ) -> tuple[Fill, ...] | None:
        """Return trades that add up to the order's filled quantity; None if there are none."""
        if not self._config.verify_fill:
            return (_estimate(order, report),) if report.average_price else None
        for attempt in range(TRADE_LOOKUPS):
            if attempt:
                await self._clock.sleep(self._config.poll_interval)
            try:
                fills = await self._exchange(order).get_trades(order.request, report)
            except ExchangeError as error:
                log.warning(
                    "trade_lookup_failed",
                    client_order_id=order.request.client_order_id,
                    exchange=order.signal.exchange,
                    error=str(error),
                )
                continue
            if total_quantity(fills) == report.filled_quantity:
                return fills
        return None


def _reported_fills(report: OrderReport) -> tuple[Fill, ...] | None:
    """Return the order's trades where the report has all of them."""
    if not report.filled_quantity:
        return ()
    return report.fills if total_quantity(report.fills) == report.filled_quantity else None


def _decided_fills(order: AdmittedOrder, report: OrderReport) -> tuple[Fill, ...] | None:
    """Return the trades a person decided on, if they add up to the exchange's filled quantity."""
    verdict = order.verdict
    if verdict is None or verdict.filled != report.filled_quantity:
        return None
    return verdict.report(order.request).fills


def _estimate(order: AdmittedOrder, report: OrderReport) -> Fill:
    """Build one fill for the whole order, where ``reconciliation.verify_fill`` is off."""
    quantity, price = report.filled_quantity, report.average_price or ZERO
    fee, currency = estimated_fee(quantity, price, order.request.side, order.info)
    return Fill(
        trade_id=report.exchange_order_id or report.client_order_id,
        quantity=quantity,
        price=price,
        fee=fee,
        fee_currency=currency,
    )
