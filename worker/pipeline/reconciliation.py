"""The reconciliation stage: follows an accepted order to its end and gets its trades."""

import math
from collections.abc import Mapping
from itertools import count
from typing import Final

import msgspec

from worker.config.keys import ReconciliationConfig
from worker.domain.fees import total_fees
from worker.domain.market import LINEAR, SPOT
from worker.domain.order import (
    TERMINAL,
    Fill,
    OrderReport,
    OrderState,
    average_price,
    total_quantity,
)
from worker.domain.plausibility import ImplausibleError, check_progress
from worker.domain.position import Position, is_untradable
from worker.domain.refusal import CancelCode, Code, Refusal, Stage
from worker.domain.signal import OPEN
from worker.domain.trading_state import TradingState
from worker.exchanges.budget.classes import RequestClass, asking
from worker.exchanges.errors import ExchangeError, OrderNotFoundError, RateLimitError
from worker.exchanges.ports import ExchangeAdapter
from worker.pipeline.custody import Custody
from worker.pipeline.flow import (
    AdmittedOrder,
    Failed,
    Lost,
    Settlement,
    Submission,
    Unresolved,
    WriteOff,
)
from worker.pipeline.order_trades import decided_fills, estimate, mismatch, reported_fills
from worker.pipeline.orders import OrderManager
from worker.pipeline.short_wallet import as_it_was_cut
from worker.pipeline.sizing import check_exit
from worker.pipeline.worker_state import WorkerState
from worker.runtime.clock import Clock
from worker.runtime.logger import get_logger

log = get_logger()
#: By itself, as in :mod:`worker.domain.signal`.
_REJECTED: Final = OrderState.REJECTED

#: The longest that one request about a live order waits for its turn in the budget, seconds.
LONGEST_TURN_S: Final = 60.0
#: The longest pause between two requests to cancel, and between two requests for trades that are
#: not listed yet, seconds (or ``poll_interval`` if longer).
LONGEST_PAUSE_S: Final = 2.0
#: Requests for trades that follow one another at ``poll_interval``, before the pauses grow.
SOON: Final = 3
#: How often an exchange is asked whether it holds anything of a position that it cut an order to.
POSITION_LOOKS: Final = 3


class Followed(msgspec.Struct, frozen=True, gc=False):
    """The last report of an order that is over, and why its cancellation was asked for, if it was.

    The order may have ended otherwise all the same: the report decides.
    """

    report: OrderReport
    cancelled_for: CancelCode | None


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
        order, report, cancelled_for = submission.order, submission.report, None
        if report.state not in TERMINAL:
            ended = await self._follow(order, custody, report)
            if not isinstance(ended, Followed):
                self._orders.forget(custody.order)  # another delivery goes on
                return ended
            report, cancelled_for = ended.report, ended.cancelled_for
        if report.state is _REJECTED and not report.filled_quantity:
            return await self.check_refused(
                Failed(
                    refusal=Refusal(
                        Stage.RECONCILIATION,
                        Code.ORDER_REJECTED,
                        f"{order.signal.exchange} rejected it: "
                        f"{report.reason or 'no reason given'}",
                        submission.attempts,
                        report.exchange_order_id,
                    ),
                    signal=order.signal,
                    digest=order.digest,
                    order=order,
                )
            )
        fills = reported_fills(report)
        if fills is None:
            found = await self._look_up_fills(order, custody, report)
            fills = decided_fills(order, report) if isinstance(found, str) else found
            if fills is None:
                self._orders.forget(custody.order)  # another delivery goes on
                reason = f"{order.signal.exchange} does not tell the order's trades: {found}"
                return Lost() if custody.is_lost else Unresolved(order=order, reason=reason)
        order = as_it_was_cut(order, report)
        return Settlement(
            order=order,
            report=report,
            fills=fills,
            filled=total_quantity(fills),
            average_price=average_price(fills),
            fees=total_fees(fills),
            attempts=submission.attempts,
            cancelled_for=cancelled_for,
        )

    async def ask_once(self, submission: Submission, custody: Custody) -> Submission:
        """Ask for the order if its create response held only ids; without an answer it stays so."""
        if submission.report.state is not OrderState.SUBMITTED:
            return submission
        patience_ms = self._config.max_wait_time * 1000
        report, _ = await self._poll(submission.order, custody, submission.report, patience_ms)
        return msgspec.structs.replace(submission, report=report)

    async def check_refused(self, failed: Failed) -> Failed:
        """Find out whether a close was refused because nothing is held, or too little to trade.

        Returns:
            The failure; where the exchange holds nothing of the position, or would take no order as
            small as it is, with that said, and the position written off.
        """
        order, refusal = failed.order, failed.refusal
        if order is None or order.position is None or refusal.code is not Code.ORDER_REJECTED:
            return failed
        if order.info.kind is SPOT:
            return await self._check_dust(failed, order, order.position)
        if not await self._is_flat(order, looks=1):
            return failed
        reason = (
            f"{refusal.reason}; {order.signal.exchange} holds no position in "
            f"{order.request.symbol} any more, so the one in the book is closed too"
        )
        return msgspec.structs.replace(
            failed,
            refusal=msgspec.structs.replace(refusal, reason=reason),
            order=msgspec.structs.replace(order, write_off=WriteOff.GONE),
        )

    async def _check_dust(self, failed: Failed, order: AdmittedOrder, position: Position) -> Failed:
        """Judge a refused sale by the market's price, which was not known when it was sent."""
        if order.signal.action is OPEN or not order.info.min_notional:
            return failed
        try:
            market = (await self._exchange(order).get_ticker(order.request.symbol)).last
        except ExchangeError as error:
            log.warning("price_lookup_failed", exchange=order.signal.exchange, error=str(error))
            return failed
        if not is_untradable(position.quantity, market, order.info):
            return failed
        breach = check_exit(order.signal, position, order.request, order.info, market)
        if breach is None:
            return failed
        refusal = msgspec.structs.replace(
            failed.refusal, code=breach.code, reason=f"{failed.refusal.reason}; {breach.reason}"
        )
        order = msgspec.structs.replace(order, write_off=WriteOff.UNTRADABLE)
        return msgspec.structs.replace(failed, refusal=refusal, order=order)

    async def check_cut(self, end: Settlement) -> Settlement:
        """Find out whether a reduce-only order was cut short because nothing more was held.

        An order that ended early has other reasons too, so the exchange's positions decide.

        Args:
            end: of every order of the close: what a further one may have traded is no cut.
        """
        order, position = end.order, end.order.position
        if position is None or order.write_off is not None or not _reduces(order):
            return end
        if end.filled >= min(order.request.quantity, position.quantity):
            return end
        looks = POSITION_LOOKS if end.report.state is OrderState.FILLED else 1
        if not await self._is_flat(order, looks=looks):
            return end
        order = msgspec.structs.replace(order, write_off=WriteOff.GONE)
        return msgspec.structs.replace(end, order=order)

    async def _is_flat(self, order: AdmittedOrder, *, looks: int) -> bool:
        """Return whether the exchange says that it holds nothing of the order's position.

        Args:
            order: a close.
            looks: how often to ask while it still shows something: it may be a moment behind.
        """
        position = order.position
        if position is None or not _reduces(order):
            return False
        for look in range(looks):
            if look:
                await self._clock.sleep(self._config.poll_interval)
            try:
                with asking(RequestClass.POLL):
                    held = await self._exchange(order).get_positions()
            except ExchangeError as error:
                log.warning(
                    "position_lookup_failed",
                    client_order_id=order.request.client_order_id,
                    exchange=order.signal.exchange,
                    error=str(error),
                )
                continue
            if not any(
                one.symbol == position.symbol and one.direction is position.direction
                for one in held
            ):
                return True
        return False

    async def _follow(
        self, order: AdmittedOrder, custody: Custody, report: OrderReport
    ) -> Followed | Lost | Unresolved:
        """Poll until the order ends; have it cancelled when its time is up, or nothing may open.

        A request to cancel that fails is repeated, ever more rarely, for as long again.
        """
        started = self._clock.monotonic_ms()
        patience_ms = self._config.max_wait_time * 1000
        pause_s = self._config.poll_interval
        cancel_at_ms, tries, problem = patience_ms, 0, ""
        code = CancelCode.NOT_FILLED_IN_TIME
        if report.state is OrderState.SUBMITTED:
            report, problem = await self._poll(order, custody, report, patience_ms)
        while report.state not in TERMINAL:
            waited = self._clock.monotonic_ms() - started
            if custody.is_lost:
                return Lost()
            if not tries and order.position is None and not self._state.may_open:
                cancel_at_ms, code = waited, self._forbidden()
            if waited >= cancel_at_ms and (waited < 2 * patience_ms or not tries):
                tries += 1
                wish_s = await self._cancel(order, report)
                waited = self._clock.monotonic_ms() - started
                cancel_at_ms = waited + max(pause_s, wish_s) * 1000
                pause_s = min(2 * pause_s, max(LONGEST_PAUSE_S, self._config.poll_interval))
            elif waited >= 2 * patience_ms:
                reason = f"{order.signal.exchange} neither fills nor cancels the order"
                return Unresolved(order=order, reason=f"{reason}: {problem}" if problem else reason)
            else:
                await self._clock.sleep(self._config.poll_interval)
            left_ms = cancel_at_ms - (self._clock.monotonic_ms() - started)
            report, problem = await self._poll(order, custody, report, left_ms)
        return Followed(report, code if tries else None)

    def _forbidden(self) -> CancelCode:
        """Return why no position may be opened now."""
        is_halted = self._state.trading_state is TradingState.HALTED
        return CancelCode.HALTED if is_halted else CancelCode.REDUCING

    async def _poll(
        self, order: AdmittedOrder, custody: Custody, last: OrderReport, left_ms: float
    ) -> tuple[OrderReport, str]:
        """Return the order's newest report; the last one, and why, where there is no newer one.

        Args:
            order: the order.
            custody: whose order it is.
            last: its report so far.
            left_ms: milliseconds until it is to be cancelled: a poll that has no turn by then waits
                no longer, and one that is refused for rate backs off no longer.
        """
        within_s = min(max(left_ms / 1000, self._config.poll_interval), LONGEST_TURN_S)
        try:
            with asking(RequestClass.POLL, within_s):
                report = await self._exchange(order).get_order(
                    order.request, last.exchange_order_id
                )
            check_progress(report, last)
        except RateLimitError as error:
            await self._clock.sleep(min(error.retry_after_s, within_s))
            return last, str(error)
        except (ExchangeError, ImplausibleError) as error:
            log.warning(
                "order_poll_failed",
                client_order_id=order.request.client_order_id,
                exchange=order.signal.exchange,
                error=str(error),
            )
            return last, str(error)
        self._orders.report(custody.order, report)
        return report, ""

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
        self, order: AdmittedOrder, custody: Custody, report: OrderReport
    ) -> tuple[Fill, ...] | str:
        """Return trades that add up to the order's filled quantity, or why there are none.

        Exchanges list trades some seconds late. They are waited for without a word, asked for ever
        more rarely, up to ``trades_wait_seconds``.
        """
        if not self._config.verify_fill:
            return (estimate(order, report),) if report.average_price else "nor at which price"
        problem = ""
        interval_s = pause_s = self._config.poll_interval
        give_up = self._clock.monotonic_ms() + self._config.trades_wait_seconds * 1000
        for look in count():
            if look:
                left_s = (give_up - self._clock.monotonic_ms()) / 1000
                if left_s <= 0 or custody.is_lost:
                    break
                if look >= SOON:
                    pause_s = min(2 * pause_s, max(LONGEST_PAUSE_S, interval_s))
                await self._clock.sleep(min(pause_s, left_s))
            try:
                with asking(RequestClass.POLL, LONGEST_TURN_S):
                    fills = await self._exchange(order).get_trades(order.request, report)
            except RateLimitError as error:
                problem = str(error)
                await self._clock.sleep(min(error.retry_after_s, LONGEST_TURN_S))
                continue
            except ExchangeError as error:
                problem = str(error)
                log.warning(
                    "trade_lookup_failed",
                    client_order_id=order.request.client_order_id,
                    exchange=order.signal.exchange,
                    error=str(error),
                )
                continue
            problem = mismatch(fills, report)
            if not problem:
                return fills
        return problem


def _reduces(order: AdmittedOrder) -> bool:
    """Return whether the order only reduces a position that the exchange itself keeps."""
    return order.request.reduce_only and order.info.kind is LINEAR
